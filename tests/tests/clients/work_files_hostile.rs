//! `/files` under attack: names that try to lead out of the work dir, pages of others, and a program of the
//! user that swaps directories and links while requests run.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use further_link_tests::{Daemon, accounts, helper_only::Rng, scratch, scratch::set_mode};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::work_files::{act, encoded, get, put, send};

/// What no answer may have in it.
const SECRET: &[u8] = b"this lies outside of the work dir";
/// How many requests run against the swapping program; this variable names another number.
const RACES: u32 = 400;
const RACES_VARIABLE: &str = "FURTHER_LINK_TESTS_RACES";

/// A directory beside the work dir that any user could read and write, and that none does.
fn outside(daemon: &Daemon) -> std::path::PathBuf {
    let outside = daemon.scratch().root().join("outside");
    scratch::directory_for(&accounts::pi(), &outside, 0o777);
    for name in ["secret", "f"] {
        fs::write(outside.join(name), SECRET).unwrap();
        set_mode(&outside.join(name), 0o666);
    }
    outside
}

#[track_caller]
fn assert_untouched(outside: &Path) {
    let names: BTreeSet<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["f".into(), "secret".into()]), "something was made or removed");
    for name in names {
        assert_eq!(fs::read(outside.join(name)).unwrap(), SECRET);
    }
}

/// Paths as they stand in a request, that mean something outside on some system.
fn corpus(outside: &Path) -> Vec<String> {
    let target = format!("{}/secret", outside.display());
    let up = [
        "..",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "..%00",
        "..%20",
        "..;",
        "..%3b",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%uff0e%uff0e",
        "%ef%bc%8e%ef%bc%8e",
        "%e2%80%a5",
        "...",
        "....",
        "..%ef%b8%8f",
        "..%e2%80%8b",
        "%00..",
    ];
    let slash = [
        "/",
        "%2f",
        "%2F",
        "//",
        "/./",
        "%5c",
        "%5C",
        "%252f",
        "%c0%af",
        "%ef%bc%8f",
        "%e2%88%95",
        "/%00/",
        "%2f/",
    ];
    let mut paths = Vec::new();
    for up in up {
        for slash in slash {
            paths.push(format!("{up}{slash}outside{slash}secret"));
            paths.push(format!("d{slash}{up}{slash}{up}{slash}outside{slash}secret"));
        }
    }
    for start in [
        "/",
        "//",
        "%2f",
        "%2F",
        "/./",
        "/%2e/",
        "file:///",
        "file%3a%2f%2f%2f",
        "~",
        "~root/",
        "%7e/",
        "\\\\?\\",
        "C:/",
        "C:%5c",
    ] {
        paths.push(format!("{start}etc/passwd"));
        paths.push(format!("{start}{}", target.trim_start_matches('/')));
    }
    paths.extend(other_ways());
    paths
}

/// By links, by names of the helper's own, and by forms that are no names.
fn other_ways() -> Vec<String> {
    let mut paths = Vec::new();
    for own in ["self", "thread-self", "1", "self/task/1"] {
        for place in
            ["root/etc/passwd", "cwd/../outside/secret", "fd/0", "fd/3", "environ", "mem", "exe", "ns/mnt"]
        {
            paths.push(format!("proc-link/{own}/{place}"));
        }
    }
    for name in [
        ".flparts",
        ".flparts/x",
        ".flcache",
        ".flcache/k/x",
        ".flupload-0000000000000000",
        ".flupload-0000000000000000/tree",
    ] {
        paths.push(name.to_owned());
        paths.push(name.replace('.', "%2e"));
        paths.push(format!("./{name}"));
        paths.push(format!("d/../{name}"));
    }
    for link in [
        "out/secret",
        "up/outside/secret",
        "far",
        "root/etc/passwd",
        "chain/secret",
        "out/../outside/secret",
        "dots",
    ] {
        paths.push(link.to_owned());
        paths.push(format!("{link}/"));
        paths.push(format!("{link}%00.txt"));
        paths.push(format!("d/../{link}"));
    }
    paths.extend([
        String::new(),
        ".".to_owned(),
        "%2e".to_owned(),
        "%00".to_owned(),
        "a%00b".to_owned(),
        "%ff%fe".to_owned(),
        "n".repeat(256),
        "n/".repeat(100),
        "../".repeat(100) + "etc/passwd",
        "d/".to_owned() + &"../".repeat(50) + "etc/passwd",
        "x".repeat(5000),
        "%2e%2e%2f".repeat(300),
    ]);
    paths
}

/// B9: a corpus of 500 names, and nothing gets out.
#[test]
fn no_name_leads_out_of_the_work_dir() {
    let daemon = Daemon::start();
    let (work, outside) = (daemon.work(), outside(&daemon));
    scratch::directory_for(&accounts::pi(), &work.join("d"), 0o755);
    for (target, link) in [
        (outside.to_str().unwrap(), "out"),
        ("..", "up"),
        ("../outside/secret", "far"),
        ("/", "root"),
        ("out", "chain"),
        ("d/../../outside/secret", "dots"),
        ("/proc", "proc-link"),
    ] {
        symlink(target, work.join(link)).unwrap();
    }
    let paths = corpus(&outside);
    assert!(paths.len() >= 500, "{}", paths.len());
    let mut refused = 0;
    for path in &paths {
        // A request's target has no spaces, and no other byte than ASCII.
        let target = format!("/files/{path}");
        for (method, body) in [("GET", b"".as_slice()), ("PUT", b"escaped")] {
            let answer = send(&daemon, method, &target, "", body);
            assert!(!answer.body.windows(SECRET.len()).any(|bytes| bytes == SECRET), "{method} {path}");
            assert!(!answer.body.windows(6).any(|bytes| bytes == b"root:x"), "{method} {path}");
            assert!(answer.status < 500, "{method} {path}: {answer:?}");
            refused += usize::from(answer.status >= 400);
        }
    }
    assert!(refused >= paths.len(), "most are no names of files here: {refused}");
    for path in [
        "..",
        "../outside/f",
        "/etc/passwd",
        "out/f",
        "up/outside/f",
        "root/tmp",
        "d/../../outside/f",
        "out/../f",
        ".",
        "",
        "d/..",
    ] {
        for action in [
            json!({"action": "remove", "path": path}),
            json!({"action": "directory", "path": format!("{path}/new")}),
            json!({"action": "rename", "path": path, "to": "stolen"}),
            json!({"action": "rename", "path": "d", "to": format!("{path}/d")}),
        ] {
            let answer = act(&daemon, &action);
            assert!((400..500).contains(&answer.status), "{action}: {answer:?}");
        }
        let listed = get(&daemon, &format!("/files?path={}", encoded(path)));
        assert!(path.is_empty() || listed.status >= 400, "{path}: {listed:?}");
    }
    assert_untouched(&outside);
    assert!(work.join("d").is_dir() && !work.join("stolen").exists());
}

/// A page of another site gets nowhere, whatever it asks for.
#[test]
fn foreign_pages_neither_read_nor_write() {
    let daemon = Daemon::start();
    fs::write(daemon.work().join("f"), SECRET).unwrap();
    let remove = json!({"action": "remove", "path": "f"}).to_string();
    for headers in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost.evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n",
    ] {
        for (method, target, body) in [
            ("GET", "/files", b"".as_slice()),
            ("GET", "/files/f", b""),
            ("PUT", "/files/new", b"x"),
            ("POST", "/files", remove.as_bytes()),
        ] {
            let answer =
                send(&daemon, method, target, &format!("{headers}Content-Type: text/plain\r\n"), body);
            assert_eq!(answer.status, 403, "{headers}{method} {target}");
            assert!(!answer.body.windows(SECRET.len()).any(|bytes| bytes == SECRET));
        }
    }
    assert!(daemon.work().join("f").exists() && !daemon.work().join("new").exists());
}

/// A directory of the work dir and a link to the outside change places all the time, while requests read,
/// write, list and remove through that name. The helper's own tests race its look-ups alone, and
/// `FURTHER_LINK_TESTS_RACES=1000000` makes that half a minute; here it goes on for an hour.
#[test]
fn a_program_that_swaps_links_and_directories_gains_nothing() {
    let races = std::env::var(RACES_VARIABLE).map_or(RACES, |number| number.parse().unwrap());
    let daemon = Daemon::start();
    let (work, outside) = (daemon.work(), outside(&daemon));
    for name in ["place", "place/deep"] {
        scratch::directory_for(&accounts::pi(), &work.join(name), 0o777);
    }
    symlink(&outside, work.join("link")).unwrap();
    symlink(outside.join("secret"), work.join("file-link")).unwrap();
    fs::write(work.join("file"), "inside").unwrap();
    set_mode(&work.join("file"), 0o666);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let swap = |one: &'static str, other: &'static str| {
            let (work, stop) = (&work, &stop);
            scope.spawn(move || {
                let mut swaps = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let (Ok(()) | Err(_)) =
                        renameat_with(CWD, work.join(one), CWD, work.join(other), RenameFlags::EXCHANGE);
                    swaps += 1;
                }
                assert!(swaps > 100);
            });
        };
        swap("place", "link");
        swap("file", "file-link");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut random = Rng::new(u64::from(races));
            for number in 0..races {
                let answer = match random.below(9) {
                    0 => get(&daemon, "/files/place/secret"),
                    1 => get(&daemon, "/files/file"),
                    2 => put(&daemon, "/files/place/f", b"escaped"),
                    3 => put(&daemon, &format!("/files/place/deep/n{number}?parents=1"), b"escaped"),
                    4 => get(&daemon, "/files?path=place"),
                    5 => act(&daemon, &json!({"action": "remove", "path": "place/secret"})),
                    6 => act(&daemon, &json!({"action": "directory", "path": format!("place/d{number}")})),
                    7 => act(&daemon, &json!({"action": "rename", "path": "place/secret", "to": "stolen"})),
                    _ => get(&daemon, "/files/place"),
                };
                assert!(
                    !answer.body.windows(SECRET.len()).any(|bytes| bytes == SECRET),
                    "read by request {number}"
                );
                assert!(answer.status < 500, "{answer:?}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    assert_untouched(&outside);
    assert!(!work.join("stolen").exists());
}
