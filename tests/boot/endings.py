"""Programs end with what they belong to: restarts, kills, stops, and browsers that leave.

Called by boot.py.
"""

import time

from checks import check, equal
from client import Client
from machine import INSIDE, wait_for
from pace import patient
from programs import ESCAPE, ESCAPE_WITH_SUDO, SHELL, TIDY
from support import GONE_WITHIN, GRACE, Support


class Endings(Support):
    def restarts(self):
        machine = self.machine
        with check("restarting the frontend: its programs end, and it serves again"):
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE_WITH_SUDO + "\ntime.sleep(600)")
                _, group = self.escaped(client, "1")
                machine.run("systemctl", "restart", "further-link.service")
                self.none_left(group, GRACE + GONE_WITHIN)
                self.serves()
        with check("restarting the port's socket: it serves again"):
            machine.run("systemctl", "restart", "further-link.socket")
            self.serves()
        with check("restarting the helpers' socket cuts no client off, and programs can be started at once"):
            with Client(INSIDE) as client:
                client.start("1", code="print(input())")
                before = self.main_pid()
                machine.run("systemctl", "restart", "further-link-exec.socket")
                client.send("stdin", "1", input="alive\n")
                client.output_until("alive", "1")
                client.expect("stopped", "1")
                for process in "234":
                    equal(client.run(process, code="print('again')")[0], "again\n")
                equal(self.main_pid(), before, "the frontend's pid")
        with check("stopping the frontend ends all programs, with their grace"):
            machine.run("rm", "-f", "/home/pi/tidied")
            with Client(INSIDE) as client:
                client.start("1", code=TIDY)
                client.output_until("ready", "1")
                client.start("2", code=ESCAPE + "\ntime.sleep(600)")
                _, group = self.escaped(client, "2")
                machine.run("systemctl", "stop", "further-link.service")
                wait_for("the program tidied up", lambda: machine.run("ls", "/home/pi").split().count("tidied"), 3, 0.1)
                self.none_left(group)
            self.serves()  # the port is open still: a connection starts the service
        with check("stopping the frontend ends even a run whose connection was passed to another process"):
            # A process of the frontend's account outside of its service, which holds a shell.
            code = """
import json, socket, subprocess, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.settimeout(5)
sock.connect('/run/further-link/exec.sock')
sock.send(bytes.fromhex(sys.argv[1]))
message, descriptors, _, _ = socket.recv_fds(sock, 9000, 5)
assert message[:2] == bytes([6, 1]) and len(descriptors) == 4, (message, descriptors)
print('held', flush=True)
try: ended = sock.recv(9000)
except TimeoutError: ended = None
print(json.dumps(ended is not None), flush=True)
"""
            holder = machine.popen("setpriv", "--reuid=further-link", "--regid=further-link", "--init-groups", "python3", "-c", code, SHELL)
            try:
                equal(holder.stdout.readline(), "held\n")
                machine.run("systemctl", "stop", "further-link.service")
                equal(holder.stdout.readline(), "true\n", "ended")
            finally:
                holder.wait(10)
            self.serves()
        with check("stopping one run's unit gives its program the grace, and leaves nothing"):
            machine.run("rm", "-f", "/home/pi/tidied")
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE + TIDY)
                _, group = self.escaped(client, "1")
                client.start("2", code="print(input())")
                time.sleep(0.1)  # until TIDY, in the same program, has set its handler
                machine.run("systemctl", "stop", group.rpartition("/")[2])
                wait_for("the program tidied up", lambda: machine.run("ls", "/home/pi").split().count("tidied"), 1, 0.1)
                self.none_left(group)
                client.expect("stopped", "1")
                client.send("stdin", "2", input="unharmed\n")
                client.output_until("unharmed", "2")

    def kills(self):
        machine = self.machine
        with check("frontend killed: nothing of its programs is left within a second, and it serves again"):
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE + "\ntime.sleep(600)")
                _, group = self.escaped(client, "1")
                machine.run("kill", "-KILL", str(self.main_pid()))
                begun = time.monotonic()
                self.none_left(group)
                answered = self.serves() + time.monotonic() - begun
                assert answered < patient(4), f"served after {answered:.1f} s"
        with check("a frontend that hangs is noticed by the watchdog and started again"):
            equal(machine.show("further-link.service", "WatchdogUSec"), "30s")
            # As packaged, only sooner.
            with self.drop_in("further-link.service", "[Service]", "WatchdogSec=1"):
                self.serves()
                time.sleep(2.5)  # it says in time that it lives
                before = self.main_pid()
                equal(machine.show("further-link.service", "NRestarts"), "0", "restarts while it lives")
                machine.run("kill", "-STOP", str(before))
                wait_for("another frontend", lambda: self.main_pid() not in (0, before), 5, 0.1)
                self.serves()
        with check("frontend killed twenty times in a row: it still serves"):
            for _ in range(20):
                before = wait_for("a frontend", self.main_pid, 3)
                machine.run("kill", "-KILL", str(before))
                wait_for("another frontend", lambda: self.main_pid() not in (0, before), 3)
            self.serves()
        with check("helper killed: nothing of its program is left within a second, others go on"):
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE_WITH_SUDO + "\ntime.sleep(600)")
                _, group = self.escaped(client, "1")
                client.start("2", code="print(input())")
                machine.run("kill", "-KILL", str(self.main_pid(group.rpartition("/")[2])))
                self.none_left(group)
                message = client.receive()
                assert message["type"] in ("stopped", "error"), message
                client.send("stdin", "2", input="unharmed\n")
                client.output_until("unharmed", "2")
                client.expect("stopped", "2")
                equal(client.run("3", code="print('next')")[0], "next\n")
        with check("waiting helper killed: the next start works"):
            for _ in range(3):
                waiting = {p["pid"] for p in self.processes() if "further-link-exec@" in p["group"]}
                machine.run("kill", "-KILL", *map(str, waiting), check=False)
                wait_for("they are dead", lambda: not waiting & {p["pid"] for p in self.processes()})
                with Client(INSIDE) as client:
                    equal(client.run(code="print('next')")[0], "next\n")
        with check("program killed: told as such"):
            with Client(INSIDE) as client:
                client.start("1", code="import os, time; print(os.getpid(), flush=True); time.sleep(600)")
                machine.run("kill", "-KILL", client.output_until("\n", "1").strip())
                equal(client.expect("stopped", "1")["data"]["exitCode"], -9)

    def endings(self):
        with check("a program ends by itself: what it left behind is gone within a second"):
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE_WITH_SUDO)
                _, group = self.escaped(client, "1")
                client.expect("stopped", "1")
                self.none_left(group)
        with check("stop: its grace is respected, what it left behind is gone within a second"):
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE + TIDY)
                _, group = self.escaped(client, "1")
                time.sleep(0.1)  # until TIDY, in the same program, has set its handler
                begun = time.monotonic()
                client.send("stop", "1")
                equal(client.expect("stopped", "1")["data"]["exitCode"], 0)
                assert 0.7 < time.monotonic() - begun < patient(3), f"stopped after {time.monotonic() - begun:.1f} s"
                self.none_left(group)
        with check("a browser leaves: its programs are gone within a second"):
            client = Client(INSIDE)
            client.start("1", code=ESCAPE + "\ntime.sleep(600)")
            _, group = self.escaped(client, "1")
            client.sock.close()
            self.none_left(group)
        with check("a browser leaves: programs that can tidy up have their grace, then they are gone within a second"):
            machine = self.machine
            machine.run("rm", "-f", "/home/pi/tidied")
            client = Client(INSIDE)
            client.start("1", code=ESCAPE_WITH_SUDO + TIDY)
            _, group = self.escaped(client, "1")
            time.sleep(0.1)  # until TIDY, in the same program, has set its handler
            client.sock.close()
            self.none_left(group, GRACE + GONE_WITHIN)
            assert "tidied" in machine.run("ls", "/home/pi")

        with check("a browser vanishes without a word: noticed, and its programs end"):
            self.configure("FURTHER_LINK_CLIENT_TIMEOUT=6")
            client = Client(INSIDE)
            client.start("1", code=ESCAPE + "\ntime.sleep(600)")
            _, group = self.escaped(client, "1")
            self.machine.unplug()
            try:
                # The last probe's answer is waited for as well, and a busy machine is late with both.
                self.none_left(group, 6 + 3 + GONE_WITHIN)
            finally:
                self.machine.plug_in()
                client.sock.close()
                self.configure("")
            self.serves()
