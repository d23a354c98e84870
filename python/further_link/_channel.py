"""The channel to the daemon: a Unix stream socket that FURTHER_LINK_CHANNEL names, with a JSON object on each line.

Imported by _image.py and _listener.py, at the first picture or button. The module must never raise because of the
channel, or drop a line while the daemon reads. A line is never written after a part of another
one, and the connection of a parent process is never used.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import threading
import time

from further_link._warn import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional

    # What to send; the argument tells whether the connection is a new one.
    Lines = Callable[[bool], Iterable[bytes]]

VARIABLE = "FURTHER_LINK_CHANNEL"
# The daemon's limit, with the end of line.
LINE_LIMIT = 4 * 1024 * 1024
# Seconds that the first connection waits for a late socket: the original lost its first frame to that (D40).
PATIENCE = 1.0
RETRY_INTERVAL = 0.02
READ_SIZE = 65536


def encode(kind: str, **data: str) -> bytes:
    """A message as a line: ASCII, whatever the strings hold."""
    return json.dumps({"type": kind, "data": data}, separators=(",", ":")).encode("ascii") + b"\n"


class Decoder:
    """Puts lines together again, wherever they were cut."""

    def __init__(self) -> None:
        self._parts: List[bytes] = []
        self._length = 0

    def feed(self, received: bytes) -> List[Dict[str, Any]]:
        """The messages that are complete now. ValueError: a line is too long."""
        *lines, rest = received.split(b"\n")
        if lines:
            lines[0] = b"".join(self._parts) + lines[0]
            self._parts, self._length = [], 0
        self._parts.append(rest)
        self._length += len(rest)
        if self._length > LINE_LIMIT:
            raise ValueError(f"a line of more than {LINE_LIMIT} bytes")
        return [message for message in map(self._decode, lines) if message is not None]

    @staticmethod
    def _decode(line: bytes) -> Optional[Dict[str, Any]]:
        try:
            message = json.loads(line.decode("utf-8"))
        # Not JSON, not UTF-8, or nested too deeply.
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            warn_once("nonsense", "received a line that is no message, and ignored it")
            return None
        data = message.get("data")
        if message.get("type") == "error":
            reason = data.get("message") if isinstance(data, dict) else data
            warn_once("refused", f"the daemon refused a message: {reason}")
            return None
        return message


class Stream:
    """An open connection."""

    def __init__(self, path: str) -> None:
        """OSError: there is none."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._decoder = Decoder()
        try:
            # Whatever socket.setdefaulttimeout() was told.
            self._socket.settimeout(None)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def write(self, line: bytes) -> None:
        """Returns when all is written. After any exception the stream may hold a part of the line."""
        left = memoryview(line)
        while left:
            # Python ignores SIGPIPE, but a program may have changed that.
            left = left[self._socket.send(left, socket.MSG_NOSIGNAL) :]

    def receive(self, wait: bool) -> Optional[List[Dict[str, Any]]]:
        """Messages; none if a line is incomplete or, without waiting, nothing has come. None at the end."""
        try:
            received = self._socket.recv(READ_SIZE, 0 if wait else socket.MSG_DONTWAIT)
            return self._decoder.feed(received) if received else None
        except BlockingIOError:
            return []
        except (OSError, ValueError):
            return None

    def close(self, wake: bool = True) -> None:
        """Ends the connection, or this process's part of it. With `wake` a receive() in another thread ends."""
        if wake:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster
        self._socket.close()


class Connection:
    """One connection of this process: opened when there is something to send, and again after a loss."""

    def __init__(self, on_open: Optional[Callable[[Stream], None]] = None) -> None:
        self._on_open = on_open
        self._stream: Optional[Stream] = None
        self._patient = True
        self._was_open = False
        self._renew()
        _connections.append(self)

    def _renew(self) -> None:
        # Reentrant, because the handler of a signal may send in the middle of its own thread's sending.
        self._lock = threading.RLock()
        self._sending = False
        self._interrupting: List[Lines] = []

    def send(self, lines: Lines) -> None:
        """Sends, and waits while the daemon does not read. A missing daemon is a warning, never an exception."""
        with self._lock:
            if self._sending:
                self._interrupting.append(lines)
                return
            self._sending = True
            try:
                self._send(lines)
                while self._interrupting:
                    self._send(self._interrupting.pop(0))
            finally:
                self._sending = False

    def _send(self, lines: Lines) -> None:
        fresh = False
        # An open connection may turn out to be dead, so there is a second attempt; a new one gets no further one.
        while not fresh:
            fresh = self._stream is None
            stream = self._stream or self._open()
            if stream is None:
                return
            try:
                for line in lines(fresh):
                    stream.write(line)
                return
            except OSError:
                self._drop(stream)
            except BaseException:
                # Ctrl-C, say: the rest of this line will never be sent, so no other line may follow here.
                self._drop(stream)
                raise
        self._warn_lost()

    def _open(self) -> Optional[Stream]:
        path = os.environ.get(VARIABLE)
        if not path:
            hint = f"not started by further-link ({VARIABLE} is not set)"
            warn_once("channel", f"nothing is shown and no key is heard: {hint}")
            return None
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                stream = Stream(path)
                break
            except OSError as error:
                late = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
                if not late or not self._patient or time.monotonic() > deadline:
                    self._patient = False
                    if self._was_open:
                        self._warn_lost()
                    else:
                        warn_once("channel", f"cannot reach further-link at {path}: {error}")
                    return None
            time.sleep(RETRY_INTERVAL)
        self._patient, self._was_open = False, True
        if self._on_open is not None:
            self._on_open(stream)
        self._stream = stream
        return stream

    def look(self) -> None:
        """Reads what has come, without waiting: complaints of the daemon, the end. For callers without a thread."""
        with self._lock:
            while self._stream is not None:
                messages = self._stream.receive(wait=False)
                if messages is None:
                    self._drop(self._stream)
                elif not messages:
                    return

    def lost(self, stream: Stream) -> None:
        """Told by who waits in receive(): this is the end of the stream."""
        with self._lock:
            if self._stream is stream:
                self._drop(stream)
                self._warn_lost()

    def _drop(self, stream: Stream) -> None:
        stream.close()
        # The handler of a signal may have replaced it already.
        if self._stream is stream:
            self._stream = None

    @staticmethod
    def _warn_lost() -> None:
        warn_once("channel", "further-link has closed the channel: nothing is shown and no key is heard any more")

    def close(self) -> None:
        """At the program's end. Takes no lock: a thread that will never go on may hold it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def after_fork(self) -> None:
        """In a child process: the parent uses the connection, and one of its threads may hold the lock."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(wake=False)
        self._renew()


_connections: List[Connection] = []
# Keys have another one: they do not wait behind a picture.
pictures = Connection()


@atexit.register
def _close_all() -> None:
    for connection in _connections:
        connection.close()


def _after_fork() -> None:
    for connection in _connections:
        connection.after_fork()


os.register_at_fork(after_in_child=_after_fork)
