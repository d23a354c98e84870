//! Building what is measured, by the cargo that runs this, with the same profile and into the same target
//! directory: the two daemons as the package has them. Or those of the package itself, where it is installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

/// Paths of the two daemons and of the program that they run.
pub(crate) struct Binaries {
    pub(crate) frontend: PathBuf,
    pub(crate) helper: PathBuf,
    pub(crate) program: PathBuf,
    /// Runner files; without it the helper has its own.
    pub(crate) runners: Option<PathBuf>,
    /// False in a build whose figures mean little.
    pub(crate) optimised: bool,
}

/// Builds them.
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
    // Without the helper's code in the frontend (debian/rules).
    let frontend = ["--package", "further-link-frontend", "--bin", "further-link", "--no-default-features"];
    let frontend = [&frontend[..], &["--features", "page"]].concat();
    cargo("build", &frontend, &[])?;
    cargo("build", &["--package", "further-link-exec-helper", "--bin", "further-link-exec-helper"], &[])?;
    // Without a dynamic linker, whose work would hide what a start itself costs.
    let program = ["--package", "further-link-benches", "--bin", "further-link-bench-program"];
    cargo("rustc", &program, &["--", "-C", "target-feature=+crt-static"])?;
    Ok(Binaries {
        frontend: directory.join("further-link"),
        helper: directory.join("further-link-exec-helper"),
        program: directory.join("further-link-bench-program"),
        runners: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../runners.d")),
        optimised: profile != "dev",
    })
}

/// Those of the Debian package. The program that they run lies beside this one.
pub(crate) fn installed() -> Result<Binaries> {
    let own = std::env::current_exe()?;
    let helper = "/usr/libexec/further-link/further-link-exec-helper";
    Ok(Binaries {
        frontend: PathBuf::from("/usr/bin/further-link"),
        helper: PathBuf::from(helper),
        program: own.with_file_name("further-link-bench-program"),
        runners: None,
        optimised: true,
    })
}
