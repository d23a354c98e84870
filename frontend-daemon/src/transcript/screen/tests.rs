//! Snapshots of screens, and a screen that is fed with a snapshot.

use super::*;

/// The screen of a client that gets a snapshot.
fn restored(screen: &Screen) -> Screen {
    let (rows, columns) = screen.terminal.size;
    let mut copy = Screen::new(rows, columns);
    copy.feed("what was shown before\x1b[5;31m\x1b[?1049h\x1b[?7l\x1b]1;unfinished");
    copy.feed(&screen.snapshot());
    copy
}

/// A screen of 4 lines and 10 columns, and its copy by way of a snapshot, both fed with the rest.
fn both(text: &str, rest: &str) -> [Screen; 2] {
    let mut screen = Screen::new(4, 10);
    screen.feed(text);
    let mut copy = restored(&screen);
    screen.feed(rest);
    copy.feed(rest);
    [screen, copy]
}

fn look(screen: &Screen) -> (Vec<String>, (u16, u16), String) {
    (lines(screen), screen.terminal.screen().cursor_position(), screen.snapshot())
}

fn assert_same(text: &str, rest: &str) -> Screen {
    let [screen, copy] = both(text, rest);
    assert_eq!(look(&screen), look(&copy), "{text:?}, then {rest:?}");
    screen
}

/// The lines. Blanks at their ends cannot be seen.
fn lines(screen: &Screen) -> Vec<String> {
    screen.terminal.screen().rows(0, 10).map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn a_snapshot_restores_text_colours_and_the_cursor() {
    let screen = assert_same("\x1b[1;38;5;200mhello\x1b[44m\r\n世界\x1b[K\x1b[0;7m", "x");
    assert_eq!(lines(&screen)[..2], ["hello", "世界x"]);
    assert!(screen.snapshot().starts_with("\x1bc"));
}

#[test]
fn the_primary_screen_is_there_when_the_program_leaves_the_other() {
    let screen = assert_same("$ vim\r\n\x1b[?1049h\x1b[2;3Hedit", "\x1b[?1049lend");
    assert_eq!(lines(&screen)[..2], ["$ vim", "end"]);
}

#[test]
fn a_flood_of_lines_leaves_what_it_would_leave_in_small_pieces() {
    let lines = |text: &str| format!("{text}\r\n").repeat(20);
    let floods = [
        lines("y"),
        lines("longer than a line of the screen"),
        lines("世界 and e\u{301}"),
        lines("\tx\x08y"),
        lines(""),
        format!("{}0123456789", lines("y")),
        format!("no end{}{}", lines("y"), "x\n".repeat(7)),
        format!("{}{}", lines("y"), "a\r\n\n"),
        "stairs\n".repeat(20),
        lines("\x1b[3%c\x0eq\x0f"),
        lines("\x1b[41mq"),
        format!("\x0e{}\x0f", lines("q")),
    ];
    let befores = [
        "",
        "old\r\nold\r\nold\r\nold\x1b[H",
        "old\r\nold\x1b[2;3r",
        "\x1b[31;44mold",
        "\x1b[?1049hold",
        "\x1b[?7l",
        "\x1b[4h",
        "\x1b[20h",
        "\x1b)0\x1b7",
        "0123456789",
        "\x1b[2",
        "\x1b]0;title",
        "\x1b[2;3r\x1b[?6h",
        "\x1b[2J",
    ];
    for before in befores {
        for flood in &floods {
            for after in ["", "\u{301}x", "\x1b[2bx", "\x1b8x", "\r\nx\nx"] {
                let [mut at_once, mut in_pieces] = [(); 2].map(|()| Screen::new(4, 10));
                at_once.feed(before);
                at_once.feed(flood);
                at_once.feed(after);
                for c in before.chars().chain(flood.chars()).chain(after.chars()) {
                    in_pieces.feed(c.encode_utf8(&mut [0; 4]));
                }
                assert_eq!(look(&at_once), look(&in_pieces), "{before:?}, {flood:?}, {after:?}");
            }
        }
    }
}

#[test]
fn a_full_line_waits_for_its_next_character() {
    let screen = assert_same("0123456789", "x");
    assert_eq!(lines(&screen)[..2], ["0123456789", "x"]);
    let screen = assert_same("0123456789\x1b[7m", "\rx");
    assert_eq!(lines(&screen)[..2], ["x123456789", ""]);
    let screen = assert_same("0123456789", "\x08x");
    assert_eq!(lines(&screen)[..2], ["01234567x9", ""]);
}

#[test]
fn an_accent_joins_the_letter_before_the_snapshot() {
    assert_eq!(lines(&assert_same("e", "\u{301}"))[0], "e\u{301}");
}

#[test]
fn a_sequence_that_has_begun_ends_after_the_snapshot() {
    for (begun, rest) in
        [("\x1b", "[31mx"), ("\x1b[3", "1mx"), ("\x1b]0;ti", "tle\x07x"), ("\x1bP1", "q\x1b\\x")]
    {
        let screen = assert_same(begun, rest);
        assert_eq!(lines(&screen)[0], "x", "{begun:?}");
    }
    let endless = format!("\x1b]52;c;{}", "A".repeat(100_000));
    let screen = assert_same(&endless, "AA\x07x");
    assert_eq!(lines(&screen)[0], "x");
}

#[test]
fn modes_margins_and_character_sets_are_restored() {
    let text =
        "\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002;1006h\x1b[?1004h\x1b[4 q\x1b[2;3r\x1b(0lqk\x1b]2;a title\x07";
    let screen = assert_same(text, "x\r\n\n\n\n\x1b[Aq");
    let snapshot = screen.snapshot();
    for each in ["?1h", "?66h", "?2004h", "?1002h", "?1006h", "?1004h", "4 q", "2;3r", "\x1b(0", "2;a title"]
    {
        assert!(snapshot.contains(each), "{each}");
    }
    let screen = assert_same("\x1b(0lqk\x1b(B", "");
    assert_eq!(lines(&screen)[0], "┌─┐");
    let screen = assert_same("012345678q\x1b(0", "q");
    assert_eq!(lines(&screen)[..2], ["012345678q", "─"]);
}

#[test]
fn a_character_from_before_the_sets_stays_with_its_accent() {
    for chosen in ["\x1b(0", "\x1b)0\x0e"] {
        let screen = assert_same(&format!("i{chosen}\u{35b}"), "q");
        assert_eq!(lines(&screen)[0], "i\u{35b}─", "{chosen:?}");
        let screen = assert_same(&format!("012345678q{chosen}\u{35b}"), "q");
        assert_eq!(lines(&screen)[..2], ["012345678q\u{35b}", "─"], "{chosen:?}");
    }
}

#[test]
fn attributes_beside_each_other_stay_apart() {
    let screen = assert_same("\x1b[1mb\x1b[22;2md\x1b[22;1mb", "");
    let cell = |column| screen.terminal.screen().cell(0, column).map(|cell| (cell.bold(), cell.dim()));
    assert_eq!([0, 1, 2].map(cell), [(true, false), (false, true), (true, false)].map(Some));
    assert!(screen.snapshot().contains("b\x1b[0;2md"));
}

#[test]
fn letters_fill_the_screen_but_not_again_at_once() {
    let mut screen = assert_same("\x1b[2;3Hx\x1b#8", "");
    assert_eq!(lines(&screen), ["EEEEEEEEEE"; 4]);
    assert_eq!(screen.terminal.screen().cursor_position(), (0, 0));
    let mut large = Screen::new(100, 100);
    large.feed("\x1b#8a\x1b#8b");
    assert_eq!(large.terminal.screen().contents(), "b");
    screen.feed("\x1b[2J");
    assert_eq!(lines(&screen), [""; 4]);
}

#[test]
fn a_reset_leaves_the_title_and_what_a_line_feed_does() {
    let modes = "\x1b[?1h\x1b[2;3r\x1b[?6h\x1b[4h\x1b(0\x1b[31m\x1b[2;2H\x1b7";
    let screen = assert_same(&format!("\x1b[20h\x1b]2;t\x07{modes}x\x1b[?1049h{modes}x\x1bc"), "q\x1b8\nx");
    let plain = assert_same("\x1b[20h\x1b]2;t\x07", "q\x1b8\nx");
    assert_eq!(look(&screen), look(&plain));
    let entered = assert_same(&format!("{modes}x\x1b[?1049h{modes}x\x1bc\x1b[?47h\x1b8"), "y");
    assert_eq!(lines(&entered), ["y", "", "", ""]);
}

#[test]
fn nothing_that_was_erased_stays_erased_after_more_has_come() {
    for more in ["x", "\x1b#8", "\x1b[?47hx\x1b[?47l\x1b[2Hx", "\x1b[41m\x1b[K\x1b[m", "\x1b[41m\x1b[L\x1b[m"]
    {
        let screen = assert_same(&format!("\x1b[2J{more}\x1b[2J"), "");
        assert_eq!(lines(&screen), [""; 4], "{more:?}");
        let red = |row| screen.terminal.screen().cell(row, 5).map(vt100::Cell::bgcolor);
        assert!((0..4).all(|row| red(row) == Some(vt100::Color::Default)), "{more:?}");
    }
}

#[test]
fn a_wide_character_without_a_place_leaves_a_blank() {
    assert_eq!(lines(&assert_same("\x1b[9Gab\x1b[10G界", ""))[..2], ["        a", "界"]);
    assert_eq!(lines(&assert_same("\x1b[9G世\x1b[10G界", ""))[..2], ["", "界"]);
    assert_eq!(lines(&assert_same("世\x1b[D\x1b[@", ""))[0], "");
}

#[test]
fn a_cursor_waits_through_the_other_screen() {
    let screen = assert_same("0123456789\x1b[?1047h", "x");
    assert_eq!(lines(&screen)[1], "x");
    let screen = assert_same("0123456789\x1b[?1047h\x1b[?1047l", "x");
    assert_eq!(lines(&screen)[..2], ["0123456789", "x"]);
    let screen = assert_same("0123456789\x1b[2K", "");
    assert_eq!(screen.terminal.screen().cursor_position(), (0, 10));
}

#[test]
fn a_cursor_stops_at_lines_that_scroll_from_either_side() {
    let place = |moves: &str| {
        let screen = assert_same(&format!("\x1b[2;3r{moves}"), "");
        screen.terminal.screen().cursor_position()
    };
    assert_eq!(place("\x1b[9B"), (2, 0));
    assert_eq!(place("\x1b[4H\x1b[9A"), (1, 0));
    assert_eq!(place("\x1b[4H\x1b[9B\x1b[9C"), (3, 9));
    assert_eq!(place("\x1b[9e"), (3, 0));
}

#[test]
fn what_is_repeated_is_inserted_line_by_line_with_its_accents() {
    let one_by_one = assert_same(&format!("bcd\x1b[3G\x1b[4h{}", "x".repeat(16)), "y");
    let at_once = assert_same("bcd\x1b[3G\x1b[4hx\x1b[10bxxxxx", "y");
    assert_eq!(lines(&one_by_one), lines(&at_once));
    assert_eq!(lines(&assert_same("e\u{301}\x1b[2b", ""))[0], "e\u{301}".repeat(3));
}

#[test]
fn what_is_no_text_shows_as_the_replacement_character() {
    let screen = assert_same("a\u{fffd}b\x7f", "c");
    assert!(screen.snapshot().contains("a\u{fffd}b"));
}

#[test]
fn saved_cursors_are_restored_on_both_screens() {
    let screen = assert_same("ab\x1b[31m\x1b7\x1b[?1049h\x1b[3;4H\x1b7\x1b[H", "\x1b8x\x1b[?47l\x1b8y");
    assert_eq!(lines(&screen)[..3], ["aby", "", ""]);
}

#[test]
fn the_first_line_stays_first_above_lines_that_scroll() {
    let screen = assert_same("a\r\nb\r\nc\x1b[2;3r\x1b[H\x1bM", "");
    assert_eq!(lines(&screen)[..3], ["a", "b", "c"]);
}

#[test]
fn attributes_are_saved_on_each_screen_for_itself() {
    let text = "\x1b[1;31m\x1b[?1049h\x1b[0;44m\x1b7";
    let screen = assert_same(text, "\x1b[m\x1b8x\x1b[?1049ly");
    let cell = screen.terminal.screen().cell(0, 0).map(|cell| (cell.bold(), cell.fgcolor(), cell.bgcolor()));
    assert_eq!(cell, Some((true, vt100::Color::Idx(1), vt100::Color::Default)));
}

#[test]
fn an_emoji_keeps_its_selector() {
    let mut screen = Screen::new(4, 10);
    screen.feed("\u{2764}\u{fe0f} \u{2764}\u{fe0f}");
    let snapshot = screen.snapshot();
    assert_eq!(snapshot.matches("\u{2764}\u{fe0f}").count(), 2, "none is printed twice");
    assert!(!snapshot.contains('\u{fe0d}'));
}

#[test]
fn insert_and_origin_mode_and_no_autowrap_go_on() {
    assert_eq!(lines(&assert_same("bc\x1b[H\x1b[4h", "a"))[0], "abc");
    assert_eq!(lines(&assert_same("bc\x1b[H\x1b[4ha\x1b[2b", ""))[0], "aaabc");
    assert_eq!(lines(&assert_same("bcd\x1b[H\x1b[4ha\x1b[9b", ""))[..2], ["aaaaaaaaaa", ""]);
    assert_eq!(lines(&assert_same("\x1b[?7l", "0123456789xyz"))[0], "012345678z");
    assert_eq!(lines(&assert_same("\x1b[2;3r\x1b[?6h", "\x1b[2;2Hx"))[2], " x");
}

#[test]
fn lines_that_scroll_in_have_the_background_in_force() {
    for (scroll, lines) in
        [("\x1b[4H\n", 1), ("\x1b[H\x1bM", 1), ("\x1b[L", 1), ("\x1b[M", 1), ("\x1b[S", 1), ("\x1b[T", 0)]
    {
        let screen = assert_same(&format!("\x1b[41m{scroll}"), "");
        let coloured = |row| screen.terminal.screen().cell(row, 5).map(vt100::Cell::bgcolor);
        let red = (0..4).filter(|row| coloured(*row) == Some(vt100::Color::Idx(1))).count();
        assert_eq!(red, lines, "{scroll:?}");
    }
}

#[test]
fn a_line_that_goes_on_below_the_last_has_its_background() {
    for (text, start) in [("0123456789xyz", 3), ("世世世世世世", 2), ("\x1b[2;3r\x1b[3H0123456789x", 1)]
    {
        let screen = assert_same(&format!("\x1b[41m\x1b[4H{text}"), "");
        let row = screen.terminal.screen().cursor_position().0;
        let coloured = |column| screen.terminal.screen().cell(row, column).map(vt100::Cell::bgcolor);
        assert!((start..10).all(|column| coloured(column) == Some(vt100::Color::Idx(1))), "{text}");
    }
}

#[test]
fn a_snapshot_asks_for_nothing() {
    let queries = "\x1b[c\x1b[>c\x1b[6n\x1b[?6n\x1b[?1$p\x1b]11;?\x07\x1bP$qm\x1b\\\x1b[18t\x1bZ\u{9b}c\x05x";
    let mut screen = Screen::new(4, 10);
    screen.feed(queries);
    let mut plain = Screen::new(4, 10);
    plain.feed("x");
    assert_eq!(screen.snapshot(), plain.snapshot());
}

#[test]
fn a_piece_may_end_anywhere() {
    let text = "a\x1b[1;3\n1mb\x1b]0;t\x07\x1b(0q\x1b7\x1b[?1049hx\u{9b}2Jé\x1bM\x1b[?7lö";
    let mut whole = Screen::new(4, 10);
    whole.feed(text);
    let mut pieces = Screen::new(4, 10);
    for c in text.chars() {
        pieces.feed(c.encode_utf8(&mut [0; 4]));
    }
    assert_eq!(look(&whole), look(&pieces));
}

#[test]
fn no_size_is_too_small_or_too_large() {
    for (rows, columns) in [(0, 0), (1, 1), (u16::MAX, u16::MAX), (u16::MAX, 1), (1, u16::MAX)] {
        let mut screen = Screen::new(rows, columns);
        screen.feed("世界\x1b[?1049h\x1b[9999;9999Hxyz\n");
        screen.resize(columns, rows);
        screen.feed("世\x1b[99999b\x1b[T\x1b[?1049l\x1b8z");
        let (rows, columns) = screen.terminal.size;
        assert!(usize::from(rows) * usize::from(columns) <= usize::from(MOST_CELLS));
        assert!(screen.snapshot().len() < 1000);
    }
}
