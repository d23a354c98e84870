//! What compilers made for earlier runs of this user, to be used again: `~/.cache/further-link/compiled`.
//!
//! A file there is what one compiler made of one source: a head, and then the program. It counts only if
//! all that the compiler was given is the same, byte for byte (its command line, its variables, the
//! program's text), and if the compiler, the machine's packages, and every file that it had read are as they
//! were. As the user.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bincode::{Decode, Encode, config};
use rustix::time::{ClockId, clock_gettime};

use super::{environment::Variable, launch::CHANNEL};
use crate::{
    handoff::{bytes, path},
    identity::IsUser,
    plan::{Cacheable, Stage},
};

/// Below the home.
const FOLDER: &str = ".cache/further-link/compiled";
/// Most programs that are kept of one user, and their bytes.
const MAX_PROGRAMS: usize = 64;
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Largest program that is kept, and its largest head.
const MAX_PROGRAM: u64 = 64 * 1024 * 1024;
const MAX_HEAD: usize = 4 * 1024 * 1024;
/// Longest source that is compared.
const MAX_SOURCE: u64 = 1024 * 1024;
/// So much of what the compiler says is kept, and said again.
pub(crate) const MAX_WORDS: usize = 32 * 1024;
/// Changes whenever the packages of a Debian machine do, and with them headers and libraries.
const PACKAGES: &str = "/var/lib/dpkg/status";
/// After this time a file that another run has left half written is removed.
const ABANDONED: Duration = Duration::from_hours(1);

const CONFIG: config::Configuration<config::LittleEndian, config::Varint, config::Limit<MAX_HEAD>> =
    config::standard().with_limit::<MAX_HEAD>();

/// The place of what this compiler makes of this source.
pub(crate) struct Compiled<'a> {
    files: &'a Cacheable,
    folder: PathBuf,
    given: Given,
    /// When the compiler began, by the clock that the kernel stamps files with.
    began: (i64, i64),
}

/// All that a compiler is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
struct Given {
    args: Vec<Vec<u8>>,
    cwd: Vec<u8>,
    variables: Vec<(String, String)>,
    /// The compiler and what it needs, and the packages of the machine.
    programs: Vec<(Vec<u8>, Stamp)>,
    source: Vec<u8>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What stands before the program.
#[derive(Debug, Encode, Decode)]
struct Head {
    given: Given,
    /// The files that the compiler has read.
    read: Vec<(Vec<u8>, Stamp)>,
    /// What it has said.
    words: Vec<u8>,
    length: u64,
}

impl<'a> Compiled<'a> {
    /// None if what this compiler makes is not to be kept, or something cannot be read. `programs` is the
    /// compiler, and what it needs.
    pub(crate) fn of(
        _: IsUser,
        stage: &'a Stage,
        programs: &[PathBuf],
        environment: &[Variable],
        home: &Path,
    ) -> Option<Self> {
        let files = stage.cache.as_ref()?;
        let source = read_source(&files.source)?;
        let own = files.out.parent()?;
        let in_general = |arg: &OsString| match Path::new(arg) {
            arg if files.is_text && *arg == files.source => b"{file}".to_vec(),
            arg => match arg.strip_prefix(own) {
                Ok(rest) => [b"{private}/", rest.as_os_str().as_bytes()].concat(),
                Err(_) => arg.as_os_str().as_bytes().to_vec(),
            },
        };
        let stamped = |program: &PathBuf| Some((bytes(program), Stamp::of(program)?));
        let mut programs = programs.iter().map(stamped).collect::<Option<Vec<_>>>()?;
        programs.extend(Stamp::of(Path::new(PACKAGES)).map(|stamp| (PACKAGES.into(), stamp)));
        let given = Given {
            args: stage.args.iter().map(in_general).collect(),
            cwd: bytes(&std::env::current_dir().ok()?),
            // The channel of this run has nothing to say to a compiler.
            variables: environment.iter().filter(|(name, _)| name != CHANNEL).cloned().collect(),
            programs,
            source,
        };
        Some(Self { files, folder: home.join(FOLDER), given, began: now() })
    }

    /// Puts what was made before into its place: what the compiler has said then.
    pub(crate) fn fetch(&self) -> Option<Vec<u8>> {
        let mut stored = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.file())
            .ok()?;
        let found = stored.metadata().ok()?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
            return None;
        }
        let head = read_head(&mut stored)?;
        let is_same =
            |(file, stamp): &(Vec<u8>, Stamp)| Stamp::of(&path(file.clone())).as_ref() == Some(stamp);
        if head.given != self.given || !head.read.iter().all(is_same) {
            return None;
        }
        let mut out = File::options().write(true).create_new(true).mode(0o755).open(&self.files.out).ok()?;
        if io::copy(&mut stored, &mut out).ok()? != head.length {
            // The compiler makes it.
            drop(out);
            let (Ok(()) | Err(_)) = fs::remove_file(&self.files.out);
            return None;
        }
        // The one used least lately is the first to go.
        let (Ok(()) | Err(_)) = stored.set_modified(SystemTime::now());
        Some(head.words)
    }

    /// Keeps what was made, if nothing has changed meanwhile. The run goes on whether that works or not.
    pub(crate) fn store(&self, words: Vec<u8>) {
        let (Some(()) | None) = self.try_store(words);
    }

    fn try_store(&self, words: Vec<u8>) -> Option<()> {
        let length = fs::metadata(&self.files.out).ok().filter(fs::Metadata::is_file)?.len();
        if length > MAX_PROGRAM || read_source(&self.files.source)? != self.given.source {
            return None;
        }
        let mut read = Vec::new();
        for file in listed(&fs::read(&self.files.deps).ok()?) {
            let file = path(file);
            if file == self.files.source {
                continue;
            }
            // In one tick it could have changed before it was read, and again after that.
            let stamp = Stamp::of(&file).filter(|stamp| stamp.changed < self.began)?;
            read.push((bytes(&file), stamp));
        }
        let head = Head { given: self.given.clone(), read, words, length };
        let head = bincode::encode_to_vec(head, CONFIG).ok()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).ok()?;
        let new = self.folder.join(format!("new-{}", std::process::id()));
        let stored = write(&new, &head, &self.files.out).and_then(|()| fs::rename(&new, self.file()));
        if stored.is_err() {
            let (Ok(()) | Err(_)) = fs::remove_file(&new);
        }
        make_room(&self.folder);
        Some(())
    }

    fn file(&self) -> PathBuf {
        // To find it only: what is found is compared.
        let mut hasher = DefaultHasher::new();
        self.given.hash(&mut hasher);
        self.folder.join(format!("{:016x}", hasher.finish()))
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let found = fs::metadata(file).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Now, by the clock whose ticks are the times of changes: what changes from here on is not older.
fn now() -> (i64, i64) {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec, now.tv_nsec)
}

fn read_source(file: &Path) -> Option<Vec<u8>> {
    // A named pipe would be waited for.
    fs::metadata(file).ok().filter(|found| found.is_file() && found.len() <= MAX_SOURCE)?;
    let mut source = Vec::new();
    let file = File::open(file).ok()?;
    file.take(MAX_SOURCE).read_to_end(&mut source).ok()?;
    Some(source)
}

fn read_head(stored: &mut File) -> Option<Head> {
    let mut length = [0; 4];
    stored.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= MAX_HEAD)?;
    let mut head = vec![0; length];
    stored.read_exact(&mut head).ok()?;
    bincode::decode_from_slice(&head, CONFIG).ok().map(|(head, _)| head)
}

fn write(new: &Path, head: &[u8], program: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(head)?;
    io::copy(&mut File::open(program)?, &mut file).map(drop)
}

/// Removes what was not used for the longest time.
fn make_room(folder: &Path) {
    let Ok(found) = fs::read_dir(folder) else { return };
    let mut files: Vec<_> = found
        .flatten()
        .filter_map(|file| {
            Some((file.metadata().ok()?.modified().ok()?, file.metadata().ok()?.len(), file.path()))
        })
        .collect();
    files.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    let (mut count, mut bytes) = (0, 0);
    for (used, size, file) in files {
        let is_new = file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"new-"));
        if is_new && used.elapsed().is_ok_and(|age| age < ABANDONED) {
            continue;
        }
        count += 1;
        bytes += size;
        if is_new || count > MAX_PROGRAMS || bytes > MAX_BYTES {
            let (Ok(()) | Err(_)) = fs::remove_file(file);
        }
    }
}

/// The files in a rule of make(1), as compilers write it: `target: file file`, with backslashes before spaces
/// and the ends of lines.
fn listed(rules: &[u8]) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let text = rules.split(|byte| *byte == b'\n').fold(Vec::new(), |mut lines: Vec<Vec<u8>>, line| {
        match lines.last_mut().filter(|last| last.last() == Some(&b'\\')) {
            Some(last) => {
                last.pop();
                last.push(b' ');
                last.extend(line);
            }
            None => lines.push(line.to_vec()),
        }
        lines
    });
    for line in text.iter().filter(|line| !line.starts_with(b"#")) {
        let Some(colon) = line.windows(2).position(|two| two == b": ") else { continue };
        let mut word = Vec::new();
        let mut rest = line.get(colon + 2..).unwrap_or_default().iter().copied().peekable();
        while let Some(byte) = rest.next() {
            match byte {
                b'\\' if matches!(rest.peek(), Some(b' ' | b'#' | b'\\')) => word.extend(rest.next()),
                b'$' if rest.peek() == Some(&b'$') => word.extend(rest.next()),
                b' ' => files.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
                _ => word.push(byte),
            }
        }
        files.extend(Some(word).filter(|word| !word.is_empty()));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn what_a_compiler_lists_is_read_as_make_reads_it() {
        let rules = b"/t/program: /t/7.c /usr/include/stdio.h \\\n /p/a\\ b.h \\\n  /p/$$c.h\n\n/t/7.c:\n# env-dep:X=1\n";
        let expected: [&[u8]; 4] = [b"/t/7.c", b"/usr/include/stdio.h", b"/p/a b.h", b"/p/$c.h"];
        assert_eq!(listed(rules), expected);
        assert!(listed(b"").is_empty() && listed(b"x:\n").is_empty());
    }

    #[test]
    fn the_ones_used_least_lately_make_room() {
        let folder = std::env::temp_dir().join(format!("further-link-compiled-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let begun = SystemTime::now() - Duration::from_hours(10);
        for number in 0..70_u32 {
            let file = File::create(folder.join(number.to_string())).unwrap();
            file.set_modified(begun + Duration::from_secs(number.into())).unwrap();
        }
        File::create(folder.join("new-1")).unwrap();
        File::create(folder.join("new-2")).unwrap().set_modified(begun).unwrap();
        make_room(&folder);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(left.len(), MAX_PROGRAMS + 1);
        let has = |name: &str| left.iter().any(|left| left == OsStr::new(name));
        assert!(has("new-1") && !has("new-2") && has("69") && has("6") && !has("5"));
    }
}
