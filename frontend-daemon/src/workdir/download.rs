//! What a client downloads, piece by piece: a regular file by the descriptor that the helper has opened, or
//! the pipe of an archive.
//!
//! A task reads ahead by one piece. A client that takes nothing for a while is given up, and what is not
//! complete ends in an error, so that no client takes a part for the whole.

use std::{
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use further_link_proto::{Event, FileVersion};
use futures_util::Stream;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    helper::pool::Conversation,
    helper::sending::within,
    helper::stream::{self, Read, take},
};

/// Read at once: of a file's pages a few dozen.
const PIECE: usize = 128 * 1024;
/// Longest time in which a client takes nothing: a Wi-Fi that is gone for a moment comes back in it.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest time of what holds a helper. A minute less than that has (`RuntimeMaxSec=`).
pub(crate) const LONGEST: Duration = Duration::from_mins(14);

/// A directory that comes as an archive.
pub(crate) struct Archive {
    pipe: stream::Stream,
    end: End,
}

/// Knows whether all has come.
pub(super) struct End {
    conversation: Conversation,
    #[expect(dead_code, reason = "held until it is dropped")]
    slot: OwnedSemaphorePermit,
}

impl End {
    pub(super) fn new(conversation: Conversation, slot: OwnedSemaphorePermit) -> Self {
        Self { conversation, slot }
    }

    /// Whether the helper has written all into the pipe, which has come to its end.
    pub(super) async fn is_complete(&self) -> bool {
        matches!(within(self.conversation.recv()).await, Ok((Event::Done, _)))
    }
}

/// A file that is open for reading.
pub(crate) struct Download {
    file: File,
    version: FileVersion,
    slot: OwnedSemaphorePermit,
}

impl Download {
    /// The helper says that it is a regular file; any other could make a read wait for ever.
    pub(super) fn new(descriptor: OwnedFd, slot: OwnedSemaphorePermit) -> io::Result<Self> {
        let file = File::from(descriptor);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("the helper has opened no file"));
        }
        let version = FileVersion {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            seconds: found.mtime(),
            nanoseconds: u32::try_from(found.mtime_nsec()).unwrap_or_default(),
        };
        Ok(Self { file, version, slot })
    }

    pub(crate) fn version(&self) -> &FileVersion {
        &self.version
    }

    /// So many bytes from there on. A file that has fewer by now ends in an error.
    pub(crate) fn pieces(
        self,
        from: u64,
        length: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
        pump(move |pieces| async move {
            let Self { file, slot, .. } = self;
            let file = Arc::new(file);
            let (mut at, mut left) = (from, length);
            while left > 0 {
                let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                let file = Arc::clone(&file);
                let read = spawn_blocking(move || {
                    let mut buffer = vec![0; most];
                    let length = file.read_at(&mut buffer, at)?;
                    buffer.truncate(length);
                    Ok::<_, io::Error>(buffer)
                });
                let Ok(Ok(piece)) = read.await else { return };
                if piece.is_empty() {
                    return;
                }
                let taken = u64::try_from(piece.len()).unwrap_or_default();
                (at, left) = (at + taken, left - taken);
                if !pieces.send(Some(piece.into())).await {
                    return;
                }
            }
            pieces.send(None).await;
            drop(slot);
        })
    }
}

impl Archive {
    pub(super) fn new(pipe: stream::Stream, end: End) -> Self {
        Self { pipe, end }
    }

    /// All of it.
    pub(crate) fn pieces(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
        pump(|pieces| async move {
            let Self { pipe, end } = self;
            let all = async {
                loop {
                    let mut buffer = Vec::with_capacity(PIECE);
                    match pipe.read(&mut buffer, take, |length, room| length < room).await {
                        Err(_) => return,
                        Ok(Read::Eof) => break,
                        Ok(Read::More | Read::Drained) => {}
                    }
                    if !buffer.is_empty() && !pieces.send(Some(buffer.into())).await {
                        return;
                    }
                }
                if end.is_complete().await {
                    pieces.send(None).await;
                }
            };
            let (Ok(()) | Err(_)) = timeout(LONGEST, all).await;
        })
    }
}

/// Where pieces go; none is the end.
struct Pieces(mpsc::Sender<Option<Bytes>>);

impl Pieces {
    /// False if the client has gone, or takes nothing.
    async fn send(&self, piece: Option<Bytes>) -> bool {
        matches!(timeout(SILENCE_TIMEOUT, self.0.send(piece)).await, Ok(Ok(())))
    }
}

/// The pieces that a task sends.
fn pump<F: Future<Output = ()> + Send + 'static>(
    send: impl FnOnce(Pieces) -> F,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
    let (sender, mut pieces) = mpsc::channel(1);
    tokio::spawn(send(Pieces(sender)));
    let mut ended = false;
    futures_util::stream::poll_fn(move |context| {
        if ended {
            return std::task::Poll::Ready(None);
        }
        pieces.poll_recv(context).map(|piece| match piece {
            Some(Some(piece)) => Some(Ok(piece)),
            Some(None) => {
                ended = true;
                None
            }
            None => {
                ended = true;
                Some(Err(io::Error::other("the file, or its client, has stopped")))
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_file_comes_whole_and_one_that_gets_shorter_ends_in_an_error() {
        let path = std::env::temp_dir().join(format!("further-link-download.{}", std::process::id()));
        let content: Vec<u8> = (0..3 * PIECE + 7).map(|number| u8::try_from(number % 251).unwrap()).collect();
        std::fs::write(&path, &content).unwrap();
        let slots = Arc::new(Semaphore::new(2));
        let open = || {
            let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
            Download::new(File::open(&path).unwrap().into(), slot).unwrap()
        };
        let size = u64::try_from(content.len()).unwrap();
        let pieces: Vec<_> = open().pieces(5, size - 5).collect().await;
        let whole: Vec<u8> = pieces.into_iter().flat_map(Result::unwrap).collect();
        assert!(whole == content[5..]);
        let pieces: Vec<_> = open().pieces(0, size + 1).collect().await;
        assert!(pieces.last().unwrap().is_err(), "one byte is missing");
        let shut = Download::new(
            File::open("/dev/null").unwrap().into(),
            Arc::clone(&slots).acquire_owned().await.unwrap(),
        );
        assert!(shut.is_err(), "a device is no file");
        std::fs::remove_file(path).unwrap();
    }
}
