//! Building what is measured, by the cargo that runs this, with the same profile and into the same target directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

/// Paths of the daemon and of the program that it runs.
pub(crate) struct Binaries {
    pub(crate) daemon: PathBuf,
    pub(crate) program: PathBuf,
    /// False in a build whose figures mean little.
    pub(crate) optimised: bool,
}

/// Builds both.
pub(crate) fn build() -> Result<Binaries> {
    let own = std::env::current_exe()?;
    let directory = own.parent().ok_or("this program lies nowhere")?;
    let target = directory.parent().ok_or("no target directory")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = |command: &str, arguments: &[&str], last: &[&str]| -> Result<()> {
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([command, "--quiet", "--profile", profile])
            .args(arguments)
            .arg("--target-dir")
            .arg(target)
            .args(last)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("cargo {command} failed").into()) }
    };
    cargo("build", &["--package", "further-link-frontend", "--bin", "further-link"], &[])?;
    // Without a dynamic linker, whose work would hide what a start itself costs.
    let program = ["--package", "further-link-benches", "--bin", "further-link-bench-program"];
    cargo("rustc", &program, &["--", "-C", "target-feature=+crt-static"])?;
    Ok(Binaries {
        daemon: directory.join("further-link"),
        program: directory.join("further-link-bench-program"),
        optimised: profile != "dev",
    })
}
