"""Limits, seen in force: of processes, memory and processor time, of one run and of all together, and of a runner's file.

Called by boot.py. In a container the host holds the control groups, and nothing of this can be seen.
"""

import re
import threading
import time

from checks import check, equal
from client import Client, get
from machine import INSIDE, wait_for
from support import Support

SLICE = "/furtherlink.slice"
# As in further-link-exec@.service and furtherlink.slice.
TASKS_OF_A_RUN, TASKS_OF_ALL = 512, 4096
MEMORY_OF_A_RUN, MEMORY_OF_ALL = 0.6, 0.8
TOO_MUCH = "the program was ended because it used too much memory"

GROUP = "group = '/sys/fs/cgroup' + open('/proc/self/cgroup').read().split('0::')[1].strip()\n"
# Makes processes until it may not, and says how many there are.
BOMB = GROUP + """
import os, sys, time
while True:
    try:
        child = os.fork()
    except BlockingIOError:
        break
    if child == 0:
        time.sleep(600)
print(open(group + '/pids.current').read(), flush=True)
sys.exit(1)
"""
# Every process makes others, for ever.
ENDLESS_BOMB = """
import os
while True:
    try: os.fork()
    except BlockingIOError: pass
"""
# Takes so many parts of the device's memory, then waits.
HOG = """
total = 1024 * int(open('/proc/meminfo').readline().split()[1])
taken = []
for _ in range(int(total * {share}) >> 23):
    taken.append(b'x' * (1 << 23))
print('full', flush=True)
input()
"""
ECHO = "while True: print(input(), flush=True)"
# A loop on the first processor. It says where it is.
BUSY = GROUP + """
import os
os.sched_setaffinity(0, [0])
print(group, flush=True)
while True: pass
"""


class Limits(Support):
    def limits(self):
        if self.is_container:
            print("SKIPPED in a container: NO limit of memory, processes or processor time is looked at (--vm does)")
            return
        self.limits_are_set()
        self.limits_of_a_run()
        self.limits_of_a_runner()
        self.limits_of_all()
        self.weight()
        self.others_go_on()

    def value(self, group, name):
        return self.machine.run("cat", f"/sys/fs/cgroup{group}/{name}").strip()

    def near(self, found, share, what):
        total = 1024 * int(self.machine.run("cat", "/proc/meminfo").split()[1])
        assert abs(int(found) - share * total) < 0.01 * total, f"{what}: {found} of {total}, wanted {share}"

    def greeted(self):
        """A client to which it is said why a program ended."""
        client = Client(INSIDE)
        client.send("hello", version=1)
        client.expect("hello")
        return client

    def limits_are_set(self):
        with check("the limits of the slice, of a run and of the frontend are where the kernel looks"):
            equal((self.value(SLICE, "pids.max"), self.value(SLICE, "cpu.weight")), (str(TASKS_OF_ALL), "50"))
            self.near(self.value(SLICE, "memory.max"), MEMORY_OF_ALL, "memory of all runs")
            with Client(INSIDE) as client:
                client.start("1", code=GROUP + "print(group.removeprefix('/sys/fs/cgroup'), flush=True); input()")
                group = client.output_until("\n", "1").strip()
                assert group.startswith(f"{SLICE}/further-link-exec@"), group
                equal(self.value(group, "pids.max"), str(TASKS_OF_A_RUN))
                self.near(self.value(group, "memory.max"), MEMORY_OF_A_RUN, "memory of a run")
            equal(self.machine.run("cat", f"/proc/{self.main_pid()}/oom_score_adj").strip(), "-200", "frontend's score")
            equal(self.value("/system.slice/further-link.service", "memory.max"), str(576 << 20))

    def limits_of_a_run(self):
        with check("a fork bomb stops at TasksMax, and its person is told"):
            with self.greeted() as client:
                client.start("1", code=BOMB)
                count = client.output_until("\n", "1", 60).strip()
                equal(count, str(TASKS_OF_A_RUN))
                stopped = client.expect("stopped", "1", 60)["data"]
                equal((stopped["exitCode"], stopped["reason"]), (1, "processes"))
        with check("a memory hog ends alone at MemoryMax, and its person is told"):
            with self.greeted() as client:
                self.hog_ends_alone(client, 0.9)
            equal(self.machine.show("further-link.service", "NRestarts"), "0")

    def hog_ends_alone(self, client, share):
        client.start("other", code=ECHO)
        self.ends_for_memory(client, "hog", HOG.format(share=share))
        client.send("stdin", "other", input="unharmed\n")
        client.output_until("unharmed", "other")

    def ends_for_memory(self, client, process, code, runner="python3"):
        client.start(process, runner, code=code)
        said = client.expect("stderr", process, 60)["data"]["output"]
        assert TOO_MUCH in said, said
        stopped = client.expect("stopped", process)["data"]
        equal((stopped["exitCode"], stopped["reason"]), (-9, "memory"))

    def limits_of_a_runner(self):
        machine, path = self.machine, "/etc/further-link/runners.d/small.toml"
        limits = "[limits]\nmemory = 100\nprocesses = 20\n"
        machine.write(path, f'id = "small"\ntitle = "Small"\nentry = "x"\n[run]\nargv = ["python3", "{{file}}"]\n{limits}')

        def is_listed():
            with Client(INSIDE) as client:
                client.send("hello", version=1)
                return any(runner["id"] == "small" for runner in client.expect("hello")["data"]["runners"])

        wait_for("the new runner", is_listed)
        with check("a runner's own limits of processes and memory are kept by the kernel"):
            with self.greeted() as client:
                client.start("1", "small", code=BOMB)
                # The watcher is not one of the 20.
                equal(client.output_until("\n", "1", 60).strip(), "21")
                equal(client.expect("stopped", "1", 60)["data"]["reason"], "processes")
                self.ends_for_memory(client, "2", "taken = b'x' * (200 << 20)\n", "small")
                equal(client.run("3", "small", code="taken = b'x' * (50 << 20); print('enough')")[0], "enough\n")
        machine.run("rm", path)

    def limits_of_all(self):
        with check("two programs that fit one by one, and not together: one ends, the other and the frontend stay"):
            with self.greeted() as client:
                for process in "12":
                    client.start(process, code=HOG.format(share=0.45))
                # Whichever of both the kernel takes.
                stopped = client.expect("stopped", None, 60)
                equal((stopped["data"]["exitCode"], stopped["data"]["reason"]), (-9, "memory"))
                other = "1" if stopped["process"] == "2" else "2"
                client.send("stdin", other, input="\n")
                equal(client.expect("stopped", other, 60)["data"]["exitCode"], 0)
            equal(self.machine.show("further-link.service", "NRestarts"), "0")

    def weight(self):
        with check("an endless loop gets half of what a service gets beside it"):
            machine = self.machine
            with Client(INSIDE) as client:
                client.start("1", code=BUSY)
                run = client.output_until("\n", "1").strip()
                machine.run("systemd-run", "--quiet", "--unit=busy", "python3", "-c", BUSY)
                service = "/sys/fs/cgroup/system.slice/busy.service"
                wait_for("the service's loop", lambda: self.used(service) > 500_000)
                before = self.used(run), self.used(service)
                # Long beside a turn of the scheduler, which is some milliseconds.
                wait_for("six seconds of the processor", lambda: self.used(run) - before[0] + self.used(service) - before[1] > 6_000_000, 30)
                of_run, of_service = self.used(run) - before[0], self.used(service) - before[1]
                machine.run("systemctl", "stop", "busy.service")
            print(f"     run {of_run / 1e6:.2f} s, service {of_service / 1e6:.2f} s: {of_run / of_service:.2f}")
            # Without a weight it is 1.
            assert of_run / of_service < 0.75, f"{of_run / of_service:.2f}"

    def used(self, group):
        """Microseconds of processor time."""
        return int(re.search(r"usage_usec (\d+)", self.machine.run("cat", f"{group}/cpu.stat"))[1])

    def others_go_on(self):
        with check("beside an endless fork bomb, a memory hog and a busy loop /status and another program answer"):
            delays, stop = {"/status": [], "a program's answer": []}, threading.Event()
            ends = {"memory": 0, "not started in time": 0}

            def bad_company():
                # Again and again: each ends for want of memory.
                with self.greeted() as client:
                    for number in range(1000):
                        if stop.is_set():
                            return
                        client.send("start", str(number), runner="python3", code=HOG.format(share=0.9))
                        while (message := client.receive(60))["type"] not in ("stopped", "error"):
                            pass
                        # Beside a fork bomb on an emulated processor a start may take the whole of the time it is given.
                        ends["memory" if message["type"] == "stopped" else "not started in time"] += 1

            # A failure in the middle leaves it behind, and the test ends all the same.
            hogs = threading.Thread(target=bad_company, daemon=True)
            with Client(INSIDE) as good:
                good.start("good", code=ECHO)
                with Client(INSIDE) as bomb:
                    bomb.start("bomb", code=ENDLESS_BOMB)
                    bomb.start("busy", code="while True: pass")
                    hogs.start()
                    first = time.monotonic()
                    for number in range(60):
                        if number > 10 and time.monotonic() - first > 60:
                            break
                        begun = time.monotonic()
                        equal(get(INSIDE, "/status"), (200, "OK"))
                        delays["/status"].append(time.monotonic() - begun)
                        begun = time.monotonic()
                        good.send("stdin", "good", input=f"{number}\n")
                        good.output_until(f"{number}\n", "good")
                        delays["a program's answer"].append(time.monotonic() - begun)
                # The last hog has the processors to itself now.
                stop.set()
                hogs.join()
            for what, found in delays.items():
                found.sort()
                print(f"     {what}, {len(found)} times: median {found[len(found) // 2]:.2f} s, p99 {found[int(len(found) * 0.99)]:.2f} s")
            print(f"     hogs: {ends}")
            self.serves()
            equal((self.machine.show("further-link.service", "NRestarts"), self.failed_units()), ("0", ""))

    def without_memory_controller(self):
        if self.is_container:
            return
        with check("a Raspberry Pi's command line, without the memory controller: one line of the log says how to switch it on"):
            self.machine.reboot(kernel_options="cgroup_disable=memory")
            self.serves()
            lines = [entry["MESSAGE"] for entry in self.journal("SYSLOG_IDENTIFIER=further-link")]
            named = [line for line in lines if "cmdline.txt" in line]
            assert len(named) == 1 and "cgroup_enable=memory cgroup_memory=1" in named[0], lines
        with check("there, too, a memory hog ends, its person is told, and the frontend stays"):
            before = self.main_pid()
            with self.greeted() as client:
                self.hog_ends_alone(client, 2)
                # What is killed by hand is not said to have used too much memory, although something has before.
                client.start("killed", code="import os; os.kill(os.getpid(), 9)")
                stopped = client.expect("stopped", "killed")["data"]
                equal((stopped["exitCode"], stopped["reason"]), (-9, "exited"))
            equal(self.main_pid(), before)
