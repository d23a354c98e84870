"""The package in a booted Debian, tried from outside, from its installation to its removal.

Called by `run` with the base system, the package and a scratch directory. Every check stands for itself and prints PASS
or FAIL; what a check needs, it makes. The last line is "N passed, N failed".
"""

import signal
import sys
import time

from admission import Admission
from certificates import Certificates
from checks import failed, passed, started_at
from endings import Endings
from keeping import Keeping
from load import Load
from machine import Fatal
from packaging import Packaging
from privileges import Privileges
from running import Running
from sessions import Sessions
from uploads import Uploads

# Seconds for the whole test; it takes about 55 on two processors, 110 on busy ones.
TIME_LIMIT = 300


class Test(Packaging, Certificates, Running, Admission, Sessions, Uploads, Privileges, Endings, Keeping, Load):
    """All checks."""

    def all(self):
        self.prepare()
        self.installed()
        self.certificates()
        self.runs()
        self.python_package()
        self.user_channel()
        self.strangers()
        self.sessions()
        self.uploads()
        self.policy()
        self.terminal()
        self.privileges()
        self.journal_lines()
        self.restarts()
        self.kills()
        self.endings()
        self.keeping()
        self.floods()
        self.counts()
        self.rebooted()
        self.upgraded()
        self.removed()
        self.replaces_predecessor()


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
