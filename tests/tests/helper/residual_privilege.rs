//! What the helper of a run still holds once the program is started, read from /proc, and tried by those who
//! would like to have it: the program itself, and a process with the helper's own uid.
//!
//! ARCHITECTURE.md, "One start" ("gives root up without waiting for anything") and docs/threat-model.md, "a
//! helper taken over after the start of a program".
//!
//! The service account is a uid without an account where the package's `further-link-exec` does not exist
//! (`demote`). A test must not make that account: every helper on the machine would choose it at once. So
//! here it exists for one helper only, in a mount namespace with a passwd(5) of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use further_link_tests::helper_only::HelperOnly;
use further_link_tests::helper_only::frontend::{as_user, on_terminal, with_text};
use further_link_tests::processes::{Status, descriptors};
use further_link_tests::{DEADLINE, accounts, wait_until};

/// `CAP_KILL`, see capabilities(7).
const CAP_KILL: u64 = 1 << 5;
/// With `CAP_SETGID` and `CAP_SETUID`: a watcher that does not know yet whose run it will be.
const WAITING: u64 = CAP_KILL | 1 << 6 | 1 << 7;
const USERS: [&str; 3] = ["pi", "root", "linkother"];
/// The account of the package, for one helper only: its uid, which no other account has.
const PACKAGED: u64 = 64_901;
/// Without the package: a uid without an account (`demote`).
const UNUSED: u64 = 65_533;

/// A helper that finds an account `further-link-exec`.
fn packaged_helper() -> HelperOnly {
    let builder = HelperOnly::builder().allow_users(&USERS);
    let passwd = builder.scratch().root().join("passwd");
    let entry = format!("further-link-exec:x:{PACKAGED}:{PACKAGED}::/:/usr/sbin/nologin\n");
    fs::write(&passwd, fs::read_to_string("/etc/passwd").unwrap() + &entry).unwrap();
    let script = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
    let unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script];
    builder.wrapped_in(&[&unshared[..], &[passwd.to_str().unwrap()]].concat()).start()
}

/// Both, with the uid and gid that their instances become.
fn helpers() -> [(HelperOnly, u64, u64); 2] {
    [
        (HelperOnly::builder().allow_users(&USERS).start(), UNUSED, UNUSED),
        (packaged_helper(), PACKAGED, PACKAGED),
    ]
}

/// docs/threat-model.md: "a uid of its own, `CAP_KILL` only" and no new privileges. A run of root is like any
/// other.
#[test]
fn after_the_start_the_helper_is_a_service_account_that_may_signal_and_no_more() {
    for (helper, uid, gid) in helpers() {
        for (user, terminal) in USERS.into_iter().flat_map(|user| [(user, false), (user, true)]) {
            let running = helper.connect().start_cat(user, terminal);
            let account = accounts::account(user);
            let status = Status::of(helper.instance_of(running.program.pid));
            let what = format!("{user}, {terminal}: {status:?}");
            // docs/decisions.md: the user's fsuid (the fourth) and groups stay, to remove the run's files.
            assert_eq!(status.numbers("Uid"), [uid, uid, uid, account.uid.into()], "{what}");
            assert_eq!(status.numbers("Gid"), [gid, gid, gid, account.gid.into()], "{what}");
            assert_eq!(status.groups(), account.groups, "{what}");
            assert_eq!((status.mask("CapEff"), status.mask("CapPrm")), (CAP_KILL, CAP_KILL), "{what}");
            for set in ["CapBnd", "CapInh", "CapAmb"] {
                assert_eq!(status.mask(set), 0, "{set}, {what}");
            }
            assert_eq!(status.text("NoNewPrivs"), "1", "{what}");
            assert_eq!(status.text("Threads"), "1", "{what}");
        }
    }
}

/// ARCHITECTURE.md: "Data never passes through root", and a helper taken over must not accept for the
/// listener.
#[test]
fn after_the_start_the_helper_holds_its_connection_and_nothing_of_the_program() {
    let helper = HelperOnly::builder().allow_users(&USERS).start();
    let listener: Vec<String> = descriptors(helper.pid()).into_values().collect();
    let inherited = descriptors(std::process::id().try_into().unwrap());
    for (user, terminal) in USERS.into_iter().flat_map(|user| [(user, false), (user, true)]) {
        for with_code in [false, true] {
            let running = if with_code {
                let text = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n".as_bytes();
                let run = as_user(user, with_text("python3", text.len()));
                let run = if terminal { on_terminal(run) } else { run };
                helper.connect().start(&run, text)
            } else {
                helper.connect().start_cat(user, terminal)
            };
            let instance = helper.instance_of(running.program.pid);
            let mut held = descriptors(instance);
            let log = held.get(&2).cloned();
            // `Started` is heard before the helper has closed its copies of what came with it.
            wait_until(
                DEADLINE,
                &format!("one descriptor of its own, {user} {terminal} {with_code}"),
                || {
                    held = descriptors(instance);
                    // What the test itself was started with goes down to everybody, but not into the program.
                    // The signals are its own and those of the listening process; both
                    // show only those of the reading process.
                    held.retain(|number, target| *number < 3 || inherited.get(number) != Some(target));
                    held.retain(|_, target| *target != "anon_inode:[signalfd]");
                    held.len() == 4
                },
            );
            let others: Vec<&str> = held.range(3..).map(|(_, target)| target.as_str()).collect();
            let what = format!("{user}, {terminal}, {with_code}: {held:?}");
            assert!(others.iter().all(|target| target.starts_with("socket:")), "{what}");
            assert!(!others.iter().any(|target| listener.iter().any(|own| own == target)), "{what}");
            assert_eq!((held[&0].as_str(), held[&1].as_str()), ("/dev/null", "/dev/null"), "{what}");
            assert!(log.is_some_and(|log| listener.contains(&log)), "{what}");
        }
    }
}

/// proc(5), `PR_SET_DUMPABLE` in prctl(2): a process that may not be dumped belongs to root in /proc, and
/// no other process traces it, even with its uid.
#[test]
fn nobody_with_the_helpers_own_uid_can_look_into_it() {
    for (helper, uid, gid) in helpers() {
        for user in USERS {
            let running = helper.connect().start_cat(user, false);
            let instance = helper.instance_of(running.program.pid);
            for file in ["environ", "mem", "maps", "fd", "auxv"] {
                let metadata = fs::metadata(format!("/proc/{instance}/{file}")).unwrap();
                assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{file}");
                assert_eq!(metadata.permissions().mode() & 0o007 & !0o004, 0, "{file}");
            }
            let (uid, gid) = (uid.to_string(), gid.to_string());
            let code = attempts(&[instance], false);
            let same_uid =
                ["--reuid", &uid, "--regid", &gid, "--clear-groups", "--", "/usr/bin/python3", "-c", &code];
            let answers = accounts::run("/usr/bin/setpriv", &same_uid);
            assert!(answers.lines().all(|line| line.ends_with(" refused")), "{user}: {answers}");
            assert_eq!(answers.lines().count(), LOOKING, "{answers}");
            // That these are real attempts: to root none is refused.
            let answers = accounts::run("/usr/bin/python3", &["-c", &code]);
            assert!(!answers.contains(" refused"), "{user}: {answers}");
        }
    }
}

/// How many attempts to look into a process there are, and how many to change something about it.
const LOOKING: usize = 9;
const CHANGING: usize = 5;

/// Python that tries to look into the processes, and to change something about them, and says how each try
/// went.
fn attempts(pids: &[i32], changing: bool) -> String {
    format!(
        r"
import ctypes, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), '')
word = ctypes.c_long
buffer = ctypes.create_string_buffer(16)
iovec = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 16)
remote = (ctypes.c_ulong * 2)(0x1000, 16)
getfd = 438
looking = {{
    'environ': lambda pid: open(f'/proc/{{pid}}/environ').read(),
    'mem': lambda pid: open(f'/proc/{{pid}}/mem', 'rb'),
    'maps': lambda pid: open(f'/proc/{{pid}}/maps').read(),
    'fd': lambda pid: os.listdir(f'/proc/{{pid}}/fd'),
    'fd0': lambda pid: open(f'/proc/{{pid}}/fd/0'),
    'cwd': lambda pid: os.readlink(f'/proc/{{pid}}/cwd'),
    'attach': lambda pid: libc.ptrace(0x4206, pid, None, None) and call(-1),
    'getfd': lambda pid: call(getfd, os.pidfd_open(pid), 0, 0),
    'readv': lambda pid: call(310 if os.uname().machine == 'x86_64' else 270, pid, iovec, word(1), remote, word(1), word(0)),
}}
changing = {{
    'signal 0': lambda pid: os.kill(pid, 0),
    'TERM': lambda pid: os.kill(pid, signal.SIGTERM),
    'STOP': lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGSTOP),
    'limits': lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8)),
    'nice': lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
}}
for pid in {pids:?}:
    for name, attempt in {{**looking, **(changing if {changing} else {{}})}}.items():
        try:
            attempt(pid)
            print(name, pid, 'possible')
        except OSError as error:
            print(name, pid, 'refused' if error.errno in (1, 13, 38) else error)
",
        changing = if changing { "True" } else { "False" },
    )
}

/// Programs of pi cannot. The same for the user `nobody`, for
/// the process that listens, and for the helpers of others.
#[test]
fn a_program_can_neither_signal_nor_trace_nor_slow_down_a_helper() {
    for (helper, _, _) in helpers() {
        let others = helper.connect().start_cat("root", false);
        let targets = |own: &str| {
            let code = attempts(&[helper.pid(), helper.instance_of(others.program.pid)], true);
            code.replacen("for pid in [", &format!("for pid in [{own}, "), 1)
        };
        for user in ["pi", "linkother"] {
            let text = targets("os.getppid()");
            let run = as_user(user, with_text("python3", text.len()));
            let mut running = helper.connect().start(&run, text.as_bytes());
            let answers = running.read_rest();
            assert!(answers.lines().all(|line| line.ends_with(" refused")), "{user}: {answers}");
            assert_eq!(answers.lines().count(), 3 * (LOOKING + CHANGING), "{user}: {answers}");
            running.frontend.wait_exited();
        }
        assert!(others.program.is_alive());
        helper.assert_serves();
    }
}

/// The two processes of a waiting helper: the launcher is root still, the watcher is not any more. What they
/// have is for it alone.
#[test]
fn a_helper_that_waits_cannot_be_looked_into_and_has_started_nothing() {
    let helper = HelperOnly::start();
    let _waiting = helper.connect();
    wait_until(DEADLINE, "an instance", || helper.instances().len() == 1);
    wait_until(DEADLINE, "a launcher", || helper.process.descendants().len() == 3);
    let watcher = helper.instances()[0].pid;
    let launcher = helper.process.descendants().into_iter().find(|process| process.parent == watcher);
    let status = || Status::of(watcher);
    wait_until(DEADLINE, "a watcher that is not root", || status().mask("CapPrm") == WAITING);
    assert!(!status().numbers("Uid").contains(&0) && status().text("NoNewPrivs") == "1", "{:?}", status());
    for pid in [helper.pid(), watcher, launcher.unwrap().pid] {
        assert_eq!(helper.process.descendants().len(), 3);
        for user in ["pi", "linkother"] {
            let code = attempts(&[pid], true);
            let gid = accounts::account(user).gid.to_string();
            let arguments =
                ["--reuid", user, "--regid", &gid, "--init-groups", "/usr/bin/python3", "-c", &code];
            let answers = accounts::run("/usr/bin/setpriv", &arguments);
            assert!(answers.lines().all(|line| line.ends_with(" refused")), "{user}: {answers}");
        }
    }
}
