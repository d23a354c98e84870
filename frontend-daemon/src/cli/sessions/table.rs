//! The kept programs as a table for people.

use std::time::{SystemTime, UNIX_EPOCH};

use further_link_api::{KeptSession, KeptState};
use unicode_width::UnicodeWidthStr;

/// Characters of an id that are shown at the least.
const SHORT_ID: usize = 8;
/// Characters of a program that are shown at the most: those at its end say more.
const LONG_PROGRAM: usize = 40;
const HEAD: [&str; 8] = ["ID", "STARTED", "ACCOUNT", "PROGRAM", "STATE", "VIEWERS", "TIME LEFT", "EXIT CODE"];

/// The table.
pub(super) fn of(sessions: &[KeptSession]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    at(sessions, now.as_secs())
}

fn at(sessions: &[KeptSession], now: u64) -> String {
    if sessions.is_empty() {
        return "No program is kept.\n".to_owned();
    }
    let length = short_length(sessions);
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| row(session, length, now)));
    let width = |column: usize| rows.iter().map(|row| row.get(column).map_or(0, |cell| cell.width())).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.width()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(session: &KeptSession, length: usize, now: u64) -> [String; 8] {
    let runs = session.state == KeptState::Running;
    let none = || "-".to_owned();
    [
        session.session.chars().take(length).collect(),
        format!("{} ago", span(now.saturating_sub(session.started))),
        session.user.clone().unwrap_or_else(|| "(default)".to_owned()),
        program(session),
        if runs { "running" } else { "stopped" }.to_owned(),
        session.viewers.to_string(),
        // It does not run out while a client is there.
        if runs && session.viewers == 0 { span(session.seconds) } else { none() },
        session.exit_code.map_or_else(none, |code| code.to_string()),
    ]
}

/// Its kind, and its file: what a client has sent, without anything that a terminal would obey.
fn program(session: &KeptSession) -> String {
    let whole = [Some(session.runner.as_str()), session.path.as_deref()];
    let whole = whole.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let shown = |c: char| match c {
        '\'' | '"' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    let whole: Vec<char> = whole.chars().flat_map(|c| shown(c).chars().collect::<Vec<_>>()).collect();
    let left_out = whole.len().saturating_sub(LONG_PROGRAM);
    let cut = if left_out > 0 { "…" } else { "" };
    cut.chars().chain(whole.into_iter().skip(left_out)).collect()
}

/// How many characters of the ids tell them all apart.
fn short_length(sessions: &[KeptSession]) -> usize {
    let mut ids: Vec<&str> = sessions.iter().map(|session| session.session.as_str()).collect();
    ids.sort_unstable();
    let common = |one: &str, other: &str| one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let pairs = ids.windows(2).filter_map(|pair| Some(common(pair.first()?, pair.last()?) + 1));
    pairs.max().unwrap_or_default().max(SHORT_ID)
}

/// A time in words, with its two largest units.
fn span(seconds: u64) -> String {
    let (minute, hour, day) = (60, 60 * 60, 24 * 60 * 60);
    match seconds {
        s if s < minute => format!("{s} s"),
        s if s < hour => format!("{} min", s / minute),
        s if s < day => format!("{} h {} min", s / hour, s % hour / minute),
        s => format!("{} d {} h", s / day, s % day / hour),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, path: Option<&str>) -> KeptSession {
        KeptSession {
            session: id.to_owned(),
            started: 1000,
            runner: "python3".to_owned(),
            path: path.map(str::to_owned),
            user: None,
            state: KeptState::Running,
            viewers: 0,
            seconds: 3540,
            exit_code: None,
        }
    }

    #[test]
    fn a_table_has_what_a_teacher_wants_to_know() {
        let one = session("abcdefghijklmnopqrstuv", Some("hello/run.py"));
        let ended = KeptSession {
            state: KeptState::Stopped,
            user: Some("alice".to_owned()),
            viewers: 2,
            exit_code: Some(-15),
            ..session("abcdefghij9mnopqrstuvw", None)
        };
        assert_eq!(
            at(&[one, ended], 8530),
            "ID           STARTED        ACCOUNT    PROGRAM               STATE    VIEWERS  TIME LEFT  EXIT CODE\n\
             abcdefghijk  2 h 5 min ago  (default)  python3 hello/run.py  running  0        59 min     -\n\
             abcdefghij9  2 h 5 min ago  alice      python3               stopped  2        -          -15\n"
        );
        assert_eq!(at(&[], 0), "No program is kept.\n");
    }

    #[test]
    fn nothing_in_a_path_is_obeyed_by_the_terminal() {
        let path = "\x1b]0;x\x07é\n\u{202e}".repeat(9);
        let table = at(&[session("a", Some(&path))], 1000);
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(!table.replace('\n', "").contains(char::is_control), "{table:?}");
        assert!(!table.contains('\u{202e}') && table.contains('…'), "{table:?}");
    }

    #[test]
    fn times_are_said_in_two_units() {
        for (seconds, words) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7500, "2 h 5 min"), (100_000, "1 d 3 h")]
        {
            assert_eq!(span(seconds), words);
        }
    }
}
