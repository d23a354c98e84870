//! Kept programs whose connections are cut again and again, at any moment and in any way: each byte of output
//! and each input arrives once, in its order.
//!
//! The cuts are the connection's end in both ways that TCP has (FIN, and RST where bytes are unread), after a
//! random number of messages, read or not.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use further_link_tests::client::ending;
use further_link_tests::helper_only::rng::Rng;
use further_link_tests::programs::{numbered, python};
use further_link_tests::session::Session;
use further_link_tests::{Client, DEADLINE, Daemon};
use serde_json::{Value, json};

const CLIENT: &str = "a client that comes and goes";
/// Cuts of one program.
const CUTS: usize = 50;

/// The numbered lines of a program, as far as a client has them.
struct Seen {
    session: Session,
    text: String,
    seq: u64,
}

impl Seen {
    fn start(daemon: &Daemon, query: &str, code: &str) -> Self {
        let mut client = daemon.run(query);
        client.hello(Some(CLIENT));
        let mut data = python(code);
        data["keep"] = json!({"seconds": 60, "full": "wait"});
        let session = Session::start(&mut client, "1", data);
        let mut seen = Self { session, text: String::new(), seq: 0 };
        seen.take(&client, "1");
        seen
    }

    /// Attaches on a new connection, where the output goes on.
    fn attach(&self, daemon: &Daemon) -> (Client, Value) {
        let mut client = daemon.run("");
        client.hello(Some(CLIENT));
        let attached = self.session.attach(&mut client, "2", &json!({"after": self.seq}));
        assert_eq!(attached["lost"], 0, "{attached}");
        (client, attached)
    }

    /// Takes what the client has seen.
    fn take(&mut self, client: &Client, id: &str) {
        for message in client.messages().filter(|message| message["process"] == *id) {
            if let (Some(output), Some(seq)) =
                (message["data"]["output"].as_str(), message["data"]["seq"].as_u64())
            {
                self.text.push_str(output);
                self.seq = seq;
                assert_eq!(self.seq, u64::try_from(self.text.len()).unwrap(), "the position of {output:.40}");
            }
        }
    }
}

/// Reads a random number of messages, and cuts the connection.
fn cut(mut client: Client, random: &mut Rng) -> Client {
    let target = client.messages().count() + random.below(3);
    client.read_until(2 * DEADLINE, "some messages", |client| {
        client.messages().count() >= target || client.messages().any(|message| message["type"] == "stopped")
    });
    client.cut();
    client
}

#[test]
fn every_byte_of_output_arrives_once_whatever_cuts_the_connection() {
    let daemon = Daemon::start();
    let mut random = Rng::new(13);
    // What a terminal says is drawn as well, which takes its time without optimisation.
    for (query, count) in [("", 1_000_000), ("pty=1", 500_000)] {
        let code = format!("for i in range({count}): print(i, 'ä€')");
        let mut seen = Seen::start(&daemon, query, &code);
        let mut cuts = 0;
        let stopped = loop {
            let (client, _) = seen.attach(&daemon);
            let client = if cuts < CUTS { cut(client, &mut random) } else { until_stopped(client) };
            seen.take(&client, "2");
            cuts += 1;
            if let Some(stopped) = client.messages().find(|message| message["type"] == "stopped") {
                break stopped.clone();
            }
        };
        assert_eq!(ending(&stopped), (0, "exited"));
        assert!(cuts > CUTS, "{query}: only {cuts} cuts");
        let end = if query.is_empty() { "\n" } else { "\r\n" };
        let expected = numbered(count, |i| format!("{i} ä€{end}"));
        assert!(seen.text == expected, "{query}: {} bytes instead of {}", seen.text.len(), expected.len());
    }
}

fn until_stopped(mut client: Client) -> Client {
    client.read_until(6 * DEADLINE, "the end", |client| {
        client.messages().any(|message| message["type"] == "stopped")
    });
    client
}

#[test]
fn every_input_is_taken_once_whatever_cuts_the_connection() {
    let daemon = Daemon::start();
    let mut random = Rng::new(14);
    let lines: usize = 2_000;
    let code = format!("for i in range({lines}): print(input())\nprint('end')");
    let mut seen = Seen::start(&daemon, "", &code);
    let mut cuts = 0;
    while !seen.text.ends_with("end\n") {
        let (mut client, attached) = seen.attach(&daemon);
        let taken = usize::try_from(attached["input"].as_u64().unwrap()).unwrap();
        // Some of it twice, as a client does that has not heard how far it came.
        let first = taken.saturating_sub(random.below(20)).max(1);
        let last = (taken + random.below(lines / CUTS * 2)).min(lines);
        for n in first..=last {
            let data = json!({"input": format!("line {n}\n"), "n": n});
            client.send(&json!({"type": "stdin", "process": "2", "data": data}));
        }
        let client = if taken == lines {
            client.read_until(DEADLINE, "the last line", |client| client.stdout("2").ends_with("end\n"));
            client
        } else {
            cut_at_once_or_later(client, &mut random)
        };
        seen.take(&client, "2");
        cuts += 1;
    }
    assert!(cuts > CUTS / 2, "only {cuts} cuts");
    let expected: String = (1..=lines).map(|n| format!("line {n}\n")).chain(["end\n".to_owned()]).collect();
    assert!(seen.text == expected, "{} bytes instead of {}", seen.text.len(), expected.len());
}

fn cut_at_once_or_later(mut client: Client, random: &mut Rng) -> Client {
    if random.below(2) == 0 {
        client.ping();
    }
    client.cut();
    client
}
