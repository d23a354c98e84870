"""Programs: identity, surroundings, the package for Python, the user channel and terminals.

Called by boot.py.
"""

import re
import time

from checks import check, equal
from client import Client
from machine import INSIDE, wait_for
from support import Support


class Running(Support):
    def runs(self):
        machine = self.machine
        machine.run("touch", "/tmp/of-the-machine")
        found = {}
        with check("a program runs as pi, who is the default"):
            with Client(INSIDE) as client:
                out, err, code = client.run(code="import getpass, sys; print(getpass.getuser()); sys.exit(3)")
                equal((out, err, code), ("pi\n", "", 3))
        with check("a language of the package runs, one of the administrator's too, and one that others can write does not"):
            folder = "/etc/further-link/runners.d"
            for name in "own", "open":
                machine.write(f"{folder}/{name}.toml", f'id = "{name}"\ntitle = "Own"\nentry = "x"\n[run]\nargv = ["cat", "{{file}}"]\n')
            machine.run("chmod", "666", f"{folder}/open.toml")
            with Client(INSIDE) as client:
                client.send("hello", version=1)
                listed = {runner["id"]: runner for runner in client.expect("hello")["data"]["runners"]}
                assert listed["bash"]["available"] and "own" in listed and "open" not in listed, listed
                assert not listed["cobol"]["available"] and "apt install" in listed["cobol"]["hint"], listed["cobol"]
                equal(client.run("1", "bash", code='echo "$1"', args=["a b"]), ("a b\n", "", 0))
                equal(client.run("1", "own", code="of the administrator"), ("of the administrator", "", 0))
                client.send("start", "2", runner="open", code="")
                assert "others can write it" in client.receive()["data"]["message"]
                client.send("start", "2", runner="cobol", code="")
                assert "apt install gnucobol" in client.receive()["data"]["message"]
            machine.run("rm", f"{folder}/own.toml", f"{folder}/open.toml")
        with check("the languages test themselves, and a runner's limit ends a program"):
            said = machine.run("further-link", "self-test", "python3", "bash", "cobol")
            assert " 0 failed. 1 languages are not installed." in said and "apt install gnucobol" in said, said
            limits = "seconds = 1\nmemory = 64\nprocesses = 20\n"
            machine.write(f"{folder}/brief.toml", f'id = "brief"\ntitle = "Brief"\nentry = "x"\n[run]\nargv = ["python3", "{{file}}"]\n[limits]\n{limits}')
            def is_listed():
                with Client(INSIDE) as client:
                    client.send("hello", version=1)
                    return any(runner["id"] == "brief" for runner in client.expect("hello")["data"]["runners"])

            wait_for("the new runner", is_listed)
            with Client(INSIDE) as client:
                client.send("hello", version=1)
                client.expect("hello")
                client.start("1", "brief", code="import time; time.sleep(600)")
                stopped = client.expect("stopped", "1")["data"]
                equal((stopped["exitCode"], stopped["reason"]), (-15, "time"))
            machine.run("rm", f"{folder}/brief.toml")
        with check("its identity is a login's: ids, groups, session, umask, signals, descriptors"):
            found = self.identity("?user=pi")
            uid, gid = self.uid("pi"), int(machine.run("id", "-g", "pi"))
            equal((found["uids"], found["gids"]), ([uid] * 3, [gid] * 3))
            equal(found["groups"], sorted(map(int, machine.run("id", "-G", "pi").split())), "groups")
            equal((found["umask"], found["session"], found["fds"]), (0o022, True, ["0", "1", "2"]))
            with Client(INSIDE) as client:  # not from Python, which ignores two signals itself
                client.start("1", "shell")
                client.send("stdin", "1", input="grep -E '^Sig(Blk|Ign)' /proc/self/status\nexit\n")
                masks = client.output_until("SigIgn", "1").split()
                equal(masks[1::2], ["0" * 16] * 2, "blocked and ignored signals")
            # A container has the niceness of the process that runs this test.
            usual = int(machine.run("nice"))
            equal((found["oom"], found["nice"]), (0, usual), "out-of-memory score and niceness")
        with check("no restriction of ours reaches it: no filter, no bounding set, no namespace, shared /tmp, home"):
            first = self.status_of(1)
            equal((found["NoNewPrivs"], found["CapEff"], found["CapAmb"]), ("0", "0" * 16, "0" * 16))
            equal((found["Seccomp"], found["CapBnd"]), (first["Seccomp"], first["CapBnd"]), "filter and bounding set, as PID 1's")
            equal(found["shared"], True, "sees the machine's /tmp")
            for name, value in found["namespaces"].items():
                equal(value, machine.run("readlink", f"/proc/1/ns/{name}").strip(), f"{name} namespace")
        with check("nothing of the daemons' settings is in its environment"):
            leaked = [name for name in found["env"] if re.match("FURTHER_LINK_(?!TEMP_DIR|CHANNEL)|INVOCATION|JOURNAL|LISTEN|NOTIFY|WATCHDOG|SYSTEMD|MEMORY_PRESSURE", name)]
            equal(leaked, [])
            equal({key: found["env"].get(key) for key in ("HOME", "USER", "LOGNAME", "SHELL")}, dict(HOME="/home/pi", USER="pi", LOGNAME="pi", SHELL="/bin/bash"))
        with check("its sudo works"):
            with Client(INSIDE) as client:
                equal(client.run(code="import os; os.system('sudo -n id -u')")[0], "0\n")
        with check("it is in a unit of its own, in the slice of all runs"):
            assert re.fullmatch(r"/furtherlink\.slice/further-link-exec@[^/]*\.service", found["group"]), found["group"]
        with check("stdin, stderr and the exec runner work"):
            with Client(INSIDE) as client:
                client.start("1", code="import sys; print(input()); print('bad', file=sys.stderr)")
                client.send("stdin", "1", input="typed\n")
                equal(client.finish("1"), ("typed\n", "bad\n", 0))
                equal(client.run("2", "exec", path="/bin/true"), ("", "", 0))

    def python_package(self):
        machine = self.machine
        with check("programs of pi find the package for Python, and it is of this version"):
            code = "from further_link import KeyboardButton, send_image, __version__; print(__version__)"
            version = machine.run("dpkg-query", "-W", "-f", "${Version}", "further-link")
            as_pi = ("setpriv", "--reuid=pi", "--regid=pi", "--init-groups")
            equal(machine.run(*as_pi, "python3", "-W", "error", "-c", code), version + "\n", "at a terminal")
            with Client(INSIDE) as client:
                equal(client.run(code=code), (version + "\n", "", 0), "in a run")
        with check("it is compiled, and all of it is the package's"):
            where = "/usr/lib/python3/dist-packages/further_link"
            sources = [name for name in machine.run("ls", where).split() if name.endswith(".py")]
            compiled = machine.run("ls", f"{where}/__pycache__").split()
            equal(sorted(name.partition(".")[0] for name in compiled), sorted(name[:-3] for name in sources))
            examples = machine.run("ls", "/usr/share/doc/further-link/examples").split()
            equal(examples, ["camera.py", "rover.py"])

    def user_channel(self):
        with check("a program of pi shows a picture, and hears a key"):
            with Client(INSIDE) as client:
                self.show_and_hear(client, "1")
        with check("the way to the browser is a socket that only pi can reach, and it goes with the run"):
            code = "import os; path = os.environ['FURTHER_LINK_CHANNEL']; print(path, flush=True); input()"
            with Client(INSIDE) as client:
                client.start("1", code=code)
                path = client.output_until("\n", "1").strip()
                equal(self.machine.run("stat", "-c", "%U %G %a", path).strip(), "pi pi 600")
                client.send("stdin", "1", input="\n")
                client.expect("stopped", "1")
            wait_for("nothing is left of it", lambda: not self.machine.exists(path), 1)

    def terminal(self):
        with check("a terminal has a size, a controlling tty, and is the user's"):
            with Client(INSIDE, "?pty=1") as client:
                client.start("1", "shell")
                client.send("stdin", "1", input="stty size; tty </dev/tty; stat -c '%U %a' $(tty); echo en''d\r")
                out = client.output_until("end", "1")
                assert re.search(r"\b4 60\r\n", out), out
                assert re.search(r"/dev/(pts/\d+|tty)\r\n", out), out
                assert re.search(r"pi 6[02]0\r\n", out), out
                with check("its size follows the browser's"):
                    client.send("resize", "1", rows=31, cols=97)
                    client.send("stdin", "1", input="stty size; echo en''d\r")
                    assert "31 97\r\n" in client.output_until("end", "1")
                with check("Ctrl-C interrupts, and the terminal goes on"):
                    client.send("stdin", "1", input="echo go''ing; sleep 600\r")
                    client.output_until("going", "1")
                    time.sleep(0.2)  # until bash has made sleep the foreground job, which nothing announces
                    client.send("stdin", "1", input="\x03")
                    client.send("stdin", "1", input="echo was $?; echo en''d\r")
                    assert "was 130" in client.output_until("end", "1")
                with check("job control and exit work"):
                    client.send("stdin", "1", input="sleep 600 &\rjobs; exit 5\r")
                    equal(client.expect("stopped", "1")["data"]["exitCode"], 5)
