"""The life of the package: installed, rebooted, upgraded, removed, and in place of a version 5.

Called by boot.py.
"""

import os
import re
import shutil
import subprocess
import threading
import time

from checks import HELPER, check, equal
from client import PORT, Client, connect, get
from machine import INSIDE, Fatal, wait_for
from programs import ESCAPE_WITH_SUDO, TIDY
from support import Support


class Packaging(Support):
    def prepare(self):
        with check("a Debian boots"):
            machine = self.machine
            machine.boot()
            # uid 0 of the machine is uid 0 outside: people and their rights as on a Raspberry Pi.
            for name in ("pi", "alice"):
                machine.run("useradd", "--create-home", "--shell", "/bin/bash", name)
            machine.run("usermod", "--append", "--groups", "video,dialout,sudo", "pi")
            machine.write("/etc/sudoers.d/pi", "pi ALL=(ALL) NOPASSWD: ALL\n")

    def installed(self):
        machine = self.machine
        with check("the package installs, and its units are up at once"):
            path = machine.copy_in(self.package)
            machine.run("dpkg", "--install", path)
            for unit in ("further-link.socket", "further-link-exec.socket", "further-link-files.socket", "further-link-admin.socket", "further-link.service"):
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
            equal([line for line in units if "not-found inactive dead" not in re.sub(" +", " ", line)], [], "units")
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
