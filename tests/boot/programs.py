"""What runs inside of the machine: programs that look around, programs that hide, messages that need no client.

Used by the files of checks.
"""

LOOK = """
import json, os
own = os.readlink('/proc/self/ns/cgroup')
found = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        group = open(f'/proc/{pid}/cgroup').read().split('0::')[1].strip()
        status = dict(line.rstrip().split(':', 1) for line in open(f'/proc/{pid}/status'))
        command = open(f'/proc/{pid}/cmdline').read().replace('\\0', ' ').strip()
    except (FileNotFoundError, ProcessLookupError):
        continue
    # The test's own commands are in a group outside of the machine's, or of the agent.
    # Neither zombies nor threads of the kernel have memory.
    if not group.startswith(('/..', '/agent.service')) and 'VmSize' in status:
        found.append(dict(pid=int(pid), group=group, command=command, name=status['Name'].strip(), uid=int(status['Uid'].split()[0])))
print(json.dumps(found))
"""

COUNT = """
import json, os, subprocess
units = subprocess.run(['systemctl', 'list-units', '--all', '--plain', '--no-legend'], capture_output=True, text=True).stdout
pid = subprocess.run(['systemctl', 'show', '-P', 'MainPID', 'further-link.service'], capture_output=True, text=True).stdout.strip()
instance = lambda name: name.split('@')[0] + '@' if '@' in name else name
tree = lambda top: sorted(os.path.join(at, name) for at, dirs, names in os.walk(top) for name in dirs + names)
print(json.dumps({
    'units': sorted(instance(line.split()[0]) for line in units.splitlines()),
    'cgroups': sorted(instance(at) for at, _, _ in os.walk('/sys/fs/cgroup')),
    'descriptors of the frontend': len(os.listdir(f'/proc/{pid}/fd')),
    'descriptors of PID 1': len(os.listdir('/proc/1/fd')),
    'files': tree('/tmp') + tree('/home') + tree('/run/further-link') + tree('/dev/shm') + tree('/var/tmp'),
}))
"""

# What a program finds about itself. fork: listing /proc/self/fd needs a descriptor of its own.
SELF = """
import json, os, resource, signal
status = dict(line.rstrip().split(':', 1) for line in open('/proc/self/status'))
fds = {}
for fd in os.listdir('/proc/self/fd'):
    try: fds[fd] = os.readlink('/proc/self/fd/' + fd)
    except OSError: pass
with open(os.path.expanduser('~/written'), 'w') as file: file.write('x')
with open('/tmp/written', 'w') as file: file.write('x')
shared = os.path.exists('/tmp/of-the-machine')
os.unlink(os.path.expanduser('~/written')); os.unlink('/tmp/written')
mask = os.umask(0)
print(json.dumps(dict(
    uids=os.getresuid(), gids=os.getresgid(), groups=sorted(os.getgroups()), fds=sorted(fds), umask=mask, env=dict(os.environ),
    session=os.getsid(0) == os.getpgid(0) == os.getpid(), pid=os.getpid(), cwd=os.getcwd(), shared=shared,
    files=resource.getrlimit(resource.RLIMIT_NOFILE), core=resource.getrlimit(resource.RLIMIT_CORE), nice=os.nice(0),
    oom=int(open('/proc/self/oom_score_adj').read()), group=open('/proc/self/cgroup').read().split('0::')[1].strip(),
    **{key: status[key].strip() for key in ('CapEff', 'CapPrm', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp')},
    namespaces={name: os.readlink('/proc/self/ns/' + name) for name in ('mnt', 'net', 'pid', 'ipc', 'user', 'uts')})))
"""

# Children that do not want to be found: own session, forked twice, TERM and HUP ignored, outputs closed.
ESCAPING = """
import os, signal, subprocess, sys, time
def escape(*command):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for fd in range(3): os.close(fd)
            os.execvp(command[0], command)
        os._exit(0)
    os.wait()
escape('sleep', '7777')
if SUDO: escape('sudo', '-n', 'setsid', 'sleep', '7777')
escape('sh', '-c', 'while :; do sleep 0.01; : 7777; done')
escape('sh', '-c', 'kill -STOP $$; : 7777')
subprocess.run(['bash', '-c', 'nohup sleep 7777 >/dev/null 2>&1 & disown'])
escape('python3', '-c', 'import os  # 7777\\nwhile True:\\n if os.fork(): os._exit(0)')
time.sleep(0.3)
print('escaped', os.getpid(), open('/proc/self/cgroup').read().split('0::')[1].strip(), flush=True)
"""
# All of these are gone at once, since none has a handler for SIGTERM that a grace would be for.
ESCAPE = "SUDO = False" + ESCAPING
# sudo has one, and hides its child behind another uid.
ESCAPE_WITH_SUDO = "SUDO = True" + ESCAPING

TIDY = """
import signal, sys, time
def tidy(*_):
    time.sleep(0.8)
    open('/home/pi/tidied', 'w').close()
    sys.exit(0)
signal.signal(signal.SIGTERM, tidy)
print('ready', flush=True)
time.sleep(600)
"""

# Shows a picture when it hears the key, another one when that is pressed, and ends when it is released.
SHOW_AND_HEAR = """
from threading import Event
from PIL import Image
from further_link import KeyboardButton, send_image
show = lambda colour: send_image(Image.new('RGB', (32, 24), colour))
released = Event()
key = KeyboardButton('ArrowUp')
key.when_pressed = lambda: show('orange')
key.when_released = released.set
show('navy')
if released.wait(10): print('released')
"""

# The smallest request for a shell: PROTOCOL.md, "run-least".
SHELL = "0600000000057368656c6c00000000"

# A project of two files.
PROJECT = {"name": "boot test", "files": {
    "main.py": {"type": "text", "content": {"text": "print(open('sub/data').read())"}},
    "sub/data": {"type": "text", "content": {"text": "from the disk"}},
}}
