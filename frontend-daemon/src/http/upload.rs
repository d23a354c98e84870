//! `POST /upload`: its body, within limits, and its answers (B11).
//!
//! `http` calls it for requests whose access was decided on. `upload::request` reads the body as it comes.
//! Bodies of all clients together have a limit, so that no number of clients can use up the daemon's memory.

use std::{fmt::Display, pin::Pin, time::Duration};

use bytes::{Buf, Bytes};
use further_link_api::UserFailure;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use warp::reply::Response;

use crate::{
    access::run_as::RunOptions,
    access::tokens::TokenAttempts,
    memory::budget::{Budget, Reservation},
    reply::text,
    upload::json::Source,
    upload::request::{self, ErrorKind, ReadError},
    upload::{UploadError, Uploads},
};

/// Bytes of all bodies at once: two of the default limit, or one of the largest that can be set. Half of what
/// the unit grants (`MemoryMax=`).
const MAX_BODIES: usize = 128 * 1024 * 1024;
/// How long a request waits for room among them.
const ROOM_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client is told to wait before it tries again, in seconds.
pub(super) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");
/// Longest time without a byte of a body: a Wi-Fi that is gone for a moment comes back in it.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a body: the default limit over 1 Mbit/s.
const BODY_TIMEOUT: Duration = Duration::from_mins(10);
/// A client that is still sending when it is refused would not see the answer if the connection was closed
/// under it: for so long what it sends is read and thrown away.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The one-line reason behind a status whose body is the original's (B11.4, B11.5).
const REASON: HeaderName = HeaderName::from_static("further-link-error");
const JSON: &str = "application/json";

/// What all requests share.
pub(crate) struct Bodies {
    budget: Budget,
    /// Most bytes of one body.
    limit: usize,
    patience: Patience,
}

/// How long is waited for what.
#[derive(Clone, Copy)]
struct Patience {
    room: Duration,
    silence: Duration,
    body: Duration,
}

const DEFAULT: Patience = Patience { room: ROOM_TIMEOUT, silence: SILENCE_TIMEOUT, body: BODY_TIMEOUT };

/// A body of this size is no small allocation any more.
const LARGE_BODY: usize = 128 * 1024;
/// glibc gives larger ones back to the kernel as soon as they are freed, and smaller ones by a limit that
/// grows with them (mallopt(3), `M_MMAP_THRESHOLD`): of a body of 10 MB each thread then kept 10 MB for good.
const GIVEN_BACK: usize = if cfg!(target_pointer_width = "64") { 32 } else { 1 } * 1024 * 1024 + 1;

/// Reservation is taken in such steps.
const ROOM_STEP: usize = 1024 * 1024;

/// An answer that is not 200.
struct ErrorReply {
    status: StatusCode,
    /// The original's text where it has one.
    body: String,
    why: String,
}

impl ErrorReply {
    fn new(status: StatusCode, why: impl Display) -> Self {
        let reason = status.canonical_reason().unwrap_or_default();
        Self { status, body: format!("{}: {reason}", status.as_u16()), why: why.to_string() }
    }

    /// Too large: the body of the answer is the reason (B11.7).
    fn too_large(why: impl Display) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, body: why.to_string(), why: why.to_string() }
    }
}

impl From<UploadError> for ErrorReply {
    fn from(error: UploadError) -> Self {
        let status = match &error {
            UploadError::Request(wrong) => match wrong.kind {
                ErrorKind::TooLarge => return Self::too_large(&wrong.why),
                // The original had a text of its own for odd types: D46.
                ErrorKind::Shape | ErrorKind::OddType => StatusCode::BAD_REQUEST,
                ErrorKind::Impossible => StatusCode::INTERNAL_SERVER_ERROR,
            },
            UploadError::User(
                UserFailure::TokenMissing { .. }
                | UserFailure::TokenWrong { .. }
                | UserFailure::Blocked { .. },
            ) => StatusCode::FORBIDDEN,
            UploadError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            UploadError::User(_)
            | UploadError::NotStored(_)
            | UploadError::NoHelper(_)
            | UploadError::Download { .. }
            | UploadError::CachePath(_)
            | UploadError::Slow => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

impl Bodies {
    /// `limit` bytes for each, at most [`MAX_BODIES`].
    pub(crate) fn new(limit: usize) -> Self {
        Self { budget: Budget::new(MAX_BODIES), limit: limit.min(MAX_BODIES), patience: DEFAULT }
    }

    /// Handles one request.
    pub(crate) async fn answer<B: Buf + Send, E: Display>(
        &self,
        uploads: &Uploads,
        options: &RunOptions,
        attempts: &TokenAttempts,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, E>> + Send + 'static,
    ) -> Response {
        let store = async {
            let (mut incoming, texts) = self.begin(headers, body)?;
            let request = request::read(&mut incoming, texts).await.map_err(|error| match error {
                ReadError::Source(reply) => reply,
                ReadError::Request(wrong) => UploadError::Request(wrong).into(),
            })?;
            Ok(uploads.store(options, attempts, &request).await?)
        };
        respond(store.await, accepts_json(headers))
    }

    /// A body of which nothing has been read, and memory for what is kept of it.
    fn begin<B, E, T: Stream<Item = Result<B, E>> + Send + 'static>(
        &self,
        headers: &HeaderMap,
        stream: T,
    ) -> Result<(Incoming<'_, T>, Vec<u8>), ErrorReply> {
        let stream = Box::pin(stream);
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let announced = announced.map(|length| length.parse().unwrap_or(usize::MAX));
        let expected = announced.unwrap_or(self.limit);
        if expected > self.limit {
            linger(stream);
            return Err(self.too_large());
        }
        let mut texts = Vec::new();
        // Memory that nothing is written to costs nothing.
        let room_for = if expected < LARGE_BODY { expected } else { expected.max(GIVEN_BACK) };
        if texts.try_reserve_exact(room_for).is_err() {
            return Err(ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "there is no memory for it now"));
        }
        let end = Instant::now() + self.patience.body;
        Ok((Incoming { bodies: self, stream: Some(stream), end, received: 0, room: None, held: 0 }, texts))
    }

    fn too_large(&self) -> ErrorReply {
        ErrorReply::too_large(format!("Maximum request body size {} exceeded.", self.limit))
    }
}

/// A body that comes, and its place among all bodies.
struct Incoming<'a, T> {
    bodies: &'a Bodies,
    /// Until its end.
    stream: Option<Pin<Box<T>>>,
    /// When all of it has to be there.
    end: Instant,
    received: usize,
    room: Option<Reservation>,
    /// Bytes of the room.
    held: usize,
}

impl<B, E, T> Source for &mut Incoming<'_, T>
where
    B: Buf + Send,
    E: Display,
    T: Stream<Item = Result<B, E>> + Send + 'static,
{
    type Error = ErrorReply;

    async fn next(&mut self) -> Result<Option<Bytes>, ErrorReply> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let Patience { room, silence, .. } = self.bodies.patience;
        let mut piece = match timeout_at(self.end.min(Instant::now() + silence), stream.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                debug!("body of an upload: {error}");
                return Err(ErrorReply::new(StatusCode::BAD_REQUEST, "the body breaks off"));
            }
            Err(_elapsed) => {
                return Err(ErrorReply::new(StatusCode::REQUEST_TIMEOUT, "the body comes too slowly"));
            }
        };
        self.received = self.received.saturating_add(piece.remaining());
        if self.received > self.bodies.limit {
            linger(stream);
            return Err(self.bodies.too_large());
        }
        // Taken as the bytes come: what is announced and does not come takes nothing from others.
        if self.received > self.held {
            let step = (self.received - self.held).max(ROOM_STEP).min(self.bodies.limit - self.held);
            let Ok(more) = timeout(room, self.bodies.budget.take(step)).await else {
                linger(stream);
                return Err(no_room());
            };
            self.room = Some(match self.room.take() {
                Some(room) => room.merge(more),
                None => more,
            });
            self.held += step;
        }
        self.stream = Some(stream);
        Ok(Some(piece.copy_to_bytes(piece.remaining())))
    }
}

fn no_room() -> ErrorReply {
    ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "other uploads need all memory now")
}

/// Reads on for a while, so that the answer gets through.
pub(super) fn linger<B, E>(mut stream: Pin<Box<impl Stream<Item = Result<B, E>> + Send + 'static>>) {
    tokio::spawn(timeout(LINGER_TIMEOUT, async move { while let Some(Ok(_)) = stream.next().await {} }));
}

/// Whether the client names JSON as what it wants. `*/*`, which most send without a thought, gets the older
/// form.
fn accepts_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(','));
    types.any(|one| one.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(JSON)))
}

fn respond(outcome: Result<(), ErrorReply>, json: bool) -> Response {
    let (status, body, value) = match &outcome {
        // Nothing is skipped here: what was to be fetched was fetched, now or before.
        Ok(()) => (StatusCode::OK, "OK", serde_json::json!({ "success": true, "fetched_urls": true })),
        Err(ErrorReply { status, body, why }) => {
            (*status, body.as_str(), serde_json::json!({ "success": false, "error": why }))
        }
    };
    let mut response = text(status, if json { value.to_string() } else { body.to_owned() });
    let headers = response.headers_mut();
    if json {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    if let Err(failure) = outcome {
        let plain: String =
            failure.why.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
        if let Ok(reason) = HeaderValue::try_from(plain) {
            headers.insert(REASON, reason);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        // What is left of the body must not be taken for the next request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_those_who_name_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            accepts_json(&headers)
        };
        for value in ["application/json", "Application/JSON; q=0.5", "text/plain, application/json"] {
            assert!(accepts(value), "{value}");
        }
        for value in ["*/*", "text/plain", "application/*", "application/json5", ""] {
            assert!(!accepts(value), "{value}");
        }
        assert!(!accepts_json(&HeaderMap::new()));
    }

    const SHORT: Duration = Duration::from_millis(50);
    type Piece = Result<Bytes, std::io::Error>;

    #[expect(clippy::unnecessary_wraps, reason = "a stream of pieces has errors in it as well")]
    fn piece(text: &'static str) -> Piece {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    /// The body, or the status of the answer.
    async fn received(
        bodies: &Bodies,
        length: &'static str,
        stream: impl Stream<Item = Piece> + Send + 'static,
    ) -> Result<String, u16> {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static(length))]);
        let Ok((mut incoming, mut body)) = bodies.begin(&headers, stream) else {
            panic!("it is not too large")
        };
        loop {
            match (&mut incoming).next().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(String::from_utf8(body).unwrap()),
                Err(failure) => return Err(failure.status.as_u16()),
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_slowly_is_given_up() {
        use futures_util::stream::{iter, once, pending, unfold};
        let mut bodies = Bodies::new(100);
        assert_eq!(received(&bodies, "2", iter([piece("a"), piece("b")])).await.as_deref(), Ok("ab"));
        bodies.patience.silence = SHORT;
        let silent = once(async { piece("a") }).chain(pending());
        assert_eq!(received(&bodies, "2", silent).await, Err(408));
        bodies.patience = Patience { silence: SHORT * 100, body: SHORT, ..DEFAULT };
        let dripping = unfold((), |()| async {
            tokio::time::sleep(SHORT / 10).await;
            Some((piece("a"), ()))
        });
        assert_eq!(received(&bodies, "100", dripping).await, Err(408));
        let broken = iter([piece("a"), Err(std::io::Error::other("gone"))]);
        assert_eq!(received(&bodies, "2", broken).await, Err(400));
        // Nothing that failed keeps its room.
        assert!(bodies.budget.try_take(MAX_BODIES).is_some());
    }

    #[tokio::test]
    async fn a_body_waits_for_room_for_a_while() {
        let mut bodies = Bodies::new(MAX_BODIES);
        bodies.patience.room = SHORT;
        let others = bodies.budget.take(MAX_BODIES).await;
        let body = || futures_util::stream::iter([piece("a"), piece("b")]);
        assert_eq!(received(&bodies, "2", body()).await, Err(503));
        assert_eq!(
            respond(Err(ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "")), false).headers()["retry-after"],
            "10"
        );
        drop(others);
        assert_eq!(received(&bodies, "2", body()).await.as_deref(), Ok("ab"));
    }

    #[test]
    fn a_reason_is_a_header_whatever_characters_it_has() {
        let response = respond(Err(ErrorReply::new(StatusCode::BAD_REQUEST, "ä\r\nX: y")), false);
        assert_eq!(response.headers()[REASON], "???X: y");
    }
}
