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

/// One connection.
pub(crate) struct Connection {
    pub(crate) run: Run,
    pub(crate) stream: Stream,
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
    /// holds the other end, until the limit for draining is over.
    pub(crate) async fn serve(self) {
        let mut reader = Reader {
            run: &self.run,
            listener: &self.listener,
            lines: Lines::default(),
            room: None,
            last_frame: None,
        };
        let mut answers = Answers::default();
        let end = tokio::select! {
            end = reader.read(&self.stream) => end,
            never = answers.write(&self.stream, &self.listener) => match never {},
        };
        match end {
            Ok(End::Closed) => {}
            Ok(End::TooLong) => {
                self.listener.refuse(ChannelError::BadMessage);
            }
            // The program has closed it with something unread.
            Err(error) => debug!("user channel: {error}"),
        }
        answers.write_what_fits(&self.stream, &self.listener);
        drop(self.place);
    }
}

/// The incoming half.
struct Reader<'a> {
    run: &'a Run,
    listener: &'a Listener,
    lines: Lines,
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
                    receive(self.run, self.listener, line, &mut self.room, &mut self.last_frame)
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
                Ok(()) => self.run.audience.key_listen(&key).await,
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
#[derive(Default)]
struct Answers {
    line: String,
    /// So much of it is written.
    written: usize,
}

impl Answers {
    /// Writes whatever there is until this future is dropped, at any moment.
    async fn write(&mut self, stream: &Stream, listener: &Listener) -> Infallible {
        loop {
            if self.rest().is_empty() {
                self.line = listener.next().await;
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
                self.line = line;
                self.written = 0;
            }
            // A program that does not read, or is gone, has nothing more to hear.
            let Ok(count) = rustix::io::write(stream, self.rest()) else { return };
            self.written += count;
        }
    }

    fn rest(&self) -> &[u8] {
        self.line.as_bytes().get(self.written..).unwrap_or_default()
    }
}
