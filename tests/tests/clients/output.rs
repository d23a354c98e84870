//! Output: all of it, as text, in order, and no message too many.
//!
//! Items B6.7 and B6.8 with D7 (split and invalid UTF-8) and D26 (output thrown away). What a slow reader or
//! a flooding program does to others is in `pressure.rs`.
#![expect(clippy::panic, reason = "helpers of tests may fail the test")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use further_link_tests::programs::{numbered, python};
use further_link_tests::{Client, Daemon};

/// 50 MiB of lines that know their number.
const LINES: usize = 524_288;

/// Each line is 100 bytes long.
fn line(number: usize, end: &str) -> String {
    format!("{number:08} {}{end}", "€äx".repeat(15))
}

const FLOOD: &str = r"
import sys
filler = '€äx' * 15
for first in range(0, 524288, 1024):
    sys.stdout.write(''.join('%08d %s\n' % (number, filler) for number in range(first, first + 1024)))
";

#[track_caller]
fn assert_same_lines(seen: &str, end: &str) {
    let mut rest = seen;
    for number in 0..LINES {
        let wanted = line(number, end);
        let Some(next) = rest.strip_prefix(wanted.as_str()) else {
            let found: String = rest.chars().take(120).collect();
            panic!("line {number} of {LINES} is {found:?}");
        };
        rest = next;
    }
    assert_eq!(rest, "", "there is more than was written");
}

/// D26, architecture, "Rules that keep it fast"
#[test]
fn fifty_mebibytes_through_a_pipe_arrive_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python(FLOOD));
    assert_eq!(client.wait_stopped_within(Duration::from_mins(3), "1"), 0);
    assert_same_lines(&client.stdout("1"), "\n");
}

/// D26
#[test]
fn fifty_mebibytes_through_a_terminal_arrive_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", python(FLOOD));
    assert_eq!(client.wait_stopped_within(Duration::from_mins(3), "1"), 0);
    assert_same_lines(&client.stdout("1"), "\r\n");
}

/// D26: the end of one big write is what the original lost. stderr is no different.
#[test]
fn the_last_output_before_the_end_arrives() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        for _ in 0..5 {
            let code = "import os, sys\nos.write(1, b'x' * 60000 + b'last out')\nos.write(2, b'y' * 60000 + b'last err')\n\
                        os._exit(3)";
            let finished = client.run("1", python(code));
            assert_eq!(finished.exit_code, 3);
            let all = finished.stdout + &finished.stderr;
            assert!(all.contains("xlast out") && all.ends_with("ylast err"), "{query}");
            assert_eq!(all.len(), 120_016, "{query}");
        }
        client.start("1", python("import os, time\nprint('x' * 60000 + 'last')\nos.kill(os.getpid(), 9)"));
        assert_eq!(client.wait_stopped("1"), -9);
        assert!(client.stdout("1").trim_end().ends_with("xlast"), "{query}");
    }
}

/// B6.9: a process outside of the run holds its output, and floods it after the program's end. That does no
/// harm, and `stopped` comes when the flood ends.
#[test]
fn a_flood_from_outside_of_the_run_does_not_outlive_it_and_harms_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("import os\nprint(os.getpid(), flush=True)\ninput()"));
    client.wait_stdout("1", "\n");
    let pid = client.stdout("1").trim().to_owned();
    let mut held = File::options().write(true).open(format!("/proc/{pid}/fd/1")).unwrap();
    client.stdin("1", "\n");
    let flood = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_millis(2500);
        // An error is the frontend's close.
        while Instant::now() < until && held.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert_eq!(client.wait_stopped("1"), 0);
    flood.join().unwrap();
    assert_eq!(daemon.run_once(python("print('here')")).stdout, "here\n");
}

/// B6.7
#[test]
fn stdout_and_stderr_are_told_apart() {
    let daemon = Daemon::start();
    let code = "import sys\nfor n in range(500):\n    print('out', n)\n    print('err', n, file=sys.stderr)";
    let finished = daemon.run_once(python(code));
    assert_eq!(finished.stdout, numbered(500, |number| format!("out {number}\n")));
    assert_eq!(finished.stderr, numbered(500, |number| format!("err {number}\n")));
}

/// Runs code that writes bytes, on stdout and on stderr, and returns what arrived.
fn written(client: &mut Client, statements: &str) -> [String; 2] {
    let code =
        format!("import os, sys, time\ndef w(data): os.write(int(fd), data)\nfd = input()\n{statements}\n");
    ["1", "2"].map(|stream| {
        client.start("1", python(&code));
        client.stdin("1", &format!("{stream}\n"));
        assert_eq!(client.wait_stopped("1"), 0, "{}", client.stderr("1"));
        if stream == "1" { client.stdout("1") } else { client.stderr("1") }
    })
}

/// D7: what the terminal and the sizes of reads make of multi-byte characters is no concern of the client's.
#[test]
fn a_character_split_over_two_writes_arrives_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let statements = "for byte in 'aé€\u{1F600}z'.encode():\n    w(bytes([byte]))\n    time.sleep(0.2)";
    for seen in written(&mut client, statements) {
        assert_eq!(seen, "aé€\u{1F600}z");
    }
    let mut terminal = daemon.run("pty=1");
    let slow = "import os, time\nfor byte in 'é€\u{1F600}'.encode():\n    os.write(1, bytes([byte]))\n    time.sleep(0.2)";
    assert_eq!(terminal.run("1", python(slow)).stdout, "é€\u{1F600}");
}

/// D7: 180 kB of euro signs gave nothing in the original.
#[test]
fn many_multi_byte_characters_arrive_whole() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for seen in written(&mut client, "for n in range(10):\n    w('€'.encode() * 200_000 + b'.')") {
        assert_eq!(seen, format!("{}.", "€".repeat(200_000)).repeat(10));
    }
}

/// D7: Unicode, chapter 3.9, "U+FFFD Substitution of Maximal Subparts", as python and browsers do it.
#[test]
fn invalid_utf_8_becomes_replacement_characters_and_later_output_lives() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let cases = [
        (r"b'a\xffb'", "a\u{FFFD}b"),
        (r"b'\xc3('", "\u{FFFD}("),
        (r"b'\xe2\x82x'", "\u{FFFD}x"),
        (r"b'\xf0\x9f\x98'", "\u{FFFD}"),
        (r"b'\xed\xa0\x80'", "\u{FFFD}\u{FFFD}\u{FFFD}"),
        (r"b'\x80\x80'", "\u{FFFD}\u{FFFD}"),
        (r"b'\xc0\xaf'", "\u{FFFD}\u{FFFD}"),
    ];
    for (bytes, text) in cases {
        // At once, with a pause in the middle of it, and as the very last output.
        let statements = format!(
            "w({bytes} + b'|')\nfor b in {bytes}:\n    w(bytes([b])); time.sleep(0.05)\nw(b'|after\\n')\nw({bytes})"
        );
        for seen in written(&mut client, &statements) {
            assert_eq!(seen, format!("{text}|{text}|after\n{text}"), "{bytes}");
        }
    }
}

/// D7: every byte there is.
#[test]
fn binary_output_does_not_stop_anything() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for seen in written(&mut client, "w(bytes(range(256)) * 4096)\nw(b'after')") {
        assert!(seen.ends_with("after"));
        let ascii: String = seen.chars().filter(char::is_ascii).collect();
        let once: String = (0_u8..128).map(char::from).collect();
        assert_eq!(ascii, once.repeat(4096) + "after");
    }
}

/// Control characters, escapes and NUL are the terminal emulator's business.
#[test]
fn control_characters_pass() {
    let daemon = Daemon::start();
    let text = "\u{0}\u{1}\u{8}\t\u{1b}[31m\"\\/\u{7f}\u{85}\u{2028}\u{FEFF}\u{FFFF}";
    let literal = r#"'\x00\x01\x08\t\x1b[31m"\\/\x7f\x85\u2028\ufeff\uffff'"#;
    let finished = daemon.run_once(python(&format!("print({literal}, end='')")));
    assert_eq!(finished.stdout, text);
}

/// B6.8: `test_bad_code` of upstream reads exactly one message.
#[test]
fn a_traceback_is_one_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "def deep(n):\n    if n == 0:\n        return 1 / 0\n    return deep(n - 1) + 1\n\ndeep(30)\n";
    client.start("1", python(code));
    assert_eq!(client.wait_stopped("1"), 1);
    let messages = client.outputs("1", "stderr");
    assert_eq!(messages.len(), 1, "{messages:#?}");
    assert!(messages[0].starts_with("Traceback (most recent call last):\n"), "{}", messages[0]);
    assert!(messages[0].ends_with("ZeroDivisionError: division by zero\n"), "{}", messages[0]);
    assert_eq!(messages[0].matches("in deep\n").count(), 4, "{}", messages[0]);
    client.start("1", python("import nonsense_module"));
    assert_eq!(client.wait_stopped("1"), 1);
    assert_eq!(client.outputs("1", "stderr").len(), 1, "{:#?}", client.outputs("1", "stderr"));
}

/// B6.8: `test_upload_read_file` of upstream wants at least 796 characters in one message.
#[test]
fn a_small_file_is_one_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let text = numbered(40, |number| format!("line {number} of a small file\n"));
    std::fs::write(daemon.temp().join("small.txt"), &text).unwrap();
    client.start("1", python("print(open('small.txt').read())"));
    assert_eq!(client.wait_stopped("1"), 0);
    // The line end that `print` adds is a write of its own, and may be a message of its own.
    assert!(client.outputs("1", "stdout")[0].starts_with(&text), "{:#?}", client.outputs("1", "stdout"));
    assert_eq!(client.stdout("1"), text + "\n");
}

/// A program that talks on sends what it has said, without waiting for its end.
#[test]
fn output_does_not_wait_for_the_end_of_the_program() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", python("import sys\nwhile True:\n    sys.stdout.write(input() + '!')"));
        for word in ["one", "two", "three"] {
            client.stdin("1", &format!("{word}\n"));
            client.wait_stdout("1", &format!("{word}!"));
        }
    }
}

/// pipe(2): in packet mode a read gives one write, however many there are. None waits for the next one.
#[test]
fn a_pipe_in_packet_mode_is_read_to_its_end() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)\n\
                for n in range(1000):\n    os.write(1, b'o')\ninput()";
    client.start("1", python(code));
    client.wait_stdout("1", &"o".repeat(1000));
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 0);
}

/// A program may close its streams and live on.
#[test]
fn a_program_without_streams_is_still_waited_for() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "import os, sys\nprint('before')\nos.close(1); os.close(2)\ninput()\nos._exit(3)";
    client.start("1", python(code));
    client.wait_stdout("1", "before\n");
    client.take_output();
    client.expect_no_reply();
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 3);
}
