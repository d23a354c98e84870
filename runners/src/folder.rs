//! Folders of runner files, and which files in them count: those of root that no other user can write.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Dir, FileType, Mode, OFlags, fstat, open, openat},
    io::Errno,
};

use further_link_proto::RunnerId;

use crate::file::{FileError, Runner, parse, parse_for_start};

/// Most bytes of a file.
const MAX_FILE: u64 = 64 * 1024;
/// Most files of a folder that are looked at.
const MAX_FILES: usize = 1000;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const ENDING: &str = ".toml";
/// Write permission of the group and of others.
const OTHERS_WRITE: u32 = 0o022;

/// A folder of runner files. It is opened where it can be, also by a process that will be another user: what
/// lies above it need not be open to that user.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    opened: Option<OwnedFd>,
}

impl Folder {
    /// The folder of this path, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let opened = open(&path, DIRECTORY, Mode::empty()).ok();
        Self { path, opened }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// None if there is no such folder.
    fn open(&self, trust: Trust) -> Result<Option<OwnedFd>, ReadError> {
        let is_there = |opened: &&OwnedFd| fstat(opened).is_ok_and(|stat| stat.st_nlink > 0);
        let opened = match self.opened.as_ref().filter(is_there) {
            Some(opened) => openat(opened, ".", DIRECTORY, Mode::empty()),
            None => open(&self.path, DIRECTORY, Mode::empty()),
        };
        match opened {
            Ok(opened) => trust.holds(&opened, &self.path, FileType::Directory).map(|_| Some(opened)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(at(&self.path, errno)),
        }
    }
}

/// Whose files count, beside those of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    owner: u32,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Another user could have written it.
    #[error(
        "{0} belongs to a user whom nothing is believed (chown it to root), or others can write it (chmod go-w)"
    )]
    NotTrusted(PathBuf),
    /// Not a file of this format.
    #[error("{0}, {1}")]
    Format(PathBuf, FileError),
    /// Too large, or no text.
    #[error("{0} is no text of at most 64 KiB")]
    NoText(PathBuf),
    /// The kernel's reason.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

impl ReadError {
    /// Which file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::NotTrusted(path) | Self::Format(path, _) | Self::NoText(path) | Self::Io(path, _) => path,
        }
    }
}

impl Trust {
    /// Files of this user count as well: of the user who runs what they say, or who owns this program.
    pub fn also(owner: u32) -> Self {
        Self { owner }
    }

    fn holds(self, file: impl AsFd, path: &Path, kind: FileType) -> Result<u64, ReadError> {
        let stat = fstat(file).map_err(|errno| at(path, errno))?;
        let is_of_kind = FileType::from_raw_mode(stat.st_mode) == kind;
        let is_trusted = stat.st_uid == 0 || stat.st_uid == self.owner;
        if is_of_kind && is_trusted && stat.st_mode & OTHERS_WRITE == 0 {
            Ok(u64::try_from(stat.st_size).unwrap_or(u64::MAX))
        } else {
            Err(ReadError::NotTrusted(path.to_owned()))
        }
    }
}

fn at(path: &Path, errno: Errno) -> ReadError {
    ReadError::Io(path.to_owned(), errno.into())
}

/// The runner of this id for a start, so without its tests, from the first of these folders that has one.
pub fn read(folders: &[Folder], id: &str, trust: Trust) -> Result<Option<Runner>, ReadError> {
    if !RunnerId::is_id(id) {
        return Ok(None);
    }
    for folder in folders {
        if let Some(opened) = folder.open(trust)?
            && let Some(runner) = read_file(&opened, &folder.path, id, trust, parse_for_start)?
        {
            return Ok(Some(runner).filter(|runner| !runner.is_disabled));
        }
    }
    Ok(None)
}

/// All runners, by id, from folders whose first has the last word. Each file that is broken takes out itself.
/// A folder that cannot be read takes out those behind it, as for [`read`]: its files would win.
pub fn list(folders: &[Folder], trust: Trust) -> (Vec<Runner>, Vec<ReadError>) {
    let mut found: BTreeMap<String, Option<Runner>> = BTreeMap::new();
    let mut errors = Vec::new();
    for folder in folders {
        let ids = match folder.open(trust) {
            Ok(None) => continue,
            Ok(Some(opened)) => ids_in(&opened, &folder.path).map(|ids| (opened, ids)),
            Err(error) => Err(error),
        };
        let (opened, ids) = match ids {
            Ok(found) => found,
            Err(error) => {
                errors.push(error);
                break;
            }
        };
        for id in ids {
            if found.contains_key(&id) {
                continue;
            }
            match read_file(&opened, &folder.path, &id, trust, parse) {
                Ok(runner) => drop(found.insert(id, runner)),
                Err(error) => {
                    errors.push(error);
                    found.insert(id, None);
                }
            }
        }
    }
    (found.into_values().flatten().filter(|runner| !runner.is_disabled).collect(), errors)
}

fn ids_in(opened: &OwnedFd, folder: &Path) -> Result<Vec<String>, ReadError> {
    let entries = Dir::read_from(opened).map_err(|errno| at(folder, errno))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let ids = names
        .filter_map(|name| name.strip_suffix(ENDING).filter(|id| RunnerId::is_id(id)).map(str::to_owned));
    Ok(ids.take(MAX_FILES).collect())
}

/// None if there is no such file.
fn read_file(
    opened: &OwnedFd,
    folder: &Path,
    id: &str,
    trust: Trust,
    parse: fn(&str, &str) -> Result<Runner, FileError>,
) -> Result<Option<Runner>, ReadError> {
    let name = format!("{id}{ENDING}");
    let path = folder.join(&name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(opened, &name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(ReadError::NotTrusted(path)),
        Err(errno) => return Err(at(&path, errno)),
    };
    let size = trust.holds(&file, &path, FileType::RegularFile)?;
    if size > MAX_FILE {
        return Err(ReadError::NoText(path));
    }
    // With room for the look that finds the end.
    let mut text = String::with_capacity(usize::try_from(size).unwrap_or_default() + 64);
    let read = File::from(file).take(MAX_FILE).read_to_string(&mut text);
    match read {
        Ok(_) => parse(&text, id).map(Some).map_err(|error| ReadError::Format(path, error)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(ReadError::NoText(path)),
        Err(error) => Err(ReadError::Io(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn runner(id: &str, title: &str) -> String {
        format!("id = \"{id}\"\ntitle = \"{title}\"\n[run]\nargv = [\"true\"]\n")
    }

    /// An administrator's folder and the package's, removed at the end.
    struct Folders(PathBuf);

    impl Folders {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("further-link-{name}.{}", std::process::id()));
            for folder in ["etc", "usr"] {
                std::fs::create_dir_all(path.join(folder)).unwrap();
            }
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn both(&self) -> [Folder; 2] {
            ["etc", "usr"].map(|name| Folder::new(self.0.join(name)))
        }

        fn read(&self, id: &str) -> Result<Option<Runner>, ReadError> {
            read(&self.both(), id, own())
        }

        fn list(&self) -> (Vec<Runner>, Vec<ReadError>) {
            list(&self.both(), own())
        }
    }

    impl Drop for Folders {
        fn drop(&mut self) {
            let (Ok(()) | Err(_)) = std::fs::remove_dir_all(&self.0);
        }
    }

    fn own() -> Trust {
        Trust::also(rustix::process::getuid().as_raw())
    }

    #[test]
    fn the_administrators_file_wins_and_can_take_one_out() {
        let folders = Folders::new("wins");
        folders.write("usr/a.toml", &runner("a", "package"));
        folders.write("usr/b.toml", &runner("b", "package"));
        folders.write("usr/c.toml", &runner("c", "package"));
        folders.write("etc/a.toml", &runner("a", "administrator"));
        folders.write("etc/b.toml", "id = \"b\"\ndisabled = true\n");
        folders.write("etc/notes.txt", "no runner");
        assert_eq!(folders.read("a").unwrap().unwrap().title, "administrator");
        assert!(folders.read("b").unwrap().is_none());
        assert!(folders.read("d").unwrap().is_none());
        let (runners, errors) = folders.list();
        let titles: Vec<_> =
            runners.iter().map(|runner| (runner.id.as_str(), runner.title.as_str())).collect();
        assert_eq!(titles, [("a", "administrator"), ("c", "package")]);
        assert!(errors.is_empty());
    }

    #[test]
    fn a_broken_file_takes_out_itself_and_is_not_replaced_by_another() {
        let folders = Folders::new("broken");
        folders.write("usr/a.toml", &runner("a", "package"));
        folders.write("usr/b.toml", &runner("b", "package"));
        folders.write("etc/a.toml", "id = \"a\"\ntitle = 7\n");
        let (runners, errors) = folders.list();
        assert_eq!(runners.len(), 1);
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(
            error.to_string().ends_with("etc/a.toml, line 2: title: has to be a text in quotes"),
            "{error}"
        );
        assert!(folders.read("a").is_err());
    }

    #[test]
    fn what_others_can_write_does_not_count() {
        let folders = Folders::new("trust");
        let file = folders.write("etc/a.toml", &runner("a", "a"));
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for open_to_others in [0o666, 0o664, 0o646] {
            mode(&file, open_to_others);
            assert!(matches!(folders.read("a"), Err(ReadError::NotTrusted(_))), "{open_to_others:o}");
        }
        mode(&file, 0o644);
        assert!(folders.read("a").unwrap().is_some());
        mode(&folders.0.join("etc"), 0o777);
        assert!(matches!(folders.read("a"), Err(ReadError::NotTrusted(_))));
        mode(&folders.0.join("etc"), 0o755);
        symlink(&file, folders.0.join("etc/b.toml")).unwrap();
        assert!(matches!(folders.read("b"), Err(ReadError::NotTrusted(_))));
        std::fs::create_dir(folders.0.join("etc/c.toml")).unwrap();
        assert!(matches!(folders.read("c"), Err(ReadError::NotTrusted(_))));
        if rustix::process::getuid().is_root() {
            rustix::fs::chown(&file, Some(rustix::fs::Uid::from_raw(1)), None).unwrap();
            assert!(matches!(folders.read("a"), Err(ReadError::NotTrusted(_))));
            let path = folders.0.join("etc");
            assert!(read(&[Folder::new(path)], "a", Trust::also(1)).unwrap().is_some());
        }
    }

    #[test]
    fn a_folder_that_others_can_write_takes_out_those_behind_it() {
        let folders = Folders::new("behind");
        folders.write("usr/a.toml", &runner("a", "package"));
        let open_to_others = std::fs::Permissions::from_mode(0o775);
        std::fs::set_permissions(folders.0.join("etc"), open_to_others).unwrap();
        let (runners, errors) = folders.list();
        assert_eq!((runners.len(), errors.len()), (0, 1), "{errors:?}");
        assert!(folders.read("a").is_err());
    }

    #[test]
    fn a_folder_may_come_and_go() {
        let folders = Folders::new("come");
        let later = [Folder::new(folders.0.join("later"))];
        assert!(read(&later, "a", own()).unwrap().is_none());
        std::fs::create_dir(folders.0.join("later")).unwrap();
        folders.write("later/a.toml", &runner("a", "a"));
        assert!(read(&later, "a", own()).unwrap().is_some());
        let again = [Folder::new(folders.0.join("later"))];
        std::fs::remove_dir_all(folders.0.join("later")).unwrap();
        assert!(read(&again, "a", own()).unwrap().is_none());
        std::fs::create_dir(folders.0.join("later")).unwrap();
        folders.write("later/a.toml", &runner("a", "b"));
        assert_eq!(read(&again, "a", own()).unwrap().unwrap().title, "b");
    }

    #[test]
    fn a_file_has_a_limit() {
        let folders = Folders::new("limit");
        folders.write("etc/a.toml", &format!("# {}\n", "x".repeat(64 * 1024)));
        assert!(matches!(folders.read("a"), Err(ReadError::NoText(_))));
        std::fs::write(folders.0.join("etc/b.toml"), b"\xff").unwrap();
        assert!(matches!(folders.read("b"), Err(ReadError::NoText(_))));
    }
}
