"""The package in a booted Debian, tried from outside, from its installation to its removal.

Called by `run` with the package, a scratch directory, the kind of machine, the base system of a container, and the names of
checks where not all are wanted. Every check stands for itself and prints PASS
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
from limits import Limits
from load import Load
from machine import Fatal
from measuring import Measuring
from pace import patient
from packaging import Packaging
from privileges import Privileges
from running import Running
from sessions import Sessions
from uploads import Uploads

# Seconds for the whole test; it takes about 55 on two processors, 110 on busy ones.
TIME_LIMIT = 300


class Test(Packaging, Certificates, Running, Admission, Sessions, Uploads, Privileges, Endings, Keeping, Load, Limits, Measuring):
    """All checks."""

    ORDER = (
        "prepare", "installed", "certificates", "runs", "python_package", "user_channel", "strangers", "sessions", "uploads",
        "policy", "terminal", "devices", "privileges", "journal_lines", "restarts", "kills", "endings", "keeping", "floods", "counts",
        "limits", "measured", "without_memory_controller", "rebooted", "upgraded", "removed", "replaces_predecessor",
    )

    def all(self, only):
        for name in self.ORDER:
            if not only or name in only or name in ("prepare", "installed"):
                getattr(self, name)()


def out_of_time(*_):
    raise Fatal(f"not done within {patient(TIME_LIMIT):.0f} s")


def main():
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    *arguments, only = sys.argv[1:]
    test = Test(*arguments)
    signal.alarm(int(patient(TIME_LIMIT)))
    try:
        test.all([name for name in only.split(",") if name])
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
