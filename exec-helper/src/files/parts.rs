//! Files in the making, in a hidden folder of the work dir: of a whole upload until it is in its place, and
//! of a resumable one until it is complete.
//!
//! Each is locked by the process that writes to it. What no process has locked is left from an upload that
//! was cut off: a resumable one waits for a day for its client, and any other is removed by the next process
//! that comes by.

use std::{
    fs,
    io::{Seek as _, SeekFrom},
    os::unix::fs::MetadataExt,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use further_link_proto::UploadId;
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};
use tracing::debug;

use crate::dir::Dir;

/// The folder; each user has one in a work dir that several share.
pub(super) const FOLDER: &str = ".flparts";
/// How long a resumable upload waits for its client: until the next school day, in the same lesson.
const LIFETIME: Duration = Duration::from_hours(24);
/// Most uploads of a user that wait. The oldest gives way: a person uploads some files at once.
const MAX_WAITING: usize = 16;
/// Most bytes of them: four of the usual limit. The oldest gives way.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// How long a lock is waited for: another request that comes first takes as long as a rename, or ends.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to get it.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The folder.
pub(super) struct Parts(Dir);

/// A file in it, which is locked. Dropping it removes it, unless it is resumable.
pub(super) struct File<'a> {
    parts: &'a Parts,
    name: String,
    open: fs::File,
    resumable: bool,
}

impl Parts {
    /// Opens the folder, which is made if it is not there, and removes what is wanted no more.
    pub(super) fn open(base: &Dir) -> Result<Self, Errno> {
        let (folder, _) = base.own_directory(FOLDER)?;
        rustix::fs::fchmod(folder.descriptor(), Mode::RWXU)?;
        let parts = Self(folder);
        parts.tidy();
        Ok(parts)
    }

    /// A file for a whole upload. `number` is random.
    pub(super) fn begin(&self, number: u64) -> Result<File<'_>, Errno> {
        self.locked(format!(".{number:016x}"), false)
    }

    /// The file of a resumable upload, with the bytes that it has.
    pub(super) fn resume(&self, upload: &UploadId, total: u64) -> Result<(File<'_>, u64), Errno> {
        let part = self.locked(upload.as_str().to_owned(), true)?;
        let bytes = part.bytes()?;
        self.make_room(total.saturating_sub(bytes).min(MAX_BYTES));
        part.file().seek(SeekFrom::End(0)).map_err(|_| Errno::IO)?;
        Ok((part, bytes))
    }

    /// How much of a resumable upload is there.
    pub(super) fn progress(&self, upload: &UploadId) -> Result<u64, Errno> {
        match rustix::fs::statat(self.0.descriptor(), upload.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(u64::try_from(found.st_size).unwrap_or_default()),
            Err(Errno::NOENT) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn locked(&self, name: String, resumable: bool) -> Result<File<'_>, Errno> {
        let end = Instant::now() + LOCK_TIMEOUT;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
            let file = self.0.open(name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
            lock_until(&file, end)?;
            // Not one that was tidied away before it was locked.
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                return Ok(File { parts: self, name, open: file.into(), resumable });
            }
        }
    }

    fn tidy(&self) {
        let now = SystemTime::now();
        for waiting in self.waiting() {
            let age = waiting.modified.and_then(|time| now.duration_since(time).ok());
            if waiting.name.starts_with('.') || age.is_some_and(|age| age > LIFETIME) {
                remove_unlocked(&self.0, &waiting.name);
            }
        }
        self.make_room(0);
    }

    /// Removes the oldest until so many bytes more, and one more upload, are within the limits.
    fn make_room(&self, bytes: u64) {
        let mut waiting = self.waiting();
        waiting.sort_by_key(|waiting| waiting.modified);
        let mut held = bytes + waiting.iter().map(|waiting| waiting.bytes).sum::<u64>();
        let mut count = waiting.len();
        for oldest in waiting {
            if held <= MAX_BYTES && count < MAX_WAITING {
                return;
            }
            if remove_unlocked(&self.0, &oldest.name) {
                held = held.saturating_sub(oldest.bytes);
                count -= 1;
            }
        }
    }

    fn waiting(&self) -> Vec<Waiting> {
        let entries = fs::read_dir(self.0.path()).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let name = entry.file_name().into_string().ok()?;
            Some(Waiting { name, bytes: found.size(), modified: found.modified().ok() })
        });
        files.collect()
    }
}

/// Removes a file that no process has locked.
pub(super) fn remove_unlocked(directory: &Dir, name: &str) -> bool {
    let Ok(file) = directory.open(name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) else {
        return false;
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && unlink(directory, name)
}

fn unlink(directory: &Dir, name: &str) -> bool {
    let removed = rustix::fs::unlinkat(directory.descriptor(), name, AtFlags::empty());
    if let Err(error) = removed {
        debug!("cannot remove what is left of an upload: {error}");
    }
    removed.is_ok()
}

/// What waits for its client.
struct Waiting {
    name: String,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl File<'_> {
    pub(super) fn file(&self) -> &fs::File {
        &self.open
    }

    pub(super) fn bytes(&self) -> Result<u64, Errno> {
        Ok(u64::try_from(rustix::fs::fstat(&self.open)?.st_size).unwrap_or_default())
    }

    /// What has come is of no use.
    pub(super) fn remove(&self) {
        unlink(&self.parts.0, &self.name);
    }

    /// Moves it into its place. With it goes its lock, which no process asks for there.
    pub(super) fn move_to(&self, parent: &Dir, name: &str, flags: RenameFlags) -> Result<(), Errno> {
        self.parts.0.rename(&self.name, parent, name, flags)
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        // It is not there under its name any more if it is in its place.
        if !self.resumable {
            let (Ok(()) | Err(_)) =
                rustix::fs::unlinkat(self.parts.0.descriptor(), &self.name, AtFlags::empty());
        }
    }
}

/// Waits for the lock of a file or directory. Not for ever: a program of the user may hold it, and the kernel
/// waits for a lock without an end.
#[expect(clippy::disallowed_methods, reason = "no descriptor tells when a lock is free")]
pub(super) fn lock_until(file: &impl std::os::fd::AsFd, end: Instant) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < end => sleep(LOCK_PAUSE),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        path::{Path, PathBuf},
    };

    fn work_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("further-link-parts.{name}.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn id(number: usize) -> UploadId {
        UploadId::new(format!("upload-{number:016}")).unwrap()
    }

    fn count(work: &Path) -> usize {
        fs::read_dir(work.join(FOLDER)).unwrap().count()
    }

    #[test]
    fn a_resumable_upload_is_kept_for_a_day_and_any_other_goes_at_once() {
        let work = work_dir("kept");
        let base = Dir::make(&work).unwrap();
        let parts = Parts::open(&base).unwrap();
        let whole = parts.begin(7).unwrap();
        let (part, bytes) = parts.resume(&id(1), 10).unwrap();
        assert_eq!(bytes, 0);
        part.file().write_all(b"half").unwrap();
        assert_eq!(count(&work), 2);
        assert_eq!(parts.progress(&id(1)).unwrap(), 4);
        Parts::open(&base).unwrap();
        assert_eq!(count(&work), 2, "what is in use stays");
        drop((whole, part));
        assert_eq!(count(&work), 1);
        let (part, bytes) = parts.resume(&id(1), 10).unwrap();
        assert_eq!(bytes, 4);
        part.file().write_all(b"more").unwrap();
        let day = LIFETIME + Duration::from_secs(1);
        part.file().set_modified(SystemTime::now() - day).unwrap();
        drop(part);
        // As a killed process leaves it.
        fs::write(work.join(FOLDER).join(".0000000000000001"), "x").unwrap();
        Parts::open(&base).unwrap();
        assert_eq!(count(&work), 0);
        assert_eq!(parts.progress(&id(1)).unwrap(), 0);
        fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn the_oldest_give_way_to_the_newest_by_count_and_by_bytes() {
        let work = work_dir("limits");
        let base = Dir::make(&work).unwrap();
        let parts = Parts::open(&base).unwrap();
        for number in 0..2 * MAX_WAITING {
            let (part, _) = parts.resume(&id(number), 1).unwrap();
            let age = Duration::from_secs(u64::try_from(1000 - number).unwrap());
            part.file().set_modified(SystemTime::now() - age).unwrap();
        }
        assert!(count(&work) <= MAX_WAITING, "{}", count(&work));
        let newest = 2 * MAX_WAITING - 1;
        assert!(work.join(FOLDER).join(id(newest).as_str()).exists());
        let large =
            fs::File::options().write(true).open(work.join(FOLDER).join(id(newest).as_str())).unwrap();
        large.set_len(MAX_BYTES).unwrap();
        let (_other, _) = parts.resume(&id(newest + 1), 1).unwrap();
        assert_eq!(count(&work), 1, "one that waits has used up the room for all");
        fs::remove_dir_all(work).unwrap();
    }
}
