#!/usr/bin/python3
"""Records what terminal programs print, for the judge of this folder: `sudo ./record.py [NAME]...`.

Each program gets a terminal of its own and keys from a script. What it prints becomes
`recordings/NAME.json.gz`: a list of `["o", TEXT]` and `["r", ROWS, COLUMNS]`, after the size it began with.
Programs see no process and no name of this machine, so that the recordings tell nothing about it.
"""

import codecs
import fcntl
import gzip
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, COLUMNS = 24, 80
# A program that prints nothing for so long waits for its next key.
QUIET_SECONDS = 0.4
# A game never stops printing: its next key comes after this time.
LONGEST_STEP_SECONDS = 2.0
# A game prints a megabyte in a minute. The judge draws each recording 200 times.
MOST_CHARACTERS = 60_000
UP, DOWN, RIGHT, LEFT = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"
APP_UP, APP_DOWN, APP_RIGHT, APP_LEFT = "\x1bOA", "\x1bOB", "\x1bOC", "\x1bOD"
PAGE_DOWN, PAGE_UP, F10 = "\x1b[6~", "\x1b[5~", "\x1b[21~"

POEM = "".join(f"{n:3} Lines of a text that is read and edited, number {n}.\n" for n in range(1, 200))
PROGRAM = """#!/usr/bin/python3
import sys

def greet(name, times=3):
    '''Says hello.'''
    for each in range(times):
        print(f"{each}: hello, {name}!\\t(\\u4e16\\u754c)")

if __name__ == "__main__":
    greet(sys.argv[1])
""" + "# A line that is longer than the screen is wide. " * 4 + "\n"

BARS = r"""
import sys, time
def say(text):
    sys.stdout.write(text); sys.stdout.flush()
for n in range(0, 101, 2):
    say(f"\r\x1b[K\x1b[32m{'#' * (n // 2):<50}\x1b[0m {n:3} %")
say("\n")
for n in range(0, 101, 4):
    bar = "█" * (n // 2) + "▏▎▍▌▋▊▉"[n % 7] + " " * (50 - n // 2)
    say(f"\r{n:3}%|" + bar + "| eta \x1b[1m0:%02d\x1b[22m" % (25 - n // 4))
say("\n\n\n\n")
for n in range(0, 101, 3):
    say("\x1b[3A")
    for row in range(3):
        done = min(100, n * (row + 1) // 2)
        bar = f"[{'=' * (done // 4)}>{' ' * (25 - done // 4)}]"
        say(f"\r\x1b[2K\x1b[38;5;{34 + row}mlayer {row}\x1b[0m: {bar} {done}\n")
say("\x1b[?25l")
for n in range(60):
    say("\r\x1b[36m" + "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[n % 10] + "\x1b[39m working " + "." * (n % 20) + "\x1b[0J")
say("\x1b[?25h\r\x1b[2K\x1b[38;2;10;200;30mdone\x1b[0m\n")
"""

WORDS = r"""
import sys
text = [
    "漢字とかな交じり文、カタカナとひらがな。", "한국어 문장은 이렇게 씁니다.", "中文字符占两列。",
    "e\u0301 a\u0308 o\u0302 n\u0303: letters with accents", "שלום עולם", "สวัสดีชาวโลก", "नमस्ते दुनिया",
    "😀 🎉 🚀 🐧 emoji", "👩‍💻 👨‍👩‍👧 joined", "👍🏽 skin", "🇩🇪 🇯🇵 flags", "❤️ ✈️ ☺️ with a selector",
    "½ ± × – … ambiguous",
    "ｆｕｌｌ ｗｉｄｔｈ", "ﾊﾝｶｸ", "┌─┐│█▓▒░", "1️⃣ 2️⃣ keycaps",
]
for turn in range(6):
    for n, words in enumerate(text):
        sys.stdout.write(f"\x1b[{31 + n % 7}m{words}\x1b[0m " + ("\n" if turn % 2 == 0 else ""))
        sys.stdout.flush()
sys.stdout.write("\n" + "界" * 60 + "\n" + "x" + "界" * 60 + "\n")
for column in range(70, 81):
    sys.stdout.write(f"\x1b[5;{column}H世\x1b[6;{column}Ha\x1b[7;{column}He\u0301")
sys.stdout.write("\x1b[10;1H" + "世界" * 10 + "\x1b[10;4Hx\x1b[10;9H\x1b[P\x1b[10;14H\x1b[@\x1b[10;22H\x1b[K")
sys.stdout.write("\x1b[20;1H漢\u0301字\x1b[21;1H\n\n\n")
"""

# What a program may write by hand: sequences that fewer programs use, without those that get lost.
SEQUENCES = r"""
import random, sys
random.seed(1)
say = sys.stdout.write
for turn in range(2500):
    row, column = random.randint(1, 24), random.randint(1, 80)
    colour = random.choice(["0", "22;1", "22;2", "3", "4", "7", "31", "42", "95", "104", "38;5;99",
                            "48;2;1;2;3", "39;49"])
    say(random.choice([
        f"\x1b[{row};{column}H", f"\x1b[{colour}m", f"\x1b[{colour};22;1mtext of some words",
        f"\x1b[{row % 5}L",
        f"\x1b[{row % 5}M", f"\x1b[{column % 9}@", f"\x1b[{column % 9}P", f"\x1b[{column}X", "\x1b[K",
        "\x1b[1K",
        "\x1b[J", f"\x1b[{column % 4}S", f"\x1b[{column % 4}T", "\x1bM" * 3, "\n" * 3, "\x1b7", "\x1b8",
        "\t\t",
        f"\x1b[{row % 12 + 1};{row % 12 + 10}r", "\x1b[r", "\x1b[?6h", "\x1b[?6l", "\x1b[4h", "\x1b[4l",
        "\x1b[?7l",
        "\x1b[?7h", "\x1b(0lqqk\x1b(B", "\x1b)0\x0eabc\x0f", "x" * column, "世" * (column // 3), "\x1b[s",
        "\x1b[u",
        "a\x1b[20b", f"\x1b[{column}G", f"\x1b[{row}d", "\x1b[2Z", "\r", "\b\b", "e\u0301", "\x1b[1047h",
        "\x1b[?1047l",
        "\x1b[?1049h", "\x1b[?1049l", "\x1b[?1h", "\x1b[?1l", "\x1b[?2004h", "\x1b[?1002h", "\x1b[?1003l",
        "\x1b[1;3A",
        "\x1b[!p", "\x1bD", "\x1bE", "\x1b=", "\x1b>", "\x1b[2J", "\x1b]2;title\x07",
    ]))
"""

# Each step is a key or keys; a pair is another size.
PROGRAMS = {
    "vim": (["vim.tiny", "-u", "NONE", "-c", "set nocp ru sc hls", "program.py"],
            ["5G", "ohello\x1b", "yyp", "3dd", "u", "/hello\r", "n", "ggVG", ">", ":split\r", "\x17j", "G",
             ":set nu\r",
             "ggA 世界\x1b", ":set list\r", "\x06", ":!echo shell\r", "\r", ":q!\r", ":q!\r"]),
    "nano": (["nano", "-l", "poem.txt"],
             [PAGE_DOWN, DOWN * 5, "typed words", "\x0b", "\x15", "\x17number 9\r", "\x07", PAGE_DOWN, "\x18",
              "\x1fyes", "\x18", "n"]),
    "less": (["less", "-N", "poem.txt"],
             [" ", " ", "b", "jjjj", "kk", "/number 15\r", "n", "G", "g", "h", "q", "50%", "-S\r", "q"]),
    "htop": (["htop", "-d", "5"], [DOWN * 2, "t", "\x1bOQ", DOWN * 3, F10, "h", " ", "\x1b", "q"]),
    "mc": (["mc", "-u", "-x"],
           [DOWN * 2, "\t", DOWN, "\x1bOR", PAGE_DOWN, F10, "\x1b[20~", RIGHT, DOWN * 3, "\x1b\x1b",
            "\x1b[18~made\r",
            "\x1bOS", DOWN * 4, F10, "ls\r", F10, "\r"]),
    "tmux": (["tmux", "-L", "record", "-f", "/dev/null", "new-session", "sh"],
             ["ls -l\r", "\x02%", "cat poem.txt\r", "\x02\"", "echo three panes\r", "\x02o", "\x02[",
              PAGE_UP, "q",
              "\x02c", "printf '\\033[41mred\\033[0m\\n'\r", "\x02n", "\x02w", "q", "\x02:kill-server\r"]),
    "python": (["python3", "-q"],
               ["print('hello')\r", "for n in range(30):\r", "    print(n, 'x' * n)\r", "\r", "1/0\r", UP,
                LEFT * 3, "5",
                "\r", "\x12for", "\x07", "'long ' * 60\r", "pri\t\t", "\x15", "help(len)\r", "q", "\x04"]),
    "man": (["man", "./page.1"], [" ", "/option\r", "n", "b", "G", "q"]),
    "dialog": (["sh", "-c",
                "dialog --title Choice --menu 'One of these' 15 40 5 1 one 2 two 3 three; "
                "dialog --checklist Some 12 30 4 a first on b second off; dialog --inputbox Name 8 30; "
                "for n in 10 40 70 100; do echo $n; done | dialog --gauge Copying 8 40; "
                "whiptail --title Question --yesno 'Is it so?' 10 40; whiptail --msgbox 'The end' 10 30"],
               [DOWN, DOWN, "\r", " ", DOWN, " ", "\r", "words", "\x7f", "\r", LEFT, RIGHT, "\r", "\r"]),
    "nsnake": (["/usr/games/nsnake"], ["\r", "\r", APP_DOWN, APP_LEFT, APP_UP, "p", "p", "q", "\x1b",
                                       APP_UP, "\r"]),
    "ninvaders": (["/usr/games/nInvaders"], [" ", APP_LEFT, " ", APP_RIGHT, " ", APP_RIGHT * 3, " ", "p",
                                             "p", "q"]),
    "bars": (["python3", "-c", BARS], []),
    "words": (["python3", "-c", WORDS], []),
    "sequences": (["python3", "-c", SEQUENCES], []),
    "resized": (["vim.tiny", "-u", "NONE", "poem.txt"],
                [(30, 100), "\x06", (12, 40), "ddp", (24, 80), ":q!\r"]),
}

PAGE = """.TH PAGE 1
.SH NAME
page \\- a page of a manual
.SH SYNOPSIS
.B page
[\\fIoption\\fR]...
.SH DESCRIPTION
It has \\fBbold words\\fR and \\fIothers\\fR in its lines.
""" + "".join(f".TP\n.B \\-\\-option{n}\nThis option is number \\fI{n}\\fR, and takes some lines to "
              "tell what it "
              "does, as options do.\n" for n in range(30))


def resize(leader, rows, columns):
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def start(command, home):
    """The program on a terminal of its own, without a view of this machine."""
    pid, leader = pty.fork()
    if pid == 0:
        # The program's own start is held until its terminal has its size.
        sys.stdin.readline()
        os.chdir(home)
        environment = {"HOME": home, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin",
                       "SHELL": "/bin/sh", "PS1": "$ ", "TMUX_TMPDIR": home, "PYTHONDONTWRITEBYTECODE": "1"}
        alone = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                 'hostname device; stty echo; exec "$@"', "sh"]
        os.execvpe("unshare", alone + command, environment)
    resize(leader, ROWS, COLUMNS)
    off = termios.tcgetattr(leader)
    off[3] &= ~termios.ECHO
    termios.tcsetattr(leader, termios.TCSANOW, off)
    os.write(leader, b"\n")
    return pid, leader


def characters(steps):
    return sum(len(step[1]) for step in steps if step[0] == "o")


def read(leader, steps, decoder):
    """Reads until the program is quiet. Returns whether it goes on."""
    end = time.monotonic() + LONGEST_STEP_SECONDS
    while time.monotonic() < end and select.select([leader], [], [], QUIET_SECONDS)[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:
            data = b""
        if not data or characters(steps) >= MOST_CHARACTERS:
            return False
        text = decoder.decode(data)
        if steps and steps[-1][0] == "o":
            steps[-1][1] += text
        else:
            steps.append(["o", text])
    return True


def record(name):
    command, keys = PROGRAMS[name]
    # The path is in what some programs print, and so is the same each time.
    home = os.path.join(tempfile.gettempdir(), "further-link-record")
    shutil.rmtree(home, ignore_errors=True)
    os.mkdir(home)
    for file, text in [("poem.txt", POEM), ("program.py", PROGRAM), ("page.1", PAGE)]:
        with open(os.path.join(home, file), "w", encoding="utf-8") as out:
            out.write(text)
    pid, leader = start(command, home)
    steps, decoder = [], codecs.getincrementaldecoder("utf-8")("replace")
    goes_on = read(leader, steps, decoder)
    for key in keys:
        if not goes_on:
            break
        if isinstance(key, tuple):
            steps.append(["r", *key])
            resize(leader, *key)
        else:
            os.write(leader, key.encode())
        goes_on = read(leader, steps, decoder)
    while goes_on and not keys:
        goes_on = read(leader, steps, decoder)
    print(f"{name}: {'was ended' if goes_on else 'has ended'}, {characters(steps)} characters")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(leader)
    shutil.rmtree(home, ignore_errors=True)
    write(name, {"rows": ROWS, "columns": COLUMNS, "steps": steps})


def write(name, recording):
    text = json.dumps(recording, ensure_ascii=False).encode()
    os.makedirs(os.path.join(HERE, "recordings"), exist_ok=True)
    with open(os.path.join(HERE, "recordings", f"{name}.json.gz"), "wb") as out:
        # Without a time, so that the same recording is the same file.
        out.write(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    if subprocess.run(["unshare", "--uts", "true"], check=False).returncode != 0:
        sys.exit("record.py needs root, to hide this machine from the programs")
    for each in sys.argv[1:] or PROGRAMS:
        record(each)
