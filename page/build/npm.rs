//! Fetches the packages of `package-lock.json` with npm, once for each lock file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// How a person gets on without npm.
const HELP: &str = "install Node with npm (on Debian: sudo apt-get install npm) and build again, or name an installed \
    node_modules in FURTHER_LINK_PAGE_MODULES";
/// No script of a package runs, nothing for development is fetched, and a missing network is noticed soon.
const ARGUMENTS: [&str; 8] = [
    "ci",
    "--ignore-scripts",
    "--omit=dev",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=4000",
];

/// The directory `node_modules`, installed below `out`. Nothing is done if it is that of this lock file.
/// Otherwise a sentence that says what is missing.
pub(crate) fn install(from: &Path, out: &Path) -> Result<PathBuf, String> {
    let directory = out.join("npm");
    let modules = directory.join("node_modules");
    let stamp = directory.join("installed");
    let files = ["package.json", "package-lock.json"];
    let lock = files.iter().map(|file| fs::read(from.join(file))).collect::<io::Result<Vec<_>>>();
    let lock = lock.map_err(|error| format!("page/package-lock.json: {error}"))?.concat();
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(modules);
    }
    let unwritable = |error: io::Error| format!("{}: {error}", directory.display());
    if stamp.exists() {
        fs::remove_file(&stamp).map_err(unwritable)?;
    }
    fs::create_dir_all(&directory).map_err(unwritable)?;
    for file in files {
        fs::copy(from.join(file), directory.join(file)).map_err(unwritable)?;
    }
    let output = Command::new("npm")
        .args(ARGUMENTS)
        .current_dir(&directory)
        .output()
        .map_err(|error| format!("npm cannot be started ({error}): {HELP}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.lines().find(|line| line.contains("rror")).unwrap_or("it does not say why");
        return Err(format!("npm could not fetch the packages of the page ({}): {HELP}", reason.trim()));
    }
    fs::write(&stamp, lock).map_err(unwritable)?;
    Ok(modules)
}
