//! A directory in the making, next to the one that it will replace as a whole, or not at all.
//!
//! Made in a container of its own in the work dir, `.flupload-…`, which is locked as long as its upload
//! lasts. The new directory and the old one change places in one step (`RENAME_EXCHANGE`), so at any
//! moment one of them is there, complete. What a killed upload leaves is an unlocked container: the guard
//! (`upload`) and the next upload sweep it away.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use further_link_proto::RelativePath;
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, RenameFlags},
    io::Errno,
};
use tracing::{debug, warn};

use crate::dir::Dir;

/// How names of containers begin; clients cannot upload to such a name.
const PREFIX: &str = ".flupload-";
/// The new directory within its container; after the exchange the old one.
const TREE: &str = "tree";
/// A download within the container, until it is complete.
const DOWNLOAD: &str = "download";
/// The old directory on its way, where the file system cannot exchange.
const OLD: &str = "old";
/// The mode of a container that could not be removed, and was told of. Each upload tries it again, in a
/// process that knows nothing of the last one's.
const TOLD: Mode = Mode::RUSR.union(Mode::XUSR);
/// The user's cache of downloads in the work dir (B11.9).
const CACHE: &str = ".flcache";

/// Between making a container and locking it another upload can take it for a killed one's. That is a
/// matter of microseconds: it does not happen this many times in a row.
const MAX_ATTEMPTS: u64 = 16;

/// Deepest nesting of files that are kept: an open directory for each level, far below the limit of open
/// files.
const MAX_KEPT_DEPTH: usize = 128;

/// A directory in the making. Dropping it removes what is in its container.
pub(crate) struct Stage {
    base: Dir,
    base_path: PathBuf,
    name: String,
    container: Dir,
    tree: Dir,
}

impl Stage {
    /// Begins one in this directory, which is made if it is not there. `number` is random.
    pub(crate) fn new(base_path: &Path, number: u64) -> io::Result<Self> {
        let base = Dir::make(base_path)?;
        for attempt in 0..MAX_ATTEMPTS {
            let name = format!("{PREFIX}{:016x}", number.wrapping_add(attempt));
            rustix::fs::mkdirat(base.descriptor(), &name, Mode::RWXU)?;
            let Ok(container) = base.directory(&name) else { continue };
            let lock = FlockOperation::NonBlockingLockExclusive;
            // Fails if another upload sweeps it away before it is locked.
            if rustix::fs::flock(container.descriptor(), lock).is_ok()
                && rustix::fs::mkdirat(container.descriptor(), TREE, Mode::RWXU).is_ok()
            {
                let tree = container.directory(TREE)?;
                return Ok(Self { base, base_path: base_path.to_owned(), name, container, tree });
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// A new file of the directory.
    pub(crate) fn create(&self, path: &RelativePath) -> io::Result<File> {
        Ok(self.tree.create(path)?)
    }

    /// Links to a file of the cache. False if it is not there.
    pub(crate) fn link(&self, path: &RelativePath, cached: &RelativePath) -> io::Result<bool> {
        let (cache, name) = self.cache()?;
        if !cache.has_file(cached)? {
            return Ok(false);
        }
        self.tree.link(path, &self.base_path.join(name).join(cached.as_str()))?;
        Ok(true)
    }

    /// A file for a download.
    pub(crate) fn download(&self) -> io::Result<File> {
        let name = RelativePath::new(DOWNLOAD).map_err(io::Error::other)?;
        Ok(self.container.create(&name)?)
    }

    /// The download is complete: it goes into the cache. If another upload was faster, its file is as
    /// good: the url is the same.
    pub(crate) fn keep_download(&self, cached: &RelativePath) -> io::Result<()> {
        let (cache, _) = self.cache()?;
        let (parent, name) = cache.make_parent(cached)?;
        match self.container.rename(DOWNLOAD, &parent, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {
                Ok(rustix::fs::unlinkat(self.container.descriptor(), DOWNLOAD, AtFlags::empty())?)
            }
            done => Ok(done?),
        }
    }

    /// The cache, and what it is called.
    fn cache(&self) -> io::Result<(Dir, String)> {
        Ok(self.base.own_directory(CACHE)?)
    }

    /// Adds what the directory has by now under names that the upload does not use. Where both have the name,
    /// the upload's counts. A file that a program writes to stays the same file.
    pub(crate) fn keep_others(&self, directory: &RelativePath) -> io::Result<()> {
        match self.base.directory(directory.as_str()) {
            Ok(old) => self.tree.add_missing(&old, MAX_KEPT_DEPTH),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies all of it into another stage: links as what they lead to, and nothing that is neither file nor
    /// directory (B11.12).
    pub(crate) fn copy_to(&self, other: &Self) -> io::Result<()> {
        copy(&self.tree.path(), "", other)
    }

    /// Writes what is staged to the disk: after a power cut the new directory is to be as whole as the old
    /// one was. (A file system that cannot will lose what it loses.)
    pub(crate) fn sync(&self) {
        let (Ok(()) | Err(_)) = rustix::fs::syncfs(self.container.descriptor());
    }

    /// Leaves the container to the guard: the old directory is in it, and a program may work in there.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    /// Puts the directory into its place. The old one is in the container then.
    pub(crate) fn replace(&self, directory: &RelativePath) -> io::Result<()> {
        let (parent, name) = self.base.make_parent(directory)?;
        rustix::fs::fchmod(self.tree.descriptor(), Mode::from_raw_mode(0o755))?;
        loop {
            match rustix::fs::statat(parent.descriptor(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() => {
                    return Err(Errno::NOTDIR.into());
                }
                Ok(_) => match self.container.rename(TREE, &parent, name, RenameFlags::EXCHANGE) {
                    Err(Errno::NOENT) => {}
                    Err(Errno::INVAL) => return Ok(self.exchange_in_steps(&parent, name)?),
                    done => return Ok(done?),
                },
                Err(Errno::NOENT) => match self.container.rename(TREE, &parent, name, RenameFlags::NOREPLACE)
                {
                    // Another upload was faster: exchange with it.
                    Err(Errno::EXIST) => {}
                    // A plain rename would replace an empty directory, which is as good.
                    Err(Errno::INVAL) => {
                        return Ok(self.container.rename(TREE, &parent, name, RenameFlags::empty())?);
                    }
                    done => return Ok(done?),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// For file systems that cannot exchange (NFS, some FUSE): for a moment nothing is there. A container in
    /// which the old directory waits is never removed, so whenever this ends, it is in its place or in
    /// the container.
    fn exchange_in_steps(&self, parent: &Dir, name: &str) -> Result<(), Errno> {
        let plain = RenameFlags::empty();
        parent.rename(name, &self.container, OLD, plain)?;
        if let Err(error) = self.container.rename(TREE, parent, name, plain) {
            self.container.rename(OLD, parent, name, plain)?;
            return Err(error);
        }
        self.container.rename(OLD, &self.container, TREE, plain)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        clear(&self.base, &self.name, &self.container);
    }
}

/// Removes the containers in this directory whose uploads have ended.
pub(crate) fn sweep(base: &Dir) {
    for entry in fs::read_dir(base.path()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_container_name(name)) else { continue };
        let Ok(container) = base.directory(name) else { continue };
        let lock = FlockOperation::NonBlockingLockExclusive;
        if is_own_container(&container) && rustix::fs::flock(container.descriptor(), lock).is_ok() {
            clear(base, name, &container);
        }
    }
}

fn is_container_name(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether it is what it is called. In a work dir where all users may rename everything, one could give
/// the name to another directory, to have it swept away.
fn is_own_container(container: &Dir) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let private = rustix::fs::fstat(container.descriptor()).is_ok_and(|stat| {
        stat.st_uid == own && [Mode::RWXU, TOLD].contains(&Mode::from_raw_mode(stat.st_mode))
    });
    let mut entries = fs::read_dir(container.path()).into_iter().flatten().flatten();
    private && entries.all(|entry| [TREE, DOWNLOAD].iter().any(|name| entry.file_name() == *name))
}

/// Removes a container, unless the old directory is still of use. A program may work in it, whose working
/// directory stays usable; or it waits to go back to its place. A later upload finds the container again.
fn clear(base: &Dir, name: &str, container: &Dir) {
    if !is_own_container(container) || is_somebodys_cwd(container) {
        return;
    }
    let is_told =
        rustix::fs::fstat(container.descriptor()).is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode) == TOLD);
    match remove(&base.path().join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let marked = rustix::fs::fchmod(container.descriptor(), TOLD);
            if is_told && marked.is_ok() {
                return debug!("still cannot remove {name} from the work dir: {error}");
            }
            warn!("cannot remove {name} from the work dir: {error}; remove it as root");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Whether a process of this user works in the directory or below. Other users' processes cannot be seen, and
/// need not.
fn is_somebodys_cwd(container: &Dir) -> bool {
    let Ok(place) = fs::read_link(container.path()) else { return false };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .any(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&place)))
}

/// Removes a tree, also where its owner has made directories read-only.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        done => done,
    }
}

fn open_directories(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

fn copy(from: &Path, below: &str, to: &Stage) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // Uploaded names are UTF-8. A file with another name is a program's, made meanwhile: it is not
        // copied.
        let Some(name) = entry.file_name().to_str().map(|name| format!("{below}{name}")) else { continue };
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &format!("{name}/"), to)?;
            continue;
        }
        // Without waiting for a writer if it is a pipe.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(entry.path());
        let mut source = match opened {
            // A socket, or a link that leads to nothing: there is nothing to copy.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT)) => continue,
            opened => opened?,
        };
        if source.metadata()?.is_file() {
            let name = RelativePath::new(name).map_err(io::Error::other)?;
            io::copy(&mut source, &mut to.create(&name)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::fs::MetadataExt};

    fn work_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("further-link-stage.{name}.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    fn write(stage: &Stage, name: &str, text: &str) {
        stage.create(&path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_is_replaced_as_a_whole_and_nothing_else_stays() {
        let work = work_dir("replace");
        for (number, file) in [(1, "old"), (2, "new")] {
            let stage = Stage::new(&work, number).unwrap();
            write(&stage, &format!("sub/{file}"), file);
            stage.replace(&path("a/b")).unwrap();
        }
        assert_eq!(names(&work.join("a/b/sub")), ["new"]);
        assert_eq!(names(&work), ["a"]);
        assert_eq!(fs::metadata(work.join("a/b")).unwrap().mode() & 0o777, 0o755);
        fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn what_is_not_replaced_leaves_nothing_and_changes_nothing() {
        let work = work_dir("abandon");
        fs::create_dir(work.join("a")).unwrap();
        fs::write(work.join("a/file"), "kept").unwrap();
        fs::write(work.join("plain"), "a file").unwrap();
        let stage = Stage::new(&work, 1).unwrap();
        write(&stage, "file", "lost");
        drop(stage);
        let stage = Stage::new(&work, 2).unwrap();
        assert!(stage.replace(&path("plain")).is_err(), "a file is not a directory to replace");
        drop(stage);
        assert_eq!(names(&work), ["a", "plain"]);
        assert_eq!(fs::read_to_string(work.join("a/file")).unwrap(), "kept");
        fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn without_an_exchange_the_old_directory_is_in_its_place_or_kept() {
        let work = work_dir("steps");
        fs::create_dir_all(work.join("a/b")).unwrap();
        fs::write(work.join("a/b/file"), "old").unwrap();
        let stage = Stage::new(&work, 1).unwrap();
        write(&stage, "file", "new");
        let (parent, name) = (stage.base.directory("a").unwrap(), "b");
        stage.exchange_in_steps(&parent, name).unwrap();
        assert_eq!(fs::read_to_string(work.join("a/b/file")).unwrap(), "new");
        drop(stage);
        assert_eq!(names(&work), ["a"]);
        // Killed half-way: the container has the only copy, and no sweep removes it.
        let stage = Stage::new(&work, 2).unwrap();
        parent.rename(name, &stage.container, OLD, RenameFlags::empty()).unwrap();
        drop(stage);
        drop(Stage::new(&work, 3).unwrap());
        assert_eq!(fs::read_to_string(work.join(".flupload-0000000000000002/old/file")).unwrap(), "new");
        fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn only_containers_are_swept_whatever_else_is_called_like_one() {
        let work = work_dir("names");
        for (name, mode) in [
            (".flupload-0000000000000001", 0o755),
            (".flupload-x", 0o700),
            (".flupload-0000000000000002", 0o700),
        ] {
            fs::create_dir_all(work.join(name)).unwrap();
            fs::write(work.join(name).join("precious"), "").unwrap();
            fs::set_permissions(work.join(name), Permissions::from_mode(mode)).unwrap();
        }
        sweep(&Dir::make(&work).unwrap());
        assert_eq!(names(&work).len(), 3, "{:?}", names(&work));
        fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn a_sweep_removes_what_a_killed_one_left_but_not_what_is_in_use() {
        let work = work_dir("sweep");
        let killed = Stage::new(&work, 1).unwrap();
        write(&killed, "file", "half");
        fs::set_permissions(work.join(".flupload-0000000000000001/tree"), Permissions::from_mode(0o500))
            .unwrap();
        let in_use = Stage::new(&work, 2).unwrap();
        // As the kernel does with the lock of a process that is killed.
        rustix::fs::flock(killed.container.descriptor(), FlockOperation::Unlock).unwrap();
        std::mem::forget(killed);
        sweep(&Dir::make(&work).unwrap());
        assert_eq!(names(&work), [".flupload-0000000000000002"]);
        drop(in_use);
        fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn a_download_appears_in_the_cache_when_it_is_complete_and_the_first_one_stays() {
        let work = work_dir("cache");
        let cached = path("bucket/key/picture.png");
        for (number, text) in [(1, "first"), (2, "second")] {
            let stage = Stage::new(&work, number).unwrap();
            stage.download().unwrap().write_all(text.as_bytes()).unwrap();
            assert_eq!(stage.link(&path("p.png"), &cached).unwrap(), number == 2);
            stage.keep_download(&cached).unwrap();
        }
        let stage = Stage::new(&work, 3).unwrap();
        assert!(stage.link(&path("pictures/p.png"), &cached).unwrap());
        let copied = Stage::new(&work.join("projects"), 4).unwrap();
        stage.copy_to(&copied).unwrap();
        stage.replace(&path("project")).unwrap();
        copied.replace(&path("ann/project")).unwrap();
        drop((stage, copied));
        let link = work.join("project/pictures/p.png");
        assert_eq!(fs::read_link(&link).unwrap(), work.join(".flcache/bucket/key/picture.png"));
        assert_eq!(fs::read_to_string(link).unwrap(), "first");
        let copy = work.join("projects/ann/project/pictures/p.png");
        assert!(fs::symlink_metadata(&copy).unwrap().is_file(), "links are resolved");
        assert_eq!(fs::read_to_string(copy).unwrap(), "first");
        assert_eq!(names(&work), [".flcache", "project", "projects"]);
        fs::remove_dir_all(work).unwrap();
    }
}
