//! The examples of the specification, typed literally, with the answers it gives.
//!
//! The messages stand here as they stand in spec/further-link.md under "Example usage". The answers there
//! leave out `data` and `process` where they are null or empty, so both sides are compared without such keys.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use further_link_tests::{Client, Daemon};
use serde_json::Value;

/// Without keys that are null or the empty string, which the spec does not write.
fn trimmed(message: &Value) -> Value {
    let object = message.as_object().unwrap().iter();
    let kept = object.filter(|(_, value)| !value.is_null() && *value != "");
    Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[track_caller]
fn receives(client: &mut Client, text: &str) {
    let wanted: Value = serde_json::from_str(text).unwrap();
    client.expect(text, |message| trimmed(message) == wanted);
}

/// Spec, "Websocket Endpoint /run-py", "Example usage"
#[test]
fn the_run_py_example_gives_the_answers_of_the_spec() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    client.send_text(r#"{ "type": "start", "data": { "sourceScript": "print('hi')" } }"#);
    receives(&mut client, r#"{ "type": "started" }"#);
    receives(&mut client, r#"{ "type": "stdout", "data": { "output": "hi\n" } }"#);
    receives(&mut client, r#"{ "type": "stopped", "data": { "exitCode": 0 } }"#);
    client.expect_no_reply();
}

/// Spec, "Websocket Endpoint /run", "Example usage". Its `ls` prints `.` and `..`, which no `ls` does: the
/// file is what is compared.
#[test]
fn the_run_example_gives_the_answers_of_the_spec() {
    let daemon = Daemon::start();
    std::fs::write(daemon.temp().join("file.txt"), "").unwrap();
    let mut client = daemon.run("");
    client.send_text(
        r#"{ "type": "start", "process": "1", "data": { "runner": "python3", "code": "print('hi')" } }"#,
    );
    receives(&mut client, r#"{ "type": "started", "process": "1" }"#);
    client.send_text(r#"{ "type": "start", "process": "2", "data": { "runner": "shell" } }"#);
    receives(&mut client, r#"{ "type": "started", "process": "2" }"#);
    client.send_text(r#"{ "type": "stdin", "process": "2", "data": { "input": "ls\n" } }"#);
    receives(&mut client, r#"{ "type": "stdout", "process": "1", "data": { "output": "hi\n" } }"#);
    client.wait_stdout("2", "file.txt\n");
    receives(&mut client, r#"{ "type": "stopped", "process": "1", "data": { "exitCode": 0 } }"#);
}

/// Spec, /run, "Message and response details": the four forms of `start`, and `stdin`.
#[test]
fn the_start_forms_of_the_spec_run() {
    let daemon = Daemon::start();
    let home = further_link_tests::accounts::pi().home;
    let absolute = home.join("run.py");
    assert!(!absolute.exists(), "{} is in the way of this test", absolute.display());
    std::fs::write(&absolute, "print('absolute')").unwrap();
    let mut client = daemon.run("");
    let mut answers = Vec::new();
    let forms = [
        r#"{"runner": "python3", "code":"print('hi')"}"#.to_owned(),
        r#"{"runner": "python3", "code":"print('hi')", "path": "myproject"}"#.to_owned(),
        r#"{"runner": "python3", "path": "myproject/run.py"}"#.to_owned(),
        format!(r#"{{"runner": "python3", "path": "{}"}}"#, absolute.display()),
    ];
    for form in forms {
        answers.push(client.run("1", serde_json::from_str(&form).unwrap()).stdout);
        // The second form has made the directory.
        if answers.len() == 2 {
            std::fs::write(daemon.work().join("myproject/run.py"), "print('relative')").unwrap();
        }
    }
    std::fs::remove_file(absolute).unwrap();
    assert_eq!(answers, ["hi\n", "hi\n", "relative\n", "absolute\n"]);
    client.start("2", serde_json::json!({"runner": "python3", "code": "print(input())"}));
    let stdin = r#"{"type": "stdin", "process": "2", "data": { "input": "this can be read by python\n" }}"#;
    client.send_text(stdin);
    assert_eq!(client.wait_stopped("2"), 0);
    assert_eq!(client.stdout("2"), "this can be read by python\n");
}
