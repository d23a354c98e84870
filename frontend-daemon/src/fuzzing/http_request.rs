//! Raw bytes of a connection, through hyper, the access decision and the routes: whatever comes, the service
//! goes on.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    access::{Access, Caller, limits::ConnectionLimits, peer::Client},
    config::Config,
    helper::pool::{HelperAddress, HelperPool},
    http::{listen::serve_stream, pings::Pings, routes::App, upload::Bodies},
    kept::{KeptLimits, KeptPrograms},
    lifecycle::shutdown::Shutdown,
    memory::budget::{Budget, Budgets, MAX_UNFINISHED},
    process::channel::line::MAX_LINE,
    runners::Runners,
    session::Shared,
    upload::{Uploads, download::Downloads},
    versions::Versions,
    workdir::WorkFiles,
};

/// A connection that was served ends by itself, as its client has closed; far above what one needs.
const MOST_TIME: Duration = Duration::from_secs(5);
/// More than any head.
const PIPE: usize = 64 * 1024;

thread_local! {
    static SERVICE: RefCell<Option<(Runtime, Arc<App>)>> = const { RefCell::new(None) };
}

/// Sends the bytes on one connection from this device, closes it, and reads what is answered.
pub fn http_request(bytes: &[u8]) {
    SERVICE.with_borrow_mut(|service| {
        let (runtime, app) = service.get_or_insert_with(service_without_helper);
        let app = Arc::clone(app);
        runtime.block_on(async move {
            let (permit, _) = Arc::new(ConnectionLimits::new(8, 8, Budget::new(MAX_UNFINISHED)))
                .reserve(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
            let client = Client { address, permit: Arc::new(permit), caller: Caller::Public };
            let (ours, mut theirs) = duplex(PIPE);
            let connection = serve_stream(ours, &app, client, Ipv4Addr::LOCALHOST.into());
            let talk = async {
                let mut answer = Vec::new();
                if theirs.write_all(bytes).await.is_ok() && theirs.shutdown().await.is_ok() {
                    let (Ok(_) | Err(_)) = theirs.read_to_end(&mut answer).await;
                }
                answer
            };
            let ended = timeout(MOST_TIME, async { tokio::join!(connection, talk) }).await;
            let ((), answer) = ended.expect("a connection whose client has closed ends");
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "no answer of HTTP");
        });
    });
}

fn service_without_helper() -> (Runtime, Arc<App>) {
    // Of the daemon's kind: an upload is parsed in place, which a single thread may not do.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let config = Config::parse_from(["further-link", "--no-tls"]);
    let (_, address) = further_link_proto::bind_listener(None).expect("a socket");
    let uploads = Uploads::new(HelperAddress::new(address.clone()), Downloads::new(false));
    let work_files = WorkFiles::new(HelperAddress::new(address.clone()));
    let budgets = Budgets::new(MAX_LINE, 1024 * 1024);
    let runners = Arc::new(Runners::new(&[]).expect("the owner of this file"));
    let shared = Shared {
        versions: Versions::new(Arc::clone(&runners), HelperAddress::new(address.clone())),
        runners,
        helpers: Arc::new(HelperPool::new(address, 8)),
        uploads: Arc::new(uploads),
        kept: Arc::new(KeptPrograms::new(KeptLimits::new(&config.keep, &budgets), None)),
        budgets,
        max_programs: 8,
        max_programs_per_connection: 8,
    };
    let (_, shutdown) = Shutdown::new();
    let app = App::new(
        shared,
        Access::new(&config, None),
        shutdown,
        Bodies::new(1024 * 1024),
        work_files,
        Pings::new(MOST_TIME),
    );
    // The lists of a real device have 100 MB, and a pipeline asks for some hundred packages.
    (runtime, Arc::new(app.with_packages_of(Path::new("/nonexistent"))))
}
