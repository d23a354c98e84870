//! Environments of packages, such as those of python: which one a run has. As the user.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use nix::{errno::Errno, unistd::Uid};

use super::environment::Variable;
use crate::{identity::IsUser, plan::VenvRule};

/// Where its programs are.
const PROGRAMS: &str = "bin";

/// The environment of a run: the one that its client has named, which has to be there; else the project's, if
/// it has one that no other user could have laid there; else that of the settings. Packages are installed
/// into one that may still have to be made.
pub(crate) fn find<'a>(
    user: IsUser,
    rule: Option<&'a VenvRule>,
    default: Option<&'a Path>,
    own: Uid,
) -> io::Result<Option<&'a Path>> {
    let is_own = |venv: &&Path| {
        fs::metadata(venv.join(PROGRAMS))
            .is_ok_and(|folder| folder.is_dir() && (folder.uid() == own.as_raw() || folder.uid() == 0))
    };
    Ok(match rule {
        None => None,
        Some(VenvRule::Install(venv)) => Some(venv),
        Some(VenvRule::Named(venv)) if is_there(user, venv) => Some(venv),
        Some(VenvRule::Named(_)) => return Err(Errno::ENOENT.into()),
        Some(VenvRule::Project(project)) => {
            let project = project.as_deref().filter(is_own);
            project.or_else(|| default.filter(|venv| is_there(user, venv)))
        }
    })
}

/// Whether it is there.
pub(crate) fn is_there(_: IsUser, venv: &Path) -> bool {
    venv.join(PROGRAMS).is_dir()
}

/// Makes its programs the first that are found.
pub(crate) fn activate(venv: &Path, environment: &mut Vec<Variable>) {
    let programs = venv.join(PROGRAMS).to_string_lossy().into_owned();
    for (name, value) in environment.iter_mut() {
        if name == "PATH" {
            *value = format!("{programs}:{value}");
        }
    }
    environment.retain(|(name, _)| name != "VIRTUAL_ENV");
    environment.push(("VIRTUAL_ENV".to_owned(), venv.to_string_lossy().into_owned()));
}
