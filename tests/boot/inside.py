"""Chosen end-to-end tests of tests/tests inside of the machine, where they are for another processor than this one's.

Called by boot.py. FURTHER_LINK_END_TO_END names a file with a line for each program of tests: its package's folder and its path
(tests/arm/run writes it); the daemons lie beside the directory of the programs. Without it nothing is done.
"""

import os
import re
import subprocess

from checks import check, equal
from support import Support

# Users, processes and terminals, where processors and kernels differ. `deps/helper-…` is tests/tests/helper.
CHOSEN = {
    "helper": ("users::", "privilege::", "cleanup::", "residual_privilege::", "terminals_apart::"),
    "clients": ("run_lifecycle::", "terminal::", "uploads::", "channel::", "stop_signals::"),
    "service": ("tls::", "certificate_files::"),
}
DAEMONS = "further-link", "further-link-exec-helper", "further-link-tests-supervisor"
SOURCES = "tests", "runners.d", "runners", "api", "systemd", "python"


class Inside(Support):
    def end_to_end(self):
        listed = os.environ.get("FURTHER_LINK_END_TO_END")
        if not listed:
            return
        machine = self.machine
        with open(listed) as file:
            programs = [line.split() for line in file]
        programs = [(folder, path, os.path.basename(path).rpartition("-")[0]) for folder, path in programs]
        daemons = os.path.dirname(os.path.dirname(programs[0][1]))
        sources = os.path.dirname(programs[0][0])
        with check("the tests and what they need are in the machine"):
            paths = [path for _, path, _ in programs] + [f"{daemons}/{name}" for name in DAEMONS]
            paths += [f"{sources}/{name}" for name in SOURCES]
            packed = subprocess.Popen(["tar", "--create", "--absolute-names", "--exclude=node_modules", *paths], stdout=subprocess.PIPE)
            subprocess.run(machine._enter(["tar", "--extract", "--absolute-names"]), stdin=packed.stdout, check=True)
            equal(packed.wait(), 0)
            # The tests make their own pi; the port is theirs.
            machine.run("systemctl", "stop", "further-link.socket", "further-link.service")
            machine.run("userdel", "--remove", "pi", check=False)
        for folder, path, name in programs:
            for tests in CHOSEN[name]:
                with check(f"tests/tests/{name}: {tests[:-2]}"):
                    run = f"cd {folder} && HOME=/root FURTHER_LINK_TESTS_BIN_DIR={daemons} {path} --test-threads=2 {tests} 2>&1"
                    said = machine.run("sh", "-c", run, check=False, timeout=120)
                    result = re.search(r"test result: .*", said)
                    failed = re.findall(r"test (\S+) \.\.\. FAILED", said)
                    print(f"     {result[0] if result else said[-500:]}")
                    assert result and not failed, failed
