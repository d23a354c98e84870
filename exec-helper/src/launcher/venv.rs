//! Environments of packages, such as those of python: which one a run has. As the user.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use super::environment::Variable;
use crate::identity::IsUser;

/// Where its programs are.
const PROGRAMS: &str = "bin";

/// The project's, if it has one that no other user could have laid there; else that of the settings.
pub(crate) fn of_project(
    _: IsUser,
    project: Option<PathBuf>,
    default: Option<&Path>,
    own: Uid,
) -> Option<PathBuf> {
    let is_own = |venv: &PathBuf| {
        fs::metadata(venv.join(PROGRAMS))
            .is_ok_and(|folder| folder.is_dir() && (folder.uid() == own.as_raw() || folder.uid() == 0))
    };
    project.filter(is_own).or_else(|| default.map(Path::to_owned).filter(|venv| venv.join(PROGRAMS).is_dir()))
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
