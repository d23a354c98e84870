//! The certificate that the daemon makes for its device, and what `further-link fingerprint` says about it.
//!
//! D4 (a key that all devices share), D17 (a key that others can read, and a planted one that is trusted).
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]
#![expect(clippy::disallowed_methods, reason = "it runs `further-link fingerprint`, and gives files away")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use further_link_tests::daemon::Builder;
use further_link_tests::programs::python;
use further_link_tests::scratch::{Scratch, directory_for, file_for, mode_of, set_mode};
use further_link_tests::stream::{Stream, Trust};
use further_link_tests::test_ca::Chain;
use further_link_tests::{DEADLINE, Daemon, accounts, binaries, http, wait_until};

/// `further-link fingerprint` with the folders of a daemon, as this user.
fn fingerprint(scratch: &Scratch, user: &str) -> Output {
    let binary = scratch.root().join("further-link-fingerprint");
    if !binary.exists() {
        binaries::copy(&binaries::frontend(), &binary);
    }
    Command::new("setpriv")
        .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
        .arg(binary)
        .arg("fingerprint")
        .arg("--extra-dir")
        .arg(scratch.extra())
        .arg("--state-dir")
        .arg(scratch.state())
        .output()
        .unwrap()
}

/// The value of one line of it.
#[track_caller]
fn value(output: &Output, name: &str) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    assert!(line.is_some(), "no {name}: {output:?}");
    line.unwrap().trim().to_owned()
}

/// The same value from openssl, which asks the running daemon.
fn seen_by_openssl(daemon: &Daemon) -> String {
    let shell = format!(
        "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256",
        daemon.address()
    );
    let line = accounts::run("/bin/sh", &["-c", &shell]);
    line.trim().split_once('=').unwrap().1.to_owned()
}

#[test]
fn it_is_made_at_the_first_start_and_belongs_to_the_frontend_alone() {
    let daemon = Daemon::builder().tls().start();
    assert_eq!(daemon.run_once(python("print('hi')")).stdout, "hi\n");
    let (state, service) = (daemon.scratch().state(), accounts::service());
    let names = ["key.pem", "cert.pem", "ca-key.pem", "ca.pem", "device"];
    let files = names.iter().map(|name| (state.join(name), 0o600));
    for (path, mode) in files.chain([(state.clone(), 0o700)]) {
        assert_eq!(mode_of(&path), mode, "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().uid(), service.uid, "{}", path.display());
    }
    assert_eq!(fs::read_dir(&state).unwrap().count(), names.len(), "nothing else is left there");
}

#[test]
fn it_names_the_device_and_its_addresses() {
    let daemon = Daemon::builder().tls().argument("--allow-host=pi7.school.example").start();
    let names = value(&fingerprint(daemon.scratch(), "root"), "names");
    let names: Vec<_> = names.split(", ").collect();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_lowercase();
    let mut expected = vec![host.clone(), format!("{host}.local"), "pi7.school.example".to_owned()];
    expected.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let addresses = accounts::run("/usr/bin/hostname", &["-I"]);
    expected.extend(addresses.split_whitespace().map(str::to_owned));
    for name in expected {
        assert!(names.contains(&name.as_str()), "{name} is not among {names:?}");
    }
}

/// What a person compared once stays true.
#[test]
fn it_is_kept_over_restarts_and_no_two_devices_share_a_key() {
    let first = Daemon::builder().tls().start();
    let seen = seen_by_openssl(&first);
    for _ in 0..2 {
        // Trusts what is in the file, which is the first one's.
        let again = Daemon::builder().tls_as(&first).start();
        assert_eq!(again.http("GET", "/status").body, "OK");
        assert_eq!(seen_by_openssl(&again), seen);
    }
    let other = Daemon::builder().tls().start();
    let key = |daemon: &Daemon| value(&fingerprint(daemon.scratch(), "root"), "public key");
    assert_ne!(key(&first), key(&other));
}

/// The line in the log, the command and what a browser is shown are the same.
#[test]
fn the_fingerprint_that_is_told_is_the_one_that_is_shown() {
    let daemon = Daemon::builder().tls().start();
    let seen = seen_by_openssl(&daemon);
    let printed = fingerprint(daemon.scratch(), "root");
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(value(&printed, "SHA-256"), seen);
    assert_eq!(value(&printed, "certificate"), daemon.certificate().display().to_string());
    assert!(daemon.log().text().contains(&format!("SHA-256 fingerprint {seen}")), "{}", daemon.log().text());
    // The files of an administrator go first, for the command as for the daemon.
    Chain::new().write(&daemon.scratch().extra(), 0o644);
    let shown = || (seen_by_openssl(&daemon), value(&fingerprint(daemon.scratch(), "root"), "SHA-256"));
    wait_until(2 * DEADLINE, "both tell of the new one", || {
        let (seen_now, printed) = shown();
        seen_now == printed && seen_now != seen
    });
}

#[test]
fn who_may_not_read_it_is_told_what_to_do() {
    let daemon = Daemon::builder().tls().start();
    let refused = fingerprint(daemon.scratch(), "pi");
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(1), &b""[..]));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("sudo further-link fingerprint"), "{text}");
    let nothing = fingerprint(&Scratch::new(), "pi");
    let text = String::from_utf8(nothing.stderr).unwrap();
    assert!(text.contains("there is no certificate") && text.contains("sudo further-link"), "{text}");
}

/// People who run it by themselves, without root.
#[test]
fn a_normal_user_keeps_it_below_the_home_directory() {
    let home = accounts::pi().home.join(".local/state");
    assert!(!home.join("further-link").exists(), "left by something else");
    let builder = Daemon::builder().bare().run_as("pi");
    let daemon = builder
        .environment("FURTHER_LINK_PORT", "0")
        .environment("FURTHER_LINK_ADDRESS", "127.0.0.1")
        .environment("FURTHER_LINK_EXTRA_DIR", "/nowhere")
        .start();
    assert_eq!(mode_of(&home.join("further-link")), 0o700);
    let trust = Trust::in_file(&home.join("further-link/cert.pem"));
    drop(Stream::connect(daemon.address(), Some(&trust)));
    drop(daemon);
    fs::remove_dir_all(home.join("further-link")).unwrap();
}

/// Starts with this state directory; what it says.
#[track_caller]
fn refused(make: impl FnOnce(&Path)) -> String {
    let builder = Daemon::builder().tls();
    make(&builder.scratch().state());
    let (code, log) = builder.fail();
    assert_eq!((code, log.matches("ERROR").count()), (1, 1), "{log}");
    log
}

/// D17: what lies there may have been seen, or made, by another user.
#[test]
fn a_key_that_others_can_read_or_could_have_put_there_is_not_used() {
    let service = accounts::service();
    let key = Chain::new().key;
    let log = refused(|state| {
        directory_for(&service, state, 0o700);
        file_for(&service, &state.join("key.pem"), &key, 0o644);
    });
    assert!(log.contains("key.pem: it has to belong to the account"), "{log}");
    let log = refused(|state| {
        directory_for(&service, state, 0o777);
        file_for(&service, &state.join("key.pem"), &key, 0o600);
    });
    assert!(log.contains("state: it has to belong to the account"), "{log}");
    let log = refused(|state| directory_for(&accounts::other(), state, 0o755));
    assert!(log.contains("state: it has to belong to the account"), "{log}");
    let log = refused(|state| {
        directory_for(&service, state, 0o700);
        file_for(&service, &state.join("key.pem"), "secret", 0o600);
    });
    assert!(log.contains("key.pem: there is no private key in it") && !log.contains("secret"), "{log}");
}

/// Root makes the directory, but not where another user could have prepared for it.
#[test]
fn root_makes_nothing_in_a_directory_that_others_can_write_to() {
    let log = refused(|state| {
        let parent = state.parent().unwrap();
        set_mode(parent, 0o777);
    });
    assert!(log.contains("state: it does not exist, and root makes it only"), "{log}");
}

/// A damaged certificate costs nothing: the key is what people have trusted.
#[test]
fn a_damaged_certificate_is_made_anew_from_the_same_key() {
    let first = Daemon::builder().tls().start();
    let before = fingerprint(first.scratch(), "root");
    for damage in ["", "nonsense", &Chain::new().certificates] {
        fs::write(first.scratch().state().join("cert.pem"), damage).unwrap();
        let again = Daemon::builder().tls_as(&first).start();
        assert_eq!(again.http("GET", "/status").body, "OK");
        let after = fingerprint(first.scratch(), "root");
        assert_ne!(value(&after, "SHA-256"), value(&before, "SHA-256"));
        assert_eq!(value(&after, "public key"), value(&before, "public key"));
    }
}

/// A name that was added is worth a new certificate, which the running one takes over.
#[test]
fn another_name_of_the_device_is_added_with_the_same_key() {
    let first = Daemon::builder().tls().start();
    let before = fingerprint(first.scratch(), "root");
    let again = Daemon::builder().tls_as(&first).argument("--allow-host=pi7.school.example").start();
    let after = fingerprint(again.scratch(), "root");
    assert!(!after.status.success(), "it has no files of its own");
    let after = fingerprint(first.scratch(), "root");
    assert!(value(&after, "names").contains("pi7.school.example"), "{after:?}");
    assert_eq!(value(&after, "public key"), value(&before, "public key"));
    let expected = value(&after, "SHA-256");
    wait_until(2 * DEADLINE, "the first one shows it, too", || seen_by_openssl(&first) == expected);
}

/// Neither the helper nor a program has the key, open or in its memory's files.
#[test]
fn no_other_process_has_the_key_open() {
    let daemon = Daemon::builder().tls().start();
    let mut client = daemon.run("");
    client.start_cat("1");
    for process in daemon.processes() {
        for target in further_link_tests::processes::descriptors(process.pid).values() {
            assert!(!target.contains(".pem"), "{process:?}: {target}");
        }
    }
    let code = format!(
        "try:\n open({:?})\n print('open')\nexcept PermissionError:\n print('refused')",
        daemon.scratch().state().join("key.pem")
    );
    assert_eq!(daemon.run_once(python(&code)).stdout, "refused\n");
}

/// Runs openssl in a shell with the daemon's state directory as the current one; whether it succeeds, and
/// what it says.
fn openssl(daemon: &Daemon, script: &str) -> (bool, String) {
    let script = format!("cd {} && {script}", daemon.scratch().state().display());
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What iOS, Android and browsers ask of an authority and of a server's certificate.
#[test]
fn the_authority_and_its_certificate_pass_strict_checks() {
    let daemon = Daemon::builder().tls().start();
    let verify =
        "openssl verify -x509_strict -purpose sslserver -CAfile ca.pem -verify_hostname localhost cert.pem";
    let (good, text) = openssl(&daemon, verify);
    assert!(good && text.contains("cert.pem: OK"), "{text}");
    let (_, text) = openssl(&daemon, "openssl x509 -in ca.pem -noout -text");
    for part in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "X509v3 Name Constraints: critical",
        "DNS:local\n",
        "CN = further-link on ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text) = openssl(&daemon, "openssl x509 -in cert.pem -noout -text");
    for part in ["CA:FALSE", "TLS Web Server Authentication", "Digital Signature", "Authority Key Identifier"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A stolen key of the authority is worth nothing for names outside of the device's networks.
#[test]
fn the_authority_cannot_vouch_for_foreign_names() {
    let daemon = Daemon::builder().tls().start();
    for (name, expected) in [
        ("DNS:evil.example", false),
        ("DNS:further.pi-top.com", false),
        ("IP:8.8.8.8", false),
        ("DNS:renamed.local", true),
        ("IP:192.168.1.7", true),
        ("IP:fd00::7", true),
    ] {
        let sign = format!(
            "openssl req -new -key key.pem -subj /CN=x -out x.csr && printf 'subjectAltName={name}\\n' > x.ext && \
             openssl x509 -req -in x.csr -CA ca.pem -CAkey ca-key.pem -set_serial 7 -days 9 -extfile x.ext -out x.pem && \
             openssl verify -purpose sslserver -CAfile ca.pem x.pem"
        );
        let (good, text) = openssl(&daemon, &sign);
        assert_eq!(good, expected, "{name}: {text}");
        assert!(expected || text.contains("permitted subtree violation"), "{name}: {text}");
    }
}

/// The certificate of an earlier version, signed with its own key: the key stays, and the authority signs it.
#[test]
fn a_certificate_that_was_signed_by_itself_is_signed_by_the_authority() {
    let first = Daemon::builder().tls().start();
    let key = fs::read(first.scratch().state().join("key.pem")).unwrap();
    let (good, text) = openssl(
        &first,
        "rm ca.pem ca-key.pem && openssl req -x509 -new -key key.pem -subj /CN=pi -days 9 -out cert.pem",
    );
    assert!(good, "{text}");
    let again = Daemon::builder().tls_as(&first).start();
    assert_eq!(again.http("GET", "/status").body, "OK");
    assert_eq!(fs::read(first.scratch().state().join("key.pem")).unwrap(), key);
    let (good, text) =
        openssl(&first, "openssl verify -x509_strict -purpose sslserver -CAfile ca.pem cert.pem");
    assert!(good, "{text}");
}

/// `GET /certificate`, its forms, and the fingerprint that people compare.
#[test]
fn the_authority_is_served_to_every_client_in_three_forms() {
    let daemon = Daemon::builder().tls().start();
    let pem = fs::read_to_string(daemon.scratch().state().join("ca.pem")).unwrap();
    for path in ["/certificate", "/certificate.pem"] {
        let answer = daemon.http("GET", path);
        assert_eq!((answer.status, answer.body.as_str()), (200, pem.as_str()), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/x-pem-file"), "{path}");
    }
    let url = format!("https://{}", daemon.address());
    for (request, kind) in [
        (format!("{url}/certificate.crt"), "application/x-x509-ca-cert"),
        (format!("-H 'Accept: application/x-x509-ca-cert' {url}/certificate"), "application/x-x509-ca-cert"),
    ] {
        let (good, text) = openssl(
            &daemon,
            &format!(
                "curl -sS --cacert ca.pem -D headers -o x.der {request} && cat headers && \
                 openssl x509 -inform DER -in x.der -noout -fingerprint -sha256"
            ),
        );
        assert!(good && text.contains(kind), "{request}: {text}");
        let expected = value(&fingerprint(daemon.scratch(), "root"), "authority SHA-256");
        assert!(text.contains(&format!("={expected}")), "{text}");
        assert!(daemon.log().text().contains(&expected), "{}", daemon.log().text());
    }
    let profile = daemon.http("GET", "/certificate.mobileconfig");
    assert_eq!(profile.header("content-type"), Some("application/x-apple-aspen-config"));
    let data: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(profile.body.contains(&format!("<data>{data}</data>")), "{}", profile.body);
}

/// There is nothing to install.
#[test]
fn without_an_authority_its_path_says_why() {
    let answer = Chain::new().serve().http("GET", "/certificate");
    assert!(answer.status == 404 && answer.body.contains("administrator"), "{}", answer.body);
    let answer = Daemon::start().http("GET", "/certificate");
    assert!(answer.status == 404 && answer.body.contains("plain http"), "{}", answer.body);
}

/// G10: the card of one Raspberry Pi, copied for a class.
#[test]
fn a_copy_of_another_device_makes_keys_of_its_own_and_says_so() {
    let first = Daemon::builder().tls().start();
    let original = first.scratch().state();
    let start_with = |edit: &str| {
        let builder = Daemon::builder().tls();
        let state = builder.scratch().state();
        let script = format!(
            "mkdir -p {0} && cp -a {1}/. {0}/ && cd {0} && {{ {edit}; }}",
            state.display(),
            original.display()
        );
        accounts::run("/bin/sh", &["-ec", &script]);
        (builder.start(), state)
    };
    let key = |state: &Path| fs::read(state.join("key.pem")).unwrap();
    for edit in
        ["sed -i 's/ .*/ another/' device", "sed -i '/serial/d; s/machine .*/machine another/' device"]
    {
        let (copy, state) = start_with(edit);
        assert!(copy.log().text().contains("this card or disk is a copy"), "{edit}: {}", copy.log().text());
        assert_ne!(key(&state), key(&original), "{edit}");
        assert_eq!(fs::read(state.join("key.pem.of-another-device")).unwrap(), key(&original), "{edit}");
        assert_eq!(
            fs::read(state.join("device")).unwrap(),
            fs::read(original.join("device")).unwrap(),
            "{edit}"
        );
        assert_eq!(copy.run_once(python("print('hi')")).stdout, "hi\n", "{edit}");
    }
    // The same device; and one from before there were marks.
    for edit in ["true", "rm device"] {
        let (same, state) = start_with(edit);
        assert!(!same.log().text().contains("is a copy"), "{edit}: {}", same.log().text());
        assert_eq!(key(&state), key(&original), "{edit}");
    }
}

/// F7: without a restart.
#[test]
fn a_new_host_name_counts_at_once_and_is_in_the_next_certificate() {
    let named_first = |builder: Builder| {
        let script = "hostname first && exec \"$@\"";
        builder.wrapped_in(&["unshare", "--uts", "--", "sh", "-c", script, "sh"]).start()
    };
    let rename = |daemon: &Daemon| {
        let pid = daemon.pid().to_string();
        accounts::run("/usr/bin/nsenter", &["--uts", "--target", &pid, "hostname", "second"]);
    };
    let plain = named_first(Daemon::builder());
    let asked = |host: &str| {
        let request = format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        http::exchange(plain.address(), request.as_bytes()).status
    };
    assert_eq!((asked("first.local"), asked("second.local")), (200, 421));
    rename(&plain);
    wait_until(DEADLINE, "the new name counts", || asked("second.local") == 200);
    let secure = named_first(Daemon::builder().tls());
    rename(&secure);
    let is_of_second = |line: &str| line.contains("made a certificate for") && line.contains("second.local");
    let log = secure.log();
    let renewed = log.wait_for(DEADLINE, |log| log.lines().any(is_of_second).then_some(()));
    assert!(renewed.is_some(), "{}", log.text());
}
