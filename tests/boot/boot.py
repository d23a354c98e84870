"""The package in a booted Debian, tried from outside: installed, used, restarted, killed, rebooted, upgraded, removed.

Called by `run` with the base system, the package and a scratch directory. Every check stands for itself and prints PASS
or FAIL; what a check needs, it makes. The last line is "N passed, N failed".
"""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

from client import PORT, Client, Timeout, Trust, connect, get, post
from machine import INSIDE, Fatal, Machine, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds for the whole test; it takes about 55 on two processors, 110 on busy ones.
TIME_LIMIT = 300
HELPER = "further-link-exec-helper"
CAP_KILL = 1 << 5
# How long anything of a run may live on, and the grace that programs with a handler for SIGTERM have before that.
GONE_WITHIN, GRACE = 1.0, 2.0

passed, failed = [], []
started_at = time.monotonic()


@contextlib.contextmanager
def check(name):
    begun = time.monotonic()
    try:
        yield
    except Fatal:
        failed.append(name)
        print(f"FAIL {name}", flush=True)
        raise
    except Exception as error:  # a check may fail in any way it likes
        failed.append(name)
        print(f"FAIL {name}\n     {type(error).__name__}: {error}", flush=True)
        where = traceback.extract_tb(error.__traceback__)
        print("     at " + " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(where[-4:])), flush=True)
    else:
        passed.append(name)
        print(f"PASS {name} ({time.monotonic() - begun:.2f} s)", flush=True)


def equal(found, wanted, what=""):
    assert found == wanted, f"{what + ': ' if what else ''}{found!r}, wanted {wanted!r}"


# --- looking into the machine

LOOK = """
import json, os
own = os.readlink('/proc/self/ns/cgroup')
found = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        group = open(f'/proc/{pid}/cgroup').read().split('0::')[1].strip()
        status = dict(line.rstrip().split(':', 1) for line in open(f'/proc/{pid}/status'))
        command = open(f'/proc/{pid}/cmdline').read().replace('\\0', ' ').strip()
    except (FileNotFoundError, ProcessLookupError):
        continue
    # The test's own commands are in a group outside of the machine's.
    if not group.startswith('/..') and status['State'].strip()[0] != 'Z':
        found.append(dict(pid=int(pid), group=group, command=command, name=status['Name'].strip(), uid=int(status['Uid'].split()[0])))
print(json.dumps(found))
"""

COUNT = """
import json, os, subprocess
units = subprocess.run(['systemctl', 'list-units', '--all', '--plain', '--no-legend'], capture_output=True, text=True).stdout
pid = subprocess.run(['systemctl', 'show', '-P', 'MainPID', 'further-link.service'], capture_output=True, text=True).stdout.strip()
instance = lambda name: name.split('@')[0] + '@' if '@' in name else name
tree = lambda top: sorted(os.path.join(at, name) for at, dirs, names in os.walk(top) for name in dirs + names)
print(json.dumps({
    'units': sorted(instance(line.split()[0]) for line in units.splitlines()),
    'cgroups': sorted(instance(at) for at, _, _ in os.walk('/sys/fs/cgroup')),
    'descriptors of the frontend': len(os.listdir(f'/proc/{pid}/fd')),
    'descriptors of PID 1': len(os.listdir('/proc/1/fd')),
    'files': tree('/tmp') + tree('/home') + tree('/run/further-link') + tree('/dev/shm') + tree('/var/tmp'),
}))
"""

# What a program finds about itself. fork: listing /proc/self/fd needs a descriptor of its own.
SELF = """
import json, os, resource, signal
status = dict(line.rstrip().split(':', 1) for line in open('/proc/self/status'))
fds = {}
for fd in os.listdir('/proc/self/fd'):
    try: fds[fd] = os.readlink('/proc/self/fd/' + fd)
    except OSError: pass
with open(os.path.expanduser('~/written'), 'w') as file: file.write('x')
with open('/tmp/written', 'w') as file: file.write('x')
shared = os.path.exists('/tmp/of-the-machine')
os.unlink(os.path.expanduser('~/written')); os.unlink('/tmp/written')
mask = os.umask(0)
print(json.dumps(dict(
    uids=os.getresuid(), gids=os.getresgid(), groups=sorted(os.getgroups()), fds=sorted(fds), umask=mask, env=dict(os.environ),
    session=os.getsid(0) == os.getpgid(0) == os.getpid(), pid=os.getpid(), cwd=os.getcwd(), shared=shared,
    files=resource.getrlimit(resource.RLIMIT_NOFILE), core=resource.getrlimit(resource.RLIMIT_CORE), nice=os.nice(0),
    oom=int(open('/proc/self/oom_score_adj').read()), group=open('/proc/self/cgroup').read().split('0::')[1].strip(),
    **{key: status[key].strip() for key in ('CapEff', 'CapPrm', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp')},
    namespaces={name: os.readlink('/proc/self/ns/' + name) for name in ('mnt', 'net', 'pid', 'ipc', 'user', 'uts')})))
"""

# Children that do not want to be found: own session, forked twice, TERM and HUP ignored, outputs closed.
ESCAPING = """
import os, signal, subprocess, sys, time
def escape(*command):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for fd in range(3): os.close(fd)
            os.execvp(command[0], command)
        os._exit(0)
    os.wait()
escape('sleep', '7777')
if SUDO: escape('sudo', '-n', 'setsid', 'sleep', '7777')
escape('sh', '-c', 'while :; do sleep 0.01; : 7777; done')
escape('sh', '-c', 'kill -STOP $$; : 7777')
subprocess.run(['bash', '-c', 'nohup sleep 7777 >/dev/null 2>&1 & disown'])
escape('python3', '-c', 'import os  # 7777\\nwhile True:\\n if os.fork(): os._exit(0)')
time.sleep(0.3)
print('escaped', os.getpid(), open('/proc/self/cgroup').read().split('0::')[1].strip(), flush=True)
"""
# All of these are gone at once, since none has a handler for SIGTERM that a grace would be for.
ESCAPE = "SUDO = False" + ESCAPING
# sudo has one, and hides its child behind another uid.
ESCAPE_WITH_SUDO = "SUDO = True" + ESCAPING

TIDY = """
import signal, sys, time
def tidy(*_):
    time.sleep(0.8)
    open('/home/pi/tidied', 'w').close()
    sys.exit(0)
signal.signal(signal.SIGTERM, tidy)
print('ready', flush=True)
time.sleep(600)
"""

# Shows a picture when it hears the key, another one when that is pressed, and ends when it is released.
SHOW_AND_HEAR = """
from threading import Event
from PIL import Image
from further_link import KeyboardButton, send_image
show = lambda colour: send_image(Image.new('RGB', (32, 24), colour))
released = Event()
key = KeyboardButton('ArrowUp')
key.when_pressed = lambda: show('orange')
key.when_released = released.set
show('navy')
if released.wait(10): print('released')
"""

# The smallest request for a shell: PROTOCOL.md, "run-least".
SHELL = "030000000002000000"

# A project of two files.
PROJECT = {"name": "boot test", "files": {
    "main.py": {"type": "text", "content": {"text": "print(open('sub/data').read())"}},
    "sub/data": {"type": "text", "content": {"text": "from the disk"}},
}}


class Test:
    def __init__(self, base, package, scratch):
        self.package, self.scratch = package, scratch
        self.machine = Machine(base, scratch)

    # --- helpers

    def processes(self, *, of_runs=True):
        """Processes of the machine; those of runs and of the two daemons only, unless all are wanted."""
        found = self.machine.python(LOOK)
        return [p for p in found if not of_runs or "further" in p["group"]]

    def escaped(self, client, process):
        """The pid of a program of ESCAPE and its cgroup, once its children have escaped."""
        found = re.search(r"escaped (\d+) (\S+)", client.output_until(".service\n", process))
        return int(found[1]), found[2]

    def none_left(self, group, within=GONE_WITHIN):
        """Nothing of a run: no process with the number that ESCAPE's children carry, and no cgroup, which could hold one
        that is too quick to be seen."""

        def gone():
            left = [p["command"] for p in self.processes(of_runs=False) if "7777" in p["command"] or p["group"] == group]
            if os.path.isdir(f"/proc/{self.machine.leader}/root/sys/fs/cgroup{group}"):
                left.append(group)
            self.left = left
            return not left

        # The limit is one of a machine that has nothing else to do: killing what forks for ever is a race for the
        # processors. Time counts in full while not more than twice as many processes want to run as there are processors
        # (what escapes here is no more than that), and by its share above.
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

    def repack(self, version):
        """The same package under a higher version."""
        tree, target = os.path.join(self.scratch, "repack"), os.path.join(self.scratch, f"{version}.deb")
        subprocess.run(["dpkg-deb", "-R", self.package, tree], check=True)
        control = os.path.join(tree, "DEBIAN/control")
        with open(control) as file:
            text = re.sub(r"(?m)^Version: .*$", f"Version: {version}", file.read())
        with open(control, "w") as file:
            file.write(text)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, target], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
        return target

    def predecessor(self):
        """A package in the shape of the original: one root service that opens the port itself."""
        tree, target = os.path.join(self.scratch, "old"), os.path.join(self.scratch, "old.deb")
        os.makedirs(f"{tree}/DEBIAN")
        os.makedirs(f"{tree}/lib/systemd/system")
        with open(f"{tree}/DEBIAN/control", "w") as file:
            file.write("Package: further-link\nVersion: 5.11.2\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: old\n")
        with open(f"{tree}/DEBIAN/postinst", "w") as file:
            file.write("#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable --now further-link.service\n")
        os.chmod(f"{tree}/DEBIAN/postinst", 0o755)
        with open(f"{tree}/lib/systemd/system/further-link.service", "w") as file:
            file.write(f"[Service]\nExecStart=/usr/bin/python3 -m http.server {PORT}\n[Install]\nWantedBy=multi-user.target\n")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, target], check=True, stdout=subprocess.DEVNULL)
        return target

    # --- the checks, in the order of a package's life

    def all(self):
        self.prepare()
        self.installed()
        self.certificates()
        self.runs()
        self.python_package()
        self.user_channel()
        self.strangers()
        self.uploads()
        self.policy()
        self.terminal()
        self.privileges()
        self.journal_lines()
        self.restarts()
        self.kills()
        self.endings()
        self.floods()
        self.counts()
        self.rebooted()
        self.upgraded()
        self.removed()
        self.replaces_predecessor()

    def prepare(self):
        with check("a Debian boots"):
            machine = self.machine
            # uid 0 of the machine is uid 0 outside: people and their rights as on a Raspberry Pi.
            for name in ("pi", "alice"):
                machine.chroot("useradd", "--create-home", "--shell", "/bin/bash", name)
            machine.chroot("usermod", "--append", "--groups", "video,dialout,sudo", "pi")
            machine.chroot("sh", "-c", "echo 'pi ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/pi")
            # Not a part of what is tested, and slow to stop.
            machine.chroot("systemctl", "mask", "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd-wait-online.service")
            machine.boot()

    def installed(self):
        machine = self.machine
        with check("the package installs, and its units are up at once"):
            path = machine.copy_in(self.package)
            machine.run("dpkg", "--install", path)
            for unit in ("further-link.socket", "further-link-exec.socket", "further-link-files.socket", "further-link.service"):
                equal(machine.show(unit, "ActiveState", "UnitFileState"), ["active", "enabled"], unit)
            equal(machine.show("further-link.service", "NRestarts"), "0", "restarts")
        with check("the accounts have no shell, no password and no home"):
            for name in ("further-link", "further-link-exec"):
                entry = machine.run("getent", "passwd", name).strip().split(":")
                equal(entry[5:], ["/nonexistent", "/usr/sbin/nologin"], name)
                assert machine.run("getent", "shadow", name).split(":")[1].startswith("!"), name
        with check("the man pages name every option of the programs"):
            for program, page in (("/usr/bin/further-link", "man1/further-link.1"), (f"/usr/libexec/further-link/{HELPER}", f"man8/{HELPER}.8")):
                usage = machine.run(program, "--help")
                manual = machine.run("zcat", f"/usr/share/man/{page}.gz").replace("\\-", "-")
                missing = [option for option in sorted(set(re.findall(r"--[a-z][a-z-]*", usage)) - {"--name", "--option"}) if option not in manual]
                equal(missing, [], page)
        with check("GET /status is OK from outside, under the certificate that `further-link fingerprint` tells of"):
            try:
                self.compare()
                equal(get(INSIDE, "/status"), (200, "OK"))
            except Exception as error:
                raise Fatal(f"the frontend does not answer: {error}") from None

    def certificates(self):
        machine = self.machine
        state, extra = "/var/lib/further-link", "/etc/further-link/extra"
        with check("the device's own key is the frontend's alone"):
            for path, wanted in ((state, "further-link further-link 700"), (f"{state}/key.pem", "further-link further-link 600")):
                equal(machine.run("stat", "-c", "%U %G %a", path).strip(), wanted, path)
            own = self.compare()
            assert "localhost" in own["names"] and machine.run("hostname").strip() in own["names"].split(", "), own
        with check("it stays when the service is restarted"):
            machine.run("systemctl", "restart", "further-link.service")
            self.serves()
            equal(self.compare(), own)
        with check("an administrator's certificate is served without a restart, its key root's"):
            before = self.main_pid()
            for name in ("cert.pem", "key.pem"):
                with open(os.path.join(self.scratch, name)) as file:
                    machine.write(f"{extra}/{name}", file.read())
            machine.run("chgrp", "further-link", f"{extra}/key.pem")
            machine.run("chmod", "640", f"{extra}/key.pem")
            equal(self.compare()["certificate"], f"{extra}/cert.pem")
            self.serves(10)
            equal(self.main_pid(), before, "the frontend's pid")
        with check("while the service may not read the key the device's own serves, and one line names the repair"):
            machine.run("chmod", "600", f"{extra}/key.pem")
            machine.run("systemctl", "restart", "further-link.service")
            Trust.fingerprint = own["SHA-256"]
            self.serves()
            lines = [entry["MESSAGE"] for entry in self.journal("SYSLOG_IDENTIFIER=further-link")]
            named = [line for line in lines if f"{extra}/key.pem: the account further-link may not read it" in line]
            assert len(named) == 1 and f"chmod 640 {extra}/key.pem" in named[0], lines
        with check("without those files the device's own is served again"):
            machine.run("rm", f"{extra}/cert.pem", f"{extra}/key.pem")
            machine.run("systemctl", "restart", "further-link.service")
            equal(self.compare(), own)
            self.serves()

    def runs(self):
        machine = self.machine
        machine.run("touch", "/tmp/of-the-machine")
        found = {}
        with check("a program runs as pi, who is the default"):
            with Client(INSIDE) as client:
                out, err, code = client.run(code="import getpass, sys; print(getpass.getuser()); sys.exit(3)")
                equal((out, err, code), ("pi\n", "", 3))
        with check("its identity is a login's: ids, groups, session, umask, signals, descriptors"):
            found = self.identity("?user=pi")
            uid, gid = self.uid("pi"), int(machine.run("id", "-g", "pi"))
            equal((found["uids"], found["gids"]), ([uid] * 3, [gid] * 3))
            equal(found["groups"], sorted(map(int, machine.run("id", "-G", "pi").split())), "groups")
            equal((found["umask"], found["session"], found["fds"]), (0o022, True, ["0", "1", "2"]))
            with Client(INSIDE) as client:  # not from Python, which ignores two signals itself
                client.start("1", "shell")
                client.send("stdin", "1", input="grep -E '^Sig(Blk|Ign)' /proc/self/status\nexit\n")
                masks = client.output_until("SigIgn", "1").split()
                equal(masks[1::2], ["0" * 16] * 2, "blocked and ignored signals")
            # The machine has the niceness of the process that runs this test.
            usual = os.getpriority(os.PRIO_PROCESS, machine.leader)
            equal((found["oom"], found["nice"]), (0, usual), "out-of-memory score and niceness")
        with check("no restriction of ours reaches it: no filter, no bounding set, no namespace, shared /tmp, home"):
            first = self.status_of(1)
            equal((found["NoNewPrivs"], found["CapEff"], found["CapAmb"]), ("0", "0" * 16, "0" * 16))
            equal((found["Seccomp"], found["CapBnd"]), (first["Seccomp"], first["CapBnd"]), "filter and bounding set, as PID 1's")
            equal(found["shared"], True, "sees the machine's /tmp")
            for name, value in found["namespaces"].items():
                equal(value, machine.run("readlink", f"/proc/1/ns/{name}").strip(), f"{name} namespace")
        with check("nothing of the daemons' settings is in its environment"):
            leaked = [name for name in found["env"] if re.match("FURTHER_LINK_(?!TEMP_DIR|CHANNEL)|INVOCATION|JOURNAL|LISTEN|NOTIFY|WATCHDOG|SYSTEMD|MEMORY_PRESSURE", name)]
            equal(leaked, [])
            equal({key: found["env"].get(key) for key in ("HOME", "USER", "LOGNAME", "SHELL")}, dict(HOME="/home/pi", USER="pi", LOGNAME="pi", SHELL="/bin/bash"))
        with check("its sudo works"):
            with Client(INSIDE) as client:
                equal(client.run(code="import os; os.system('sudo -n id -u')")[0], "0\n")
        with check("it is in a unit of its own, in the slice of all runs"):
            assert re.fullmatch(r"/further\.slice/further-link\.slice/further-link-runs\.slice/further-link-exec@[^/]*\.service", found["group"]), found["group"]
        with check("stdin, stderr and the exec runner work"):
            with Client(INSIDE) as client:
                client.start("1", code="import sys; print(input()); print('bad', file=sys.stderr)")
                client.send("stdin", "1", input="typed\n")
                equal(client.finish("1"), ("typed\n", "bad\n", 0))
                equal(client.run("2", "exec", path="/bin/true"), ("", "", 0))

    def python_package(self):
        machine = self.machine
        with check("programs of pi find the package for Python, and it is of this version"):
            code = "from further_link import KeyboardButton, send_image, __version__; print(__version__)"
            version = machine.run("dpkg-query", "-W", "-f", "${Version}", "further-link")
            as_pi = ("setpriv", "--reuid=pi", "--regid=pi", "--init-groups")
            equal(machine.run(*as_pi, "python3", "-W", "error", "-c", code), version + "\n", "at a terminal")
            with Client(INSIDE) as client:
                equal(client.run(code=code), (version + "\n", "", 0), "in a run")
        with check("it is compiled, and all of it is the package's"):
            where = "/usr/lib/python3/dist-packages/further_link"
            sources = [name for name in machine.run("ls", where).split() if name.endswith(".py")]
            compiled = machine.run("ls", f"{where}/__pycache__").split()
            equal(sorted(name.partition(".")[0] for name in compiled), sorted(name[:-3] for name in sources))
            examples = machine.run("ls", "/usr/share/doc/further-link/examples").split()
            equal(examples, ["camera.py", "rover.py"])

    def user_channel(self):
        with check("a program of pi shows a picture, and hears a key"):
            with Client(INSIDE) as client:
                self.show_and_hear(client, "1")
        with check("the way to the browser is a socket that only pi can reach, and it goes with the run"):
            code = "import os; path = os.environ['FURTHER_LINK_CHANNEL']; print(path, flush=True); input()"
            with Client(INSIDE) as client:
                client.start("1", code=code)
                path = client.output_until("\n", "1").strip()
                equal(self.machine.run("stat", "-c", "%U %G %a", path).strip(), "pi pi 600")
                client.send("stdin", "1", input="\n")
                client.expect("stopped", "1")
            inside = f"/proc/{self.machine.leader}/root{path}"
            wait_for("nothing is left of it", lambda: not os.path.exists(inside), 1)

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
        with check("anybody may ask whether it serves, unless a page does that is not listed"):
            equal(get(INSIDE, "/status", origin=None), (200, "OK"))
            equal(get(INSIDE, "/status", origin="https://evil.example"), refused)

    def refused(self, user):
        with Client(INSIDE, f"?user={user}") as client:
            client.send("start", "1", runner="python3", code="open('/tmp/must-not-be', 'w')")
            message = client.receive()
            equal(message["type"], "error", str(message))
            with contextlib.suppress(Timeout):
                raise AssertionError(f"more came: {client.receive(0.3)}")

    def uploads(self):
        machine = self.machine
        body = PROJECT
        stat = lambda *names: machine.run("stat", "-c", "%U %G %a", *(f"/home/pi/{name}" for name in names)).splitlines()
        with check("an upload is stored as pi, by the locked-down unit, and can be run"):
            for _ in range(2):
                equal(post(INSIDE, "/upload", body), (200, "OK"))
            directory = "further/boot test"
            equal(stat(directory, f"{directory}/sub"), ["pi pi 755"] * 2)
            equal(stat(f"{directory}/main.py", f"{directory}/sub/data"), ["pi pi 644"] * 2)
            with Client(INSIDE) as client:
                equal(client.run(path="boot test/main.py"), ("from the disk\n", "", 0))
            found = self.journal(f"SYSLOG_IDENTIFIER={HELPER}", "F_OUTCOME=stored")
            equal(len(found), 2, "lines")
            # journald cannot tell the unit of a process that has ended when it comes to the line; systemd can.
            assert all("further-link-files@" in entry.get("_SYSTEMD_UNIT", "further-link-files@") for entry in found), found
            started = {entry.get("UNIT") for entry in self.journal("_PID=1") if "further-link-files@" in entry.get("UNIT", "")}
            equal(len(started), 2, "units")
        with check("a project is copied to the projects of its person"):
            project = body | {"files": {"project.cfg": {"type": "text", "content": {"text": "x"}}}, "username": "ann@school.example"}
            equal(post(INSIDE, "/upload", project), (200, "OK"))
            equal(stat("Desktop/Projects/Further/ann/boot test/project.cfg"), ["pi pi 644"])
        with check("an upload outside of the work dir, or as somebody else, is refused and leaves nothing"):
            equal(post(INSIDE, "/upload", body | {"name": "../boot test"})[0], 500)
            equal(post(INSIDE, "/upload?user=alice", body)[0], 500)
            equal(machine.run("sh", "-c", "ls -A /home/pi/further; ls -d /home/alice/further 2>&1 || true").splitlines()[0], "boot test")
        with check("a url of the device itself is refused"):
            url = {"type": "url", "content": {"url": f"http://{INSIDE}:{PORT}/status", "bucketName": "b", "fileName": "f"}}
            equal(post(INSIDE, "/upload", body | {"files": {"f": url}})[0], 500)

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
        with check("root runs for those who have the token that the installation made, and for nobody else"):
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
        with check("nobody else may connect to the helper"):
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

    def terminal(self):
        with check("a terminal has a size, a controlling tty, and is the user's"):
            with Client(INSIDE, "?pty=1") as client:
                client.start("1", "shell")
                client.send("stdin", "1", input="stty size; tty </dev/tty; stat -c '%U %a' $(tty); echo en''d\r")
                out = client.output_until("end", "1")
                assert re.search(r"\b4 60\r\n", out), out
                assert re.search(r"/dev/(pts/\d+|tty)\r\n", out), out
                assert re.search(r"pi 6[02]0\r\n", out), out
                with check("its size follows the browser's"):
                    client.send("resize", "1", rows=31, cols=97)
                    client.send("stdin", "1", input="stty size; echo en''d\r")
                    assert "31 97\r\n" in client.output_until("end", "1")
                with check("Ctrl-C interrupts, and the terminal goes on"):
                    client.send("stdin", "1", input="echo go''ing; sleep 600\r")
                    client.output_until("going", "1")
                    time.sleep(0.2)  # until bash has made sleep the foreground job, which nothing announces
                    client.send("stdin", "1", input="\x03")
                    client.send("stdin", "1", input="echo was $?; echo en''d\r")
                    assert "was 130" in client.output_until("end", "1")
                with check("job control and exit work"):
                    client.send("stdin", "1", input="sleep 600 &\rjobs; exit 5\r")
                    equal(client.expect("stopped", "1")["data"]["exitCode"], 5)

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
        with check("restarting the helpers' socket cuts nobody off, and programs can be started at once"):
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
        with check("stopping the frontend ends even a run whose connection was passed to somebody else"):
            # A process of the frontend's account outside of its service, which holds a shell.
            code = """
import json, socket, subprocess, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.settimeout(5)
sock.connect('/run/further-link/exec.sock')
sock.send(bytes.fromhex(sys.argv[1]))
message, descriptors, _, _ = socket.recv_fds(sock, 9000, 5)
assert message[:2] == bytes([3, 1]) and len(descriptors) == 4, (message, descriptors)
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
                assert answered < 4, f"served after {answered:.1f} s"
        with check("a frontend that hangs is noticed by the watchdog and started anew"):
            equal(machine.show("further-link.service", "WatchdogUSec"), "30s")
            # As packaged, only sooner.
            drop_in = "/run/systemd/system/further-link.service.d"
            machine.run("mkdir", "-p", drop_in)
            machine.write(f"{drop_in}/watchdog.conf", "[Service]\nWatchdogSec=1\n")
            machine.run("systemctl", "daemon-reload")
            try:
                machine.run("systemctl", "restart", "further-link.service")
                self.serves()
                time.sleep(2.5)  # it says in time that it lives
                before = self.main_pid()
                equal(machine.show("further-link.service", "NRestarts"), "0", "restarts while it lives")
                machine.run("kill", "-STOP", str(before))
                wait_for("another frontend", lambda: self.main_pid() not in (0, before), 5, 0.1)
                self.serves()
            finally:
                machine.run("rm", "-r", drop_in)
                machine.run("systemctl", "daemon-reload")
                machine.run("systemctl", "restart", "further-link.service")
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
                assert 0.7 < time.monotonic() - begun < 3, f"stopped after {time.monotonic() - begun:.1f} s"
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
            drop_in, limit = "/run/systemd/system/further-link-exec.socket.d", 40
            code = """
import json, select, socket, time
socks, refused = [], 0
for _ in range(200):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try: sock.connect('/run/further-link/exec.sock'); socks.append(sock)
    except OSError: refused += 1
time.sleep(1.5)
poll = select.poll()
for sock in socks: poll.register(sock, select.POLLIN | select.POLLHUP)
print(json.dumps(refused + len(poll.poll(0))))
"""
            machine.run("mkdir", "-p", drop_in)
            machine.write(f"{drop_in}/limit.conf", f"[Socket]\nMaxConnections={limit}\n")
            machine.run("systemctl", "daemon-reload")
            machine.run("systemctl", "restart", "further-link-exec.socket")
            try:
                refused = machine.python(code, user="further-link")
                assert 200 - limit <= refused < 200, f"{refused} of 200 refused, limit {limit}"
                equal(machine.show("further-link-exec.socket", "ActiveState"), "active")
                wait_for("idle helpers end", lambda: len([p for p in self.processes() if "further-link-exec@" in p["group"]]) < 8, 10, 0.2)
                self.serves()
            finally:
                machine.run("rm", "-r", drop_in)
                machine.run("systemctl", "daemon-reload")
                machine.run("systemctl", "restart", "further-link-exec.socket")
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

    def rebooted(self):
        machine = self.machine
        with check("a reboot: a running program gets its grace, and the machine comes back serving"):
            machine.run("rm", "-f", "/home/pi/tidied")
            with Client(INSIDE) as client:
                client.start("1", code=TIDY)
                client.output_until("ready", "1")
                machine.reboot()
            self.serves()
            assert "tidied" in machine.run("ls", "/home/pi"), "the program was not given its grace at shutdown"
            for unit in ("further-link.socket", "further-link-exec.socket", "further-link.service"):
                equal(machine.show(unit, "ActiveState"), "active", unit)
            equal(self.failed_units(), "")

    def upgraded(self):
        machine = self.machine
        with check("an upgrade: the service is restarted, no connection is refused, settings are kept"):
            machine.write("/etc/default/further-link", "# mine\n")
            path = machine.copy_in(self.repack("6.0.0+boot1"))
            before = self.main_pid()
            stop, results = threading.Event(), []

            def knock():
                while not stop.is_set():
                    try:
                        connect(INSIDE, 2).close()
                        results.append("ok")
                    except OSError as error:
                        results.append(type(error).__name__)
                    time.sleep(0.005)

            thread = threading.Thread(target=knock)
            thread.start()
            try:
                machine.run("dpkg", "--install", "--force-confold", path)
                self.serves()
            finally:
                stop.set()
                thread.join()
            equal(sorted(set(results)), ["ok"], f"{len(results)} connections")
            assert self.main_pid() != before, "not restarted"
            assert "# mine" in machine.run("cat", "/etc/default/further-link")

    def removed(self):
        machine = self.machine
        with check("removal ends everything, and keeps the settings"):
            with Client(INSIDE) as client:
                client.start("1", code=ESCAPE_WITH_SUDO + "\ntime.sleep(600)")
                _, group = self.escaped(client, "1")
                machine.run("dpkg", "--remove", "further-link")
                self.none_left(group)
            equal(self.processes(), [], "processes")
            # Names that others still refer to are listed for a while, as "not-found".
            units = machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "further-link*").splitlines()
            equal([line for line in units if "not-found inactive dead" not in re.sub(" +", " ", line) and "further-link.slice" not in line], [], "units")
            try:
                connect(INSIDE, 2).close()
            except ConnectionRefusedError:
                pass
            else:
                raise AssertionError("the port is still open")
            machine.run("test", "-f", "/etc/default/further-link")
        with check("purge leaves nothing"):
            machine.run("dpkg", "--purge", "further-link")
            left = machine.run("find", "/", "-xdev", "-name", "*further*link*", "-not", "-path", "/proc/*", "-not", "-path", "/sys/*")
            equal(left.split(), [])

    def replaces_predecessor(self):
        machine = self.machine
        with check("it replaces a version 5, which held the port itself"):
            machine.run("dpkg", "--install", machine.copy_in(self.predecessor()))
            wait_for("the old service serves", lambda: machine.run("ss", "-Hltn", f"sport = :{PORT}").strip(), 5)
            machine.run("dpkg", "--install", machine.copy_in(self.package))
            self.compare()
            self.serves()
            for unit in ("further-link.socket", "further-link-exec.socket", "further-link.service"):
                equal(machine.show(unit, "ActiveState", "UnitFileState"), ["active", "enabled"], unit)
        with check("at the end no unit has failed"):
            equal(self.failed_units(), "")

    def diagnose(self):
        """After a failure: what the daemons and PID 1 said last."""
        with contextlib.suppress(Exception):
            print(self.machine.run("journalctl", "--no-pager", "--boot", "-n", "60", "-o", "short-precise", "-u", "further-link*"))
        with contextlib.suppress(Exception):
            print(self.machine.run("systemctl", "--no-pager", "status", "further-link*"))


def out_of_time(*_):
    raise Fatal(f"not done within {TIME_LIMIT} s")


def main():
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.alarm(TIME_LIMIT)
    test = Test(*sys.argv[1:4])
    try:
        test.all()
    except Exception as error:
        print(f"given up: {type(error).__name__}: {error}")
        if not failed:
            failed.append("the test itself")
    finally:
        signal.alarm(0)
        if failed:
            test.diagnose()
        test.machine.power_off()
    print(f"took {time.monotonic() - started_at:.0f} s")
    for name in failed:
        print(f"failed: {name}")
    print(f"{len(passed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
