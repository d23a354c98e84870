"""Who gets in, and as which user: pages, other machines, the list of users, the socket of the helper.

Called by boot.py.
"""

import contextlib

from checks import HELPER, check, equal
from client import Client, Timeout, get, post
from machine import INSIDE
from programs import SHELL
from support import Support


class Admission(Support):
    def strangers(self):
        refused = 403, "403: Forbidden"
        with check("what names no page of a browser, or another one, is refused from another machine"):
            for origin in (None, "https://evil.example"):
                equal(post(INSIDE, "/upload", {"name": "stranger", "files": {}}, origin=origin), refused, f"upload, {origin}")
                equal(get(INSIDE, "/version/apt/bash", origin=origin), refused, f"GET, {origin}")
                try:
                    Client(INSIDE, origin=origin).close()
                except ConnectionError as error:
                    assert "403 Forbidden" in str(error), error
                else:
                    raise AssertionError(f"a WebSocket of {origin}")
        with check("every machine may ask whether it serves, but no page that is not listed"):
            equal(get(INSIDE, "/status", origin=None), (200, "OK"))
            equal(get(INSIDE, "/status", origin="https://evil.example"), refused)

    def policy(self):
        machine = self.machine
        with check("root, system accounts, others and unknown names are refused"):
            for user in ("root", "daemon", "alice", "further-link", "nosuchuser", "0", "1000", ""):
                self.refused(user)
            equal(machine.run("ls", "/tmp").split().count("must-not-be"), 0, "programs that ran")
        with check("each refusal is in the journal"):
            for user, outcome in (("root", "no token was shown"), ("alice", "the list of allowed users"), ("nosuchuser", "the list of allowed users")):
                found = self.journal(f"SYSLOG_IDENTIFIER={HELPER}", f"F_USER={user}")
                assert any(outcome in str(entry.get("F_OUTCOME")) for entry in found), (user, found)
                assert any(f"as {user}: " in str(entry.get("MESSAGE")) for entry in found), (user, found)
        with check("root runs for clients with the token that the installation made, and for no others"):
            equal(machine.run("stat", "-c", "%U %a", "/etc/further-link/user-token").strip(), "root 600")
            token = machine.run("cat", "/etc/further-link/user-token").strip()
            equal(len(token), 43, "characters of the token")
            equal(self.identity(f"?user=root&user_token={token}")["uids"], [0, 0, 0])
            self.refused(f"root&user_token={token[::-1]}")
            self.refused("root")
        with check("root runs when the list names it, the others still do not"):
            self.allow("pi root")
            equal(self.identity("?user=root")["uids"], [0, 0, 0])
            equal(self.identity()["uids"], [self.uid("pi")] * 3, "default")
            self.refused("alice")
        with check("without the list pi runs again and root does not"):
            self.allow(None)
            equal(self.identity()["uids"], [self.uid("pi")] * 3)
            self.refused("root")
        with check("an empty list never means root"):
            machine.run("usermod", "--login", "someone", "pi")
            try:
                self.configure("FURTHER_LINK_ALLOW_USERS=")
                self.refused("root")
                with Client(INSIDE) as client:
                    client.send("start", "1", runner="python3", code="import os; print(os.getuid())")
                    message = client.receive()
                    equal(message["type"], "error", f"default user: {message}")
            finally:
                machine.run("usermod", "--login", "pi", "someone")
                self.allow(None)
        with check("no other account may connect to the helper"):
            code = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.settimeout(3)
try:
    sock.connect('/run/further-link/exec.sock')
    sock.send(bytes.fromhex(sys.argv[1]))
    print(json.dumps('answered' if sock.recv(1000) else 'closed'))
except PermissionError: print(json.dumps('no permission'))
except ConnectionError: print(json.dumps('closed'))
"""
            for user, wanted in (("pi", "no permission"), ("further-link-exec", "no permission"), ("root", "closed")):
                equal(machine.python(code, SHELL, user=user), wanted, user)

    def refused(self, user):
        with Client(INSIDE, f"?user={user}") as client:
            client.send("start", "1", runner="python3", code="open('/tmp/must-not-be', 'w')")
            message = client.receive()
            equal(message["type"], "error", str(message))
            with contextlib.suppress(Timeout):
                raise AssertionError(f"more came: {client.receive(0.3)}")
