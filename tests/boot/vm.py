"""The machine under test as a computer of its own: qemu, which emulates its processor, with Debian's kernel. It has the
control groups to itself, so that limits take effect, and may be of another architecture.

Used by support.py for boot.py. `vm/prepare` has made the kernel, the first file system and the disk. Commands get in by a
second cable, to vm/agent.py: the first one is pulled by a test.
"""

import os
import socket
import subprocess
import sys

from machine import CABLE, Machine, wait_for
from pace import Pace

HERE = os.path.dirname(os.path.abspath(__file__))
SIDE_OUTSIDE, SIDE_INSIDE = "192.0.2.5", "192.0.2.6"
SIDE_CABLE = "fl-agent"
AGENT_PORT = 1
# Of a Raspberry Pi with little.
MEMORY_MIB = 1024
PROCESSORS = 2
# Emulated, with the emulator's own threads beside them.
SLOWER = 8.0

EMULATORS = {
    "amd64": ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max"],
    # A Raspberry Pi 4's.
    "arm64": ["qemu-system-aarch64", "-machine", "virt,gic-version=3", "-cpu", "cortex-a72"],
}
# A Raspberry Pi 5's, whose kernel has pages of 16 KiB: the one of a 4 has no such pages.
EMULATORS["arm64-16k"] = [*EMULATORS["arm64"][:-1], "cortex-a76"]
# 32-bit programs on a 64-bit kernel, as Raspberry Pi OS has them.
EMULATORS["armhf"] = EMULATORS["arm64"]
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0", "arm64-16k": "ttyAMA0", "armhf": "ttyAMA0"}


class VirtualMachine(Machine):
    device = "eth0"

    def __init__(self, arch, scratch):
        super().__init__(scratch)
        Pace.factor = SLOWER
        self.arch = arch
        for cable in (CABLE, SIDE_CABLE):
            subprocess.run(["ip", "tuntap", "add", cable, "mode", "tap"], check=True)
        subprocess.run(["ip", "address", "replace", f"{SIDE_OUTSIDE}/30", "dev", SIDE_CABLE], check=True)
        subprocess.run(["ip", "link", "set", SIDE_CABLE, "up"], check=True)

    def boot(self, timeout=60.0, kernel_options=""):
        within = lambda name: os.path.join(self.scratch, name)
        console = f"console={CONSOLES[self.arch]} quiet panic=-1 net.ifnames=0 systemd.show_status=0"
        # A /dev/kvm that is there may not work (kernels did not boot on one), so it is used only if it is named.
        accelerator = os.environ.get("FURTHER_LINK_VM_ACCEL", "tcg,thread=multi")
        command = [*EMULATORS[self.arch], "-accel", accelerator, "-smp", str(PROCESSORS), "-m", str(MEMORY_MIB)]
        # A reboot ends it, and the next boot may have another command line.
        command += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", f"file:{within('serial.log')}"]
        command += ["-kernel", within("kernel"), "-initrd", within("initrd"), "-append", f"{console} {kernel_options}"]
        command += ["-drive", f"file={within('disk')},if=virtio,format=raw,cache=unsafe"]
        for number, cable in enumerate((CABLE, SIDE_CABLE)):
            command += ["-netdev", f"tap,id=net{number},ifname={cable},script=no,downscript=no"]
            command += ["-device", f"virtio-net-pci,netdev=net{number},mac=52:54:00:00:00:0{number},romfile="]
        command += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(self.log, "ab"), stderr=subprocess.STDOUT)
        wait_for("an agent that answers", self._has_agent, timeout, 0.1)
        wait_for("a system that is up", self._is_up, timeout, 0.2)
        self.plug_in()

    def _has_agent(self):
        self.still_runs()
        try:
            socket.create_connection((SIDE_INSIDE, AGENT_PORT), 1).close()
        except OSError:
            return False
        return True

    def _enter(self, command):
        return [sys.executable, os.path.join(HERE, "vm/agent.py"), "ask", SIDE_INSIDE, str(AGENT_PORT), *command]

    def console(self):
        with open(os.path.join(self.scratch, "serial.log"), errors="replace") as file:
            return super().console() + file.read()[-3000:]
