"""What a process inside one of the two sandboxed units can do: tries it, and prints a JSON object of what worked.

privileges.py copies this into the machine and starts it as a unit. The lines of the unit are those of
further-link.service or further-link-files@.service, with ExecStart= (and ExecPaths=, for Python) replaced.
"""

import ctypes
import json
import mmap
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
OPENAT2 = 437
RESOLVE_BENEATH = 0x08


def attempt(action):
    try:
        result = action()
        return True if result is None else result
    except OSError:
        return False


def call(function, *args):
    if function(*args) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def connects(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.connect(path)


def opens(family, kind=socket.SOCK_STREAM, protocol=0):
    socket.socket(family, kind, protocol).close()


def listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 8999))
        sock.listen()


def executes():
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("/bin/true", ["true"])
        except OSError:
            os._exit(111)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise OSError("not executed")


def maps_writable_and_executable():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def reads(path):
    with open(path, "rb") as file:
        file.read(1)


def writes(path):
    with open(path, "wb") as file:
        file.write(b"x")
    os.unlink(path)


def sees_others():
    # Others of the same account may be seen: for the frontend that is the real one.
    pids = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    return "1" in pids or any(os.stat(f"/proc/{pid}").st_uid != os.getuid() for pid in pids)


def openat2_beneath(directory):
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, RESOLVE_BENEATH)
    dirfd = os.open(directory, os.O_PATH)
    call(libc.syscall, OPENAT2, dirfd, b".", ctypes.byref(how), ctypes.sizeof(how))


def common():
    return {
        "execute a program": attempt(executes),
        "map memory writable and executable": attempt(maps_writable_and_executable),
        "make a user namespace": attempt(lambda: call(libc.unshare, 0x10000000)),
        "open a netlink socket": attempt(lambda: opens(16, socket.SOCK_RAW)),
        "reach D-Bus": attempt(lambda: connects("/run/dbus/system_bus_socket")),
        "see other processes": attempt(sees_others),
        "read /proc/kallsyms": attempt(lambda: reads("/proc/kallsyms")),
        "set a kernel variable": attempt(lambda: writes("/proc/sys/kernel/hostname")),
        "write /etc": attempt(lambda: writes("/etc/probe")),
        "write /usr": attempt(lambda: writes("/usr/probe")),
        "write the machine's /tmp": os.path.exists("/tmp/of-the-machine"),
        "open the console": attempt(lambda: reads("/dev/console")),
        "trace PID 1": attempt(lambda: call(libc.ptrace, 16, 1, 0, 0)),
        "read /etc/passwd": attempt(lambda: reads("/etc/passwd")),
        "log to the journal": attempt(lambda: connects("/run/systemd/journal/socket", socket.SOCK_DGRAM)),
    }


def frontend():
    return common() | {
        "become root": attempt(lambda: os.setuid(0)),
        "read a person's home": attempt(lambda: os.listdir("/home/pi")),
        "write its own /tmp": attempt(lambda: writes("/tmp/probe")),
        "write its state directory": attempt(lambda: writes("/var/lib/further-link/probe")),
        "write the administrator's certificates": attempt(lambda: writes("/etc/further-link/extra/probe")),
        "listen on a port of its own": attempt(listens),
        "open an internet socket": attempt(lambda: opens(socket.AF_INET)),
        "read the list of packages": attempt(lambda: reads("/var/lib/dpkg/status")),
        "list the package indexes": attempt(lambda: bool(os.listdir("/var/lib/apt/lists")) or None),
        "notify PID 1": attempt(lambda: connects("/run/systemd/notify", socket.SOCK_DGRAM)),
        "ask the helper": attempt(lambda: connects("/run/further-link/exec.sock", socket.SOCK_SEQPACKET)),
        "remove the helper's socket": attempt(lambda: os.unlink("/run/further-link/exec.sock")),
        "open the helper's socket to all": attempt(lambda: os.chmod("/run/further-link/exec.sock", 0o666)),
    }


def files():
    results = common() | {
        "open an internet socket": attempt(lambda: opens(socket.AF_INET)),
        "read /etc/shadow": attempt(lambda: reads("/etc/shadow")),
        "write a person's home as root": attempt(lambda: writes("/home/pi/probe")),
    }
    uid, gid = int(sys.argv[2]), int(sys.argv[3])
    return results | {
        "become the person": attempt(lambda: (os.setgroups([gid]), os.setresgid(gid, gid, gid), os.setresuid(uid, uid, uid)) and None),
        "become root again": attempt(lambda: os.setuid(0)),
        "see other processes as the person": attempt(sees_others),
        "write the person's home as the person": attempt(lambda: writes("/home/pi/probe")),
        "use openat2 beneath the home": attempt(lambda: openat2_beneath("/home/pi")),
    }


print(json.dumps({"frontend": frontend, "files": files}[sys.argv[1]]()))
