"""The administrators' socket: who may use it, and what it does.

Called by boot.py.
"""

import json

from checks import check, equal
from client import Client
from machine import INSIDE
from support import Support

SOCKET = "/run/further-link/admin.sock"


class Sessions(Support):
    def sessions(self):
        machine = self.machine
        alice = ("setpriv", "--reuid=alice", "--regid=alice")
        stranger, member = (*alice, "--init-groups", "--"), (*alice, "--groups=further-link", "--")
        with check("root lists and watches kept programs, a member of the group ends them, and others do nothing"):
            equal(machine.run("stat", "-c", "%U %G %a", SOCKET).strip(), "root further-link 660")
            with Client(INSIDE, "?user=pi") as client:
                client.send("hello", version=1)
                client.expect("hello")
                client.start("1", code="while True: print('typed', input())", keep={"seconds": 60})
                listed = json.loads(machine.run("further-link", "sessions", "--json"))
                equal([(each["user"], each["state"], each["viewers"]) for each in listed], [("pi", "running", 1)])
                session = listed[0]["session"]
                watcher = machine.popen("further-link", "sessions", "watch", session[:12])
                equal(client.expect("viewers", "1")["data"]["viewers"], 2)
                client.send("stdin", "1", input="secret\n")
                equal(watcher.stdout.readline(), "typed secret\n")
                machine.run("chmod", "666", SOCKET)
                refused = machine.run(*stranger, "further-link", "sessions", check=False)
                assert "its log says why" in refused, refused
                machine.run("chmod", "660", SOCKET)
                refused = machine.run(*stranger, "further-link", "sessions", check=False)
                assert "try again with sudo" in refused, refused
                ended = machine.run(*member, "further-link", "sessions", "end", session)
                equal(ended, f"{session} has ended: exit code -15, stopped\n")
                stopped = client.expect("stopped", "1")["data"]
                equal((stopped["exitCode"], stopped["reason"]), (-15, "stopped"))
                equal(watcher.wait(5), 0)
        with check("without its socket it says what to do, and a restart of the service brings the socket back"):
            machine.run("systemctl", "stop", "further-link-admin.socket")
            said = machine.run("further-link", "sessions", check=False)
            assert "sudo systemctl restart further-link.service" in said, said
            machine.run("systemctl", "restart", "further-link.service")
            # The one above has ended; perhaps its client had gone before it could confirm that it knows.
            listed = json.loads(machine.run("further-link", "sessions", "--json"))
            equal([each for each in listed if each["state"] != "stopped"], [], "sessions that run")
            self.serves()
        with check("the journal has who attached, left and ended it, and never what"):
            lines = [str(entry.get("MESSAGE")) for entry in self.journal("_SYSTEMD_UNIT=further-link.service")]
            of_it = [line for line in lines if session in line]
            for who, what in (
                ("uid 0, pid ", "attached to watch it"),
                ("uid 0, pid ", "has heard of its end"),
                ("of the service's group, pid ", "is to end"),
                ("connection ", "its end"),
            ):
                assert any(who in line and what in line for line in of_it), (who, what, of_it)
            assert any("no administrator" in line for line in lines), "who was refused"
            equal([line for line in lines if "secret" in line], [])
