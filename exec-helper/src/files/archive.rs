//! A directory as an archive that every tar reads: the `ustar` form of POSIX, with its `pax` records where a
//! name or a size does not fit (tar(5)).
//!
//! Regular files, directories and links go in, and no link is followed. What is nothing of these, and what
//! cannot be read, is left out, and a last file of the archive names it.

use std::{
    fs,
    io::{self, Read as _, Write},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt,
    },
};

use rustix::fs::{FileType, OFlags};

use crate::dir::{Dir, reopen};

/// The unit of the form.
const BLOCK: usize = 512;
/// Deepest nesting of directories: an open directory for each level, far below the limit of open files.
const MAX_DEPTH: usize = 128;
/// The file that names what was left out.
const LEFT_OUT: &str = ".further-link-left-out.txt";
/// Most bytes of that file.
const MAX_LEFT_OUT: usize = 1024 * 1024;
/// The largest number of eleven octal digits.
const MAX_OCTAL: u64 = 0o777_7777_7777;

/// What an entry is, by the letter of the form.
const FILE: u8 = b'0';
const LINK: u8 = b'2';
const DIRECTORY: u8 = b'5';
const RECORDS: u8 = b'x';

/// Writes the directory under this name.
pub(super) fn write(to: impl Write, directory: &Dir, name: &str) -> io::Result<()> {
    let mut archive = Archive { to: io::BufWriter::with_capacity(64 * 1024, to), left_out: Vec::new() };
    archive.directory(directory, name.as_bytes(), MAX_DEPTH)?;
    if !archive.left_out.is_empty() {
        let text = std::mem::take(&mut archive.left_out);
        let size = u64::try_from(text.len()).unwrap_or_default();
        let path = [name.as_bytes(), b"/", LEFT_OUT.as_bytes()].concat();
        archive.header(&Header { path: &path, kind: FILE, mode: 0o644, size, modified: 0, target: &[] })?;
        archive.to.write_all(&text)?;
        archive.pad(size)?;
    }
    // The end: two empty blocks.
    archive.to.write_all(&[0; 2 * BLOCK])?;
    archive.to.flush()
}

struct Archive<W: Write> {
    to: io::BufWriter<W>,
    /// Paths, a line each.
    left_out: Vec<u8>,
}

struct Header<'a> {
    path: &'a [u8],
    kind: u8,
    mode: u32,
    size: u64,
    modified: i64,
    target: &'a [u8],
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, directory: &Dir, path: &[u8], depth: usize) -> io::Result<()> {
        let found = fs::metadata(directory.path())?;
        let (mode, modified) = (found.mode() & 0o777, found.mtime());
        let with_slash = [path, b"/"].concat();
        self.header(&Header { path: &with_slash, kind: DIRECTORY, mode, size: 0, modified, target: &[] })?;
        let Ok(entries) = fs::read_dir(directory.path()) else {
            self.leave_out(&with_slash, "it cannot be read");
            return Ok(());
        };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        for name in names {
            let path = [&with_slash, name.as_bytes()].concat();
            self.entry(directory, &name, &path, depth)?;
        }
        Ok(())
    }

    /// Only what hinders the writing of the archive is an error.
    fn entry(
        &mut self,
        directory: &Dir,
        name: &std::ffi::OsStr,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        // Not what a link leads to.
        let found = match directory.open(name, OFlags::PATH, rustix::fs::Mode::empty()) {
            Ok(found) => found,
            Err(error) => {
                self.leave_out(path, &error.to_string());
                return Ok(());
            }
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::RegularFile => match reopen(&found, OFlags::RDONLY) {
                Ok(file) => self.file(&mut file.into(), path),
                Err(error) => {
                    self.leave_out(path, &error.to_string());
                    Ok(())
                }
            },
            FileType::Directory => match (Dir::found(&found), depth.checked_sub(1)) {
                (Ok(directory), Some(below)) => self.directory(&directory, path, below),
                (Err(error), _) => {
                    self.leave_out(path, &error.to_string());
                    Ok(())
                }
                (_, None) => {
                    self.leave_out(path, "it lies too deep");
                    Ok(())
                }
            },
            FileType::Symlink => self.link(directory, name, path),
            _ => {
                self.leave_out(path, "it is no file, directory or link");
                Ok(())
            }
        }
    }

    fn link(&mut self, directory: &Dir, name: &std::ffi::OsStr, path: &[u8]) -> io::Result<()> {
        let Ok(target) = rustix::fs::readlinkat(directory.descriptor(), name, Vec::new()) else {
            self.leave_out(path, "it was gone, or changed, when it was to be read");
            return Ok(());
        };
        let target = std::ffi::OsString::from_vec(target.into_bytes());
        let target = target.as_bytes();
        self.header(&Header { path, kind: LINK, mode: 0o777, size: 0, modified: 0, target })
    }

    fn file(&mut self, file: &mut fs::File, path: &[u8]) -> io::Result<()> {
        let found = file.metadata()?;
        let (mode, size, modified) = (found.mode() & 0o777, found.size(), found.mtime());
        self.header(&Header { path, kind: FILE, mode, size, modified, target: &[] })?;
        let mut left = size;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let room = buffer.get_mut(..most).unwrap_or_default();
            let length = match file.read(room) {
                Ok(0) | Err(_) => {
                    // The length stands in the archive already.
                    self.leave_out(path, "it got shorter, or failed, while it was read; the rest is zeros");
                    room.fill(0);
                    most
                }
                Ok(length) => length,
            };
            self.to.write_all(buffer.get(..length).unwrap_or_default())?;
            left = left.saturating_sub(u64::try_from(length).unwrap_or_default());
        }
        self.pad(size)
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        let line = [path, b": ", why.as_bytes(), b"\n"].concat();
        if self.left_out.len() + line.len() <= MAX_LEFT_OUT && !self.left_out.ends_with(&line) {
            self.left_out.extend(line);
        }
    }

    /// The block that describes an entry, behind the records that it needs.
    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let mut records = Vec::new();
        if header.path.len() > 100 {
            record(&mut records, "path", header.path);
        }
        if header.target.len() > 100 {
            record(&mut records, "linkpath", header.target);
        }
        if header.size > MAX_OCTAL {
            record(&mut records, "size", header.size.to_string().as_bytes());
        }
        if !records.is_empty() {
            let size = u64::try_from(records.len()).unwrap_or_default();
            let of_records =
                Header { path: b"pax", kind: RECORDS, mode: 0o644, size, modified: 0, target: &[] };
            self.to.write_all(&block(&of_records))?;
            self.to.write_all(&records)?;
            self.pad(size)?;
        }
        self.to.write_all(&block(header))
    }

    /// Fills the last block of so many bytes.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let used = usize::try_from(size % 512).unwrap_or_default();
        let zeros = [0; BLOCK];
        self.to.write_all(zeros.get(..(BLOCK - used) % BLOCK).unwrap_or_default())
    }
}

/// A record: its own length in decimal digits, a name and a value.
fn record(records: &mut Vec<u8>, name: &str, value: &[u8]) {
    // A space, "=", a line feed.
    let rest = name.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {name}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn block(header: &Header<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    let cut = |bytes: &[u8]| bytes.get(..bytes.len().min(100)).unwrap_or_default().to_vec();
    put(0, &cut(header.path));
    put(100, format!("{:07o}", header.mode).as_bytes());
    // Owner and group: who unpacks it.
    put(108, b"0000000");
    put(116, b"0000000");
    let size = if header.size > MAX_OCTAL { 0 } else { header.size };
    put(124, format!("{size:011o}").as_bytes());
    let modified = u64::try_from(header.modified).unwrap_or_default().min(MAX_OCTAL);
    put(136, format!("{modified:011o}").as_bytes());
    put(148, b"        ");
    put(156, &[header.kind]);
    put(157, &cut(header.target));
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *to = from;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_own_length() {
        for length in [1, 85, 89, 90, 91, 92, 93, 984, 985, 986, 987, 988, 989, 990, 4095] {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'x'; length]);
            let text = String::from_utf8(records).unwrap();
            let (own, _) = text.split_once(' ').unwrap();
            assert_eq!(own.parse(), Ok(text.len()), "{length}");
        }
    }
}
