//! A stream of a program's output on its way to the client: read, gathered, decoded, said. Lossless at any
//! rate.
//!
//! Reading stops while the outbox is full, so a slow client makes the program wait in its write. What a
//! program writes in several small writes at one moment (a traceback, an answer behind an echoed line) is
//! gathered into one message, as clients of the original expect (B6.8); a keystroke's echo is sent at once.

use std::{
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use further_link_api::OutputStream;

use crate::{
    helper::stream::{self, Read, Stream},
    outbox::Disconnected,
    process::input::Input,
    process::phase::{Phase, ended},
    process::utf8::Utf8Decoder,
    transcript::Audience,
    transcript::saved::{Relay, Saved},
};

/// Most bytes of output in one message: what a pipe holds (pipe(7)), so one read can empty it.
pub(crate) const MAX_PIECE: usize = 64 * 1024;
/// First size of the buffer: enough for a person's lines, so that a silent program costs little.
const FIRST_BUFFER: usize = 4 * 1024;
/// How long streams may stay open after the program's end without a writer: a process outside of the run
/// holds them. The original meant to wait as long (B6.9).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes that a pipe of a user holds (`pipe-max-size` of proc(5)).
const LARGEST_PIPE: usize = 1024 * 1024;
/// The longest that a first byte waits for company: the original's tick (B6.7).
const MAX_GATHER: Duration = Duration::from_millis(100);
/// How long a line waits for its end.
const LINE_PATIENCE: Duration = Duration::from_millis(5);
/// How long a whole line waits for another one.
const LINES_PATIENCE: Duration = Duration::from_millis(1);
/// How long the echo of a line on a terminal waits for the program's answer.
const ANSWER_PATIENCE: Duration = Duration::from_millis(10);
/// How long an error waits for the rest of it.
const ERROR_PATIENCE: Duration = Duration::from_millis(25);

/// Which stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Terminal,
    Stdout,
    Stderr,
    Compiler,
}

impl OutputKind {
    /// How much is taken of what is there when its writer has ended. The program has to be heard then,
    /// whatever a process that the compiler has left writes.
    fn most_left(self) -> usize {
        match self {
            Self::Compiler => LARGEST_PIPE,
            Self::Terminal | Self::Stdout | Self::Stderr => usize::MAX,
        }
    }

    /// How long to wait for more after these bytes. `python3 -u` writes a line and its end separately, and a
    /// traceback in dozens of pieces; on a busy device a whole time slice of the scheduler (some ms) may
    /// lie between two of them. So a line on a pipe waits for its end, unless this program is one that asks
    /// and answers without one. A terminal waits only for what follows a line, since keys have to feel
    /// immediate, and for long only after an input: what is there may be its echo.
    fn patience(self, gathered: &[u8], lines_stay_open: bool, had_input: bool) -> Option<Duration> {
        match self {
            Self::Terminal => {
                let patience = if had_input { ANSWER_PATIENCE } else { LINES_PATIENCE };
                gathered.contains(&b'\n').then_some(patience)
            }
            Self::Stdout if gathered.ends_with(b"\n") => Some(LINES_PATIENCE),
            Self::Stdout => (!lines_stay_open).then_some(LINE_PATIENCE),
            Self::Stderr | Self::Compiler => Some(ERROR_PATIENCE),
        }
    }

    /// Whether a read of this length into this much room has left nothing: then asking once more would answer
    /// "would block", having waited for the kernel's thread that fills a terminal. Where it is not sure,
    /// the answer is no.
    fn drained(self, length: usize, room: usize) -> bool {
        // What did not fit into the line discipline (4 KiB) is behind it. A pipe may hide anything: it gives
        // one packet at a time, if the program wants it so (O_DIRECT in pipe(2)).
        self == Self::Terminal && length < room && length < 2048
    }

    /// The stream that clients know.
    pub(crate) fn stream(self) -> OutputStream {
        match self {
            Self::Terminal | Self::Stdout => OutputStream::Stdout,
            Self::Stderr => OutputStream::Stderr,
            Self::Compiler => OutputStream::Compiler,
        }
    }
}

/// Moves one stream until it ends.
pub(crate) struct Output {
    kind: OutputKind,
    stream: Arc<Stream>,
    buffer: Vec<u8>,
    open_lines: OpenLines,
    /// How many inputs the program had had when something of it was sent last.
    inputs_before: u64,
    /// Of a kept program: what is read is noted there at once.
    saved: Option<(Arc<Saved>, Option<Relay>)>,
}

/// What is known of lines without an end: a prompt stays one until there is input, and the first half of a
/// `print` does not.
#[derive(Default)]
struct OpenLines {
    /// The last one stayed open for as long as it was waited for.
    stay_open: bool,
    /// When the last one was sent, and how many inputs the program had had by then.
    sent: Option<(Instant, u64)>,
}

impl OpenLines {
    /// More has come. If no input lies between, and no time, it belongs to what was sent.
    fn more_came(&mut self, inputs: u64) {
        if let Some((at, before)) = self.sent.take()
            && before == inputs
            && at.elapsed() < LINE_PATIENCE
        {
            self.stay_open = false;
        }
    }

    fn sent(&mut self, inputs: u64) {
        self.sent = Some((Instant::now(), inputs));
    }
}

/// Waits until what is left of an ended program's streams and connections is waited for no longer.
pub(crate) async fn overdue(mut phase: watch::Receiver<Phase>) {
    ended(&mut phase).await;
    sleep(DRAIN_TIMEOUT).await;
}

impl Output {
    pub(crate) fn new(kind: OutputKind, stream: Arc<Stream>) -> Self {
        Self {
            kind,
            stream,
            buffer: Vec::new(),
            open_lines: OpenLines::default(),
            inputs_before: 0,
            saved: None,
        }
    }

    /// Notes what is read. These bytes an earlier process has read, and not said.
    pub(crate) fn noting(self, saved: &Arc<Saved>, relay: Option<Relay>, mut bytes: Vec<u8>) -> Self {
        if let Some(relay) = &relay {
            saved.read_relayed(self.kind.stream(), relay, &mut bytes);
        }
        Self { buffer: bytes, saved: Some((Arc::clone(saved), relay)), ..self }
    }

    /// Ends at the end of the stream; or when it is overdue (the process is draining, and the time is over)
    /// and nothing is written. Without a client the output is read all the same, so that a program which is
    /// being stopped does not hang in a write.
    pub(crate) async fn run(mut self, audience: &Audience, input: &Input, overdue: impl Future<Output = ()>) {
        tokio::pin!(overdue);
        let mut is_overdue = false;
        let mut left = self.kind.most_left();
        let mut decoder = Utf8Decoder::default();
        let mut client = Ok(());
        let mut more = ControlFlow::Continue(());
        if !self.buffer.is_empty() {
            client = self.deliver(&mut decoder, audience, client).await;
        }
        while more == ControlFlow::Continue(()) {
            if is_overdue {
                // A pause for others: a process outside of the run may flood a stream that has no reader any
                // more.
                tokio::task::yield_now().await;
                more = self.leftovers();
            } else {
                more = tokio::select! {
                    more = self.first_bytes() => match more {
                        ControlFlow::Continue(()) => self.gather(input).await,
                        ControlFlow::Break(()) => ControlFlow::Break(()),
                    },
                    () = &mut overdue => {
                        is_overdue = true;
                        self.leftovers()
                    }
                };
            }
            if is_overdue {
                left = left.saturating_sub(self.buffer.len());
                if left == 0 {
                    more = ControlFlow::Break(());
                }
            }
            let full = self.buffer.len() >= MAX_PIECE;
            client = self.deliver(&mut decoder, audience, client).await;
            if full && client.is_ok() {
                // A flood would read on, and the runtime keeps the connection's task, which it has just
                // woken, waiting on this thread until it stops (the slot of the last woken
                // task is not given to other threads). So the queue would fill up in front of
                // other programs' words.
                client = audience.flushed().await;
            }
        }
        let read = decoder.pending();
        let rest = decoder.finish();
        if client.is_ok() && !rest.is_empty() {
            // A client that is gone by now misses nothing it could still get.
            let (Ok(()) | Err(Disconnected)) = audience.output(self.kind.stream(), read, &rest).await;
        }
    }

    async fn deliver(
        &mut self,
        decoder: &mut Utf8Decoder,
        audience: &Audience,
        client: Result<(), Disconnected>,
    ) -> Result<(), Disconnected> {
        let read = decoder.pending() + self.buffer.len();
        let text = decoder.decode(&self.buffer);
        let read = read - decoder.pending();
        let client = match client {
            Ok(()) if !text.is_empty() => audience.output(self.kind.stream(), read, &text).await,
            unchanged => unchanged,
        };
        drop(text);
        self.buffer.clear();
        client
    }

    /// Waits for the first bytes.
    async fn first_bytes(&mut self) -> ControlFlow<()> {
        make_room(&mut self.buffer);
        let Self { kind, stream, buffer, saved, .. } = self;
        let take = |from: BorrowedFd<'_>, buffer: &mut _| take(*kind, from, saved.as_ref(), buffer);
        more(stream.read(buffer, take, |length, room| kind.drained(length, room)).await)
    }

    /// Takes what is there, and waits a moment for what belongs to it.
    async fn gather(&mut self, input: &Input) -> ControlFlow<()> {
        let before = std::mem::replace(&mut self.inputs_before, input.given());
        let had_input = self.inputs_before != before;
        let latest = Instant::now() + MAX_GATHER;
        self.open_lines.more_came(input.given());
        loop {
            if self.take_available() == ControlFlow::Break(()) {
                return ControlFlow::Break(());
            }
            if self.buffer.len() >= MAX_PIECE {
                return ControlFlow::Continue(());
            }
            let is_open = !self.buffer.ends_with(b"\n");
            let Some(patience) = self.kind.patience(&self.buffer, self.open_lines.stay_open, had_input)
            else {
                self.open_lines.sent(input.given());
                return ControlFlow::Continue(());
            };
            let until = latest.min(Instant::now() + patience);
            let came = tokio::select! {
                more = self.first_bytes() => more,
                () = sleep_until(until) => {
                    // A frontend that was waiting for a processor itself knows of no silence.
                    let length = self.buffer.len();
                    let more = self.take_available();
                    self.open_lines.stay_open |= is_open && self.buffer.len() == length;
                    return more;
                }
            };
            if came == ControlFlow::Break(()) {
                return ControlFlow::Break(());
            }
        }
    }

    /// Reads without waiting until nothing is known to be there or the piece is full.
    fn take_available(&mut self) -> ControlFlow<()> {
        self.take_while(false)
    }

    /// The same, or, if it is the rest, until nothing is there.
    fn take_while(&mut self, is_rest: bool) -> ControlFlow<()> {
        while self.buffer.len() < MAX_PIECE {
            make_room(&mut self.buffer);
            let Self { kind, stream, buffer, saved, .. } = self;
            let take = |from: BorrowedFd<'_>, buffer: &mut _| take(*kind, from, saved.as_ref(), buffer);
            let drained = |length, room| kind.drained(length, room);
            let result = if is_rest {
                stream.read_rest(buffer, take, drained)
            } else {
                stream.try_read(buffer, take, drained)
            };
            let emptied = matches!(result, Ok(Read::Drained));
            if more(result) == ControlFlow::Break(()) {
                return ControlFlow::Break(());
            }
            if emptied {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// After the limit: the last piece, and then another, until nothing is there.
    fn leftovers(&mut self) -> ControlFlow<()> {
        let more = self.take_while(true);
        if self.buffer.is_empty() { ControlFlow::Break(()) } else { more }
    }
}

/// One read, which is noted if the program is kept.
fn take(
    kind: OutputKind,
    from: BorrowedFd<'_>,
    saved: Option<&(Arc<Saved>, Option<Relay>)>,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<usize> {
    match saved {
        Some((saved, relay)) => saved.read(kind.stream(), from, relay.as_ref(), buffer),
        None => stream::take(from, buffer),
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Reservation for the next read.
fn make_room(buffer: &mut Vec<u8>) {
    if buffer.len() == buffer.capacity() {
        let room = if buffer.capacity() == 0 { FIRST_BUFFER } else { buffer.capacity() };
        buffer.reserve_exact(room.min(MAX_PIECE.saturating_sub(buffer.len())).max(1));
    }
}

fn more(found: io::Result<Read>) -> ControlFlow<()> {
    match found {
        Ok(Read::Eof) => ControlFlow::Break(()),
        Ok(Read::More | Read::Drained) => ControlFlow::Continue(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => ControlFlow::Continue(()),
        Err(error) => {
            tracing::warn!("cannot read a program's output: {error}");
            ControlFlow::Break(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_drained_there_is_where_that_is_sure() {
        assert!(OutputKind::Terminal.drained(1, 4096));
        assert!(!OutputKind::Terminal.drained(1, 1));
        assert!(!OutputKind::Terminal.drained(4095, MAX_PIECE));
        assert!(!OutputKind::Stdout.drained(1, MAX_PIECE));
        assert!(!OutputKind::Stderr.drained(20_000, MAX_PIECE));
    }

    #[test]
    fn a_keystroke_does_not_wait_and_a_line_does() {
        let waits = |kind: OutputKind, gathered: &[u8]| kind.patience(gathered, false, true).is_some();
        assert!(!waits(OutputKind::Terminal, b"a"));
        assert!(!waits(OutputKind::Terminal, b"$ "));
        assert!(waits(OutputKind::Terminal, b"echo\r\n"));
        assert!(waits(OutputKind::Terminal, b"echo\r\n$ "));
        assert!(waits(OutputKind::Stdout, b"hi"));
        assert!(waits(OutputKind::Stderr, b"Traceback"));
        assert_eq!(OutputKind::Stdout.patience(b"? ", true, true), None);
        assert!(OutputKind::Stdout.patience(b"hi\n", true, true).is_some());
    }

    #[test]
    fn a_terminal_waits_for_long_only_for_an_answer() {
        let patience = |had_input| OutputKind::Terminal.patience(b"line\r\n", false, had_input);
        assert_eq!((patience(true), patience(false)), (Some(ANSWER_PATIENCE), Some(LINES_PATIENCE)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_whose_end_comes_after_it_was_sent_teaches_to_wait_again() {
        let mut lines = OpenLines { stay_open: true, sent: None };
        // An answer to an input, and a line much later, are no ends of the one before.
        lines.sent(1);
        lines.more_came(2);
        assert!(lines.stay_open);
        lines.sent(2);
        tokio::time::advance(LINE_PATIENCE).await;
        lines.more_came(2);
        assert!(lines.stay_open);
        lines.sent(2);
        lines.more_came(2);
        assert!(!lines.stay_open);
    }
}
