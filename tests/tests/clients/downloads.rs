//! Files of an upload that are downloaded, from a server of the test's own.
//!
//! B11.2, B11.9; D21, D22, D48. Limits of time and size are tested in the frontend
//! (`download/tests.rs`), since they take too long here.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use further_link_tests::accounts;
use further_link_tests::file_server::{FileServer, ok, redirect};
use further_link_tests::{DEADLINE, Daemon, http, wait_until};
use serde_json::{Value, json};

/// A daemon that may ask servers on this machine.
fn open_daemon() -> Daemon {
    Daemon::builder().argument("--allow-private-downloads").start()
}

fn url_file(url: &str) -> Value {
    json!({"type": "url", "content": {"url": url, "bucketName": "bucket", "fileName": "name.bin"}})
}

/// A body with one file `f` from this url.
fn from_url(name: &str, url: &str) -> Value {
    json!({"name": name, "files": {"f": url_file(url)}})
}

/// All files below the user's cache.
fn cached(daemon: &Daemon) -> Vec<PathBuf> {
    fn below(dir: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
    }
    below(&daemon.work().join(".flcache"))
}

/// The upload fails and says this; the directory that was there before stays, and the cache has nothing new.
#[track_caller]
fn assert_refused(daemon: &Daemon, body: &Value, reason: &str) {
    let before = cached(daemon);
    let old = json!({"name": "d", "files": {"old": {"type": "text", "content": {"text": "x"}}}});
    assert_eq!(daemon.upload("", &old).status, 200);
    let answer = daemon.upload("", body);
    assert_eq!((answer.status, answer.body.as_str()), (500, "500: Internal Server Error"), "{body}");
    let said = answer.header("further-link-error").unwrap();
    assert!(said.contains(reason), "{body}: {said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(fs::read_to_string(daemon.work().join("d/old")).unwrap(), "x", "{body}");
    assert_eq!(cached(daemon), before, "{body}");
    let staged = || fs::read_dir(daemon.work()).unwrap().flatten().filter(|e| e.file_name() != "d").count();
    wait_until(DEADLINE, "nothing staged is left", || {
        staged() <= usize::from(daemon.work().join(".flcache").exists())
    });
}

/// B11.9
#[test]
fn a_file_is_downloaded_once_and_linked_to() {
    let server = FileServer::start(|_| ok(&vec![7; 3_000_000]));
    let daemon = open_daemon();
    let mut body = from_url("d", &server.url("/a/b.bin?secret=1#part"));
    body["files"]["sub/text"] = json!({"type": "text", "content": {"text": "beside"}});
    for name in ["d", "e"] {
        body["name"] = json!(name);
        let answer = http::post(
            daemon.address(),
            "/upload",
            "Accept: application/json\r\n",
            body.to_string().as_bytes(),
        );
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer, json!({"success": true, "fetched_urls": true}));
        let link = fs::read_link(daemon.work().join(name).join("f")).unwrap();
        assert!(link.starts_with(daemon.work().join(".flcache/bucket")), "{}", link.display());
        assert!(link.ends_with("name.bin"), "{}", link.display());
        assert!(fs::read(daemon.work().join(name).join("f")).unwrap() == vec![7; 3_000_000]);
        let found = fs::metadata(&link).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (accounts::pi().uid, 0o644));
        assert_eq!(fs::read_to_string(daemon.work().join(name).join("sub/text")).unwrap(), "beside");
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let head = requests[0].to_ascii_lowercase();
    assert!(head.starts_with("get /a/b.bin?secret=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: further-link/"), "{head}");
    for header in ["cookie", "referer", "authorization", "proxy", "accept-encoding"] {
        assert!(!head.contains(&format!("\r\n{header}")), "{head}");
    }
    let log = daemon.log().tail();
    assert!(log.contains("downloaded 3000000 bytes from 127.0.0.1 in "), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

/// D22: the first writer of a bucket and file name does not decide what others get.
#[test]
fn the_same_place_in_the_cache_with_another_url_is_another_file() {
    let server = FileServer::start(|path| ok(path.as_bytes()));
    let daemon = open_daemon();
    for path in ["/evil", "/good", "/evil"] {
        assert_eq!(daemon.upload("", &from_url("d", &server.url(path))).status, 200);
        assert_eq!(fs::read_to_string(daemon.work().join("d/f")).unwrap(), path);
    }
    assert_eq!(cached(&daemon).len(), 2);
    assert_eq!(server.requests().len(), 2);
}

/// D22: and one that did not come whole is not there. The next try gets it.
#[test]
fn a_download_that_does_not_come_whole_changes_nothing() {
    let answers = |path: &str| match path {
        "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_vec(),
        "/cut" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this".to_vec(),
        "/nothing" => Vec::new(),
        "/404" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/206" => b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
        "/500" => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
        "/huge" => b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\nbody".to_vec(),
        _ => ok(b"whole"),
    };
    let server = FileServer::start(answers);
    let daemon = open_daemon();
    for (path, reason) in [
        ("/short?secret", "127.0.0.1"),
        ("/cut?secret", "127.0.0.1"),
        ("/nothing?secret", "127.0.0.1"),
        ("/404?secret", "404 Not Found"),
        ("/204?secret", "204"),
        ("/206?secret", "206"),
        ("/500?secret", "500"),
        ("/huge?secret", "larger than 268435456 bytes"),
    ] {
        // The answer goes by the path alone.
        let path = path.split('?').next().unwrap();
        assert_refused(&daemon, &from_url("d", &server.url(path)), reason);
    }
    // Behind a file that could be had, too.
    let mut body = from_url("d", &server.url("/whole"));
    body["files"]["g"] = url_file("http://127.0.0.1:1/");
    let answer = daemon.upload("", &body);
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(daemon.work().join("d/old").exists());
    assert_eq!(daemon.upload("", &from_url("d", &server.url("/whole"))).status, 200);
    assert_eq!(fs::read_to_string(daemon.work().join("d/f")).unwrap(), "whole");
}

#[test]
fn redirects_are_followed_five_times() {
    let server = FileServer::start(|path| match path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => ok(b"arrived"),
        Ok(left) => redirect(&format!("/{}", left - 1)),
        Err(_) => redirect(path),
    });
    let daemon = open_daemon();
    assert_eq!(daemon.upload("", &from_url("d", &server.url("/5"))).status, 200);
    assert_eq!(fs::read_to_string(daemon.work().join("d/f")).unwrap(), "arrived");
    for path in ["/6", "/round"] {
        let before = server.requests().len();
        assert_refused(&daemon, &from_url("d", &server.url(path)), "more than 5 redirects");
        assert_eq!(server.requests().len() - before, 6, "{path}");
    }
}

#[test]
fn a_redirect_to_what_is_no_web_page_is_refused() {
    let server = FileServer::start(|path| redirect(path.trim_start_matches('/')));
    let daemon = open_daemon();
    // The HTTP client gives up by itself where the target has no host.
    for (target, reason) in [
        ("file:///etc/passwd", "302 Found"),
        ("data:text/plain,x", "302 Found"),
        ("ftp://127.0.0.1/x", "only http and https"),
        ("unix://run/x", "only http and https"),
    ] {
        assert_refused(&daemon, &from_url("d", &server.url(&format!("/{target}"))), reason);
    }
}

/// D21: this device and its neighbours, however they are written, and nothing connects to them.
#[test]
fn private_addresses_are_refused_unless_configured() {
    let server = FileServer::start(|_| ok(b"internal"));
    let port = server.url("").rsplit(':').next().unwrap().to_owned();
    let daemon = Daemon::start();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "0",
        "2130706433",
        "0x7f000001",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "[fe80::1]",
        "user:secret@127.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/x?secret=1");
        assert_refused(&daemon, &from_url("d", &url), "is not out in the internet");
    }
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/", "javascript:1"] {
        assert_refused(&daemon, &from_url("d", url), "only http and https");
    }
    assert_refused(&daemon, &from_url("d", "nonsense"), "the url is not one");
    assert_eq!(server.requests(), [""; 0]);
}

/// A proxy would look names up by itself, and connect to whatever they mean.
#[test]
fn proxies_of_the_environment_are_not_used() {
    let proxy = FileServer::start(|_| ok(b"by the proxy"));
    let server = FileServer::start(|_| ok(b"direct"));
    let mut builder = Daemon::builder().argument("--allow-private-downloads");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        builder = builder.environment(name, &proxy.url(""));
    }
    let daemon = builder.start();
    assert_eq!(daemon.upload("", &from_url("d", &server.url("/"))).status, 200);
    assert_eq!(fs::read_to_string(daemon.work().join("d/f")).unwrap(), "direct");
    assert_eq!(proxy.requests(), [""; 0]);
}

/// B10.3 with B11.2
#[test]
fn run_py_downloads_as_well() {
    let server = FileServer::start(|_| ok(b"print('fetched')"));
    let daemon = open_daemon();
    let mut client = daemon.run_py("");
    let mut body = from_url("d", &server.url("/r.py"));
    body["files"]["r.py"] = body["files"]["f"].clone();
    client.send(&json!({"type": "upload", "data": {"directory": body}}));
    client.expect("uploaded", |message| message["type"] == "uploaded");
    let finished = client.run("", json!({"sourcePath": "d/r.py"}));
    assert_eq!(finished.stdout, "fetched\n");
    assert_eq!(server.requests().len(), 1, "two files of one url are one download");
}

/// The client's end is noticed while an upload waits for a server that says nothing.
#[test]
fn a_client_that_leaves_during_a_download_takes_its_programs_along() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/never", silent.local_addr().unwrap());
    let daemon = Daemon::builder().argument("--allow-private-downloads").start();
    let mut client = daemon.run_py("");
    client.send(
        &json!({"type": "start", "data": {"sourceScript": "import time; print('on'); time.sleep(600)"}}),
    );
    client.wait_stdout("", "on\n");
    let content = json!({"url": url, "bucketName": "b", "fileName": "f"});
    let directory = json!({"name": "d", "files": {"f": {"type": "url", "content": content}}});
    client.send(&json!({"type": "upload", "data": {"directory": directory}}));
    // The daemon has connected, and waits for an answer.
    let _asked = silent.accept().unwrap();
    client.send(&json!({"type": "ping"}));
    drop(client);
    wait_until(DEADLINE, "the program has ended", || {
        !daemon.processes().iter().any(|process| process.name.starts_with("python3"))
    });
}
