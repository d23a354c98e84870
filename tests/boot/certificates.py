"""The device's own certificate, and an administrator's.

Called by boot.py.
"""

import os

from checks import check, equal
from client import Trust
from support import Support


class Certificates(Support):
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
