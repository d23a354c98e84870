//! Screens of kept programs against xterm.js itself: runs the judge of `tests/screens`.
//!
//! It needs node and npm, and npm's registry the first time. Where they are missing the test says so and is
//! left out. What npm brings goes below the target directory.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "the test starts the judge")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use further_link_tests::binaries;

/// What npm says when its registry cannot be reached. Any other failure is one of ours.
const UNREACHABLE: [&str; 8] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ERR_SOCKET_TIMEOUT",
];

/// The judge.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("screens")
}

/// Where npm installs, and keeps what it has downloaded.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("screens")
}

/// Not `eprintln!`, which the test runner would swallow.
fn say(text: &str) {
    std::io::stderr().write_all(format!("\n{text}\n\n").as_bytes()).unwrap();
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn both(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// Installs what `package-lock.json` names. Returns whether it is there.
fn install() -> bool {
    fs::create_dir_all(installed()).unwrap();
    for file in ["package.json", "package-lock.json"] {
        fs::copy(folder().join(file), installed().join(file)).unwrap();
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--cache", "cache"])
        .current_dir(installed())
        .output()
        .unwrap();
    let unreachable = UNREACHABLE.iter().any(|code| both(&output).contains(code));
    assert!(output.status.success() || unreachable, "npm ci failed:\n{}", both(&output));
    output.status.success()
}

#[test]
fn a_snapshot_shows_in_xterm_js_what_the_program_has_shown() {
    if !has("node") || !has("npm") {
        return say("SKIPPED: there is no node or no npm, so NO screen was compared with xterm.js");
    }
    if !install() {
        return say("SKIPPED: npm's registry is out of reach, so NO screen was compared with xterm.js");
    }
    let output = Command::new("node")
        .arg("judge.mjs")
        .arg(binaries::kept_screen())
        .env("NODE_PATH", installed().join("node_modules"))
        .current_dir(folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "the judge found too many differences:\n{}", both(&output));
}
