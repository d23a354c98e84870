"""What checks have in common: looking into the machine, asking the daemon, changing its settings.

Each class of checks is built on this one, and boot.py puts them together.
"""

import base64
import contextlib
import json
import os
import re
import time

from checks import equal
from client import Client, Trust, get
from machine import INSIDE, Container, wait_for
from pace import patient
from programs import LOOK, SELF, SHOW_AND_HEAR
from vm import VirtualMachine

# How long anything of a run may live on, and the grace before that of programs with a handler for SIGTERM.
GONE_WITHIN, GRACE = 1.0, 2.0


class Support:
    def __init__(self, package, scratch, kind, base):
        """`kind` is `container`, or the architecture of a virtual machine, which has no base."""
        self.package, self.scratch = package, scratch
        self.is_container = kind == "container"
        self.machine = Container(base, scratch) if self.is_container else VirtualMachine(kind, scratch)

    def processes(self, *, of_runs=True):
        """Processes of the machine; those of runs and of the two daemons only, unless all are wanted."""
        found = self.machine.python(LOOK)
        return [p for p in found if not of_runs or "further" in p["group"]]

    def escaped(self, client, process):
        """The pid of a program of ESCAPE and its cgroup, once its children have escaped."""
        found = re.search(r"escaped (\d+) (\S+)", client.output_until(".service\n", process))
        return int(found[1]), found[2]

    def none_left(self, group, within=GONE_WITHIN):
        """Waits until nothing of a run is left: no process with the number that ESCAPE's children carry, and no cgroup.
        A cgroup could hold a process that is too quick to be seen."""

        def gone():
            left = [p["command"] for p in self.processes(of_runs=False) if "7777" in p["command"] or p["group"] == group]
            if self.machine.exists(f"/sys/fs/cgroup{group}"):
                left.append(group)
            self.left = left
            return not left

        # The limit is one of a machine that has nothing else to do: killing what forks for ever is a race for the
        # processors. Time counts in full while at most two processes for each processor want to run, which is what
        # escapes here. Above that, time counts by its share.
        within = patient(within)
        begun = last = time.monotonic()
        spent = 0.0
        while not gone():
            now = time.monotonic()
            with open("/proc/loadavg") as file:
                runnable = int(file.read().split()[3].split("/")[0])
            spent += (now - last) * min(1.0, 2 * os.cpu_count() / max(runnable, 1))
            last = now
            assert now - begun < 10 * within, f"left after {now - begun:.1f} s: {self.left}"
            time.sleep(0.02)
        assert spent < within, f"gone only after {spent:.1f} s ({last - begun:.1f} s of a busy machine)"

    def main_pid(self, unit="further-link.service"):
        return int(self.machine.show(unit, "MainPID"))

    def unit_of(self, pid):
        """The run's unit, from its program's cgroup."""
        return next(p["group"].rpartition("/")[2] for p in self.processes() if p["pid"] == pid)

    def serves(self, timeout=3.0):
        """Answers /status, and runs a program."""

        def status():
            try:
                return get(INSIDE, "/status", 1.0)[0] == 200
            except OSError:
                return False

        begun = time.monotonic()
        wait_for("/status answers 200", status, timeout)
        answered = time.monotonic() - begun
        with Client(INSIDE) as client:
            out, err, code = client.run(code="print('served')")
            equal((out, err, code), ("served\n", "", 0))
        return answered

    def identity(self, query=""):
        with Client(INSIDE, query) as client:
            out, err, code = client.run(code=SELF)
            equal((err, code), ("", 0), "stderr and exit code")
            return json.loads(out)

    def status_of(self, pid):
        """/proc/PID/status of a process in the machine."""
        text = self.machine.run("cat", f"/proc/{pid}/status")
        return {key: value.strip() for key, value in (line.split(":", 1) for line in text.splitlines())}

    def uid(self, name):
        return int(self.machine.run("id", "-u", name))

    def journal(self, *matches):
        text = self.machine.run("journalctl", "--output=json", "--no-pager", "--boot", *matches)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def configure(self, line):
        """/etc/default/further-link with this line."""
        self.machine.write("/etc/default/further-link", f"{line}\n")
        # The spare helper, which waits already, has the old settings.
        self.machine.run("systemctl", "restart", "further-link.service")

    @contextlib.contextmanager
    def drop_in(self, unit, *lines):
        """For a while, a unit with these lines beside the package's."""
        machine, directory = self.machine, f"/run/systemd/system/{unit}.d"
        machine.run("mkdir", "-p", directory)
        machine.write(f"{directory}/test.conf", "".join(f"{line}\n" for line in lines))
        machine.run("systemctl", "daemon-reload")
        try:
            machine.run("systemctl", "restart", unit)
            yield
        finally:
            machine.run("rm", "-r", directory)
            machine.run("systemctl", "daemon-reload")
            machine.run("systemctl", "restart", unit)

    def allow(self, users):
        self.configure(f'FURTHER_LINK_ALLOW_USERS="{users}"' if users else "")

    def compare(self):
        """Trusts, from now on, the certificate that the device tells its administrator about. What it tells."""
        text = self.machine.run("further-link", "fingerprint")
        told = dict(re.findall(r"(?m)^([^:]+): +(.*)$", text))
        Trust.fingerprint = told["SHA-256"]
        return told

    def failed_units(self):
        return self.machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend").strip()

    def show_and_hear(self, client, process):
        """A run that uses both directions of the user channel, through the package's own module."""
        client.start(process, code=SHOW_AND_HEAR)
        equal(client.expect("keylisten", process)["data"]["key"], "ArrowUp")
        pictures = [client.expect("video", process)["data"]["output"]]
        client.send("keyevent", process, key="ArrowUp", event="keydown")
        pictures.append(client.expect("video", process)["data"]["output"])
        client.send("keyevent", process, key="ArrowUp", event="keyup")
        assert pictures[0] != pictures[1], "the same picture twice"
        for picture in map(base64.b64decode, pictures):
            equal((picture[:3], picture[-2:]), (b"\xff\xd8\xff", b"\xff\xd9"), "a JPEG's first and last bytes")
        out, err, code = client.finish(process)
        equal((out.strip(), err, code), ("released", "", 0))

    def diagnose(self):
        """After a failure: what the daemons and PID 1 said last."""
        with contextlib.suppress(Exception):
            print(self.machine.run("journalctl", "--no-pager", "--boot", "-n", "60", "-o", "short-precise", "-u", "further-link*"))
        with contextlib.suppress(Exception):
            print(self.machine.run("systemctl", "--no-pager", "status", "further-link*"))
