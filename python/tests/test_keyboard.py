"""KeyboardButton within one process."""

import json
import threading

import pytest
from conftest import wait_for


def test_a_button_asks_for_its_key_at_once(server, further_link):
    further_link.KeyboardButton("ArrowUp")
    assert server.peer().message() == {"type": "keylisten", "data": {"key": "ArrowUp"}}


def test_is_pressed_follows_the_key(server, further_link):
    button = further_link.KeyboardButton("a")
    assert button.is_pressed is False and button.key == "a"
    peer = server.peer()
    for event, pressed in (("keydown", True), ("keydown", True), ("keyup", False), ("keydown", True)):
        peer.key("a", event)
        wait_for(lambda pressed=pressed: button.is_pressed is pressed)
    with pytest.raises(AttributeError):
        button.is_pressed = False


def test_callbacks_come_in_order_and_all_in_one_daemon_thread(server, further_link):
    calls, threads = [], set()

    def note(what):
        calls.append(what)
        threads.add(threading.current_thread())

    one, two = further_link.KeyboardButton("a"), further_link.KeyboardButton("b")
    one.when_pressed, one.when_released = lambda: note("a down"), lambda: note("a up")
    two.when_pressed, two.when_released = lambda: note("b down"), lambda: note("b up")
    peer = server.peer()
    for _ in range(50):
        for key, event in (("a", "keydown"), ("b", "keydown"), ("a", "keyup"), ("b", "keyup")):
            peer.key(key, event)
    wait_for(lambda: len(calls) >= 200)
    assert calls == ["a down", "b down", "a up", "b up"] * 50
    assert [thread.daemon for thread in threads] == [True] and threads != {threading.main_thread()}


def test_getters_return_what_was_set_and_none_removes_it(server, further_link):
    # D40: the original's getters returned nothing.
    button, last, calls = further_link.KeyboardButton("a"), further_link.KeyboardButton("a"), []
    assert (button.when_pressed, button.when_released) == (None, None)
    press, release = lambda: calls.append("press"), lambda: calls.append("release")
    button.when_pressed, button.when_released = press, release
    assert (button.when_pressed, button.when_released) == (press, release)
    button.when_pressed = None
    assert (button.when_pressed, button.when_released) == (None, release)
    last.when_released = lambda: calls.append("last")
    peer = server.peer()
    peer.key("a", "keydown")
    peer.key("a", "keyup")
    wait_for(lambda: "last" in calls)
    assert calls == ["release", "last"]


def test_several_buttons_of_one_key_all_hear_it(server, further_link):
    calls, buttons = [], []
    for number in range(3):
        buttons.append(further_link.KeyboardButton("x"))
        buttons[-1].when_pressed = lambda number=number: calls.append(number)
    server.peer().key("x", "keydown")
    wait_for(lambda: calls == [0, 1, 2])
    assert all(button.is_pressed for button in buttons)


# D39: the space, the original's separator, killed the listener.
@pytest.mark.parametrize("key", [" ", "é", "ß", "日本", "\U0001f600", '"', "\\", "\n", "a b c", "end keyevent "])
def test_every_key_works_whatever_its_name(server, further_link, key):
    button = further_link.KeyboardButton(key)
    peer = server.peer()
    assert peer.message()["data"]["key"] == key
    peer.key(key, "keydown")
    wait_for(lambda: button.is_pressed)


@pytest.mark.parametrize("pieces", ["every byte", "all at once", "halves"])
def test_messages_are_understood_however_they_are_cut(server, further_link, pieces):
    # D38: the original merged, cut and lost messages at the borders of its reads.
    calls = []
    button = further_link.KeyboardButton("é ")
    button.when_pressed, button.when_released = lambda: calls.append(1), lambda: calls.append(0)
    peer = server.peer()
    lines = [
        json.dumps({"type": "keyevent", "data": {"key": "é ", "event": event}}, ensure_ascii=False).encode() + b"\n"
        for event in ("keydown", "keyup", "keydown", "keyup")
    ]
    text = b"".join(lines)
    if pieces == "every byte":
        parts = [text[at : at + 1] for at in range(len(text))]
    elif pieces == "halves":
        parts = [text[:100], text[100:]]
    else:
        parts = [text]
    for part in parts:
        peer.send_bytes(part)
    wait_for(lambda: len(calls) >= 4)
    assert calls == [1, 0, 1, 0]


def test_a_message_is_understood_when_cut_at_any_byte(further_link):
    from further_link._channel import Decoder

    message = {"type": "keyevent", "data": {"key": "日 本", "event": "keydown"}}
    text = json.dumps(message, ensure_ascii=False).encode() + b"\n"
    for at in range(len(text) + 1):
        decoder = Decoder()
        found = decoder.feed(text[:at]) + decoder.feed(text[at:] + text)
        assert found == [message, message], at


def test_an_exception_in_a_callback_is_printed_and_the_next_event_is_heard(server, further_link, capsys):
    calls = []

    def fail():
        calls.append(None)
        raise (ZeroDivisionError if len(calls) == 1 else SystemExit)("mine")

    button = further_link.KeyboardButton("a")
    button.when_pressed = fail
    peer = server.peer()
    for _ in range(3):
        peer.key("a", "keydown")
    wait_for(lambda: len(calls) == 3)
    err = capsys.readouterr().err
    assert "ZeroDivisionError: mine" in err and "in fail" in err and "SystemExit: mine" in err


def test_a_callback_can_wait_for_the_release_of_its_own_key(server, further_link):
    ended = threading.Event()
    button = further_link.KeyboardButton("a")

    def hold():
        wait_for(lambda: not button.is_pressed)
        ended.set()

    button.when_pressed = hold
    peer = server.peer()
    peer.key("a", "keydown")
    wait_for(lambda: button.is_pressed)
    peer.key("a", "keyup")
    assert ended.wait(10)


def test_nothing_is_lost_when_a_callback_is_slow(server, further_link):
    go, calls = threading.Event(), []
    button = further_link.KeyboardButton("a")
    button.when_pressed = lambda: (go.wait(), calls.append(None))
    peer = server.peer()
    sender = threading.Thread(target=lambda: [peer.key("a", "keydown") for _ in range(3000)])
    sender.start()
    wait_for(lambda: button.is_pressed)
    go.set()
    wait_for(lambda: len(calls) == 3000)
    sender.join()


def test_unknown_messages_are_ignored_and_nonsense_is_one_warning(server, further_link):
    calls = []
    with pytest.warns(RuntimeWarning) as caught:
        button = further_link.KeyboardButton("a")
        button.when_pressed = lambda: calls.append(None)
        peer = server.peer()
        peer.send("from the future", key="a", event="keydown")
        for data in (
            {"key": "a", "event": "keypress"},
            {"key": ["a"], "event": "keydown"},
            {"event": "keydown"},
            None,
            1,
        ):
            peer.send_bytes(json.dumps({"type": "keyevent", "data": data}).encode() + b"\n")
        peer.key("b", "keydown")
        for line in (b"\xff\xfe", b"nonsense", b"[1]", b"null", b"", b"[" * 100000):
            peer.send_bytes(line + b"\n")
        peer.send("error", message="not understood")
        peer.send("error", message="not understood either")
        peer.key("a", "keydown")
        wait_for(lambda: calls)
    assert [str(warning.message) for warning in caught] == [
        "further_link: received a line that is no message, and ignored it",
        "further_link: the daemon refused a message: not understood",
    ]
    assert len(calls) == 1


def test_a_line_without_end_is_the_end_and_not_all_memory(server, further_link):
    with pytest.warns(RuntimeWarning, match="has closed the channel"):
        further_link.KeyboardButton("a")
        peer = server.peer()
        with pytest.raises(OSError):
            for _ in range(10):
                peer.send_bytes(b"x" * 1024 * 1024)
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "further_link keys"])


def test_a_wrong_key_or_callback_is_an_error_at_once(server, further_link):
    for key in (None, 5, b"a", ["a"]):
        with pytest.raises(TypeError):
            further_link.KeyboardButton(key)
    with pytest.raises(ValueError):
        further_link.KeyboardButton("")
    button = further_link.KeyboardButton("a")
    for wrong in (5, "forward"):
        with pytest.raises(TypeError):
            button.when_pressed = wrong
        with pytest.raises(TypeError):
            button.when_released = wrong


def test_a_late_channel_loses_no_key(late_server, further_link):
    made = []
    thread = threading.Thread(target=lambda: made.append(further_link.KeyboardButton("a")))
    thread.start()
    thread.join(0.1)
    late_server.start()
    peer = late_server.peer()
    assert peer.message()["data"]["key"] == "a"
    thread.join()
    peer.key("a", "keydown")
    wait_for(lambda: made[0].is_pressed)


def test_keys_are_let_go_when_the_channel_goes_and_there_is_one_warning(server, further_link):
    released = []
    with pytest.warns(RuntimeWarning, match="has closed the channel") as caught:
        button, other = further_link.KeyboardButton("a"), further_link.KeyboardButton("b")
        button.when_released = lambda: released.append("a")
        other.when_released = lambda: released.append("b")
        server.peer().key("a", "keydown")
        wait_for(lambda: button.is_pressed)
        server.stop()
        wait_for(lambda: released)
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "further_link keys"])
        further_link.KeyboardButton("c")
    assert len(caught) == 1
    assert (released, button.is_pressed) == (["a"], False)


def test_a_new_button_after_a_closed_connection_brings_all_keys_back(server, further_link):
    with pytest.warns(RuntimeWarning):
        button = further_link.KeyboardButton("a")
        first = server.peer()
        first.message()
        first.close()
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "further_link keys"])
    further_link.KeyboardButton("b")
    peer = server.peer()
    assert sorted(peer.message()["data"]["key"] for _ in range(2)) == ["a", "b"]
    peer.key("a", "keydown")
    wait_for(lambda: button.is_pressed)


def test_buttons_made_by_several_threads_are_all_announced_whole(server, further_link):
    keys = [f"key {number}" for number in range(40)]
    threads = [threading.Thread(target=further_link.KeyboardButton, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peer, heard = server.peer(), set()
    while heard != set(keys):
        heard.add(peer.message()["data"]["key"])
    assert server.accepted.empty()
