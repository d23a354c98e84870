"""A check and its outcome: PASS or FAIL with the reason, and the lists of both.

Used by all files of checks. One that fails ends no other, unless the machine is of no more use.
"""

import contextlib
import os
import time
import traceback

from machine import Fatal

HELPER = "further-link-exec-helper"

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
