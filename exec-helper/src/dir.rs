//! A directory as the only way to what is below it: no name and no link leads out (openat2(2),
//! `RESOLVE_BENEATH`).
//!
//! Used for uploads and for files by a process that already is their user, so what is made belongs to that
//! user. Links on the way to what is written are refused rather than followed. No project needs them, and a
//! program that swaps one in during an upload gains nothing (D10, D12). Reading follows those that stay
//! below.

use std::{ffi::OsStr, fs::File, io, os::fd::OwnedFd, path::Path};

use further_link_proto::RelativePath;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

/// What directories of an upload may be (B11.11).
pub(crate) const DIRECTORY: Mode = Mode::from_raw_mode(0o755);
/// What files of an upload may be (B11.11).
pub(crate) const FILE: Mode = Mode::from_raw_mode(0o644);

/// The permissions that a copy of a file may have: neither set-uid nor set-gid.
pub(crate) const FILE_BITS: Mode = Mode::from_raw_mode(0o777);

/// A path below a directory that another process moves at this moment is looked up again by the kernel's wish
/// (`EAGAIN`), and no more often than this.
const MAX_LOOKUPS: usize = 32;

/// How paths are looked up by which something is changed.
const NO_LINKS: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A directory that is open.
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens the directory, which is made with its parents if it is not there. The one path that is followed
    /// as it is: it comes from the helper's command line, or from the account.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// The path under which the rest of this process can use it, whatever it is called by now.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        by_descriptor(&self.0)
    }

    /// Opens what is there, as a directory or a file.
    pub(crate) fn open(
        &self,
        path: impl rustix::path::Arg,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(&self.0, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode, NO_LINKS)
    }

    /// What the path leads to, links followed as far as they stay below this directory. It can be looked at,
    /// and opened by [`reopen`]; what it is cannot change any more.
    pub(crate) fn find(&self, path: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
        let look_up = |stay| {
            for _ in 1..MAX_LOOKUPS {
                match rustix::fs::openat2(&self.0, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), stay)
                {
                    Err(Errno::AGAIN) => {}
                    found => return found,
                }
            }
            Err(Errno::AGAIN)
        };
        match look_up(ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            // Perhaps an absolute link, as uploads have them to the cache of downloads: where it leads
            // counts.
            Err(Errno::XDEV) => {
                let found = look_up(ResolveFlags::NO_MAGICLINKS)?;
                let (own, other) = (real_path(&self.0)?, real_path(&found)?);
                if other != own && other.starts_with(&own) { Ok(found) } else { Err(Errno::XDEV) }
            }
            found => found,
        }
    }

    /// A directory that was found by its descriptor.
    pub(crate) fn found(descriptor: &OwnedFd) -> Result<Self, Errno> {
        reopen(descriptor, OFlags::RDONLY | OFlags::DIRECTORY).map(Self)
    }

    /// The directory that the last name of the path is in, and that name. No link on the way is followed.
    pub(crate) fn parent<'a>(&self, path: &'a RelativePath) -> Result<(Self, &'a str), Errno> {
        match path.as_str().rsplit_once('/') {
            // Without NOFOLLOW the kernel says of the last name as well that it is a link.
            Some((parent, name)) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::openat2(&self.0, parent, flags, Mode::empty(), NO_LINKS)?;
                Ok((Self(opened), name))
            }
            None => Ok((Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?), path.as_str())),
        }
    }

    /// A directory of this user's own below this one, made if need be, and what it is called. Never one of
    /// another user: anything could be in it. In a work dir that several users share each has one.
    pub(crate) fn own_directory(&self, name: &str) -> Result<(Self, String), Errno> {
        let own = rustix::process::geteuid().as_raw();
        let mut last = Errno::ACCESS;
        for name in [name.to_owned(), format!("{name}-{own}")] {
            match self.make_directory(&name) {
                Ok(directory) if rustix::fs::fstat(&directory.0)?.st_uid == own => {
                    return Ok((directory, name));
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A directory below this one, if it is there.
    pub(crate) fn directory(&self, path: impl rustix::path::Arg) -> Result<Self, Errno> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map(Self)
    }

    /// A directory below this one, made with its parents if it is not there.
    pub(crate) fn make_directory(&self, path: &str) -> Result<Self, Errno> {
        match self.directory(path) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        let mut made = Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?);
        for name in path.split('/') {
            match rustix::fs::mkdirat(&made.0, name, DIRECTORY) {
                Ok(()) | Err(Errno::EXIST) => made = made.directory(name)?,
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// The directory that the last name of the path is in, made if need be, and that name.
    pub(crate) fn make_parent<'a>(&self, path: &'a RelativePath) -> Result<(Self, &'a str), Errno> {
        match path.as_str().rsplit_once('/') {
            Some((parent, name)) => Ok((self.make_directory(parent)?, name)),
            None => Ok((Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?), path.as_str())),
        }
    }

    /// A new file, for writing, and for reading what was written.
    pub(crate) fn create(&self, path: &RelativePath) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = match self.open(path.as_str(), flags, FILE) {
            Err(Errno::NOENT) => {
                let (parent, name) = self.make_parent(path)?;
                parent.open(name, flags, FILE)?
            }
            opened => opened?,
        };
        Ok(file.into())
    }

    /// A new symbolic link.
    pub(crate) fn link(&self, path: &RelativePath, target: &Path) -> Result<(), Errno> {
        let (parent, name) = self.make_parent(path)?;
        rustix::fs::symlinkat(target, &parent.0, name)
    }

    /// Whether a file of that name is there, and nothing else.
    pub(crate) fn has_file(&self, path: &RelativePath) -> Result<bool, Errno> {
        let stat = match self.open(path.as_str(), OFlags::PATH, Mode::empty()) {
            Ok(file) => rustix::fs::fstat(&file)?,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error),
        };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() { Ok(true) } else { Err(Errno::EXIST) }
    }

    /// Adds everything that the other directory has under names that are free here: files as hard links,
    /// directories and symbolic links as new ones.
    pub(crate) fn add_missing(&self, other: &Self, depth: usize) -> io::Result<()> {
        let below = depth.checked_sub(1).ok_or(Errno::LOOP)?;
        for entry in std::fs::read_dir(other.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                let target = rustix::fs::readlinkat(&other.0, &name, Vec::new())?;
                match rustix::fs::symlinkat(target, &self.0, &name) {
                    Ok(()) | Err(Errno::EXIST) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            if !kind.is_dir() {
                match rustix::fs::linkat(&other.0, &name, &self.0, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    // Another user's file, or a file system without hard links.
                    Err(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => self.add_copy(other, &name)?,
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            let from = other.directory(&name)?;
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&from.0)?.st_mode);
            match rustix::fs::mkdirat(&self.0, &name, Mode::RWXU) {
                Ok(()) => {
                    let new = self.directory(&name)?;
                    new.add_missing(&from, below)?;
                    rustix::fs::fchmod(&new.0, mode)?;
                }
                Err(Errno::EXIST) => match self.directory(&name) {
                    Ok(present) => present.add_missing(&from, below)?,
                    Err(Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn add_copy(&self, other: &Self, name: &OsStr) -> io::Result<()> {
        let mut from = File::from(other.open(name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?);
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&from)?.st_mode) & FILE_BITS;
        match self.open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode) {
            Ok(file) => io::copy(&mut from, &mut File::from(file)).map(drop),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves what is here under this name to another directory and name.
    pub(crate) fn rename(&self, name: &str, to: &Self, new: &str, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.0, name, &to.0, new, flags)
    }
}

/// Opens what was found by its descriptor. Waits neither for the writer of a pipe nor for a
/// carrier.
pub(crate) fn reopen(found: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(by_descriptor(found), flags, Mode::empty())
}

fn by_descriptor(descriptor: &OwnedFd) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

fn real_path(descriptor: &OwnedFd) -> Result<std::path::PathBuf, Errno> {
    use std::os::unix::ffi::OsStringExt;
    let path = rustix::fs::readlink(by_descriptor(descriptor), Vec::new())?;
    Ok(std::ffi::OsString::from_vec(path.into_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with a neighbour that nothing may reach.
    fn scene(name: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("further-link-beneath.{name}.{}", std::process::id()));
        fs::create_dir_all(root.join("in/sub")).unwrap();
        fs::create_dir_all(root.join("out")).unwrap();
        root
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    #[test]
    fn files_are_made_with_their_directories_and_never_over_others() {
        let root = scene("make");
        let beneath = Dir::make(&root.join("in")).unwrap();
        beneath.create(&path("a/b/c")).unwrap();
        assert_eq!(beneath.create(&path("a/b/c")).unwrap_err(), Errno::EXIST);
        assert_eq!(beneath.create(&path("a/b/c/d")).unwrap_err(), Errno::NOTDIR);
        beneath.link(&path("l/i/n/k"), Path::new("/somewhere")).unwrap();
        assert_eq!(fs::read_link(root.join("in/l/i/n/k")).unwrap(), Path::new("/somewhere"));
        assert_eq!(beneath.has_file(&path("a/b/c")), Ok(true));
        assert_eq!(beneath.has_file(&path("a/x")), Ok(false));
        assert_eq!(beneath.has_file(&path("a/b")), Err(Errno::EXIST), "a directory is no file");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn reading_follows_links_that_stay_below_and_no_others() {
        use std::os::unix::fs::symlink;
        let root = scene("find");
        let (inside, outside) = (root.join("in"), root.join("out"));
        fs::write(inside.join("sub/file"), "inside").unwrap();
        fs::write(outside.join("secret"), "outside").unwrap();
        symlink("sub/file", inside.join("near")).unwrap();
        symlink(inside.join("sub/file"), inside.join("absolute")).unwrap();
        symlink("sub", inside.join("way")).unwrap();
        symlink(outside.join("secret"), inside.join("far")).unwrap();
        symlink("../out/secret", inside.join("up")).unwrap();
        symlink(&inside, inside.join("itself")).unwrap();
        symlink("/proc/self/fd/0", inside.join("magic")).unwrap();
        symlink("round", inside.join("round")).unwrap();
        let beneath = Dir::make(&inside).unwrap();
        for name in ["sub/file", "near", "absolute", "way/file"] {
            let found = reopen(&beneath.find(name).unwrap(), OFlags::RDONLY).unwrap();
            assert_eq!(io::read_to_string(File::from(found)).unwrap(), "inside", "{name}");
        }
        for name in ["far", "up", "itself", "magic", "round", "none"] {
            assert!(beneath.find(name).is_err(), "{name}");
        }
        assert_eq!(beneath.parent(&path("way/file")).err(), Some(Errno::LOOP));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let root = scene("links");
        let (inside, outside) = (root.join("in"), root.join("out"));
        std::os::unix::fs::symlink(&outside, inside.join("up")).unwrap();
        std::os::unix::fs::symlink("../out", inside.join("sub/up")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), inside.join("file")).unwrap();
        let beneath = Dir::make(&inside).unwrap();
        for name in ["up/x", "sub/up/x", "up"] {
            assert!(beneath.create(&path(name)).is_err(), "{name}");
        }
        assert!(beneath.create(&path("file")).is_err());
        assert!(beneath.make_directory("up/more").is_err());
        assert!(beneath.has_file(&path("file")).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
        fs::remove_dir_all(root).unwrap();
    }

    /// Looks while threads swap a directory and a file with links to the outside; this variable names
    /// another number.
    const RACES: u32 = 20_000;
    const RACES_VARIABLE: &str = "FURTHER_LINK_TESTS_RACES";

    /// Swaps two names until it is told to stop.
    fn swap(inside: &Path, one: &str, other: &str, stop: &std::sync::atomic::AtomicBool) {
        let mut swaps = 0_u32;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let (Ok(()) | Err(_)) = rustix::fs::renameat_with(
                CWD,
                inside.join(one),
                CWD,
                inside.join(other),
                RenameFlags::EXCHANGE,
            );
            swaps += 1;
        }
        assert!(swaps > 100, "{one} was not swapped");
    }

    /// Nothing but the look-up itself is between the caller and the outside here: this test is no other user,
    /// and it is not confined.
    #[test]
    fn names_that_change_while_they_are_looked_up_lead_nowhere() {
        use std::os::unix::fs::{MetadataExt as _, symlink};
        let races = std::env::var(RACES_VARIABLE).map_or(RACES, |number| number.parse().unwrap());
        let root = scene("races");
        let (inside, outside) = (root.join("in"), root.join("out"));
        fs::write(outside.join("file"), "outside").unwrap();
        fs::write(inside.join("sub/file"), "inside").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        fs::write(inside.join("plain"), "inside").unwrap();
        symlink("../out/file", inside.join("plain-link")).unwrap();
        let of_outside = |descriptor: &OwnedFd| {
            let found = rustix::fs::fstat(descriptor).unwrap();
            [&outside, &outside.join("file")].iter().any(|path| {
                let other = fs::metadata(path).unwrap();
                (other.dev(), other.ino()) == (found.st_dev, found.st_ino)
            })
        };
        let beneath = Dir::make(&inside).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (mut held, mut met) = (0_u32, 0_u32);
        std::thread::scope(|scope| {
            scope.spawn(|| swap(&inside, "sub", "link", &stop));
            scope.spawn(|| swap(&inside, "plain", "plain-link", &stop));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for number in 0..races {
                    let name = path("sub/file");
                    let opened = match number % 6 {
                        0 => beneath.find("sub/file"),
                        1 => beneath.find("plain"),
                        2 => beneath.parent(&name).map(|(parent, _)| parent.0),
                        3 => beneath.open("sub/file", OFlags::RDWR, Mode::empty()),
                        4 => beneath.make_directory("sub/more").map(|made| made.0),
                        _ => beneath
                            .create(&path(&format!("sub/new{}", number % 64)))
                            .map(OwnedFd::from)
                            .or_else(|_| {
                                beneath
                                    .find("sub")
                                    .and_then(|found| Dir::found(&found))
                                    .map(|directory| directory.0)
                            }),
                    };
                    match opened {
                        Ok(descriptor) => {
                            held += 1;
                            assert!(!of_outside(&descriptor), "look {number} has led outside");
                        }
                        Err(_) => met += 1,
                    }
                }
            }));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            outcome.unwrap();
        });
        assert!(held > 0 && met > 0, "no race: {held} went well and {met} met a link");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "something was made outside");
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"outside");
        fs::remove_dir_all(root).unwrap();
    }
}
