"""What the processes of the daemons may do, read from /proc and tried by probe.py, and what the journal has of a run.

Called by boot.py.
"""

import json
import os
import re

from checks import HELPER, check, equal
from client import Client
from machine import INSIDE, wait_for
from support import Support

HERE = os.path.dirname(os.path.abspath(__file__))
CAP_KILL = 1 << 5


class Privileges(Support):
    def privileges(self):
        machine = self.machine
        own = self.uid("further-link")
        with check("the frontend holds nothing: own account, no capability, filter, namespaces"):
            pid = self.main_pid()
            status = self.status_of(pid)
            equal(status["Uid"].split(), [str(own)] * 4)
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                equal(int(status[name], 16), 0, name)
            equal((status["NoNewPrivs"], status["Seccomp"], status["Groups"].split()), ("1", "2", [str(own)]))
            for name in ("mnt", "ipc", "user"):
                assert machine.run("readlink", f"/proc/{pid}/ns/{name}") != machine.run("readlink", f"/proc/1/ns/{name}"), name
        with check("a helper with a program is root no more: CAP_KILL, no new privileges, not to be traced"):
            with Client(INSIDE) as client:
                client.start("1", code="import os, time; print(os.getpid(), flush=True); time.sleep(600)")
                pid = int(client.output_until("\n", "1"))
                unit = self.unit_of(pid)
                helper = self.main_pid(unit)
                status = self.status_of(helper)
                equal(status["Uid"].split()[:3], [str(self.uid("further-link-exec"))] * 3)
                for name, wanted in (("CapEff", CAP_KILL), ("CapPrm", CAP_KILL), ("CapBnd", 0), ("CapInh", 0), ("CapAmb", 0)):
                    equal(int(status[name], 16), wanted, name)
                equal((status["NoNewPrivs"], status["Threads"]), ("1", "1"))
                equal(machine.run("stat", "-c", "%U", f"/proc/{helper}/mem").strip(), "root", "owner of its memory (not dumpable)")
        with check("a waiting helper is two processes of one unit: root's launcher, and a watcher that is not root"):
            watcher = self.uid("further-link-exec")

            def both():
                waiting = [p for p in self.processes() if "further-link-exec@" in p["group"]]
                uids = {}
                for p in waiting:
                    uids.setdefault(p["group"], []).append(p["uid"])
                settled = uids and all(sorted(found) == sorted([0, watcher]) for found in uids.values())
                return waiting if settled else None

            waiting = wait_for("launcher and watcher in each unit", both)
            assert all(HELPER in p["command"] for p in waiting), waiting
            pid = next(p["pid"] for p in waiting if p["uid"] == watcher)
            equal(int(self.status_of(pid)["CapPrm"], 16), CAP_KILL | 1 << 6 | 1 << 7, "and SETGID, SETUID")
        machine.copy_in(os.path.join(HERE, "probe.py"))
        machine.run("install", "-m", "644", "/root/boot.py", "/usr/local/lib/probe.py")
        with check("a taken-over frontend can do what it must and nothing else"):
            can = self.probe("further-link.service", "frontend")
            equal(sorted(can), sorted([
                "read /etc/passwd", "log to the journal", "write its own /tmp", "open an internet socket", "notify PID 1",
                "read the list of packages", "list the package indexes", "ask the helper", "write its state directory",
            ]))
        with check("a taken-over upload can do what it must and nothing else"):
            can = self.probe("further-link-files@.service", "files", str(self.uid("pi")), machine.run("id", "-g", "pi").strip())
            equal(sorted(can), sorted([
                "read /etc/passwd", "log to the journal", "become the person", "write the person's home as the person",
                "use openat2 beneath the home",
                # hidepid= spares the group root; it is effective once the process is the person.
                "see other processes",
            ]))

    def devices(self):
        """As GPIO, camera and sound are reached: a node that belongs to a group."""
        if self.is_container:
            return  # which may not make nodes
        machine, node = self.machine, "/dev/stand-in"
        machine.run("groupadd", "gpio-test")
        # The same device as /dev/full.
        machine.run("mknod", "--mode=660", node, "c", "1", "7")
        machine.run("chgrp", "gpio-test", node)

        def read():
            with Client(INSIDE) as client:
                code = f"try: print(open('{node}', 'rb').read(1))\nexcept OSError as error: print(error.strerror)"
                return client.run(code=code)[0].strip()

        with check("a program of pi reaches a device by a group of pi's, and only then"):
            equal(read(), "Permission denied")
            machine.run("usermod", "--append", "--groups", "gpio-test", "pi")
            wait_for("a helper that has read the groups anew", lambda: read() == "b'\\x00'", 10)
            machine.run("gpasswd", "--delete", "pi", "gpio-test")
            wait_for("and once more", lambda: read() == "Permission denied", 10)

    def probe(self, unit, *args):
        """Runs probe.py below the unit's own lines; what worked."""
        text = self.machine.run("cat", f"/lib/systemd/system/{unit}").replace("\\\n", " ")
        dropped = "Exec(Start|Paths)|Type|NotifyAccess|WatchdogSec|Restart|RestartSec|RuntimeMaxSec|Standard\\w+|Requires|Wants|After|RefuseManualStart|StopPropagatedFrom|CollectMode|Slice|TimeoutStartSec"
        lines = [line for line in text.split("[Install]")[0].splitlines() if not re.match(f"({dropped})=", line)]
        paths = "/usr/bin/python3 /usr/bin/python3.11 -/lib -/lib64 /usr/lib"
        lines += ["Type=oneshot", f"ExecStart=/usr/bin/python3 /usr/local/lib/probe.py {' '.join(args)}"]
        lines += ["NoExecPaths=/", f"ExecPaths={paths}", "StandardOutput=file:/run/probe.json", "StandardError=journal"]
        self.machine.write("/run/systemd/system/probe.service", "\n".join(lines) + "\n")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("rm", "-f", "/run/probe.json")
        try:
            self.machine.run("systemctl", "start", "probe.service")
        except AssertionError:
            raise AssertionError(self.machine.run("journalctl", "-u", "probe.service", "-n", "15", "--no-pager", "-o", "cat")) from None
        found = json.loads(self.machine.run("cat", "/run/probe.json"))
        return [what for what, worked in found.items() if worked]

    def journal_lines(self):
        with check("a run's line in the journal names user, runner, pid and outcome"):
            with Client(INSIDE) as client:
                pid = int(client.run(code="import os, sys; print(os.getpid()); sys.exit(7)")[0])
            matches = (f"SYSLOG_IDENTIFIER={HELPER}", "F_USER=pi", "F_RUNNER=python3", f"F_PID={pid}")
            found = wait_for("the line", lambda: [e for e in self.journal(*matches) if "F_OUTCOME" in e], 3, 0.1)
            equal(len(found), 1, "lines")
            assert "7" in found[0]["F_OUTCOME"], found[0]["F_OUTCOME"]
            # Absent where the process had ended before journald came to its line.
            assert "further-link-exec@" in found[0].get("_SYSTEMD_UNIT", "further-link-exec@"), found[0]
        with check("no program text, input or output is in the journal"):
            with Client(INSIDE) as client:
                client.start("1", code="print(input() + 'Output') # SecretText")
                client.send("stdin", "1", input="Secret\n")
                client.expect("stopped", "1")
            equal([line for line in self.machine.run("journalctl", "--no-pager", "--boot").splitlines() if "Secret" in line], [])
