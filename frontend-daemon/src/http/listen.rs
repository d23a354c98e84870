//! The TCP side: the listening socket, from systemd or our own, and the loop that accepts from it.

use std::{
    convert::Infallible,
    io,
    net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Request, StatusCode, header::ORIGIN, header::RETRY_AFTER};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::{RecvFlags, sockopt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tracing::{debug, info, warn};

use warp::reply::Response;

use crate::{
    access::limits::{ConnectionLimits, ConnectionPermit},
    access::peer::Client,
    access::refused::Refused,
    access::tokens::{Penalty, seconds},
    access::{Access, Caller, RequestHead},
    http::cors,
    http::routes::{App, routes},
    reply::text,
    tls::Tls,
};

/// Connections that may wait to be accepted: as systemd has it (`Backlog=`). With fewer a burst makes clients
/// try again after a second.
const BACKLOG: i32 = 4096;
/// A client has this long to send the head of a request. A page needs milliseconds; a slow line some seconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head: cookies of a whole site fit in a quarter of it.
const MAX_HEAD: usize = 16 * 1024;
/// The time after which a silent client is gone is cut into so many parts: two of silence, then a probe in
/// each.
const PROBES: u32 = 6;
/// Most bytes that the kernel keeps for a client and has not sent. More would be old pictures in front of new
/// text; less would keep a fast network waiting for us. The kernel asks for more when half of it is sent.
const MAX_UNSENT: u32 = 128 * 1024;
/// When a client that met too many connections is to try again: some will have ended by then.
const RETRY_SECONDS: u64 = 10;
/// After an accept that failed for lack of descriptors or memory: some will be free by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener: passed by the service manager, or bound to this address. Without an address it is bound to
/// all, IPv6 and IPv4.
pub(crate) async fn listener(
    passed: Option<net::TcpListener>,
    address: Option<IpAddr>,
    port: u16,
) -> io::Result<TcpListener> {
    if let Some(listener) = passed {
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    let listener = match address {
        Some(address) => TcpListener::bind(SocketAddr::new(address, port)).await?,
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            // A kernel without IPv6.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?
            }
            other => other?,
        },
    };
    // Again, with more than the library asks for.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Accepts for as long as it is polled.
pub(crate) async fn run(
    listener: TcpListener,
    app: Arc<App>,
    tls: Option<Tls>,
    limits: Arc<ConnectionLimits>,
    client_timeout: Duration,
) -> Infallible {
    let service = TowerToHyperService::new(warp::service(routes(&app)));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (permit, evicted) = limits.reserve(peer.ip());
                // In a flood a client's first bytes are there before its task is.
                if has_bytes(&stream) {
                    permit.note_first_byte();
                }
                let permit = Arc::new(permit);
                let client = Client { address: peer, permit: Arc::clone(&permit), caller: Caller::Public };
                let (service, shutdown) = (service.clone(), app.shutdown.clone());
                let Ok(local) = stream.local_addr() else { continue };
                let gated = Arc::clone(&app);
                let service = service_fn(move |request| {
                    answer(request, service.clone(), Arc::clone(&gated), client.clone(), local.ip())
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let connection = serve(stream, service, tls, client_timeout, &permit);
                    tokio::select! {
                        () = connection => {}
                        () = evicted.wait() => {}
                        () = shutdown.begun() => {}
                    }
                });
            }
            Err(error) => {
                warn!("cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn has_bytes(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(stream, &mut [0], flags).is_ok_and(|(length, _)| length > 0)
}

/// Whether a request is served at all (`access`), and then by which route.
async fn answer<S>(
    mut request: Request<Incoming>,
    service: S,
    app: Arc<App>,
    client: Client,
    local: IpAddr,
) -> Result<Response, Infallible>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    // `GET x` and `CONNECT name:1` have no path, and warp's path filters panic on such a target.
    if request.uri().path_and_query().is_none() || !Access::names_one_host(request.uri(), request.headers()) {
        return Ok(text(StatusCode::BAD_REQUEST, "400: Bad Request"));
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let decision = app.access.decide(RequestHead {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        local,
        peer: client.address.ip(),
    });
    let mut response = match decision {
        Err(refused) => {
            let response = refuse(refused, &request, &app, &client).await;
            if !refused.may_be_read() {
                return Ok(response);
            }
            response
        }
        Ok(caller) => {
            let preflight = cors::preflight(request.method(), request.headers());
            if let Some(answer) = preflight.or_else(|| let_in(&caller, &app, &client)) {
                answer
            } else {
                request.extensions_mut().insert(Client { caller, ..client });
                service.call(request).await?
            }
        }
    };
    if let Some(origin) = origin {
        cors::share(&mut response, origin);
    }
    Ok(response)
}

/// Takes the connection out of the pool of those that no decision has let in, and logs it once. Where there
/// are too many connections, the answer that says so.
fn let_in(caller: &Caller, app: &App, client: &Client) -> Option<Response> {
    if *caller == Caller::Public {
        return None;
    }
    let (permit, address) = (&client.permit, client.address.ip().to_canonical());
    match permit.let_in() {
        Ok(true) => info!("connection {} from {address} was let in: {caller}", permit.number()),
        Ok(false) => {}
        Err(full) => {
            app.refusals.note("too many connections", permit.network(), format_args!(": {full}"));
            let text = text(StatusCode::SERVICE_UNAVAILABLE, "503: too many connections; try again later");
            return Some(retry_after(text, RETRY_SECONDS));
        }
    }
    None
}

fn retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The answer to a request that is not served; to one with a wrong token it comes late.
async fn refuse(refused: Refused, request: &Request<Incoming>, app: &App, client: &Client) -> Response {
    if refused == Refused::WrongToken {
        match app.failures.count(client.permit.network()) {
            Penalty::Delay(time) => tokio::time::sleep(time).await,
            Penalty::Blocked(time) => {
                debug!("{}: too many wrong tokens", client.address.ip().to_canonical());
                return retry_after(
                    text(StatusCode::TOO_MANY_REQUESTS, "429: Too Many Requests"),
                    seconds(time),
                );
            }
        }
    }
    refused.log(&app.refusals, request.headers(), client.permit.network());
    refused.response(request.headers())
}

async fn serve<S>(
    stream: TcpStream,
    service: S,
    tls: Option<Tls>,
    client_timeout: Duration,
    permit: &ConnectionPermit,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    // A silent connection costs nothing more than this.
    let mut first = [0];
    let length = tokio::time::timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await;
    if !matches!(length, Ok(Ok(1))) {
        return debug!("connection: closed before the first byte, or silent");
    }
    permit.note_first_byte();
    if let Err(error) = prepare(&stream, client_timeout) {
        // The connection works without it, or is gone already.
        debug!("socket options: {error}");
    }
    // Boxed, since a silent one needs no room for it.
    let Some(tls) = tls else { return Box::pin(serve_http(stream, service)).await };
    let [first] = first;
    if let Some(stream) = tls.accept(stream, first).await {
        Box::pin(serve_http(stream, service)).await;
    }
}

/// Answers the requests on a stream that did not come by the network.
#[cfg(feature = "fuzzing")]
pub(crate) async fn serve_stream<T>(stream: T, app: &Arc<App>, client: Client, local: IpAddr)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(warp::service(routes(app)));
    let answer = |request| answer(request, routes.clone(), Arc::clone(app), client.clone(), local);
    serve_http(stream, service_fn(answer)).await;
}

async fn serve_http<S, T>(stream: T, service: S)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        debug!("connection: {error}");
    }
}

/// Keystrokes must not wait for one another; and a client that vanishes (a cable pulled, Wi-Fi gone) must be
/// noticed, so that its programs end. The kernel does it: probes when nothing is said, a limit for what is
/// not acknowledged (tcp(7)). Clients see nothing of it (B3.1), and one that is merely slow to read still
/// acknowledges.
fn prepare(stream: &TcpStream, client_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let tick = (client_timeout / PROBES).max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, tick * 2)?;
    sockopt::set_tcp_keepintvl(stream, tick)?;
    sockopt::set_tcp_keepcnt(stream, PROBES - 2)?;
    let limit = u32::try_from(client_timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, limit)?;
    // The send buffer may have megabytes; a frame is replaced only as long as it is not in there.
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT)?;
    Ok(())
}
