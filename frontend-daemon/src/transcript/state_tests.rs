//! The rules of a transcript, without a client and without waiting.

use further_link_api::{KeptMessage, Mode, OutputStream, ProcessId, Received, ServerMessage, WhenFull};
use further_link_proto::WindowSize;

use crate::{
    memory::budget::Budget,
    transcript::state::{Arrival, Limits, Opening, SessionKeys, State, Step},
    transcript::viewer::ViewerId,
};

const SIZE: WindowSize = WindowSize { rows: 5, cols: 20 };
const OTHER_SIZE: WindowSize = WindowSize { rows: 6, cols: 30 };
const TEXT: usize = 256 * 1024;

fn state(when_full: WhenFull, terminal: Option<WindowSize>) -> State {
    let limits =
        Limits { text: TEXT, viewers: 8, text_of_all: Budget::new(2 * TEXT), pictures: Budget::new(TEXT) };
    let keys = SessionKeys { session: "s".to_owned(), key: "k".to_owned(), view_key: "v".to_owned() };
    let mut state = State::new(limits, when_full, keys, terminal);
    state.opening = Opening::Started;
    // The client that has started it was told.
    state.keys = None;
    state
}

/// A viewer from the beginning; the first one that may use the program has the keyboard.
fn viewer(state: &mut State, mode: Mode) -> ViewerId {
    let id = state.viewers.add(mode, None, (state.log.newest(), state.log.end()));
    let arrival = Arrival { mode, after: None, size: None, is_owner: false };
    state.welcome(id, &arrival);
    id
}

/// The program says so much, if it need not wait.
fn say(state: &mut State, length: usize) -> bool {
    state.grow(length);
    if state.must_wait(length) {
        return false;
    }
    state.append(OutputStream::Stdout, &"x".repeat(length));
    true
}

/// What the viewer is told next, and what it is to confirm.
fn next(state: &mut State, id: ViewerId) -> Option<(KeptMessage<'static>, Option<u64>)> {
    let Step::Say { json, confirms, .. } = state.step(id, &ProcessId::new("1")) else { return None };
    let ServerMessage::Kept(message) = Received::parse(json.as_bytes()).unwrap().message else {
        panic!("{json}")
    };
    Some((message, confirms))
}

/// All output that waits for the viewer, in bytes, and the last thing it was told.
fn read(state: &mut State, id: ViewerId) -> (usize, Option<KeptMessage<'static>>) {
    let (mut bytes, mut last) = (0, None);
    while let Some((message, _)) = next(state, id) {
        if let KeptMessage::Stdout { output, .. } = &message {
            bytes += output.len();
        }
        last = Some(message);
    }
    (bytes, last)
}

#[test]
fn the_program_waits_for_the_confirmation_of_the_client_with_the_keyboard_and_for_no_other() {
    let mut state = state(WhenFull::Drop, None);
    let (holder, slow) = (viewer(&mut state, Mode::Use), viewer(&mut state, Mode::View));
    let mut said = 0;
    while say(&mut state, 16 * 1024) {
        said += 16 * 1024;
        read(&mut state, holder);
    }
    assert!((TEXT - 32 * 1024..=TEXT).contains(&said), "{said}");
    let position = state.log.end();
    state.viewers.get_mut(holder).unwrap().confirmed = position;
    assert!(say(&mut state, 16 * 1024), "it was confirmed");
    state.viewers.remove(holder);
    while state.log.start() < position {
        assert!(say(&mut state, 16 * 1024), "no one has the keyboard");
    }
    let mut lost = None;
    while let Some((message, _)) = next(&mut state, slow) {
        if let KeptMessage::Lost { lost: bytes, seq } = message {
            lost = Some((bytes, seq));
        }
    }
    assert_eq!(lost, Some((state.log.start(), state.log.start())), "told, to the byte");
}

#[test]
fn a_program_that_waits_keeps_all_that_its_last_client_has_not_confirmed() {
    let mut state = state(WhenFull::Wait, None);
    let holder = viewer(&mut state, Mode::Use);
    assert!(say(&mut state, 64 * 1024));
    read(&mut state, holder);
    state.viewers.get_mut(holder).unwrap().confirmed = 32 * 1024;
    state.viewers.remove(holder);
    while say(&mut state, 1024) {}
    assert!(state.log.start() <= 32 * 1024, "{}", state.log.start());
    assert!(state.log.end() > 250 * 1024, "the room is used: {}", state.log.end());
}

#[test]
fn who_has_read_everything_loses_nothing_by_what_is_dropped_then() {
    let mut state = state(WhenFull::Drop, None);
    let watcher = viewer(&mut state, Mode::View);
    assert!(say(&mut state, 64 * 1024));
    assert_eq!(read(&mut state, watcher).0, 64 * 1024);
    while state.log.start() == 0 {
        assert!(say(&mut state, 64 * 1024));
    }
    let left = usize::try_from(state.log.end() - state.log.start()).unwrap();
    assert_eq!(read(&mut state, watcher).0, left);
}

#[test]
fn a_viewer_that_missed_a_size_is_told_it_before_the_screen() {
    let mut state = state(WhenFull::Drop, Some(SIZE));
    let (holder, watcher) = (viewer(&mut state, Mode::Use), viewer(&mut state, Mode::View));
    while next(&mut state, watcher).is_some() {}
    state.viewers.get_mut(holder).unwrap().size = Some(OTHER_SIZE);
    assert_eq!(state.follow_holder(), Some(OTHER_SIZE));
    state.viewers.remove(holder);
    while state.log.start() < 1024 {
        assert!(say(&mut state, 64 * 1024));
    }
    let mut told = Vec::new();
    while let Some((message, _)) = next(&mut state, watcher) {
        told.push(message);
    }
    let resized = KeptMessage::Resized { rows: OTHER_SIZE.rows, cols: OTHER_SIZE.cols };
    let at = told.iter().position(|message| *message == resized).unwrap();
    assert!(matches!(told[at + 1], KeptMessage::Screen { seq, .. } if seq == state.log.end()), "{told:?}");
}

#[test]
fn nothing_left_to_give_is_confirmed_when_the_program_waits_for_that() {
    let mut state = state(WhenFull::Drop, None);
    let holder = viewer(&mut state, Mode::Use);
    // Less than a part, and then more than there is room for.
    assert!(say(&mut state, 1024));
    assert_eq!(next(&mut state, holder).unwrap().1, None, "not yet");
    assert!(next(&mut state, holder).is_none());
    state.viewers.get_mut(holder).unwrap().is_waited_for = true;
    let Step::Say { json, confirms, .. } = state.step(holder, &ProcessId::new("1")) else { panic!("asks") };
    assert_eq!((json.as_str(), confirms), ("", Some(1024)));
    state.viewers.get_mut(holder).unwrap().is_waited_for = true;
    assert!(next(&mut state, holder).is_none(), "asked once");
}

#[test]
fn a_client_that_leaves_is_told_where_it_stands_and_not_where_the_log_begins() {
    let mut state = state(WhenFull::Drop, None);
    let watcher = viewer(&mut state, Mode::View);
    assert!(say(&mut state, 1024));
    read(&mut state, watcher);
    while state.log.start() < 64 * 1024 {
        assert!(say(&mut state, 64 * 1024));
    }
    state.viewers.get_mut(watcher).unwrap().leaves = true;
    let Step::Leave(json) = state.step(watcher, &ProcessId::new("1")) else { panic!("leaves") };
    assert!(json.contains(r#""seq":1024"#), "{json}");
}

#[test]
fn the_keyboard_goes_back_to_the_client_that_has_used_it_and_not_to_one_that_came_later() {
    let mut state = state(WhenFull::Drop, None);
    let (first, later, last) =
        (viewer(&mut state, Mode::Use), viewer(&mut state, Mode::Use), viewer(&mut state, Mode::Use));
    assert!(state.viewers.is_holder(first) && !state.viewers.is_holder(later));
    state.viewers.give_keyboard(last);
    state.viewers.remove(last);
    assert!(state.viewers.is_holder(first));
}
