//! The last step of a start, and of a compiler's: exec.

use std::{
    convert::Infallible,
    ffi::{CString, OsStr, OsString},
    fs::{self, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use super::environment::Variable;
use crate::plan::Program;

/// Turns this process into the program.
pub(crate) fn program(
    program: &Program,
    args: &[OsString],
    environment: &[Variable],
) -> io::Result<Infallible> {
    let candidates = match program {
        Program::File(file) => vec![file.clone()],
        Program::Script(file) => {
            make_executable(file);
            vec![file.clone()]
        }
        Program::Search(name) => candidates(name, environment).collect(),
    };
    execute_first(&candidates, args, environment)
}

/// The file of a program of PATH.
pub(crate) fn find(name: &str, environment: &[Variable]) -> Option<PathBuf> {
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0);
    candidates(name, environment).find(is_program)
}

fn candidates<'a>(name: &'a str, environment: &'a [Variable]) -> impl Iterator<Item = PathBuf> + 'a {
    let search = environment.iter().find_map(|(name, value)| (name == "PATH").then_some(value.as_str()));
    search.unwrap_or_default().split(':').map(move |dir| Path::new(dir).join(name))
}

/// Tries each file as execvp(3) does: one that is not there or may not be executed lets the next one try.
/// Unlike execvp it does not hand a file without an interpreter line to a shell.
fn execute_first(
    candidates: &[PathBuf],
    args: &[OsString],
    environment: &[Variable],
) -> io::Result<Infallible> {
    let args: Vec<_> = args.iter().map(|arg| c_string(arg)).collect::<io::Result<_>>()?;
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| c_string(OsStr::new(&format!("{name}={value}"))))
        .collect::<io::Result<_>>()?;
    let mut reason = Errno::ENOENT;
    for file in candidates {
        let Err(errno) = nix::unistd::execve(&c_string(file.as_os_str())?, &args, &environment);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => reason = errno,
            _ => return Err(errno.into()),
        }
    }
    Err(reason.into())
}

/// An uploaded file is 0644: its owner may execute it all the same (B8, `exec`). As the owner, so D6 cannot
/// happen; if it does not work, execve says why.
fn make_executable(file: &Path) {
    if let Ok(metadata) = fs::metadata(file)
        && metadata.is_file()
        && metadata.mode() & 0o111 == 0
    {
        let readers_execute = metadata.mode() | ((metadata.mode() & 0o444) >> 2);
        if let Err(_visible_in_execve) = fs::set_permissions(file, Permissions::from_mode(readers_execute)) {}
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
