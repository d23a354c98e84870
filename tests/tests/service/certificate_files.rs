//! The administrator's `cert.pem` and `key.pem`: taken when they change, named when they cannot be used.
//!
//! B1.2, D17. Open connections stay. Files that cannot be used at the start are named once, and the device's
//! own certificate is served meanwhile.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;

use further_link_tests::programs::python;
use further_link_tests::scratch::{directory_for, set_mode};
use further_link_tests::stream::{Stream, Trust};
use further_link_tests::test_ca::Chain;
use further_link_tests::{DEADLINE, Daemon, accounts};

/// Waits until the daemon shows another certificate than the one it was trusted by.
#[track_caller]
fn wait_for_the_new_one(daemon: &Daemon) {
    let trust = Trust::in_file(&daemon.certificate());
    let shows = || Stream::shake_hands(TcpStream::connect(daemon.address()).unwrap(), &trust).is_ok();
    further_link_tests::wait_until(2 * DEADLINE, "the new certificate is served", shows);
}

/// "reloaded when they change, without dropping connections"
#[test]
fn changed_files_are_served_and_open_connections_stay() {
    let mut daemon = Chain::new().serve();
    let mut client = daemon.run("");
    client.start("1", python("print(input())"));
    Chain::new().write(&daemon.scratch().extra(), 0o644);
    wait_for_the_new_one(&daemon);
    // Again, as certbot does it: by links to other files.
    let next = daemon.scratch().root().join("next");
    Chain::new().write(&next, 0o644);
    for name in ["cert.pem", "key.pem"] {
        let path = daemon.scratch().extra().join(name);
        fs::remove_file(&path).unwrap();
        symlink(next.join(name), &path).unwrap();
    }
    wait_for_the_new_one(&daemon);
    client.stdin("1", "still here\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "still here\n");
    daemon.trust_what_is_there();
    assert_eq!(daemon.run_once(python("print('new')")).stdout, "new\n");
}

/// A certificate that has been written, and its key not yet; and files that are gone, or nonsense.
#[test]
fn files_that_cannot_be_used_leave_the_old_ones_in_use_and_are_told_once() {
    let daemon = Chain::new().serve();
    let extra = daemon.scratch().extra();
    let (other, old_key) = (Chain::new(), fs::read(extra.join("key.pem")).unwrap());
    let told = "stays in use";
    let steps: [(&str, &[u8], &str); 3] = [
        ("cert.pem", other.certificates.as_bytes(), "key.pem: it is not the key of the first certificate in"),
        ("key.pem", b"nonsense", "key.pem: there is no private key in it"),
        ("key.pem", &old_key, "key.pem: it is not the key of the first certificate in"),
    ];
    for (number, (name, content, reason)) in steps.into_iter().enumerate() {
        fs::write(extra.join(name), content).unwrap();
        let found = daemon.log().wait_for(2 * DEADLINE, |log| {
            let lines: Vec<_> = log.lines().filter(|line| line.contains(told)).collect();
            (lines.len() > number).then(|| lines[number].to_owned())
        });
        let found = found.unwrap_or_else(|| panic!("{name}: {}", daemon.log().tail()));
        assert!(found.contains(reason), "{found}");
        // The trust is the one from before.
        assert_eq!(daemon.http("GET", "/status").body, "OK");
    }
    fs::write(extra.join("key.pem"), &other.key).unwrap();
    wait_for_the_new_one(&daemon);
    assert_eq!(daemon.log().text().matches(told).count(), 3, "{}", daemon.log().text());
}

/// What a daemon says that serves its own certificate, since the administrator's cannot be used.
#[track_caller]
fn served_meanwhile(daemon: &Daemon) -> String {
    let own = Trust::in_file(&daemon.scratch().state().join("cert.pem"));
    let tcp = TcpStream::connect(daemon.address()).unwrap();
    assert!(Stream::shake_hands(tcp, &own).is_ok(), "{}", daemon.log().text());
    let log = daemon.log().text();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    log
}

/// Bad or unreadable files: one clear message with file and reason, and the device's own certificate.
#[test]
fn each_bad_file_is_named_and_takes_no_service_down() {
    let (good, other) = (Chain::new(), Chain::new());
    let half = &good.certificates[..good.certificates.len() / 6];
    let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let huge = "#".repeat(300 * 1024);
    let cases: [(Option<&str>, Option<&str>, &str); 10] = [
        (Some(&good.certificates), None, "key.pem: it is missing, and there is"),
        (None, Some(&good.key), "cert.pem: it is missing, and there is"),
        (Some(""), Some(&good.key), "cert.pem: there is no certificate in it"),
        (Some(half), Some(&good.key), "cert.pem: it is not PEM, or damaged"),
        (Some(not_der), Some(&good.key), "cert.pem: its first certificate cannot be used"),
        (
            Some(&good.certificates),
            Some("secret"),
            "key.pem: there is no private key in it that needs no passphrase",
        ),
        (
            Some(&good.certificates),
            Some(&encrypted),
            "key.pem: there is no private key in it that needs no passphrase",
        ),
        (Some(&good.certificates), Some(not_key), "key.pem: its key cannot be used"),
        (
            Some(&good.certificates),
            Some(&other.key),
            "key.pem: it is not the key of the first certificate in",
        ),
        (Some(&huge), Some(&good.key), "cert.pem: it is longer than"),
    ];
    for (certificate, key, reason) in cases {
        let builder = Daemon::builder().tls();
        let extra = builder.scratch().extra();
        fs::create_dir(&extra).unwrap();
        for (name, content) in [("cert.pem", certificate), ("key.pem", key)] {
            if let Some(content) = content {
                fs::write(extra.join(name), content).unwrap();
            }
        }
        let daemon = builder.start_untrusted();
        let log = served_meanwhile(&daemon);
        assert!(log.contains(&format!("{}/{reason}", extra.display())), "{reason}: {log}");
        assert!(!log.contains("secret"), "{log}");
    }
}

/// A link that leads nowhere is not "no file", a FIFO is not waited for, and a directory is no file.
#[test]
fn files_of_other_kinds_are_named() {
    let kinds: [(&[&str], &str); 3] = [
        (&["ln", "-s", "/nowhere/at/all"], "No such file or directory"),
        (&["mkfifo"], "it is not a regular file"),
        (&["mkdir"], "it is not a regular file"),
    ];
    for (command, reason) in kinds {
        let builder = Daemon::builder().tls();
        let extra = builder.scratch().extra();
        fs::create_dir(&extra).unwrap();
        let path = extra.join("cert.pem").display().to_string();
        accounts::run("/usr/bin/env", &[command, &[path.as_str()]].concat());
        let daemon = builder.start_untrusted();
        let log = served_meanwhile(&daemon);
        assert!(log.contains(&format!("{path}: {reason}")), "{log}");
    }
}

/// Root's key serves a daemon that root starts, which gives root up afterwards; and no other daemon.
#[test]
fn a_key_that_root_alone_may_read_is_read_before_root_is_given_up() {
    let builder = Daemon::builder().tls();
    Chain::new().write(&builder.scratch().extra(), 0o600);
    let daemon = builder.start();
    assert_eq!(daemon.http("GET", "/status").body, "OK");
    // It cannot be read again, which is said when there is a reason to.
    Chain::new().write(&daemon.scratch().extra(), 0o600);
    let reason = format!("the account {} may not read it; the certificate", accounts::service().name);
    let told = daemon.log().wait_for(2 * DEADLINE, |log| log.contains(&reason).then_some(()));
    assert!(told.is_some(), "{}", daemon.log().tail());
    assert_eq!(daemon.http("GET", "/status").body, "OK");

    let builder = Daemon::builder().tls().run_as("pi");
    Chain::new().write(&builder.scratch().extra(), 0o600);
    directory_for(&accounts::pi(), &builder.scratch().state(), 0o700);
    let daemon = builder.start_untrusted();
    let log = served_meanwhile(&daemon);
    assert!(log.contains("key.pem: the account pi may not read it"), "{log}");
    let key = daemon.scratch().extra().join("key.pem").display().to_string();
    let repair = format!("sudo chgrp pi {key} && sudo chmod 640 {key}");
    assert!(log.contains(&repair), "{log}");
    // What the message says is what helps, within seconds.
    accounts::run("/bin/sh", &["-c", &repair.replace("sudo ", "")]);
    wait_for_the_new_one(&daemon);
}

/// A key that a stranger could have put there, or changed, is refused; one that others may read is named.
#[test]
fn owner_and_mode_of_the_key_are_looked_at() {
    for (command, reason) in [
        ("chown OTHER", "who may know the key"),
        ("chmod 666", "accounts other than its owner may write to it"),
    ] {
        let builder = Daemon::builder().tls();
        let extra = builder.scratch().extra();
        Chain::new().write(&extra, 0o600);
        let key = extra.join("key.pem").display().to_string();
        accounts::run(
            "/bin/sh",
            &["-c", &format!("{command} {key}").replace("OTHER", &accounts::other().uid.to_string())],
        );
        let log = served_meanwhile(&builder.start_untrusted());
        assert!(log.contains(&format!("{key}: ")) && log.contains(reason), "{log}");
    }
    let log = Chain::new().serve().log().text();
    assert!(log.contains("every account of this device may read this key"), "{log}");
}

/// A directory that only root may look into: read once, and said so.
#[test]
fn a_directory_that_the_account_cannot_watch_is_said() {
    let builder = Daemon::builder().tls();
    Chain::new().write(&builder.scratch().extra(), 0o600);
    set_mode(&builder.scratch().extra(), 0o700);
    let daemon = builder.start();
    daemon.log().expect("changes count from the next start");
}
