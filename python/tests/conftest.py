"""A daemon's side of the channel for the tests, and the package in a fresh state, in this process or another one.

Used by every test here. Every wait has a deadline, and no test sleeps to see what happens.
"""

import importlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(HERE)
DEADLINE = 20.0

# Where these tests run in the background of a shell, SIGINT is ignored, and every program that they start would have
# that from them. A signal with a handler is handed on as one that ends a program.
signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition, what="condition"):
    """What the condition returns, once that is true."""
    deadline = time.monotonic() + DEADLINE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.002)


class Peer:
    """One accepted connection."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(DEADLINE)
        self._buffer = b""

    def line(self):
        """The next line, or b"" at the end."""
        while b"\n" not in self._buffer:
            received = self.sock.recv(65536)
            if not received:
                assert not self._buffer, f"ended within a line: {self._buffer[:80]!r}"
                return b""
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def message(self):
        return json.loads(self.line().decode("utf-8"))

    def send(self, kind, **data):
        self.send_bytes(json.dumps({"type": kind, "data": data}, ensure_ascii=False).encode() + b"\n")

    def send_bytes(self, data):
        self.sock.sendall(data)

    def key(self, key, event):
        self.send("keyevent", key=key, event=event)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class Server:
    """A channel, as the daemon makes one for each run."""

    def __init__(self, path):
        self.path = str(path)
        self.accepted = queue.Queue()
        self.peers = []
        self._listener = None

    def start(self):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._thread.start()
        return self

    def _accept(self, listener):
        while True:
            try:
                peer = Peer(listener.accept()[0])
            except OSError:
                return
            self.peers.append(peer)
            self.accepted.put(peer)

    def peer(self):
        """The next connection."""
        return self.accepted.get(timeout=DEADLINE)

    def stop(self):
        """As at the end of a run."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(DEADLINE)
            self._listener = None
            os.unlink(self.path)
        for peer in self.peers:
            peer.close()


@pytest.fixture
def late_server(tmp_path, monkeypatch):
    """A channel that is named but not there before start()."""
    server = Server(tmp_path / "channel")
    monkeypatch.setenv("FURTHER_LINK_CHANNEL", server.path)
    yield server
    server.stop()


@pytest.fixture
def server(late_server):
    return late_server.start()


@pytest.fixture
def further_link():
    """The package as a program finds it: nothing sent, nothing warned of."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "further_link"]:
        del sys.modules[name]
    module = importlib.import_module("further_link")
    yield module
    # The order of the interpreter's own end.
    for name, end in (("_listener", "listener.end"), ("_channel", "_close_all")):
        target = sys.modules.get(f"further_link.{name}")
        if target is not None:
            for attribute in end.split("."):
                target = getattr(target, attribute)
            target()


class Program(subprocess.Popen):
    """A user's program: its own interpreter, for what concerns a whole process."""

    def __init__(self, code, *options, channel=None):
        environment = {**os.environ, "PYTHONPATH": PACKAGE, "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("FURTHER_LINK_CHANNEL", None)
        if channel is not None:
            environment["FURTHER_LINK_CHANNEL"] = channel
        super().__init__(
            [sys.executable, *options, "-c", code],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        # Whatever waits for it goes on then, and fails.
        self.watchdog = threading.Timer(DEADLINE, self.kill)
        self.watchdog.daemon = True
        self.watchdog.start()

    def expect(self, line):
        """Waits for a line of output."""
        assert self.stdout.readline() == line + "\n"

    def go_on(self):
        """Lets the program's input() return."""
        self.stdin.write("\n")
        self.stdin.flush()

    def finish(self, text=None):
        """Exit status, output, errors."""
        out, err = self.communicate(text)
        return self.returncode, out, err


@pytest.fixture
def program():
    """Starts programs, and ends those that a failed test leaves."""
    started = []

    def start(code, *options, channel=None):
        started.append(Program(code, *options, channel=channel))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.watchdog.cancel()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
