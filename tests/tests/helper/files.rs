//! Uploads, as the helper stores them: the tests are the frontend.
//!
//! PROTOCOL.md, "Order"; B11.8 to B11.12 of the API; D5, D10, D11, D12, D22 and D47 of the original are
//! looked for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests panic to fail")]
#![expect(clippy::disallowed_methods, reason = "tests make mounts")]

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use further_link_proto::{Event, FileMode, PathText, Refusal, Request, Run, Step, Token, Upload, VERSION};
use further_link_tests::{
    DEADLINE, accounts,
    helper_only::{
        Frontend, Heard, HelperOnly, Rng,
        frontend::{below, identity, run},
    },
    processes::Process,
    scratch, wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

fn upload(user: Option<&str>, directory: &str) -> Upload {
    Upload {
        identity: user.map(identity).unwrap_or_default(),
        directory: below(directory),
        project_of: None,
        keep: false,
    }
}

/// An upload that the helper has begun.
struct Uploading {
    frontend: Frontend,
    content: File,
}

impl Uploading {
    #[track_caller]
    fn begin(helper: &HelperOnly, upload: &Upload) -> Self {
        let frontend = helper.connect();
        frontend.send(&Request::Upload(upload.clone()));
        let content = frontend.expect_code();
        Self { frontend, content }
    }

    /// Sends a file. Whether it could be sent.
    fn file(&mut self, name: &str, content: &[u8]) -> bool {
        self.file_with(name, content, FileMode::Plain)
    }

    fn file_with(&mut self, name: &str, content: &[u8], mode: FileMode) -> bool {
        let length = u32::try_from(content.len()).unwrap();
        self.frontend.0.send(&Request::File { path: below(name), length, mode }).is_ok()
            && self.content.write_all(content).is_ok()
    }

    #[track_caller]
    fn hear(&self) -> Event {
        match self.frontend.hear() {
            Heard::Event(event, _) => event,
            Heard::End => panic!("the helper has closed"),
        }
    }

    #[track_caller]
    fn commit(self) {
        self.frontend.send(&Request::Commit);
        assert_eq!(self.hear(), Event::Stored);
        self.frontend.expect_end();
    }

    #[track_caller]
    fn expect_failed(&self) -> (Step, i32) {
        match self.hear() {
            Event::Failed { step, errno } => (step, errno),
            other => panic!("not Failed but {other:?}"),
        }
    }
}

/// Stores these files.
#[track_caller]
fn store(helper: &HelperOnly, upload: &Upload, files: &[(&str, &[u8])]) {
    let mut uploading = Uploading::begin(helper, upload);
    for (name, content) in files {
        assert!(uploading.file(name, content), "{name}");
    }
    uploading.commit();
}

/// All files below, with their contents, in order.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(
                tree(&entry.path()).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)),
            );
        } else {
            found.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn work(helper: &HelperOnly) -> PathBuf {
    helper.scratch().work()
}

/// PROTOCOL.md, `File`: what is to be run can be.
#[test]
fn executable_files_and_scripts_have_their_bit() {
    let helper = HelperOnly::start();
    let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
    for (name, content, mode) in [
        ("plain", &b"# !"[..], FileMode::Plain),
        ("short", b"#", FileMode::Plain),
        ("script", b"#!/bin/sh", FileMode::Plain),
        ("program", b"", FileMode::Executable),
    ] {
        assert!(uploading.file_with(name, content, mode));
    }
    uploading.commit();
    for (name, mode) in [("plain", 0o644), ("short", 0o644), ("script", 0o755), ("program", 0o755)] {
        let metadata = fs::metadata(work(&helper).join("project").join(name)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
    }
}

/// PROTOCOL.md, `Upload`: files that the upload does not name are kept, and are the same files.
#[test]
fn an_upload_that_keeps_replaces_only_what_it_names() {
    let helper = HelperOnly::start();
    let project = work(&helper).join("project");
    let keep = Upload { keep: true, ..upload(None, "project") };
    store(&helper, &keep, &[("main.py", b"1"), ("a/b", b"1"), ("c", b"1"), ("d/e", b"1"), ("f/g/h", b"1")]);
    fs::write(project.join("results.txt"), "made by the program").unwrap();
    let owner = fs::metadata(&project).unwrap();
    std::os::unix::fs::chown(project.join("results.txt"), Some(owner.uid()), Some(owner.gid())).unwrap();
    symlink("/nowhere", project.join("a/link")).unwrap();
    let mut log = File::options().append(true).open(project.join("results.txt")).unwrap();
    store(&helper, &keep, &[("main.py", b"2"), ("a/b", b"2"), ("c/d", b"2"), ("d", b"2")]);
    log.write_all(b", and more").unwrap();
    assert_eq!(fs::read_link(project.join("a/link")).unwrap(), Path::new("/nowhere"));
    fs::remove_file(project.join("a/link")).unwrap();
    let expected = [
        ("a/b", "2"),
        ("c/d", "2"),
        ("d", "2"),
        ("f/g/h", "1"),
        ("main.py", "2"),
        ("results.txt", "made by the program, and more"),
    ];
    let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(tree(&project), expected);
    store(&helper, &upload(None, "project"), &[("main.py", b"3")]);
    assert_eq!(names(&project), ["main.py"]);
}

/// B11.8, B11.11, D47
#[test]
fn files_and_directories_belong_to_the_user_and_replace_what_was_there() {
    let helper = HelperOnly::builder().allow_users(&["pi", "linkother"]).start();
    store(&helper, &upload(None, "my project"), &[("old.py", b"old"), ("sub/deep/er/x", b"")]);
    let big = vec![b'x'; 3_000_000];
    store(
        &helper,
        &upload(None, "my project"),
        &[("a.py", b"print()"), ("sub/b", &big), ("\u{20ac} f", b"euro")],
    );
    let dir = work(&helper).join("my project");
    assert_eq!(names(&dir), ["a.py", "sub", "\u{20ac} f"]);
    assert_eq!(fs::read(dir.join("sub/b")).unwrap(), big);
    let pi = accounts::pi();
    for (place, mode) in [("", 0o755), ("sub", 0o755), ("a.py", 0o644), ("sub/b", 0o644)] {
        let metadata = fs::metadata(dir.join(place)).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
            (pi.uid, pi.gid, mode),
            "{place}"
        );
    }
    store(&helper, &upload(Some("linkother"), "theirs/nested"), &[("f", b"1")]);
    let metadata = fs::metadata(work(&helper).join("theirs/nested/f")).unwrap();
    assert_eq!(metadata.uid(), accounts::other().uid);
    assert_eq!(names(&work(&helper)), ["my project", "theirs"], "nothing else stays");
}

#[test]
fn an_upload_that_is_not_committed_never_was() {
    let helper = HelperOnly::start();
    store(&helper, &upload(None, "project"), &[("kept", b"old")]);
    for files in 0..3 {
        let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
        for number in 0..files {
            assert!(uploading.file(&format!("{number}"), b"new"));
        }
        drop(uploading);
        wait_until(DEADLINE, "the helper has taken it back", || helper.instances().is_empty());
        assert_eq!(names(&work(&helper)), ["project"]);
        assert_eq!(tree(&work(&helper).join("project")), [("kept".to_owned(), "old".to_owned())]);
    }
    // Half a file.
    let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
    uploading.frontend.send(&Request::File { path: below("half"), length: 10, mode: FileMode::Plain });
    uploading.content.write_all(b"12345").unwrap();
    drop(uploading);
    wait_until(DEADLINE, "the helper has taken it back", || helper.instances().is_empty());
    assert_eq!(tree(&work(&helper)), [("project/kept".to_owned(), "old".to_owned())]);
}

/// Whatever process of it is killed at whatever moment: the old directory or the new one, whole, and nothing
/// else. How often is told by `FURTHER_LINK_TESTS_KILLS`.
#[test]
fn a_killed_upload_leaves_the_old_directory_or_the_new_one_and_no_litter() {
    let kills = std::env::var("FURTHER_LINK_TESTS_KILLS").map_or(120, |number| number.parse().unwrap());
    let helper = HelperOnly::start();
    let mut dice = Rng::new(7);
    let version = |number: u32| -> Vec<(String, String)> {
        (0..20).map(|file| (format!("d{}/f{file:02}", file % 3), format!("{number}-{file}"))).collect()
    };
    let mut sorted = version(0);
    sorted.sort();
    let mut current = 0;
    let mut replaced = 0;
    for number in 0..=kills {
        let frontend = helper.connect();
        frontend.send(&Request::Upload(upload(None, "project")));
        let content = frontend.expect_code();
        let mut uploading = Uploading { frontend, content };
        // The guard is the instance, the worker its child.
        // Below the watcher, which has nothing to do here, are the guard and its worker.
        let watcher = helper.instances().first().map_or(0, |instance| instance.pid);
        let all = helper.process.descendants();
        let child_of = |parent: i32| all.iter().find(|process| process.parent == parent);
        let worker = child_of(watcher).and_then(|guard| child_of(guard.pid));
        let worker = worker.map(|process: &Process| process.pid);
        let moment = dice.below(24);
        let kill_now = |at: usize| {
            if number > 0 && at == moment {
                // It may be through already.
                let (Ok(()) | Err(_)) = kill(Pid::from_raw(worker.unwrap_or(i32::MAX)), Signal::SIGKILL);
            }
        };
        let mut sent = true;
        for (at, (name, text)) in version(number).iter().enumerate() {
            kill_now(at);
            sent = sent && uploading.file(name, text.as_bytes());
        }
        kill_now(20);
        sent = sent && uploading.frontend.0.send(&Request::Commit).is_ok();
        kill_now(21);
        let stored = sent && matches!(uploading.frontend.hear(), Heard::Event(Event::Stored, _));
        kill_now(22);
        drop(uploading);
        wait_until(DEADLINE, "guard and worker have gone", || helper.instances().is_empty());
        assert_eq!(names(&work(&helper)), ["project"], "litter after kill {number} at {moment}");
        let found = tree(&work(&helper).join("project"));
        let mut new = version(number);
        new.sort();
        let mut old = version(current);
        old.sort();
        if found == new {
            current = number;
            replaced += 1;
        } else {
            assert!(!stored, "kill {number} at {moment}: it said Stored");
            assert_eq!(found, old, "kill {number} at {moment}");
        }
    }
    assert!(
        replaced > 1 && replaced < kills,
        "{replaced} of {kills}: the kills came all too early or too late"
    );
}

#[test]
fn of_two_uploads_to_one_name_one_wins_whole() {
    let helper = HelperOnly::start();
    for round in 0..20 {
        let contents = ["left", "right"].map(|side| format!("{side} {round}"));
        thread::scope(|scope| {
            for content in &contents {
                scope.spawn(|| {
                    let files: Vec<_> = (0..10).map(|n| format!("f{n}")).collect();
                    let files: Vec<_> =
                        files.iter().map(|name| (name.as_str(), content.as_bytes())).collect();
                    store(&helper, &upload(None, "same/name"), &files);
                });
            }
        });
        let found = tree(&work(&helper).join("same/name"));
        assert_eq!(found.len(), 10);
        assert!(found.iter().all(|(_, text)| *text == found[0].1), "{found:?}");
        wait_until(DEADLINE, "both have gone", || helper.instances().is_empty());
        assert_eq!(names(&work(&helper)), ["same"]);
    }
}

#[test]
fn a_running_program_keeps_its_working_directory() {
    let helper = HelperOnly::start();
    store(&helper, &upload(None, "project"), &[("level", b"one")]);
    let shell = Run { path: Some(PathText::new("project").unwrap()), ..run("shell") };
    let mut program = helper.connect().start(&shell, &[]);
    program.write_line("echo ready");
    assert_eq!(program.read_line(), "ready\n");
    store(&helper, &upload(None, "project"), &[("level", b"two")]);
    program.write_line("cat level; echo; echo more > new && cat new");
    assert_eq!((program.read_line(), program.read_line()), ("one\n".to_owned(), "more\n".to_owned()));
    assert_eq!(tree(&work(&helper).join("project")), [("level".to_owned(), "two".to_owned())]);
    program.write_line("exit");
    program.frontend.wait_exited();
    // And then it is swept away.
    store(&helper, &upload(None, "project"), &[("level", b"three")]);
    wait_until(DEADLINE, "the upload has gone", || helper.instances().is_empty());
    assert_eq!(names(&work(&helper)), ["project"]);
}

/// D10, D11, D12: the types cannot say such a path, so these are bytes that no frontend of ours would send.
#[test]
fn a_path_that_leads_out_ends_the_conversation() {
    let helper = HelperOnly::start();
    for name in ["", ".", "..", "../outside", "a/../../outside", "/tmp/outside", "a//b", "a/", "./a", "a\0b"]
    {
        let text = [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
        let frontend = helper.connect();
        frontend.send_bytes(&[&[VERSION, 2, 0, 0, 0], &text[..], &[0, 0]].concat()).unwrap();
        frontend.expect_end();
        let uploading = Uploading::begin(&helper, &upload(None, "project"));
        uploading.frontend.send_bytes(&[&[VERSION, 3], &text[..], &[0, 0]].concat()).unwrap();
        uploading.frontend.expect_end();
    }
    wait_until(DEADLINE, "all have gone", || helper.instances().is_empty());
    assert!(names(&work(&helper)).is_empty(), "{:?}", names(&work(&helper)));
    assert!(!helper.scratch().root().join("outside").exists());
}

/// D12
#[test]
fn links_that_the_user_swaps_in_lead_nowhere() {
    let helper = HelperOnly::start();
    let pi = accounts::pi();
    let outside = helper.scratch().root().join("outside");
    scratch::directory_for(&pi, &outside, 0o755);
    scratch::directory_for(&pi, &work(&helper).join("a"), 0o755);
    let link = helper.scratch().temp().join("link");
    symlink(&outside, &link).unwrap();
    let over = AtomicBool::new(false);
    let mut attempts = 0;
    let mut through = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &link, CWD, work(&helper).join("a"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        while attempts < 300 {
            attempts += 1;
            let mut uploading = Uploading::begin(&helper, &upload(None, "a/b"));
            let sent = uploading.file("f/g", b"x") && uploading.frontend.0.send(&Request::Commit).is_ok();
            if sent && matches!(uploading.frontend.hear(), Heard::Event(Event::Stored, _)) {
                through += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(names(&outside).is_empty(), "something got out: {:?}", names(&outside));
    assert!(through > 0 && through < attempts, "{through} of {attempts}: nothing was raced");
    fs::remove_file(&link).or_else(|_| fs::remove_file(work(&helper).join("a"))).unwrap();
}

#[test]
fn names_that_cannot_both_be_fail_with_the_kernels_reason() {
    let helper = HelperOnly::start();
    for (names, errno) in [(["a", "a"], libc_errno("EEXIST")), (["a", "a/b"], libc_errno("ENOTDIR"))] {
        let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
        for name in names {
            uploading.file(name, b"");
        }
        assert_eq!(uploading.expect_failed(), (Step::WriteFile, errno));
        uploading.frontend.expect_end();
    }
    fs::write(work(&helper).join("file"), "a file").unwrap();
    let uploading = Uploading::begin(&helper, &upload(None, "file"));
    uploading.frontend.send(&Request::Commit);
    assert_eq!(uploading.expect_failed(), (Step::Replace, libc_errno("ENOTDIR")));
    assert_eq!(fs::read_to_string(work(&helper).join("file")).unwrap(), "a file");
}

fn libc_errno(name: &str) -> i32 {
    use rustix::io::Errno;
    let errno = match name {
        "EEXIST" => Errno::EXIST,
        "ENOTDIR" => Errno::NOTDIR,
        "ENOSPC" => Errno::NOSPC,
        "EXDEV" => Errno::XDEV,
        _ => panic!("{name}"),
    };
    errno.raw_os_error()
}

#[test]
fn a_full_disk_fails_the_upload_and_keeps_the_old_directory() {
    let mut builder = HelperOnly::builder().allow_users(&["pi"]);
    let small = builder.scratch().root().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k,mode=1777", "tmpfs"])
        .arg(&small)
        .status()
        .unwrap();
    assert!(mounted.success(), "the test makes a small file system");
    builder = builder.argument("--work-dir").argument(small.to_str().unwrap());
    {
        let helper = builder.start();
        store(&helper, &upload(None, "project"), &[("kept", b"old")]);
        let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
        uploading.file("large", &vec![b'x'; 1_000_000]);
        assert_eq!(uploading.expect_failed(), (Step::WriteFile, libc_errno("ENOSPC")));
        drop(uploading);
        wait_until(DEADLINE, "the upload has gone", || helper.instances().is_empty());
        assert_eq!(tree(&small), [("project/kept".to_owned(), "old".to_owned())]);
        assert!(Command::new("umount").arg("--lazy").arg(&small).status().unwrap().success());
    }
}

/// Nothing is touched before it is known that the new directory can take its place.
#[test]
fn a_directory_on_another_file_system_is_left_alone() {
    let helper = HelperOnly::start();
    let other = work(&helper).join("usb");
    scratch::directory_for(&accounts::pi(), &other, 0o755);
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "mode=1777", "tmpfs"]).arg(&other).status().unwrap();
    assert!(mounted.success(), "the test makes a small file system");
    fs::create_dir(other.join("project")).unwrap();
    fs::write(other.join("project/main.py"), "precious").unwrap();
    let mut uploading = Uploading::begin(&helper, &upload(None, "usb/project"));
    uploading.file("main.py", b"new");
    uploading.frontend.send(&Request::Commit);
    assert_eq!(uploading.expect_failed(), (Step::Replace, libc_errno("EXDEV")));
    drop(uploading);
    wait_until(DEADLINE, "the upload has gone", || helper.instances().is_empty());
    let found = tree(&work(&helper));
    assert!(Command::new("umount").arg("--lazy").arg(&other).status().unwrap().success());
    assert_eq!(found, [("usb/project/main.py".to_owned(), "precious".to_owned())]);
}

/// B11.9, D22
#[test]
fn a_download_is_linked_and_kept_only_when_complete() {
    let helper = HelperOnly::start();
    let link = Request::Link { path: below("pictures/p.png"), cached: below("bucket/key/p.png") };
    let cached = work(&helper).join(".flcache/bucket/key/p.png");
    // Cut off before it is complete.
    let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
    uploading.frontend.send(&link);
    assert_eq!(uploading.hear(), Event::Missing);
    uploading.frontend.send(&Request::Piece { length: 5 });
    uploading.content.write_all(b"12345").unwrap();
    drop(uploading);
    wait_until(DEADLINE, "the upload has gone", || helper.instances().is_empty());
    assert!(!cached.exists() && !work(&helper).join("project").exists());
    // Complete, in two pieces.
    let mut uploading = Uploading::begin(&helper, &upload(None, "project"));
    uploading.frontend.send(&link);
    assert_eq!(uploading.hear(), Event::Missing);
    for piece in ["first ", "second"] {
        uploading.frontend.send(&Request::Piece { length: 6 });
        uploading.content.write_all(piece.as_bytes()).unwrap();
    }
    assert!(!cached.exists());
    uploading.frontend.send(&Request::Downloaded);
    assert!(uploading.file("main.py", b"print()"));
    uploading.commit();
    let alias = work(&helper).join("project/pictures/p.png");
    assert_eq!(fs::read_link(&alias).unwrap(), cached);
    assert_eq!(fs::read_to_string(&alias).unwrap(), "first second");
    assert_eq!(fs::metadata(&cached).unwrap().uid(), accounts::pi().uid);
    // And the next time it is there.
    let uploading = Uploading::begin(&helper, &upload(None, "project"));
    uploading.frontend.send(&link);
    assert_eq!(uploading.hear(), Event::Cached);
    uploading.commit();
    assert_eq!(
        tree(&work(&helper).join("project")),
        [("pictures/p.png".to_owned(), "first second".to_owned())]
    );
}

/// In a work dir for several users no user reads what another one has put into a cache.
#[test]
fn a_cache_of_somebody_else_is_not_used() {
    let helper = HelperOnly::builder().allow_users(&["pi", "linkother"]).start();
    let cached = below("b/k/f");
    for user in ["pi", "linkother"] {
        let mut uploading = Uploading::begin(&helper, &upload(Some(user), user));
        uploading.frontend.send(&Request::Link { path: below("f"), cached: cached.clone() });
        assert_eq!(uploading.hear(), Event::Missing, "{user}");
        uploading.frontend.send(&Request::Piece { length: u32::try_from(user.len()).unwrap() });
        uploading.content.write_all(user.as_bytes()).unwrap();
        uploading.frontend.send(&Request::Downloaded);
        uploading.commit();
        assert_eq!(fs::read_to_string(work(&helper).join(user).join("f")).unwrap(), user);
    }
}

/// B11.12, D5
#[test]
fn a_project_is_copied_to_its_person_with_links_resolved() {
    let builder = HelperOnly::builder().allow_users(&["pi"]);
    let projects = builder.scratch().root().join("projects");
    scratch::directory_for(&accounts::pi(), &projects, 0o755);
    let helper = builder.argument("--projects-dir").argument(projects.to_str().unwrap()).start();
    for text in ["one", "two"] {
        let request = Upload { project_of: Some(below("ann")), ..upload(None, "my/project") };
        let mut uploading = Uploading::begin(&helper, &request);
        uploading.file("project.cfg", text.as_bytes());
        uploading.file("sub/f", b"");
        uploading.commit();
        let expected = [("project.cfg".to_owned(), text.to_owned()), ("sub/f".to_owned(), String::new())];
        assert_eq!(tree(&projects.join("ann/my/project")), expected);
        assert_eq!(tree(&work(&helper).join("my/project")), expected);
    }
    assert_eq!(names(&projects), ["ann"]);
    assert_eq!(fs::metadata(projects.join("ann/my/project/sub")).unwrap().uid(), accounts::pi().uid);
}

/// The worker reaches the work dir and the projects only (`confine`); what a program has made may be
/// anything.
#[test]
fn whatever_a_program_left_is_kept_and_copied_as_what_its_links_lead_to() {
    let builder = HelperOnly::builder().allow_users(&["pi"]);
    let projects = builder.scratch().root().join("projects");
    scratch::directory_for(&accounts::pi(), &projects, 0o755);
    let elsewhere = builder.scratch().root().join("elsewhere");
    fs::write(&elsewhere, "far").unwrap();
    let helper = builder.argument("--projects-dir").argument(projects.to_str().unwrap()).start();
    let project = work(&helper).join("project");
    let keep = Upload { keep: true, project_of: Some(below("ann")), ..upload(None, "project") };
    store(&helper, &keep, &[("project.cfg", b"1")]);
    let socket = std::os::unix::net::UnixListener::bind(project.join("socket")).unwrap();
    nix::unistd::mkfifo(&project.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink(&elsewhere, project.join("link")).unwrap();
    symlink("/no/such/file", project.join("dangling")).unwrap();
    for name in ["socket", "pipe"] {
        let pi = accounts::pi();
        let [uid, gid] = [pi.uid, pi.gid];
        std::os::unix::fs::chown(project.join(name), Some(uid), Some(gid)).unwrap();
    }
    store(&helper, &keep, &[("project.cfg", b"2")]);
    drop(socket);
    assert_eq!(names(&project), ["dangling", "link", "pipe", "project.cfg", "socket"]);
    let copied =
        [("link", "far"), ("project.cfg", "2")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(tree(&projects.join("ann/project")), copied);
}

#[test]
fn uploads_are_for_listed_users_and_guarded_ones_need_the_token() {
    let builder = HelperOnly::builder().allow_users(&["pi", "root:token"]);
    let token = builder.scratch().root().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    scratch::set_mode(&token, 0o600);
    let helper = builder.argument("--user-token-file").argument(token.to_str().unwrap()).start();
    let ask = |user: &str, token: Option<&str>| {
        let token = token.map(|token| Token::new(token).unwrap());
        let mut request = upload(Some(user), "project");
        request.identity.token = token;
        let frontend = helper.connect();
        frontend.send(&Request::Upload(request));
        frontend
    };
    ask("linkother", None).expect_refused(Refusal::UserNotAllowed);
    ask("root", None).expect_refused(Refusal::TokenMissing);
    ask("root", Some("secret")).expect_refused(Refusal::TokenWrong);
    drop(ask("root", Some("s3cret")).expect_code());
}

#[test]
fn a_helper_for_uploads_starts_no_program() {
    let helper = HelperOnly::builder().allow_users(&["pi"]).argument("files").start();
    let frontend = helper.connect();
    frontend.send(&Request::Run(run("shell")));
    frontend.expect_end();
    store(&helper, &upload(None, "project"), &[("f", b"")]);
}

#[test]
fn messages_out_of_place_end_the_upload() {
    let helper = HelperOnly::start();
    for request in [
        Request::Stop { first: None },
        Request::Run(run("shell")),
        Request::Upload(upload(None, "other")),
        Request::Piece { length: 1 },
        Request::Downloaded,
    ] {
        let uploading = Uploading::begin(&helper, &upload(None, "project"));
        uploading.frontend.send(&request);
        uploading.frontend.expect_end();
    }
    for first in [
        Request::Commit,
        Request::Downloaded,
        Request::File { path: below("f"), length: 0, mode: FileMode::Plain },
    ] {
        let frontend = helper.connect();
        frontend.send(&first);
        frontend.expect_end();
    }
    wait_until(DEADLINE, "all have gone", || helper.instances().is_empty());
    assert!(names(&work(&helper)).is_empty());
}
