//! Screens of kept programs against xterm.js itself: runs the judge of `tests/screens`.
//!
//! It needs node and npm, and npm's registry the first time. Where they are missing the test says so and is
//! left out.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "the test starts the judge")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use further_link_tests::binaries;

/// What npm says when its registry cannot be reached. Any other failure is one of ours.
const UNREACHABLE: [&str; 5] = ["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("screens")
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
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"])
        .current_dir(folder())
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
    let output =
        Command::new("node").arg("judge.mjs").arg(binaries::kept_screen()).current_dir(folder()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "the judge found too many differences:\n{}", both(&output));
}
