//! The daemon: starts things in the only right order, serves, and ends them.
//!
//! [`run`] reads the settings' files, starts the helper while it may be started, gives up root, and only then
//! makes threads, sockets and the network. [`serve`] is what is left: a listener, a helper, and everything
//! between them.

use std::{
    io,
    net::{self, IpAddr},
    os::{fd::OwnedFd, unix::net as net_unix},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use nix::unistd::User;
use rustix::net::SocketAddrUnix;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tracing::{error, info, warn};

use crate::{
    access::Access,
    access::limits::ConnectionLimits,
    access::tokens::{self, TokenFileError},
    admin::{Door, Service},
    cli::{BAD_SETTING, Cli},
    config::{Config, setting},
    device::{addresses, cgroups, names},
    helper::embedded::{HelperProcess, HelperProcessError},
    helper::pool::{HelperAddress, HelperPool},
    http::app_page::AppPage,
    http::listen,
    http::pings::Pings,
    http::routes::App,
    http::upload::Bodies,
    kept::{KeptLimits, KeptPrograms},
    lifecycle::notify,
    lifecycle::panics,
    lifecycle::passed::Passed,
    lifecycle::privilege::{self, PrivilegeError},
    lifecycle::shutdown::Shutdown,
    lifecycle::store::Store,
    memory::budget::Budgets,
    process::channel::line::MAX_LINE,
    runners::Runners,
    self_test::SelfTest,
    session::Shared,
    tls::certificate::CertificateDirs,
    tls::{CertificateReloader, CertificateSource, PreparedTls, Tls, TlsError},
    transcript::saved,
    upload::Uploads,
    upload::download::Downloads,
    versions::Versions,
    workdir::WorkFiles,
};

/// The name of the administrators' socket (`FileDescriptorName=`).
const ADMIN: &str = "admin";

/// How long programs have to end when this daemon is told to end: the longest usual grace and a little.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the daemon did not start, or had to end: one line for the log.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DaemonError(#[from] Cause);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Privilege(#[from] PrivilegeError),
    #[error("cannot use the token in {path}: {error}", path = .path.display())]
    Token { path: PathBuf, error: TokenFileError },
    #[error(transparent)]
    Helper(#[from] HelperProcessError),
    #[error("cannot listen on port {port}: {error} ({})", listen_advice(error))]
    Listen { port: u16, error: io::Error },
    #[error("cannot make the socket {path}: {error}; --admin-socket names another one", path = .path.display())]
    AdminSocket { path: PathBuf, error: io::Error },
    #[error("the helper has ended; its last lines above say why")]
    HelperEnded,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Cause {
    /// Whether it stays until an administrator changes something.
    fn is_of_a_setting(&self) -> bool {
        matches!(
            self,
            Self::Token { .. } | Self::AdminSocket { .. } | Self::Helper(HelperProcessError::Setting(_))
        )
    }
}

fn listen_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "ports below 1024 are root's; --port chooses another one",
        io::ErrorKind::AddrNotAvailable => {
            "this device does not have the address; --address names one that it has"
        }
        _ => "is another further-link running? --port chooses another one",
    }
}

/// Runs the daemon until it is told to end, and logs why if something else ended it.
pub fn run(cli: &Cli) -> ExitCode {
    further_link_proto::start_logging("further-link", cli.config.debug);
    panics::log_and_count();
    for warning in &cli.warnings {
        warn!("{warning}");
    }
    match start(&cli.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            if error.is_of_a_setting() { ExitCode::from(BAD_SETTING) } else { ExitCode::FAILURE }
        }
    }
}

/// The settings, with what the files that they name have in them.
pub struct Setup<'config> {
    config: &'config Config,
    access: Access,
    tls: Option<(Tls, CertificateReloader)>,
    door: Option<Door>,
    store: Option<StoreWithPrograms>,
    runners: Runners,
}

/// The service manager's store, and what an earlier process has left of its programs in it.
struct StoreWithPrograms {
    store: Arc<Store>,
    left: Vec<(String, OwnedFd)>,
}

impl<'config> Setup<'config> {
    /// Reads the files as the user who calls it.
    pub fn new(config: &'config Config) -> Result<Self, DaemonError> {
        Ok(Self::read(config)?)
    }

    fn read(config: &'config Config) -> Result<Self, Cause> {
        let access = access(config)?;
        let tls = if config.no_tls { None } else { Some(prepare_tls(config, &access, None)?.start()?) };
        let runners = Runners::new(&config.runners_dirs())?;
        Ok(Self { config, access, tls, door: None, store: None, runners })
    }
}

fn start(config: &Config) -> Result<(), Cause> {
    let mut passed = Passed::take_all()?;
    // While it may be read: in development by root.
    let access = access(config)?;
    let admin = passed.take_named(ADMIN).pop().map(|(_, socket)| socket.into());
    let door = door(config, admin)?;
    let account = privilege::service_account()?;
    let helper = HelperProcess::new(config, account.as_ref())?;
    // After the helper's start, which so has nothing of the key; and the files of root while they can be
    // read.
    let tls = if config.no_tls { None } else { Some(prepare_tls(config, &access, account.as_ref())?) };
    let runners = Runners::new(&config.runners_dirs())?;
    privilege::give_up(account.as_ref())?;
    let tls = tls.map(PreparedTls::start).transpose()?;
    let left = passed.take_named(saved::PREFIX);
    // Our own helper ends with this process, and its programs with it.
    let store = Store::of_service_manager().filter(|_| config.helper_socket.is_some());
    let store = store.map(|store| StoreWithPrograms { store, left });
    let setup = Setup { config, access, tls, door, store, runners };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let port = passed.take_first().map(net::TcpListener::from);
    let outcome = runtime.block_on(serve_until_told(setup, port, &helper));
    // Without waiting for the name server of a download.
    runtime.shutdown_background();
    outcome
}

fn access(config: &Config) -> Result<Access, Cause> {
    let token = config
        .token_file
        .as_deref()
        .map(|path| tokens::read(path).map_err(|error| Cause::Token { path: path.to_owned(), error }));
    Ok(Access::new(config, token.transpose()?))
}

/// The administrators' socket: passed, or made where the settings say so.
fn door(config: &Config, passed: Option<net_unix::UnixListener>) -> Result<Option<Door>, Cause> {
    let path = config.admin_socket.as_deref();
    if let Some(listener) = passed {
        if path.is_some() {
            warn!("--admin-socket (FURTHER_LINK_ADMIN_SOCKET) has no effect: systemd passes the socket");
        }
        return Ok(Some(Door::passed(listener)));
    }
    let made = path
        .map(|path| Door::make(path).map_err(|error| Cause::AdminSocket { path: path.to_owned(), error }));
    made.transpose()
}

fn prepare_tls(config: &Config, access: &Access, account: Option<&User>) -> Result<PreparedTls, TlsError> {
    let dirs = CertificateDirs::new(&config.tls)?;
    CertificateSource::new(dirs, access.hosts()).prepare(account)
}

/// Serves until a signal comes or the helper ends.
async fn serve_until_told(
    setup: Setup<'_>,
    passed: Option<net::TcpListener>,
    helper: &HelperProcess,
) -> Result<(), Cause> {
    let port = setup.config.port;
    let listener = listen::listener(passed, setup.config.address, port).await;
    let listener = listener.map_err(|error| Cause::Listen { port, error })?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(notify::keep_watchdog_quiet());
    cgroups::report_missing();
    let stop = async {
        let outcome = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            ended = helper.ended() => ended.map_err(Cause::Io).and(Err(Cause::HelperEnded)),
        };
        notify::stopping();
        outcome
    };
    notify::ready();
    serve(listener, &helper.address, setup, stop).await.map_err(|DaemonError(cause)| cause)?
}

/// Serves on the listener, with this helper, until `stop` is done; then ends all programs. Its answer is that
/// of `stop`.
pub async fn serve<T>(
    listener: TcpListener,
    helper: &SocketAddrUnix,
    setup: Setup<'_>,
    stop: impl Future<Output = T>,
) -> Result<T, DaemonError> {
    let Setup { config, access, tls, door, store, runners } = setup;
    log_address(&listener, tls.is_some()).map_err(Cause::Io)?;
    let on_network = listener.local_addr().is_ok_and(|address| !address.ip().is_loopback());
    if on_network && config.token_file.is_none() {
        warn_that_it_is_open();
    }
    let (owner, shutdown) = Shutdown::new();
    let (owner_of_kept, keeping) = Shutdown::new();
    let max_programs = usize::from(config.max_programs);
    let helpers = Arc::new(HelperPool::new(helper.clone(), max_programs));
    let budgets = Budgets::new(MAX_LINE, config.keep.text_of_all());
    let kept = kept_programs(config, &budgets, &helpers, store);
    let runners = Arc::new(runners);
    let tests = SelfTest::new(Arc::clone(&runners), HelperAddress::new(helper.clone()));
    let admin = door.map(|door| (door, Service { kept: Arc::clone(&kept), tests }));
    let shared = Shared {
        versions: Versions::new(Arc::clone(&runners), HelperAddress::new(helper.clone())),
        runners,
        helpers: Arc::clone(&helpers),
        uploads: Arc::new(uploads(config, helper)?),
        kept: Arc::clone(&kept),
        budgets: budgets.clone(),
        max_programs,
        max_programs_per_connection: config.max_programs_per_connection.into(),
    };
    let bodies = Bodies::new(usize::from(config.upload_limit) * 1024 * 1024);
    let pings = Pings::new(Duration::from_secs(config.ping_interval));
    let (tls, reloader) = tls.unzip();
    let work_files = WorkFiles::new(HelperAddress::new(files_address(config, helper)?));
    let app = App::new(shared, access, shutdown, bodies, work_files, pings);
    let app = app.with_file_limit(u64::from(config.file_limit) * 1024 * 1024);
    let app = app.reached_by(tls.clone(), on_network).with_page(AppPage::new().map_err(Cause::from)?);
    let app = Arc::new(app);
    let _tasks = background(&app, helpers, admin, reloader);
    tokio::spawn(async move { kept.keep(keeping).await });
    let limits = ConnectionLimits::new(
        config.max_connections.into(),
        config.max_connections_per_address.into(),
        budgets.messages,
    );
    let client_timeout = Duration::from_secs(config.client_timeout);
    let outcome = tokio::select! {
        outcome = stop => outcome,
        never = listen::run(listener, app, tls, Arc::new(limits), client_timeout) => match never {},
    };
    let ends = async {
        // The clients of kept programs are told of their end while they are still connected.
        owner_of_kept.shut_down().await;
        owner.shut_down().await;
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, ends).await.is_err() {
        warn!("some programs have not ended yet; their helpers will end them");
    }
    Ok(outcome)
}

/// Without a token a listed page is told by a header, which a program on the network can write as well.
fn warn_that_it_is_open() {
    warn!(
        "OPEN TO THE NETWORK: without a token, any machine that reaches this port can run programs here. To close it, \
         make a token (further-link token) and name its file with {}",
        setting!("--token-file", "FURTHER_LINK_TOKEN_FILE")
    );
}

fn uploads(config: &Config, helper: &SocketAddrUnix) -> Result<Uploads, Cause> {
    let address = HelperAddress::new(files_address(config, helper)?);
    Ok(Uploads::new(address, Downloads::new(config.allow_private_downloads)))
}

/// Where the helper for uploads and files listens.
fn files_address(config: &Config, helper: &SocketAddrUnix) -> Result<SocketAddrUnix, Cause> {
    match &config.files_socket {
        Some(path) => Ok(SocketAddrUnix::new(path).map_err(io::Error::from)?),
        None => Ok(helper.clone()),
    }
}

/// The kept programs, with those that an earlier process of this service has left.
fn kept_programs(
    config: &Config,
    budgets: &Budgets,
    helpers: &HelperPool,
    store: Option<StoreWithPrograms>,
) -> Arc<KeptPrograms> {
    let limits = KeptLimits::new(&config.keep, budgets);
    let Some(StoreWithPrograms { store, left }) = store else {
        return Arc::new(KeptPrograms::new(limits, None));
    };
    let kept = Arc::new(KeptPrograms::new(limits, Some(Arc::clone(&store))));
    kept.adopt(&store, left, helpers, budgets);
    kept
}

/// What goes on beside the connections, until this is dropped.
fn background(
    app: &Arc<App>,
    helpers: Arc<HelperPool>,
    admin: Option<(Door, Service)>,
    reloader: Option<CertificateReloader>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { match helpers.keep_spares().await {} });
    let refusals = Arc::clone(&app.refusals);
    tasks.spawn(async move { match refusals.keep_counting().await {} });
    let pings = Arc::clone(&app.pings);
    tasks.spawn(async move { match pings.keep_pinging().await {} });
    if let Some(reloader) = reloader {
        tasks.spawn(reloader.keep_current());
    }
    if let Some((door, service)) = admin {
        let (refusals, shutdown) = (Arc::clone(&app.refusals), app.shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = door.run(Arc::new(service), refusals, shutdown).await {
                error!("the administrators' socket cannot be used: {error}");
            }
        });
    }
    tasks
}

fn log_address(listener: &TcpListener, tls: bool) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (host, where_else) = match address.ip() {
        ip if ip.is_unspecified() => ("localhost".to_owned(), " and all other addresses"),
        ip => (in_url(ip), ""),
    };
    let (scheme, port) = (if tls { "https" } else { "http" }, address.port());
    let version = env!("CARGO_PKG_VERSION");
    info!("further-link {version} listening on {scheme}://{host}:{port}{where_else}");
    if address.ip().is_unspecified() {
        let mut names = names::local_names();
        names.extend(addresses::of_this_device().into_iter().filter(IpAddr::is_ipv4).map(in_url));
        let urls: Vec<String> = names.iter().map(|name| format!("{scheme}://{name}:{port}/")).collect();
        info!("from another machine, open {} in a browser", urls.join(" or "));
    }
    Ok(())
}

fn in_url(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
    };

    use super::*;

    #[tokio::test]
    async fn the_service_is_constructed_of_a_listener_a_helper_and_settings_and_ends_when_told() {
        let config = Config::parse_from(["further-link", "--no-tls"]);
        let (_helper, helper_address) = further_link_proto::bind_listener(None).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let client = async {
            let mut client = TcpStream::connect(address).await.unwrap();
            let request = "GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            stop.send("told to end").unwrap();
            answer
        };
        let setup = Setup::new(&config).unwrap();
        let service = serve(listener, &helper_address, setup, stopped);
        let (outcome, answer) = tokio::join!(service, client);
        assert_eq!(outcome.unwrap().unwrap(), "told to end");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nOK"), "{answer}");
    }
}
