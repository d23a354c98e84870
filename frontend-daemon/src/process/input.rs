//! What the client types, on its way to the program's standard input: a bounded queue, so that a program
//! which does not read stops neither the connection nor the daemon (D27).
//!
//! While the program reads, a full queue makes the client wait. When it has not read for a while, what does
//! not fit is refused with an error, so that ping and stop behind it are heard.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use further_link_api::{BadMessage, ClientError};
use tokio::{sync::Notify, time::timeout};

use crate::{
    helper::stream::Stream,
    lifecycle::store::Stored,
    memory::budget::{Budget, Reservation},
    transcript::saved::Saved,
};

/// Most bytes that wait for a program: four of the largest messages (B3.2).
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// What may wait for a program without taking room of all programs' budget: keys must be heard, whatever
/// others do.
const FREE: usize = 64 * 1024;
/// What a piece costs beside its bytes, about: without it a million single letters would count as one
/// megabyte.
const PIECE_COST: usize = 64;
/// A program that takes nothing for so long is not reading.
const PATIENCE: Duration = Duration::from_millis(500);
/// And one that reads, but slowly, makes its client wait so long for one input.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Why an input was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The program does not read and its queue is full, or that of all programs together is.
    NotRead,
    /// The end of input was there before.
    Ended,
}

impl From<NotTaken> for ClientError {
    fn from(reason: NotTaken) -> Self {
        match reason {
            NotTaken::NotRead => Self::MessageException,
            NotTaken::Ended => BadMessage::InputEnded.into(),
        }
    }
}

/// The queue, shared by the session that fills it and the process that empties it.
pub(crate) struct Input {
    budget: Budget,
    /// Of a kept program: what is taken is noted there first, and what is written.
    saved: Option<Arc<Saved>>,
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    /// Set after a wait in vain, cleared when the program reads: the next input is refused without another
    /// wait.
    stuck: AtomicBool,
    /// How many pieces the program was given.
    given: AtomicU64,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// What all pieces cost.
    bytes: usize,
    /// Nothing comes after the pieces.
    ended: bool,
}

struct Piece {
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
    /// Until all of it is written.
    _room: Option<Reservation>,
}

impl Queue {
    /// Queues the input if there is room for it, for each of so many copies.
    fn take(&mut self, input: String, copies: usize, budget: &Budget) -> Result<(), String> {
        let cost = input.len() + PIECE_COST;
        // A single input always fits into an empty queue.
        if self.bytes > 0 && self.bytes + cost > MAX_WAITING {
            return Err(input);
        }
        let room = if self.bytes + cost <= FREE {
            None
        } else {
            let Some(room) = budget.try_take(cost * copies) else { return Err(input) };
            Some(room)
        };
        self.bytes += cost;
        self.pieces.push_back(Piece { bytes: input.into_bytes(), written: 0, _room: room });
        Ok(())
    }
}

impl Input {
    pub(crate) fn new(budget: Budget, saved: Option<Arc<Saved>>) -> Self {
        let (filled, emptied, stuck) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        let given = AtomicU64::new(0);
        Self { budget, saved, queue: Mutex::default(), filled, emptied, stuck, given }
    }

    /// One with what an earlier process has left in it.
    pub(crate) fn restored(budget: Budget, saved: Option<Arc<Saved>>, bytes: Vec<u8>, ended: bool) -> Self {
        let input = Self::new(budget, saved);
        {
            let mut queue = input.lock();
            queue.ended = ended;
            queue.bytes = bytes.len() + PIECE_COST;
            queue.pieces.push_back(Piece { bytes, written: 0, _room: None });
        }
        input
    }

    /// Queues one input, waiting for room as long as the program reads, and not for ever: ping and stop wait
    /// behind it.
    pub(crate) async fn push(
        &self,
        mut input: String,
        is_last: bool,
        number: Option<u64>,
    ) -> Result<(), NotTaken> {
        let end = Instant::now() + MAX_WAIT;
        loop {
            let room_came = self.emptied.notified();
            match self.take(input, is_last, number)? {
                None => {
                    self.filled.notify_one();
                    return Ok(());
                }
                Some(untaken) => input = untaken,
            }
            let patience = PATIENCE.min(end.saturating_duration_since(Instant::now()));
            if self.stuck.load(Ordering::Relaxed) || timeout(patience, room_came).await.is_err() {
                self.stuck.store(true, Ordering::Relaxed);
                return Err(NotTaken::NotRead);
            }
        }
    }

    /// Queues one input if there is room for it, else gives it back.
    fn take(&self, input: String, is_last: bool, number: Option<u64>) -> Result<Option<String>, NotTaken> {
        let mut queue = self.lock();
        if queue.ended {
            return Err(NotTaken::Ended);
        }
        let copies = if self.saved.is_some() { 2 } else { 1 };
        if let Err(untaken) = queue.take(input, copies, &self.budget) {
            return Ok(Some(untaken));
        }
        if let (Some(saved), Some(piece)) = (&self.saved, queue.pieces.back()) {
            saved.input(number, is_last, &piece.bytes);
        }
        queue.ended = is_last;
        Ok(None)
    }

    /// Feeds the program until this future is dropped. At the end of input it closes the stream, of which
    /// there may be a copy in the service manager's store.
    pub(crate) async fn feed(&self, stream: Arc<Stream>, stored: &mut Option<Stored>) -> Infallible {
        while let Some(mut piece) = self.next().await {
            // Before the program can answer.
            self.given.fetch_add(1, Ordering::Release);
            while let Some(rest @ [_, ..]) = piece.bytes.get(piece.written..) {
                // EPIPE, or EIO on a terminal: there is no reader any more. Later input is taken and thrown
                // away, as a terminal would.
                let written = stream.write(rest).await.unwrap_or(rest.len());
                piece.written += written;
                if let Some(saved) = &self.saved {
                    saved.written(written);
                }
                self.read(written);
            }
            drop(piece);
            self.read(PIECE_COST);
        }
        drop((stream, stored.take()));
        std::future::pending().await
    }

    /// How many pieces the program was given.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// The program has taken so much.
    fn read(&self, bytes: usize) {
        self.lock().bytes -= bytes;
        self.stuck.store(false, Ordering::Relaxed);
        self.emptied.notify_one();
    }

    /// The next piece, waiting for it. `None` at the end of input.
    async fn next(&self) -> Option<Piece> {
        loop {
            let filled = self.filled.notified();
            {
                let mut queue = self.lock();
                let piece = queue.pieces.pop_front();
                if piece.is_some() || queue.ended {
                    return piece;
                }
            }
            filled.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use tokio::io::Interest;

    #[tokio::test]
    async fn a_program_that_does_not_read_gets_what_fits_and_the_rest_is_refused() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stream = Arc::new(Stream::new(writer, Interest::WRITABLE).unwrap());
        let input = Arc::new(Input::new(Budget::new(2 * MAX_WAITING), None));
        let feeding = tokio::spawn({
            let input = Arc::clone(&input);
            async move { input.feed(stream, &mut None).await }
        });
        let piece = "x".repeat(1024 * 1024);
        let mut taken = 0;
        while input.push(piece.clone(), false, None).await.is_ok() {
            taken += piece.len();
        }
        assert!((MAX_WAITING..MAX_WAITING + 2 * piece.len()).contains(&taken), "{taken}");
        // The program reads at last: everything that was taken comes, and new input is taken again.
        let count = tokio::task::spawn_blocking(move || {
            let (mut count, mut buffer) = (0, vec![0; 65536]);
            while count < taken + 1 {
                count += rustix::io::read(&reader, &mut buffer).unwrap();
            }
            count
        });
        while input.push("y".to_owned(), false, None).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(count.await.unwrap(), taken + 1);
        feeding.abort();
    }

    #[tokio::test]
    async fn programs_that_do_not_read_share_one_budget_and_keys_get_through_all_the_same() {
        let budget = Budget::new(MAX_WAITING);
        let (one, other) = (Input::new(budget.clone(), None), Input::new(budget, None));
        let large = "x".repeat(1024 * 1024);
        while one.push(large.clone(), false, None).await.is_ok() {}
        assert!(other.push(large.clone(), false, None).await.is_err());
        for _ in 0..100 {
            other.push("\u{3}".to_owned(), false, None).await.unwrap();
        }
        drop(one);
        other.push(large, false, None).await.unwrap();
    }

    #[test]
    fn a_million_letters_cost_more_than_a_megabyte() {
        let (budget, mut queue) = (Budget::new(MAX_WAITING), Queue::default());
        let taken = (0..1_000_000).take_while(|_| queue.take("x".to_owned(), 1, &budget).is_ok()).count();
        assert!((1000..100_000).contains(&taken), "{taken}");
    }
}
