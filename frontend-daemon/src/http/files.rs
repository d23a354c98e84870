//! `/files`: the work dir of the user as resources of HTTP. Here are methods, paths, headers and answers;
//! `workdir` has the conversation with the helper.
//!
//! Called for requests whose access was decided on: reading a file needs the same right as running a program.

use std::{collections::HashMap, fmt::Display, pin::Pin, time::Duration};

use bytes::Buf;
use further_link_api::{FilesFailure, UserFailure};
use further_link_proto::{
    Entry, EntryKind, FilesAct, Listing, Part, RelativePath, UploadId, Write, is_helpers_own,
};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::info;
use warp::{Reply as _, reply::Response};

use crate::{
    access::run_as::RunOptions,
    access::tokens::TokenAttempts,
    config::setting,
    http::upload::{RETRY_AFTER, SILENCE_TIMEOUT, linger},
    reply::{empty, method_not_allowed, text},
    workdir::{
        Asker, Content, WorkFiles, Writing, Wrote,
        download::{Download, LONGEST},
        tag::{self, Unfit, Wanted},
    },
};

/// The methods of the paths.
const METHODS: &str = "GET,HEAD,PUT,POST,OPTIONS";
/// Most bytes of the body of `POST /files`: two of the longest paths, with every character escaped.
const MAX_ACTION: usize = 64 * 1024;
/// How much of a resumable upload is there; and before a part.
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How many bytes the file will have.
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// Only pages of this server, and those that it lists, may load the answer (Fetch, 3.7).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// What an extended parameter of a header leaves as it is (RFC 8187, `attr-char`).
const ATTRIBUTE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request, without its body.
pub(super) struct FileRequest<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a HashMap<String, String>,
}

/// A body that comes.
type Body<S> = Pin<Box<S>>;

/// Handles one request.
pub(super) async fn answer<B: Buf + Send, E: Display>(
    files: &WorkFiles,
    limit: u64,
    options: &RunOptions,
    attempts: &TokenAttempts,
    request: FileRequest<'_>,
    body: impl Stream<Item = Result<B, E>> + Send + 'static,
) -> Response {
    let asker = Asker { options, attempts };
    let mut body = Box::pin(body);
    let path = request.path.strip_prefix("/files").unwrap_or_default();
    let outcome = match (&request.method, path) {
        (&Method::GET | &Method::HEAD, "") => list(files, asker, request.query).await,
        (&Method::POST, "") => act(files, asker, &mut body).await,
        (&Method::PUT, "") => Err(FilesFailure::Path),
        (&Method::GET, path) => match below(path) {
            Ok(path) => get(files, asker, path, &request).await,
            Err(failure) => Err(failure),
        },
        (&Method::HEAD, path) => match (below(path), request.query.get("upload")) {
            (Ok(_), Some(upload)) => progress(files, asker, upload).await,
            (Ok(path), None) => get(files, asker, path, &request).await,
            (Err(failure), _) => Err(failure),
        },
        (&Method::PUT, path) => match below(path) {
            Ok(path) => put(files, limit, asker, path, &request, &mut body).await,
            Err(failure) => Err(failure),
        },
        _ => return method_not_allowed(METHODS),
    };
    match outcome {
        Ok(response) => response,
        Err(failure) => {
            // What is left of the body must not be taken for the next request, and a client that still sends
            // is to see the answer.
            if matches!(request.method, Method::PUT | Method::POST) {
                linger(body);
            }
            refuse(&failure)
        }
    }
}

/// The path behind `/files/`. A name is what its bytes are, decoded once.
fn below(path: &str) -> Result<RelativePath, FilesFailure> {
    let names = path.strip_prefix('/').ok_or(FilesFailure::Path)?.split('/');
    let decoded = names.map(|name| {
        let name = percent_decode_str(name).decode_utf8().map_err(|_| FilesFailure::Path)?;
        // One that is written as %2F is none of the path's.
        if name.contains('/') { Err(FilesFailure::Path) } else { Ok(name) }
    });
    relative(decoded.collect::<Result<Vec<_>, _>>()?.join("/"))
}

fn relative(path: String) -> Result<RelativePath, FilesFailure> {
    let path = RelativePath::new(path).map_err(|_| FilesFailure::Path)?;
    if path.names().next().is_some_and(is_helpers_own) { Err(FilesFailure::OwnName) } else { Ok(path) }
}

async fn list(
    files: &WorkFiles,
    asker: Asker<'_>,
    query: &HashMap<String, String>,
) -> Result<Response, FilesFailure> {
    let path = query.get("path").map(String::as_str).unwrap_or_default();
    let directory = if path.is_empty() { None } else { Some(relative(path.to_owned())?) };
    let listing = files.list(asker, directory).await?;
    Ok(json(StatusCode::OK, &listed(path, &listing)))
}

fn listed(path: &str, listing: &Listing) -> serde_json::Value {
    let kind = |kind| match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Link => "link",
        EntryKind::Other => "other",
    };
    let entry = |entry: &Entry| {
        serde_json::json!({
            "name": entry.name, "type": kind(entry.kind), "size": entry.size, "modified": entry.modified
        })
    };
    let entries: Vec<_> = listing.entries.iter().map(entry).collect();
    serde_json::json!({
        "path": path, "entries": entries, "truncated": listing.truncated, "unreadable": listing.unreadable
    })
}

async fn get(
    files: &WorkFiles,
    asker: Asker<'_>,
    path: RelativePath,
    request: &FileRequest<'_>,
) -> Result<Response, FilesFailure> {
    let name = path.names().next_back().unwrap_or_default().to_owned();
    let is_head = request.method == Method::HEAD;
    match files.open(asker, path).await? {
        Content::File(file) => file_answer(file, &name, request.headers, is_head),
        Content::Archive(_) if is_head => {
            let mut response = Response::new("".into());
            describe(&mut response, &format!("{name}.tar"), "application/x-tar");
            Ok(response)
        }
        Content::Archive(archive) => {
            let mut response = warp::reply::stream(archive.pieces()).into_response();
            describe(&mut response, &format!("{name}.tar"), "application/x-tar");
            Ok(response)
        }
    }
}

fn file_answer(
    file: Download,
    name: &str,
    headers: &HeaderMap,
    is_head: bool,
) -> Result<Response, FilesFailure> {
    let (size, tag) = (file.version().size, tag::tag(file.version()));
    if tag::is_known(headers, &tag) {
        let mut response = Response::new("".into());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        describe(&mut response, name, "application/octet-stream");
        put_header(&mut response, header::ETAG, &tag);
        return Ok(response);
    }
    let (from, length, is_part) = match tag::range(headers, &tag, size) {
        Wanted::All => (0, size, false),
        Wanted::Range { from, length } => (from, length, true),
        Wanted::Outside => return Err(FilesFailure::Range { size }),
    };
    let mut response = if is_head {
        Response::new("".into())
    } else {
        warp::reply::stream(file.pieces(from, length)).into_response()
    };
    if is_part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = from + length.saturating_sub(1);
        put_header(&mut response, header::CONTENT_RANGE, &format!("bytes {from}-{last}/{size}"));
    }
    describe(&mut response, name, "application/octet-stream");
    put_header(&mut response, header::CONTENT_LENGTH, &length.to_string());
    put_header(&mut response, header::ETAG, &tag);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

async fn progress(files: &WorkFiles, asker: Asker<'_>, upload: &str) -> Result<Response, FilesFailure> {
    let upload = UploadId::new(upload).map_err(|_| FilesFailure::Parameter("upload"))?;
    let bytes = files.progress(asker, upload).await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    put_header(&mut response, UPLOAD_OFFSET, &bytes.to_string());
    Ok(response)
}

async fn put<B: Buf, E: Display>(
    files: &WorkFiles,
    limit: u64,
    asker: Asker<'_>,
    path: RelativePath,
    request: &FileRequest<'_>,
    body: &mut Body<impl Stream<Item = Result<B, E>> + Send + 'static>,
) -> Result<Response, FilesFailure> {
    let too_large = FilesFailure::TooLarge { most: limit, setting: FILE_LIMIT };
    let part = part(request)?;
    let announced = number(request.headers, &header::CONTENT_LENGTH, "Content-Length")?;
    let room = match &part {
        Some(part) if part.total > limit => return Err(too_large),
        Some(part) => part.total.checked_sub(part.offset).ok_or(FilesFailure::Parameter("Upload-Offset"))?,
        None => limit,
    };
    let beyond = if part.is_some() { FilesFailure::BodyTooLong } else { too_large };
    if announced.is_some_and(|length| length > room) {
        return Err(beyond);
    }
    let condition = match tag::condition(request.headers) {
        Ok(condition) => condition,
        Err(Unfit::Never) => return Err(FilesFailure::Changed),
        Err(Unfit::Header(name)) => return Err(FilesFailure::Parameter(name)),
    };
    let parents = request.query.get("parents").is_some_and(|value| value == "1");
    let write = Write { path, parents, condition, part };
    let writing = files.write(asker, write).await?.map_err(|bytes| FilesFailure::Offset { bytes })?;
    let (outcome, bytes) = send(writing, body, room, &beyond).await?;
    let RunOptions { connection, caller, .. } = asker.options;
    Ok(match outcome {
        Wrote::Whole { version, replaced } => {
            info!("connection {connection}: put a file ({bytes} bytes came) for {caller}");
            let status = if replaced { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
            let mut response = empty(status);
            put_header(&mut response, header::ETAG, &tag::tag(&version));
            response
        }
        Wrote::Part(bytes) => {
            let mut response = empty(StatusCode::ACCEPTED);
            put_header(&mut response, UPLOAD_OFFSET, &bytes.to_string());
            response
        }
    })
}

/// The setting that allows larger files.
const FILE_LIMIT: &str = setting!("--file-limit", "FURTHER_LINK_FILE_LIMIT");

/// Which part of a resumable upload it is.
fn part(request: &FileRequest<'_>) -> Result<Option<Part>, FilesFailure> {
    let Some(upload) = request.query.get("upload") else { return Ok(None) };
    let upload = UploadId::new(upload.as_str()).map_err(|_| FilesFailure::Parameter("upload"))?;
    let wanted = |name, wrong| number(request.headers, &name, wrong)?.ok_or(FilesFailure::Parameter(wrong));
    let offset = wanted(UPLOAD_OFFSET, "Upload-Offset")?;
    let total = wanted(UPLOAD_LENGTH, "Upload-Length")?;
    Ok(Some(Part { upload, offset, total }))
}

fn number(headers: &HeaderMap, name: &HeaderName, wrong: &'static str) -> Result<Option<u64>, FilesFailure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).map(Some).ok_or(FilesFailure::Parameter(wrong))
}

/// Hands the body on, at most so many bytes, and says when all has come. What became of it, and how many
/// bytes came.
async fn send<B: Buf, E: Display>(
    writing: Writing,
    body: &mut Body<impl Stream<Item = Result<B, E>> + Send + 'static>,
    room: u64,
    beyond: &FilesFailure,
) -> Result<(Wrote, u64), FilesFailure> {
    let end = Instant::now() + LONGEST;
    let mut left = room;
    while let Some(piece) = next(body, end).await? {
        let mut piece = piece;
        while piece.has_remaining() {
            let part = piece.chunk();
            let length = part.len();
            left =
                left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)).ok_or_else(|| beyond.clone())?;
            writing.write(part).await?;
            piece.advance(length);
        }
    }
    Ok((writing.commit().await?, room - left))
}

async fn next<B: Buf, E: Display>(
    body: &mut Body<impl Stream<Item = Result<B, E>> + Send + 'static>,
    end: Instant,
) -> Result<Option<B>, FilesFailure> {
    match timeout_at(end.min(Instant::now() + SILENCE_TIMEOUT), body.next()).await {
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(None) => Ok(None),
        Ok(Some(Err(_))) => Err(FilesFailure::BodyEnded),
        Err(_elapsed) => Err(FilesFailure::Slow),
    }
}

/// The body of `POST /files`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Action {
    Rename { path: String, to: String },
    Directory { path: String },
    Remove { path: String },
}

/// How long the small body of an action may take.
const ACTION_TIMEOUT: Duration = Duration::from_secs(30);

async fn act<B: Buf, E: Display>(
    files: &WorkFiles,
    asker: Asker<'_>,
    body: &mut Body<impl Stream<Item = Result<B, E>> + Send + 'static>,
) -> Result<Response, FilesFailure> {
    let mut bytes = Vec::new();
    let end = Instant::now() + ACTION_TIMEOUT;
    while let Some(piece) = next(body, end).await? {
        let mut piece = piece;
        if bytes.len() + piece.remaining() > MAX_ACTION {
            return Err(FilesFailure::Action);
        }
        while piece.has_remaining() {
            let part = piece.chunk();
            bytes.extend_from_slice(part);
            let length = part.len();
            piece.advance(length);
        }
    }
    let action = serde_json::from_slice(&bytes).map_err(|_| FilesFailure::Action)?;
    let act = match action {
        Action::Rename { path, to } => FilesAct::Rename { from: relative(path)?, to: relative(to)? },
        Action::Directory { path } => FilesAct::MakeDirectory { path: relative(path)? },
        Action::Remove { path } => FilesAct::Remove { path: relative(path)? },
    };
    files.change(asker, act).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What every answer with a file's content has: no browser shows it, takes it for something else, or gives it
/// to another page.
fn describe(response: &mut Response, name: &str, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
    );
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    let name = utf8_percent_encode(name, ATTRIBUTE);
    put_header(response, header::CONTENT_DISPOSITION, &format!("attachment; filename*=UTF-8''{name}"));
}

fn put_header(response: &mut Response, name: HeaderName, value: &str) {
    // All of them are ASCII.
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = text(status, value.to_string());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn refuse(failure: &FilesFailure) -> Response {
    let status = status(failure);
    let mut response = json(status, &serde_json::json!({ "error": failure.to_string() }));
    match failure {
        FilesFailure::Offset { bytes } => put_header(&mut response, UPLOAD_OFFSET, &bytes.to_string()),
        FilesFailure::Range { size } => {
            put_header(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
        }
        FilesFailure::Busy => {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        _ => {}
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn status(failure: &FilesFailure) -> StatusCode {
    match failure {
        FilesFailure::User(UserFailure::Name(_) | UserFailure::TokenText)
        | FilesFailure::Path
        | FilesFailure::OwnName
        | FilesFailure::Parameter(_)
        | FilesFailure::Action
        | FilesFailure::BodyEnded
        | FilesFailure::BodyTooLong => StatusCode::BAD_REQUEST,
        FilesFailure::User(UserFailure::NotRoot | UserFailure::Version | UserFailure::NoDefault { .. })
        | FilesFailure::Device(_)
        | FilesFailure::NoHelper => StatusCode::INTERNAL_SERVER_ERROR,
        FilesFailure::User(_)
        | FilesFailure::NotAllowed(_)
        | FilesFailure::LeadsOut
        | FilesFailure::LinkOnTheWay
        | FilesFailure::NoFile => StatusCode::FORBIDDEN,
        FilesFailure::NotFound => StatusCode::NOT_FOUND,
        FilesFailure::Slow => StatusCode::REQUEST_TIMEOUT,
        FilesFailure::Exists
        | FilesFailure::WrongKind
        | FilesFailure::IntoItself
        | FilesFailure::OtherDisk
        | FilesFailure::Offset { .. } => StatusCode::CONFLICT,
        FilesFailure::Changed => StatusCode::PRECONDITION_FAILED,
        FilesFailure::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        FilesFailure::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        FilesFailure::Busy => StatusCode::SERVICE_UNAVAILABLE,
        FilesFailure::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_stays_below_the_work_dir() {
        for (path, taken) in [
            ("/a", "a"),
            ("/a/b%20c", "a/b c"),
            ("/%25%32%46", "%2F"),
            ("/%2e%2e%2e", "..."),
            ("/%5c..%5c", "\\..\\"),
            ("/%c3%bc%E2%98%83", "ü☃"),
            ("/a+b", "a+b"),
            ("/sub/.flcache", "sub/.flcache"),
        ] {
            assert_eq!(below(path).map(|path| path.as_str().to_owned()), Ok(taken.to_owned()), "{path}");
        }
        for path in [
            "a",
            "/",
            "//",
            "/a/",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/%2e%2e/a",
            "/%2E%2e",
            "/a%2Fb",
            "/%2f",
            "/a%00",
            "/%ff",
            "/%c3",
            "/%c0%ae%c0%ae",
        ] {
            assert_eq!(below(path).err(), Some(FilesFailure::Path), "{path}");
        }
        for path in ["/.flcache", "/.flcache/x", "/.flparts/x", "/.fl%70arts", "/.flupload-0/tree"] {
            assert_eq!(below(path).err(), Some(FilesFailure::OwnName), "{path}");
        }
    }

    #[test]
    fn an_action_is_one_of_three_with_what_it_needs_and_nothing_else() {
        let parsed = |text: &str| serde_json::from_str::<Action>(text).ok();
        assert_eq!(
            parsed(r#"{"action":"rename","path":"a","to":"b"}"#),
            Some(Action::Rename { path: "a".to_owned(), to: "b".to_owned() })
        );
        assert!(parsed(r#"{"path":"a","action":"remove"}"#).is_some());
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"action":"remove"}"#,
            r#"{"action":"rename","path":"a"}"#,
            r#"{"action":"Remove","path":"a"}"#,
            r#"{"action":"remove","path":"a","to":"b"}"#,
            r#"{"action":"directory","path":["a"]}"#,
            r#"{"action":"remove","path":"a","path":"b"}"#,
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_in_a_header_is_whatever_bytes_it_has() {
        let mut response = Response::new("".into());
        describe(&mut response, "a\"b\r\nü'.py", "application/octet-stream");
        let name = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert_eq!(name, "attachment; filename*=UTF-8''a%22b%0D%0A%C3%BC%27.py");
    }
}
