//! What to run, decided from a permitted request alone: no file is looked at here, and nothing is done.
//!
//! The rules are B7 and B8. One thing is done differently on purpose: program text without a path goes
//! into a private directory below the temp dir. In the temp dir itself any local user could lay a module
//! for python to import (D12). The working directory stays the temp dir.

use std::path::{Path, PathBuf};

use further_link_proto::{Run, Runner};

use crate::{account::Account, check::Permitted};

/// Where the helper's command line says that files are.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    pub(crate) work: Option<PathBuf>,
    pub(crate) temp: PathBuf,
    pub(crate) projects: Option<PathBuf>,
}

impl Directories {
    /// Where relative paths of this user start, and uploads go (B7.3).
    pub(crate) fn work_dir_of(&self, account: &Account) -> PathBuf {
        self.work.clone().unwrap_or_else(|| account.home.join("further"))
    }

    /// Where this path is: absolute, below the home (`~/`, as a person would type it), or else below the work
    /// dir.
    fn resolve(&self, account: &Account, path: &str) -> PathBuf {
        match path.strip_prefix('~') {
            Some("") => account.home.clone(),
            Some(rest) if rest.starts_with('/') => account.home.join(rest.trim_start_matches('/')),
            _ => self.work_dir_of(account).join(path),
        }
    }

    /// Where the copies of this user's projects go (B11.12).
    pub(crate) fn projects_dir_of(&self, account: &Account) -> PathBuf {
        self.projects.clone().unwrap_or_else(|| account.home.join("Desktop/Projects/Further"))
    }
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) args: Vec<PathBuf>,
    pub(crate) cwd: PathBuf,
    /// Made with its parents before anything else.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) temporary: Temporary,
}

/// What is executed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Found in the user's PATH.
    Search(&'static str),
    /// This file.
    File(PathBuf),
    /// This file, made executable by its owner if it is not (uploads are 0644).
    Script(PathBuf),
}

/// What is made for this run alone, and removed when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Temporary {
    /// The socket of the user channel, of mode 0600.
    pub(crate) channel: PathBuf,
    /// A directory of mode 0700, removed with all that is in it: for program text that has no other place.
    pub(crate) private: Option<PathBuf>,
    /// The file that program text goes into.
    pub(crate) entrypoint: Option<Entrypoint>,
}

impl Temporary {
    /// What is left if the file could not be made since there was one before, or such a directory.
    pub(crate) fn without_entrypoint(self) -> Self {
        Self { private: None, entrypoint: None, ..self }
    }
}

/// A file for program text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrypoint {
    pub(crate) file: PathBuf,
    pub(crate) mode: u32,
}

/// Decides what to run. The random numbers make the names of temporary files, so that no other user can
/// lay something in the way. There are two, since all users see the socket's name before the directory is
/// made.
pub(crate) fn plan(permitted: &Permitted<Run>, directories: &Directories, numbers: [u64; 2]) -> Plan {
    let account = permitted.account();
    let run = permitted.request();
    let path = run.path.as_ref().map(|path| directories.resolve(account, path.as_str()));
    let temp_dir = &directories.temp;
    let [of_channel, number] = numbers;
    let channel = temp_dir.join(format!("further-link-{of_channel:016x}.sock"));
    let private = temp_dir.join(format!("further-link-{number:016x}"));

    if run.runner == Runner::Shell {
        return Plan {
            program: Program::File(account.shell.clone()),
            args: vec![account.shell.clone()],
            cwd: path.clone().unwrap_or_else(|| temp_dir.clone()),
            directory: path,
            temporary: Temporary { channel, private: None, entrypoint: None },
        };
    }
    let mut entrypoint = None;
    let (file, cwd, directory) = match (&run.code, path) {
        (None, Some(file)) => {
            let cwd = file.parent().unwrap_or(Path::new("/")).to_owned();
            (file, cwd, None)
        }
        // Nothing to run. python is given a directory without a `__main__`, and says so (B8). The
        // directory is its own, since any user could have put one into the temp dir.
        (None, None) => (private.clone(), temp_dir.clone(), None),
        (Some(_), path) => {
            let (name, mode) = entrypoint_name(run.runner, number);
            let file = path.as_ref().unwrap_or(&private).join(name);
            entrypoint = Some(Entrypoint { file: file.clone(), mode });
            (file, path.clone().unwrap_or_else(|| temp_dir.clone()), path)
        }
    };
    let (program, args) = if run.runner == Runner::Python3 {
        (Program::Search("python3"), vec!["python3".into(), "-u".into(), file])
    } else {
        (Program::Script(file.clone()), vec![file])
    };
    let private = run.path.is_none().then_some(private);
    Plan { program, args, cwd, directory, temporary: Temporary { channel, private, entrypoint } }
}

/// Name and mode of the file made for program text (B8).
fn entrypoint_name(runner: Runner, number: u64) -> (String, u32) {
    // The low half is enough for one directory, and keeps the name that users see in tracebacks short.
    let number = number & 0xffff_ffff;
    match runner {
        Runner::Python3 => (format!("{number}.py"), 0o644),
        Runner::Exec | Runner::Shell => (format!("exec-{number}"), 0o755),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Allowed, Policy};
    use further_link_proto::{CodeLength, Identity, PathText, UserName};

    const PRIVATE: &str = "/t/further-link-000000ab00000007";
    const CHANNEL: &str = "/t/further-link-0000000000000003.sock";

    fn planned(runner: Runner, path: Option<&str>, code: bool) -> Plan {
        let root = Allowed { name: UserName::new("root").unwrap(), guarded: false };
        let policy = Policy::new(Some(vec![root]), None).unwrap();
        let run = Run {
            identity: Identity::default(),
            runner,
            path: path.map(|path| PathText::new(path).unwrap()),
            code: code.then(|| CodeLength::new(1).unwrap()),
            terminal: None,
        };
        let directories = Directories { work: Some("/w".into()), temp: "/t".into(), projects: None };
        plan(&policy.check(run).unwrap(), &directories, [3, 0xab_0000_0007])
    }

    fn no_directory(entrypoint: Option<Entrypoint>) -> Temporary {
        Temporary { channel: CHANNEL.into(), private: None, entrypoint }
    }

    fn paths(texts: &[&str]) -> Vec<PathBuf> {
        texts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn text_without_a_path_goes_into_a_private_directory_and_runs_in_the_temp_dir() {
        let plan = planned(Runner::Python3, None, true);
        assert_eq!(plan.program, Program::Search("python3"));
        assert_eq!(plan.args, paths(&["python3", "-u", "/t/further-link-000000ab00000007/7.py"]));
        assert_eq!(plan.cwd, Path::new("/t"));
        assert_eq!(plan.directory, None);
        assert_eq!(plan.temporary.channel, Path::new(CHANNEL));
        assert_eq!(plan.temporary.private.as_deref(), Some(Path::new(PRIVATE)));
        assert_eq!(plan.temporary.entrypoint.unwrap().mode, 0o644);
    }

    #[test]
    fn text_with_a_path_goes_into_that_directory_which_is_made_and_worked_in() {
        for (path, directory) in
            [("my project", "/w/my project"), ("/home/x/", "/home/x/"), ("../y", "/w/../y")]
        {
            let plan = planned(Runner::Exec, Some(path), true);
            let file = Path::new(directory).join("exec-7");
            assert_eq!(plan.program, Program::Script(file.clone()));
            assert_eq!(plan.args, [file.as_path()]);
            assert_eq!(plan.cwd, Path::new(directory));
            assert_eq!(plan.directory.as_deref(), Some(Path::new(directory)));
            let entrypoint = Some(Entrypoint { file, mode: 0o755 });
            assert_eq!(plan.temporary, no_directory(entrypoint));
        }
    }

    #[test]
    fn a_tilde_is_the_home_and_only_at_the_beginning() {
        for (path, directory) in
            [("~", "/root"), ("~/", "/root"), ("~/p/q", "/root/p/q"), ("~x", "/w/~x"), ("p/~", "/w/p/~")]
        {
            assert_eq!(planned(Runner::Shell, Some(path), false).cwd, Path::new(directory), "{path}");
        }
    }

    #[test]
    fn a_path_without_text_is_the_file_and_runs_in_its_directory() {
        let plan = planned(Runner::Python3, Some("p/run.py"), false);
        assert_eq!(plan.args, paths(&["python3", "-u", "/w/p/run.py"]));
        assert_eq!((plan.cwd.as_path(), &plan.directory), (Path::new("/w/p"), &None));
        assert_eq!(plan.temporary, no_directory(None));
        let plan = planned(Runner::Exec, Some("/bin/true"), false);
        assert_eq!((plan.program, plan.cwd), (Program::Script("/bin/true".into()), "/bin".into()));
        assert_eq!(planned(Runner::Exec, Some("/"), false).cwd, Path::new("/"));
    }

    #[test]
    fn neither_path_nor_text_means_an_empty_directory_of_the_runs_own() {
        let plan = planned(Runner::Python3, None, false);
        assert_eq!(plan.args, paths(&["python3", "-u", "/t/further-link-000000ab00000007"]));
        let private = Some(PRIVATE.into());
        assert_eq!(plan.temporary, Temporary { channel: CHANNEL.into(), private, entrypoint: None });
        assert_eq!(plan.cwd, Path::new("/t"));
    }

    #[test]
    fn a_shell_is_the_login_shell_in_its_directory_and_text_is_ignored() {
        for code in [false, true] {
            let plan = planned(Runner::Shell, None, code);
            assert_eq!(plan.args.len(), 1);
            assert_eq!((plan.cwd, plan.directory, plan.temporary), ("/t".into(), None, no_directory(None)));
            let plan = planned(Runner::Shell, Some("a/b"), code);
            assert_eq!((plan.cwd, plan.directory), ("/w/a/b".into(), Some("/w/a/b".into())));
        }
    }
}
