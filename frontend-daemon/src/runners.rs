//! The languages and kinds of program of this device, as the runner files have them: to list them, to choose
//! one for a start, and to say what is wrong. What is executed the helper reads itself.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use further_link_api::{ORIGINAL_RUNNERS, RunnerEntry, Start, StartFailure};
use further_link_proto::RunnerId;
use further_link_runners::{Folder, Runner, Trust, list};
use tracing::warn;

/// Files that change are seen after this time.
const FRESH: Duration = Duration::from_secs(1);
/// Most characters of an id that is none in the error about it.
const MAX_QUOTED: usize = 40;
/// Where programs are looked for: the PATHs of logins.
const PATH: [&str; 8] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/games",
    "/usr/games",
];

/// All of them.
pub(crate) struct Runners {
    folders: Vec<Folder>,
    trust: Trust,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Arc<Known>,
    read_at: Option<Instant>,
    /// What the log has already.
    logged: HashSet<String>,
}

/// A language whose version a program tells, and all that the answer depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Versioned {
    pub(crate) id: RunnerId,
    command: Vec<String>,
    /// The programs that it needs, each with its inode, size and time.
    programs: Vec<(PathBuf, [i64; 4])>,
}

/// What the files say.
#[derive(Default)]
struct Known {
    runners: Vec<Runner>,
    /// What clients are told of them. To know what is installed takes some hundred looks into folders.
    entries: OnceLock<Vec<RunnerEntry>>,
    versioned: OnceLock<Arc<[Versioned]>>,
    /// By id, what is wrong with a file.
    broken: Vec<(String, String)>,
    /// What is wrong with a folder: it takes out all that is not in one before it.
    broken_folder: Option<String>,
}

impl Runners {
    /// Those of these folders, whose first has the last word.
    pub(crate) fn new(folders: &[PathBuf]) -> io::Result<Self> {
        let folders = folders.iter().map(Folder::new).collect();
        let trust = Trust::also(fs::metadata("/proc/self/exe")?.uid());
        Ok(Self { folders, trust, state: Mutex::default() })
    }

    /// Refuses environments of packages where the language has none.
    pub(crate) fn check(&self, start: &Start, id: &RunnerId) -> Result<(), StartFailure> {
        if start.venv.is_none() && start.install.is_none() {
            return Ok(());
        }
        match self.known().find(id.as_str()) {
            Some(runner) if runner.venv.is_none() => {
                Err(StartFailure::NoVenvs { title: runner.title.clone() })
            }
            // Of a user's own the helper knows.
            _ => Ok(()),
        }
    }

    /// The runner of a start: the one that is named, or the one of the path's ending, or of the text's first
    /// line.
    pub(crate) fn choose(&self, start: &Start) -> Result<RunnerId, StartFailure> {
        if let Some(id) = &start.runner {
            return self.named(id);
        }
        let known = self.known();
        let by_ending = start.path.as_deref().and_then(|path| known.of_ending(path));
        let found = by_ending.or_else(|| known.of_first_line(start.code.as_deref()?));
        found.and_then(|runner| RunnerId::new(runner.id.as_str()).ok()).ok_or(StartFailure::NoRunner)
    }

    /// The runner of this id.
    pub(crate) fn named(&self, text: &str) -> Result<RunnerId, StartFailure> {
        let unknown = || StartFailure::UnknownRunner { id: text.chars().take(MAX_QUOTED).collect() };
        let id = RunnerId::new(text).map_err(|_| unknown())?;
        // The helper knows, and no other process needs to look.
        if id.own().is_some() || ORIGINAL_RUNNERS.contains(&text) {
            return Ok(id);
        }
        let known = self.known();
        if let Some(reason) = known.reason(text) {
            return Err(StartFailure::BrokenRunner { id: text.to_owned(), reason });
        }
        if known.find(text).is_some() { Ok(id) } else { Err(unknown()) }
    }

    /// Why the helper could not use the file of this runner.
    pub(crate) fn not_usable(&self, id: &RunnerId, error: &io::Error) -> StartFailure {
        let known = self.known();
        if error.kind() == io::ErrorKind::NotFound {
            return StartFailure::UnknownRunner { id: id.as_str().to_owned() };
        }
        let may_not_read = Some(rustix::io::Errno::ACCESS.raw_os_error());
        let reason = known.reason(id.as_str()).unwrap_or_else(|| match error.kind() {
            io::ErrorKind::PermissionDenied if error.raw_os_error() == may_not_read => {
                "the user may not read it, or its folder (chmod a+rX)".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "it has to belong to the user, or to root, and no other user may write it".to_owned()
            }
            io::ErrorKind::InvalidInput => "the log of further-link names its line and field".to_owned(),
            _ => error.to_string(),
        });
        StartFailure::BrokenRunner { id: id.as_str().to_owned(), reason }
    }

    /// What to tell a client whose language is not installed.
    pub(crate) fn not_installed(&self, id: &RunnerId) -> StartFailure {
        let known = self.known();
        let runner = known.find(id.as_str());
        let title = runner.map_or_else(|| id.as_str().to_owned(), |runner| runner.title.clone());
        let hint = runner.and_then(|runner| runner.hint.clone());
        let hint = hint.unwrap_or_else(|| "install the programs that its runner file requires".to_owned());
        StartFailure::NotInstalled { title, hint }
    }

    /// What clients are told of them.
    pub(crate) fn entries(&self) -> Vec<RunnerEntry> {
        let known = self.known();
        known.entries.get_or_init(|| known.runners.iter().map(entry).collect()).clone()
    }

    /// Each as its file has it.
    pub(crate) fn all(&self) -> Vec<Runner> {
        self.known().runners.clone()
    }

    /// Those that are installed, and can tell their version.
    pub(crate) fn versioned(&self) -> Arc<[Versioned]> {
        let known = self.known();
        let versioned = known.versioned.get_or_init(|| known.runners.iter().filter_map(versioned).collect());
        Arc::clone(versioned)
    }

    fn known(&self) -> Arc<Known> {
        let mut state = self.lock();
        if state.read_at.is_none_or(|at| at.elapsed() > FRESH) {
            let (runners, errors) = list(&self.folders, self.trust);
            let mut broken = Vec::new();
            let mut broken_folder = None;
            for error in errors {
                let reason = error.to_string();
                if self.folders.iter().any(|folder| folder.path() == error.path()) {
                    if state.logged.insert(reason.clone()) {
                        warn!("the runners of a folder, and of those behind it, are left out: {reason}");
                    }
                    broken_folder = Some(reason);
                    continue;
                }
                let id = error.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
                if state.logged.insert(reason.clone()) {
                    warn!("the runner {id} is left out: {reason}");
                }
                broken.push((id, reason));
            }
            state.known = Arc::new(Known { runners, broken, broken_folder, ..Known::default() });
            state.read_at = Some(Instant::now());
        }
        Arc::clone(&state.known)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn find(&self, id: &str) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.id == id)
    }

    fn reason(&self, id: &str) -> Option<String> {
        let of_file = self.broken.iter().find(|(broken, _)| broken == id).map(|(_, reason)| reason.clone());
        of_file.or_else(|| {
            self.broken_folder.clone().filter(|_| self.find(id).is_none() && !id.starts_with('~'))
        })
    }

    fn of_ending(&self, path: &str) -> Option<&Runner> {
        let ending = Path::new(path).extension()?.to_str()?.to_ascii_lowercase();
        self.runners.iter().find(|runner| runner.extensions.contains(&ending))
    }

    fn of_first_line(&self, text: &str) -> Option<&Runner> {
        let name = interpreter(text.lines().next()?)?;
        self.runners.iter().find(|runner| runner.interpreters.iter().any(|own| own == name))
    }
}

/// The interpreter that a first line such as `#!/usr/bin/env python3` names.
fn interpreter(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let first = base_name(words.next()?);
    if first != "env" {
        return Some(first);
    }
    words.find(|word| !word.starts_with('-') && !word.contains('=')).map(base_name)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn entry(runner: &Runner) -> RunnerEntry {
    let available = is_available(runner);
    RunnerEntry {
        id: runner.id.clone(),
        title: runner.title.clone(),
        extensions: runner.extensions.clone(),
        available,
        hint: runner.hint.clone().filter(|_| !available),
        version: None,
    }
}

fn versioned(runner: &Runner) -> Option<Versioned> {
    let command = runner.version.clone()?;
    let names = command.first().into_iter().chain(&runner.requires);
    let programs = names.map(|name| {
        let program = installed(name)?;
        let found = fs::metadata(&program).ok()?;
        let (inode, size) = (found.ino().cast_signed(), found.size().cast_signed());
        Some((program, [inode, size, found.mtime(), found.mtime_nsec()]))
    });
    let programs = programs.collect::<Option<_>>()?;
    Some(Versioned { id: RunnerId::new(runner.id.as_str()).ok()?, command, programs })
}

/// Whether the programs are installed that the runner needs.
pub(crate) fn is_available(runner: &Runner) -> bool {
    runner.requires.iter().all(|program| installed(program).is_some())
}

/// Where the program is, by its name or as it stands.
fn installed(program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    PATH.iter().map(|directory| Path::new(directory).join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the package, and one that is broken.
    fn runners(name: &str) -> (Runners, PathBuf) {
        let own = std::env::temp_dir().join(format!("further-link-{name}.{}", std::process::id()));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("broken.toml"), "id = \"broken\"\ntitle = 7\n").unwrap();
        let missing = "id = \"missing\"\ntitle = \"M\"\nrequires = [\"no-such-program\"]\nhint = \"buy it\"\n[run]\nargv = [\"no-such-program\"]\n";
        fs::write(own.join("missing.toml"), missing).unwrap();
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runners.d");
        let mut runners = Runners::new(&[own.clone(), package]).unwrap();
        runners.trust = Trust::also(fs::metadata(&own).unwrap().uid());
        (runners, own)
    }

    #[test]
    fn a_start_has_the_runner_that_it_names_or_that_its_file_tells() {
        let (runners, own) = runners("chosen");
        let chosen = |start: Start| runners.choose(&start).map(|id| id.as_str().to_owned());
        let with = |path: Option<&str>, code: Option<&str>| {
            let (path, code) = (path.map(str::to_owned), code.map(str::to_owned));
            chosen(Start { path, code, ..Start::default() })
        };
        assert_eq!(chosen(Start::new("exec")).unwrap(), "exec");
        assert_eq!(chosen(Start::new("~mine")).unwrap(), "~mine");
        assert_eq!(with(Some("a/b.PY"), None).unwrap(), "python3");
        assert_eq!(with(None, Some("#!/usr/bin/env -S python3 -u\nprint()")).unwrap(), "python3");
        assert_eq!(with(Some("folder"), Some("#!/usr/bin/python3\n")).unwrap(), "python3");
        for (path, code) in [(Some("a"), None), (None, Some("print()")), (None, None), (None, Some("#!\n"))] {
            assert_eq!(with(path, code), Err(StartFailure::NoRunner), "{path:?} {code:?}");
        }
        for id in ["klingon", "", "../python3", "Python3", &"x".repeat(100)] {
            assert!(matches!(chosen(Start::new(id)), Err(StartFailure::UnknownRunner { .. })), "{id}");
        }
        let broken = chosen(Start::new("broken")).unwrap_err().to_string();
        assert!(broken.contains("broken.toml, line 2: title: has to be a text"), "{broken}");
        fs::remove_dir_all(own).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_trusted_is_named() {
        let (mut runners, own) = runners("folder");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        runners.folders.reverse();
        let named = |runners: &Runners, id| runners.choose(&Start::new(id)).unwrap_err().to_string();
        assert!(runners.choose(&Start::new("perl")).is_ok(), "a folder before it counts");
        assert!(named(&runners, "missing").contains("chmod go-w"), "{}", named(&runners, "missing"));
        runners.folders.reverse();
        runners.lock().read_at = None;
        assert!(named(&runners, "perl").contains(&own.display().to_string()), "{}", named(&runners, "perl"));
        // The helper answers for these, and its reason is found all the same.
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error());
        let said = runners.not_usable(&RunnerId::new("python3").unwrap(), &refused).to_string();
        assert!(said.contains("chmod go-w") && said.contains(&own.display().to_string()), "{said}");
        fs::remove_dir_all(own).unwrap();
    }

    #[test]
    fn what_is_not_installed_comes_with_what_to_do() {
        let (runners, own) = runners("missing");
        let entries = runners.entries();
        let missing = entries.iter().find(|entry| entry.id == "missing").unwrap();
        assert_eq!((missing.available, missing.hint.as_deref()), (false, Some("buy it")));
        assert!(entries.iter().any(|entry| entry.id == "python3" && entry.available && entry.hint.is_none()));
        assert!(entries.iter().all(|entry| entry.id != "broken"));
        let said = runners.not_installed(&RunnerId::new("missing").unwrap()).to_string();
        assert!(said.ends_with("buy it"), "{said}");
        fs::remove_dir_all(own).unwrap();
    }
}
