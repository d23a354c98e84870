"""A browser's side of further-link in a page of Python: HTTPS GET, and a WebSocket (RFC 6455) with JSON messages.

Used by the files of checks. Calls block, with a deadline on everything. Every message is remembered, so that a failed
check can say what did come. The class is no general WebSocket library: no fragments, no extensions, text in and out.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import time

from pace import patient

PORT = 8028
ORIGIN = "https://further.pi-top.com"


class Timeout(Exception):
    """Something that was waited for did not come."""


def connect(host, timeout=5.0):
    return socket.create_connection((host, PORT), patient(timeout))


class Trust:
    """The fingerprint that a person has compared; nothing else makes a certificate good."""

    fingerprint = None


def presented(sock):
    """The fingerprint of the certificate at the other end, as a browser shows it."""
    digest = hashlib.sha256(sock.getpeercert(binary_form=True)).digest()
    return ":".join(f"{byte:02X}" for byte in digest)


def connect_tls(host, timeout=5.0):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The device vouches for itself: what is checked is the fingerprint.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = context.wrap_socket(connect(host, timeout))
    if (found := presented(sock)) != Trust.fingerprint:
        sock.close()
        raise ssl.SSLError(f"not the certificate that was compared: {found}")
    return sock


def named(origin):
    """The line of a request by which a browser names the page that it belongs to."""
    return f"Origin: {origin}\r\n" if origin else ""


def get(host, path, timeout=5.0, origin=ORIGIN):
    """Status code and body of a GET."""
    with connect_tls(host, timeout) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{PORT}\r\n{named(origin)}Connection: close\r\n\r\n".encode())
        reply = b""
        while chunk := sock.recv(65536):
            reply += chunk
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError("closed without an answer")
    return int(head.split()[1]), body.decode()


def post(host, path, body, timeout=10.0, origin=ORIGIN):
    """Status code and body of the answer to a POST of a JSON object."""
    data = json.dumps(body).encode()
    with connect_tls(host, timeout) as sock:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}:{PORT}\r\n{named(origin)}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        sock.sendall(head.encode() + data)
        reply = b""
        while chunk := sock.recv(65536):
            reply += chunk
    head, _, text = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()


class Client:
    """One WebSocket to /run."""

    def __init__(self, host, query="", timeout=5.0, origin=ORIGIN):
        self.messages = []
        self.buffer = b""
        self.sock = connect_tls(host, timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET /run{query} HTTP/1.1\r\nHost: {host}:{PORT}\r\n{named(origin)}"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        deadline = time.monotonic() + patient(timeout)
        while b"\r\n\r\n" not in self.buffer:
            self._fill(deadline)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise ConnectionError(f"no upgrade: {head.splitlines()[0]!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """As a tab that is closed: a close frame, then the end of the connection."""
        try:
            self._send_frame(8, struct.pack("!H", 1000))
        except OSError:
            pass
        self.sock.close()

    def send(self, kind, process=None, **data):
        message = {"type": kind, "data": data}
        if process is not None:
            message["process"] = process
        self._send_frame(1, json.dumps(message).encode())

    def receive(self, timeout=5.0):
        """The next message."""
        return self._receive(time.monotonic() + patient(timeout))

    def _receive(self, deadline):
        while True:
            opcode, payload = self._frame(deadline)
            if opcode == 1:
                message = json.loads(payload)
                self.messages.append(message)
                return message
            if opcode == 8:
                raise ConnectionResetError("the server closed the WebSocket")
            if opcode == 9:
                self._send_frame(10, payload)

    def expect(self, kind, process=None, timeout=5.0):
        """Skips messages until one of this type (and process) comes."""
        return self._expect(kind, process, time.monotonic() + patient(timeout))

    def _expect(self, kind, process, deadline):
        start = len(self.messages)
        while True:
            try:
                message = self._receive(deadline)
            except Timeout:
                raise Timeout(f"no {kind!r} in time; came: {self.messages[start:]}") from None
            if message["type"] == kind and (process is None or message.get("process") == process):
                return message
            if message["type"] == "error":
                raise ConnectionError(f"error instead of {kind!r}: {message}")

    def start(self, process, runner="python3", timeout=5.0, **data):
        self.send("start", process, runner=runner, **data)
        self.expect("started", process, timeout)

    def output_until(self, text, process, timeout=5.0):
        """Gathers stdout until it holds a text."""
        deadline = time.monotonic() + patient(timeout)
        output = ""
        while text not in output:
            try:
                output += self._expect("stdout", process, deadline)["data"]["output"]
            except Timeout:
                raise Timeout(f"no {text!r} in time; stdout: {output!r}") from None
        return output

    def run(self, process="1", runner="python3", timeout=10.0, **data):
        """Starts a program and waits for its end: stdout, stderr and exit code."""
        self.start(process, runner, timeout, **data)
        return self.finish(process, timeout)

    def finish(self, process, timeout=10.0):
        """What a program prints until its end, and its exit code. Either of the two streams may come first."""
        output = {"stdout": "", "stderr": ""}
        deadline = time.monotonic() + patient(timeout)
        while True:
            message = self._receive(deadline)
            if message.get("process") != process:
                raise ConnectionError(f"unexpected: {message}")
            if message["type"] in output:
                output[message["type"]] += message["data"]["output"]
            elif message["type"] == "stopped":
                return output["stdout"], output["stderr"], message["data"]["exitCode"]
            else:
                raise ConnectionError(f"unexpected: {message}")

    def _send_frame(self, opcode, payload):
        mask = os.urandom(4)
        if len(payload) < 126:
            length = struct.pack("!B", 0x80 | len(payload))
        elif len(payload) < 1 << 16:
            length = struct.pack("!BH", 0x80 | 126, len(payload))
        else:
            length = struct.pack("!BQ", 0x80 | 127, len(payload))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.sock.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def _frame(self, deadline):
        # Parsed from the buffer's start each time, so that a timeout in the middle of a frame loses nothing.
        while True:
            buffer = self.buffer
            if len(buffer) >= 2:
                length, offset = buffer[1] & 0x7F, 2
                if length == 126 and len(buffer) >= 4:
                    length, offset = struct.unpack("!H", buffer[2:4])[0], 4
                elif length == 127 and len(buffer) >= 10:
                    length, offset = struct.unpack("!Q", buffer[2:10])[0], 10
                elif length >= 126:
                    length, offset = 1 << 62, 0
                if len(buffer) >= offset + length:
                    self.buffer = buffer[offset + length :]
                    return buffer[0] & 0x0F, buffer[offset : offset + length]
            self._fill(deadline)

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Timeout("nothing more came")
        self.sock.settimeout(left)
        try:
            chunk = self.sock.recv(65536)
        except TimeoutError:
            raise Timeout("nothing more came") from None
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self.buffer += chunk
