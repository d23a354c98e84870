"""KeyboardButton: a key of the keyboard in front of the browser, with the names that gpiozero's Button has.

Used by programs. _listener.py keeps the state of the key and calls the callbacks; it knows no button. The first button
makes the connection.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    Callback = Optional[Callable[[], Any]]


class KeyboardButton:
    """A key, named as in a browser's KeyboardEvent.key: "a", "ArrowUp", " " (the space bar), "é".

    when_pressed and when_released are called without arguments, one after the other, in one thread of their own. A
    program ends with its main thread, buttons or not: wait with signal.pause() or a loop.
    """

    def __init__(self, key: str) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a key is a str such as 'ArrowUp', not {type(key).__name__}")
        if not key:
            raise ValueError("a key has a name; the space bar's is ' '")
        self._key = key
        self._when_pressed: Callback = None
        self._when_released: Callback = None
        # Only now, so that importing the package needs neither sockets nor threads.
        from further_link._listener import listener

        self._heard = listener.add(key, self._callback)

    @property
    def key(self) -> str:
        """The name of the key."""
        return self._key

    @property
    def is_pressed(self) -> bool:
        """Whether the key is held down now."""
        return self._heard.is_pressed

    @property
    def when_pressed(self) -> Callback:
        """Called at each keydown; None for nothing."""
        return self._when_pressed

    @when_pressed.setter
    def when_pressed(self, callback: Callback) -> None:
        self._when_pressed = _checked(callback)

    @property
    def when_released(self) -> Callback:
        """Called at each keyup; None for nothing."""
        return self._when_released

    @when_released.setter
    def when_released(self, callback: Callback) -> None:
        self._when_released = _checked(callback)

    def _callback(self, pressed: bool) -> Callback:
        return self._when_pressed if pressed else self._when_released

    def __repr__(self) -> str:
        return f"KeyboardButton({self._key!r})"


def _checked(callback: Callback) -> Callback:
    if callback is not None and not callable(callback):
        raise TypeError(f"a callback is a function or None, not {type(callback).__name__}")
    return callback
