//! Settings that cannot be used, do nothing, or are empty: what an administrator hears of them.

use further_link_tests::Daemon;
use further_link_tests::programs::program;

#[test]
fn a_bad_variable_is_named_once_with_its_value_and_the_reason() {
    for (name, value, reason) in [
        ("FURTHER_LINK_CLIENT_TIMEOUT", "1", "1 is not in 6..=86400"),
        ("FURTHER_LINK_MAX_PROGRAMS", "many", "invalid digit found in string"),
        ("FURTHER_LINK_DEBUG", "maybe", "a switch is 1, true, yes or on"),
        ("FURTHER_LINK_ALLOW_ORIGINS", "*", "an origin is scheme, name and port"),
        ("FURTHER_LINK_ALLOW_HOSTS", "a:1", "a host is a name alone"),
    ] {
        let (code, said) = Daemon::builder().environment(name, value).fail();
        // EX_CONFIG: the unit does not start again after it.
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(&format!("further-link: {name}={value} cannot be used: ")), "{said}");
        assert!(said.contains(reason), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (code, said) = Daemon::builder().argument("--client-timeout=1").fail();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--client-timeout"), "{said}");
}

/// The person who starts the two processes as one hears of it then, and not from a client.
#[test]
fn a_bad_setting_of_the_helper_stops_the_start_and_is_named_as_it_was_given() {
    for (variable, value, reason) in [
        ("FURTHER_LINK_GRACE", "61", "not between 0 and 60 seconds"),
        ("FURTHER_LINK_GRACE", "long", "not a number of seconds"),
        ("FURTHER_LINK_ALLOW_USERS", "pi,0", "\"0\" is not a user name"),
        ("FURTHER_LINK_ALLOW_USERS", "pi,pi", "pi is named twice"),
        ("FURTHER_LINK_ALLOW_USERS", "pi,root:token", "name it with --user-token-file"),
    ] {
        let (code, said) = Daemon::builder().environment(variable, value).fail();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(&format!("{variable}={value} cannot be used: ")), "{said}");
        assert!(said.contains(reason), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (code, said) = Daemon::builder().environment("FURTHER_LINK_GRACE", "5").grace(61.0).fail();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("--grace \"61\" cannot be used: "), "{said}");
}

/// An account can be made later, so it is no reason not to start.
#[test]
fn an_allowed_user_without_an_account_is_named_at_the_start() {
    let daemon = Daemon::builder().environment("FURTHER_LINK_ALLOW_USERS", "pi,nosuchuser").start();
    let said = "FURTHER_LINK_ALLOW_USERS=pi,nosuchuser names nosuchuser, and this device has no such user";
    daemon.log().expect(said);
    daemon.run("").start("1", program("/bin/cat"));
}

#[test]
fn an_empty_variable_counts_as_not_given() {
    let daemon = Daemon::builder()
        .environment("FURTHER_LINK_GRACE", "")
        .environment("FURTHER_LINK_CLIENT_TIMEOUT", "")
        .environment("FURTHER_LINK_WORK_DIR", "")
        .environment("FURTHER_LINK_ALLOW_ORIGINS", "")
        .start();
    assert!(!daemon.log().text().contains("no setting"), "{}", daemon.log().text());
    daemon.run("").start("1", program("/bin/cat"));
}

#[test]
fn a_variable_that_is_no_setting_or_has_no_effect_is_named() {
    let daemon = Daemon::builder().environment("FURTHER_LINK_ALLOW_ORIGIN", "https://editor.example").start();
    let log = daemon.log().text();
    assert!(
        log.contains("FURTHER_LINK_ALLOW_ORIGIN is no setting, and has no effect; did you mean FURTHER_LINK_ALLOW_ORIGINS?"),
        "{log}"
    );
    let activated = Daemon::builder().argument("--port=9000").socket_activated().start();
    // It is started by the first connection.
    assert_eq!(activated.http("GET", "/status").status, 200);
    let log = activated.log().text();
    assert!(log.contains("--port has no effect: systemd passes the listening socket"), "{log}");
}
