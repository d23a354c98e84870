"""Uploads, by the unit that is locked down for them.

Called by boot.py.
"""

from checks import HELPER, check, equal
from client import PORT, Client, post
from machine import INSIDE
from programs import PROJECT
from support import Support


class Uploads(Support):
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
        with check("an upload outside of the work dir, or as another user, is refused and leaves nothing"):
            equal(post(INSIDE, "/upload", body | {"name": "../boot test"})[0], 500)
            equal(post(INSIDE, "/upload?user=alice", body)[0], 500)
            equal(machine.run("sh", "-c", "ls -A /home/pi/further; ls -d /home/alice/further 2>&1 || true").splitlines()[0], "boot test")
        with check("a url of the device itself is refused"):
            url = {"type": "url", "content": {"url": f"http://{INSIDE}:{PORT}/status", "bucketName": "b", "fileName": "f"}}
            equal(post(INSIDE, "/upload", body | {"files": {"f": url}})[0], 500)
