//! The routes of HTTP, with their plain answers and errors (B1). `listen` calls them for requests that are
//! let in.

use std::{collections::HashMap, convert::Infallible, path::Path, sync::Arc};

use further_link_api::Dialect;
use further_link_proto::WindowSize;
use http::{HeaderMap, HeaderName, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use warp::{
    Filter, Rejection, Reply,
    filters::path::{FullPath, Tail},
    reject,
    reply::Response,
};

use crate::{
    access::Access,
    access::peer::Client,
    access::refusal_log::RefusalLog,
    access::run_as::RunOptions,
    access::tokens::{Failures, TokenAttempts},
    device::packages,
    http::app_page::AppPage,
    http::certificate::{self, Form},
    http::files::{self, FileRequest},
    http::front_page::{self, Entrance, Transport},
    http::pings::Pings,
    http::upgrade::upgrade_to_websocket,
    http::upload::Bodies,
    http::websocket,
    lifecycle::shutdown::Shutdown,
    outbox::outbox,
    reply::{empty, is_navigation, method_not_allowed, text},
    session::{Session, Shared},
    tls::Tls,
    workdir::WorkFiles,
};

/// Terminal size before the first resize (B9.1).
const FIRST_SIZE: WindowSize = WindowSize { rows: 4, cols: 60 };
/// The older dialect has no resize and leaves the size open (B9.1).
const FIRST_SIZE_RUN_PY: WindowSize = WindowSize { rows: 0, cols: 0 };

/// The setting's default.
const DEFAULT_FILE_LIMIT: u64 = 64 * 1024 * 1024;

/// The proof that some users need (`?user_token=` where a client cannot set headers).
const USER_TOKEN: HeaderName = HeaderName::from_static("further-link-user-token");

/// What all requests share.
pub(crate) struct App {
    pub(crate) access: Access,
    pub(crate) failures: Arc<Failures>,
    pub(crate) refusals: Arc<RefusalLog>,
    pub(crate) shutdown: Shutdown,
    pub(crate) pings: Arc<Pings>,
    shared: Shared,
    bodies: Bodies,
    /// The page for browsers, or what was missing when this was built.
    page: Result<AppPage, &'static str>,
    work_files: WorkFiles,
    /// Most bytes of a file that is put.
    file_limit: u64,
    tls: Option<Tls>,
    /// Whether other machines can reach the port.
    on_network: bool,
    /// Reading package lists takes a while and much memory bandwidth: one at a time.
    /// The root of the file system that has dpkg's and apt's files.
    packages_root: &'static Path,
    package_lookup: Semaphore,
}

impl App {
    pub(crate) fn new(
        shared: Shared,
        access: Access,
        shutdown: Shutdown,
        bodies: Bodies,
        work_files: WorkFiles,
        pings: Pings,
    ) -> Self {
        Self {
            access,
            failures: Arc::default(),
            refusals: Arc::default(),
            shutdown,
            pings: Arc::new(pings),
            shared,
            bodies,
            page: Err("it was not asked for"),
            work_files,
            file_limit: DEFAULT_FILE_LIMIT,
            tls: None,
            on_network: false,
            packages_root: Path::new("/"),
            package_lookup: Semaphore::new(1),
        }
    }

    /// The same, for another device's packages.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn with_packages_of(self, packages_root: &'static Path) -> Self {
        Self { packages_root, ..self }
    }

    /// The same, with what its first page tells.
    pub(crate) fn reached_by(self, tls: Option<Tls>, on_network: bool) -> Self {
        Self { tls, on_network, ..self }
    }

    /// The same, with a page for browsers.
    pub(crate) fn with_page(self, page: Result<AppPage, &'static str>) -> Self {
        Self { page, ..self }
    }

    fn page_file(&self, headers: &HeaderMap, name: &str) -> Response {
        match &self.page {
            Ok(page) => page.file(headers, name),
            Err(_) => text(StatusCode::NOT_FOUND, "404: Not Found"),
        }
    }

    /// The same, with another limit for files that are put.
    pub(crate) fn with_file_limit(self, file_limit: u64) -> Self {
        Self { file_limit, ..self }
    }

    fn front_page(&self, headers: &HeaderMap) -> Response {
        let transport = match &self.tls {
            None => Transport::Http,
            Some(tls) if tls.authority().is_some() => Transport::OwnCertificate,
            Some(_) => Transport::OtherCertificate,
        };
        let entrance = match (self.access.wants_token(), self.on_network) {
            (true, _) => Entrance::Token,
            (false, true) => Entrance::Network,
            (false, false) => Entrance::Device,
        };
        match &self.page {
            Ok(page) if is_navigation(headers) => page.index(headers, transport, entrance),
            Ok(_) => front_page::response(transport, entrance, None),
            Err(missing) => front_page::response(transport, entrance, Some(missing)),
        }
    }
}

/// `GET /certificate`, and the paths with the ending of a form.
fn authority_certificate(
    app: &Arc<App>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let one = |form: Option<Form>| {
        warp::get().and(warp::header::headers_cloned()).and(with(app)).map(
            move |headers: HeaderMap, app: Arc<App>| {
                certificate::answer(app.tls.as_ref(), form.unwrap_or_else(|| Form::accepted(&headers)))
            },
        )
    };
    let any = warp::path!("certificate").and(one(None));
    let pem = warp::path!("certificate.pem").and(one(Some(Form::Pem)));
    let der = warp::path!("certificate.crt").and(one(Some(Form::Der)));
    let profile = warp::path!("certificate.mobileconfig").and(one(Some(Form::Profile)));
    any.or(pem).unify().or(der).unify().or(profile).unify()
}

/// All routes, errors included.
pub(crate) fn routes(
    app: &Arc<App>,
) -> impl Filter<Extract = (impl Reply + use<>,), Error = Infallible> + Clone + use<> {
    let front_page = warp::path::end()
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(with(app))
        .map(|headers: HeaderMap, app: Arc<App>| app.front_page(&headers));
    let page_file = warp::path("page")
        .and(warp::path::tail())
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(with(app))
        .map(|name: Tail, headers: HeaderMap, app: Arc<App>| app.page_file(&headers, name.as_str()));
    let status = warp::path!("status").and(warp::get()).map(|| text(StatusCode::OK, "OK"));
    let version =
        warp::path!("version").and(warp::get()).map(|| version_text(Some(env!("CARGO_PKG_VERSION"))));
    let apt_version = warp::path!("version" / "apt" / String)
        .and(warp::get())
        .and(with(app))
        .then(|package: String, app: Arc<App>| async move { apt_version(&app, &package).await });
    let runners = warp::path!("runners").and(warp::get()).and(with(app)).map(|app: Arc<App>| {
        let runners = serde_json::json!({ "runners": app.shared.versions.entries_and_ask() });
        warp::reply::json(&runners).into_response()
    });
    let run = endpoint(warp::path!("run"), Dialect::Run, app);
    let run_py = endpoint(warp::path!("run-py"), Dialect::RunPy, app);
    let upload = upload(app);
    let files = files(app);
    let sign_in = signing("sign-in", app, |app| app.access.cookie());
    let sign_out = signing("sign-out", app, |app| Some(app.access.no_cookie()));
    no_trailing_slash()
        .and(
            front_page
                .or(page_file)
                .or(status)
                .or(version)
                .or(apt_version)
                .or(runners)
                .or(run)
                .or(run_py)
                .or(upload)
                .or(files)
                .or(sign_in)
                .or(sign_out)
                .or(authority_certificate(app)),
        )
        .recover(error)
}

/// `POST /sign-in` and `/sign-out`, with which the page gets a cookie for the token that it shows, and has
/// it taken away. Who comes here has been let in.
fn signing(
    path: &'static str,
    app: &Arc<App>,
    cookie: fn(&App) -> Option<String>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let post = warp::post().and(with(app)).map(move |app: Arc<App>| {
        let mut response = empty(StatusCode::NO_CONTENT);
        if let Some(cookie) = cookie(&app).and_then(|cookie| cookie.try_into().ok()) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    });
    let other = warp::any().map(|| method_not_allowed("POST,OPTIONS"));
    warp::path(path).and(warp::path::end()).and(post.or(other).unify())
}

fn with(app: &Arc<App>) -> impl Filter<Extract = (Arc<App>,), Error = Infallible> + Clone + use<> {
    let app = Arc::clone(app);
    warp::any().map(move || Arc::clone(&app))
}

/// warp takes `/status/` for `/status`; clients of the original know it as 404 (B1.7).
fn no_trailing_slash() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::path::full()
        .and_then(|path: FullPath| async move {
            if path.as_str().len() > 1 && path.as_str().ends_with('/') {
                Err(reject::not_found())
            } else {
                Ok(())
            }
        })
        .untuple_one()
}

/// `POST /upload` (B1.6). Other methods are answered here, since this path allows others than the rest
/// (B1.7).
fn upload(app: &Arc<App>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let post = warp::post()
        .and(warp::header::headers_cloned())
        .and(warp::query::<HashMap<String, String>>())
        .and(warp::body::stream())
        .and(warp::ext::get::<Client>())
        .and(with(app))
        .then(|headers: HeaderMap, query, body, client: Client, app: Arc<App>| async move {
            let options = run_options(&headers, query, Dialect::RunPy, &client);
            let attempts = TokenAttempts::new(Arc::clone(&app.failures), client.permit.network());
            app.bodies.answer(&app.shared.uploads, &options, &attempts, &headers, body).await
        });
    let other = warp::any().map(|| method_not_allowed("POST,OPTIONS"));
    warp::path!("upload").and(post.or(other).unify())
}

/// `/files`, and all below it: `http::files` looks at method and path.
fn files(app: &Arc<App>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    warp::path("files")
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::query::<HashMap<String, String>>())
        .and(warp::body::stream())
        .and(warp::ext::get::<Client>())
        .and(with(app))
        .then(
            |method,
             path: FullPath,
             headers: HeaderMap,
             query: HashMap<_, _>,
             body,
             client: Client,
             app: Arc<App>| async move {
                let options = run_options(&headers, query.clone(), Dialect::Run, &client);
                let attempts = TokenAttempts::new(Arc::clone(&app.failures), client.permit.network());
                let request = FileRequest { method, path: path.as_str(), headers: &headers, query: &query };
                files::answer(&app.work_files, app.file_limit, &options, &attempts, request, body).await
            },
        )
}

fn endpoint<P: Filter<Extract = (), Error = Rejection> + Clone>(
    path: P,
    dialect: Dialect,
    app: &Arc<App>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<P> {
    path.and(warp::get())
        .and(warp::header::headers_cloned())
        .and(warp::query::<HashMap<String, String>>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::get::<Client>())
        .and(with(app))
        .map(move |headers: HeaderMap, query: HashMap<String, String>, upgrade, client: Client, app| {
            let options = run_options(&headers, query, dialect, &client);
            let serve = move |stream| async move {
                serve(stream, options, dialect, app, &client).await;
                debug!("{} has gone", client.address);
                // All of it, for its place among the connections.
                drop(client);
            };
            upgrade_to_websocket(&headers, upgrade, serve)
        })
}

/// The options of the connection (B3.5). What is not known is ignored.
fn run_options(
    headers: &HeaderMap,
    mut query: HashMap<String, String>,
    dialect: Dialect,
    client: &Client,
) -> RunOptions {
    let on = query.get("pty").is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    let size = if dialect == Dialect::Run { FIRST_SIZE } else { FIRST_SIZE_RUN_PY };
    let header = headers.get(USER_TOKEN).map(|token| token.to_str().unwrap_or_default().to_owned());
    let user_token = header.or_else(|| query.remove("user_token")).filter(|token| !token.is_empty());
    RunOptions {
        user: query.remove("user"),
        user_token,
        terminal: on.then_some(size),
        connection: client.permit.number(),
        address: client.address.ip(),
        caller: client.caller.clone(),
    }
}

async fn serve(
    stream: TokioIo<Upgraded>,
    options: RunOptions,
    dialect: Dialect,
    app: Arc<App>,
    client: &Client,
) {
    let (outbox, messages) = outbox(dialect);
    let attempts = TokenAttempts::new(Arc::clone(&app.failures), client.permit.network());
    let session = Session::new(app.shared.clone(), options, attempts, outbox, dialect);
    websocket::serve(
        stream,
        session,
        messages,
        Arc::clone(&client.permit),
        app.pings.register(),
        &app.shutdown,
    )
    .await;
}

async fn apt_version(app: &App, package: &str) -> Response {
    let package = percent_encoding::percent_decode_str(package).decode_utf8_lossy().into_owned();
    let Ok(_one_at_a_time) = app.package_lookup.acquire().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "503: Service Unavailable");
    };
    let root = app.packages_root;
    let looked_up = tokio::task::spawn_blocking(move || packages::installed_version(root, &package)).await;
    match looked_up.map_err(std::io::Error::other).and_then(|version| version) {
        Ok(version) => version_text(version.as_deref()),
        Err(error) => {
            warn!("package version: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "500: Internal Server Error")
        }
    }
}

/// JSON, but as text/plain (B1.4).
fn version_text(version: Option<&str>) -> Response {
    text(StatusCode::OK, serde_json::json!({ "version": version }).to_string())
}

async fn error(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(if rejection.is_not_found() {
        text(StatusCode::NOT_FOUND, "404: Not Found")
    } else if rejection.find::<reject::MethodNotAllowed>().is_some() {
        method_not_allowed("GET,OPTIONS")
    } else {
        debug!("bad request: {rejection:?}");
        text(StatusCode::BAD_REQUEST, "400: Bad Request")
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use http::HeaderValue;

    use super::*;
    use crate::{
        access::{Caller, limits::ConnectionLimits},
        memory::budget::{Budget, MAX_UNFINISHED},
    };

    fn client() -> Client {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (permit, _) =
            Arc::new(ConnectionLimits::new(1, 1, Budget::new(MAX_UNFINISHED))).reserve(address.ip());
        Client { address, permit: Arc::new(permit), caller: Caller::Local }
    }

    fn chosen(query: &str, dialect: Dialect) -> RunOptions {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        run_options(&HeaderMap::new(), query, dialect, &client())
    }

    #[test]
    fn a_terminal_is_made_for_1_and_true_in_any_case_and_for_nothing_else() {
        for on in ["1", "true", "TRUE", "True"] {
            assert_eq!(chosen(&format!("pty={on}"), Dialect::Run).terminal, Some(FIRST_SIZE), "{on}");
        }
        for off in ["", "0", "yes", "2", "t"] {
            assert_eq!(chosen(&format!("pty={off}"), Dialect::Run).terminal, None, "{off}");
        }
        assert_eq!(chosen("pty=1", Dialect::RunPy).terminal, Some(FIRST_SIZE_RUN_PY));
    }

    #[test]
    fn an_absent_user_and_an_empty_one_are_two_things() {
        assert_eq!(chosen("x=y", Dialect::Run).user, None);
        assert_eq!(chosen("user=", Dialect::Run).user.as_deref(), Some(""));
    }

    #[test]
    fn the_token_for_a_user_comes_by_header_or_query() {
        assert_eq!(chosen("user=root&user_token=secret", Dialect::Run).user_token.as_deref(), Some("secret"));
        assert_eq!(chosen("user_token=", Dialect::Run).user_token, None);
        let headers = HeaderMap::from_iter([(USER_TOKEN, HeaderValue::from_static("of header"))]);
        let query = HashMap::from([("user_token".to_owned(), "of query".to_owned())]);
        let options = run_options(&headers, query, Dialect::Run, &client());
        assert_eq!(options.user_token.as_deref(), Some("of header"));
    }
}
