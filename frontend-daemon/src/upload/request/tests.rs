//! The table of B11.4 to B11.6, with D5, D10, D11 and D46, and what good bodies become.

use further_link_proto::FileMode;

use bytes::Bytes;
use futures_util::FutureExt;

use super::{Content, ErrorKind, MAX_FILES, ReadError, UploadRequest, UploadRequestError, read};
use crate::upload::json::Whole;

fn parse(body: &[u8]) -> Result<UploadRequest, UploadRequestError> {
    let request = read(Whole::new(Bytes::copy_from_slice(body)), Vec::new()).now_or_never();
    request.expect("it is there").map_err(|error| match error {
        ReadError::Request(wrong) => wrong,
        ReadError::Source(never) => match never {},
    })
}

fn parsed(body: &str) -> Result<UploadRequest, UploadRequestError> {
    parse(body.as_bytes())
}

#[track_caller]
fn kind(body: &[u8]) -> ErrorKind {
    parse(body).expect_err(&String::from_utf8_lossy(body)).kind
}

/// A body with this name and one file with this alias.
fn named(name: &str, alias: &str) -> String {
    serde_json::json!({"name": name, "files": {alias: {"type": "text", "content": {"text": "x"}}}})
        .to_string()
}

/// A body with one file, of this JSON.
fn with_file(file: &str) -> String {
    format!(r#"{{"name":"d","files":{{"f":{file}}}}}"#)
}

fn with_url(bucket: &str, file: &str) -> String {
    let content = serde_json::json!({"url": "http://x/", "bucketName": bucket, "fileName": file});
    with_file(&format!(r#"{{"type":"url","content":{content}}}"#))
}

#[test]
fn what_does_not_look_like_an_upload_is_of_the_wrong_shape() {
    for body in [
        "",
        " ",
        "nonsense",
        "{",
        r#"{"name":"d","files":{}"#,
        r#"{"name":"d","files":{}}}"#,
        "[]",
        "\"text\"",
        "{}",
        r#"{"name":"d"}"#,
        r#"{"files":{}}"#,
        r#"{"name":"d","files":null}"#,
        r#"{"name":"d","name":"e","files":{}}"#,
        r#"{"name":5,"files":{}}"#,
        r#"{"name":null,"files":{}}"#,
        r#"{"name":"d","files":{},"keep":1}"#,
        &with_file(r#"{"type":"text","content":{"text":"x"},"mode":"0755"}"#),
        &with_file(r#"{"type":"text","content":{"text":"x"},"mode":493}"#),
        &with_file(
            r#"{"type":"url","content":{"url":"u","bucketName":"b","fileName":"f"},"mode":"executable"}"#,
        ),
        &with_file("[]"),
        &with_file("\"x\""),
        &with_file("{}"),
        &with_file(r#"{"type":"text"}"#),
        &with_file(r#"{"content":{"text":"x"}}"#),
        &with_file(r#"{"type":"binary","content":{"text":"x"}}"#),
        &with_file(r#"{"type":5,"content":{"text":"x"}}"#),
        &with_file(r#"{"type":"text","content":"x"}"#),
        &with_file(r#"{"type":"url","content":[]}"#),
    ] {
        assert_eq!(kind(body.as_bytes()), ErrorKind::Shape, "{body}");
    }
}

#[test]
fn types_that_surprised_the_original_are_odd() {
    for body in [
        "null",
        "5",
        "true",
        r#"{"name":"d","files":[]}"#,
        r#"{"name":"d","files":"f"}"#,
        r#"{"name":"d","files":{},"username":5}"#,
        &with_file("null"),
        &with_file("5"),
        &with_file(r#"{"type":"text","content":{"text":5}}"#),
        &with_file(r#"{"type":"url","content":{"url":"u","bucketName":[],"fileName":"f"}}"#),
    ] {
        assert_eq!(kind(body.as_bytes()), ErrorKind::OddType, "{body}");
    }
    assert_eq!(kind(b"{\"name\":\"\xff\",\"files\":{}}"), ErrorKind::OddType);
}

#[test]
fn names_that_leave_their_root_or_mean_it_are_impossible() {
    let long = "n".repeat(256);
    let deep = ["d"; 33].join("/");
    for bad in [
        "",
        ".",
        "..",
        "/",
        "//",
        "x/..",
        "x/../",
        "./.",
        "../x",
        "../further-other",
        "a/../../b",
        "/etc",
        "/",
        "a\0b",
        &long,
        &deep,
    ] {
        assert_eq!(kind(named(bad, "f").as_bytes()), ErrorKind::Impossible, "name {bad:?}");
        assert_eq!(kind(named("d", bad).as_bytes()), ErrorKind::Impossible, "alias {bad:?}");
        assert_eq!(kind(with_url(bad, "f").as_bytes()), ErrorKind::Impossible, "bucket {bad:?}");
        assert_eq!(kind(with_url("b", bad).as_bytes()), ErrorKind::Impossible, "file {bad:?}");
    }
    for own in [".flcache", ".flcache/x", "./.flcache", "a/../.flcache/b/", ".flupload-1", ".flupload-1/x"] {
        assert_eq!(kind(named(own, "f").as_bytes()), ErrorKind::Impossible, "{own:?}");
    }
}

#[test]
fn names_are_taken_apart_as_realpath_would() {
    for (text, path) in [
        ("a", "a"),
        ("a/", "a"),
        ("./a//b/", "a/b"),
        ("a/../b", "b"),
        ("a/b/../../c", "c"),
        ("...", "..."),
        (" ", " "),
        ("ä/日本", "ä/日本"),
        ("x/.flcache", "x/.flcache"),
        ("project.cfg", "project.cfg"),
    ] {
        let body = named(text, "f");
        assert_eq!(parsed(&body).unwrap().directory.as_str(), path, "{text:?}");
        let body = named("d", text);
        let file = parsed(&body).map(|request| request.files[0].0.as_str().to_owned());
        if text.ends_with('/') {
            assert_eq!(file.unwrap_err().kind, ErrorKind::Impossible, "{text:?}");
        } else {
            assert_eq!(file.as_deref(), Ok(path), "{text:?}");
        }
    }
}

#[test]
fn missing_fields_and_unpaired_surrogates_are_impossible() {
    for body in [
        with_file(r#"{"type":"text","content":{}}"#),
        with_file(r#"{"type":"text","content":{"text":null}}"#),
        with_file(r#"{"type":"url","content":{"url":"u","bucketName":"b"}}"#),
        with_file(r#"{"type":"url","content":{"url":"u","fileName":"f"}}"#),
        with_file(r#"{"type":"url","content":{"bucketName":"b","fileName":"f"}}"#),
        with_file(r#"{"type":"text","content":{"text":"\ud800"}}"#),
        r#"{"name":"\udc00","files":{}}"#.to_owned(),
        r#"{"name":"d","files":{"\ud800":{"type":"text","content":{"text":""}}}}"#.to_owned(),
    ] {
        assert_eq!(kind(body.as_bytes()), ErrorKind::Impossible, "{body}");
    }
}

#[test]
fn a_project_belongs_to_the_username_up_to_the_at_sign_and_to_no_path() {
    let owner = |username: &str, alias: &str| {
        let body = named("d", alias).replacen('{', &format!("{{{username}"), 1);
        parse(body.as_bytes()).map(|request| request.project_of.map(|path| path.as_str().to_owned()))
    };
    for (username, expected) in [
        (r#""username":"ann@school.example","#, "ann"),
        (r#""username":"ann","#, "ann"),
        (r#""username":"","#, "unknown"),
        (r#""username":null,"#, "unknown"),
        ("", "unknown"),
    ] {
        assert_eq!(owner(username, "project.cfg").unwrap().as_deref(), Some(expected), "{username}");
        assert_eq!(owner(username, "./project.cfg").unwrap().as_deref(), Some(expected), "{username}");
        assert_eq!(owner(username, "sub/project.cfg").unwrap(), None, "{username}");
    }
    for bad in ["@x", "..", "../x", "/etc", "a/../../b", "a/../b", "a//b", "a\\u0000", "."] {
        let username = format!(r#""username":"{bad}","#);
        assert_eq!(owner(&username, "project.cfg").unwrap_err().kind, ErrorKind::Impossible, "{bad}");
        assert_eq!(owner(&username, "other.cfg").unwrap(), None, "{bad}");
    }
}

#[test]
fn texts_and_urls_come_out_as_they_were_written_and_the_last_of_two_wins() {
    let body = r#" {"more":[1,{"x":2}],"files":{"b":{"type":"text","content":{"text":"old"}},
        "u":{"content":{"fileName":"./f/g","bucketName":"k","url":"http://h/?q","n":0},"type":"url"},
        "b":{"type":"text","content":{"text":"a\n\u0000é"},"mode":"executable"}},"name":"d/e","keep":true} "#;
    let request = parsed(body).unwrap();
    assert_eq!((request.directory.as_str(), request.keep), ("d/e", true));
    let [(b, Content::Text { text, mode }), (u, Content::Url { url, bucket, file })] = &request.files[..]
    else {
        panic!("{request:?}")
    };
    assert_eq!((b.as_str(), request.text(text), u.as_str()), ("b", "a\n\0é".as_bytes(), "u"));
    assert_eq!(*mode, FileMode::Executable);
    assert_eq!((url.as_str(), bucket.as_str(), file.as_str()), ("http://h/?q", "k", "f/g"));
}

#[test]
fn nesting_without_end_and_files_without_number_are_refused() {
    let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
    assert_eq!(kind(deep.as_bytes()), ErrorKind::Shape);
    let brackets_in_text = named("d", &"[".repeat(200));
    assert!(parsed(&brackets_in_text).is_ok());
    let many = |count: usize| {
        let files: Vec<String> = (0..count)
            .map(|number| format!(r#""{number}":{{"type":"text","content":{{"text":""}}}}"#))
            .collect();
        format!(r#"{{"name":"d","files":{{{}}}}}"#, files.join(","))
    };
    assert_eq!(parsed(&many(MAX_FILES)).unwrap().files.len(), MAX_FILES);
    assert_eq!(kind(many(MAX_FILES + 1).as_bytes()), ErrorKind::TooLarge);
}

#[test]
fn a_reason_is_one_short_line_whatever_the_names_are() {
    for body in [named(&"../\n".repeat(5000), "f"), named("d", &"/\r\n".repeat(5000)), "{\n\n".to_owned()] {
        let why = parsed(&body).unwrap_err().why;
        assert!(why.len() < 500 && !why.contains(['\n', '\r']), "{why:?}");
    }
}

#[test]
fn what_is_wrong_first_counts_but_for_bytes_that_are_no_text() {
    // The name is impossible, and what follows is no JSON.
    assert_eq!(kind(br#"{"name":"..","files":{}"#), ErrorKind::Shape);
    assert_eq!(kind(b"nonsense \xff"), ErrorKind::OddType);
    assert_eq!(kind(b"{\"name\":\"..\",\"files\":{}} \xc3"), ErrorKind::OddType);
    assert_eq!(kind(br#"{"files":{"b":5,"a":{}},"name":".."}"#), ErrorKind::Impossible);
    assert_eq!(kind(br#"{"files":{"b":5,"a":{}},"name":"d"}"#), ErrorKind::Shape);
}

#[test]
fn null_is_as_good_as_nothing_and_fields_that_are_unknown_may_be_anything() {
    let file = r#"{"type":"text","mode":null,"x":[[]],"content":{"text":"t","url":1,"url":{},"y":{"z":0}}}"#;
    let body = format!(r#"{{"keep":null,"username":null,"u":{{}},"u":1,"name":"d","files":{{"f":{file}}}}}"#);
    let request = parsed(&body).unwrap();
    assert!(!request.keep);
    for twice in [
        r#"{"name":"d","files":{},"keep":null,"keep":null}"#,
        r#"{"name":"d","files":{},"\ud800":1}"#,
        &with_file(r#"{"type":"text","type":"text","content":{"text":"x"}}"#),
        &with_file(r#"{"type":"text","content":{"text":"x","text":"x"}}"#),
    ] {
        assert_eq!(kind(twice.as_bytes()), ErrorKind::Shape, "{twice}");
    }
}
