//! One WebSocket: frames in, one after the other, into the session; messages out of the outbox, as many at
//! once as there are. The only file that knows the WebSocket library.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};
use tracing::{debug, warn};

use further_link_api::{MAX_MESSAGE, parse};

use crate::{
    access::limits::ConnectionPermit,
    http::fragments::Fragments,
    http::pings::Pulse,
    lifecycle::shutdown::Shutdown,
    outbox::{self, Confirm, Disconnected, OutboxReceiver},
    session::Session,
};

/// Bytes of one read. Messages from clients are mostly keystrokes; larger ones are read in several steps.
const READ_BUFFER: usize = 1024;
/// Written at once at the most; what is there is flushed in any case before waiting.
const WRITE_BUFFER: usize = 64 * 1024;
/// A client that does not read has this long to take the last words. Its programs do not wait for that.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most frames, and bytes, that are read while a message is being handled: the pings of an hour. Then the
/// client waits.
const MAX_AHEAD: usize = 1024;
/// The frame that goes beyond it is still taken.
const MAX_AHEAD_BYTES: usize = 64 * 1024;
/// Largest message that is written as one WebSocket frame: larger than all output, so that only video frames
/// are not.
const LARGEST_WHOLE: usize = 512 * 1024;

/// How the conversation with the client came to its end.
enum End {
    /// The client closed, or is gone.
    Client,
    /// A message above the limit.
    TooLong,
    /// A message that was begun and not completed in time.
    TooSlow,
    /// More unfinished messages than this process may keep.
    TooMany,
    /// The task of one of its programs has panicked.
    Panicked,
    /// This daemon is shutting down.
    Shutdown,
}

/// The library's settings.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Serves one upgraded connection until it ends, and then until its programs have ended.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    mut session: Session,
    mut messages: OutboxReceiver,
    permit: Arc<ConnectionPermit>,
    pulse: Arc<Pulse>,
    shutdown: &Shutdown,
) {
    let stream = Fragments::new(stream, permit, Arc::clone(&pulse));
    let (mut sink, mut stream) =
        WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await.split();
    let confirmations = Confirmations::default();
    let end = tokio::select! {
        end = read(&mut stream, &mut session, &confirmations) => end,
        end = write(&mut sink, &mut messages, &pulse, &confirmations) => end,
        () = shutdown.begun() => End::Shutdown,
    };
    // The client is gone: what programs still print is thrown away from here on, and nothing more is
    // confirmed.
    drop((messages, confirmations));
    // Boxed, as what a connection need not have room for while it lasts.
    Box::pin(async { tokio::join!(say_goodbye(sink, stream, end), session.close()) }).await;
}

/// Says why the connection ends, and that it does (TLS has a word for it), to a client that listens. Then it
/// is closed.
async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    stream: SplitStream<WebSocketStream<S>>,
    end: End,
) {
    let code = match end {
        End::Client => None,
        End::TooLong => Some((CloseCode::Size, "message longer than 4 MiB")),
        End::TooSlow => Some((CloseCode::Policy, "message not complete after 60 seconds")),
        End::TooMany => Some((CloseCode::Again, "too many long messages at once")),
        End::Panicked => Some((CloseCode::Error, "internal error, see the log of further-link")),
        End::Shutdown => Some((CloseCode::Away, "further-link is shutting down")),
    };
    let said = tokio::time::timeout(GOODBYE_TIMEOUT, async {
        if let Some((code, reason)) = code {
            let frame = CloseFrame { code, reason: reason.into() };
            if let Err(error) = sink.send(Message::Close(Some(frame))).await {
                debug!("close: {error}");
            }
        }
        // They are of one socket: it does not fail.
        match sink.reunite(stream) {
            Ok(mut socket) => socket.get_mut().shutdown().await,
            Err(_) => Ok(()),
        }
    });
    match said.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("close: {error}"),
        Err(_) => debug!("close: the client does not read"),
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    session: &mut Session,
    confirmations: &Confirmations,
) -> End {
    let mut ahead = Ahead::default();
    // After a close frame the library still answers it before the stream ends.
    loop {
        let frame = tokio::select! {
            frame = ahead.next(stream) => frame,
            () = session.panicked() => return End::Panicked,
        };
        let Some(frame) = frame else { return End::Client };
        let message = match frame {
            Ok(Message::Text(text)) => parse(text.as_bytes(), session.dialect()),
            Ok(Message::Binary(bytes)) => parse(&bytes, session.dialect()),
            Ok(Message::Pong(number)) => {
                confirmations.confirm(&number);
                continue;
            }
            // The library answers pings by itself.
            Ok(_) => continue,
            Err(tungstenite::Error::Capacity(_)) => return End::TooLong,
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::TimedOut => return End::TooSlow,
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::QuotaExceeded => {
                warn!("a connection is closed: {error}");
                return End::TooMany;
            }
            Err(error) => {
                debug!("websocket: {error}");
                return End::Client;
            }
        };
        let handled = tokio::select! {
            biased;
            handled = session.handle(message) => handled,
            () = ahead.watch(stream) => Ok(()),
        };
        if let Err(Disconnected) = handled {
            return End::Client;
        }
    }
}

/// Messages that the client's side has to confirm: each is followed by a ping, which is answered behind it.
#[derive(Default)]
struct Confirmations(Mutex<VecDeque<(u64, Confirm)>>);

impl Confirmations {
    /// What the ping has to say.
    fn add(&self, confirm: Confirm) -> Bytes {
        let mut waiting = self.lock();
        let number = waiting.back().map_or(1, |(last, _)| last + 1);
        waiting.push_back((number, confirm));
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// A pong answers all pings before it (RFC 6455, 5.5.3).
    fn confirm(&self, pong: &[u8]) {
        let Ok(number) = pong.try_into().map(u64::from_be_bytes) else { return };
        while let Some(confirm) = self.take_until(number) {
            confirm();
        }
    }

    fn take_until(&self, number: u64) -> Option<Confirm> {
        let mut waiting = self.lock();
        let is_next = waiting.front().is_some_and(|(first, _)| *first <= number);
        if is_next { waiting.pop_front().map(|(_, confirm)| confirm) } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Confirm)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is read while a message is being handled, whatever that takes (an upload with a slow download): so
/// that the client's end is noticed, and its programs end.
#[derive(Default)]
struct Ahead {
    frames: VecDeque<Option<Result<Message, tungstenite::Error>>>,
    bytes: usize,
}

impl Ahead {
    /// The next frame.
    async fn next<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut SplitStream<WebSocketStream<S>>,
    ) -> Option<Result<Message, tungstenite::Error>> {
        match self.frames.pop_front() {
            Some(frame) => {
                if let Some(Ok(message)) = &frame {
                    self.bytes = self.bytes.saturating_sub(message.len());
                }
                frame
            }
            None => stream.next().await,
        }
    }

    /// Reads ahead, as much as may wait. Ends when there is nothing more to handle messages for.
    async fn watch<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut SplitStream<WebSocketStream<S>>,
    ) {
        while self.frames.len() < MAX_AHEAD && self.bytes < MAX_AHEAD_BYTES {
            let frame = stream.next().await;
            if let Some(Ok(message)) = &frame
                && !message.is_close()
            {
                self.bytes += message.len();
                self.frames.push_back(frame);
            } else {
                // The client is gone: what waits has no receiver.
                self.frames = VecDeque::from([frame]);
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    messages: &mut OutboxReceiver,
    pulse: &Pulse,
    confirmations: &Confirmations,
) -> End {
    loop {
        let written = tokio::select! {
            biased;
            first = messages.next() => match first {
                Some(first) => write_available(sink, first, messages, confirmations).await,
                None => return End::Client,
            },
            () = pulse.due() => sink.send(Message::Ping(Bytes::new())).await,
        };
        if let Err(error) = written {
            debug!("websocket: {error}");
            return End::Client;
        }
    }
}

async fn write_available<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    first: outbox::Message,
    messages: &mut OutboxReceiver,
    confirmations: &Confirmations,
) -> Result<(), tungstenite::Error> {
    let mut next = Some(first);
    while let Some(mut message) = next {
        let confirm = message.confirm.take();
        if message.json.is_empty() {
            // Only a confirmation is wanted.
        } else if message.json.len() > LARGEST_WHOLE {
            write_in_parts(sink, message).await?;
        } else {
            sink.feed(Message::text(message.json)).await?;
        }
        if let Some(confirm) = confirm {
            sink.feed(Message::Ping(confirmations.add(confirm))).await?;
        }
        next = messages.take();
    }
    sink.flush().await
}

/// Writes a large message as several WebSocket frames (RFC 6455, 5.4), which the other side joins. The
/// library copies each frame into a buffer that keeps its size as long as the connection lasts.
async fn write_in_parts<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    message: outbox::Message,
) -> Result<(), tungstenite::Error> {
    let mut rest = Bytes::from(message.json);
    let mut code = Data::Text;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(WRITE_BUFFER));
        let frame = Frame::message(part, OpCode::Data(code), rest.is_empty());
        sink.feed(Message::Frame(frame)).await?;
        code = Data::Continue;
    }
    // Its room is free when all of it has left.
    sink.flush().await?;
    drop(message.room);
    Ok(())
}
