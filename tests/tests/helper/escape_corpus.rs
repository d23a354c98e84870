//! Programs that try to leave something behind, each against every way in which a run can end.
//!
//! None is alive five seconds after the end. The corpus is in `corpus()`; what is no aim (cron, at,
//! systemd-run, docker) is not in it. What counts as left is any process below the daemon's supervisor that
//! does not execute one of our own binaries; and since a process that forks and exits for ever can be missed
//! by a reader of /proc, all of them also hold a FIFO open, which ends when the last one does.
#![expect(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use further_link_tests::processes::{Process, Status};
use further_link_tests::programs::{ESCAPE, script};
use further_link_tests::scratch::set_mode;
use further_link_tests::wait::holds_within;
use further_link_tests::{Client, DEADLINE, Daemon, binaries, wait_until};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::Value;

/// None is alive so long after the end. Under systemd it is one second (`tests/boot`).
const LIMIT: Duration = Duration::from_secs(5);

/// Programs by name.
type Programs = Vec<(&'static str, Value)>;

/// Where a process that lives can be told from one that does not: as long as one has it open, it does not end
/// (fifo(7)).
const SIGN_OF_LIFE: &str = "alive";

/// Python that ends when it is told to, after it has made `mischief` and said so.
fn python(work: &Path, mischief: &str) -> Value {
    let alive = work.join(SIGN_OF_LIFE);
    let alive = alive.display();
    let code = format!(
        "#!/usr/bin/python3 -u\n{ESCAPE}\n{MORE}\nos.open('{alive}', os.O_WRONLY)\n{mischief}\nprint('ready')\ninput()\n"
    );
    script(&code)
}

/// The same in bash.
fn bash(work: &Path, mischief: &str) -> Value {
    let alive = work.join(SIGN_OF_LIFE);
    script(&format!("#!/bin/bash\nexec 9> {}\n{mischief}\necho ready\nread line\nexit 0\n", alive.display()))
}

/// Python functions: `daemonised(what)` does `what` in a child of its own session that init should have got.
const MORE: &str = r"
import ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def daemonised(what):
    seen, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(seen)
            what(tell)
            pause()
        os._exit(0)
    os.close(tell)
    os.read(seen, 1)
    os.wait()

def close_all(tell):
    os.closerange(0, tell)
    os.write(tell, b'x')
    os.closerange(0, 1 << 16)

def stopped(tell):
    os.write(tell, b'x')
    os.kill(os.getpid(), signal.SIGSTOP)

# Its orphans come to it, and not to the helper (prctl(2), PR_SET_CHILD_SUBREAPER).
def subreaper(tell):
    libc.prctl(36, 1, 0, 0, 0)
    for _ in range(3):
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
                pause()
            os._exit(0)
        os.wait()
    os.write(tell, b'x')

# A child that is traced, and stopped for its tracer.
def traced(tell):
    if (child := os.fork()) == 0:
        libc.ptrace(0, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        pause()
    os.waitpid(child, os.WUNTRACED)
    os.write(tell, b'x')

# A zombie that is not collected, and a thread in a child.
def zombies(tell):
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)
    import threading
    threading.Thread(target=pause).start()
    os.write(tell, b'x')

# A sibling in place of a child: CLONE_PARENT (clone(2)) gives it to the helper at once.
def sibling(tell):
    if os.uname().machine == 'x86_64' and libc.syscall(56, 0x8000 | signal.SIGCHLD, None, None, None, None) == 0:
        os.setsid()
        pause()
    os.write(tell, b'x')

def ignore_all(tell):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    os.write(tell, b'x')
";

/// The quiet ones: they hide and wait.
fn corpus(work: &Path) -> Programs {
    let (python, bash) = (|mischief| python(work, mischief), |mischief| bash(work, mischief));
    vec![
        ("own session, forked twice, TERM and HUP ignored", python("escape()\nescape()")),
        ("every signal ignored", python("daemonised(ignore_all)")),
        ("all descriptors closed", python("daemonised(close_all)")),
        ("stopped by SIGSTOP", python("daemonised(stopped)")),
        ("a subreaper of its own", python("daemonised(subreaper)")),
        ("stopped for a tracer", python("daemonised(traced)")),
        ("zombies and threads", python("daemonised(zombies)")),
        ("a sibling instead of a child", python("daemonised(sibling)")),
        ("setsid", bash("setsid sleep 600 & setsid -f sleep 600")),
        ("nohup and disown", bash("nohup sleep 600 > /dev/null 2>&1 < /dev/null & disown -a")),
        ("job control", bash("set -m; (trap '' TERM HUP; sleep 600) & (sleep 600 & sleep 600 &)")),
        (
            "a namespace of its own",
            bash("unshare -U -r -p -f sleep 600 2> /dev/null & sleep 600 & disown -a"),
        ),
        (
            "a pipe line in the background",
            bash("(yes | cat > /dev/null) & (sleep 600 | sleep 600) & disown -a"),
        ),
    ]
}

/// The programs themselves let go of the sign of life here: what has it then is what they made.
///
/// Forks and exits for ever, so that its pid is never the one that was just read (a comet): one that
/// is fast, one that also takes a new session each time.
fn comets(work: &Path) -> Programs {
    let fast = "perl -e 'use POSIX; POSIX::setsid(); $SIG{TERM} = \"IGNORE\"; while (1) { exit if fork }' & exec 9>&-";
    let with_sessions = "perl -e 'use POSIX; while (1) { exit if fork; POSIX::setsid() }' & exec 9>&-";
    vec![("comet", bash(work, fast)), ("comet with sessions", bash(work, with_sessions))]
}

/// A fork bomb that its own limit holds at some hundreds (bash(1), `ulimit -u`: of all processes of `pi`).
fn bomb(work: &Path) -> Programs {
    let bomb = "ulimit -u 300; trap '' TERM; bomb() { bomb | bomb & }; bomb 2> /dev/null; exec 9>&-";
    vec![("fork bomb", bash(work, bomb))]
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ByItself,
    Stop,
    Disconnect,
    FrontendKilled,
    HelperKilled,
}

/// What runs below the daemon and is not the daemon.
fn strangers(daemon: &Daemon) -> Vec<Process> {
    let own = fs::canonicalize(binaries::frontend()).expect("the frontend's binary");
    let is_own = |process: &Process| {
        fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|program| program == own)
    };
    let alive = daemon.processes().into_iter().filter(|process| process.state != 'Z');
    alive.filter(|process| !is_own(process)).collect()
}

/// Starts all of them on one connection and waits until each has done its mischief.
fn start(daemon: &Daemon, programs: &[(&str, Value)]) -> Client {
    let mut client = daemon.run("");
    for (name, data) in programs {
        client.start(name, data.clone());
    }
    for (name, _) in programs {
        client.wait_stdout(name, "ready\n");
    }
    client
}

fn end(daemon: &mut Daemon, mut client: Client, programs: &[(&str, Value)], end: End) -> Option<Client> {
    match end {
        End::ByItself | End::Stop => {
            for (name, _) in programs {
                if end == End::Stop { client.stop(name) } else { client.stdin(name, "\n") }
            }
            for (name, _) in programs {
                client.wait_stopped_within(2 * DEADLINE, name);
            }
        }
        End::Disconnect => return None,
        End::FrontendKilled => drop(daemon.end_with(Signal::SIGKILL)),
        End::HelperKilled => {
            for helper in helpers_of_runs(daemon) {
                kill(Pid::from_raw(helper), Signal::SIGKILL).expect("it lives");
            }
        }
    }
    Some(client)
}

/// The helpers that have a child: all but the one that listens and the spare.
fn helpers_of_runs(daemon: &Daemon) -> Vec<i32> {
    let strangers = strangers(daemon);
    let listener = listener(daemon);
    let is_helper = |process: &Process| process.parent == listener && !strangers.contains(process);
    let helpers = daemon.processes().into_iter().filter(is_helper);
    helpers.filter(|helper| strangers.iter().any(|one| one.parent == helper.pid)).map(|one| one.pid).collect()
}

/// The helper process that listens: the frontend's only child.
fn listener(daemon: &Daemon) -> i32 {
    let child = daemon.processes().into_iter().find(|process| process.parent == daemon.pid());
    child.expect("the frontend has a helper").pid
}

/// One way to end, for these programs: all at once, since a device runs many.
#[track_caller]
fn assert_nobody_escapes(programs: fn(&Path) -> Programs, way: End) {
    let mut daemon = Daemon::builder().grace(0.5).start();
    let mut alive = sign_of_life(&daemon);
    let programs = programs(&daemon.work());
    let client = start(&daemon, &programs);
    assert!(strangers(&daemon).len() >= programs.len(), "they do not even run");
    assert!(somebody_is_alive(&mut alive), "they do not even run");
    let client = end(&mut daemon, client, &programs, way);
    let asked = Instant::now();
    let mut left = Vec::new();
    let mut hidden = true;
    let gone = holds_within(LIMIT, || {
        left = strangers(&daemon);
        hidden = somebody_is_alive(&mut alive);
        left.is_empty() && !hidden
    });
    let left: Vec<_> = left.iter().map(|one| (one.arguments(), one)).collect();
    let what = format!("alive {:?} after {way:?}: {left:?}, and not seen: {hidden}", asked.elapsed());
    assert!(gone, "{what}\n{}", daemon.log().tail());
    drop(client);
    if way == End::HelperKilled {
        // Of all that a killed process would have done, this is what no other process can do for it.
        daemon.remove_temporary_files();
    }
}

/// Makes the FIFO and opens its reading end.
fn sign_of_life(daemon: &Daemon) -> File {
    let path = daemon.work().join(SIGN_OF_LIFE);
    nix::unistd::mkfifo(&path, Mode::empty()).expect("a FIFO");
    set_mode(&path, 0o666);
    let nonblocking = OFlag::O_NONBLOCK.bits();
    File::options().read(true).custom_flags(nonblocking).open(path).expect("the reading end")
}

/// Whether any process has the writing end. Nothing is written into it: reading finds the end, or nothing
/// yet.
fn somebody_is_alive(alive: &mut File) -> bool {
    alive.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[track_caller]
fn assert_nobody_of_the_corpus_escapes(way: End) {
    for programs in [corpus, comets] {
        assert_nobody_escapes(programs, way);
    }
    // The bomb's limit counts all processes of `pi`: two at once would leave each other none, not even to
    // begin with.
    let turn = File::create("/run/further-link-tests.bomb.lock").expect("a lock file");
    turn.lock().expect("the lock");
    assert_nobody_escapes(bomb, way);
}

/// B6.9: what is left when the program itself has ended.
#[test]
fn nobody_outlives_a_program_that_ends_by_itself() {
    assert_nobody_of_the_corpus_escapes(End::ByItself);
}

#[test]
fn nobody_outlives_stop_and_its_grace() {
    assert_nobody_of_the_corpus_escapes(End::Stop);
}

#[test]
fn nobody_outlives_a_disconnect() {
    assert_nobody_of_the_corpus_escapes(End::Disconnect);
}

#[test]
fn nobody_outlives_a_killed_frontend() {
    assert_nobody_of_the_corpus_escapes(End::FrontendKilled);
}

#[test]
fn nobody_outlives_a_killed_helper() {
    assert_nobody_of_the_corpus_escapes(End::HelperKilled);
}

/// A rule of sudoers(5), removed with this.
struct Rule(&'static str);

impl Rule {
    fn new() -> Self {
        let rule = Self("/etc/sudoers.d/further-link-tests");
        fs::write(rule.0, "pi ALL=(root) NOPASSWD: /usr/bin/setsid\n").expect("sudo is installed");
        set_mode(Path::new(rule.0), 0o440);
        rule
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        fs::remove_file(self.0).expect("it was made by this test");
    }
}

/// docs/threat-model.md: "A user with password-less sudo is root". Its processes are root's, and end all the
/// same.
#[test]
fn nobody_outlives_a_run_as_root_by_sudo() {
    if !Path::new("/usr/bin/sudo").exists() {
        // Not `eprintln!`, which the test runner would swallow.
        std::io::Write::write_all(
            &mut std::io::stderr(),
            b"\nSKIPPED: no sudo, so `sudo setsid` was NOT tested\n",
        )
        .expect("stderr can be written");
        return;
    }
    let _rule = Rule::new();
    let mischief = "sudo -n setsid -f sleep 600; sudo -n setsid sleep 600 & disown -a";
    for way in [End::ByItself, End::Stop, End::Disconnect, End::FrontendKilled, End::HelperKilled] {
        let mut daemon = Daemon::builder().grace(0.5).start();
        // sudo closes all other descriptors (sudoers(5), closefrom), so this has no other use here.
        let _alive = sign_of_life(&daemon);
        let programs = [("sudo", bash(&daemon.work(), mischief))];
        let client = start(&daemon, &programs);
        let is_roots = |process: &Process| {
            let status = Status::of(process.pid);
            process.name == "sleep" && status.numbers("Uid") == [0; 4]
        };
        wait_until(DEADLINE, "two sleeps of root", || {
            strangers(&daemon).iter().filter(|one| is_roots(one)).count() == 2
        });
        let client = end(&mut daemon, client, &programs, way);
        wait_until(LIMIT, &format!("nobody is left after {way:?}"), || strangers(&daemon).is_empty());
        drop(client);
        if way == End::HelperKilled {
            daemon.remove_temporary_files();
        }
    }
}
