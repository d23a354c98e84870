//! What the documents say, against the files: tests that they name exist, and numbers are those of the code.
//!
//! Pages for people only; the examples of API.md are replayed by `api_examples`, PROTOCOL.md is tested in `proto`, and
//! README.md's table of options in `frontend-daemon/src/config.rs`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::collections::BTreeSet;
use std::path::PathBuf;

/// A file of the checkout.
#[track_caller]
fn file(path: &str) -> String {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&place).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The rows of a page that begin with an id: the numbers of the ids, and the whole row.
fn rows(page: &str) -> Vec<(Vec<u32>, String)> {
    let ids = |row: &str| -> Option<Vec<u32>> {
        let cell = row.strip_prefix("| D")?.split('|').next()?;
        cell.split(", D").map(|id| id.trim().parse().ok()).collect()
    };
    page.lines().filter_map(|row| Some((ids(row)?, row.to_owned()))).collect()
}

/// The tests that a row names, as `file: function`.
fn named(row: &str) -> Vec<(String, String)> {
    let quoted = row.split('`').skip(1).step_by(2);
    let pairs = quoted.filter_map(|text| text.split_once(": "));
    let tests = pairs.filter(|(path, _)| {
        let extension = PathBuf::from(path).extension().map(std::ffi::OsStr::to_owned);
        extension.is_some_and(|extension| extension == "rs" || extension == "py")
    });
    let whole = |path: &str| if path.contains('/') { path.to_owned() } else { format!("tests/tests/{path}") };
    tests.map(|(path, name)| (whole(path), name.to_owned())).collect()
}

/// Whether a file has this test: a function with `#[test]` (or its like) above it, or one of python.
fn is_there(path: &str, name: &str) -> bool {
    let text = file(path);
    let Some(place) = text.find(&format!("fn {name}(")).or_else(|| text.find(&format!("def {name}("))) else {
        return false;
    };
    let above: Vec<&str> = text.get(..place).unwrap().lines().rev().take(4).collect();
    path.contains(".py") || above.iter().any(|line| line.contains("test]"))
}

#[track_caller]
fn check_table(path: &str, expected: impl Iterator<Item = u32>) {
    let rows = rows(&file(path));
    let found: BTreeSet<u32> = rows.iter().flat_map(|(ids, _)| ids.clone()).collect();
    assert_eq!(found, expected.collect(), "{path}: the ids of its table");
    for (ids, row) in rows {
        let tests = named(&row);
        let honest = ["not built", "by construction"].iter().any(|words| row.contains(words));
        assert!(honest || !tests.is_empty(), "{path}: D{ids:?} has no test and does not say why");
        for (file, test) in tests {
            assert!(is_there(&file, &test), "{path}: D{ids:?} names {file}: {test}, which is not there");
        }
    }
}

#[test]
fn every_defect_of_security_has_tests_that_exist() {
    check_table("SECURITY.md", (1..=25).filter(|id| *id != 7));
}

#[test]
fn every_other_defect_has_tests_that_exist() {
    check_table("tests/README.md", std::iter::once(7).chain(26..=56));
}

/// A limit: where it is said, in which words, and the line of code that makes it true.
const LIMITS: &[(&str, &str, &str, &str)] = &[
    (
        API,
        "| connections that were let in, at once | 2048 (`--max-connections`)",
        CONFIG,
        "default_value_t = 2048",
    ),
    (API, "not this machine's | 256 (`--max-connections-per-address`)", CONFIG, "default_value_t = 256"),
    (API, "| head of a request | 16 KiB, 100 headers", LISTEN, "MAX_HEAD: usize = 16 * 1024;"),
    (API, "idle time before the next one | 10 s", LISTEN, "HEAD_LIMIT: Duration = Duration::from_secs(10);"),
    (
        API,
        "handshake has to be done 10 seconds after",
        TLS,
        "HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);",
    ),
    (API, "| message from a client | 4 MiB", MESSAGE, "MAX_MESSAGE: usize = 4 * 1024 * 1024;"),
    (API, "message that was begun | 60 s", FRAGMENTS, "MESSAGE_LIMIT: Duration = Duration::from_mins(1);"),
    (API, "The first 16 KiB of each do not count", FRAGMENTS, "FRAGMENT: u64 = 16 * 1024;"),
    (
        API,
        "unfinished messages, in all | 64 MiB, 16 MiB",
        PLACES,
        "MAX_UNFINISHED: usize = 64 * 1024 * 1024;",
    ),
    (
        API,
        "64 MiB, 16 MiB from one address",
        PLACES,
        "MAX_UNFINISHED_PER_ADDRESS: usize = MAX_UNFINISHED / 4;",
    ),
    (API, "values in one message | 32768", MESSAGE, "MAX_VALUES: usize = 32 * 1024;"),
    (API, "| process id | 16 KiB", MESSAGE, "MAX_ID: usize = 16 * 1024;"),
    (API, "| 10 in a minute, of", TOKENS, "MAX_FAILURES: u32 = 10;"),
    (API, "of at most 2048 addresses", TOKENS, "MAX_ADDRESSES: usize = 2048;"),
    (API, "answered after 0.5 s", TOKENS, "FIRST_DELAY: Duration = Duration::from_millis(500);"),
    (API, "at most 4 s; after ten", TOKENS, "LONGEST_DELAY: Duration = Duration::from_secs(4);"),
    (API, "until a minute has passed", TOKENS, "MEMORY: Duration = Duration::from_mins(1);"),
    (API, "| programs at once on one connection | 64", SESSION, "MAX_PROCESSES: usize = 64;"),
    (API, "| programs at once, of all connections | 512", HELPER, "MAX_RUNS: usize = 512;"),
    (API, "time that an input waits for room | 16 MiB", INPUT, "MAX_WAITING: usize = 16 * 1024 * 1024;"),
    (API, "16 MiB; 5 s", INPUT, "MAX_WAIT: Duration = Duration::from_secs(5);"),
    (API, "complete within 10 s", CONNECTION, "LINE_LIMIT: Duration = Duration::from_secs(10);"),
    (API, "all programs together | 64 MiB, and 64 KiB for each", INPUT, "FREE: usize = 64 * 1024;"),
    (API, "all programs together | 64 MiB", BUDGET, "ALL_INPUT: usize = 64 * 1024 * 1024;"),
    (API, "line on the user channel | 4 MiB", LINE, "MAX_LINE: usize = 4 * 1024 * 1024;"),
    (API, "one run's channel; to all | 32; 1024", CHANNEL, "MAX_CONNECTIONS: usize = 32;"),
    (API, "one run's channel; to all | 32; 1024", BUDGET, "ALL_CONNECTIONS: usize = 1024;"),
    (API, "keys of one connection | 256, of at most 1 KiB", KEYS, "MAX_KEYS: usize = 256;"),
    (API, "of at most 1 KiB each and 16 KiB together", KEYS, "MAX_KEY: usize = 1024;"),
    (API, "each and 16 KiB together", KEYS, "MAX_KEYS_BYTES: usize = 16 * 1024;"),
    (API, "event passed to a program | 64 bytes", KEYS, "MAX_EVENT: usize = 64;"),
    (API, "waiting for one connection | 1024 each", KEYS, "MAX_WAITING: usize = 1024;"),
    (API, "of all | 12 MiB; 64 MiB", BUDGET, "LINES_OF_ONE_CHANNEL: usize = 3;"),
    (API, "of all | 12 MiB; 64 MiB", BUDGET, "ALL_CHANNELS: usize = 64 * 1024 * 1024;"),
    (API, "More than 100 frames a second", CONNECTION, "PACE: Duration = Duration::from_millis(10);"),
    (API, "waiting for one client | 4 messages", OUTBOX, "CAPACITY: usize = 4;"),
    (API, "messages of at most 64 KiB", OUTPUT, "MAX_PIECE: usize = 64 * 1024;"),
    (API, "Never longer than 100 ms", OUTPUT, "MAX_GATHER: Duration = Duration::from_millis(100);"),
    (API, "| body of an upload | 64 MiB (`--upload-limit`, at most 128)", CONFIG, "default_value_t = 64,"),
    (API, "| time for a start | 30 s", PROCESS, "START_LIMIT: Duration = Duration::from_secs(30);"),
    (API, "at most 5 redirects", DOWNLOAD, "MAX_REDIRECTS: usize = 5;"),
    (API, "redirects, at most 256 MiB", DOWNLOAD, "MAX_DOWNLOAD: u64 = 256 * 1024 * 1024;"),
    (API, "10 minutes in all", DOWNLOAD, "total: Duration::from_mins(10),"),
    (API, "30 s without a byte. Addresses", DOWNLOAD, "silence: Duration::from_secs(30),"),
    (
        API,
        "30 s without a byte of the body",
        UPLOAD_HTTP,
        "SILENCE_LIMIT: Duration = Duration::from_secs(30);",
    ),
    (API, "body, or 10 minutes for it", UPLOAD_HTTP, "BODY_LIMIT: Duration = Duration::from_mins(10);"),
    (API, "for 30 s there was no room", UPLOAD_HTTP, "ROOM_LIMIT: Duration = Duration::from_secs(30);"),
    (API, "128 MiB of bodies", UPLOAD_HTTP, "MAX_BODIES: usize = 128 * 1024 * 1024;"),
    (API, "8 uploads at once", "frontend-daemon/src/upload/mod.rs", "MAX_UPLOADS: usize = 8;"),
    (API, "more than 10,000 files", "frontend-daemon/src/upload/request.rs", "MAX_FILES: usize = 10_000;"),
    (
        API,
        "a grace time (2 s, `--grace`)",
        "exec-helper/src/cli.rs",
        "DEFAULT_GRACE: Duration = Duration::from_secs(2);",
    ),
    (API, "the kill comes after 0.1 s", STATE, "LOOK_INTERVAL: Duration = Duration::from_millis(100);"),
    (API, "its children have 0.3 s", STATE, "LINGER_TIMEOUT: Duration = Duration::from_millis(300);"),
    (ARCHITECTURE, "at most 16 KiB", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    ("SECURITY.md", "one message of at most 16 KiB", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    ("SECURITY.md", "shorter than 22 characters", TOKENS, "MIN_TOKEN: usize = 22;"),
    ("systemd/README.md", "one message of at most 16 KiB", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    ("proto/PROTOCOL.md", "at most 16384 bytes", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    ("proto/PROTOCOL.md", "at most four", "proto/src/socket.rs", "MAX_DESCRIPTORS: usize = 4;"),
    ("proto/PROTOCOL.md", "at most 32 names", "proto/src/value.rs", "MAX_DEPTH: usize = 32;"),
    (ARCHITECTURE, "outbox (4 messages)", OUTBOX, "CAPACITY: usize = 4;"),
    (ARCHITECTURE, "128 KiB of unsent bytes", LISTEN, "MAX_UNSENT: u32 = 128 * 1024;"),
];

const API: &str = "api/API.md";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
const BUDGET: &str = "frontend-daemon/src/memory/budget.rs";
const CHANNEL: &str = "frontend-daemon/src/process/channel/mod.rs";
const CODEC: &str = "proto/src/codec.rs";
const CONFIG: &str = "frontend-daemon/src/config.rs";
const CONNECTION: &str = "frontend-daemon/src/process/channel/connection.rs";
const DOWNLOAD: &str = "frontend-daemon/src/upload/download.rs";
const FRAGMENTS: &str = "frontend-daemon/src/http/fragments.rs";
const HELPER: &str = "frontend-daemon/src/helper/pool.rs";
const INPUT: &str = "frontend-daemon/src/process/input.rs";
const KEYS: &str = "frontend-daemon/src/process/channel/keys.rs";
const LINE: &str = "frontend-daemon/src/process/channel/line.rs";
const LISTEN: &str = "frontend-daemon/src/http/listen.rs";
const MESSAGE: &str = "api/src/limits.rs";
const OUTBOX: &str = "frontend-daemon/src/outbox/mod.rs";
const OUTPUT: &str = "frontend-daemon/src/process/output.rs";
const PLACES: &str = "frontend-daemon/src/access/limits.rs";
const PROCESS: &str = "frontend-daemon/src/process/mod.rs";
const SESSION: &str = "frontend-daemon/src/session/mod.rs";
const TLS: &str = "frontend-daemon/src/tls/mod.rs";
const TOKENS: &str = "frontend-daemon/src/access/tokens.rs";
const UPLOAD_HTTP: &str = "frontend-daemon/src/http/upload.rs";
const STATE: &str = "exec-helper/src/watcher/state.rs";

/// Whoever changes one side finds the other one here. Words are compared whatever the line breaks.
#[test]
fn limits_on_the_pages_are_the_constants() {
    let joined = |path: &str| file(path).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut wrong = Vec::new();
    for (page, words, source, line) in LIMITS {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if !joined(page).contains(&words) {
            wrong.push(format!("{page} does not say {words:?}"));
        }
        if !joined(source).contains(line) {
            wrong.push(format!("{source} does not have {line:?}, as {page} says"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
