"""What the package costs on this machine, beside the same work without it.

Called by boot.py, and does nothing unless `run --benches` names a directory with the benchmark.
"""

import os

from checks import check
from support import Support

# What names of cases contain. Each has a time of its own, as an emulated processor does little in what is given to all.
CASES = "memory", "hello", "echo alone", "flood by"


class Measuring(Support):
    def measured(self):
        directory = os.environ.get("FURTHER_LINK_BOOT_BENCHES")
        if not directory:
            return
        machine = self.machine
        with check("the benchmark runs to its end"):
            for name in ("further-link-benches", "further-link-bench-program"):
                machine.run("install", "-m", "755", machine.copy_in(os.path.join(directory, name)), f"/usr/local/bin/{name}")
            print("     pages of", machine.run("getconf", "PAGE_SIZE").strip(), "bytes")
            for cases in CASES:
                print(machine.run("further-link-benches", "--installed", "--quick", "--only", cases, timeout=60))
