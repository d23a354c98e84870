//! Building and finding the binaries under test.
//!
//! Built once per test process by the cargo that runs the tests, with the same profile and into the same
//! target directory, so that `cargo test` alone never tests yesterday's daemon. `FURTHER_LINK_TESTS_BIN_DIR`
//! names a directory of ready binaries instead (CI builds once; nextest starts a process per test).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The variable that names a directory with all three binaries, which are then not built.
pub const DIRECTORY_VARIABLE: &str = "FURTHER_LINK_TESTS_BIN_DIR";

/// The network side.
pub fn frontend() -> PathBuf {
    directory().join("further-link")
}

/// The root side.
pub fn helper() -> PathBuf {
    directory().join("further-link-exec-helper")
}

/// The parent of everything a test starts.
pub fn supervisor() -> PathBuf {
    directory().join("further-link-tests-supervisor")
}

/// Copies a binary to where every user can run it.
///
/// By another process: a descriptor of this one that is open for writing could be inherited by a child that
/// another test starts just now, and then the copy could not be executed (ETXTBSY, execve(2)).
#[track_caller]
pub fn copy(binary: &Path, place: &Path) {
    let status = Command::new("/bin/cp").arg(binary).arg(place).status().expect("cp can be started");
    assert!(status.success(), "cannot copy {} to {}", binary.display(), place.display());
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => directory.into(),
        None => build(&["--workspace", "--bins"]),
    })
}

/// The runner files of this checkout, which a helper of its own takes for the package's.
pub fn runners() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runners.d").canonicalize().expect("the runner files")
}

/// The example of the frontend that draws screens of kept programs. It is always built.
pub fn kept_screen() -> PathBuf {
    // Of the whole workspace, so that other crates are built with the features that they have already.
    let example = "--workspace --features further-link-frontend/fuzzing --example kept-screen";
    build(&example.split(' ').collect::<Vec<_>>()).join("examples/kept-screen")
}

/// The test runs from `<target directory>/<profile's directory>/deps/<test>`.
fn build(what: &[&str]) -> PathBuf {
    let own = std::env::current_exe().expect("the test knows its path");
    let profile_directory = own.parent().and_then(Path::parent).expect("a target directory").to_owned();
    let target = profile_directory.parent().expect("a target directory");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace"))
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_directory
}
