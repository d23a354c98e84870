//! `/files`: what a browser does with the files of a work dir. Row by row what API.md says of it.
//!
//! Names that try to get out of the work dir, and programs that swap directories meanwhile, are in
//! `work_files_hostile.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail the test"
)]
#![expect(clippy::disallowed_methods, reason = "tests make mounts and unpack archives")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
    thread,
};

use further_link_tests::{
    DEADLINE, Daemon, accounts,
    http::connect,
    scratch::{self, set_mode},
    wait_until,
};
use serde_json::{Value, json};

/// An answer, with the bytes of its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body has come to its end.
    whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("no ETag: {self:?}")).to_owned()
    }

    /// The sentence of an error.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        body["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Reads an answer to the end of its connection.
#[track_caller]
fn answer(stream: &mut TcpStream) -> Answer {
    stream.set_read_timeout(Some(DEADLINE * 6)).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap_or_else(|e| panic!("after {} bytes: {e}", raw.len()));
    let end =
        raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {raw:?}"));
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut found = Answer { status, headers, body: raw[end + 4..].to_vec(), whole: true };
    if found.header("transfer-encoding") == Some("chunked") {
        (found.body, found.whole) = chunks(&found.body);
    } else if let Some(length) = found.header("content-length") {
        found.whole = length.parse() == Ok(found.body.len());
    }
    found
}

/// The content of chunks, and whether the last one is there.
fn chunks(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    while let Some(end) = raw.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return (content, true);
        }
        raw = &raw[end + 2..];
        let Some(chunk) = raw.get(..length) else { break };
        content.extend_from_slice(chunk);
        raw = raw.get(length + 2..).unwrap_or_default();
    }
    (content, false)
}

fn head(daemon: &Daemon, method: &str, target: &str, headers: &str, length: usize) -> String {
    let host = daemon.address();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn send(daemon: &Daemon, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = connect(daemon.address());
    stream.write_all(head(daemon, method, target, headers, body.len()).as_bytes()).unwrap();
    // The daemon may refuse before it has read all.
    if let Err(error) = stream.write_all(body) {
        eprintln!("not all was taken: {error}");
    }
    answer(&mut stream)
}

#[track_caller]
pub(crate) fn get(daemon: &Daemon, target: &str) -> Answer {
    send(daemon, "GET", target, "", b"")
}

#[track_caller]
pub(crate) fn put(daemon: &Daemon, target: &str, body: &[u8]) -> Answer {
    send(daemon, "PUT", target, "", body)
}

#[track_caller]
pub(crate) fn act(daemon: &Daemon, action: &Value) -> Answer {
    send(daemon, "POST", "/files", "Content-Type: application/json\r\n", action.to_string().as_bytes())
}

/// A name as a client writes it into a path.
pub(crate) fn encoded(name: &str) -> String {
    name.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// The names of a listing with their types.
#[track_caller]
fn names(daemon: &Daemon, target: &str) -> Vec<(String, String)> {
    let listing = get(daemon, target).json();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    listing["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(entry, "name"), text(entry, "type")))
        .collect()
}

fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Nothing is left of uploads but what waits for its client.
#[track_caller]
fn assert_no_parts(daemon: &Daemon) {
    let parts = daemon.work().join(".flparts");
    wait_until(DEADLINE, "no part of a file is left", || {
        !parts.exists() || fs::read_dir(&parts).unwrap().count() == 0
    });
}

#[test]
fn a_file_is_put_read_listed_renamed_and_removed() {
    let daemon = Daemon::start();
    let made = put(&daemon, "/files/hello.py", b"print(1)\n");
    assert_eq!(made.status, 201, "{made:?}");
    let file = daemon.work().join("hello.py");
    let found = fs::metadata(&file).unwrap();
    let pi = accounts::pi();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (pi.uid, pi.gid, 0o644));
    let read = get(&daemon, "/files/hello.py");
    assert_eq!((read.status, read.body.as_slice()), (200, b"print(1)\n".as_slice()));
    assert_eq!(read.etag(), made.etag());
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-disposition", "attachment; filename*=UTF-8''hello.py"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("accept-ranges", "bytes"),
        ("content-length", "9"),
    ] {
        assert_eq!(read.header(name), Some(value), "{name}");
    }
    // Replaced, with the permissions that it has.
    set_mode(&file, 0o640);
    let replaced = put(&daemon, "/files/hello.py", b"print(2)\n");
    assert_eq!((replaced.status, replaced.body.len()), (204, 0), "{replaced:?}");
    assert_ne!(replaced.etag(), made.etag());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    // A script can be started.
    assert_eq!(put(&daemon, "/files/script", b"#!/bin/sh\n").status, 201);
    assert_eq!(fs::metadata(daemon.work().join("script")).unwrap().mode() & 0o7777, 0o755);

    assert_eq!(act(&daemon, &json!({"action": "directory", "path": "sub"})).status, 204);
    assert_eq!(act(&daemon, &json!({"action": "directory", "path": "sub"})).status, 409);
    assert_eq!(act(&daemon, &json!({"action": "directory", "path": "no/sub"})).status, 404);
    assert_eq!(act(&daemon, &json!({"action": "rename", "path": "hello.py", "to": "sub/hi.py"})).status, 204);
    assert_eq!(act(&daemon, &json!({"action": "rename", "path": "hello.py", "to": "x"})).status, 404);
    let taken = act(&daemon, &json!({"action": "rename", "path": "script", "to": "sub/hi.py"}));
    assert_eq!((taken.status, taken.error().contains("something has this name already")), (409, true));
    let itself = act(&daemon, &json!({"action": "rename", "path": "sub", "to": "sub/below"}));
    assert_eq!((itself.status, itself.error().contains("cannot go into itself")), (409, true));
    let pair = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    assert_eq!(names(&daemon, "/files"), [pair("script", "file"), pair("sub", "directory")]);
    let listing = get(&daemon, "/files?path=sub").json();
    assert_eq!((&listing["path"], &listing["truncated"]), (&json!("sub"), &json!(false)));
    let entry = &listing["entries"][0];
    assert_eq!((&entry["name"], &entry["size"]), (&json!("hi.py"), &json!(9)));
    let modified = fs::metadata(daemon.work().join("sub/hi.py")).unwrap();
    assert_eq!(entry["modified"], json!(modified.mtime() * 1000 + modified.mtime_nsec() / 1_000_000));

    assert_eq!(act(&daemon, &json!({"action": "remove", "path": "sub"})).status, 204);
    assert_eq!(act(&daemon, &json!({"action": "remove", "path": "sub"})).status, 404);
    assert!(!daemon.work().join("sub").exists());
    assert_no_parts(&daemon);
}

#[test]
fn what_is_missing_or_is_something_else_is_said() {
    let daemon = Daemon::start();
    scratch::directory_for(&accounts::pi(), &daemon.work().join("dir"), 0o755);
    fs::write(daemon.work().join("file"), "x").unwrap();
    for (method, target, status) in [
        ("GET", "/files/none", 404),
        ("HEAD", "/files/none", 404),
        ("GET", "/files?path=none", 404),
        ("GET", "/files?path=file", 409),
        ("GET", "/files/file/below", 409),
        ("PUT", "/files/none/file", 404),
        ("PUT", "/files/file/below", 409),
        ("PUT", "/files/dir", 409),
        ("PUT", "/files", 400),
        ("GET", "/files?path=..", 400),
        ("GET", "/files?path=/etc", 400),
        ("GET", "/files/a%2Fb", 400),
        ("DELETE", "/files/file", 405),
        ("POST", "/files/file", 405),
        ("GET", "/files?user=no-such-user", 403),
        ("GET", "/files?user=", 400),
        ("GET", "/files/file?user=root", 403),
    ] {
        let answer = send(&daemon, method, target, "", b"");
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        if status != 405 && method != "HEAD" {
            assert!(!answer.error().is_empty(), "{method} {target}");
        }
    }
    assert_eq!(put(&daemon, "/files/new/deep/file?parents=1", b"x").status, 201);
    assert_eq!(fs::read(daemon.work().join("new/deep/file")).unwrap(), b"x");
    for action in
        ["", "{}", "[]", "{\"action\":\"copy\",\"path\":\"file\"}", "{\"action\":\"remove\",\"path\":\"\"}"]
    {
        let answer = send(&daemon, "POST", "/files", "", action.as_bytes());
        assert_eq!(answer.status, 400, "{action}: {answer:?}");
    }
    assert!(daemon.work().join("file").exists());
}

#[test]
fn ranges_and_versions_are_answered_as_http_has_them() {
    let daemon = Daemon::start();
    let content = pattern(1000);
    fs::write(daemon.work().join("f"), &content).unwrap();
    let etag = get(&daemon, "/files/f").etag();
    let ask = |headers: &str| send(&daemon, "GET", "/files/f", headers, b"");
    let part = ask("Range: bytes=100-199\r\n");
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 100-199/1000")));
    assert!(part.body == content[100..200] && part.etag() == etag);
    assert!(ask("Range: bytes=-10\r\n").body == content[990..]);
    assert!(ask("Range: bytes=990-\r\n").body == content[990..]);
    let behind = ask("Range: bytes=1000-\r\n");
    assert_eq!((behind.status, behind.header("content-range")), (416, Some("bytes */1000")));
    assert_eq!(ask("Range: bytes=0-1,5-6\r\n").status, 200);
    assert_eq!(ask(&format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n")).status, 206);
    assert_eq!(ask("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n").status, 200);
    let known = ask(&format!("If-None-Match: \"x\", {etag}\r\n"));
    assert_eq!((known.status, known.body.len(), known.etag()), (304, 0, etag.clone()));
    let head = send(&daemon, "HEAD", "/files/f", "Range: bytes=0-9\r\n", b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (206, Some("10"), 0));
    fs::write(daemon.work().join("f"), "another").unwrap();
    let changed = ask(&format!("If-None-Match: {etag}\r\nRange: bytes=0-2\r\nIf-Range: {etag}\r\n"));
    assert_eq!((changed.status, changed.body.as_slice()), (200, b"another".as_slice()));
    fs::write(daemon.work().join("f"), "").unwrap();
    let nothing = ask("");
    assert_eq!((nothing.status, nothing.header("content-length")), (200, Some("0")));
}

/// B14: what one editor has not seen it does not overwrite.
#[test]
fn of_two_editors_one_wins_and_the_other_hears_of_it() {
    let daemon = Daemon::start();
    let with = |headers: &str, body: &[u8]| send(&daemon, "PUT", "/files/f", headers, body);
    assert_eq!(with("If-Match: *\r\n", b"0").status, 412);
    assert_eq!(with("If-None-Match: *\r\n", b"1").status, 201);
    assert_eq!(with("If-None-Match: *\r\n", b"2").status, 412);
    let seen = get(&daemon, "/files/f").etag();
    let first = with(&format!("If-Match: {seen}\r\n"), b"first");
    assert_eq!(first.status, 204, "{first:?}");
    let second = with(&format!("If-Match: {seen}\r\n"), b"second");
    assert_eq!((second.status, second.error().contains("read it again")), (412, true));
    for never in ["\"of-another-server\"", "W/\"1-2-3-4-5\""] {
        assert_eq!(with(&format!("If-Match: {never}\r\n"), b"x").status, 412, "{never}");
    }
    assert_eq!(with(&format!("If-Match: {seen}, {seen}\r\n"), b"x").status, 400);
    assert_eq!(fs::read(daemon.work().join("f")).unwrap(), b"first");
    // A program writes into it.
    let seen = first.etag();
    fs::write(daemon.work().join("f"), "of a program").unwrap();
    assert_eq!(with(&format!("If-Match: {seen}\r\n"), b"x").status, 412);
    // Many at once.
    for round in 0..5 {
        let seen = get(&daemon, "/files/f").etag();
        let statuses: Vec<u16> = thread::scope(|scope| {
            let editors: Vec<_> = (0..8)
                .map(|editor| {
                    let (with, seen) = (&with, &seen);
                    scope.spawn(move || {
                        with(&format!("If-Match: {seen}\r\n"), format!("{round} {editor}").as_bytes()).status
                    })
                })
                .collect();
            editors.into_iter().map(|editor| editor.join().unwrap()).collect()
        });
        let won = statuses.iter().filter(|status| **status == 204).count();
        let lost = statuses.iter().filter(|status| **status == 412).count();
        assert_eq!((won, lost), (1, 7), "{statuses:?}");
    }
    fs::remove_file(daemon.work().join("f")).unwrap();
    let made: Vec<u16> = thread::scope(|scope| {
        let with = &with;
        let makers: Vec<_> =
            (0..8).map(|_| scope.spawn(move || with("If-None-Match: *\r\n", b"new").status)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|status| **status == 201).count(), 1, "{made:?}");
    assert_no_parts(&daemon);
}

/// Everything below a directory, links as what they lead to in text.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.insert(format!("{name}/"), Vec::new());
            found.extend(
                tree(&entry.path()).into_iter().map(|(below, content)| (format!("{name}/{below}"), content)),
            );
        } else if kind.is_symlink() {
            found.insert(
                name,
                fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap().into(),
            );
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_directory_comes_as_an_archive_that_tar_reads() {
    let daemon = Daemon::start();
    let project = daemon.work().join("my project");
    fs::create_dir_all(project.join("sub/empty")).unwrap();
    let (long, deep) = ("n".repeat(255), ["d".repeat(60).as_str(); 5].join("/"));
    fs::create_dir_all(project.join(&deep)).unwrap();
    for (name, content) in [
        ("-rf", b"a name like an option".to_vec()),
        ("--checkpoint-action=exec=sh", b"".to_vec()),
        ("line\nfeed", b"x".to_vec()),
        ("sub/large", pattern(1_000_001)),
        ("sub/block", pattern(512)),
        ("ü☃", b"unicode".to_vec()),
        (long.as_str(), b"long".to_vec()),
        (&format!("{deep}/{long}"), b"long and deep".to_vec()),
    ] {
        fs::write(project.join(name), content).unwrap();
    }
    symlink("sub/large", project.join("near")).unwrap();
    symlink("/etc/passwd", project.join("far")).unwrap();
    symlink(format!("/{}", "t".repeat(200)), project.join("long link")).unwrap();
    let answer = get(&daemon, "/files/my%20project");
    assert_eq!((answer.status, answer.whole), (200, true));
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename*=UTF-8''my%20project.tar"));
    let unpacked = daemon.scratch().root().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let archive = daemon.scratch().root().join("archive.tar");
    fs::write(&archive, &answer.body).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&unpacked).output().unwrap();
    assert!(tar.status.success() && tar.stderr.is_empty(), "{tar:?}");
    assert_eq!(tree(&unpacked.join("my project")), tree(&project));
    // What is nothing for an archive is left out, and named.
    let pipe = Command::new("mkfifo").arg(project.join("pipe")).status().unwrap();
    assert!(pipe.success());
    fs::write(project.join("secret"), "not for pi").unwrap();
    set_mode(&project.join("secret"), 0o600);
    let answer = get(&daemon, "/files/my%20project");
    assert!(answer.whole);
    fs::write(&archive, &answer.body).unwrap();
    let tar = Command::new("tar")
        .args(["-xOf", archive.to_str().unwrap(), "my project/.further-link-left-out.txt"])
        .output()
        .unwrap();
    let text = String::from_utf8(tar.stdout).unwrap();
    assert!(text.contains("my project/pipe: it is no file"), "{text}");
    assert!(text.contains("my project/secret: Permission denied"), "{text}");
    assert!(!answer.body.windows(10).any(|ten| ten == b"not for pi"));
    assert_eq!(send(&daemon, "HEAD", "/files/my%20project", "", b"").status, 200);
}

/// A client that leaves in the middle, or takes its time, holds no process that it does not need.
#[test]
fn a_helper_goes_when_its_file_is_handed_over_or_its_client_has_left() {
    let daemon = Daemon::start();
    let content = pattern(32 * 1024 * 1024);
    fs::create_dir(daemon.work().join("d")).unwrap();
    fs::write(daemon.work().join("d/large"), &content).unwrap();
    let of_pi = || {
        let pi = accounts::pi().uid;
        daemon
            .processes()
            .iter()
            .filter(|process| {
                fs::metadata(format!("/proc/{}", process.pid)).is_ok_and(|found| found.uid() == pi)
            })
            .count()
    };
    let begin = |target: &str| {
        let mut stream = connect(daemon.address());
        stream.write_all(head(&daemon, "GET", target, "", 0).as_bytes()).unwrap();
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        (stream, first)
    };
    let (mut slow, first) = begin("/files/d/large");
    wait_until(DEADLINE, "no process of the user is left, and the file is still being read", || of_pi() == 0);
    let mut rest = Vec::new();
    slow.set_read_timeout(Some(DEADLINE * 6)).unwrap();
    slow.read_to_end(&mut rest).unwrap();
    let whole = [first.as_slice(), &rest].concat();
    assert!(whole.ends_with(&content), "all of it comes");
    let (leaving, _) = begin("/files/d");
    drop(leaving);
    wait_until(DEADLINE, "the archive's process has ended", || of_pi() == 0);
}

#[test]
fn names_may_have_every_byte_that_a_name_can_have() {
    let daemon = Daemon::start();
    let mut names: Vec<String> =
        (1..128_u8).filter(|byte| *byte != b'/').map(|byte| format!("a{}b", char::from(byte))).collect();
    names.extend(
        ["ü☃🙂", " ", "...", "-", "~", "a\u{202e}b", "e\u{301}", "\u{e9}", "\u{feff}"].map(str::to_owned),
    );
    names.push("é".repeat(127));
    for name in &names {
        let target = format!("/files/{}", encoded(name));
        assert_eq!(put(&daemon, &target, name.as_bytes()).status, 201, "{name:?}");
        assert_eq!(get(&daemon, &target).body, name.as_bytes(), "{name:?}");
    }
    let raw: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"not \xff UTF-8");
    fs::write(daemon.work().join(raw), "").unwrap();
    let listing = get(&daemon, "/files").json();
    let mut listed: Vec<&str> =
        listing["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    names.sort();
    listed.sort_unstable();
    assert_eq!(listed, names);
    assert_eq!(listing["unreadable"], json!(1));
    let too_long = put(&daemon, &format!("/files/{}", "n".repeat(256)), b"");
    assert_eq!(too_long.status, 400, "{too_long:?}");
}

#[test]
fn a_thousand_files_are_listed_and_more_than_ten_thousand_are_cut_off() {
    let daemon = Daemon::start();
    let many = daemon.work().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..1000 {
        fs::write(many.join(format!("{number:05}")), "x").unwrap();
    }
    let listed = names(&daemon, "/files?path=many");
    assert_eq!(listed.len(), 1000);
    assert!(listed.iter().enumerate().all(|(number, (name, _))| *name == format!("{number:05}")));
    for number in 1000..10_001 {
        fs::File::create(many.join(format!("{number:05}"))).unwrap();
    }
    let listing = get(&daemon, "/files?path=many").json();
    assert_eq!(listing["entries"].as_array().unwrap().len(), 10_000);
    assert_eq!(listing["truncated"], json!(true));
}

/// B9: 64 MiB up and down.
#[test]
fn the_largest_file_goes_up_and_down_exactly_and_one_byte_more_does_not() {
    let daemon = Daemon::start();
    let content = pattern(64 * 1024 * 1024);
    let made = put(&daemon, "/files/large", &content);
    assert_eq!(made.status, 201, "{:?}", made.error());
    assert!(fs::read(daemon.work().join("large")).unwrap() == content);
    let read = get(&daemon, "/files/large");
    assert!(read.status == 200 && read.body == content);
    let more = [content.as_slice(), b"x"].concat();
    let refused = put(&daemon, "/files/larger", &more);
    assert_eq!((refused.status, refused.error().contains("67108864 bytes")), (413, true));
    // Without a length it is met on the way.
    let mut stream = connect(daemon.address());
    let host = daemon.address();
    let head = format!(
        "PUT /files/larger HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &content[..1024 * 1024], b"\r\n"].concat();
    for _ in 0..65 {
        if let Err(error) = stream.write_all(&chunk) {
            eprintln!("not all was taken: {error}");
        }
    }
    assert_eq!(answer(&mut stream).status, 413);
    assert!(!daemon.work().join("larger").exists());
    assert_no_parts(&daemon);
}

#[test]
fn another_limit_can_be_set() {
    let daemon = Daemon::builder().argument("--file-limit").argument("1").start();
    assert_eq!(put(&daemon, "/files/f", &pattern(1024 * 1024)).status, 201);
    assert_eq!(put(&daemon, "/files/f", &pattern(1024 * 1024 + 1)).status, 413);
}

const ID: &str = "0123456789abcdef-_Z";

fn offset(answer: &Answer) -> Option<usize> {
    answer.header("upload-offset").map(|offset| offset.parse().unwrap())
}

#[test]
fn a_broken_upload_continues_where_it_broke() {
    let daemon = Daemon::start();
    let content = pattern(3_000_000);
    let target = format!("/files/d/f?upload={ID}&parents=1");
    let headers = |offset: usize| format!("Upload-Offset: {offset}\r\nUpload-Length: {}\r\n", content.len());
    let progress = || offset(&send(&daemon, "HEAD", &target, "", b"")).unwrap();
    assert_eq!(progress(), 0);
    // The connection breaks after a megabyte.
    let mut broken = connect(daemon.address());
    broken.write_all(head(&daemon, "PUT", &target, &headers(0), content.len()).as_bytes()).unwrap();
    broken.write_all(&content[..1_000_000]).unwrap();
    broken.shutdown(Shutdown::Both).unwrap();
    drop(broken);
    wait_until(DEADLINE, "what came is kept", || progress() > 0);
    let mut known = progress();
    wait_until(DEADLINE, "the broken one has ended", || {
        let before = std::mem::replace(&mut known, progress());
        before == known && known <= 1_000_000
    });
    assert!(!daemon.work().join("d/f").exists());
    let wrong = send(&daemon, "PUT", &target, &headers(7), &content[7..]);
    let told = offset(&wrong).unwrap();
    assert_eq!((wrong.status, wrong.error().contains("go on from there")), (409, true));
    // In pieces from there on.
    let middle = send(&daemon, "PUT", &target, &headers(told), &content[told..2_000_000]);
    assert_eq!((middle.status, offset(&middle)), (202, Some(2_000_000)), "{middle:?}");
    let beyond = send(&daemon, "PUT", &target, &headers(2_000_000), &[&content[2_000_000..], b"x"].concat());
    assert_eq!(beyond.status, 400, "{beyond:?}");
    let last = send(&daemon, "PUT", &target, &headers(2_000_000), &content[2_000_000..]);
    assert_eq!(last.status, 201, "{last:?}");
    assert!(fs::read(daemon.work().join("d/f")).unwrap() == content);
    assert_no_parts(&daemon);
    assert_eq!(progress(), 0);
    for (target, headers) in [
        ("/files/f?upload=short", "Upload-Offset: 0\r\nUpload-Length: 1\r\n"),
        ("/files/f?upload=../../../../etc/x", "Upload-Offset: 0\r\nUpload-Length: 1\r\n"),
        ("/files/f?upload=0123456789abcdef", "Upload-Length: 1\r\n"),
        ("/files/f?upload=0123456789abcdef", "Upload-Offset: 0\r\n"),
        ("/files/f?upload=0123456789abcdef", "Upload-Offset: 2\r\nUpload-Length: 1\r\n"),
        ("/files/f?upload=0123456789abcdef", "Upload-Offset: -1\r\nUpload-Length: 1\r\n"),
    ] {
        let answer = send(&daemon, "PUT", target, headers, b"x");
        assert_eq!(answer.status, 400, "{target} {headers}: {answer:?}");
    }
}

/// Who meets a change at the end of a large upload decides, and sends nothing again.
#[test]
fn a_complete_upload_that_met_a_change_waits_for_a_decision() {
    let daemon = Daemon::start();
    fs::write(daemon.work().join("f"), "old").unwrap();
    set_mode(&daemon.work().join("f"), 0o666);
    let seen = get(&daemon, "/files/f").etag();
    let target = format!("/files/f?upload={ID}");
    let headers = format!("Upload-Offset: 0\r\nUpload-Length: 4\r\nIf-Match: {seen}\r\n");
    let half = send(&daemon, "PUT", &target, &headers, b"ne");
    assert_eq!(half.status, 202);
    fs::write(daemon.work().join("f"), "of another").unwrap();
    let rest = "Upload-Offset: 2\r\nUpload-Length: 4\r\n";
    let changed = send(&daemon, "PUT", &target, &format!("{rest}If-Match: {seen}\r\n"), b"w!");
    assert_eq!(changed.status, 412);
    let seen = get(&daemon, "/files/f").etag();
    let decided = send(&daemon, "PUT", &target, &format!("{rest}If-Match: {seen}\r\n"), b"w!");
    assert_eq!(decided.status, 204, "{decided:?}");
    assert_eq!(fs::read(daemon.work().join("f")).unwrap(), b"new!");
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let daemon = Daemon::start();
    fs::write(daemon.work().join("f"), "old").unwrap();
    set_mode(&daemon.work().join("f"), 0o666);
    let mut broken = connect(daemon.address());
    broken.write_all(head(&daemon, "PUT", "/files/f", "", 1000).as_bytes()).unwrap();
    broken.write_all(b"half").unwrap();
    let parts = daemon.work().join(".flparts");
    wait_until(DEADLINE, "the upload has begun", || {
        parts.exists() && fs::read_dir(&parts).unwrap().count() == 1
    });
    drop(broken);
    assert_no_parts(&daemon);
    assert_eq!(fs::read(daemon.work().join("f")).unwrap(), b"old");
}

/// A small file system, which goes before the folders of the test do.
struct Mounted(std::path::PathBuf);

impl Mounted {
    #[track_caller]
    fn at(place: &Path, options: &str) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place).status().unwrap();
        assert!(mounted.success(), "the test makes a small file system");
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status().unwrap();
        assert!(unmounted.success() || thread::panicking(), "{} stays mounted", self.0.display());
    }
}

#[test]
fn a_full_disk_is_told_and_what_was_there_stays() {
    let builder = Daemon::builder();
    let work = builder.scratch().work();
    let mounted = Mounted::at(&work, "size=256k,mode=1777");
    let daemon = builder.start();
    {
        // Dropped before the daemon is.
        let _mounted = mounted;
        assert_eq!(put(&daemon, "/files/f", b"old").status, 201);
        let full = put(&daemon, "/files/f", &pattern(1_000_000));
        assert_eq!((full.status, full.error().contains("disk is full")), (507, true));
        let headers = "Upload-Offset: 0\r\nUpload-Length: 1000000\r\n";
        let full = send(&daemon, "PUT", &format!("/files/g?upload={ID}"), headers, &pattern(1_000_000));
        assert_eq!(full.status, 507, "{full:?}");
        assert_no_parts(&daemon);
        assert_eq!(get(&daemon, "/files/f").body, b"old");
    }
}

#[test]
fn a_directory_on_another_disk_gets_its_file_whole_as_well() {
    let daemon = Daemon::start();
    let usb = daemon.work().join("usb");
    scratch::directory_for(&accounts::pi(), &usb, 0o755);
    let mounted = Mounted::at(&usb, "size=512k,mode=1777");
    // As a stick that was pulled out has it.
    fs::write(usb.join(".flput-0123456789abcdef"), pattern(300_000)).unwrap();
    set_mode(&usb, 0o777);
    let made = put(&daemon, "/files/usb/f", b"#!/bin/sh\n");
    let replaced = put(&daemon, "/files/usb/f", b"new");
    let full = put(&daemon, "/files/usb/f", &pattern(1_000_000));
    let renamed = act(&daemon, &json!({"action": "rename", "path": "usb/f", "to": "f"}));
    let read = get(&daemon, "/files/usb/f");
    let listed = names(&daemon, "/files?path=usb");
    let bits = fs::metadata(usb.join("f")).unwrap().mode() & 0o7777;
    drop(mounted);
    assert_eq!(
        (made.status, replaced.status, full.status, bits),
        (201, 204, 507, 0o755),
        "{made:?} {full:?}"
    );
    assert_eq!((renamed.status, renamed.error().contains("another disk")), (409, true));
    assert_eq!((read.body.as_slice(), read.etag()), (b"new".as_slice(), replaced.etag()));
    assert_eq!(listed, [("f".to_owned(), "file".to_owned())], "nothing beside it");
    assert_no_parts(&daemon);
}

#[test]
fn what_the_user_may_not_is_refused_and_not_done() {
    let daemon = Daemon::start();
    let of_root = daemon.work().join("of_root");
    fs::create_dir(&of_root).unwrap();
    set_mode(&of_root, 0o755);
    fs::write(of_root.join("f"), "root's").unwrap();
    set_mode(&of_root.join("f"), 0o644);
    fs::write(of_root.join("secret"), "secret").unwrap();
    set_mode(&of_root.join("secret"), 0o600);
    assert_eq!(put(&daemon, "/files/read-only", b"old").status, 201);
    set_mode(&daemon.work().join("read-only"), 0o444);
    for (answer, what) in [
        (put(&daemon, "/files/of_root/new", b"x"), "new file"),
        (put(&daemon, "/files/of_root/f", b"x"), "replace"),
        (put(&daemon, "/files/read-only", b"x"), "read-only"),
        (get(&daemon, "/files/of_root/secret"), "read"),
        (act(&daemon, &json!({"action": "directory", "path": "of_root/d"})), "directory"),
        (act(&daemon, &json!({"action": "remove", "path": "of_root/f"})), "remove"),
        (act(&daemon, &json!({"action": "rename", "path": "of_root/f", "to": "f"})), "rename"),
        (act(&daemon, &json!({"action": "remove", "path": "of_root"})), "remove all"),
    ] {
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
        assert!(answer.error().contains("the user may not do this"), "{what}");
    }
    assert_eq!(fs::read(of_root.join("f")).unwrap(), b"root's");
    assert_eq!(fs::read(daemon.work().join("read-only")).unwrap(), b"old");
    assert_no_parts(&daemon);
}

#[test]
fn pipes_sockets_and_devices_are_never_opened() {
    let daemon = Daemon::start();
    let work = daemon.work();
    assert!(Command::new("mkfifo").arg(work.join("pipe")).status().unwrap().success());
    set_mode(&work.join("pipe"), 0o666);
    assert!(Command::new("mknod").arg(work.join("device")).args(["c", "1", "5"]).status().unwrap().success());
    set_mode(&work.join("device"), 0o666);
    let _socket = std::os::unix::net::UnixListener::bind(work.join("socket")).unwrap();
    symlink("pipe", work.join("link")).unwrap();
    for name in ["pipe", "device", "socket", "link"] {
        for answer in [get(&daemon, &format!("/files/{name}")), put(&daemon, &format!("/files/{name}"), b"x")]
        {
            assert_eq!(
                (answer.status, answer.error().contains("neither a file nor a directory")),
                (403, true),
                "{name}"
            );
        }
    }
    let listed: BTreeMap<_, _> = names(&daemon, "/files").into_iter().collect();
    assert_eq!((listed["pipe"].as_str(), listed["link"].as_str()), ("other", "link"));
    assert_eq!(act(&daemon, &json!({"action": "remove", "path": "pipe"})).status, 204);
}

#[test]
fn links_are_followed_to_read_and_replaced_to_write() {
    let daemon = Daemon::start();
    let (work, outside) = (daemon.work(), daemon.scratch().root().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "outside").unwrap();
    assert_eq!(put(&daemon, "/files/d/f?parents=1", b"inside").status, 201);
    symlink("d/f", work.join("near")).unwrap();
    symlink(work.join("d/f"), work.join("absolute")).unwrap();
    symlink("d", work.join("way")).unwrap();
    symlink(outside.join("f"), work.join("far")).unwrap();
    symlink(&outside, work.join("out")).unwrap();
    for name in ["near", "absolute", "way/f"] {
        assert_eq!(get(&daemon, &format!("/files/{name}")).body, b"inside", "{name}");
    }
    assert_eq!(names(&daemon, "/files?path=way"), [("f".to_owned(), "file".to_owned())]);
    for name in ["far", "out", "out/f"] {
        let answer = get(&daemon, &format!("/files/{name}"));
        assert_eq!((answer.status, answer.error().contains("leads out")), (403, true), "{name}");
    }
    let on_the_way = put(&daemon, "/files/way/new", b"x");
    assert_eq!((on_the_way.status, on_the_way.error().contains("a link is on the way")), (403, true));
    assert_eq!(put(&daemon, "/files/out/new", b"x").status, 403);
    assert_eq!(put(&daemon, "/files/way", b"x").status, 409);
    // With the version of what it leads to, as an editor has it.
    let seen = get(&daemon, "/files/near").etag();
    let written = send(&daemon, "PUT", "/files/near", &format!("If-Match: {seen}\r\n"), b"new");
    assert_eq!(written.status, 204, "{written:?}");
    assert_eq!(put(&daemon, "/files/far", b"new").status, 204);
    assert!(fs::symlink_metadata(work.join("near")).unwrap().is_file());
    assert!(fs::symlink_metadata(work.join("far")).unwrap().is_file());
    assert_eq!(fs::read(work.join("d/f")).unwrap(), b"inside");
    assert_eq!(act(&daemon, &json!({"action": "remove", "path": "out"})).status, 204);
    assert_eq!(act(&daemon, &json!({"action": "remove", "path": "way"})).status, 204);
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"outside");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(work.join("d/f").exists());
}

/// Slow clients have places of their own.
#[test]
fn clients_that_take_their_time_do_not_keep_others_from_listing() {
    let daemon = Daemon::start();
    let slow: Vec<TcpStream> = (0..8)
        .map(|number| {
            let mut stream = connect(daemon.address());
            let target = format!("/files/f{number}");
            stream.write_all(head(&daemon, "PUT", &target, "", 1000).as_bytes()).unwrap();
            stream.write_all(b"half").unwrap();
            stream
        })
        .collect();
    let parts = daemon.work().join(".flparts");
    wait_until(DEADLINE, "all have their place", || {
        parts.exists() && fs::read_dir(&parts).unwrap().count() == slow.len()
    });
    assert_eq!(get(&daemon, "/files").status, 200);
    let busy = put(&daemon, "/files/more", b"x");
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("10")), "{busy:?}");
    drop(slow);
    wait_until(DEADLINE, "there is room again", || put(&daemon, "/files/more", b"x").status < 300);
}
