//! The rules of a transcript, without a client and without waiting.

use std::sync::Arc;

use further_link_api::{
    Dialect, EndReason, KeptMessage, Mode, Outcome, OutputStream, ProcessId, Received, ServerMessage,
    WhenFull,
};
use further_link_proto::WindowSize;
use futures_util::FutureExt;

use crate::{
    memory::budget::Budget,
    outbox::outbox,
    transcript::Transcript,
    transcript::state::{Arrival, Limits, Opening, SessionKeys, State, Step, WINDOW},
    transcript::viewer::ViewerId,
};

const SIZE: WindowSize = WindowSize { rows: 5, cols: 20 };
const OTHER_SIZE: WindowSize = WindowSize { rows: 6, cols: 30 };
const TEXT: usize = 256 * 1024;

fn limits() -> Limits {
    Limits { text: TEXT, viewers: 8, text_of_all: Budget::new(2 * TEXT), pictures: Budget::new(TEXT) }
}

fn keys() -> SessionKeys {
    SessionKeys { session: "s".to_owned(), key: "k".to_owned(), view_key: "v".to_owned() }
}

fn state(when_full: WhenFull, terminal: Option<WindowSize>) -> State {
    let mut state = State::new(limits(), when_full, Some(keys()), terminal, None);
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
    state.append(OutputStream::Stdout, 0, &"x".repeat(length));
    while let Some(undrawn) = state.trim() {
        state.drawn(undrawn);
    }
    true
}

/// Gives the viewer a screen of this size, drawn up to the end: what it is told.
fn show_screen(state: &mut State, id: ViewerId, size: WindowSize) -> Vec<KeptMessage<'static>> {
    let newest = state.log.newest();
    state.drawn(newest);
    let steps = state.show_screen(id, ("drawn".to_owned(), size, newest), &ProcessId::new("1"));
    steps.iter().map(|step| message(step).unwrap().0).collect()
}

fn message(step: &Step) -> Option<(KeptMessage<'static>, Option<u64>)> {
    let Step::Say { json, confirms, .. } = step else { return None };
    let ServerMessage::Kept(message) = Received::parse(json.as_bytes()).unwrap().message else {
        panic!("{json}")
    };
    Some((message, *confirms))
}

/// What the viewer is told next, and what it is to confirm.
fn next(state: &mut State, id: ViewerId) -> Option<(KeptMessage<'static>, Option<u64>)> {
    message(&state.step(id, &ProcessId::new("1")))
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
    while next(&mut state, watcher).is_some() {}
    assert!(matches!(state.step(watcher, &ProcessId::new("1")), Step::Draw));
    let told = show_screen(&mut state, watcher, OTHER_SIZE);
    let resized = KeptMessage::Resized { rows: OTHER_SIZE.rows, cols: OTHER_SIZE.cols };
    let screen = KeptMessage::Screen { output: "drawn".into(), seq: state.log.end() };
    assert_eq!(told, [resized, screen]);
    assert!(next(&mut state, watcher).is_none(), "everything was given");
}

#[test]
fn nothing_leaves_the_log_that_the_screen_does_not_show() {
    let mut state = state(WhenFull::Drop, Some(SIZE));
    state.append(OutputStream::Stdout, 0, &"x".repeat(2 * TEXT));
    state.append(OutputStream::Stdout, 0, &"x".repeat(TEXT));
    let undrawn = state.trim().expect("the oldest is too much, and is not drawn");
    assert_eq!(state.log.start(), 0);
    state.drawn(undrawn);
    assert_eq!(state.trim(), None);
    assert_eq!(state.log.start(), 2 * u64::try_from(TEXT).unwrap());
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
fn who_acknowledges_its_output_is_given_a_window_and_the_program_waits() {
    let process = ProcessId::new("1");
    let mut state = State::new(
        Limits { text: 4 * TEXT, text_of_all: Budget::new(8 * TEXT), ..limits() },
        WhenFull::Drop,
        None,
        None,
        None,
    );
    state.opening = Opening::Started;
    let holder = viewer(&mut state, Mode::Use);
    state.viewers.get_mut(holder).unwrap().acks = true;
    let mut said = 0;
    let mut given = 0;
    while say(&mut state, 16 * 1024) {
        said += 16 * 1024;
        given += read(&mut state, holder).0;
    }
    let window = usize::try_from(WINDOW).unwrap();
    assert_eq!((given, said), (window, 2 * window + 16 * 1024));
    assert!(matches!(state.step(holder, &process), Step::Wait), "and asks for nothing");
    // A client may say that it has used what it was never given.
    for (acknowledged, more) in [(0, 0), (16 * 1024, 16 * 1024), (WINDOW + 1000, window)] {
        state.viewers.get_mut(holder).unwrap().ack(acknowledged);
        assert_eq!(read(&mut state, holder).0, more);
    }
    assert_eq!(state.viewers.confirmed(), WINDOW + 1000);
    // Its end comes behind all output.
    state.ended = Some(Outcome { exit_code: 0, reason: EndReason::Exited, usage: None });
    assert!(matches!(state.step(holder, &process), Step::Wait));
    state.viewers.get_mut(holder).unwrap().ack(u64::MAX);
    assert!(matches!(state.step(holder, &process), Step::Stopped(_)));
}

#[test]
fn who_acknowledges_nothing_hears_of_what_is_not_output() {
    let mut state = state(WhenFull::Drop, Some(SIZE));
    let (holder, watcher) = (viewer(&mut state, Mode::Use), viewer(&mut state, Mode::View));
    while next(&mut state, watcher).is_some() {}
    state.viewers.get_mut(watcher).unwrap().acks = true;
    for _ in 0..2 * WINDOW / 1024 {
        assert!(say(&mut state, 1024));
        let position = state.log.end();
        read(&mut state, holder);
        state.viewers.get_mut(holder).unwrap().confirmed = position;
        read(&mut state, watcher);
    }
    let later = viewer(&mut state, Mode::View);
    assert!(matches!(next(&mut state, watcher), Some((KeptMessage::Viewers { viewers: 3 }, _))));
    state.viewers.remove(later);
    // It has fallen behind, and gets a screen when it has used what it has.
    while state.log.start() <= state.viewers.get(watcher).unwrap().given {
        assert!(say(&mut state, 1024));
        let position = state.log.end();
        read(&mut state, holder);
        state.viewers.get_mut(holder).unwrap().confirmed = position;
    }
    read(&mut state, watcher);
    assert!(matches!(state.step(watcher, &ProcessId::new("1")), Step::Wait));
    state.viewers.get_mut(watcher).unwrap().ack(u64::MAX);
    assert!(matches!(state.step(watcher, &ProcessId::new("1")), Step::Draw));
}

#[test]
fn what_a_client_has_missed_does_not_count_against_its_window() {
    for terminal in [None, Some(SIZE)] {
        let mut state = state(WhenFull::Drop, terminal);
        let watcher = viewer(&mut state, Mode::View);
        while next(&mut state, watcher).is_some() {}
        state.viewers.get_mut(watcher).unwrap().acks = true;
        assert!(say(&mut state, 1024));
        read(&mut state, watcher);
        for _ in 0..5 * WINDOW / 1024 {
            assert!(say(&mut state, 1024));
        }
        if terminal.is_some() {
            assert!(matches!(state.step(watcher, &ProcessId::new("1")), Step::Draw));
            show_screen(&mut state, watcher, SIZE);
            assert!(say(&mut state, 1024), "more than the screen");
        }
        let (bytes, last) = read(&mut state, watcher);
        assert!(bytes > 0, "{last:?}");
        // What it has had before counts.
        let seq = state.viewers.get(watcher).unwrap().given;
        state.viewers.get_mut(watcher).unwrap().ack(seq);
        assert!(!state.viewers.get(watcher).unwrap().owes(1));
    }
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
    state.viewers.get_mut(watcher).unwrap().leave();
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

/// The lock of a transcript is had between the pieces that are drawn, or one attach would stop the device.
#[tokio::test(flavor = "multi_thread")]
async fn others_come_to_a_transcript_while_its_screen_is_drawn() {
    let size = WindowSize { rows: 60, cols: 200 };
    let transcript = Arc::new(Transcript::new(limits(), WhenFull::Drop, keys(), Some(size), None));
    for _ in 0..12 {
        transcript.append(OutputStream::Stdout, 0, &"\x1b[2J0123456789".repeat(1024)).await;
    }
    let begin = transcript.lock().log.oldest();
    let newest = transcript.lock().log.newest();
    let drawing = tokio::spawn({
        let transcript = Arc::clone(&transcript);
        async move { transcript.draw(transcript.drawing.as_ref().unwrap(), newest).await.until }
    });
    let mut seen = false;
    while !drawing.is_finished() {
        let drawn = transcript.lock().terminal.as_ref().unwrap().drawn;
        seen |= begin < drawn && drawn < newest;
        tokio::task::yield_now().await;
    }
    assert_eq!(drawing.await.unwrap(), newest);
    assert!(seen, "nobody saw a half-drawn screen");
}

#[test]
fn who_is_slow_hears_nothing_of_the_others_that_leave_at_the_end() {
    let mut state = state(WhenFull::Drop, None);
    let (holder, slow) = (viewer(&mut state, Mode::Use), viewer(&mut state, Mode::Use));
    while next(&mut state, holder).is_some() {}
    while next(&mut state, slow).is_some() {}
    assert!(say(&mut state, 1024));
    state.ended = Some(Outcome { exit_code: 0, reason: EndReason::Exited, usage: None });
    read(&mut state, holder);
    assert!(matches!(state.step(holder, &ProcessId::new("1")), Step::Stopped(_)));
    state.viewers.remove(holder);
    assert!(state.viewers.is_holder(slow));
    assert!(matches!(next(&mut state, slow), Some((KeptMessage::Stdout { seq: 1024, .. }, _))));
    assert!(matches!(state.step(slow, &ProcessId::new("1")), Step::Stopped(_)), "and then the end");
}

/// Another one with the same id would be heard of before the first one is known to have left.
#[tokio::test]
async fn the_place_of_a_viewer_is_free_when_its_last_word_is_in_the_outbox_and_not_before() {
    let transcript = Arc::new(Transcript::new(limits(), WhenFull::Drop, keys(), None, None));
    transcript.opened(Opening::Started);
    let viewer = transcript.first_viewer(None);
    let (outbox, mut messages) = outbox(Dialect::Version1);
    while outbox.send(ServerMessage::Pong, None).now_or_never().is_some() {}
    transcript.leave(viewer);
    let process = ProcessId::new("1");
    let served = transcript.serve(viewer, &outbox, &process);
    tokio::pin!(served);
    assert!(served.as_mut().now_or_never().is_none());
    assert!(transcript.knows(viewer));
    while transcript.knows(viewer) {
        assert!(messages.take().is_some_and(|message| message.json.contains("pong")));
        assert_eq!(served.as_mut().now_or_never().is_some(), !transcript.knows(viewer));
    }
    let rest: Vec<_> = std::iter::from_fn(|| messages.take()).map(|message| message.json).collect();
    assert!(rest.last().is_some_and(|last| last.contains("detached")), "{rest:?}");
}
