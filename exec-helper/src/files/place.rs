//! A place for a file, and the one step in which the file takes it: whether the condition holds is looked at,
//! and the name is given to the file, under a lock of the directory. Of two requests with the same condition
//! one comes first, and the other one finds a changed place.
//!
//! The lock is for requests of this service. A program that writes to the old file between the look and the
//! rename writes into a file that has no name any more.

use std::{fs::Permissions, io, os::unix::fs::PermissionsExt, time::Instant};

use further_link_proto::{Condition, Event, FileVersion, RelativePath};
use rustix::{
    fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};

use super::parts::{self, lock_until};
use crate::dir::{Dir, FILE, FILE_BITS};

/// A new file may be executed if the kernel would start it by an interpreter, as one of an upload.
const SCRIPT: Mode = Mode::from_raw_mode(0o755);
/// The beginning of the name of a copy in the making.
const COPY: &str = ".flput-";
/// A program that makes and removes the name all the time is not waited for longer than so many tries.
const MAX_ATTEMPTS: usize = 16;

/// A place for a file, and what must be there.
pub(super) struct Place<'a> {
    pub(super) base: &'a Dir,
    pub(super) path: &'a RelativePath,
    pub(super) condition: Condition,
}

/// Whether the file may go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Fits,
    Changed,
}

/// What has the name now.
enum Present {
    Nothing,
    /// A file, or a link: to what version, and with which permissions.
    File(Option<(FileVersion, Mode)>),
}

impl Place<'_> {
    /// Looks without changing anything.
    pub(super) fn look(&self) -> Result<Found, Errno> {
        match self.base.parent(self.path) {
            Err(Errno::NOENT) if self.wants_a_file() => Ok(Found::Changed),
            Err(error) => Err(error),
            Ok((parent, name)) => Ok(self.fits(&self.present(&parent, name)?)),
        }
    }

    /// Gives the name to the file, which is complete: after a power cut it is there as a whole, or the old
    /// one is.
    pub(super) fn take(&self, part: &parts::File<'_>, number: u64) -> io::Result<Event> {
        part.file().sync_all()?;
        let (parent, name) = self.base.parent(self.path)?;
        let _lock = lock(&parent)?;
        for _ in 0..MAX_ATTEMPTS {
            let present = self.present(&parent, name)?;
            if self.fits(&present) == Found::Changed {
                return Ok(Event::Changed);
            }
            let mode = match &present {
                Present::File(Some((_, mode))) => *mode,
                Present::File(None) | Present::Nothing if is_script(part.file())? => SCRIPT,
                Present::File(None) | Present::Nothing => FILE,
            };
            part.file().set_permissions(Permissions::from_mode(mode.as_raw_mode()))?;
            let replaced = matches!(present, Present::File(_));
            let flags = if replaced { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            let version = match part.move_to(&parent, name, flags) {
                // A program has made the name since.
                Err(Errno::EXIST) => continue,
                // A file system that does not know the flag.
                Err(Errno::INVAL) => {
                    part.move_to(&parent, name, RenameFlags::empty())?;
                    version(&rustix::fs::fstat(part.file())?)
                }
                Err(Errno::XDEV) => copy(part, &parent, name, mode, number)?,
                moved => {
                    moved?;
                    version(&rustix::fs::fstat(part.file())?)
                }
            };
            // A file system that cannot will lose what it loses.
            let (Ok(()) | Err(_)) = rustix::fs::fsync(parent.descriptor());
            return Ok(Event::Written { version, replaced });
        }
        Err(Errno::AGAIN.into())
    }

    fn wants_a_file(&self) -> bool {
        matches!(self.condition, Condition::Present | Condition::Same(_))
    }

    fn fits(&self, present: &Present) -> Found {
        let fits = match (self.condition, present) {
            (Condition::Any, _)
            | (Condition::Absent, Present::Nothing)
            | (Condition::Present, Present::File(_)) => true,
            (Condition::Same(wanted), Present::File(Some((version, _)))) => wanted == *version,
            _ => false,
        };
        if fits { Found::Fits } else { Found::Changed }
    }

    fn present(&self, parent: &Dir, name: &str) -> Result<Present, Errno> {
        let found = match rustix::fs::statat(parent.descriptor(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Present::Nothing),
            found => found?,
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {
                // Who has made a file read-only does not want it to be replaced.
                rustix::fs::accessat(parent.descriptor(), name, Access::WRITE_OK, AtFlags::EACCESS)?;
                Ok(Present::File(Some((version(&found), bits(&found)))))
            }
            // A client has read what the link leads to, and writes that it was this. The link goes then, and
            // what it led to stays as it is.
            FileType::Symlink => match self.base.find(self.path.as_str()) {
                Err(_) => Ok(Present::File(None)),
                Ok(target) => {
                    let found = rustix::fs::fstat(&target)?;
                    match FileType::from_raw_mode(found.st_mode) {
                        FileType::RegularFile => Ok(Present::File(Some((version(&found), bits(&found))))),
                        FileType::Directory => Err(Errno::ISDIR),
                        _ => Err(Errno::NXIO),
                    }
                }
            },
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::NXIO),
        }
    }
}

/// The lock of a directory, held until it is dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "held until it is dropped")] Dir);

/// Waits for the lock of a directory.
pub(super) fn lock(directory: &Dir) -> Result<Lock, Errno> {
    // An open file of its own: the lock goes when that is closed.
    let held = directory.directory(".")?;
    lock_until(held.descriptor(), Instant::now() + parts::LOCK_TIMEOUT)?;
    Ok(Lock(held))
}

/// The same, for a directory that may be one that is locked already.
pub(super) fn lock_beside(directory: &Dir, locked: &Dir) -> Result<Option<Lock>, Errno> {
    let (one, other) = (rustix::fs::fstat(directory.descriptor())?, rustix::fs::fstat(locked.descriptor())?);
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) {
        return Ok(None);
    }
    lock(directory).map(Some)
}

/// To a directory on another disk: as a copy beside its place.
fn copy(
    part: &parts::File<'_>,
    parent: &Dir,
    name: &str,
    mode: Mode,
    number: u64,
) -> io::Result<FileVersion> {
    remove_old_copies(parent)?;
    let beside = format!("{COPY}{number:016x}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut file = std::fs::File::from(parent.open(beside.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
    file.try_lock()?;
    let copied = (|| {
        let mut from = part.file();
        io::Seek::rewind(&mut from)?;
        io::copy(&mut from, &mut file)?;
        file.set_permissions(Permissions::from_mode(mode.as_raw_mode()))?;
        file.sync_all()?;
        parent.rename(&beside, parent, name, RenameFlags::empty())?;
        part.remove();
        Ok(version(&rustix::fs::fstat(&file)?))
    })();
    if copied.is_err() {
        let (Ok(()) | Err(_)) = rustix::fs::unlinkat(parent.descriptor(), &beside, AtFlags::empty());
    }
    copied
}

/// Removes copies that were cut off, as by a stick that was pulled out. A copy is locked while it is made.
fn remove_old_copies(parent: &Dir) -> io::Result<()> {
    for entry in std::fs::read_dir(parent.path())? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(COPY)
        {
            parts::remove_unlocked(parent, &name);
        }
    }
    Ok(())
}

fn is_script(file: &std::fs::File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut start = [0; 2];
    Ok(file.read_at(&mut start, 0)? == start.len() && start == *b"#!")
}

fn bits(found: &Stat) -> Mode {
    Mode::from_raw_mode(found.st_mode) & FILE_BITS
}

fn version(found: &Stat) -> FileVersion {
    FileVersion {
        device: found.st_dev,
        inode: found.st_ino,
        size: u64::try_from(found.st_size).unwrap_or_default(),
        seconds: found.st_mtime,
        nanoseconds: u32::try_from(found.st_mtime_nsec).unwrap_or_default(),
    }
}
