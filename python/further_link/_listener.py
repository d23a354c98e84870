"""Hears key events for all buttons of this process: one thread reads, another one calls the callbacks.

Imported by _keyboard.py with the first button. There are two threads because `while button.is_pressed:` in a callback
has to end. The threads must never keep a program alive (D40), nor end by a callback's exception.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import traceback

from further_link._channel import Connection, Stream, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    # What to call when a key goes down (True) or up, as the button has it at that moment.
    Choose = Callable[[bool], Optional[Callable[[], Any]]]

# Calls that wait for a slow callback: more than a person types meanwhile. Further events wait in the daemon.
CALLS_LIMIT = 1000
# Seconds that a callback has to return when the program ends: one that prints disturbs the interpreter's end.
LAST_CALL = 0.5


class Key:
    """A key as one button hears it."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.is_pressed = False


class Listener:
    def __init__(self) -> None:
        self._connection = Connection(on_open=self._start)
        self._keys: Dict[str, List[Key]] = {}
        self._renew()

    def _renew(self) -> None:
        # Reentrant, as the handler of a signal may make a button.
        self._lock = threading.RLock()
        self._calls: queue.Queue[Optional[Tuple[Key, bool]]] = queue.Queue(CALLS_LIMIT)
        self._caller: Optional[threading.Thread] = None
        self._ending = False

    def add(self, name: str, choose: Choose) -> Key:
        """Asks for the events of a key. What is returned always has the state of the key."""
        key = Key(choose)
        with self._lock:
            self._keys.setdefault(name, []).append(key)

        # A new connection has to hear of all keys.
        def lines(fresh: bool) -> List[bytes]:
            with self._lock:
                names = list(self._keys) if fresh else [name]
            return [encode("keylisten", key=name) for name in names]

        self._connection.send(lines)
        return key

    def _start(self, stream: Stream) -> None:
        if self._caller is None:
            self._caller = threading.Thread(target=self._call, name="further_link callbacks", daemon=True)
            self._caller.start()
        threading.Thread(target=self._read, args=(stream,), name="further_link keys", daemon=True).start()

    def _read(self, stream: Stream) -> None:
        while True:
            messages = stream.receive(wait=True)
            if messages is None:
                break
            for message in messages:
                if message.get("type") == "keyevent":
                    self._event(message.get("data"))
        # No event will come for a key that is let go of: a rover has to stop now.
        with self._lock:
            held = [key for keys in self._keys.values() for key in keys if key.is_pressed]
        for key in held:
            self._set(key, False)
        self._connection.lost(stream)

    def _event(self, data: Any) -> None:
        name, event = (data.get("key"), data.get("event")) if isinstance(data, dict) else (None, None)
        if not isinstance(name, str) or event not in ("keydown", "keyup"):
            return
        with self._lock:
            keys = list(self._keys.get(name, ()))
        for key in keys:
            self._set(key, event == "keydown")

    def _set(self, key: Key, pressed: bool) -> None:
        key.is_pressed = pressed
        self._calls.put((key, pressed))

    def _call(self) -> None:
        calls = self._calls
        # Another queue: a callback has forked, and this is the child.
        while calls is self._calls:
            call = calls.get()
            if call is None or self._ending:
                return
            key, pressed = call
            callback = key.choose(pressed)
            if callback is None:
                continue
            try:
                callback()
            except BaseException:  # sys.exit(), too: it could only end this thread
                traceback.print_exc()

    def end(self) -> None:
        """At the program's end: no more calls."""
        self._ending = True
        if self._caller is None:
            return
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            pass  # it will look at _ending
        self._caller.join(LAST_CALL)

    def after_fork(self) -> None:
        """In a child process: the parent keeps its buttons, the threads are not here."""
        for keys in self._keys.values():
            for key in keys:
                key.is_pressed = False
        self._keys = {}
        self._renew()


listener = Listener()
atexit.register(listener.end)
os.register_at_fork(after_in_child=listener.after_fork)
