//! From the client's `start` to the helper's `Run`: what to run and as whom, as far as the frontend has a
//! say.
//!
//! Which file is executed, where it lies and whether the user may run at all is the helper's business.

use std::net::IpAddr;

use further_link_api::{EXEC, Install, Start, StartFailure, UserFailure};
use further_link_proto::{
    CodeLength, Details, DetailsLength, Identity, MAX_CODE, PathText, Purpose, Run, RunnerId, Token,
    UserName, WindowSize,
};

use crate::access::{caller::Caller, who::Who};

/// What the query of the connection settled for all its programs (B3.5).
#[derive(Clone)]
pub(crate) struct RunOptions {
    /// As the client wrote it; none means the default user.
    pub(crate) user: Option<String>,
    /// The proof that some users need, as the client wrote it. Not empty.
    pub(crate) user_token: Option<String>,
    /// A terminal of this size at first; none means pipes.
    pub(crate) terminal: Option<WindowSize>,
    /// The number of the connection, for the log.
    pub(crate) connection: u64,
    /// Where the client is.
    pub(crate) address: IpAddr,
    /// Why the client was let in.
    pub(crate) caller: Caller,
}

impl RunOptions {
    /// Whose programs they are, for the log.
    pub(crate) fn who(&self) -> Who {
        Who::Client { connection: self.connection, address: self.address }
    }
}

/// Most arguments.
const MAX_ARGS: usize = 256;
/// Most bytes of all arguments.
const MAX_ARGS_BYTES: usize = 64 * 1024;
/// Most bytes of all variables, names and values.
const MAX_ENV_BYTES: usize = 64 * 1024;
/// Longest name of a package, with its version.
const MAX_PACKAGE: usize = 200;
/// Most characters of a name that is none in the error about it.
const MAX_QUOTED: usize = 80;

/// The identity that the helper is asked for.
pub(crate) fn identity(options: &RunOptions) -> Result<Identity, UserFailure> {
    // An empty name is not the default user (B3.6).
    let user = options.user.as_ref().map(|name| {
        UserName::new(name.as_str()).map_err(|_| UserFailure::Name(name.chars().take(MAX_QUOTED).collect()))
    });
    let token = options
        .user_token
        .as_ref()
        .map(|token| Token::new(token.as_str()).map_err(|_| UserFailure::TokenText));
    Ok(Identity { user: user.transpose()?, token: token.transpose()?, origin: Some(options.connection) })
}

/// A request for the helper, and what it has no use for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Requested {
    pub(crate) run: Run,
    /// The bytes of [`Details`], if the client chose anything.
    pub(crate) details: Option<Vec<u8>>,
}

/// Checks the texts of a start, with this runner, against what the helper accepts at all.
pub(crate) fn request(
    options: &RunOptions,
    start: &Start,
    runner: RunnerId,
) -> Result<Requested, StartFailure> {
    let identity = identity(options)?;
    // python3 says by itself that there is nothing (B8), and a shell needs neither.
    let has_file = start.path.as_ref().is_some_and(|path| !path.is_empty());
    if runner.as_str() == EXEC && start.code.is_none() && !has_file {
        return Err(StartFailure::Nothing);
    }
    let path = start.path.as_ref().map(|path| PathText::new(path.as_str()).map_err(|_| StartFailure::Path));
    let most = usize::try_from(MAX_CODE).unwrap_or(usize::MAX);
    let code =
        start.code.as_ref().map(|code| CodeLength::new(code.len()).map_err(|_| StartFailure::Code { most }));
    let size = start.size.map(|(rows, cols)| WindowSize { rows, cols });
    let terminal = options.terminal.map(|default| size.unwrap_or(default));
    let details = details(start)?;
    // Within their limits they fit.
    let too_long = |_| StartFailure::ArgsTooLong { most: MAX_ARGS_BYTES };
    let length = details.as_ref().map(|bytes| DetailsLength::new(bytes.len()).map_err(too_long));
    let run = Run {
        identity,
        runner,
        path: path.transpose()?,
        details: length.transpose()?,
        code: code.transpose()?,
        terminal,
    };
    Ok(Requested { run, details })
}

/// What the client chose for its program.
fn details(start: &Start) -> Result<Option<Vec<u8>>, StartFailure> {
    let (args, env) = (&start.args, &start.env);
    if args.len() > MAX_ARGS {
        return Err(StartFailure::ArgsTooMany { most: MAX_ARGS });
    }
    if args.iter().map(String::len).sum::<usize>() > MAX_ARGS_BYTES {
        return Err(StartFailure::ArgsTooLong { most: MAX_ARGS_BYTES });
    }
    if env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ENV_BYTES {
        return Err(StartFailure::EnvTooLong { most: MAX_ENV_BYTES });
    }
    if args.iter().chain(env.iter().map(|(_, value)| value)).any(|text| text.contains('\0')) {
        return Err(StartFailure::Nul);
    }
    for (name, _) in env {
        if !Details::is_variable(name) {
            return Err(StartFailure::EnvName { name: name.chars().take(MAX_QUOTED).collect() });
        }
        if Details::is_refused(name) {
            return Err(StartFailure::EnvRefused { name: name.clone() });
        }
    }
    let packages = packages(start)?;
    let details = Details {
        purpose: if packages.is_some() { Purpose::Install } else { Purpose::Program },
        args: packages.unwrap_or_else(|| args.clone()),
        env: env.clone(),
        venv: start.venv.clone(),
    };
    if details.is_empty() {
        return Ok(None);
    }
    details.to_bytes().map(Some).map_err(|_| StartFailure::ArgsTooLong { most: MAX_ARGS_BYTES })
}

/// The arguments that install what the client named.
fn packages(start: &Start) -> Result<Option<Vec<String>>, StartFailure> {
    let Some(install) = &start.install else { return Ok(None) };
    if start.path.is_none() || start.code.is_some() || !start.args.is_empty() {
        return Err(StartFailure::InstallWhere);
    }
    let wrong = |name: &str| StartFailure::PackageName { name: name.chars().take(MAX_QUOTED).collect() };
    match install {
        Install::Requirements(file) if is_package(file) => Ok(Some(vec!["-r".to_owned(), file.clone()])),
        Install::Requirements(file) => Err(wrong(file)),
        Install::Packages(names) => {
            if names.len() > MAX_ARGS {
                return Err(StartFailure::ArgsTooMany { most: MAX_ARGS });
            }
            match names.iter().find(|name| !is_package(name)) {
                Some(name) => Err(wrong(name)),
                None if names.is_empty() => Err(wrong("")),
                None => Ok(Some(names.clone())),
            }
        }
    }
}

/// A name, a version, extras, or a file: never an option.
fn is_package(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]=<>!~,/+ ".contains(&byte);
    (1..=MAX_PACKAGE).contains(&text.len())
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn requested(user: Option<&str>, path: &str) -> Result<Run, StartFailure> {
        let start = Start { path: Some(path.to_owned()), ..Start::new(EXEC) };
        requested_start(user, &start).map(|requested| requested.run)
    }

    fn requested_start(user: Option<&str>, start: &Start) -> Result<Requested, StartFailure> {
        let options = RunOptions {
            user: user.map(str::to_owned),
            user_token: None,
            terminal: None,
            connection: 7,
            address: Ipv4Addr::LOCALHOST.into(),
            caller: Caller::Local,
        };
        request(&options, start, RunnerId::new(EXEC).unwrap())
    }

    #[test]
    fn an_absent_user_is_the_default_and_an_empty_or_impossible_one_is_refused() {
        assert_eq!(requested(None, "p").unwrap().identity.user, None);
        assert_eq!(requested(Some("pi"), "p").unwrap().identity.user, Some(UserName::new("pi").unwrap()));
        for name in ["", "0", "../etc", "a\nb"] {
            assert!(matches!(requested(Some(name), "p"), Err(StartFailure::User(_))), "{name:?}");
        }
    }

    #[test]
    fn a_path_that_no_kernel_takes_is_refused_here() {
        assert_eq!(requested(None, "a\0b"), Err(StartFailure::Path));
        assert_eq!(requested(None, &"p".repeat(5000)), Err(StartFailure::Path));
    }

    #[test]
    fn a_program_has_to_be_named() {
        assert_eq!(requested(None, ""), Err(StartFailure::Nothing));
    }

    #[test]
    fn what_a_client_chooses_travels_beside_the_request_and_has_limits() {
        let chosen = |args: Vec<String>, env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            requested_start(None, &Start { path: Some("p".to_owned()), args, env, ..Start::new(EXEC) })
        };
        assert_eq!(chosen(Vec::new(), &[]).unwrap().details, None);
        let args = vec!["a b".to_owned(); 256];
        let requested = chosen(args.clone(), &[("NAME_1", "a=b"), ("_x", "")]).unwrap();
        let details = Details::from_bytes(&requested.details.unwrap()).unwrap();
        assert_eq!((details.args, details.env.len()), (args, 2));
        let most = vec!["x".repeat(256); 256];
        assert!(chosen(most, &[("A", &"y".repeat(65_535))]).is_ok());
        assert_eq!(chosen(vec![String::new(); 257], &[]), Err(StartFailure::ArgsTooMany { most: 256 }));
        let long = vec!["x".repeat(65_537)];
        assert_eq!(chosen(long, &[]), Err(StartFailure::ArgsTooLong { most: 65_536 }));
        assert_eq!(chosen(vec!["a\0".to_owned()], &[]), Err(StartFailure::Nul));
        assert_eq!(chosen(Vec::new(), &[("A", "\0")]), Err(StartFailure::Nul));
        let long = chosen(Vec::new(), &[("A", &"y".repeat(65_536))]);
        assert_eq!(long, Err(StartFailure::EnvTooLong { most: 65_536 }));
        for name in ["", "1A", "A-B", "A B", "Ä", "A=", &"A".repeat(129)] {
            let refused = chosen(Vec::new(), &[(name, "x")]);
            assert!(matches!(refused, Err(StartFailure::EnvName { .. })), "{name:?}");
        }
        for name in ["PATH", "HOME", "LD_PRELOAD", "FURTHER_LINK_CHANNEL", "PYTHONPATH", "RUBYLIB"] {
            let refused = Err(StartFailure::EnvRefused { name: name.to_owned() });
            assert_eq!(chosen(Vec::new(), &[(name, "x")]), refused);
        }
    }

    #[test]
    fn packages_are_names_and_never_options() {
        let with = |install: Install| {
            let path = Some("project".to_owned());
            requested_start(None, &Start { path, install: Some(install), ..Start::new("python3") })
        };
        let packages =
            |names: &[&str]| with(Install::Packages(names.iter().map(|&name| name.to_owned()).collect()));
        let requested =
            packages(&["requests", "numpy==1.26.*", "a[b,c]>=1,<2"].map(|name| name.trim_matches('*')))
                .unwrap();
        let details = Details::from_bytes(&requested.details.unwrap()).unwrap();
        assert!(details.purpose == Purpose::Install && details.args.len() == 3);
        let requested = with(Install::Requirements("requirements.txt".to_owned())).unwrap();
        assert_eq!(
            Details::from_bytes(&requested.details.unwrap()).unwrap().args,
            ["-r", "requirements.txt"]
        );
        for name in ["", "--break-system-packages", "-t/", " x", "a;b", "a\nb", "$(id)"] {
            assert!(matches!(packages(&[name]), Err(StartFailure::PackageName { .. })), "{name:?}");
            let file = with(Install::Requirements(name.to_owned()));
            assert!(matches!(file, Err(StartFailure::PackageName { .. })), "{name:?}");
        }
        assert!(packages(&[]).is_err());
        let (install, code) = (Some(Install::Packages(vec!["a".to_owned()])), Some(String::new()));
        let nowhere = Start { install, code, ..Start::new("python3") };
        assert_eq!(requested_start(None, &nowhere), Err(StartFailure::InstallWhere));
    }
}
