//! `further-link`: the process that faces the network. It parses everything a stranger can send, and has no privilege.
//!
//! This file starts things in the only right order: read the settings, start the helper while it may be started, give up
//! root, and only then threads, sockets and the network. A start travels through the modules in the order of the list:
//! listen, tls, http, socket, message, session, runner, process, helper; what the program prints comes back through stream,
//! output, text and outbox. What it says and hears on the user channel goes through channel, its connections, lines and
//! keys, and frames.

mod commands;
mod config;
mod controllers;
mod log;
mod panics;
mod privilege;
mod service;
mod the_helper;

mod addresses;
mod listen;
mod tls;

mod access;
mod http;
mod socket;

mod complaint;
mod escape;
mod message;
mod run_py;

mod frames;
mod outbox;
mod session;
mod shutdown;

mod phase;
mod process;
mod runner;

mod budget;
mod channel;
mod helper;
mod input;
mod output;
mod stream;
mod text;
mod watched;

mod upload;

mod apt;

use std::{net::IpAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use nix::unistd::User;
use rustix::net::SocketAddrUnix;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::{
    access::Access,
    access::limits::Places,
    budget::Budgets,
    config::Config,
    helper::Helpers,
    http::App,
    session::Shared,
    shutdown::Shutdown,
    the_helper::TheHelper,
    tls::certificate::Places as CertificatePlaces,
    tls::{Keeper, Prepared, Source, Tls, TlsError},
    upload::Uploads,
    upload::download::Downloads,
    upload::http::Bodies,
};

/// How long programs have to end when this daemon is told to end: the longest usual grace and a little.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Why the daemon did not start, or had to end.
#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Privilege(#[from] privilege::PrivilegeError),
    #[error("cannot use the token in {path}: {error}", path = .path.display())]
    Token { path: std::path::PathBuf, error: access::tokens::TokenFileError },
    #[error("cannot start the helper: {0}")]
    Helper(std::io::Error),
    #[error(
        "cannot listen on port {port}: {error} (is another further-link running? --port chooses another one)"
    )]
    Listen { port: u16, error: std::io::Error },
    #[error("the helper has ended; its last lines above say why")]
    HelperEnded,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

fn main() -> ExitCode {
    if let Some(code) = the_helper::run_if_asked() {
        return code;
    }
    let config = Config::parse();
    if let Some(command) = &config.command {
        return command.run(&config);
    }
    log::start(config.debug);
    panics::log_and_count();
    match start(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: &Config) -> Result<(), DaemonError> {
    // While it may be read: in development by root.
    let token = config.token_file.as_deref().map(|path| {
        access::tokens::read(path).map_err(|error| DaemonError::Token { path: path.to_owned(), error })
    });
    let access = Access::new(config, token.transpose()?);
    let account = privilege::service_account()?;
    let helper = TheHelper::new(config, account.as_ref()).map_err(DaemonError::Helper)?;
    // After the helper's start, which so has nothing of the key; and the files of root while they can be read.
    let tls = if config.no_tls { None } else { Some(prepare_tls(config, &access, account.as_ref())?) };
    privilege::give_up(account.as_ref())?;
    let tls = tls.map(Prepared::start).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config, access, tls, &helper));
    // Not to wait for a name server that does not answer somebody's download.
    runtime.shutdown_background();
    outcome
}

fn prepare_tls(config: &Config, access: &Access, account: Option<&User>) -> Result<Prepared, TlsError> {
    let places = CertificatePlaces::new(&config.tls)?;
    Source::new(places, access.hosts()).prepare(account)
}

async fn serve(
    config: &Config,
    access: Access,
    tls: Option<(Tls, Keeper)>,
    helper: &TheHelper,
) -> Result<(), DaemonError> {
    let listener = listen::listener(config.address, config.port)
        .await
        .map_err(|error| DaemonError::Listen { port: config.port, error })?;
    let (owner, shutdown) = Shutdown::new();
    let helpers = Arc::new(Helpers::new(helper.address.clone()));
    let files_address = match &config.files_socket {
        Some(path) => SocketAddrUnix::new(path).map_err(std::io::Error::from)?,
        None => helper.address.clone(),
    };
    let uploads = Uploads::new(Helpers::new(files_address), Downloads::new(config.allow_private_downloads));
    let bodies = Bodies::new(usize::from(config.upload_limit) * 1024 * 1024);
    let budgets = Budgets::new();
    let shared = Shared { helpers: Arc::clone(&helpers), uploads: Arc::new(uploads), budgets };
    let app = Arc::new(App::new(shared, access, shutdown, bodies));
    let places = Places::new(config.max_connections.into(), config.max_connections_per_address.into());
    let address = listener.local_addr()?;
    let (host, where_else) = match address.ip() {
        ip if ip.is_unspecified() => ("localhost".to_owned(), " and all other addresses"),
        IpAddr::V6(ip) => (format!("[{ip}]"), ""),
        IpAddr::V4(ip) => (ip.to_string(), ""),
    };
    info!(
        "further-link {} listening on {}://{host}:{}{where_else}",
        env!("CARGO_PKG_VERSION"),
        if tls.is_some() { "https" } else { "http" },
        address.port()
    );

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move { helpers.keep_spares().await });
    tokio::spawn(service::keep_watchdog_quiet());
    let (tls, keeper) = tls.unzip();
    if let Some(keeper) = keeper {
        tokio::spawn(keeper.keep_current());
    }
    controllers::report_missing();
    service::ready();
    let outcome = tokio::select! {
        () = listen::run(listener, app, tls, Arc::new(places), Duration::from_secs(config.client_timeout)) => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = helper.ended() => ended.map_err(DaemonError::Io).and(Err(DaemonError::HelperEnded)),
    };
    service::stopping();
    if tokio::time::timeout(SHUTDOWN_LIMIT, owner.shut_down()).await.is_err() {
        warn!("some programs have not ended yet; their helpers will end them");
    }
    outcome
}
