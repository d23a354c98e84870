//! The command line: the helper's whole policy comes from here, so from root, and never from the frontend.
//!
//! Parsed by hand because the root side wants few dependencies. Every option takes a value, as `--name
//! value` or `--name=value`. An empty value counts as not given, so that a unit file can pass an unset
//! variable; an empty list of users is an error.

use std::{path::PathBuf, time::Duration};

use further_link_proto::UserName;

use crate::{check::Allowed, serve::Serves};

/// Time between SIGTERM and SIGKILL: long enough to switch motors off (D33), short enough for a person to
/// wait.
const DEFAULT_GRACE: Duration = Duration::from_secs(2);
/// Longest grace: systemd would not wait longer for the unit either (`TimeoutStopSec=` of the exec unit).
const MAX_GRACE: Duration = Duration::from_mins(1);

/// So that the address of a user channel below it fits into a `sockaddr_un` (unix(7): 108 bytes with the
/// final NUL).
const MAX_TEMP_DIR: usize = 70;

/// The variables in `/etc/default/further-link` that the package's units make options of.
const VARIABLES: [(&str, &str); 6] = [
    (ALLOWED, "FURTHER_LINK_ALLOW_USERS"),
    ("--work-dir", "FURTHER_LINK_WORK_DIR"),
    ("--temp-dir", "FURTHER_LINK_TEMP_DIR"),
    ("--user-token-file", "FURTHER_LINK_USER_TOKEN_FILE"),
    ("--grace", "FURTHER_LINK_GRACE"),
    ("--runners-dirs", "FURTHER_LINK_RUNNERS_DIRS"),
];
/// The option for users, by the name that `further-link` has as well.
pub(crate) const ALLOWED: &str = "--allow-user";

/// Where runner files are: those of the administrator, and those of the package.
const RUNNERS_DIRS: [&str; 2] = ["/etc/further-link/runners.d", "/usr/share/further-link/runners.d"];

/// What `--help` prints.
pub const USAGE: &str = "\
The root side of further-link: starts one program for each connection.

usage: further-link-exec-helper [files] [--option VALUE]...

With the word \"files\" it stores uploads and starts no programs.

Without --listen, standard input (or the descriptor that systemd passes) is the
SOCK_SEQPACKET socket: one accepted connection, or a listener.

  --listen PATH          listen on this path and fork one helper per connection
  --frontend-user NAME   the only account that may connect [the helper's own]
  --allow-user NAME      programs may run as this user (repeatable), and as no
                         other; the default user is pi if named, else the first.
                         NAME:token lets only those in who have the token.
                         Root's helper needs it
                         [the user who starts the helper]
  --allow-users LIST     the same for several, separated by commas or spaces
  --user-token-file PATH the token for users named with :token, in the first line
                         of a file that only this helper's user can read
  --work-dir DIR         where relative paths start, for all users [~/further]
  --temp-dir DIR         working directory of programs without a path [/tmp]
  --grace SECONDS        time between SIGTERM and SIGKILL [2], at most 60
  --limits KIND          how the limits of runner files are kept: \"cgroup\" if each
                         run has a control group of its own, as a unit gives it,
                         which they are written to; else by rlimits [rlimit]
  --projects-dir DIR     where uploads with a project.cfg are copied to, for all
                         users [~/Desktop/Projects/Further]
  --pass-env NAMES       give programs these variables of the helper, separated
                         by commas or spaces (repeatable); PATH, LANG, LC_ALL
                         and TZ are given anyway
  --runners-dirs LIST    folders of runner files, separated by commas; the first
                         has the last word [/etc/further-link/runners.d,
                         /usr/share/further-link/runners.d]
  --python-path DIR      give programs PYTHONPATH with this directory
  --exit-with-parent PID end when this parent process ends (set by further-link)
  --help, --version
";

/// The settings of a helper, checked.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) serves: Serves,
    pub(crate) listen: Option<PathBuf>,
    pub(crate) frontend_user: Option<UserName>,
    /// None when no list was given at all.
    pub(crate) allowed: Option<Vec<Allowed>>,
    /// The text of that list, for what is to be said of it.
    pub(crate) allowed_as_given: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) work_dir: Option<PathBuf>,
    pub(crate) temp_dir: Option<PathBuf>,
    pub(crate) projects_dir: Option<PathBuf>,
    pub(crate) runners_dirs: Vec<PathBuf>,
    pub(crate) python_path: Option<PathBuf>,
    pub(crate) grace: Duration,
    /// Each run has a control group of its own.
    pub(crate) has_group: bool,
    pub(crate) pass_env: Vec<String>,
    pub(crate) parent: Option<u32>,
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Run(Box<Options>),
    Help,
    Version,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("unknown option {0:?} (try --help)")]
    Unknown(String),
    #[error("{0} needs a value (try --help)")]
    NoValue(String),
    #[error("{setting} cannot be used: {reason}")]
    Bad { setting: String, reason: String },
}

/// The exit code for a setting that cannot be used (`EX_CONFIG` of sysexits.h), as the frontend's.
const BAD_SETTING: u8 = 78;
/// The exit code for a command line that cannot be read.
const BAD_USAGE: u8 = 2;

impl OptionError {
    /// About a value that was read, and cannot be used.
    pub(crate) fn bad(option: &str, value: &str, reason: &(impl ToString + ?Sized)) -> Self {
        Self::Bad { setting: as_given(option, value), reason: reason.to_string() }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown(_) | Self::NoValue(_) => BAD_USAGE,
            Self::Bad { .. } => BAD_SETTING,
        }
    }
}

/// A setting as an administrator has written it: the variable, where this process has one with this value.
/// The package's units make the options of their variables, and a frontend that starts its helper may do so
/// too.
pub(crate) fn as_given(option: &str, value: &str) -> String {
    as_written(option, value, |variable| std::env::var(variable).ok())
}

fn as_written(option: &str, value: &str, environment: impl Fn(&str) -> Option<String>) -> String {
    let of_option = VARIABLES.iter().find(|(of, _)| *of == option).map(|(_, variable)| *variable);
    match of_option.filter(|variable| environment(variable).is_some_and(|written| written == value)) {
        Some(variable) => format!("{variable}={value}"),
        None => format!("{option} {value:?}"),
    }
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, OptionError> {
    let mut options = Options {
        serves: Serves::RunsAndUploads,
        listen: None,
        frontend_user: None,
        allowed: None,
        allowed_as_given: String::new(),
        token_file: None,
        work_dir: None,
        temp_dir: None,
        projects_dir: None,
        runners_dirs: RUNNERS_DIRS.map(PathBuf::from).into(),
        python_path: None,
        grace: DEFAULT_GRACE,
        has_group: false,
        pass_env: Vec::new(),
        parent: None,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--version" | "-V" => return Ok(Command::Version),
            "files" => {
                options.serves = Serves::Uploads;
                continue;
            }
            _ => {}
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => match args.next() {
                Some(value) => (arg, value),
                None => return Err(OptionError::NoValue(arg)),
            },
        };
        options.set(&name, &value)?;
    }
    Ok(Command::Run(Box::new(options)))
}

impl Options {
    fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let bad = |reason: &str| OptionError::bad(name, value, reason);
        let user = |text: &str| UserName::new(text).map_err(|_| bad("not a user name"));
        let absolute = || match PathBuf::from(value) {
            path if path.is_absolute() => Ok(path),
            _ => Err(bad("not an absolute path")),
        };
        match name {
            // Unlike the others an empty list is not "not given": it would turn the policy off.
            "--allow-user" | "--allow-users" => {
                self.allow(value)?;
            }
            "--listen" | "--frontend-user" | "--user-token-file" | "--work-dir" | "--temp-dir"
            | "--projects-dir" | "--runners-dirs" | "--python-path" | "--grace" | "--limits"
            | "--pass-env" | "--exit-with-parent"
                if value.is_empty() => {}
            "--listen" => self.listen = Some(absolute()?),
            "--frontend-user" => self.frontend_user = Some(user(value)?),
            "--user-token-file" => self.token_file = Some(absolute()?),
            "--work-dir" => self.work_dir = Some(absolute()?),
            "--projects-dir" => self.projects_dir = Some(absolute()?),
            "--runners-dirs" => {
                self.runners_dirs = value.split(',').map(PathBuf::from).collect();
                if !self.runners_dirs.iter().all(|dir| dir.is_absolute()) {
                    return Err(bad("not absolute paths, separated by commas"));
                }
            }
            "--python-path" => self.python_path = Some(absolute()?),
            "--temp-dir" if value.len() > MAX_TEMP_DIR => return Err(bad("longer than 70 bytes")),
            "--temp-dir" => self.temp_dir = Some(absolute()?),
            "--grace" => {
                let seconds = value.parse().map_err(|_| bad("not a number of seconds"))?;
                self.grace = Duration::try_from_secs_f64(seconds)
                    .ok()
                    .filter(|grace| *grace <= MAX_GRACE)
                    .ok_or_else(|| bad("not between 0 and 60 seconds"))?;
            }
            "--limits" => {
                self.has_group = match value {
                    "cgroup" => true,
                    "rlimit" => false,
                    _ => return Err(bad("neither rlimit nor cgroup")),
                }
            }
            "--pass-env" => self.pass_env.extend(words(value).map(str::to_owned)),
            "--exit-with-parent" => self.parent = Some(value.parse().map_err(|_| bad("not a pid"))?),
            _ => return Err(OptionError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    fn allow(&mut self, list: &str) -> Result<(), OptionError> {
        let allowed = self.allowed.get_or_insert_default();
        for one in words(list) {
            let (name, guarded) = one.strip_suffix(":token").map_or((one, false), |name| (name, true));
            let not_a_name = |_| OptionError::bad(ALLOWED, list, &format!("{name:?} is not a user name"));
            allowed.push(Allowed { name: UserName::new(name).map_err(not_a_name)?, guarded });
        }
        if !self.allowed_as_given.is_empty() {
            self.allowed_as_given.push(',');
        }
        self.allowed_as_given.push_str(list);
        Ok(())
    }
}

/// The words of a list, separated by commas or spaces.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, OptionError> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Command::Run(options) => Ok(*options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_of_an_option_mean_the_same_and_empty_means_not_given() {
        let spaced = parsed("--allow-user pi --grace 0.5 --work-dir /w --frontend-user www").unwrap();
        let joined =
            parsed("--allow-user=pi --grace=0.5 --work-dir=/w --frontend-user=www --temp-dir= --listen=")
                .unwrap();
        assert_eq!(spaced, joined);
        assert_eq!(spaced.grace, Duration::from_millis(500));
        assert_eq!(spaced.serves, Serves::RunsAndUploads);
        assert_eq!(parsed("files --grace 1").unwrap().serves, Serves::Uploads);
    }

    #[test]
    fn a_list_of_users_may_be_separated_by_commas_or_spaces() {
        let options = parse(["--allow-users".to_owned(), "pi, root alice".to_owned()].into_iter());
        let Ok(Command::Run(options)) = options else { panic!("{options:?}") };
        let names: Vec<_> = options.allowed.iter().flatten().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["pi", "root", "alice"]);
    }

    #[test]
    fn a_user_named_with_token_is_guarded() {
        let allowed = parsed("--allow-users pi,root:token").unwrap().allowed.unwrap();
        assert_eq!(allowed.iter().map(|user| user.guarded).collect::<Vec<_>>(), [false, true]);
        assert_eq!(allowed[1].name.as_str(), "root");
        assert!(matches!(parsed("--allow-users root:tokens"), Err(OptionError::Bad { .. })));
    }

    #[test]
    fn an_empty_list_of_users_is_a_list_that_allows_nobody() {
        assert_eq!(parsed("--allow-users=").unwrap().allowed, Some(Vec::new()));
        assert_eq!(parsed("--grace 1").unwrap().allowed, None);
    }

    #[test]
    fn a_setting_is_named_by_its_variable_where_that_has_the_value() {
        let environment = |variable: &str| (variable == "FURTHER_LINK_GRACE").then(|| "61".to_owned());
        assert_eq!(as_written("--grace", "61", environment), "FURTHER_LINK_GRACE=61");
        assert_eq!(as_written("--grace", "62", environment), "--grace \"62\"");
        assert_eq!(as_written("--temp-dir", "61", environment), "--temp-dir \"61\"");
        assert_eq!(as_written(ALLOWED, "", |_| Some(String::new())), "FURTHER_LINK_ALLOW_USERS=");
    }

    #[test]
    fn wrong_lines_are_refused_with_the_option_named() {
        for line in [
            "--grace x",
            "--grace 61",
            "--grace -1",
            "--work-dir rel",
            "--allow-user 0",
            "--exit-with-parent no",
        ] {
            assert!(matches!(parsed(line), Err(OptionError::Bad { .. })), "{line}");
        }
        assert_eq!(parsed("--nonsense 1"), Err(OptionError::Unknown("--nonsense".to_owned())));
        assert_eq!(parsed("--grace"), Err(OptionError::NoValue("--grace".to_owned())));
    }

    #[test]
    fn the_help_text_names_every_option() {
        for name in [
            "--listen",
            "--frontend-user",
            "--allow-user",
            "--allow-users",
            "--user-token-file",
            "--work-dir",
            "--temp-dir",
            "--projects-dir",
            "--python-path",
            "--grace",
            "--pass-env",
            "--exit-with-parent",
        ] {
            assert!(USAGE.contains(&format!("  {name} ")), "{name}");
            assert!(!matches!(parsed(&format!("{name}=")), Err(OptionError::Unknown(_))), "{name}");
        }
    }
}
