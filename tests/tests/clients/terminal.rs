//! `?pty=1`: a terminal of one's own, its size, its control characters and what lives on them.
//!
//! Item B9 with B6.7 and B6.8 (what comes on which stream, in one message), D14 (many terminals) and D28 (the
//! controlling terminal). Full-screen programs and job control are in `terminal_programs.rs`.

use further_link_tests::programs::{numbered, program, python, script, shell};
use further_link_tests::{DEADLINE, Daemon, accounts};

/// B3.5
#[test]
fn pty_is_switched_on_by_1_and_true_and_by_nothing_else() {
    let daemon = Daemon::start();
    let code = "import os; print(*(os.isatty(number) for number in (0, 1, 2)))";
    for query in ["pty=1", "pty=true", "pty=True", "pty=TRUE", "user=pi&pty=1"] {
        assert_eq!(daemon.run(query).run("1", python(code)).stdout, "True True True\r\n", "{query}");
    }
    for query in ["", "pty=0", "pty=false", "pty=", "pty", "pty=2", "pty=yes", "pty=11", "PTY=1"] {
        assert_eq!(daemon.run(query).run("1", python(code)).stdout, "False False False\n", "{query}");
    }
}

/// B6.7, B9.3: the terminal turns line ends around.
#[test]
fn everything_comes_as_stdout_with_carriage_returns() {
    let daemon = Daemon::start();
    let finished = daemon.run("pty=1").run("1", script("#!/bin/sh\necho out; echo err >&2; printf no-end\n"));
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\r\nerr\r\nno-end", ""));
}

/// A rubbed out umlaut is two bytes (F2).
#[test]
fn a_character_of_several_bytes_is_rubbed_out_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", python("print(ascii(input()))"));
    client.stdin("1", "J\u{fc}\u{7f}\u{f6}rg\r");
    client.wait_stdout("1", "'J\\xf6rg'\r\n");
}

/// B9.1, B9.3
#[test]
fn the_size_is_4_by_60_and_follows_resize() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", script("#!/bin/sh\nstty size; read line; stty size; read line; stty size\n"));
    client.wait_stdout("1", "4 60\r\n");
    client.resize("1", 40, 132);
    client.stdin("1", "\r");
    client.wait_stdout("1", "40 132\r\n");
    client.resize("1", 65535, 1);
    client.stdin("1", "\r");
    client.wait_stdout("1", "65535 1\r\n");
    assert_eq!(client.wait_stopped("1"), 0);
}

/// B9.1: each terminal has its own size.
#[test]
fn a_resize_is_for_one_program_and_tells_it() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    let code = r"
import fcntl, signal, struct, termios
def show(*_):
    print(struct.unpack('HHHH', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))))
signal.signal(signal.SIGWINCH, show)
show()
while True:
    signal.pause()
";
    client.start("1", python(code));
    client.start("2", python(code));
    client.wait_stdout("1", "(4, 60, 0, 0)\r\n");
    client.wait_stdout("2", "(4, 60, 0, 0)\r\n");
    client.resize("2", 24, 80);
    client.wait_stdout("2", "(24, 80, 0, 0)\r\n");
    client.resize("1", 25, 81);
    client.wait_stdout("1", "(25, 81, 0, 0)\r\n");
    assert_eq!(client.stdout("1"), "(4, 60, 0, 0)\r\n(25, 81, 0, 0)\r\n");
}

/// B9.2, B9.3. The group is the devpts mount's (API.md, "Differences").
#[test]
fn the_terminal_belongs_to_the_user_and_starts_in_line_mode() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother"]).start();
    let code = r"
import os, subprocess
facts = [os.fstat(number) for number in (0, 1, 2)]
print(*{(f.st_uid, f.st_mode & 0o007) for f in facts}, len({f.st_rdev for f in facts}), os.ttyname(0))
print(subprocess.run(['stty', '-a'], capture_output=True, text=True).stdout)
";
    for account in [accounts::pi(), accounts::other()] {
        let finished = daemon.run(&format!("pty=1&user={}", account.name)).run("1", python(code));
        let (first, modes) = finished.stdout.split_once("\r\n").expect("lines");
        let expected = format!("({}, 0) 1 /dev/pts/", account.uid);
        assert!(first.starts_with(&expected), "{first} for {account:?}");
        let words: Vec<&str> = modes.split([' ', ';', '\r', '\n']).collect();
        for word in ["isig", "icanon", "echo", "echoe", "icrnl", "opost", "onlcr"] {
            assert!(words.contains(&word), "{word}: {modes}");
        }
    }
}

/// D28, B6.6
#[test]
fn it_is_the_controlling_terminal_and_the_program_is_in_its_foreground() {
    let daemon = Daemon::start();
    let code = r"
import os
with open('/dev/tty', 'w') as tty:
    tty.write('through /dev/tty\n')
print(os.getpid() == os.getpgrp() == os.getsid(0) == os.tcgetpgrp(0))
";
    let finished = daemon.run("pty=1").run("1", python(code));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (0, "through /dev/tty\r\nTrue\r\n"));
    let finished = daemon.run("").run("1", python("open('/dev/tty')"));
    assert_eq!(finished.exit_code, 1);
    assert!(finished.stderr.contains("/dev/tty"), "{finished:?}");
}

/// D28
#[test]
fn ctrl_c_interrupts_python() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    let nap = "import sys, time\nprint('ready')\ntime.sleep(600)\n";
    client.start("plain", python(nap));
    client.wait_stdout("plain", "ready\r\n");
    client.stdin("plain", "\x03");
    assert_eq!(client.wait_stopped("plain"), -2);
    assert!(client.stdout("plain").contains("KeyboardInterrupt"));
    let caught = "import sys, time\ntry:\n    print('ready')\n    time.sleep(600)\n\
                  except KeyboardInterrupt:\n    print('caught')\n    sys.exit(5)\n";
    client.start("caught", python(caught));
    client.wait_stdout("caught", "ready\r\n");
    client.stdin("caught", "\x03");
    assert_eq!(client.wait_stopped("caught"), 5);
    assert_eq!(client.stdout("caught"), "ready\r\n^Ccaught\r\n");
}

/// D28: exec programs too, with the children in their group.
#[test]
fn ctrl_c_interrupts_scripts_and_their_children() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client
        .start("1", script("#!/bin/sh\ntrap 'echo caught; exit 6' INT\necho ready\nsleep 600\necho never\n"));
    client.wait_stdout("1", "ready\r\n");
    daemon.process_named("sleep");
    client.stdin("1", "\x03");
    assert_eq!(client.wait_stopped("1"), 6);
    assert_eq!(client.stdout("1"), "ready\r\n^Ccaught\r\n");
}

/// B5: the one way to end the input of a program.
#[test]
fn ctrl_d_ends_the_input() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", program("/usr/bin/cat"));
    client.stdin("1", "line\r");
    client.wait_stdout("1", "line\r\nline\r\n");
    client.stdin("1", "\x04");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "line\r\nline\r\n");
}

/// B6.8: what upstream's tests read as one message.
#[test]
fn an_echoed_line_and_the_programs_answer_are_one_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", python("name = input('name? ')\nprint('hello', name)\ninput()"));
    client.wait_stdout("1", "name? ");
    client.stdin("1", "bob\n");
    client.wait_stdout("1", "hello bob\r\n");
    assert_eq!(client.outputs("1", "stdout").last().map(String::as_str), Some("bob\r\nhello bob\r\n"));
}

/// Architecture, "Rules that keep it fast": each echo is awaited before the next key is pressed.
#[test]
fn a_keystroke_is_echoed_by_itself() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", program("/usr/bin/cat"));
    for key in ["a", "ü", " ", "€", "z"] {
        client.stdin("1", key);
        client.expect(key, |message| message["type"] == "stdout" && message["data"]["output"] == key);
    }
    client.stdin("1", "\x7f");
    client.expect("a rubbed out letter", |message| message["data"]["output"] == "\x08 \x08");
}

/// B6.2: an interactive bash ignores SIGTERM.
#[test]
fn a_stopped_bash_on_a_terminal_ends_by_sigkill() {
    let daemon = Daemon::start();
    assert!(accounts::pi().shell.ends_with("bash"), "this test wants a pi with bash");
    let mut client = daemon.run("pty=1");
    client.start("1", shell());
    client.stdin("1", "echo \"<$->\" $((40 + 2))\r");
    client.wait_stdout("1", "> 42\r\n");
    let stdout = client.stdout("1");
    let flags = stdout.rsplit_once('<').expect("the flags").1;
    assert!(flags.contains('i'), "it is not interactive: {flags:?}");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -9);
}

/// B6.2, B6.4
#[test]
fn a_stopped_python_on_a_terminal_ends_by_sigterm() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", python("print('ready')\ninput()"));
    client.wait_stdout("1", "ready\r\n");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
}

/// D14: the original froze at (number of processors + 4) terminals.
#[test]
fn thirty_terminals_are_served_at_once() {
    let daemon = Daemon::start();
    let mut clients: Vec<_> = (0..3).map(|_| daemon.run("pty=1")).collect();
    for number in 0..30 {
        clients[number % 3].start(&number.to_string(), program("/usr/bin/cat"));
    }
    for number in 0..30 {
        let (client, id) = (&mut clients[number % 3], number.to_string());
        client.stdin(&id, &format!("hello {id}\r"));
        client.wait_stdout(&id, &format!("hello {id}\r\nhello {id}\r\n"));
    }
    assert_eq!(daemon.run_once(python("print('one more')")).stdout, "one more\n");
    assert_eq!(daemon.http("GET", "/status").body, "OK");
}

/// No byte of a big paste is lost: in raw mode, and line by line.
#[test]
fn a_big_paste_arrives_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    let raw = r"
import os, tty
tty.setraw(0)
print('ready')
expected = b''.join(b'%07d\n' % number for number in range(131072))
got = b''
while len(got) < len(expected):
    got += os.read(0, 65536)
print('same' if got == expected else 'different')
";
    client.start("raw", python(raw));
    client.wait_stdout("raw", "ready");
    let paste = numbered(131_072, |number| format!("{number:07}\n"));
    client.stdin("raw", &paste);
    assert_eq!(client.wait_stopped("raw"), 0);
    assert!(client.stdout("raw").contains("same"));
    let lines = "print('ready')\nprint(all(input() == 'line %06d' % number for number in range(20000)))\n";
    client.start("lines", python(lines));
    client.wait_stdout("lines", "ready");
    let paste = numbered(20_000, |number| format!("line {number:06}\r"));
    client.stdin("lines", &paste);
    client.read_until(6 * DEADLINE, "the verdict", |client| {
        client.outputs("lines", "stdout").iter().any(|text| text.contains("True") || text.contains("False"))
    });
    assert_eq!(client.wait_stopped("lines"), 0);
    assert!(client.stdout("lines").trim_end().ends_with("True"));
}
