//! The examples of API.md and its machine-readable twin, asyncapi.json, against the daemon.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use further_link_api::Dialect;
use further_link_tests::{Client, Daemon, schema};
use serde_json::{Value, json};

/// The blocks of API.md that begin with `→`: an endpoint, then `> ` messages to it and `< ` answers.
fn examples() -> Vec<(String, Vec<String>)> {
    let page = include_str!("../../../api/API.md");
    let blocks = page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .filter_map(|block| {
            let mut lines = block.lines().map(str::to_owned);
            let place = lines.next()?.strip_prefix("→ ")?.to_owned();
            Some((place, lines.collect()))
        })
        .collect()
}

fn replay(daemon: &Daemon, place: &str, lines: &[String]) {
    let (path, query) = place.split_once('?').unwrap_or((place, ""));
    let (mut client, dialect): (Client, _) = match path {
        "/run" => (daemon.run(query), Dialect::Run),
        "/run-py" => (daemon.run_py(query), Dialect::RunPy),
        other => panic!("{other} is no endpoint"),
    };
    for line in lines {
        let message: Value = serde_json::from_str(&line[2..]).unwrap_or_else(|e| panic!("{line}: {e}"));
        match &line[..2] {
            "> " => {
                schema::incoming(dialect).check(&message).unwrap_or_else(|e| panic!("{line}: {e}"));
                client.send_text(&line[2..]);
            }
            "< " => {
                client.expect(line, |heard| *heard == message);
            }
            _ => panic!("neither > nor <: {line}"),
        }
    }
    client.expect_no_reply();
}

#[test]
fn the_examples_of_the_api_page_go_as_it_says() {
    let daemon = Daemon::start();
    let examples = examples();
    assert!(examples.len() >= 3, "API.md has no examples any more");
    for (place, lines) in examples {
        replay(&daemon, &place, &lines);
    }
}

/// What the description calls wrong is refused, and what it calls right is not.
#[test]
fn the_daemon_and_the_description_agree_on_what_a_message_is() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", json!({"runner": "exec", "code": "#!/bin/sh\nexec sleep 60"}));
    let start = |data: Value| json!({"type": "start", "process": "2", "data": data});
    let wrong = [
        json!({}),
        json!({"type": "nope"}),
        json!({"type": "start", "process": "2"}),
        start(json!({})),
        start(json!({"runner": "ruby"})),
        json!({"type": "start", "process": "", "data": {"runner": "shell"}}),
        json!({"type": "stdin", "process": "1", "data": {}}),
        json!({"type": "stdin", "process": "1", "data": {"input": 1}}),
        json!({"type": "resize", "process": "1", "data": {"rows": 1}}),
        json!({"type": "resize", "process": "1", "data": {"rows": "1", "cols": 2}}),
        json!({"type": "keyevent", "process": "1", "data": {"key": "a"}}),
        json!({"type": "stop"}),
        json!({"type": "upload", "process": "1", "data": {}}),
    ];
    for message in wrong {
        assert!(schema::incoming(Dialect::Run).check(&message).is_err(), "described as right: {message}");
        client.refuses(&[message.to_string()], "Bad message");
    }
    let right = [
        json!({"type": "ping", "more": 1}),
        json!({"type": "stdin", "process": "1", "data": {"input": ""}}),
        json!({"type": "resize", "process": "1", "data": {"rows": 24, "cols": 80}}),
        json!({"type": "keyevent", "process": "1", "data": {"key": " ", "event": "keyup"}}),
    ];
    for message in right {
        schema::incoming(Dialect::Run).check(&message).unwrap();
        client.send(&message);
    }
    client.expect("pong", |message| message["type"] == "pong");
    client.stop("1");
    client.wait_stopped("1");
}

/// Info, endpoints and query parameters: what is no message.
#[test]
fn the_description_is_of_this_version_and_its_endpoints_exist() {
    let document = schema::document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let daemon = Daemon::start();
    for channel in document["channels"].as_object().unwrap().values() {
        let path = channel["address"].as_str().unwrap();
        assert_eq!(daemon.http("GET", path).status, 400, "{path} wants an upgrade");
    }
}
