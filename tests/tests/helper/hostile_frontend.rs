//! A frontend that was taken over, and what it says: messages that are none, and messages that should not be.
//!
//! ARCHITECTURE.md: "a stolen frontend may start programs as the users on the helper's allow-list and nothing
//! more", and a malformed message ends its own helper only (docs/threat-model.md). After each attack the
//! helper still serves, another run was not disturbed, and there is not one process, descriptor or file more
//! than before. `hostile_connections` has what it does instead of speaking.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail the test"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use further_link_proto::{
    CodecError, Condition, Event, FileMode, Files, FilesAct, MAX_MESSAGE, Part, Refusal, Request, Run, Step,
    Upload, UploadId, UserName, VERSION, Write, decode,
};
use further_link_tests::helper_only::fixture::traced;
use further_link_tests::helper_only::frontend::{
    MOST_DESCRIPTORS, as_user, below, bytes_of, exec, identity, on_terminal, run, with_text,
};
use further_link_tests::helper_only::{Fixture, Frontend, Heard, Rng};
use further_link_tests::scratch::set_mode;

/// Sets another number of random messages, for runs at night.
const COUNT_VARIABLE: &str = "FURTHER_LINK_TESTS_MESSAGES";

/// Requests of every form.
fn valid_requests() -> Vec<Request> {
    let runs = [
        run("shell"),
        as_user("pi", exec("/bin/true")),
        as_user("root", with_text("python3", 300)),
        as_user("root", on_terminal(traced(with_text("exec", 70_000)))),
        as_user("linkother", traced(run("shell"))),
        as_user("nobody", exec(&"x/".repeat(2047))),
    ];
    let upload = Upload {
        identity: identity("pi"),
        directory: below("project"),
        project_of: Some(below("ann")),
        keep: true,
    };
    let others = [Request::Stop { first: None }, Request::Upload(upload), Request::Commit];
    let link = Request::Link { path: below("a/b"), cached: below("etc/passwd") };
    let file = Request::File { path: below("a/b"), length: 100, mode: FileMode::default() };
    runs.into_iter().map(Request::Run).chain(others).chain([link, file]).chain(files_requests()).collect()
}

/// Everything that can be done with files.
fn files_requests() -> impl Iterator<Item = Request> {
    let upload = || UploadId::new("0123456789abcdef").expect("an id");
    let part = Some(Part { upload: upload(), offset: 0, total: 100 });
    let write = |part| Write { path: below("d/f"), parents: true, condition: Condition::Absent, part };
    let acts = [
        FilesAct::List { path: None },
        FilesAct::List { path: Some(below("d")) },
        FilesAct::Read { path: below("d/f") },
        FilesAct::Read { path: below("d") },
        FilesAct::Write(write(None)),
        FilesAct::Write(write(part)),
        FilesAct::Progress { upload: upload() },
        FilesAct::Rename { from: below("d"), to: below("d/e") },
        FilesAct::MakeDirectory { path: below("d") },
        FilesAct::Remove { path: below("d") },
    ];
    ["pi", "root"]
        .into_iter()
        .flat_map(move |user| acts.clone().map(|act| Request::Files(Files { identity: identity(user), act })))
}

/// Datagrams that are no request in the first place: they end the conversation without an answer.
fn malformed() -> Vec<Vec<u8>> {
    let head = [VERSION, 0];
    let mut all =
        vec![vec![], vec![VERSION], vec![VERSION, 2], vec![VERSION, 0xff], vec![VERSION; MAX_MESSAGE]];
    // Longer than any message: the kernel cuts it off, and says so.
    all.extend([MAX_MESSAGE + 1, 65_536, 200_000].map(|length| vec![VERSION; length]));
    for request in valid_requests() {
        let whole = bytes_of(&request);
        // Every truncation of a short one, some of a long one. The empty one stands above.
        let step = whole.len() / 40 + 1;
        all.extend((1..whole.len()).step_by(step).map(|end| whole[..end].to_vec()));
        all.push([whole.as_slice(), &[0]].concat());
        all.push([whole.as_slice(), &whole].concat());
        all.push([whole.as_slice(), &vec![0; MAX_MESSAGE + 1 - whole.len()]].concat());
    }
    // Lengths of strings far beyond the datagram, as each kind of number.
    for length in
        [&[200][..], &[251, 0xff, 0xff], &[252, 0xff, 0xff, 0xff, 0xff], &[253; 9], &[254; 17], &[255]]
    {
        all.push([&head, &[1][..], length, b"pi"].concat());
        all.push([&head, &[0, 0, 2, 1][..], length, b"/bin/true", &[0, 0]].concat());
    }
    for rest in [
        // An option that is neither, a runner that is none, UTF-8 that is none, a NUL and nothing as path.
        &[2][..],
        &[0, 0, 3, 0, 0, 0],
        &[1, 2, 0xc3, 0x28, 0, 2, 0, 0, 0],
        &[0, 0, 2, 1, 1, 0, 0, 0],
        &[0, 0, 2, 1, 0, 0, 0],
        // Program text of 4 MiB and one byte, of 4 GiB less one, of more than 4 GiB; a terminal of 65,536
        // rows.
        &[0, 0, 0, 0, 1, 252, 1, 0, 64, 0, 0],
        &[0, 0, 0, 0, 1, 252, 0xff, 0xff, 0xff, 0xff, 0],
        &[0, 0, 0, 0, 1, 253, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0, 0, 2, 0, 0, 1, 252, 0, 0, 1, 0, 1],
    ] {
        all.push([&head, rest].concat());
    }
    // What only the helper may say.
    for event in [Event::Data, Event::Started { pid: 1 }, Event::Failed { step: Step::Fork, errno: 1 }] {
        let bytes = further_link_proto::encode(&event).expect("an event");
        all.extend(decode::<Request>(&bytes).is_err().then_some(bytes));
    }
    all
}

/// PROTOCOL.md, "Order": "Anything else [...] ends the conversation".
#[test]
fn malformed_messages_end_their_own_conversation_and_nothing_else() {
    let mut fixture = Fixture::new();
    for bytes in malformed() {
        let frontend = fixture.helper.connect();
        frontend.send_bytes(&bytes).expect("the helper waits");
        frontend.expect_end();
    }
    fixture.assert_unharmed("malformed first messages");
    // The same where only `Stop` may come: the run ends as well. An empty datagram looks like a close
    // (unix(7)).
    for bytes in malformed().iter().step_by(9).chain(&[vec![], vec![VERSION + 1, 1]]) {
        let running = fixture.helper.connect().start(&exec("/usr/bin/cat"), &[]);
        running.frontend.send_bytes(bytes).expect("the helper waits");
        running.frontend.expect_end();
        assert!(!running.program.is_alive(), "{bytes:?}");
    }
    fixture.assert_unharmed("malformed messages during runs");
}

/// PROTOCOL.md: while content comes only `Commit` may follow. Anything else leaves no file and no part.
#[test]
fn malformed_messages_while_a_file_is_written_leave_nothing() {
    let mut fixture = Fixture::new();
    set_mode(&fixture.helper.scratch().work(), 0o777);
    let work = fixture.helper.scratch().work();
    let write = |name: &str| {
        let write = Write { path: below(name), parents: false, condition: Condition::Any, part: None };
        Request::Files(Files { identity: identity("pi"), act: FilesAct::Write(write) })
    };
    let mut said: Vec<_> = malformed().into_iter().step_by(9).collect();
    said.extend(valid_requests().iter().filter(|request| **request != Request::Commit).map(bytes_of));
    for bytes in said {
        let frontend = fixture.helper.connect();
        frontend.send(&write("f"));
        let mut content = frontend.expect_code();
        content.write_all(b"half").expect("the helper takes it");
        frontend.send_bytes(&bytes).expect("the helper waits");
        drop(content);
        frontend.expect_end();
        assert!(!work.join("f").exists(), "written after {bytes:02x?}");
    }
    let left: Vec<_> = std::fs::read_dir(work.join(".flparts")).expect("made").collect();
    assert!(left.is_empty(), "{left:?}");
    // And the right one is taken, once.
    let frontend = fixture.helper.connect();
    frontend.send(&write("f"));
    let mut content = frontend.expect_code();
    content.write_all(b"whole").expect("the helper takes it");
    drop(content);
    frontend.send(&Request::Commit);
    assert!(matches!(frontend.hear(), Heard::Event(Event::Written { .. }, _)));
    frontend.expect_end();
    assert_eq!(std::fs::read(work.join("f")).expect("written"), b"whole");
    std::fs::remove_file(work.join("f")).expect("there");
    std::fs::remove_dir_all(work.join(".flparts")).expect("there");
    set_mode(&work, 0o755);
    fixture.assert_unharmed("malformed messages during a write");
}

/// PROTOCOL.md, `Refused`: version 0 is said, so that a frontend of another version knows why.
#[test]
fn another_version_is_refused_whatever_follows_it() {
    let mut fixture = Fixture::new();
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        let mut bytes = bytes_of(&valid_requests()[usize::from(version) % 7]);
        bytes[0] = version;
        let frontend = fixture.helper.connect();
        frontend.send_bytes(&bytes).expect("the helper waits");
        frontend.expect_refused(Refusal::Version);
    }
    fixture.assert_unharmed("255 other versions");
}

/// How a conversation must go that begins with these bytes, told by the contract alone.
#[derive(Debug, PartialEq)]
enum Answer {
    End,
    Refused(Refusal),
    /// A permitted run or upload, of which the test wants nothing but that it ends when the frontend has
    /// gone.
    Permitted,
}

fn answer_to(bytes: &[u8]) -> Answer {
    match decode::<Request>(bytes) {
        _ if bytes.is_empty() || bytes.len() > MAX_MESSAGE => Answer::End,
        Err(CodecError::Version { .. }) => Answer::Refused(Refusal::Version),
        Ok(
            Request::Run(Run { identity, .. })
            | Request::Upload(Upload { identity, .. })
            | Request::Files(Files { identity, .. }),
        ) => match identity.user.as_ref().map(UserName::as_str) {
            None | Some("pi") => Answer::Permitted,
            Some(_) => Answer::Refused(Refusal::UserNotAllowed),
        },
        Err(_) | Ok(_) => Answer::End,
    }
}

#[track_caller]
fn check(frontend: &Frontend, bytes: &[u8], seed: u64) {
    let what = || format!("seed {seed}, sent {bytes:02x?}");
    match (answer_to(bytes), frontend.hear()) {
        (Answer::Permitted, Heard::Event(Event::Refused(why), _)) => panic!("refused, {why:?}: {}", what()),
        (Answer::Permitted, _) | (Answer::End, Heard::End) => {}
        (Answer::Refused(expected), Heard::Event(Event::Refused(why), _)) if why == expected => {}
        (expected, heard) => panic!("not {expected:?} but {heard:?}: {}", what()),
    }
}

/// One random thing that is wrong with a message that was right.
fn mutate(dice: &mut Rng, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() + 1).min(bytes.len().saturating_sub(1));
    match dice.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => bytes[at] = *dice.choose(&[0, 1, 2, 250, 251, 252, 253, 254, 255]),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, dice.byte()),
        4 if !bytes.is_empty() => drop(bytes.remove(at)),
        5 => bytes.extend_from_within(at..),
        6 => bytes.extend(vec![dice.byte(); 1 << dice.below(15)]),
        _ => bytes.splice(at..at, dice.clone().bytes(4)).for_each(drop),
    }
}

/// Against the live socket. Half of them are random bytes, half are valid ones gone wrong.
#[test]
fn tens_of_thousands_of_random_messages_do_no_harm() {
    /// Helpers at work at once: enough to keep the machine busy, few enough to wait for any of them.
    const AT_ONCE: usize = 32;
    let messages = std::env::var(COUNT_VARIABLE).map_or(20_000, |text| text.parse().expect("a number"));
    let mut fixture = Fixture::new();
    let mut dice = Rng::new(3);
    let valid: Vec<_> = valid_requests().iter().map(bytes_of).collect();
    let mut waiting: VecDeque<(Frontend, Vec<u8>)> = VecDeque::new();
    for number in 0..messages {
        let mut bytes = if dice.once_in(4) { Vec::new() } else { dice.choose(&valid).clone() };
        if bytes.is_empty() {
            let length = 1 + dice.below(1 << (1 + dice.clone().below(12)));
            bytes = dice.bytes(length);
            // Else nearly all would be told that their version is wrong, and no more.
            bytes[0] = VERSION;
        } else {
            (0..=dice.below(3)).for_each(|_| mutate(&mut dice, &mut bytes));
        }
        let frontend = fixture.helper.connect();
        frontend.send_bytes(&bytes).expect("the helper waits");
        waiting.push_back((frontend, bytes));
        if waiting.len() > AT_ONCE {
            let (frontend, bytes) = waiting.pop_front().expect("one");
            check(&frontend, &bytes, dice.seed);
        }
        if number % 1000 == 0 {
            fixture.bystander.assert_unharmed();
        }
    }
    waiting.drain(..).for_each(|(frontend, bytes)| check(&frontend, &bytes, dice.seed));
    fixture.assert_unharmed("random messages");
}

/// proto, `socket`: "the kernel drops what a hostile frontend attaches, and the mark it leaves ends the
/// conversation".
#[test]
fn descriptors_of_a_frontend_end_the_conversation_and_none_is_kept() {
    let mut fixture = Fixture::new();
    let requests = [
        Request::Run(exec("/usr/bin/cat")),
        Request::Run(as_user("root", exec("/bin/true"))),
        Request::Files(Files { identity: identity("pi"), act: FilesAct::List { path: None } }),
        Request::Stop { first: None },
    ];
    let mut datagrams: Vec<_> = requests.iter().map(bytes_of).collect();
    datagrams.extend([vec![VERSION, 9], vec![]]);
    for running in [false, true] {
        for bytes in &datagrams {
            for count in [1, 3, MOST_DESCRIPTORS] {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                let frontend = fixture.helper.connect();
                let mut streams = None;
                let frontend = if running {
                    let running = frontend.start(&exec("/usr/bin/cat"), &[]);
                    streams = Some((running.input, running.output, running.errors));
                    running.frontend
                } else {
                    frontend
                };
                frontend.send_with(bytes, &vec![writer.as_fd(); count]).expect("the helper waits");
                drop(writer);
                frontend.expect_end();
                drop(streams);
                // All copies of the writing end are closed, so this ends.
                assert_eq!(File::from(OwnedFd::from(reader)).read(&mut [0]).expect("a pipe"), 0);
            }
        }
    }
    fixture.assert_unharmed("descriptors");
    // The connection itself, sent through itself: only the kernel could ever close it (unix(7)).
    let frontend = fixture.helper.connect();
    frontend
        .send_with(&bytes_of(&Request::Stop { first: None }), &[frontend.0.as_fd(); 3])
        .expect("the helper waits");
    frontend.expect_end();
    fixture.assert_unharmed("its own socket");
}
