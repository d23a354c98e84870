//! What the documents say, against the files: tests that they name exist, and numbers are those of the code.
//!
//! Pages for people only; the examples of API.md are replayed by `api_examples`, PROTOCOL.md is tested in
//! `proto`, and README.md's table of options in `frontend-daemon/src/config.rs`.
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
    tests.map(|(path, name)| (whole(path), name.to_owned())).collect()
}

/// The file of end-to-end tests that has this name, in whichever folder.
fn whole(path: &str) -> String {
    if path.contains('/') {
        return path.to_owned();
    }
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders =
        std::fs::read_dir(tests).unwrap().map(|folder| folder.unwrap().file_name().into_string().unwrap());
    let mut places = folders.map(|folder| format!("tests/tests/{folder}/{path}"));
    let is_there = |place: &String| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(place).exists();
    places.find(is_there).unwrap_or_else(|| format!("tests/tests/{path}"))
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

#[test]
fn every_defect_has_tests_that_exist() {
    let rows = rows(&file(DEFECTS));
    let found: BTreeSet<u32> = rows.iter().flat_map(|(ids, _)| ids.clone()).collect();
    assert_eq!(found, (1..=56).collect(), "{DEFECTS}: the ids of its tables");
    for (ids, row) in rows {
        let tests = named(&row);
        let honest = ["not built", "by construction"].iter().any(|words| row.contains(words));
        assert!(honest || !tests.is_empty(), "{DEFECTS}: D{ids:?} has no test and does not say why");
        for (file, test) in tests {
            assert!(is_there(&file, &test), "{DEFECTS}: D{ids:?} names {file}: {test}, which is not there");
        }
    }
}

/// All files of the repository with text that may cite: code, tests and pages, by their paths.
fn texts() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut left = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let kind = entry.file_type().unwrap();
            let is_made = ["target", "corpus", "node_modules"].contains(&name.as_str());
            let hidden = name.starts_with('.') || is_made;
            if kind.is_dir() && !hidden {
                left.push(entry.path());
            } else if kind.is_file() && [".rs", ".py", ".md"].iter().any(|end| name.ends_with(end)) {
                let path = entry.path().strip_prefix(&root).unwrap().display().to_string();
                found.push((path, std::fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    found
}

/// The ids that a text cites, such as B6.4 or D26. Hexadecimal digits between colons are none.
fn cited(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || ".:_".contains(c)));
    let ids = words.map(|word| word.trim_matches(['.', ':']));
    let is_id = |word: &&str| {
        let Some(number) = word.strip_prefix(['B', 'D']) else { return false };
        let mut parts = number.split('.');
        let good = |part: &str| {
            (1..=2).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_digit())
                && !part.starts_with('0')
        };
        parts.clone().count() <= 1 + usize::from(word.starts_with('B')) && parts.all(good)
    };
    ids.filter(is_id).map(str::to_owned).collect()
}

#[test]
fn every_id_that_is_cited_stands_on_its_page() {
    let (rules, defects) = (file(COMPATIBILITY), file(DEFECTS));
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        for id in cited(&text) {
            let marks = [format!("\n## {id}. "), format!("\n- **{id}** "), format!("\n| {id} | ")];
            let page = if id.starts_with('B') { &rules } else { &defects };
            if !marks.iter().any(|mark| page.contains(mark)) {
                wrong.push(format!("{path}: {id}"));
            }
        }
    }
    assert!(wrong.is_empty(), "cited, and not in docs/compatibility.md or docs/defects.md: {wrong:#?}");
}

/// The anchors of a page as GitHub makes them from headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    headings
        .map(|text| text.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let is_page = |path: &str| PathBuf::from(path).extension().is_some_and(|end| end == "md");
    let mut wrong = Vec::new();
    for (path, text) in texts().into_iter().filter(|(path, _)| is_page(path)) {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if target.is_empty() { root.join(&path) } else { root.join(&path).with_file_name(target) };
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor));
            if !there {
                wrong.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
    (
        API,
        "idle time before the next one | 10 s",
        LISTEN,
        "HEAD_TIMEOUT: Duration = Duration::from_secs(10);",
    ),
    (
        API,
        "handshake has to be done 10 seconds after",
        TLS,
        "HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);",
    ),
    (API, "| message from a client | 4 MiB", MESSAGE, "MAX_MESSAGE: usize = 4 * 1024 * 1024;"),
    (API, "message that was begun | 60 s", FRAGMENTS, "MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);"),
    (API, "The first 16 KiB of each do not count", REFRAGMENT, "FRAGMENT: u64 = 16 * 1024;"),
    (
        API,
        "unfinished messages, in all | 64 MiB, 16 MiB",
        BUDGET,
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
    (API, "| programs at once on one connection | 256", CONFIG, "NUMBER\", default_value_t = 256,"),
    (API, "| programs at once, of all connections | 512", CONFIG, "NUMBER\", default_value_t = 512,"),
    (API, "takes more than 50 ms", SESSION, "START_PATIENCE: Duration = Duration::from_millis(50);"),
    (API, "time that an input waits for room | 16 MiB", INPUT, "MAX_WAITING: usize = 16 * 1024 * 1024;"),
    (API, "16 MiB; 5 s", INPUT, "MAX_WAIT: Duration = Duration::from_secs(5);"),
    (API, "complete within 10 s", CONNECTION, "LINE_TIMEOUT: Duration = Duration::from_secs(10);"),
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
    (
        API,
        "| file that is put | 64 MiB (`--file-limit`, at most 4096)",
        CONFIG,
        "env = \"FURTHER_LINK_FILE_LIMIT\", value_name = \"MIB\", default_value_t = 64,",
    ),
    (
        API,
        "a file may have 67108864 bytes",
        "frontend-daemon/src/http/routes.rs",
        "DEFAULT_FILE_LIMIT: u64 = 64 * 1024 * 1024;",
    ),
    (API, "| 8 that put a file or read a directory", WORKDIR, "MAX_LONG: usize = 8;"),
    (API, "directory, 8 others", WORKDIR, "MAX_SHORT: usize = 8;"),
    (API, "others, 16 downloads of files", WORKDIR, "MAX_DOWNLOADS: usize = 16;"),
    (API, "for 10 s there was no room", WORKDIR, "SLOT_TIMEOUT: Duration = Duration::from_secs(10);"),
    (
        API,
        "or 14 minutes for it",
        "frontend-daemon/src/workdir/download.rs",
        "LONGEST: Duration = Duration::from_mins(14);",
    ),
    (API, "more than the 10,000 that are listed", "proto/src/files.rs", "MAX_ENTRIES: usize = 10_000;"),
    (API, "After 24 hours without another part", PARTS, "LIFETIME: Duration = Duration::from_hours(24);"),
    (API, "oldest of more than 16, or", PARTS, "MAX_WAITING: usize = 16;"),
    (API, "or of more than 256 MiB, go before", PARTS, "MAX_BYTES: u64 = 256 * 1024 * 1024;"),
    (API, "16 to 64 random letters", "proto/src/value.rs", "RangeInclusive<usize> = 16..=64;"),
    (API, "| time for a start | 30 s", PROCESS, "START_TIMEOUT: Duration = Duration::from_secs(30);"),
    (API, "at most 5 redirects", DOWNLOAD, "MAX_REDIRECTS: usize = 5;"),
    (API, "redirects, at most 256 MiB", DOWNLOAD, "MAX_DOWNLOAD: u64 = 256 * 1024 * 1024;"),
    (API, "10 minutes in all", DOWNLOAD, "total: Duration::from_mins(10),"),
    (API, "30 s without a byte. Addresses", DOWNLOAD, "silence: Duration::from_secs(30),"),
    (
        API,
        "30 s without a byte of the body",
        UPLOAD_HTTP,
        "SILENCE_TIMEOUT: Duration = Duration::from_secs(30);",
    ),
    (API, "body, or 10 minutes for it", UPLOAD_HTTP, "BODY_TIMEOUT: Duration = Duration::from_mins(10);"),
    (API, "for 30 s there was no room", UPLOAD_HTTP, "ROOM_TIMEOUT: Duration = Duration::from_secs(30);"),
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
    (THREATS, "one message of at most 16 KiB", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    (THREATS, "shorter than 22 characters", TOKENS, "MIN_TOKEN: usize = 22;"),
    ("systemd/README.md", "one message of at most 16 KiB", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    ("proto/PROTOCOL.md", "at most 16384 bytes", CODEC, "MAX_MESSAGE: usize = 16 * 1024;"),
    ("proto/PROTOCOL.md", "at most five", "proto/src/socket.rs", "MAX_DESCRIPTORS: usize = 5;"),
    ("proto/PROTOCOL.md", "at most 262144", "proto/src/value.rs", "MAX_DETAILS: usize = 256 * 1024;"),
    (
        API,
        "at most 256 of 65536 bytes together",
        "frontend-daemon/src/access/run_as.rs",
        "MAX_ARGS: usize = 256;",
    ),
    (
        API,
        "at most 65536 bytes together",
        "frontend-daemon/src/access/run_as.rs",
        "MAX_ENV_BYTES: usize = 64 * 1024;",
    ),
    ("proto/PROTOCOL.md", "at most 32 names", "proto/src/value.rs", "MAX_DEPTH: usize = 32;"),
    (ARCHITECTURE, "outbox (4 messages)", OUTBOX, "CAPACITY: usize = 4;"),
    (ARCHITECTURE, "128 KiB of unsent bytes", LISTEN, "MAX_UNSENT: u32 = 128 * 1024;"),
    (
        API,
        "without a client | 86400 s (`--max-keep-seconds`, at most 30 days)",
        CONFIG,
        "default_value_t = 86400,",
    ),
    (
        API,
        "| kept programs that run, of all clients; of one | 64 (`--max-kept`;",
        CONFIG,
        "\"FURTHER_LINK_MAX_KEPT\", value_name = \"NUMBER\", default_value_t = 64,",
    ),
    (API, "16 (`--max-kept-per-client`)", CONFIG, "value_name = \"NUMBER\", default_value_t = 16,"),
    (API, "| clients attached to one program | 8 (`--max-viewers`)", CONFIG, "default_value_t = 8,"),
    (API, "of one program; of all | 1 MiB (`--kept-text`", CONFIG, "\"KIB\", default_value_t = 1024,"),
    (API, "64 MiB (`--kept-text-of-all`", CONFIG, "\"MIB\", default_value_t = 64,"),
    (API, "in MiB), and 64 KiB for each", TRANSCRIPT, "STEP: usize = 64 * 1024;"),
    (API, "| 500 rows, 1000 columns, 65535 places", SCREEN, "MOST_COLUMNS: u16 = 1000;"),
    (API, "| 500 rows, 1000 columns, 65535 places", SCREEN, "MOST_ROWS: u16 = 500;"),
    (API, "again at `attach` | 256, of 16 KiB", TRANSCRIPT, "MAX_KEYS: usize = 256;"),
    (API, "again at `attach` | 256, of 16 KiB", TRANSCRIPT, "MAX_KEYS_BYTES: usize = 16 * 1024;"),
    (API, "when it is 256 KiB behind", TRANSCRIPT, "WINDOW: u64 = 256 * 1024;"),
    (API, "for its holder for more than a second", TRANSCRIPT, "STALLED: Duration = Duration::from_secs(1);"),
    (API, "then the last 64 KiB stay", TRANSCRIPT, "REMAINS: usize = 64 * 1024;"),
    (API, "until 24 hours after the end", KEPT, "REMEMBERED: Duration = Duration::from_hours(24);"),
    (API, "own, 22 to 128 characters", "api/src/keep.rs", "RangeInclusive<usize> = 22..=128;"),
    (THREATS, "view key have 128 random bits", "frontend-daemon/src/kept/mod.rs", "KEY: usize = 16;"),
    (THREATS, "One client has 16 of 64", CONFIG, "value_name = \"NUMBER\", default_value_t = 16,"),
    (DECISIONS, "longer than five minutes", SERVE, "REQUEST_TIMEOUT: Duration = Duration::from_mins(5);"),
    (DECISIONS, "replaces its spare before", POOL, "SPARE_LIFETIME: Duration = Duration::from_mins(4);"),
];

const API: &str = "api/API.md";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
const BUDGET: &str = "frontend-daemon/src/memory/budget.rs";
const CHANNEL: &str = "frontend-daemon/src/process/channel/mod.rs";
const CODEC: &str = "proto/src/codec.rs";
const CONFIG: &str = "frontend-daemon/src/config.rs";
const CONNECTION: &str = "frontend-daemon/src/process/channel/connection.rs";
const COMPATIBILITY: &str = "docs/compatibility.md";
const DECISIONS: &str = "docs/decisions.md";
const DEFECTS: &str = "docs/defects.md";
const DOWNLOAD: &str = "frontend-daemon/src/upload/download.rs";
const FRAGMENTS: &str = "frontend-daemon/src/http/fragments.rs";
const REFRAGMENT: &str = "frontend-daemon/src/http/refragment.rs";
const INPUT: &str = "frontend-daemon/src/process/input.rs";
const KEYS: &str = "frontend-daemon/src/process/channel/keys.rs";
const KEPT: &str = "frontend-daemon/src/kept/program.rs";
const LINE: &str = "frontend-daemon/src/process/channel/line.rs";
const LISTEN: &str = "frontend-daemon/src/http/listen.rs";
const MESSAGE: &str = "api/src/limits.rs";
const OUTBOX: &str = "frontend-daemon/src/outbox/mod.rs";
const OUTPUT: &str = "frontend-daemon/src/process/output.rs";
const PARTS: &str = "exec-helper/src/files/parts.rs";
const PLACES: &str = "frontend-daemon/src/access/limits.rs";
const POOL: &str = "frontend-daemon/src/helper/pool.rs";
const PROCESS: &str = "frontend-daemon/src/process/mod.rs";
const SCREEN: &str = "frontend-daemon/src/transcript/screen.rs";
const SERVE: &str = "exec-helper/src/serve.rs";
const SESSION: &str = "frontend-daemon/src/session/mod.rs";
const THREATS: &str = "docs/threat-model.md";
const TLS: &str = "frontend-daemon/src/tls/mod.rs";
const TOKENS: &str = "frontend-daemon/src/access/tokens.rs";
const TRANSCRIPT: &str = "frontend-daemon/src/transcript/state.rs";
const UPLOAD_HTTP: &str = "frontend-daemon/src/http/upload.rs";
const WORKDIR: &str = "frontend-daemon/src/workdir/mod.rs";
const STATE: &str = "exec-helper/src/watcher/state.rs";

/// A change of one side finds the other one here. Words are compared whatever the line breaks.
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
