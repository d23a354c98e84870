"""Many at once, and what is left of many.

Called by boot.py.
"""

import threading
import time

from checks import check, equal
from client import Client, connect, post
from machine import INSIDE, wait_for
from pace import patient
from programs import COUNT, PROJECT
from support import Support


class Load(Support):
    def floods(self):
        machine = self.machine
        with check("300 short runs at eight connections: no socket gives up"):
            def many():
                with Client(INSIDE) as client:
                    for number in range(38):
                        equal(client.run(str(number), "exec", timeout=30, path="/bin/true"), ("", "", 0))

            errors = []
            def guarded():
                try:
                    many()
                except Exception as error:
                    errors.append(f"{type(error).__name__}: {error}")

            threads = [threading.Thread(target=guarded) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            equal(errors, [])
            for unit in ("further-link.socket", "further-link-exec.socket", "further-link.service"):
                equal(machine.show(unit, "ActiveState"), "active", unit)
            equal(self.failed_units(), "")
        with check("more connections to the helper than are allowed: refused, and it lives on"):
            # A lower limit than the package's, to save a thousand processes.
            limit = 40
            code = """
import json, select, socket, sys, time
socks, refused = [], 0
for _ in range(200):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try: sock.connect('/run/further-link/exec.sock'); socks.append(sock)
    except OSError: refused += 1
poll = select.poll()
for sock in socks: poll.register(sock, select.POLLIN | select.POLLHUP)
deadline = time.monotonic() + float(sys.argv[2])
while refused + len(poll.poll(0)) < int(sys.argv[1]) and time.monotonic() < deadline: time.sleep(0.1)
print(json.dumps(refused + len(poll.poll(0))))
"""
            with self.drop_in("further-link-exec.socket", "[Socket]", f"MaxConnections={limit}"):
                refused = machine.python(code, str(200 - limit), str(patient(5)), user="further-link")
                assert 200 - limit <= refused < 200, f"{refused} of 200 refused, limit {limit}"
                equal(machine.show("further-link-exec.socket", "ActiveState"), "active")
                wait_for("idle helpers end", lambda: len([p for p in self.processes() if "further-link-exec@" in p["group"]]) < 8, 10, 0.2)
                self.serves()
        with check("a port that is knocked on whenever the frontend is down stays open"):
            for _ in range(25):
                # A connection that waits still starts it again at once, which cancels the stop.
                machine.run("systemctl", "stop", "further-link.service", check=False)
                connect(INSIDE).close()
            self.serves()
        with check("twenty restarts in a row: no start limit is hit"):
            for _ in range(10):
                machine.run("systemctl", "restart", "further-link-exec.socket")
                machine.run("systemctl", "restart", "further-link.socket")
            self.serves()
            equal(self.failed_units(), "")

    def counts(self):
        with check("after 30 runs and 10 uploads: no process, unit, cgroup, descriptor or file more than before"):
            def settled():
                counted = self.machine.python(COUNT)
                counted["processes"] = sorted(f"{p['name']} {p['uid']} {p['group'].split('@')[0]}" for p in self.processes(of_runs=False))
                return counted

            equal(post(INSIDE, "/upload", PROJECT), (200, "OK"))
            self.serves()
            # Until the machine is at rest: the spare of the last run is replaced in the background.
            before, last = settled(), None
            while before != last:
                time.sleep(0.5)
                before, last = settled(), before
            for number in range(10):
                with Client(INSIDE, "?pty=1" if number % 2 else "") as client:
                    client.run("1", code="import os; os.system('true')")
                    self.show_and_hear(client, "2")
                    client.start("3", "shell")
                equal(post(INSIDE, "/upload", PROJECT), (200, "OK"))
            def difference():
                after = settled()
                return {key: (before[key], after[key]) if isinstance(before[key], int) else
                        (sorted(set(before[key]) - set(after[key])), sorted(set(after[key]) - set(before[key])), len(before[key]), len(after[key]))
                        for key in before if (after[key] > before[key] if isinstance(before[key], int) else after[key] != before[key])}
            try:
                wait_for("counts as before", lambda: not difference(), 5, 0.2)
            except AssertionError:
                raise AssertionError(f"differs (lost, gained): {difference()}") from None
