"""Runs commands in the virtual machine.

    agent.py serve PORT                   in it, as a service
    agent.py ask HOST PORT COMMAND...     outside: runs the command there, with this process's input, output and exit code

One connection is one command: a line of JSON, then its input; back comes its output, then a line with its exit code. The
socket itself is the command's input and output. No protection of any kind: the cable leads to the test and nowhere else.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

MARK = b"\0exit "


def serve(port):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.create_server(("", port)) as server:
        while True:
            sock, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(sock)
                os._exit(0)
            sock.close()


def answer(sock):
    line = b""
    # Byte by byte: what follows the line is the command's.
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            return
        line += byte
    request = json.loads(line)
    try:
        child = subprocess.run(request["command"], stdin=sock, stdout=sock, stderr=sock, env=request["environment"], cwd="/")
        code = child.returncode
    except OSError as error:
        sock.sendall(f"{error}\n".encode())
        code = 127
    sock.sendall(MARK + b"%d\n" % code)


def ask(host, port, command):
    from machine import ENVIRONMENT

    sock = socket.create_connection((host, port), 30)
    sock.settimeout(None)
    sock.sendall(json.dumps({"command": command, "environment": ENVIRONMENT}).encode() + b"\n")
    threading.Thread(target=send_input, args=(sock,), daemon=True).start()
    held = b""
    while chunk := sock.recv(65536):
        held += chunk
        at = held.rfind(MARK)
        if at >= 0 and held.endswith(b"\n"):
            write(held[:at])
            return int(held[at + len(MARK) :]) % 256
        # What may be the beginning of the last line waits for its end.
        keep = held.rfind(b"\0")
        keep = len(held) if keep < 0 else keep
        write(held[:keep])
        held = held[keep:]
    write(held)
    print("the connection has ended before the command", file=sys.stderr)
    return 125


def send_input(sock):
    try:
        while chunk := os.read(0, 65536):
            sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the command has ended without having read all of it


def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        # Not through sys.exit: the thread may wait for input that never comes.
        os._exit(ask(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
