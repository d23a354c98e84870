//! What the client types, on its way to the program's standard input: a bounded queue, so that a program which does not
//! read stops neither the connection nor the daemon (D27).
//!
//! While the program reads, a full queue makes the client wait. When it has not read for a while, what does not fit is
//! refused with an error, so that ping and stop behind it are heard.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::stream::Stream;

/// Most bytes that wait for a program: four of the largest messages (B3.2).
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// A program that takes nothing for so long is not reading.
const PATIENCE: Duration = Duration::from_millis(500);

/// The program does not read and the queue is full: this input was not taken.
#[derive(Debug)]
pub(crate) struct NotRead;

/// The queue, shared by the session that fills it and the process that empties it.
#[derive(Default)]
pub(crate) struct Input {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    /// Set after a wait in vain, cleared when the program reads: the next input is refused without another wait.
    stuck: AtomicBool,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<String>,
    bytes: usize,
}

impl Input {
    /// Queues one input, waiting for room as long as the program reads.
    pub(crate) async fn push(&self, input: String) -> Result<(), NotRead> {
        loop {
            let room_came = self.emptied.notified();
            {
                let mut queue = self.lock();
                // A single input always fits into an empty queue.
                if queue.bytes == 0 || queue.bytes + input.len() <= MAX_WAITING {
                    queue.bytes += input.len();
                    queue.pieces.push_back(input);
                    self.filled.notify_one();
                    return Ok(());
                }
            }
            if self.stuck.load(Ordering::Relaxed) || timeout(PATIENCE, room_came).await.is_err() {
                self.stuck.store(true, Ordering::Relaxed);
                return Err(NotRead);
            }
        }
    }

    /// Feeds the program until this future is dropped.
    pub(crate) async fn feed(&self, stream: Arc<Stream>) -> Infallible {
        loop {
            let piece = self.next().await;
            let mut rest = piece.as_bytes();
            while !rest.is_empty() {
                // EPIPE, or EIO on a terminal: nobody will ever read again. Later input is taken and thrown away, as a
                // terminal would.
                let written = stream.write(rest).await.unwrap_or(rest.len());
                rest = rest.get(written..).unwrap_or_default();
                self.lock().bytes -= written;
                self.stuck.store(false, Ordering::Relaxed);
                self.emptied.notify_one();
            }
        }
    }

    async fn next(&self) -> String {
        loop {
            let filled = self.filled.notified();
            if let Some(piece) = self.lock().pieces.pop_front() {
                return piece;
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
        let input = Arc::new(Input::default());
        let feeding = tokio::spawn({
            let input = Arc::clone(&input);
            async move { input.feed(stream).await }
        });
        let piece = "x".repeat(1024 * 1024);
        let mut taken = 0;
        while input.push(piece.clone()).await.is_ok() {
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
        while input.push("y".to_owned()).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(count.await.unwrap(), taken + 1);
        feeding.abort();
    }
}
