//! What of a kept program is left for the next process of this service: everything that happens to it is
//! written into a journal before it counts, and the journal and the program's descriptors lie in the service
//! manager's store. So nothing has to be saved when this process ends, however it ends.
//!
//! From time to time a block with all that holds now is written, and what stands before it can go.

mod bytes;
mod kind;
mod now;
mod reader;

pub(crate) use bytes::SavedScreen;
pub(crate) use now::Connection;
pub(crate) use reader::Said;

use std::{
    collections::{BTreeMap, VecDeque},
    io, mem,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use further_link_api::{EndReason, Outcome, OutputStream};
use further_link_proto::{Ended, WindowSize};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};
use tracing::{debug, warn};

use crate::{
    helper::stream::take,
    lifecycle::store::{Store, Stored},
    transcript::journal::{Journal, JournalError, for_each, nest},
    transcript::saved::bytes::{exit_bytes, input_bytes, json, large, saved_screen, size_bytes, small},
    transcript::saved::now::{Now, consume, of, of_mut},
    transcript::saved::reader::Reader,
};

/// The names of descriptors of kept programs begin so: `kept-SESSION-ROLE`.
pub(crate) const PREFIX: &str = "kept-";
/// The role of the journal.
pub(crate) const STATE: &str = "state";
/// A block is written when so much was written since the last one.
const STEP: u64 = 256 * 1024;

/// Most bytes that wait in a relay: what a pipe holds (pipe(7)).
const RELAYED: usize = 64 * 1024;

/// What is left of a program for the next process.
pub(crate) struct Saved {
    store: Arc<Store>,
    session: String,
    inner: Mutex<Inner>,
}

struct Inner {
    journal: Journal,
    now: Now,
    /// The positions at which blocks were written, and their offsets.
    blocks: VecDeque<(u64, u64)>,
    /// The end of the journal behind the last block.
    checked: u64,
    /// Text before this position is not needed.
    until: u64,
    stored: Option<Stored>,
    is_broken: bool,
}

/// A pipe between a terminal and the journal, since the kernel moves only from or into pipes.
pub(crate) struct Relay {
    pub(crate) output: OwnedFd,
    pub(crate) input: OwnedFd,
}

/// What an earlier process has left of a program.
pub(crate) struct Restored {
    pub(crate) saved: Arc<Saved>,
    pub(crate) kept: Vec<u8>,
    /// Where the text begins, and the size of the terminal there.
    pub(crate) position: u64,
    pub(crate) size: Option<WindowSize>,
    pub(crate) said: Vec<Said>,
    pub(crate) screen: Option<SavedScreen>,
    /// What was read of standard output and of standard error, and not said.
    pub(crate) unsaid: [Vec<u8>; 2],
    pub(crate) input: u64,
    pub(crate) input_ended: bool,
    /// What the program has not taken of its input.
    pub(crate) unwritten: Vec<u8>,
    pub(crate) keys: Vec<String>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) picture: Option<String>,
    pub(crate) exit: Option<Ended>,
    pub(crate) ending: Option<EndReason>,
    pub(crate) ended: Option<Outcome>,
}

impl Saved {
    pub(crate) fn new(
        store: &Arc<Store>,
        session: &str,
        kept: Vec<u8>,
        size: Option<WindowSize>,
    ) -> io::Result<Self> {
        let mut inner = Inner::new(Journal::new()?, Now { kept, size, ..Now::default() });
        inner.block()?;
        Ok(Self { store: Arc::clone(store), session: session.to_owned(), inner: Mutex::new(inner) })
    }

    /// Takes up what another process has left.
    pub(crate) fn restore(
        store: &Arc<Store>,
        session: &str,
        journal: OwnedFd,
    ) -> Result<Restored, JournalError> {
        let mut reader = Reader::default();
        let journal = Journal::open(journal, |record| reader.read(record))?;
        let Reader { now, said, unsaid, blocks, first } = reader;
        let (position, size) = first.ok_or(JournalError::Damaged)?;
        let mut inner = Inner::new(journal, now);
        inner.blocks = blocks;
        let screen = inner.now.screen.as_ref().map(|place| inner.journal.read(place)).transpose()?;
        let screen = screen.map(|bytes| saved_screen(&bytes).ok_or(JournalError::Damaged)).transpose()?;
        inner.until = screen.as_ref().map_or(position, |screen| screen.position);
        let unwritten = inner.read_all(&inner.now.unwritten)?;
        let kept = inner.now.kept.clone();
        let (input, input_ended) = (inner.now.input, inner.now.input_ended);
        let keys = inner.now.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        let connections = mem::take(&mut inner.now.connections);
        for (number, Connection { keys, .. }) in &connections {
            let of_now = Connection { keys: keys.clone(), left: None };
            inner.now.connections.insert(*number, of_now);
        }
        let picture = inner.now.picture.take().and_then(|picture| String::from_utf8(picture).ok());
        inner.journal.append(kind::TAKEN, &[])?;
        inner.stored = Some(store.holds(name(session, STATE)));
        let (exit, ending, ended) = (inner.now.exit, inner.now.ending, inner.now.ended);
        let saved = Self { store: Arc::clone(store), session: session.to_owned(), inner: Mutex::new(inner) };
        Ok(Restored {
            saved: Arc::new(saved),
            kept,
            position,
            size,
            said,
            screen,
            unsaid,
            input,
            input_ended,
            unwritten,
            keys,
            connections,
            picture,
            exit,
            ending,
            ended,
        })
    }

    /// Puts the journal into the store: from now on the program may outlive this process.
    pub(crate) fn put_state(&self) -> bool {
        let mut inner = self.lock();
        match self.store.put(name(&self.session, STATE), inner.journal.as_fd()) {
            Ok(stored) => inner.stored = Some(stored),
            Err(error) => inner.give_up(&self.session, &error),
        }
        !inner.is_broken
    }

    /// Puts a descriptor of the program into the store.
    pub(crate) fn put(&self, role: &str, descriptor: BorrowedFd<'_>) -> Option<Stored> {
        match self.store.put(name(&self.session, role), descriptor) {
            Ok(stored) => Some(stored),
            Err(error) => {
                self.lock().give_up(&self.session, &error);
                None
            }
        }
    }

    /// The same for one without which the program can go on: only as long as there is much room.
    pub(crate) fn put_if_easy(&self, role: &str, descriptor: BorrowedFd<'_>) -> Option<Stored> {
        if !self.is_stored() || !self.store.has_much_room() {
            return None;
        }
        let stored = self.store.put(name(&self.session, role), descriptor);
        stored.inspect_err(|error| debug!("session {}: {role}: {error}", self.session)).ok()
    }

    /// A descriptor of the program that was in the store before this process.
    pub(crate) fn holds(&self, role: &str) -> Stored {
        self.store.holds(name(&self.session, role))
    }

    /// No client asks for it any more.
    pub(crate) fn forget(&self) {
        self.lock().stored = None;
    }

    /// Whether the next process can take the program up.
    pub(crate) fn is_stored(&self) -> bool {
        let inner = self.lock();
        inner.stored.is_some() && !inner.is_broken
    }

    /// Waits until this process leaves the program to the next one.
    pub(crate) async fn left(&self) {
        if !self.is_stored() {
            // It ends with this process.
            std::future::pending::<()>().await;
        }
        self.store.left().await;
    }

    /// Notes what is known of the program beside its transcript.
    pub(crate) fn note(&self, kept: Vec<u8>) {
        self.write(|inner| {
            inner.journal.append(kind::KEPT, &[&kept])?;
            inner.now.kept = kept;
            inner.checkpoint_if_due()
        });
    }

    /// Reads into the free room of the buffer what a stream has: nothing can cut it off between reading and
    /// noting. A terminal's output goes through a pipe, which is in the store as well.
    pub(crate) fn read(
        &self,
        kind: OutputStream,
        stream: BorrowedFd<'_>,
        relay: Option<&Relay>,
        buffer: &mut Vec<u8>,
    ) -> rustix::io::Result<usize> {
        let mut inner = self.lock();
        let room = buffer.capacity() - buffer.len();
        let moved = match relay {
            _ if inner.is_broken => Err(Errno::INVAL),
            None => inner.take(kind, stream, room, buffer),
            Some(relay) => relay.fill(stream, room).and_then(|count| match count {
                0 => Ok(0),
                _ => inner.take(kind, relay.output.as_fd(), count, buffer),
            }),
        };
        match moved {
            // An old kernel cannot move what a terminal has; and no kernel, when the memory is full.
            Err(error @ (Errno::INVAL | Errno::NOSPC | Errno::FBIG)) => {
                if error != Errno::INVAL {
                    inner.give_up(&self.session, &error);
                }
                drop(inner);
                let before = buffer.len();
                // What lies in the relay comes first.
                let relayed = relay.map_or(Ok(0), |relay| take(relay.output.as_fd(), buffer));
                let count = if let Ok(count @ 1..) = relayed { count } else { take(stream, buffer)? };
                self.note_read(kind, buffer.get(before..).unwrap_or_default());
                Ok(count)
            }
            moved => moved,
        }
    }

    /// Reads what an earlier process had moved into the pipe, and not yet into the journal.
    pub(crate) fn read_relayed(&self, kind: OutputStream, relay: &Relay, buffer: &mut Vec<u8>) {
        self.write(|inner| match inner.take(kind, relay.output.as_fd(), RELAYED, buffer) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        });
    }

    /// Notes bytes that were read of a stream.
    fn note_read(&self, stream: OutputStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.write(|inner| {
            let place = inner.journal.append(*of(stream, &kind::READ), &[bytes])?;
            of_mut(stream, &mut inner.now.unsaid).push_back(place);
            Ok(())
        });
    }

    /// Notes that this text is said: of so many bytes that were read, or of none. Whether a block is due.
    pub(crate) fn said(&self, stream: OutputStream, read: usize, text: &str) -> bool {
        self.write(|inner| {
            if read == 0 {
                inner.journal.append(*of(stream, &kind::WORDS), &[text.as_bytes()])?;
            } else {
                let lengths = [small(read)?, small(text.len())?];
                let [read, length] = lengths.map(u32::to_le_bytes);
                inner.journal.append(*of(stream, &kind::SAID), &[&read, &length])?;
            }
            consume(of_mut(stream, &mut inner.now.unsaid), large(read));
            inner.now.position += large(text.len());
            Ok(inner.is_due())
        })
        .unwrap_or(false)
    }

    /// Writes a block, and lets go of text before this position: what the terminal shows is in the screen.
    pub(crate) fn checkpoint(&self, screen: Option<&SavedScreen>, until: u64) {
        self.write(|inner| {
            inner.until = until;
            inner.checkpoint(screen)
        });
    }

    pub(crate) fn resized(&self, size: WindowSize) {
        self.write(|inner| {
            inner.journal.append(kind::SIZE, &[&size_bytes(size)])?;
            inner.now.size = Some(size);
            inner.checkpoint_if_due()
        });
    }

    /// Notes an input that was taken, before its sender hears of it.
    pub(crate) fn input(&self, number: Option<u64>, is_last: bool, text: &[u8]) {
        self.write(|inner| {
            let number = number.unwrap_or(inner.now.input);
            let head = input_bytes(number, is_last);
            let place = inner.journal.append(kind::INPUT, &[&head, text])?;
            inner.now.input(number, is_last, place.start + large(head.len())..place.end);
            Ok(())
        });
    }

    /// Notes that the program has taken so many bytes of its input.
    pub(crate) fn written(&self, bytes: usize) {
        self.write(|inner| {
            inner.journal.append(kind::WRITTEN, &[&small(bytes)?.to_le_bytes()])?;
            consume(&mut inner.now.unwritten, large(bytes));
            inner.checkpoint_if_due()
        });
    }

    /// Notes a key that clients are told of.
    pub(crate) fn key(&self, key: &str) {
        self.write(|inner| {
            inner.journal.append(kind::KEY, &[key.as_bytes()])?;
            inner.now.keys.push(key.as_bytes().to_vec());
            Ok(())
        });
    }

    /// Notes that a connection to the user channel listens for a key.
    pub(crate) fn listens(&self, connection: u64, key: &str) {
        self.write(|inner| {
            if inner.now.connections.get(&connection).is_some_and(|known| known.keys.iter().any(|k| k == key))
            {
                return Ok(());
            }
            inner.journal.append(kind::LISTEN, &[&connection.to_le_bytes(), key.as_bytes()])?;
            inner.now.connections.entry(connection).or_default().keys.push(key.to_owned());
            inner.checkpoint_if_due()
        });
    }

    /// Notes what this process leaves of a connection.
    pub(crate) fn leaves(&self, connection: u64, unread: &[u8], unwritten: &[u8]) {
        self.write(|inner| {
            let number = connection.to_le_bytes();
            inner.journal.append(kind::UNREAD, &[&number, unread])?;
            inner.journal.append(kind::UNWRITTEN, &[&number, unwritten])?;
            Ok(())
        });
    }

    /// Notes that a connection has gone.
    pub(crate) fn gone(&self, connection: u64) {
        self.write(|inner| {
            if inner.now.connections.remove(&connection).is_some() {
                inner.journal.append(kind::GONE, &[&connection.to_le_bytes()])?;
            }
            inner.checkpoint_if_due()
        });
    }

    /// Notes the last picture, which only this process has.
    pub(crate) fn picture(&self, picture: &str) {
        self.write(|inner| inner.journal.append(kind::PICTURE, &[picture.as_bytes()]).map(|_| ()));
    }

    /// Notes how the program has ended, while its output is still being read.
    pub(crate) fn exited(&self, exit: Ended) {
        self.write(|inner| {
            inner.journal.append(kind::EXIT, &[&exit_bytes(exit)])?;
            inner.now.exit = Some(exit);
            Ok(())
        });
    }

    /// Notes why the program is being ended.
    pub(crate) fn ending(&self, reason: EndReason) {
        self.write(|inner| {
            inner.journal.append(kind::ENDING, &[&json(&reason)])?;
            inner.now.ending = Some(reason);
            Ok(())
        });
    }

    /// Notes the end.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.write(|inner| {
            inner.journal.append(kind::ENDED, &[&json(&outcome)])?;
            inner.now.ended = Some(outcome);
            Ok(())
        });
    }

    fn write<T>(&self, write: impl FnOnce(&mut Inner) -> io::Result<T>) -> Option<T> {
        let mut inner = self.lock();
        if inner.is_broken {
            return None;
        }
        write(&mut inner).inspect_err(|error| inner.give_up(&self.session, error)).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    pub(crate) fn new() -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { output, input })
    }

    /// Moves what a stream has into it.
    fn fill(&self, stream: BorrowedFd<'_>, most: usize) -> rustix::io::Result<usize> {
        splice(stream, None, &self.input, None, most.min(RELAYED), SpliceFlags::NONBLOCK)
    }
}

impl Inner {
    fn new(journal: Journal, now: Now) -> Self {
        let checked = journal.end();
        let blocks = VecDeque::new();
        Self { journal, now, blocks, checked, until: 0, stored: None, is_broken: false }
    }

    fn give_up(&mut self, session: &str, error: &dyn std::fmt::Display) {
        if mem::replace(&mut self.is_broken, true) {
            return;
        }
        warn!("session {session}: it will end when this service is started again: {error}");
        if let Err(error) = self.journal.spoil() {
            warn!("session {session}: {error}");
        }
    }

    /// Moves what a stream has into the journal, and gives a copy.
    fn take(
        &mut self,
        kind: OutputStream,
        stream: BorrowedFd<'_>,
        most: usize,
        buffer: &mut Vec<u8>,
    ) -> rustix::io::Result<usize> {
        let place = self.journal.append_from(*of(kind, &kind::READ), stream, most)?;
        if place.is_empty() {
            return Ok(0);
        }
        let before = buffer.len();
        self.journal.read_into(buffer, &place).map_err(|_| Errno::NOSPC)?;
        of_mut(kind, &mut self.now.unsaid).push_back(place);
        Ok(buffer.len() - before)
    }

    fn is_due(&self) -> bool {
        self.journal.end() - self.checked > STEP
    }

    fn checkpoint_if_due(&mut self) -> io::Result<()> {
        if self.is_due() { self.checkpoint(None) } else { Ok(()) }
    }

    /// Writes a block. The screen comes behind it, since it is one of a position before it.
    fn checkpoint(&mut self, screen: Option<&SavedScreen>) -> io::Result<()> {
        self.block()?;
        if let Some(screen) = screen {
            let position = screen.position.to_le_bytes();
            let parts = [&position[..], &size_bytes(screen.size), screen.text.as_bytes()];
            self.now.screen = Some(self.journal.append(kind::SCREEN, &parts)?);
        } else if let Some(place) = &self.now.screen {
            let screen = self.journal.read(place)?;
            self.now.screen = Some(self.journal.append(kind::SCREEN, &[&screen])?);
        }
        self.checked = self.journal.end();
        let needed = self.blocks.partition_point(|(position, _)| *position <= self.until);
        self.blocks.drain(..needed.saturating_sub(1));
        match self.blocks.front() {
            Some((position, offset)) if *position <= self.until => self.journal.start_at(*offset),
            _ => Ok(()),
        }
    }

    fn block(&mut self) -> io::Result<()> {
        let mut block = Vec::new();
        let now = &self.now;
        let mut add = |kind, content: &[u8]| nest(&mut block, kind, content);
        add(kind::KEPT, &now.kept)?;
        add(kind::POSITION, &now.position.to_le_bytes())?;
        if let Some(size) = now.size {
            add(kind::SIZE, &size_bytes(size))?;
        }
        for (kind, places) in kind::READ.iter().zip(&now.unsaid) {
            add(*kind, &self.read_all(places)?)?;
        }
        let head = input_bytes(now.input, now.input_ended);
        add(kind::INPUT, &[&head, &self.read_all(&now.unwritten)?[..]].concat())?;
        for key in &now.keys {
            add(kind::KEY, key)?;
        }
        for (number, connection) in &now.connections {
            for key in &connection.keys {
                add(kind::LISTEN, &[&number.to_le_bytes(), key.as_bytes()].concat())?;
            }
        }
        if let Some(exit) = now.exit {
            add(kind::EXIT, &exit_bytes(exit))?;
        }
        if let Some(reason) = now.ending {
            add(kind::ENDING, &json(&reason))?;
        }
        if let Some(outcome) = now.ended {
            add(kind::ENDED, &json(&outcome))?;
        }
        let offset = self.journal.end();
        let place = self.journal.append(kind::BLOCK, &[&block])?;
        // What is still needed lies in the block now.
        let mut places = Reader::default();
        let read = for_each(&block, place.start, &mut |record| places.record(record));
        read.map_err(io::Error::other)?;
        self.now.unsaid = places.now.unsaid;
        self.now.unwritten = places.now.unwritten;
        self.blocks.push_back((self.now.position, offset));
        Ok(())
    }

    fn read_all(&self, places: &VecDeque<Range<u64>>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for place in places {
            all.append(&mut self.journal.read(place)?);
        }
        Ok(all)
    }
}

fn name(session: &str, role: &str) -> String {
    format!("{PREFIX}{session}-{role}")
}

/// Takes a descriptor out of the store that an earlier process has put there.
pub(crate) fn take_out(store: &Arc<Store>, session: &str, role: &str) {
    drop(store.holds(name(session, role)));
}

/// The session and the role in the name of a descriptor.
pub(crate) fn session_and_role(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PREFIX)?.rsplit_once('-')
}

#[cfg(test)]
mod tests;
