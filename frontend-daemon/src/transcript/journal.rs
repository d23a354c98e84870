//! A file without a name in memory (`/dev/shm`), in which records follow one another. It is for the next
//! process of this service, which gets it from the service manager: whatever kills this process, each record
//! is in it as a whole or not at all. What a stream has is moved into it by the kernel (splice(2)), so that
//! it is in the stream or in the file at any moment.
//!
//! The file is written at its end only. What is old is given back at its beginning, and the offsets go on
//! rising. Not `memfd_create`: such a file could be executed, and the unit forbids it.

use std::{
    io::{self, IoSlice},
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{FallocateFlags, Mode, OFlags},
    io::Errno,
    pipe::{SpliceFlags, splice},
};

/// Where the file is made: the only memory that the unit lets be written. No other process sees it.
const PLACE: &str = "/dev/shm";
/// The first bytes, and the version of what follows them. A file of another version is not read.
const MAGIC: [u8; 8] = *b"fl-kept\0";
pub(super) const VERSION: u32 = 1;
/// Where the version stands, and the offset of the oldest record that counts.
const VERSION_AT: u64 = 8;
const START_AT: u64 = 16;
/// Where records begin.
const FIRST: u64 = 4096;
/// The size of a page: the kernel gives back whole ones. The largest that counts, a Raspberry Pi 5's: in
/// steps of 4 KiB none of its pages would ever be given back.
const PAGE: u64 = 16 * 1024;
/// What a record has beside its content: length and kind before it, and the length once more behind it. It
/// is written in this order, and what was never written is 0.
const BEFORE: usize = 5;
const BEHIND: usize = 4;
/// A length is never the same as what stands behind it in an empty file.
const MARK: u32 = 0x5a5a_5a5a;
/// This bit of a length says that nothing stands behind the content, which was moved. Its length is written
/// last; until then all bits are set, and the content ends with the file.
const MOVED: u32 = 0x8000_0000;
const OPEN: u32 = u32::MAX;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("its state is not one of this program")]
    Foreign,
    #[error("its state has the form of version {0}, and this program knows version {VERSION}")]
    Version(u32),
    #[error("its state is damaged")]
    Damaged,
    #[error("its state cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for JournalError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Such a file.
pub(super) struct Journal {
    file: OwnedFd,
    /// Offset of the oldest record that counts, and of the next one.
    start: u64,
    end: u64,
}

/// A record, and where its content lies in the file.
pub(super) struct Record<'a> {
    pub(super) kind: u8,
    pub(super) content: &'a [u8],
    pub(super) place: Range<u64>,
}

impl Journal {
    pub(super) fn new() -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(PLACE, flags, Mode::RUSR | Mode::WUSR)?;
        let journal = Self { file, start: FIRST, end: FIRST };
        journal.write_at(0, &[&MAGIC, &VERSION.to_le_bytes(), &[0; 4], &FIRST.to_le_bytes()])?;
        Ok(journal)
    }

    /// Reads one of an earlier process. A record that was not written to its end is none.
    pub(super) fn open(
        file: OwnedFd,
        mut each: impl FnMut(&Record<'_>) -> Result<(), JournalError>,
    ) -> Result<Self, JournalError> {
        let mut head = [0; 24];
        read_at(&file, 0, &mut head)?;
        if head.first_chunk() != Some(&MAGIC) {
            return Err(JournalError::Foreign);
        }
        let version = head.get(8..).and_then(number).ok_or(JournalError::Damaged)?;
        if version != VERSION {
            return Err(JournalError::Version(version));
        }
        let start = head.last_chunk().copied().map(u64::from_le_bytes).ok_or(JournalError::Damaged)?;
        let length = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or_default();
        let length = length.checked_sub(start).ok_or(JournalError::Damaged)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| JournalError::Damaged)?];
        read_at(&file, start, &mut bytes)?;
        let mut last = start..start;
        let whole = for_each(&bytes, start, &mut |record| {
            last = record.place.clone();
            each(record)
        })?;
        let end = start + u64::try_from(whole).unwrap_or_default();
        rustix::fs::ftruncate(&file, end)?;
        let journal = Self { file, start, end };
        // The content of an open one ends with the file.
        let content = usize::try_from(last.start - start).unwrap_or_default();
        if let Some(before) = content.checked_sub(BEFORE)
            && bytes.get(before..).and_then(number) == Some(OPEN)
        {
            journal.close_record(start + offset(before), bytes.len() - content)?;
        }
        Ok(journal)
    }

    /// Where the next record will stand.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends a record. Where its content lies.
    pub(super) fn append(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<Range<u64>> {
        let length = parts.iter().map(|part| part.len()).sum();
        let (before, behind) = frame(kind, length)?;
        let mut all: Vec<&[u8]> = Vec::with_capacity(parts.len() + 2);
        all.push(&before);
        all.extend(parts);
        all.push(&behind);
        let written = self.write_at(self.end, &all)?;
        let content = self.end + offset(BEFORE);
        self.end += offset(written);
        Ok(content..content + offset(length))
    }

    /// Appends a record with what a stream has, up to so many bytes. Where its content lies.
    pub(super) fn append_from(
        &mut self,
        kind: u8,
        stream: BorrowedFd<'_>,
        most: usize,
    ) -> rustix::io::Result<Range<u64>> {
        let full = |_| Errno::NOSPC;
        self.write_at(self.end, &[&OPEN.to_le_bytes(), &[kind]]).map_err(full)?;
        let begin = self.end + offset(BEFORE);
        let mut end = begin;
        let count = splice(stream, None, self.file.as_fd(), Some(&mut end), most, SpliceFlags::NONBLOCK)?;
        if count > 0 {
            self.close_record(self.end, count).map_err(full)?;
            self.end = begin + offset(count);
        }
        // Of nothing only the beginning of a record is there, in the place of the next one.
        Ok(begin..begin + offset(count))
    }

    fn close_record(&self, at: u64, length: usize) -> io::Result<()> {
        let length = u32::try_from(length).map_err(io::Error::other)? | MOVED;
        self.write_at(at, &[&length.to_le_bytes()]).map(|_| ())
    }

    /// What an earlier record has at this place.
    pub(super) fn read(&self, place: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, place)?;
        Ok(bytes)
    }

    /// Adds it to these bytes.
    pub(super) fn read_into(&self, bytes: &mut Vec<u8>, place: &Range<u64>) -> io::Result<()> {
        let before = bytes.len();
        bytes.resize(before + usize::try_from(place.end - place.start).map_err(io::Error::other)?, 0);
        read_at(&self.file, place.start, bytes.split_at_mut(before).1)
    }

    /// Nothing before this record counts any more.
    pub(super) fn start_at(&mut self, start: u64) -> io::Result<()> {
        self.write_at(START_AT, &[&start.to_le_bytes()])?;
        let free = pages_between(self.start, start);
        self.start = start;
        if !free.is_empty() {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, flags, free.start, free.end - free.start)?;
        }
        Ok(())
    }

    /// No other process is to read it.
    pub(super) fn spoil(&self) -> io::Result<()> {
        self.write_at(VERSION_AT, &[&0_u32.to_le_bytes()]).map(|_| ())
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<usize> {
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let length = parts.iter().map(|part| part.len()).sum();
        let written = rustix::io::retry_on_intr(|| rustix::io::pwritev(&self.file, &slices, offset))?;
        // The memory is full.
        if written == length { Ok(length) } else { Err(Errno::NOSPC.into()) }
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The pages that nothing needs any more once the start has moved so far. Never the one with the first bytes.
fn pages_between(before: u64, now: u64) -> Range<u64> {
    (before / PAGE * PAGE).max(FIRST.next_multiple_of(PAGE))..now / PAGE * PAGE
}

/// Adds a record to others, which together are the content of one.
pub(super) fn nest(records: &mut Vec<u8>, kind: u8, content: &[u8]) -> io::Result<()> {
    let (before, behind) = frame(kind, content.len())?;
    records.extend_from_slice(&before);
    records.extend_from_slice(content);
    records.extend_from_slice(&behind);
    Ok(())
}

/// Gives each whole record of these bytes, which lie in the file at `start`. How many bytes they have.
pub(super) fn for_each(
    bytes: &[u8],
    start: u64,
    each: &mut impl FnMut(&Record<'_>) -> Result<(), JournalError>,
) -> Result<usize, JournalError> {
    let mut place = 0;
    while let Some((kind, content, length)) = bytes.get(place..).and_then(record) {
        let begin = start + offset(place + BEFORE);
        each(&Record { kind, content, place: begin..begin + offset(content.len()) })?;
        place += length;
    }
    Ok(place)
}

/// Kind and content of the first record, and the length of all of it.
fn record(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let length = number(bytes)?;
    let kind = *bytes.get(BEFORE - 1)?;
    let rest = bytes.get(BEFORE..)?;
    if length == OPEN {
        return Some((kind, rest, bytes.len()));
    }
    let (content, rest) = rest.split_at_checked(usize::try_from(length & !MOVED).ok()?)?;
    if length & MOVED != 0 {
        return Some((kind, content, BEFORE + content.len()));
    }
    (number(rest)? == length ^ MARK).then_some((kind, content, BEFORE + content.len() + BEHIND))
}

fn frame(kind: u8, length: usize) -> io::Result<([u8; BEFORE], [u8; BEHIND])> {
    let length = u32::try_from(length).map_err(io::Error::other)?;
    let [a, b, c, d] = length.to_le_bytes();
    Ok(([a, b, c, d, kind], (length ^ MARK).to_le_bytes()))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_le_bytes)
}

fn offset(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn read_at(file: &OwnedFd, offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    let mut offset = offset;
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *bytes, offset))?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset += u64::try_from(count).unwrap_or_default();
        bytes = bytes.split_at_mut(count).1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(file: &OwnedFd) -> Result<Vec<(u8, Vec<u8>)>, JournalError> {
        let mut records = Vec::new();
        let copy = file.try_clone().unwrap();
        Journal::open(copy, |record| {
            records.push((record.kind, record.content.to_vec()));
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn records_come_back_in_their_order_and_the_oldest_can_go() {
        let mut journal = Journal::new().unwrap();
        journal.append(1, &[b"one", b" and more"]).unwrap();
        let place = journal.append(2, &[&vec![7; 40_000]]).unwrap();
        let third = journal.end();
        journal.append(3, &[]).unwrap();
        assert_eq!(journal.read(&place).unwrap(), vec![7; 40_000]);
        let found = all(&journal.file).unwrap();
        assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found.first().unwrap().1, b"one and more");
        let before = rustix::fs::fstat(&journal.file).unwrap().st_blocks;
        journal.start_at(third).unwrap();
        assert_eq!(all(&journal.file).unwrap(), [(3, Vec::new())]);
        assert!(rustix::fs::fstat(&journal.file).unwrap().st_blocks < before, "pages are given back");
    }

    #[test]
    fn pages_of_16_kib_are_given_back_although_the_start_moves_in_small_steps() {
        let mut freed = 0;
        for start in (FIRST..1_000_000).step_by(1000) {
            let free = pages_between(start, start + 1000);
            assert!(free.start >= FIRST && free.end <= start + 1000);
            if !free.is_empty() {
                assert_eq!((free.start % 16_384, free.end % 16_384), (0, 0));
                freed += free.end - free.start;
            }
        }
        assert!(freed > 1_000_000 - 3 * 16_384, "{freed}");
    }

    #[test]
    fn a_record_that_was_cut_anywhere_is_none_and_the_next_one_takes_its_place() {
        for cut in 1..BEFORE + 5 + BEHIND {
            let mut journal = Journal::new().unwrap();
            journal.append(1, &[b"whole"]).unwrap();
            let end = journal.end();
            journal.append(2, &[b"torn!"]).unwrap();
            rustix::fs::ftruncate(&journal.file, journal.end() - offset(cut)).unwrap();
            // The kernel had made more of the file already, which is 0.
            rustix::fs::ftruncate(&journal.file, journal.end() + 100).unwrap();
            let mut journal = Journal::open(journal.file, |_| Ok(())).unwrap();
            assert_eq!(journal.end(), end);
            journal.append(3, &[b"new"]).unwrap();
            assert_eq!(all(&journal.file).unwrap(), [(1, b"whole".to_vec()), (3, b"new".to_vec())]);
        }
    }

    #[test]
    fn what_a_stream_has_is_moved_and_counts_up_to_the_end_of_the_file() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut journal = Journal::new().unwrap();
        assert_eq!(journal.append_from(1, reader.as_fd(), 100), Err(Errno::AGAIN));
        rustix::io::write(&writer, b"one\0two").unwrap();
        let place = journal.append_from(1, reader.as_fd(), 4).unwrap();
        assert_eq!(journal.read(&place).unwrap(), b"one\0");
        journal.append(2, &[b"between"]).unwrap();
        journal.append_from(1, reader.as_fd(), 100).unwrap();
        assert_eq!(journal.append_from(1, reader.as_fd(), 100), Err(Errno::AGAIN));
        let expected = [(1, b"one\0".to_vec()), (2, b"between".to_vec()), (1, b"two".to_vec())];
        let mut with_open = expected.to_vec();
        with_open.push((1, Vec::new()));
        assert_eq!(all(&journal.file).unwrap(), with_open);
        // Cut off before the length was written.
        let length = OPEN.to_le_bytes();
        let mut journal = Journal::open(journal.file, |_| Ok(())).unwrap();
        let place = journal.append_from(3, reader.as_fd(), 1);
        assert_eq!(place, Err(Errno::AGAIN));
        rustix::io::write(&writer, b"last").unwrap();
        let place = journal.append_from(3, reader.as_fd(), 100).unwrap();
        journal.write_at(place.start - offset(BEFORE), &[&length]).unwrap();
        let mut journal = Journal::open(journal.file, |_| Ok(())).unwrap();
        journal.append(2, &[b"more"]).unwrap();
        let found = all(&journal.file).unwrap();
        assert_eq!(found.get(4..).unwrap(), [(3, b"last".to_vec()), (2, b"more".to_vec())]);
    }

    #[test]
    fn another_version_a_spoiled_file_and_any_other_file_are_not_read() {
        let journal = Journal::new().unwrap();
        journal.write_at(VERSION_AT, &[&2_u32.to_le_bytes()]).unwrap();
        assert!(matches!(all(&journal.file), Err(JournalError::Version(2))));
        journal.spoil().unwrap();
        assert!(matches!(all(&journal.file), Err(JournalError::Version(0))));
        journal.write_at(0, &[b"x"]).unwrap();
        assert!(matches!(all(&journal.file), Err(JournalError::Foreign)));
        rustix::fs::ftruncate(&journal.file, 3).unwrap();
        assert!(matches!(all(&journal.file), Err(JournalError::Io(_))));
    }
}
