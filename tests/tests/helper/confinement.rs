//! What the watcher of a run and the worker of an upload can still do when an attacker's code runs in
//! them: the tests put system calls into the real processes (`foreign_call`), and look at what the kernel
//! answers.
//!
//! docs/threat-model.md, "Parts": a filter of system calls, and rules for files. Each call that is refused
//! here is one that an intruder would begin with. Calls that watching needs are made as well, so that a
//! refusal of everything fails.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "tests panic to fail")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use further_link_proto::{Event, ExitStatus, FileMode, Request, Upload};
use further_link_tests::helper_only::foreign_call::{Argument, Stopped};
use further_link_tests::helper_only::frontend::{below, identity};
use further_link_tests::helper_only::{Frontend, Heard, HelperOnly};
use further_link_tests::processes::{self, Status};
use further_link_tests::scratch::set_mode;
use further_link_tests::{DEADLINE, wait_until};
use nix::errno::Errno;
use nix::libc;

use Argument::{Number, Text};

/// `AT_FDCWD`. All paths here are absolute.
const HERE: Argument<'_> = Number(-100);
/// `LANDLOCK_CREATE_RULESET_VERSION`: asks for a version, the first of which cannot be used.
const ASK_FOR_VERSION: Argument<'_> = Number(1);
const USERS: [&str; 2] = ["pi", "root"];

/// A process that waits in a call, which is where it can be stopped.
#[track_caller]
fn stopped(pid: i32) -> Stopped {
    wait_until(DEADLINE, "it waits", || Status::of(pid).text("State").starts_with('S'));
    Stopped::new(pid)
}

#[test]
fn a_watcher_opens_no_socket_starts_nothing_and_writes_nothing() {
    let helper = HelperOnly::builder().allow_users(&USERS).start();
    for (user, terminal) in USERS.into_iter().flat_map(|user| [(user, false), (user, true)]) {
        let running = helper.connect().start_cat(user, terminal);
        let program = running.program.pid;
        let watcher = helper.instance_of(program);
        assert_eq!(Status::of(watcher).text("Seccomp"), "2", "{user}");
        let target = helper.scratch().temp().join("anybody's");
        fs::write(&target, "").unwrap();
        set_mode(&target, 0o666);
        let target = Text(target.to_str().unwrap());
        let intruder = stopped(watcher);
        let [zero, one, two] = [0, 1, 2].map(Number);
        let executable = Number((libc::PROT_READ | libc::PROT_EXEC).into());
        let anonymous = Number((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into());
        for (what, number, arguments) in [
            ("socket", libc::SYS_socket, &[one, one, zero][..]),
            ("socketpair", libc::SYS_socketpair, &[one, one, zero, zero]),
            ("connect", libc::SYS_connect, &[zero, zero, zero]),
            ("execve", libc::SYS_execve, &[Text("/bin/true"), zero, zero]),
            ("execveat", libc::SYS_execveat, &[HERE, Text("/bin/true"), zero, zero, zero]),
            ("clone", libc::SYS_clone, &[Number(libc::SIGCHLD.into()), zero, zero, zero, zero]),
            ("fork", libc::SYS_fork, &[]),
            ("vfork", libc::SYS_vfork, &[]),
            ("clone3", libc::SYS_clone3, &[zero, zero]),
            ("ptrace", libc::SYS_ptrace, &[Number(16), Number(program.into()), zero, zero]),
            ("process_vm_writev", libc::SYS_process_vm_writev, &[Number(program.into())]),
            ("pidfd_getfd", libc::SYS_pidfd_getfd, &[zero, zero, zero]),
            ("prctl", libc::SYS_prctl, &[Number(libc::PR_SET_DUMPABLE.into()), one]),
            ("setuid", libc::SYS_setuid, &[zero]),
            ("setresuid", libc::SYS_setresuid, &[zero, zero, zero]),
            ("setfsuid", libc::SYS_setfsuid, &[zero]),
            ("setgroups", libc::SYS_setgroups, &[zero, zero]),
            ("capset", libc::SYS_capset, &[zero, zero]),
            ("unshare", libc::SYS_unshare, &[Number(libc::CLONE_NEWUSER.into())]),
            ("setns", libc::SYS_setns, &[zero, zero]),
            ("mount", libc::SYS_mount, &[zero, Text("/"), zero, zero, zero]),
            ("chroot", libc::SYS_chroot, &[Text("/")]),
            ("bpf", libc::SYS_bpf, &[zero, zero, zero]),
            ("io_uring_setup", libc::SYS_io_uring_setup, &[one, zero]),
            ("keyctl", libc::SYS_keyctl, &[zero]),
            ("memfd_create", libc::SYS_memfd_create, &[Text("x"), zero]),
            ("userfaultfd", libc::SYS_userfaultfd, &[zero]),
            ("open to write", libc::SYS_openat, &[HERE, target, one]),
            ("open to read and write", libc::SYS_openat, &[HERE, target, two]),
            ("open to truncate", libc::SYS_openat, &[HERE, target, Number(libc::O_TRUNC.into())]),
            ("creat", libc::SYS_creat, &[target, Number(0o600)]),
            ("openat2", libc::SYS_openat2, &[HERE, target, zero, zero]),
            ("chmod", libc::SYS_chmod, &[target, Number(0o777)]),
            ("chown", libc::SYS_chown, &[target, zero, zero]),
            ("link", libc::SYS_link, &[target, Text("/tmp/x")]),
            ("rename", libc::SYS_rename, &[target, Text("/tmp/x")]),
            ("truncate", libc::SYS_truncate, &[target, zero]),
            ("mmap", libc::SYS_mmap, &[zero, Number(4096), executable, anonymous, Number(-1), zero]),
            ("mprotect", libc::SYS_mprotect, &[zero, Number(4096), executable]),
        ] {
            assert_eq!(intruder.call(number, arguments), Err(Errno::EPERM), "{what}, the run is {user}'s");
        }
        let descriptor = intruder.call(libc::SYS_openat, &[HERE, Text("/proc/self/stat"), zero]).unwrap();
        assert_eq!(intruder.call(libc::SYS_close, &[Number(descriptor)]), Ok(0), "watching goes on");
        assert_eq!(intruder.call(libc::SYS_kill, &[Number(program.into()), zero]), Ok(0));
        drop(intruder);
        running.frontend.send(&Request::Stop { first: None });
        assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(15), "{user}");
    }
}

/// Once nothing of the run is left, the watcher waits for the frontend to close: the rules for files hold by
/// then.
#[test]
fn a_watcher_that_has_removed_the_files_of_its_run_reaches_no_others() {
    let helper = HelperOnly::builder().allow_users(&USERS).start();
    for user in USERS {
        let running = helper.connect().start_cat(user, false);
        let watcher = helper.instance_of(running.program.pid);
        running.frontend.send(&Request::Stop { first: None });
        assert!(matches!(running.frontend.hear(), Heard::Event(Event::Exited(_), _)));
        let intruder = stopped(watcher);
        let version = &[Number(0), Number(0), ASK_FOR_VERSION];
        if intruder.call(libc::SYS_landlock_create_ruleset, version).unwrap_or(0) < 2 {
            return eprintln!("\nSKIPPED: this kernel has no Landlock, so NO rule for files was tried\n");
        }
        for file in ["/etc/passwd", "/etc/shadow", "/proc/self/stat"] {
            let read = intruder.call(libc::SYS_openat, &[HERE, Text(file), Number(0)]);
            assert_eq!(read, Err(Errno::EACCES), "{file}, the run is {user}'s");
        }
        let outside = helper.scratch().work().join("kept");
        fs::write(&outside, "").unwrap();
        let removed = intruder.call(libc::SYS_unlink, &[Text(outside.to_str().unwrap())]);
        assert_eq!(removed, Err(Errno::EACCES), "the run is {user}'s");
        drop(intruder);
    }
}

/// sudo(8) and tracers work in a program as in a terminal.
#[test]
fn a_program_inherits_no_filter_and_may_gain_privileges_as_in_a_terminal() {
    let helper = HelperOnly::builder().allow_users(&USERS).start();
    for user in USERS {
        let running = helper.connect().start_cat(user, false);
        let status = Status::of(running.program.pid);
        assert_eq!((status.text("Seccomp"), status.text("NoNewPrivs")), ("0", "0"), "{user}");
    }
}

/// An upload that has begun, and its worker.
fn upload(helper: &HelperOnly, user: &str) -> (Frontend, File, i32) {
    let frontend = helper.connect();
    let request =
        Upload { identity: identity(user), directory: below("project"), project_of: None, keep: false };
    frontend.send(&Request::Upload(request));
    let content = frontend.expect_code();
    // The watcher, the guard, and last of all the worker.
    let worker = processes::descendants(helper.pid()).last().unwrap().pid;
    (frontend, content, worker)
}

#[test]
fn the_worker_of_an_upload_reaches_no_file_outside_of_the_work_dir() {
    let helper = HelperOnly::builder().allow_users(&USERS).start();
    let (work, temp) = (helper.scratch().work(), helper.scratch().temp());
    let outside = temp.join("anybody's");
    fs::write(&outside, "precious").unwrap();
    set_mode(&outside, 0o666);
    set_mode(&temp, 0o777);
    for user in USERS {
        let (frontend, mut content, worker) = upload(&helper, user);
        let intruder = stopped(worker);
        let version = &[Number(0), Number(0), ASK_FOR_VERSION];
        if intruder.call(libc::SYS_landlock_create_ruleset, version).unwrap_or(0) < 2 {
            return eprintln!("\nSKIPPED: this kernel has no Landlock, so NO rule for files was tried\n");
        }
        let [zero, write] = [0, libc::O_WRONLY.into()].map(Number);
        let create = Number((libc::O_WRONLY | libc::O_CREAT).into());
        let (outside, new) = (outside.to_str().unwrap(), temp.join("new"));
        let new = Text(new.to_str().unwrap());
        let outside = Text(outside);
        for (what, number, arguments) in [
            ("read", libc::SYS_openat, &[HERE, outside, zero][..]),
            ("write", libc::SYS_openat, &[HERE, outside, write]),
            ("truncate", libc::SYS_truncate, &[outside, zero]),
            ("create", libc::SYS_openat, &[HERE, new, create, Number(0o600)]),
            ("mkdir", libc::SYS_mkdir, &[new, Number(0o700)]),
            ("unlink", libc::SYS_unlink, &[outside]),
            ("read /etc/passwd", libc::SYS_openat, &[HERE, Text("/etc/passwd"), zero]),
            ("execute", libc::SYS_execve, &[Text("/bin/true"), zero, zero]),
        ] {
            assert_eq!(intruder.call(number, arguments), Err(Errno::EACCES), "{what}, as {user}");
        }
        let inside = work.join(format!("of {user}"));
        let inside = Text(inside.to_str().unwrap());
        let made = intruder.call(libc::SYS_openat, &[HERE, inside, create, Number(0o600)]);
        assert!(made.is_ok_and(|descriptor| descriptor > 2), "{made:?}");
        drop(intruder);
        assert_completes(&frontend, &mut content, &work);
    }
    assert_eq!(fs::read_to_string(outside).unwrap(), "precious");
    assert!(!temp.join("new").exists());
}

/// The same upload goes on as if nothing had been.
#[track_caller]
fn assert_completes(frontend: &Frontend, content: &mut File, work: &Path) {
    let length = u32::try_from("text".len()).unwrap();
    frontend.send(&Request::File { path: below("file"), length, mode: FileMode::Plain });
    content.write_all(b"text").unwrap();
    frontend.send(&Request::Commit);
    assert!(matches!(frontend.hear(), Heard::Event(Event::Stored, _)));
    frontend.expect_end();
    let file = work.join("project/file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
}
