//! One connection of a program to its run's user channel: lines in, and what they ask for done; key events
//! and error lines out. Made by `channel`, a task of its own.
//!
//! What the program says can at worst slow down this connection: whatever it asks for is bounded, and reading
//! waits for room, for the client, and for a pace. What it does not read is bounded by `keys`.

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::FusedFuture};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::{coop::consume_budget, yield_now},
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use crate::{
    helper::stream::Stream,
    lifecycle::store::Stored,
    memory::budget::{Budget, Reservation},
    process::channel::keys::{ChannelError, Listener},
    process::channel::line::{Lines, MAX_LINE, ProgramMessage, parse},
    process::output::overdue,
    process::phase::Phase,
    transcript::Audience,
};

/// Between two frames, and between two lines that are not understood and not even answered any more: no
/// camera is faster, and a program that floods keeps the daemon busy for a part of the time only.
const PACE: Duration = Duration::from_millis(10);
/// A large line that was begun has to be complete after this: the room that it takes is wanted by others.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What connections of a run have in common.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) audience: Audience,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) budget: Budget,
}

/// In the service manager's store a connection has this name, with its number behind it.
pub(crate) const PREFIX: &str = "connection";

/// A connection as it is accepted, or as an earlier process has left it.
pub(crate) struct Inherited {
    pub(crate) number: u64,
    pub(crate) stream: Stream,
    /// What it listens for.
    pub(crate) keys: Vec<String>,
    /// The beginning of a line from it, and of lines to it. `None` if that was lost, with perhaps the
    /// beginning of its next line.
    pub(crate) left: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) stored: Option<Stored>,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) run: Run,
    pub(crate) accepted: Inherited,
    pub(crate) listener: Arc<Listener>,
    /// Its place among all connections.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Why nothing more is read.
enum End {
    /// The program closed it, or there is no writer any more.
    Closed,
    TooLong,
}

/// What is to be waited for because of a line, once nothing of it is borrowed any more.
enum FollowUp {
    Nothing,
    /// A frame was shown.
    Shown,
    Pace,
    Listen(String),
}

impl Connection {
    /// Serves it until the program has closed it; or, when the run has ended and a process outside of it
    /// holds the other end, until the limit for draining is over; or until this process leaves the program to
    /// the next one.
    pub(crate) async fn serve(self) {
        let Inherited { number, stream, left, stored, .. } = self.accepted;
        let is_cut = left.is_none();
        let (unread, unwritten) = left.unwrap_or_default();
        let mut reader = Reader {
            run: &self.run,
            number,
            listener: &self.listener,
            lines: Lines::beginning_with(unread),
            is_cut,
            room: None,
            last_frame: None,
        };
        let mut answers = Answers { bytes: unwritten, written: 0 };
        let end = tokio::select! {
            end = reader.read(&stream) => Some(end),
            never = answers.write(&stream, &self.listener) => match never {},
            () = self.run.audience.left() => None,
        };
        let saved = self.run.audience.saved();
        match end {
            Some(Ok(End::Closed)) => {}
            Some(Ok(End::TooLong)) => {
                self.listener.refuse(ChannelError::BadMessage);
            }
            // The program has closed it with something unread.
            Some(Err(error)) => debug!("user channel: {error}"),
            None => {
                if let Some(saved) = saved {
                    saved.leaves(number, reader.lines.rest(), &answers.all(&self.listener));
                }
                return;
            }
        }
        answers.write_what_fits(&stream, &self.listener);
        if let Some(saved) = saved {
            saved.gone(number);
        }
        drop((stored, self.place));
    }
}

/// The incoming half.
struct Reader<'a> {
    run: &'a Run,
    number: u64,
    listener: &'a Listener,
    lines: Lines,
    /// The next line may be the end of one whose beginning was lost.
    is_cut: bool,
    /// Of a large line that is not complete.
    room: Option<Reservation>,
    last_frame: Option<Instant>,
}

impl Reader<'_> {
    async fn read(&mut self, stream: &Stream) -> io::Result<End> {
        // Once this has come, only what is there already is read: no more than one line could be.
        let mut overdue = pin!(overdue(self.run.phase.clone()).fuse());
        let mut left = MAX_LINE;
        let mut whole_until = Instant::now();
        while self.hear_all().await {
            if self.lines.is_large() && self.room.is_none() {
                self.room = self.take_room(overdue.as_mut()).await;
                whole_until = Instant::now() + LINE_TIMEOUT;
                if self.room.is_none() {
                    return Ok(End::Closed);
                }
            }
            if overdue.is_terminated() {
                match read(stream, &mut self.lines) {
                    Ok(count) if (1..=left).contains(&count) => left -= count,
                    Ok(_) => return Ok(End::Closed),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(End::Closed),
                    Err(error) => return Err(error),
                }
                continue;
            }
            tokio::select! {
                count = stream.readable(|stream| read(stream, &mut self.lines)) => {
                    // A line without an end may be cut off.
                    if count? == 0 {
                        return Ok(End::Closed);
                    }
                }
                () = &mut overdue => {}
                () = sleep_until(whole_until), if self.room.is_some() => return Ok(End::TooLong),
            }
        }
        Ok(End::TooLong)
    }

    /// Does what the lines that are there ask for. False when one is too long.
    async fn hear_all(&mut self) -> bool {
        loop {
            let asked = match self.lines.next() {
                Ok(Some(line)) => {
                    let is_cut = std::mem::take(&mut self.is_cut);
                    if is_cut && parse(line).is_err() {
                        FollowUp::Nothing
                    } else {
                        receive(self.run, self.listener, line, &mut self.room, &mut self.last_frame)
                    }
                }
                Ok(None) => return true,
                Err(_too_long) => return false,
            };
            self.lines.tidy();
            self.room = None;
            self.wait(asked).await;
            // A program that never stops talking must not keep the thread.
            consume_budget().await;
        }
    }

    async fn wait(&self, asked: FollowUp) {
        match asked {
            FollowUp::Nothing => {}
            // To the socket's writer, which this has woken: on this thread it runs when this task waits, and
            // a program that is faster than this task would let it wait for dozens of frames.
            FollowUp::Shown => yield_now().await,
            // What has ended floods no more, and `stopped` should not wait.
            FollowUp::Pace if self.run.phase.borrow().has_ended() => {}
            FollowUp::Pace => sleep(PACE).await,
            FollowUp::Listen(key) => match self.listener.listen(&key) {
                Ok(()) => {
                    if let Some(saved) = self.run.audience.saved() {
                        saved.listens(self.number, &key);
                    }
                    self.run.audience.key_listen(&key).await;
                }
                Err(mistake) => {
                    self.listener.refuse(mistake);
                }
            },
        }
    }

    /// None when it is too late to wait for it.
    async fn take_room<F: FusedFuture<Output = ()>>(&self, mut overdue: Pin<&mut F>) -> Option<Reservation> {
        if overdue.is_terminated() {
            return self.run.budget.try_take(MAX_LINE);
        }
        tokio::select! {
            room = self.run.budget.take(MAX_LINE) => Some(room),
            () = &mut overdue => None,
        }
    }
}

/// Understands a line. A frame is shown at once, so that it is copied once only; it takes the room of its
/// line along.
fn receive(
    run: &Run,
    listener: &Listener,
    line: &[u8],
    room: &mut Option<Reservation>,
    last_frame: &mut Option<Instant>,
) -> FollowUp {
    match parse(line) {
        Ok(ProgramMessage::Video(frame)) => {
            run.audience.show(&frame, room.take());
            let fast = last_frame.is_some_and(|last| last.elapsed() < PACE);
            *last_frame = Some(Instant::now());
            if fast { FollowUp::Pace } else { FollowUp::Shown }
        }
        Ok(ProgramMessage::KeyListen(key)) => FollowUp::Listen(key),
        Err(_not_understood) if listener.refuse(ChannelError::BadMessage) => FollowUp::Nothing,
        Err(_not_understood) => FollowUp::Pace,
    }
}

/// One read into the free room.
fn read(stream: &Stream, lines: &mut Lines) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(stream, rustix::buffer::spare_capacity(lines.space())))?)
}

/// The outgoing half.
struct Answers {
    /// A line, or what an earlier process has left.
    bytes: Vec<u8>,
    /// So much of it is written.
    written: usize,
}

impl Answers {
    /// Writes whatever there is until this future is dropped, at any moment.
    async fn write(&mut self, stream: &Stream, listener: &Listener) -> Infallible {
        loop {
            if self.rest().is_empty() {
                self.bytes = listener.next().await.into_bytes();
                self.written = 0;
            }
            match stream.write(self.rest()).await {
                Ok(count) => self.written += count,
                // The program will read nothing any more, but what it has said still counts.
                Err(_) => pending().await,
            }
        }
    }

    /// Writes what does not have to wait.
    fn write_what_fits(&mut self, stream: &Stream, listener: &Listener) {
        loop {
            if self.rest().is_empty() {
                let Some(line) = listener.take() else { return };
                self.bytes = line.into_bytes();
                self.written = 0;
            }
            // A program that does not read, or is gone, has nothing more to hear.
            let Ok(count) = rustix::io::write(stream, self.rest()) else { return };
            self.written += count;
        }
    }

    /// All that is not written.
    fn all(&self, listener: &Listener) -> Vec<u8> {
        let mut all = self.rest().to_vec();
        while let Some(line) = listener.take() {
            all.extend_from_slice(line.as_bytes());
        }
        all
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }
}
