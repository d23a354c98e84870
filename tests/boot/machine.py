"""The machine under test: a throw-away Debian with a network cable to this process. Here: what any such machine does, and
one that is a container, booted by systemd-nspawn. vm.py has one that is a computer of its own.

Used by support.py for boot.py, which `run` starts in mount, network and pid namespaces of its own. Everything made here
(mounts, processes, the virtual cable) ends with them. Nothing of the test is installed in a container: commands in it are
run with nsenter.
"""

import json
import os
import subprocess
import time

from pace import patient

OUTSIDE, INSIDE = "192.0.2.1", "192.0.2.2"
NAME = "fl-boot"
# The end of the cable on this side.
CABLE = f"ve-{NAME}"
# Not a part of what is tested, and slow to stop.
MASKED = "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd-wait-online.service"
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Fatal(Exception):
    """The machine is of no more use; the remaining checks would say nothing."""


def wait_for(what, condition, timeout=5.0, pause=0.02):
    """Waits until a condition is true and returns what it returned."""
    timeout = patient(timeout)
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(pause)


class Machine:
    """What both kinds have in common. They differ in how they boot, and in how a command gets in (`_enter`)."""

    # Its end of the cable.
    device = "host0"
    # What the process ends with when the machine reboots.
    rebooted = 0

    def __init__(self, scratch):
        self.scratch = scratch
        self.log = os.path.join(scratch, "console.log")
        self.process = None
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    def _is_up(self):
        state = self.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    def still_runs(self):
        if self.process.poll() is not None:
            raise Fatal(f"the machine ended with {self.process.returncode}:\n{self.console()}")

    def plug_in(self):
        """Addresses for both ends of the cable. The documentation range (RFC 5737): it exists nowhere else."""
        subprocess.run(["ip", "address", "replace", f"{OUTSIDE}/30", "dev", CABLE], check=True)
        subprocess.run(["ip", "link", "set", CABLE, "up"], check=True)
        self.run("ip", "address", "replace", f"{INSIDE}/30", "dev", self.device)
        self.run("ip", "link", "set", self.device, "up")

    def unplug(self):
        """Pulls the cable: neither side is told."""
        subprocess.run(["ip", "link", "set", CABLE, "down"], check=True)

    def popen(self, *command):
        """Starts a command in the machine; its output can be read from."""
        return subprocess.Popen(self._enter(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def run(self, *command, check=True, timeout=60.0, input=None):
        """Runs a command in the machine, as root, with a clean environment. Its output."""
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            self._enter(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patient(timeout), **stdin
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)[:200]}: exit {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def python(self, code, *args, user=None):
        """Runs Python in the machine; what it prints is JSON."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return json.loads(self.run(*become, "python3", "-c", code, *args))

    def exists(self, path):
        return self.run("sh", "-c", 'test ! -e "$1" || echo there', "sh", path).strip() == "there"

    def show(self, unit, *properties):
        """Properties of a unit, as strings."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        return [found.get(name, "") for name in properties] if len(properties) > 1 else found.get(properties[0], "")

    def write(self, path, text):
        self.run("tee", path, input=text)

    def copy_in(self, path):
        """A file of this machine, to /root in the other. Through a pipe: both see different file systems."""
        target = f"/root/boot{os.path.splitext(path)[1]}"
        with open(path, "rb") as file:
            subprocess.run(self._enter(["dd", f"of={target}", "status=none"]), stdin=file, check=True)
        return target

    def reboot(self, timeout=60.0, **options):
        self.run("systemctl", "reboot", check=False)
        try:
            status = self.process.wait(patient(timeout))
        except subprocess.TimeoutExpired:
            left = self.run("ps", "-eo", "pid,user,stat,wchan:20,args", check=False)
            raise Fatal(f"no shutdown within {timeout} s:\n{self.console()}\n{left}") from None
        if status != self.rebooted:
            raise Fatal(f"the machine ended with {status} instead of a reboot:\n{self.console()}")
        self.boot(timeout, **options)

    def power_off(self, timeout=20.0):
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.run("systemctl", "poweroff", check=False, timeout=10)
            self.process.wait(patient(timeout))
        except (subprocess.TimeoutExpired, AssertionError):
            self.process.kill()
            self.process.wait()

    def console(self):
        with open(self.log, errors="replace") as file:
            return file.read()[-3000:]


class Container(Machine):
    # With --keep-unit a reboot is left to the service manager above: this test (systemd-nspawn(1), exit status 133).
    rebooted = 133

    def __init__(self, base, scratch):
        super().__init__(scratch)
        self.root = os.path.join(scratch, "root")
        self.leader = None
        os.makedirs(self.root, exist_ok=True)
        # systemd-nspawn leaves directories there; this one ends with the mount namespace.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "boot", "/run"], check=True)
        memory = os.path.join(scratch, "memory")
        os.makedirs(memory, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "boot", memory], check=True)
        for name in ("upper", "work"):
            os.mkdir(os.path.join(memory, name))
        layers = f"lowerdir={base},upperdir={memory}/upper,workdir={memory}/work"
        mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], capture_output=True)
        if mounted.returncode != 0:
            # Overlays on overlays (some containers) do not work: a copy does.
            subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", self.root], check=True)
        subprocess.run(["chroot", self.root, "systemctl", "--quiet", "mask", *MASKED], check=True)

    def boot(self, timeout=60.0):
        command = ["systemd-nspawn", "--quiet", "--directory", self.root, "--machine", NAME, "--boot"]
        # No machined to register with, and no unit of the host's to be moved to. A cable, not the host's network.
        command += ["--register=no", "--keep-unit", "--network-veth", "--link-journal=no", "--resolv-conf=off"]
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=open(self.log, "ab"), stderr=subprocess.STDOUT, env=environment
        )
        self.leader = wait_for("a first process", lambda: next(self._children(), None), timeout)
        wait_for("a system that is up", self._is_up, timeout, 0.1)
        self.plug_in()

    def _children(self):
        self.still_runs()
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/comm") as comm:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and comm.read().strip() == "systemd":
                        yield int(entry)
            except (FileNotFoundError, ProcessLookupError):
                pass

    def _enter(self, command):
        enter = ["nsenter", "--target", str(self.leader), "--all", "--", "env", "-i"]
        return enter + [f"{name}={value}" for name, value in ENVIRONMENT.items()] + list(command)
