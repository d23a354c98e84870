//! `POST /upload` with text files, and the `upload` message of `/run-py`, against what clients of the
//! original see.
//!
//! B11, B10.3, B1.6, B1.7. Downloads are in `downloads.rs`,
//! what can go wrong with a body in `upload_bodies.rs`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use further_link_tests::accounts::{self, Account};
use further_link_tests::http::{self, Response};
use further_link_tests::processes::Status;
use further_link_tests::programs::{BAD, EXCEPTION};
use further_link_tests::{DEADLINE, Daemon, scratch, wait_until};
use serde_json::{Map, Value, json};

/// A body with text files.
fn texts(name: &str, files: &[(&str, &str)]) -> Value {
    let files: Map<String, Value> = files
        .iter()
        .map(|(alias, text)| ((*alias).to_owned(), json!({"type": "text", "content": {"text": text}})))
        .collect();
    json!({"name": name, "files": files})
}

#[track_caller]
fn assert_stored(answer: &Response) {
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

/// All names below, directories with a slash, in order.
fn tree(dir: &Path) -> Vec<String> {
    names(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type()?.is_dir() {
            let below = match names(&entry.path()) {
                // The daemon has removed it since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                below => below?,
            };
            found.extend(below.into_iter().map(|below| format!("{name}/{below}")));
            found.push(format!("{name}/"));
        } else {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

#[track_caller]
fn assert_belongs(path: &Path, owner: &Account, mode: u32) {
    let found = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let shown = (found.uid(), found.gid(), found.mode() & 0o7777);
    assert_eq!(shown, (owner.uid, owner.gid, mode), "{}", path.display());
}

/// As `sudo` leaves it in a project. Each upload is a process of its own, and tries again.
#[test]
fn what_cannot_be_removed_is_told_of_once_and_removed_when_it_can_be() {
    let daemon = Daemon::start();
    assert_stored(&daemon.upload("", &texts("d", &[("f", "1")])));
    let of_root = daemon.work().join("d/of_root");
    fs::create_dir(&of_root).unwrap();
    fs::write(of_root.join("file"), "").unwrap();
    let left = || tree(&daemon.work()).into_iter().find(|name| name.ends_with("/of_root/file"));
    let is_told = |log: &str| log.matches("cannot remove .flupload-").count();
    assert_stored(&daemon.upload("", &texts("d", &[("f", "2")])));
    let told = daemon.log().wait_for(DEADLINE, |log| (is_told(log) > 0).then_some(()));
    assert!(told.is_some(), "{}", daemon.log().tail());
    for text in ["3", "4"] {
        assert_stored(&daemon.upload("", &texts("d", &[("f", text)])));
    }
    let left = left().expect("pi cannot remove it");
    let of_root = daemon.work().join(left.trim_end_matches("/file"));
    fs::remove_file(of_root.join("file")).unwrap();
    assert_stored(&daemon.upload("", &texts("d", &[("f", "5")])));
    wait_until(DEADLINE, "it is removed", || tree(&daemon.work()) == ["d/", "d/f"]);
    assert_eq!(is_told(&daemon.log().text()), 1, "{}", daemon.log().text());
}

/// B11.3, B11.8, B11.11, D47
#[test]
fn files_and_directories_belong_to_the_user_with_the_usual_modes() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother"]).start();
    let files = [("run.py", "print('hi')\n"), ("sub/deeper/ä b.txt", "Grüße\u{0}\u{1f600}"), ("empty", "")];
    for (query, owner, name) in
        [("", accounts::pi(), "of pi"), ("user=linkother", accounts::other(), "of/another")]
    {
        assert_stored(&daemon.upload(query, &texts(name, &files)));
        let dir = daemon.work().join(name);
        assert_eq!(tree(&dir), ["empty", "run.py", "sub/", "sub/deeper/", "sub/deeper/ä b.txt"]);
        for (alias, text) in files {
            assert_eq!(fs::read_to_string(dir.join(alias)).unwrap(), text, "{alias}");
            assert_belongs(&dir.join(alias), &owner, 0o644);
        }
        for directory in ["", "sub", "sub/deeper"] {
            assert_belongs(&dir.join(directory), &owner, 0o755);
        }
    }
    assert_belongs(&daemon.work().join("of"), &accounts::other(), 0o755);
}

/// B7.3, B11.8: without a work dir for all it is the user's own.
#[test]
fn the_default_work_dir_is_in_the_home_of_the_user() {
    let daemon = Daemon::builder().default_folders().allow_users(&["linkother"]).start();
    let name = format!("fl-e2e-{}", std::process::id());
    assert_stored(&daemon.upload("", &texts(&name, &[("f", "x")])));
    let dir = accounts::other().home.join("further").join(name);
    assert_belongs(&dir.join("f"), &accounts::other(), 0o644);
    fs::remove_dir_all(dir).unwrap();
}

/// B11.10, D11: as a whole, and nothing beside it.
#[test]
fn a_repeated_upload_replaces_the_directory_and_nothing_else() {
    let daemon = Daemon::start();
    assert_stored(&daemon.upload("", &texts("beside", &[("kept", "1")])));
    assert_stored(&daemon.upload("", &texts("d", &[("old", "1"), ("sub/old", "1"), ("both", "1")])));
    assert_stored(&daemon.upload("", &texts("./x/../d/", &[("both", "2"), ("sub", "now a file")])));
    assert_soon_is(&daemon, &["beside/", "beside/kept", "d/", "d/both", "d/sub"]);
    assert_eq!(fs::read_to_string(daemon.work().join("d/both")).unwrap(), "2");
    assert_stored(&daemon.upload("", &texts("d", &[])));
    assert_soon_is(&daemon, &["beside/", "beside/kept", "d/"]);
}

/// The old directory is removed behind the answer.
#[track_caller]
fn assert_soon_is(daemon: &Daemon, names: &[&str]) {
    wait_until(DEADLINE, &format!("{names:?} and nothing else"), || tree(&daemon.work()) == names);
}

/// HEAD's answer (B11.3), for clients that ask for it.
#[test]
fn a_client_that_asks_for_json_gets_json() {
    let daemon = Daemon::start();
    let ask = |body: &Value| {
        let accept = "Accept: text/html, application/json;q=0.9\r\n";
        let answer = http::post(daemon.address(), "/upload", accept, body.to_string().as_bytes());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, body)
    };
    let success = json!({"success": true, "fetched_urls": true});
    assert_eq!(ask(&texts("d", &[("f", "x")])), (200, success));
    let (status, answer) = ask(&texts("../d", &[]));
    assert_eq!((status, &answer["success"]), (500, &json!(false)));
    assert!(answer["error"].as_str().unwrap().contains("leaves the directory"), "{answer}");
    let (status, answer) = ask(&json!({"name": "d"}));
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("`files`"), "{answer}");
}

/// B11.1, B1.6, B1.7, B1.10
#[test]
fn any_content_type_is_taken_and_no_other_method() {
    let daemon = Daemon::start();
    let body = texts("d", &[("f", "x")]).to_string();
    for kind in ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "??"] {
        let extra = format!("Content-Type: {kind}\r\n");
        assert_stored(&http::post(daemon.address(), "/upload?x=1", &extra, body.as_bytes()));
    }
    for method in ["GET", "PUT", "DELETE", "HEAD", "PATCH"] {
        let answer = daemon.http(method, "/upload");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST,OPTIONS")), "{method}");
    }
    assert_eq!(daemon.http("POST", "/upload/").status, 404);
    assert_eq!(daemon.http("POST", "/upload/x").status, 404);
}

/// D2: a page that is not listed can neither write nor read.
#[test]
fn a_page_that_is_not_listed_stores_nothing_and_a_listed_one_may_read_the_reason() {
    let daemon = Daemon::start();
    let post = |origin: &str, name: &str| {
        let body = texts(name, &[("f", "x")]).to_string();
        http::post(daemon.address(), "/upload", &format!("Origin: {origin}\r\n"), body.as_bytes())
    };
    assert_eq!(post("https://evil.example", "d").status, 403);
    assert_eq!(tree(&daemon.work()), [""; 0]);
    let answer = post("https://further.pi-top.com", "..");
    assert_eq!(answer.status, 500);
    assert!(answer.header("access-control-expose-headers").unwrap().contains("further-link-error"));
}

/// B11.5, and not 22's default user (B11.10), which is D8's mistake.
#[test]
fn an_unknown_or_unlisted_or_impossible_user_gets_an_error_and_nothing_is_stored() {
    let daemon = Daemon::builder().allow_users(&["pi"]).start();
    for (query, reason) in [
        ("user=nobody-of-this-name", "may not"),
        ("user=linkother", "may not"),
        ("user=root", "may not"),
        ("user=", "not a user name"),
        ("user=0", "not a user name"),
        ("user=..%2Fpi", "not a user name"),
    ] {
        let answer = daemon.upload(query, &texts("d", &[("f", "x")]));
        assert_eq!((answer.status, answer.body.as_str()), (500, "500: Internal Server Error"), "{query}");
        let said = answer.header("further-link-error").unwrap();
        assert!(said.contains(reason), "{query}: {said}");
    }
    assert_eq!(tree(&daemon.work()), [""; 0]);
}

#[test]
fn what_was_uploaded_can_be_run() {
    let daemon = Daemon::start();
    let files = [
        ("main.py", "import helper\nprint(helper.WORD, open('data.txt').read())\n"),
        ("helper.py", "WORD = 'hello'\n"),
        ("data.txt", "world"),
        ("script", "#!/bin/sh\ncat data.txt\n"),
    ];
    assert_stored(&daemon.upload("", &texts("my project", &files)));
    let mut client = daemon.run_py("");
    let finished = client.run("", json!({"sourcePath": "my project/main.py"}));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (0, "hello world\n"), "{finished:?}");
    let finished = daemon.run_once(json!({"runner": "exec", "path": "my project/script"}));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (0, "world"), "{finished:?}");
}

/// B11.12; D5: a directory outside stays as it is, whatever the name says.
#[test]
fn a_project_is_copied_to_the_projects_of_its_person_and_nowhere_else() {
    let daemon = Daemon::start();
    let projects = accounts::pi().home.join("Desktop/Projects/Further");
    let person = format!("fl-e2e-{}", std::process::id());
    let mut body = texts("d/e", &[("project.cfg", "x"), ("sub/f", "y")]);
    body["username"] = json!(format!("{person}@school.example"));
    for _ in 0..2 {
        assert_stored(&daemon.upload("", &body));
    }
    let copy = projects.join(&person).join("d/e");
    assert_eq!(tree(&copy), ["project.cfg", "sub/", "sub/f"]);
    assert_belongs(&copy.join("sub/f"), &accounts::pi(), 0o644);
    fs::remove_dir_all(projects.join(&person)).unwrap();

    let outside = daemon.scratch().root().join("outside");
    scratch::directory_for(&accounts::pi(), &outside, 0o755);
    scratch::file_for(&accounts::pi(), &outside.join("kept"), "x", 0o644);
    let absolute = outside.to_str().unwrap();
    for username in
        ["../x", "/etc", absolute, "a/../../b", "..", ".", "@x", &format!("../../../../..{absolute}")]
    {
        body["username"] = json!(username);
        let answer = daemon.upload("", &body);
        assert_eq!(answer.status, 500, "{username}: {answer:?}");
        assert!(answer.header("further-link-error").unwrap().contains("username"), "{username}");
    }
    assert_eq!(tree(&outside), ["kept"]);
}

/// systemd's helper for uploads is another one than that for programs.
#[test]
fn uploads_go_to_their_own_helper_if_there_is_one() {
    let daemon = Daemon::builder().argument("--files-socket=/nonexistent/files.sock").start();
    let answer = daemon.upload("", &texts("d", &[]));
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.header("further-link-error"),
        Some("the helper service does not answer; see the log of further-link")
    );
    assert_eq!(daemon.run_once(json!({"runner": "python3", "code": "print(1)"})).stdout, "1\n");
}

/// B10.3
#[test]
fn run_py_takes_uploads_for_the_user_of_the_connection() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother"]).start();
    for (query, owner) in [("", accounts::pi()), ("user=linkother", accounts::other())] {
        let mut client = daemon.run_py(query);
        client.send(
            &json!({"type": "upload", "data": {"directory": texts(&owner.name, &[("r.py", "print(1)")])}}),
        );
        let uploaded = client.expect("uploaded", |message| message["type"] == "uploaded");
        assert_eq!(uploaded, json!({"type": "uploaded", "data": null, "process": ""}));
        assert_belongs(&daemon.work().join(&owner.name).join("r.py"), &owner, 0o644);
        let finished = client.run("", json!({"sourcePath": format!("{}/r.py", owner.name)}));
        assert_eq!(finished.stdout, "1\n", "{query}");
    }
}

/// B10.3: shape, failure and odd types; the connection lives.
#[test]
fn a_wrong_upload_on_run_py_gets_the_texts_of_the_original() {
    let daemon = Daemon::builder().allow_users(&["pi"]).start();
    let mut client = daemon.run_py("");
    let file = |file: Value| json!({"name": "d", "files": {"f": file}});
    for (directory, text) in [
        (json!({}), BAD),
        (json!([]), BAD),
        (json!("name files"), BAD),
        (json!({"name": "d"}), BAD),
        (file(json!({"type": "text"})), BAD),
        (file(json!({"type": "nope", "content": {}})), BAD),
        (json!(null), EXCEPTION),
        (json!(5), EXCEPTION),
        (json!({"name": "d", "files": []}), EXCEPTION),
        (json!({"name": 5, "files": {}}), BAD),
        (texts("../d", &[]), "Bad upload"),
        (texts("", &[]), "Bad upload"),
        (texts("d", &[("a", ""), ("a/b", "")]), "Bad upload"),
        (file(json!({"type": "text", "content": {}})), "Bad upload"),
        (
            file(
                json!({"type": "url", "content": {"url": "file:///etc/passwd", "bucketName": "b", "fileName": "f"}}),
            ),
            "Bad upload",
        ),
    ] {
        client.send(&json!({"type": "upload", "data": {"directory": directory}}));
        let error = client.expect("error", |message| message["type"] == "error");
        assert_eq!(error["data"]["message"], text, "{directory}");
    }
    client.send(&json!({"type": "upload"}));
    let error = client.expect("error", |message| message["type"] == "error");
    assert_eq!(error["data"]["message"], BAD);
    assert_eq!(tree(&daemon.work()), [""; 0]);
    let mut barred = daemon.run_py("user=linkother");
    barred.send(&json!({"type": "upload", "data": {"directory": texts("d", &[])}}));
    let error = barred.expect("error", |message| message["type"] == "error");
    assert_eq!(error["data"]["message"], "Bad upload");
}

/// A name of megabytes is refused before anything is made of it: what is made would be ten times as large.
#[test]
fn an_endless_name_costs_no_memory() {
    let daemon = Daemon::start();
    let peak_kib = || Status::of(daemon.pid()).numbers("VmHWM")[0];
    let before = peak_kib();
    let body = json!({"name": "a/".repeat(10_000_000), "files": {}}).to_string();
    let answer = http::post(daemon.address(), "/upload", "", body.as_bytes());
    assert_eq!(answer.status, 500);
    let grown = (peak_kib() - before) / 1024;
    assert!(grown < 60, "{grown} MiB for a body of 20");
}

/// An uploaded helper program is executable where the body says so or its first line does, and what a program
/// has made stays if the client asks for it.
#[test]
fn executables_have_their_bit_and_files_that_a_program_made_are_kept_on_demand() {
    let daemon = Daemon::start();
    let file = |text: &str| json!({"type": "text", "content": {"text": text}});
    let mut tool = file("echo tool");
    tool["mode"] = json!("executable");
    let files = json!({"tool": tool, "script": file("#!/bin/sh\necho script\n"), "text": file("1")});
    assert_stored(&daemon.upload("", &json!({"name": "d", "files": files})));
    let dir = daemon.work().join("d");
    for (name, mode) in [("tool", 0o755), ("script", 0o755), ("text", 0o644)] {
        assert_belongs(&dir.join(name), &accounts::pi(), mode);
    }
    let made = "open('d/made.txt', 'w').write('by a program')\n";
    let data = json!({"runner": "python3", "code": made, "path": daemon.work()});
    assert_eq!(daemon.run_once(data).exit_code, 0);
    assert_stored(&daemon.upload("", &json!({"name": "d", "keep": true, "files": {"text": file("2")}})));
    assert_eq!(tree(&dir), ["made.txt", "script", "text", "tool"]);
    assert_eq!(fs::read_to_string(dir.join("text")).unwrap(), "2");
    assert_belongs(&dir.join("tool"), &accounts::pi(), 0o755);
    assert_stored(&daemon.upload("", &json!({"name": "d", "files": {"text": file("3")}})));
    assert_eq!(tree(&dir), ["text"]);
    let wrong = json!({"name": "d", "files": {"a/": file("x")}});
    assert_eq!(daemon.upload("", &wrong).status, 500, "a file name that ends with a slash");
}
