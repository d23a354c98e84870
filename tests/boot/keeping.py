"""Kept programs outlive the frontend, as long as the service is not stopped.

Called by boot.py.
"""

import time

from checks import check, equal
from client import Client, Timeout
from machine import INSIDE, wait_for
from pace import patient
from programs import ESCAPE, TIDY
from support import GRACE, Support

# On pipes and on terminals, as many as one client may keep, and four clients.
PROGRAMS, CLIENTS = 50, 4
# As often as the machine can do it for all of them.
PRINTER = """
import itertools, os, time
print('pid', os.getpid(), flush=True)
for i in itertools.count():
    print(f'{{i:08}}', flush=True)
    time.sleep({pause})
"""


class Keeper:
    """A client that keeps programs, and comes back to them."""

    def __init__(self, number):
        self.secret = f"the secret of the client with the number {number}"
        self.sessions, self.said, self.seq = {}, {}, {}

    def connect(self):
        self.client = Client(INSIDE, "?pty=1" if self.secret[-1] in "13" else "")
        self.client.send("hello", version=1, client=self.secret)
        self.client.expect("hello")

    def start(self, process, code):
        self.client.send("start", process, runner="python3", code=code, keep={"seconds": 600})
        while True:
            message = self.next()
            if message["type"] == "started":
                data = message["data"]
                self.sessions[process] = (data["session"], data["key"])
                return
            assert message["type"] != "error", message

    def attach(self):
        for process, (session, key) in self.sessions.items():
            self.client.send("attach", process, session=session, key=key, after=self.seq.get(process, 0))
        left = set(self.sessions)
        while left:
            message = self.next()
            assert message["type"] != "error", message
            if message["type"] == "attached":
                equal((message["data"]["state"], message["data"]["lost"]), ("running", 0), "attached")
                left.discard(message["process"])

    def next(self, timeout=5.0):
        message = self.client.receive(timeout)
        self.client.messages.clear()
        process, data = message.get("process"), message["data"]
        if message["type"] in ("stdout", "stderr"):
            self.said[process] = self.said.get(process, "") + data["output"]
            self.seq[process] = data["seq"]
        assert message["type"] not in ("stopped", "screen", "lost"), message
        return message

    def read_until(self, lines):
        """Reads until each program has printed so many lines."""
        while any(self.said.get(process, "").count("\n") < lines for process in self.sessions):
            self.next()

    def read_to_end(self):
        """What has come counts: the connection ends with the frontend."""
        try:
            while True:
                self.next()
        except OSError:
            pass

    def pids(self):
        return [int(said.split(maxsplit=2)[1]) for said in self.said.values()]

    def check_lines(self):
        for process, said in self.said.items():
            lines = said.replace("\r\n", "\n").split("\n")[1:]
            last = lines.pop()
            equal(lines, [f"{i:08}" for i in range(len(lines))], f"lines of {process}")
            assert f"{len(lines):08}".startswith(last.rstrip("\r")), last


class Keeping(Support):
    def keeping(self):
        machine = self.machine
        # Fifty ends at once: a slow machine gets to the programs that tidy up later.
        self.configure(f"FURTHER_LINK_GRACE={patient(GRACE):.0f}")
        keepers = [Keeper(number) for number in range(CLIENTS)]
        with check(f"{PROGRAMS} kept programs are started"):
            for keeper in keepers:
                keeper.connect()
            for number in range(PROGRAMS):
                keepers[number % CLIENTS].start(str(number), PRINTER.format(pause=patient(0.02)))
            for keeper in keepers:
                keeper.read_until(5)
        pids = sorted(pid for keeper in keepers for pid in keeper.pids())

        def survive(interrupt, within=4.0):
            before = self.main_pid()
            begun = time.monotonic()
            interrupt(before)
            for keeper in keepers:
                keeper.read_to_end()
            wait_for("another frontend", lambda: self.main_pid() not in (0, before), 5)
            for keeper in keepers:
                wait_for("it serves", lambda k=keeper: connects(k), 5, 0.1)
                keeper.attach()
            attached = time.monotonic() - begun
            lines = 1 + max(said.count("\n") for keeper in keepers for said in keeper.said.values())
            for keeper in keepers:
                keeper.read_until(lines)
                keeper.check_lines()
            running = {p["pid"] for p in self.processes()}
            equal([pid for pid in pids if pid not in running], [], "programs that ended")
            print(f"     all attached again after {attached:.2f} s")
            assert attached < patient(within), f"attached after {attached:.1f} s"

        with check("a restart ends none of them, and nothing of their output is lost"):
            survive(lambda _: machine.run("systemctl", "restart", "further-link.service"))
        for time_of_day in ("once", "twice"):
            with check(f"frontend killed {time_of_day}: none of them ends, and nothing of their output is lost"):
                survive(lambda pid: machine.run("kill", "-KILL", str(pid)))
        with check("the package installed again: the same"):
            path = machine.copy_in(self.package)
            # dpkg itself takes some seconds.
            survive(lambda _: machine.run("dpkg", "--install", "--force-confold", path), 20.0)
        with check("a restart of the port's socket: the same"):
            survive(lambda _: machine.run("systemctl", "restart", "further-link.socket"))
        with check("a stop ends all of them, with their grace, and PID 1 keeps nothing of them"):
            machine.run("rm", "-f", "/home/pi/tidied")
            one = Keeper("of another kind")
            one.connect()
            one.start("tidy", TIDY)
            while "ready" not in one.said.get("tidy", ""):
                one.next()
            one.start("escape", ESCAPE + "\ntime.sleep(600)")
            group = self.escaped(one.client, "escape")[1]
            machine.run("systemctl", "stop", "further-link.service")
            self.none_left(group, 3.0)
            wait_for("all programs have ended", lambda: not [p for p in self.processes() if "exec@" in p["group"]], 5, 0.1)
            assert "tidied" in machine.run("ls", "/home/pi"), "the program was not given its grace"
            equal(machine.show("further-link.service", "NFileDescriptorStore"), "0")
            equal(machine.show("further-link-runs.target", "ActiveState"), "inactive")
        with check("the service starts again, and knows none of them"):
            self.serves()
            equal(machine.show("further-link-runs.target", "ActiveState"), "active")
            keepers[0].connect()
            keepers[0].client.send("sessions")
            equal(keepers[0].client.expect("sessions")["data"]["sessions"], [])
            keepers[0].client.close()
        self.configure("")


def connects(keeper):
    try:
        keeper.connect()
    except (OSError, Timeout):
        return False
    return True
