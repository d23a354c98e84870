//! What to run: `layout` from a permitted request alone, before this process is the user; `plan` from these
//! and the runner's file, after it. No file is looked at here, and nothing is done.
//!
//! The rules are B7 and B8. One thing is done differently on purpose: program text without a path goes
//! into a private directory below the temp dir. In the temp dir itself any local user could lay a module
//! for python to import (D12). The working directory stays the temp dir.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use further_link_proto::{Details, Purpose, Run, Step};
use further_link_runners::{Compile, Runner, Values, Word, fill};

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

    /// Where the copies of this user's projects go (B11.12).
    pub(crate) fn projects_dir_of(&self, account: &Account) -> PathBuf {
        self.projects.clone().unwrap_or_else(|| account.home.join("Desktop/Projects/Further"))
    }
}

/// How long it may take to make an environment of packages: an SD card is slow.
const MAKE_LIMIT: Duration = Duration::from_mins(10);

/// Where the things of a run are, or will be.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The client's path.
    pub(crate) path: Option<PathBuf>,
    home: PathBuf,
    work: PathBuf,
    pub(crate) temp: PathBuf,
    /// The socket of the user channel, of mode 0600.
    pub(crate) channel: PathBuf,
    /// A directory of mode 0700, if the run needs one.
    private: PathBuf,
    /// For the name of the program's file.
    number: u32,
}

impl Layout {
    /// Where this path is: absolute, below the home (`~/`, as a person would type it), or else below the work
    /// dir.
    fn resolve(home: &Path, work: &Path, path: &str) -> PathBuf {
        match path.strip_prefix('~') {
            Some("") => home.to_owned(),
            Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            _ => work.join(path),
        }
    }
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    /// With the program's name first.
    pub(crate) args: Vec<OsString>,
    /// The stage before.
    pub(crate) before: Option<Stage>,
    /// Which environment of packages it has, for a language that knows them.
    pub(crate) venv: Option<VenvRule>,
    pub(crate) cwd: PathBuf,
    /// Made with its parents before anything else.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) temporary: Temporary,
}

/// Where an environment of packages is, if it is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum VenvRule {
    /// The client has named it.
    Named(PathBuf),
    /// The project's; a run without a path has no project.
    Project(Option<PathBuf>),
    /// Packages go there. It is made if it is not there.
    Install(PathBuf),
}

/// What runs before the program: its compiler, or what makes an environment of packages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// What to call it.
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) args: Vec<OsString>,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// What it and the program need, looked for before.
    pub(crate) requires: Vec<String>,
    /// What it makes may be used again.
    pub(crate) cache: Option<Cacheable>,
}

/// Files of a compiler whose work may be used again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cacheable {
    /// What it compiles.
    pub(crate) source: PathBuf,
    /// The source is the client's program text, in a file of a random name.
    pub(crate) is_text: bool,
    /// What it makes.
    pub(crate) out: PathBuf,
    /// Where it lists what it has read.
    pub(crate) deps: PathBuf,
}

/// What is executed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Found in the user's PATH.
    Search(String),
    /// This file.
    File(PathBuf),
    /// This file, made executable by its owner if it is not (uploads are 0644).
    Script(PathBuf),
}

/// What is made for this run alone, and removed when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Temporary {
    /// The socket of the user channel.
    pub(crate) channel: PathBuf,
    /// The private directory, removed with all that is in it.
    pub(crate) private: Option<PathBuf>,
    /// The file that program text goes into.
    pub(crate) entrypoint: Option<Entrypoint>,
}

impl Temporary {
    /// The channel alone.
    pub(crate) fn channel(channel: PathBuf) -> Self {
        Self { channel, private: None, entrypoint: None }
    }

    /// What is left if this step could not be done since there was a file of that name before, or such a
    /// directory. The directory is made before the file.
    pub(crate) fn without_existing(self, step: Step) -> Self {
        let private = self.private.filter(|_| step == Step::WriteCode);
        Self { private, entrypoint: None, ..self }
    }
}

/// A file for program text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrypoint {
    pub(crate) file: PathBuf,
    pub(crate) mode: u32,
}

/// Decides where things are. The random numbers make the names of temporary files, so that no other user can
/// lay something in the way. There are two, since all users see the socket's name before the directory is
/// made.
pub(crate) fn layout(permitted: &Permitted<Run>, directories: &Directories, numbers: [u64; 2]) -> Layout {
    let account = permitted.account();
    let (home, work) = (account.home.clone(), directories.work_dir_of(account));
    let path = permitted.request().path.as_ref();
    let temp = directories.temp.clone();
    let [of_channel, number] = numbers;
    Layout {
        path: path.map(|path| Layout::resolve(&home, &work, path.as_str())),
        channel: temp.join(format!("further-link-{of_channel:016x}.sock")),
        private: temp.join(format!("further-link-{number:016x}")),
        // The low half is enough for one directory, and keeps the name that users see in tracebacks short.
        number: u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default(),
        home,
        work,
        temp,
    }
}

/// Decides what to run. `with_text`: program text will come. None if packages are to be installed for a
/// language that has none, or its version is asked that nothing tells.
pub(crate) fn plan(
    layout: &Layout,
    runner: &Runner,
    with_text: bool,
    details: &Details,
    shell: &Path,
) -> Option<Plan> {
    let Layout { path, temp, channel, private, number, home, work } = layout;
    let mut temporary = Temporary::channel(channel.clone());
    if details.purpose == Purpose::Version {
        return version(runner, temporary);
    }
    let is_install = details.purpose == Purpose::Install;
    let is_folder = with_text || runner.entry.is_none() || is_install;
    let (file, cwd, directory) = match (&runner.entry, path) {
        // A shell, or packages: the path is where it works.
        (None, path) => (PathBuf::new(), path.as_ref().unwrap_or(temp).clone(), path.clone()),
        (Some(_), path) if is_install => {
            (PathBuf::new(), path.as_ref().unwrap_or(temp).clone(), path.clone())
        }
        (Some(_), Some(file)) if !with_text => {
            (file.clone(), file.parent().unwrap_or(Path::new("/")).to_owned(), None)
        }
        // Nothing to run. python is given a directory without a `__main__`, and says so (B8). The directory
        // is its own, since any user could have put one into the temp dir.
        (Some(_), None) if !with_text => {
            temporary.private = Some(private.clone());
            (private.clone(), temp.clone(), None)
        }
        (Some(entry), path) => {
            let folder = path.as_ref().filter(|_| entry.is_numbered());
            temporary.private = folder.is_none().then(|| private.clone());
            let file = folder.unwrap_or(private).join(entry.name(*number));
            let mode = if runner.run.first() == Some(&Word::File) { 0o755 } else { 0o644 };
            temporary.entrypoint = Some(Entrypoint { file: file.clone(), mode });
            (file, path.as_ref().unwrap_or(temp).clone(), path.clone())
        }
    };
    let project = path.as_ref().map(|path| if is_folder { path.as_path() } else { cwd.as_path() });
    let venv = venv_rule(runner, details, project, (home, work));
    let out = private.join("program");
    let deps = private.join("program.d");
    let named = match &venv {
        Some(VenvRule::Named(venv) | VenvRule::Install(venv) | VenvRule::Project(Some(venv))) => venv.clone(),
        Some(VenvRule::Project(None)) | None => PathBuf::new(),
    };
    let filled = |words: &[Word], args: &[String]| {
        let args = fill(words, &Values { file: &file, out: &out, deps: &deps, args, shell, venv: &named });
        let program = match words.first() {
            Some(Word::File) => Program::Script(file.clone()),
            Some(Word::Text(name)) if !name.contains('/') => Program::Search(name.clone()),
            _ => Program::File(args.first().map(PathBuf::from).unwrap_or_default()),
        };
        (program, args)
    };
    let stage = |name, words: &[Word], limit| {
        let (program, args) = filled(words, &[]);
        Stage { name, program, args, limit, requires: runner.requires.clone(), cache: None }
    };
    let (before, words) = match (&venv, &runner.venv, &runner.compile) {
        (Some(VenvRule::Install(_)), Some(rule), _) => {
            (Some(stage("the maker of the environment", &rule.make, MAKE_LIMIT)), &rule.install)
        }
        _ if is_install => return None,
        (_, _, Some(Compile { argv, seconds, cache })) => {
            temporary.private = Some(private.clone());
            let stage = stage("the compiler", argv, Duration::from_secs((*seconds).into()));
            let (source, out, deps) = (file.clone(), out.clone(), deps.clone());
            let cache = cache.then_some(Cacheable { source, is_text: with_text, out, deps });
            (Some(Stage { cache, ..stage }), &runner.run)
        }
        _ => (None, &runner.run),
    };
    let (program, args) = filled(words, &details.args);
    Some(Plan { program, args, before, venv, cwd, directory, temporary })
}

/// The program that tells the version, if there is one.
fn version(runner: &Runner, temporary: Temporary) -> Option<Plan> {
    let args: Vec<_> = runner.version.as_ref()?.iter().map(OsString::from).collect();
    let name = args.first()?.to_str()?;
    let program =
        if name.contains('/') { Program::File(name.into()) } else { Program::Search(name.to_owned()) };
    // Not where any user could lay something for it to find.
    let cwd = PathBuf::from("/");
    Some(Plan { program, args, before: None, venv: None, cwd, directory: None, temporary })
}

fn venv_rule(
    runner: &Runner,
    details: &Details,
    project: Option<&Path>,
    (home, work): (&Path, &Path),
) -> Option<VenvRule> {
    let rule = runner.venv.as_ref()?;
    let is_install = details.purpose == Purpose::Install;
    let named = details.venv.as_ref().map(|venv| Layout::resolve(home, work, venv));
    let of_project = project.map(|project| project.join(&rule.folder));
    Some(match (named, of_project) {
        (Some(venv), _) if is_install => VenvRule::Install(venv),
        (None, Some(venv)) if is_install => VenvRule::Install(venv),
        (Some(venv), _) => VenvRule::Named(venv),
        (None, of_project) => VenvRule::Project(of_project),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    use crate::check::{Allowed, Policy};
    use further_link_proto::{CodeLength, Identity, PathText, RunnerId, UserName};

    const PRIVATE: &str = "/t/further-link-000000ab00000007";
    const CHANNEL: &str = "/t/further-link-0000000000000003.sock";

    /// What the package's file of this runner leads to.
    fn planned(id: &str, path: Option<&str>, code: bool) -> Plan {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runners.d").join(format!("{id}.toml"));
        let runner = further_link_runners::parse(&std::fs::read_to_string(file).unwrap(), id).unwrap();
        planned_with(&runner, path, code, &[])
    }

    fn planned_with(runner: &Runner, path: Option<&str>, code: bool, args: &[String]) -> Plan {
        let root = Allowed { name: UserName::new("root").unwrap(), guarded: false };
        let policy = Policy::new(Some(vec![root]), None).unwrap();
        let run = Run {
            identity: Identity::default(),
            runner: RunnerId::new(runner.id.as_str()).unwrap(),
            path: path.map(|path| PathText::new(path).unwrap()),
            details: None,
            code: code.then(|| CodeLength::new(1).unwrap()),
            terminal: None,
        };
        let directories = Directories { work: Some("/w".into()), temp: "/t".into(), projects: None };
        let permitted = policy.check(run, None).unwrap();
        let layout = layout(&permitted, &directories, [3, 0xab_0000_0007]);
        let details = Details { args: args.to_vec(), ..Details::default() };
        plan(&layout, runner, code, &details, &permitted.account().shell).unwrap()
    }

    fn no_directory(entrypoint: Option<Entrypoint>) -> Temporary {
        Temporary { entrypoint, ..Temporary::channel(CHANNEL.into()) }
    }

    fn words(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(OsString::from).collect()
    }

    #[test]
    fn text_without_a_path_goes_into_a_private_directory_and_runs_in_the_temp_dir() {
        let plan = planned("python3", None, true);
        assert_eq!(plan.program, Program::Search("python3".to_owned()));
        assert_eq!(plan.args, words(&["python3", "-u", "/t/further-link-000000ab00000007/7.py"]));
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
            let plan = planned("exec", Some(path), true);
            let file = Path::new(directory).join("exec-7");
            assert_eq!(plan.program, Program::Script(file.clone()));
            assert_eq!(plan.args, [file.as_os_str()]);
            assert_eq!(plan.cwd, Path::new(directory));
            assert_eq!(plan.directory.as_deref(), Some(Path::new(directory)));
            let entrypoint = Some(Entrypoint { file, mode: 0o755 });
            assert_eq!(plan.temporary, no_directory(entrypoint));
        }
    }

    #[test]
    fn a_file_that_was_there_before_stays_and_the_directory_made_before_it_goes() {
        let text = "id = \"x\"\ntitle = \"X\"\nentry = \"{number}.x\"\n[compile]\nargv = [\"xc\"]\n\
            [run]\nargv = [\"{out}\"]\n";
        let runner = further_link_runners::parse(text, "x").unwrap();
        let Plan { temporary, .. } = planned_with(&runner, Some("p"), true, &[]);
        let left = temporary.clone().without_existing(Step::WriteCode);
        assert_eq!((left.private.as_deref(), left.entrypoint), (Some(Path::new(PRIVATE)), None));
        assert_eq!(temporary.without_existing(Step::MakeDirectory), no_directory(None));
    }

    /// Numbers that look random, and are the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % most
        }

        fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
            texts[self.below(texts.len())]
        }
    }

    /// Whether these are the words of the file, in its order, and nothing of a client's but arguments where
    /// `{args}` stands.
    fn is_of_file(args: &[OsString], words: &[Word], of_client: &[String]) -> bool {
        let mut left = args;
        for word in words {
            let Some((first, rest)) = left.split_first() else {
                return *word == Word::Args && of_client.is_empty() && words.last() == Some(word);
            };
            left = match word {
                Word::Text(text) if first.as_os_str() == text.as_str() => rest,
                Word::Text(_) => return false,
                Word::Args => match left.split_at_checked(of_client.len()) {
                    Some((these, rest)) if these.iter().eq(of_client.iter().map(OsStr::new)) => rest,
                    _ => return false,
                },
                _ => rest,
            };
        }
        left.is_empty()
    }

    /// `FURTHER_LINK_PLANS` says how many are tried.
    #[test]
    fn whatever_a_client_sends_the_command_line_is_that_of_the_file() {
        let count = std::env::var("FURTHER_LINK_PLANS").ok().map_or(20_000, |count| count.parse().unwrap());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runners.d");
        let runners: Vec<Runner> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| {
                let file = file.unwrap().path();
                let id = file.file_stem().unwrap().to_str().unwrap();
                further_link_runners::parse(&std::fs::read_to_string(&file).unwrap(), id).unwrap()
            })
            .collect();
        let hostile = [
            "",
            "-",
            "--",
            "-c",
            "-rf",
            "/",
            "../..",
            "~",
            "~root",
            "a b",
            "{file}",
            "{args}",
            "{out}",
            "$(id)",
            "`id`",
            ";",
            "\n",
            "a\nb",
            "/bin/sh",
            "sh",
            "ü",
            "..",
            "-o/etc/passwd",
            "@/etc/passwd",
            "=",
            "*",
        ];
        let root = Allowed { name: UserName::new("root").unwrap(), guarded: false };
        let policy = Policy::new(Some(vec![root]), None).unwrap();
        let mut numbers = Numbers(1);
        for number in 0..count {
            let runner = &runners[numbers.below(runners.len())];
            let some = |numbers: &mut Numbers| numbers.below(3) > 0;
            let path = some(&mut numbers)
                .then(|| format!("{}{}", numbers.one_of(&hostile), numbers.one_of(&hostile)));
            let with_text = some(&mut numbers);
            let args = (0..numbers.below(4)).map(|_| numbers.one_of(&hostile).to_owned()).collect();
            let venv = some(&mut numbers).then(|| numbers.one_of(&hostile).to_owned());
            let purpose = [Purpose::Program, Purpose::Install, Purpose::Version][numbers.below(3)];
            let details = Details { args, env: Vec::new(), venv, purpose };
            let run = Run {
                identity: Identity::default(),
                runner: RunnerId::new(runner.id.as_str()).unwrap(),
                path: path.as_deref().and_then(|path| PathText::new(path).ok()),
                details: None,
                code: None,
                terminal: None,
            };
            let directories = Directories { work: Some("/w".into()), temp: "/t".into(), projects: None };
            let layout = layout(&policy.check(run, None).unwrap(), &directories, [3, 7]);
            let Some(plan) = plan(&layout, runner, with_text, &details, Path::new("/bin/shell")) else {
                assert!(details.purpose != Purpose::Program);
                continue;
            };
            let version: Vec<_> = runner.version.iter().flatten().cloned().map(Word::Text).collect();
            let words = match details.purpose {
                Purpose::Program => &runner.run,
                Purpose::Install => &runner.venv.as_ref().unwrap().install,
                Purpose::Version => &version,
            };
            let of_stages = [
                runner.compile.as_ref().map(|compile| &compile.argv),
                runner.venv.as_ref().map(|venv| &venv.make),
            ];
            let stage_is_right = plan.before.as_ref().is_none_or(|stage| {
                of_stages.into_iter().flatten().any(|words| is_of_file(&stage.args, words, &[]))
            });
            assert!(
                is_of_file(&plan.args, words, &details.args) && stage_is_right,
                "{number}: {details:?} {plan:?}"
            );
            let program = match &plan.program {
                Program::Search(name) => Word::Text(name.clone()),
                Program::File(file) if *file == Path::new("/bin/shell") => Word::Shell,
                Program::File(file) if file.starts_with(&layout.private) => Word::Out,
                Program::File(file) => Word::Text(file.to_str().unwrap().to_owned()),
                Program::Script(_) => Word::File,
            };
            let is_interpreter_of_venv = matches!(words.first(), Some(Word::Venv));
            assert!(
                words.first() == Some(&program) || is_interpreter_of_venv,
                "{number}: {details:?} {plan:?}"
            );
        }
    }

    #[test]
    fn a_tilde_is_the_home_and_only_at_the_beginning() {
        for (path, directory) in
            [("~", "/root"), ("~/", "/root"), ("~/p/q", "/root/p/q"), ("~x", "/w/~x"), ("p/~", "/w/p/~")]
        {
            assert_eq!(planned("shell", Some(path), false).cwd, Path::new(directory), "{path}");
        }
    }

    #[test]
    fn a_path_without_text_is_the_file_and_runs_in_its_directory() {
        let plan = planned("python3", Some("p/run.py"), false);
        assert_eq!(plan.args, words(&["python3", "-u", "/w/p/run.py"]));
        assert_eq!((plan.cwd.as_path(), &plan.directory), (Path::new("/w/p"), &None));
        assert_eq!(plan.temporary, no_directory(None));
        let plan = planned("exec", Some("/bin/true"), false);
        assert_eq!((plan.program, plan.cwd), (Program::Script("/bin/true".into()), "/bin".into()));
        assert_eq!(planned("exec", Some("/"), false).cwd, Path::new("/"));
    }

    #[test]
    fn neither_path_nor_text_means_an_empty_directory_of_the_runs_own() {
        let plan = planned("python3", None, false);
        assert_eq!(plan.args, words(&["python3", "-u", "/t/further-link-000000ab00000007"]));
        let private = Some(PRIVATE.into());
        assert_eq!(plan.temporary, Temporary { private, ..Temporary::channel(CHANNEL.into()) });
        assert_eq!(plan.cwd, Path::new("/t"));
    }

    #[test]
    fn a_shell_is_the_login_shell_in_its_directory_and_text_is_ignored() {
        for code in [false, true] {
            let plan = planned("shell", None, code);
            assert_eq!(plan.args.len(), 1);
            assert_eq!(plan.program, Program::File(plan.args.first().unwrap().into()));
            assert_eq!((plan.cwd, plan.directory, plan.temporary), ("/t".into(), None, no_directory(None)));
            let plan = planned("shell", Some("a/b"), code);
            assert_eq!((plan.cwd, plan.directory), ("/w/a/b".into(), Some("/w/a/b".into())));
        }
    }

    #[test]
    fn a_file_with_a_fixed_name_is_never_laid_among_those_of_the_user() {
        let text =
            "id = \"x\"\ntitle = \"X\"\nentry = \"Main.x\"\n[run]\nargv = [\"x\", \"{file}\", \"{args}\"]\n";
        let runner = further_link_runners::parse(text, "x").unwrap();
        let args = ["a b".to_owned()];
        let plan = planned_with(&runner, Some("p"), true, &args);
        assert_eq!(plan.args, words(&["x", &format!("{PRIVATE}/Main.x"), "a b"]));
        assert_eq!((plan.cwd, plan.directory), ("/w/p".into(), Some("/w/p".into())));
        assert_eq!(plan.temporary.private.as_deref(), Some(Path::new(PRIVATE)));
    }

    #[test]
    fn what_the_compiler_makes_lies_in_a_private_directory_and_is_what_runs() {
        let text = "id = \"x\"\ntitle = \"X\"\nentry = \"{number}.x\"\nrequires = [\"xc\"]\n\
            [compile]\nargv = [\"xc\", \"-o\", \"{out}\", \"{file}\"]\nseconds = 9\n\
            [run]\nargv = [\"{out}\", \"{args}\"]\n";
        let runner = further_link_runners::parse(text, "x").unwrap();
        let out = format!("{PRIVATE}/program");
        let plan = planned_with(&runner, Some("a.x"), false, &["b".to_owned()]);
        let stage = plan.before.unwrap();
        assert_eq!(stage.program, Program::Search("xc".to_owned()));
        assert_eq!(stage.args, words(&["xc", "-o", &out, "/w/a.x"]));
        assert_eq!((stage.limit.as_secs(), stage.requires), (9, vec!["xc".to_owned()]));
        assert_eq!((plan.program, plan.args), (Program::File(out.clone().into()), words(&[&out, "b"])));
        assert_eq!(plan.temporary.private.as_deref(), Some(Path::new(PRIVATE)));
        let plan = planned_with(&runner, Some("p"), true, &[]);
        assert_eq!(plan.temporary.entrypoint.unwrap().file, Path::new("/w/p/7.x"));
        assert_eq!(plan.temporary.private.as_deref(), Some(Path::new(PRIVATE)));
    }
}
