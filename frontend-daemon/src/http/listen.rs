//! The TCP side: the listening socket, from systemd or our own, and the loop that accepts from it.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tracing::{debug, warn};

use warp::reply::Response;

use crate::{
    access::Asked,
    access::limits::Places,
    access::peer::Client,
    access::refused::Refused,
    access::tokens::{Penalty, seconds},
    http::cors,
    http::routes::{App, routes},
    reply::text,
    tls::Tls,
};

/// A client has this long to send the head of a request. A page needs milliseconds; a slow line some seconds.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head: cookies of a whole site fit in a quarter of it.
const MAX_HEAD: usize = 16 * 1024;
/// The time after which a silent client is gone is cut into so many parts: two of silence, then a probe in each.
const PROBES: u32 = 6;
/// Most bytes that the kernel keeps for a client and has not sent. More would be old pictures in front of new text; less
/// would keep a fast network waiting for us. The kernel asks for more when half of it is sent.
const MAX_UNSENT: u32 = 128 * 1024;
/// After an accept that failed for lack of descriptors or memory: some will be free by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener: passed by the service manager, or bound to this address. Without an address it is bound to all, IPv6
/// and IPv4.
pub(crate) async fn listener(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    let mut passed = listenfd::ListenFd::from_env();
    if let Some(listener) = passed.take_tcp_listener(0)? {
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    if let Some(address) = address {
        return TcpListener::bind(SocketAddr::new(address, port)).await;
    }
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

/// Accepts for as long as it is polled.
pub(crate) async fn run(
    listener: TcpListener,
    app: Arc<App>,
    tls: Option<Tls>,
    places: Arc<Places>,
    client_timeout: Duration,
) -> Infallible {
    let service = TowerToHyperService::new(warp::service(routes(&app)));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = match places.take(peer.ip()) {
                    Ok(place) => Arc::new(place),
                    Err(full) => {
                        warn!("refused {}: {full}", peer.ip().to_canonical());
                        continue;
                    }
                };
                let client = Client { address: peer, place };
                let (service, shutdown) = (service.clone(), app.shutdown.clone());
                let Ok(local) = stream.local_addr() else { continue };
                let gated = Arc::clone(&app);
                let service = service_fn(move |request| {
                    answer(request, service.clone(), Arc::clone(&gated), client.clone(), local.ip())
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let connection = serve(stream, service, tls, client_timeout);
                    tokio::select! {
                        () = connection => {}
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
    if request.uri().path_and_query().is_none() {
        return Ok(text(StatusCode::BAD_REQUEST, "400: Bad Request"));
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let decision = app.access.decide(Asked {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        local,
        peer: client.address.ip(),
    });
    let mut response = if let Err(refused) = decision {
        let response = refuse(refused, &request, &app, &client).await;
        if !refused.may_be_read() {
            return Ok(response);
        }
        response
    } else if let Some(answer) = cors::preflight(request.method(), request.headers()) {
        answer
    } else {
        request.extensions_mut().insert(client);
        service.call(request).await?
    };
    if let Some(origin) = origin {
        cors::share(&mut response, origin);
    }
    Ok(response)
}

/// The answer to a request that is not served; to one with a wrong token it comes late.
async fn refuse(refused: Refused, request: &Request<Incoming>, app: &App, client: &Client) -> Response {
    if refused == Refused::WrongToken {
        match app.failures.count(client.place.network()) {
            Penalty::Delay(time) => tokio::time::sleep(time).await,
            Penalty::Blocked(time) => {
                debug!("{}: too many wrong tokens", client.address.ip().to_canonical());
                let mut response = text(StatusCode::TOO_MANY_REQUESTS, "429: Too Many Requests");
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(time)));
                return response;
            }
        }
    }
    refused.response(request.headers(), client.address)
}

async fn serve<S>(stream: TcpStream, service: S, tls: Option<Tls>, client_timeout: Duration)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    if let Err(error) = prepare(&stream, client_timeout) {
        // The connection works without it, or is gone already.
        debug!("socket options: {error}");
    }
    // Boxed: what a connection costs later is not paid for one that is silent.
    let Some(tls) = tls else { return Box::pin(serve_http(stream, service)).await };
    if let Some(stream) = tls.accept(stream).await {
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
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        debug!("connection: {error}");
    }
}

/// Keystrokes must not wait for one another; and a client that vanishes (a cable pulled, Wi-Fi gone) must be noticed, so
/// that its programs end. The kernel does it: probes when nothing is said, a limit for what is not acknowledged (tcp(7)).
/// Clients see nothing of it (B3.1), and one that is merely slow to read still acknowledges.
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
