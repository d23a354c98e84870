//! One thing done with files: a directory is listed, a file is opened, written, renamed or removed. The code
//! runs as the user, which the process becomes for good before it looks at a file, as for an upload.
//!
//! Whatever is read is handed over as a descriptor: a regular file itself, and a listing or an archive by a
//! pipe. Nothing else is ever opened: the open of a named pipe or of a device can wait for ever, or do
//! something. Reading follows links that stay below the work dir; whatever changes something follows none.

mod archive;
mod parts;
mod place;

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use further_link_proto::{
    Connection, Entry, EntryKind, Event, Files, FilesAct, Listing, MAX_ENTRIES, Opened, RelativePath,
    Request, SocketError, Step, Write, is_helpers_own,
};
use nix::sys::signal::{SigSet, Signal};
use rustix::{
    fs::{AtFlags, FileType, OFlags, RenameFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use tracing::debug;

use self::{
    parts::{File as PartFile, Parts},
    place::{Found, Place},
};
use crate::{
    check::Permitted,
    confine,
    dir::{Dir, reopen},
    identity,
    plan::Directories,
    step_error::StepError,
    sys,
};

/// Why the conversation did not end by its rules.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("a message out of place")]
    OutOfPlace,
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// What came of it.
enum Outcome {
    /// The last message.
    Say(Event),
    /// The last message, with a descriptor; then the rest of the work.
    Give(Opened, OwnedFd, Rest),
    /// The frontend has gone.
    SayNothing,
}

/// What comes through the pipe that was handed over.
enum Rest {
    Nothing,
    Bytes(File, Vec<u8>),
    Archive(File, Dir, String),
}

/// Why it did not work.
enum Failure {
    Reason(io::Error),
    Conversation(FilesError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Reason(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Reason(errno.into())
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        Self::Conversation(error.into())
    }
}

/// Becomes the user and does it.
pub(crate) fn serve(
    connection: &Connection,
    directories: &Directories,
    permitted: &Permitted<Files>,
    number: u64,
) -> Result<(), FilesError> {
    let account = permitted.account();
    if let Err(errno) = identity::become_user_for_good(account) {
        connection.send(&StepError::new(Step::Identity, &errno.into()).event())?;
        return Ok(());
    }
    let outcome = prepare(&directories.work_dir_of(account))
        .map_err(Failure::from)
        .and_then(|base| act(connection, &base, &permitted.request().act, number));
    match outcome {
        Ok(Outcome::Say(event)) => Ok(connection.send(&event)?),
        Ok(Outcome::Give(opened, descriptor, rest)) => {
            connection.send_with(&Event::Opened(opened), &[descriptor.as_fd()])?;
            drop(descriptor);
            match finish(rest) {
                Ok(false) => Ok(()),
                Ok(true) => Ok(connection.send(&Event::Done)?),
                Err(error) => {
                    debug!("what was asked for was not taken to its end: {error}");
                    Ok(())
                }
            }
        }
        Ok(Outcome::SayNothing) => Ok(()),
        Err(Failure::Reason(error)) => Ok(connection.send(&StepError::new(Step::Files, &error).event())?),
        Err(Failure::Conversation(error)) => Err(error),
    }
}

/// The work dir, which is made if it is not there. From here on nothing outside of it can be opened.
fn prepare(work: &Path) -> io::Result<Dir> {
    sys::reset_signals()?;
    // A frontend that has closed a pipe is met at the next write.
    SigSet::from(Signal::SIGPIPE).thread_block()?;
    confine::to_directories(&[(work, confine::WRITE)])?;
    Dir::make(work)
}

fn act(connection: &Connection, base: &Dir, act: &FilesAct, number: u64) -> Result<Outcome, Failure> {
    match act {
        FilesAct::List { path } => list(base, path.as_ref()),
        FilesAct::Read { path } => read(base, path),
        FilesAct::Write(write) => self::write(connection, base, write, number),
        FilesAct::Progress { upload } => {
            let bytes = Parts::open(base)?.progress(upload)?;
            Ok(Outcome::Say(Event::Progress { bytes }))
        }
        FilesAct::Rename { from, to } => rename(base, from, to),
        FilesAct::MakeDirectory { path } => {
            let (parent, name) = base.parent(path)?;
            rustix::fs::mkdirat(parent.descriptor(), name, crate::dir::DIRECTORY)?;
            Ok(Outcome::Say(Event::Done))
        }
        FilesAct::Remove { path } => remove(base, path),
    }
}

fn list(base: &Dir, path: Option<&RelativePath>) -> Result<Outcome, Failure> {
    let directory = match path {
        Some(path) => Dir::found(&base.find(path.as_str())?)?,
        None => base.directory(".")?,
    };
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(directory.path())? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            listing.unreadable += 1;
            continue;
        };
        // What the work dir has for this program alone.
        if path.is_none() && is_helpers_own(&name) {
            continue;
        }
        // Removed since.
        let Ok(found) = entry.metadata() else { continue };
        if listing.entries.len() == MAX_ENTRIES {
            listing.truncated = true;
            break;
        }
        let kind = match found.file_type() {
            kind if kind.is_file() => EntryKind::File,
            kind if kind.is_dir() => EntryKind::Directory,
            kind if kind.is_symlink() => EntryKind::Link,
            _ => EntryKind::Other,
        };
        let modified = found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000);
        listing.entries.push(Entry { name, kind, size: found.size(), modified });
    }
    listing.entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let bytes = listing.to_bytes().map_err(io::Error::other)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(Outcome::Give(Opened::Listing, reader, Rest::Bytes(writer.into(), bytes)))
}

fn read(base: &Dir, path: &RelativePath) -> Result<Outcome, Failure> {
    let found = base.find(path.as_str())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
        FileType::RegularFile => {
            Ok(Outcome::Give(Opened::File, reopen(&found, OFlags::RDONLY)?, Rest::Nothing))
        }
        FileType::Directory => {
            let directory = Dir::found(&found)?;
            let name = path.names().next_back().unwrap_or_default().to_owned();
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok(Outcome::Give(Opened::Archive, reader, Rest::Archive(writer.into(), directory, name)))
        }
        _ => Err(Errno::NXIO.into()),
    }
}

/// Writes what is to come through the pipe, if anything is.
fn finish(rest: Rest) -> io::Result<bool> {
    match rest {
        Rest::Nothing => return Ok(false),
        Rest::Bytes(mut pipe, bytes) => pipe.write_all(&bytes)?,
        Rest::Archive(pipe, directory, name) => archive::write(pipe, &directory, &name)?,
    }
    Ok(true)
}

fn write(connection: &Connection, base: &Dir, write: &Write, number: u64) -> Result<Outcome, Failure> {
    let place = Place { base, path: &write.path, condition: write.condition };
    // Before anything is sent in vain. Once more, and for good, when it is complete.
    match place.look() {
        Ok(Found::Fits) => {}
        Ok(Found::Changed) => return Ok(Outcome::Say(Event::Changed)),
        Err(Errno::NOENT) if write.parents => {}
        Err(error) => return Err(error.into()),
    }
    let parts = Parts::open(base)?;
    let (part, limit) = match &write.part {
        None => (parts.begin(number)?, u64::MAX),
        Some(part) => {
            let (file, bytes) = parts.resume(&part.upload, part.total)?;
            if bytes != part.offset {
                return Ok(Outcome::Say(Event::Progress { bytes }));
            }
            (file, part.total.saturating_sub(bytes))
        }
    };
    let (from_frontend, to_us) = pipe_with(PipeFlags::CLOEXEC)?;
    connection.send_with(&Event::Data, &[to_us.as_fd()])?;
    drop(to_us);
    receive(&mut File::from(from_frontend), &part, limit)?;
    let complete = match connection.recv() {
        Ok(Request::Commit) => true,
        Err(SocketError::Closed) => false,
        Ok(_) => return Err(Failure::Conversation(FilesError::OutOfPlace)),
        Err(error) => return Err(error.into()),
    };
    let bytes = part.bytes()?;
    if !complete {
        return Ok(Outcome::SayNothing);
    }
    if write.part.as_ref().is_some_and(|part| bytes < part.total) {
        return Ok(Outcome::Say(Event::Progress { bytes }));
    }
    if write.parents
        && let Some((parent, _)) = write.path.as_str().rsplit_once('/')
    {
        base.make_directory(parent)?;
    }
    Ok(Outcome::Say(place.take(&part, number)?))
}

/// Takes what comes through the pipe, at most so many bytes.
fn receive(content: &mut File, part: &PartFile<'_>, limit: u64) -> Result<(), Failure> {
    let copied = io::copy(&mut (&*content).take(limit), &mut part.file());
    match copied {
        Ok(_) if content.read(&mut [0])? > 0 => Err(Errno::FBIG.into()),
        Ok(_) => Ok(()),
        Err(error) => {
            // A full disk: what has come would keep it full, where no person sees it.
            part.remove();
            Err(error.into())
        }
    }
}

fn rename(base: &Dir, from: &RelativePath, to: &RelativePath) -> Result<Outcome, Failure> {
    let (old, name) = base.parent(from)?;
    let (new, new_name) = base.parent(to)?;
    let _locks = (place::lock(&old)?, place::lock_beside(&new, &old)?);
    match old.rename(name, &new, new_name, RenameFlags::NOREPLACE) {
        // A file system that does not know the flag, or a directory that would go into itself.
        Err(Errno::INVAL) => {
            match rustix::fs::statat(new.descriptor(), new_name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => old.rename(name, &new, new_name, RenameFlags::empty())?,
                Ok(_) => return Err(Errno::EXIST.into()),
                Err(error) => return Err(error.into()),
            }
        }
        renamed => renamed?,
    }
    Ok(Outcome::Say(Event::Done))
}

fn remove(base: &Dir, path: &RelativePath) -> Result<Outcome, Failure> {
    let (parent, name) = base.parent(path)?;
    let _lock = place::lock(&parent)?;
    let found = rustix::fs::statat(parent.descriptor(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        // It follows no link, whatever other processes do meanwhile.
        std::fs::remove_dir_all(parent.path().join(name))?;
    } else {
        rustix::fs::unlinkat(parent.descriptor(), name, AtFlags::empty())?;
    }
    Ok(Outcome::Say(Event::Done))
}
