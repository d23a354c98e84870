"""What concerns a whole process: its end, its children, its signals, its life without a daemon. Each runs a program."""

import array
import fcntl
import json
import os
import signal
import socket
import termios

from conftest import wait_for

BUTTON = "from further_link import KeyboardButton\nbutton = KeyboardButton('a')\n"
WAIT = "print('ready', flush=True)\ninput()"
PICTURE = "from PIL import Image\nfrom further_link import send_image\nsend_image(Image.new('L', (8, 8)))\n"


def queued(peer, which):
    """Bytes that this side has not read yet (FIONREAD), or the other one has not (TIOCOUTQ)."""
    count = array.array("i", [0])
    fcntl.ioctl(peer.sock, which, count)
    return count[0]


def test_a_program_with_buttons_ends_with_its_main_thread(program, server):
    # D40: it never ended.
    code = BUTTON + "button.when_pressed = print\nprint('end')"
    assert program(code, "-W", "error", channel=server.path).finish() == (0, "end\n", "")
    peer = server.peer()
    assert peer.message()["data"] == {"key": "a"} and peer.line() == b""


def test_it_ends_in_the_middle_of_a_callback_without_a_word(program, server):
    code = BUTTON + "import time\nbutton.when_pressed = lambda: (print('called', flush=True), time.sleep(600))\n" + WAIT
    process = program(code, "-W", "error", channel=server.path)
    process.expect("ready")
    server.peer().key("a", "keydown")
    process.expect("called")
    assert process.finish("\n") == (0, "", "")


def test_a_callback_that_runs_at_the_end_may_return(program, server):
    code = (
        BUTTON + "import time\nbutton.when_pressed = lambda: (print(1, flush=True), time.sleep(0.1), print(2))\n" + WAIT
    )
    process = program(code, "-W", "error", channel=server.path)
    process.expect("ready")
    server.peer().key("a", "keydown")
    process.expect("1")
    assert process.finish("\n") == (0, "2\n", "")


def test_it_ends_while_callbacks_print_without_a_word(program, server):
    # A thread that holds stdout's lock at the end makes the interpreter abort.
    code = BUTTON + "button.when_pressed = lambda: print('x' * 1000, flush=True)\n" + WAIT
    for _ in range(5):
        process = program(code, channel=server.path)
        process.expect("ready")
        peer = server.peer()
        for _ in range(300):
            peer.key("a", "keydown")
        assert process.stdout.readline() == "x" * 1000 + "\n"
        status, out, err = process.finish("\n")
        assert (status, err) == (0, "")


def test_signal_pause_hears_keys_and_ctrl_c_ends_it(program, server):
    code = BUTTON + "import signal\nbutton.when_pressed = lambda: print('pressed', flush=True)\n"
    process = program(code + "print('ready', flush=True)\nsignal.pause()", channel=server.path)
    process.expect("ready")
    server.peer().key("a", "keydown")
    process.expect("pressed")
    process.send_signal(signal.SIGINT)
    status, _, err = process.finish()
    # 1 before Python 3.8.
    assert status in (-signal.SIGINT, 1) and err.endswith("KeyboardInterrupt\n") and err.count("Traceback") == 1


def test_without_a_daemon_a_program_goes_on_with_one_warning(program):
    code = BUTTON + PICTURE + PICTURE + "KeyboardButton('b')\nprint(button.is_pressed)"
    status, out, err = program(code).finish()
    assert (status, out) == (0, "False\n")
    assert err.count("RuntimeWarning") == 1
    assert ":2: RuntimeWarning: further_link: nothing is shown and no key is heard" in err
    assert "FURTHER_LINK_CHANNEL is not set" in err


def test_with_a_channel_that_is_not_there_a_program_goes_on_with_one_warning(program, tmp_path):
    for channel in (str(tmp_path / "none"), str(tmp_path), "/" + "x" * 200, "relative/none"):
        code = BUTTON + PICTURE + PICTURE + "print(button.is_pressed)"
        status, out, err = program(code, channel=channel).finish()
        assert (status, out, err.count("RuntimeWarning")) == (0, "False\n", 1)
        assert "cannot reach further-link" in err


def test_without_pillow_and_numpy_buttons_work_and_pictures_are_type_errors(program, server):
    code = (
        "import sys\nsys.modules['PIL'] = sys.modules['numpy'] = None\n"
        + BUTTON
        + "from further_link import send_image\n"
        "try: send_image('picture')\nexcept TypeError as error: print(error)"
    )
    status, out, err = program(code, "-W", "error", channel=server.path).finish()
    assert (status, out, err) == (0, "an image is a PIL image or a numpy array, not str\n", "")


def test_a_picture_from_numpy_without_pillow_is_a_warning(program, server):
    code = (
        "import sys, numpy\nsys.modules['PIL'] = None\nfrom further_link import send_image\n"
        "for _ in range(3): send_image(numpy.zeros((4, 4), 'uint8'))\nprint('end')"
    )
    status, out, err = program(code, channel=server.path).finish()
    assert (status, out, err.count("RuntimeWarning")) == (0, "end\n", 1)
    assert ":4: RuntimeWarning: further_link: send_image needs Pillow: sudo apt install python3-pil" in err


def test_a_forked_child_has_connections_of_its_own(program, server):
    code = (
        BUTTON
        + PICTURE
        + """
import os, sys
sys.stdin.readline()
child = os.fork()
if child == 0:
    print('held in the child', button.is_pressed, flush=True)
    mine = KeyboardButton('b')
    mine.when_pressed = lambda: print('child heard', flush=True)
    send_image(Image.new('L', (16, 16)))
    sys.stdin.readline()
    sys.exit(0)
os.waitpid(child, 0)
print('held in the parent', button.is_pressed, flush=True)
send_image(Image.new('L', (32, 32)))
KeyboardButton('c')
"""
    )
    process = program(code, "-W", "ignore::DeprecationWarning", channel=server.path)
    keys, pictures = server.peer(), server.peer()
    assert keys.message()["data"] == {"key": "a"} and pictures.message()["type"] == "video"
    keys.key("a", "keydown")
    # The program says nothing when it hears the key. What was read is handled before a fork: microseconds.
    wait_for(lambda: not queued(keys, termios.TIOCOUTQ))
    process.go_on()
    process.expect("held in the child False")
    child_keys, child_pictures = server.peer(), server.peer()
    # The parent's key is not the child's.
    assert child_keys.message()["data"] == {"key": "b"} and child_pictures.message()["type"] == "video"
    child_keys.key("b", "keydown")
    process.expect("child heard")
    process.go_on()
    assert child_keys.line() == b"" and child_pictures.line() == b""
    status, out, err = process.finish()
    assert (status, out, err) == (0, "held in the parent True\n", "")
    # The connections of the parent have carried the parent's messages only, and are the same ones.
    assert [json.loads(keys.line())["data"], keys.line()] == [{"key": "c"}, b""]
    assert [json.loads(pictures.line())["type"], pictures.line()] == ["video", b""]
    assert server.accepted.empty()


def test_a_fork_while_another_thread_sends_leaves_no_lock_behind(program, server):
    code = """
import os, threading, time
from PIL import Image
from further_link import send_image
noise = Image.effect_noise((1500, 1500), 100)
threading.Thread(target=send_image, args=(noise,), daemon=True).start()
input()
child = os.fork()
if child == 0:
    send_image(Image.new('L', (8, 8)))
    os._exit(7)
print(os.waitpid(child, 0)[1] >> 8, flush=True)
os._exit(0)
"""
    process = program(code, "-W", "ignore::DeprecationWarning", channel=server.path)
    # The program is in the middle of its line now, and holds the lock until its output is read.
    stuck = server.peer()
    assert stuck.sock.recv(1, socket.MSG_PEEK) == b"{"
    process.go_on()
    assert server.peer().message()["type"] == "video"
    assert process.finish() == (0, "7\n", "")
    assert stuck.sock.recv(10) == b'{"type":"v'


def test_a_callback_that_forks_ends_its_child(program, server):
    code = (
        BUTTON
        + """
import os, threading
done = threading.Event()
def fork():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print('child has ended', flush=True)
        done.set()
button.when_pressed = fork
print('ready', flush=True)
done.wait()
"""
    )
    process = program(code, "-W", "ignore::DeprecationWarning", channel=server.path)
    process.expect("ready")
    server.peer().key("a", "keydown")
    assert process.finish() == (0, "child has ended\n", "")


def test_multiprocessing_children_send_pictures(program, server):
    code = """
import multiprocessing
from PIL import Image
from further_link import send_image
def child(size): send_image(Image.new('L', (size, size)))
if __name__ == '__main__':
    send_image(Image.new('L', (8, 8)))
    processes = [multiprocessing.get_context('fork').Process(target=child, args=(size,)) for size in (16, 24)]
    for process in processes: process.start()
    for process in processes: process.join()
"""
    assert program(code, "-W", "error", channel=server.path).finish() == (0, "", "")
    for _ in range(3):
        peer = server.peer()
        assert peer.message()["type"] == "video" and peer.line() == b""


def test_a_closed_channel_kills_nobody_even_if_sigpipe_would(program, server):
    code = """
import signal
from PIL import Image
from further_link import send_image
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
for _ in range(3):
    send_image(Image.effect_noise((1500, 1500), 100))
print('end')
"""
    process = program(code, channel=server.path)
    # Closed while it waits for a reader, since a closed channel is not written to.
    peer = server.peer()
    wait_for(lambda: queued(peer, termios.FIONREAD) > 10000)
    server.stop()
    status, out, err = process.finish()
    assert (status, out, err.count("RuntimeWarning")) == (0, "end\n", 1)


def test_a_channel_that_ends_costs_no_processor_time(program, server):
    code = (
        BUTTON
        + """
import os, sys, threading, time
sys.stdin.readline()
while [t for t in threading.enumerate() if t.name == 'further_link keys']: time.sleep(0.01)
before = time.process_time()
time.sleep(0.3)
print(time.process_time() - before < 0.05, threading.active_count())
"""
    )
    process = program(code, "-W", "error", channel=server.path)
    server.peer().message()
    server.stop()
    status, out, err = process.finish("\n")
    # -W error makes an exception of a warning, and that thread has no caller to give it to: printed.
    assert (status, out) == (0, "True 2\n")
    assert err == "further_link: further-link has closed the channel: nothing is shown and no key is heard any more\n"


def test_ctrl_c_in_the_middle_of_a_picture_leaves_no_half_line_before_the_next(program, server):
    code = """
from PIL import Image
from further_link import send_image
try:
    send_image(Image.effect_noise((1500, 1500), 100))
except KeyboardInterrupt:
    send_image(Image.new('L', (8, 8)))
    print('sent again')
"""
    process = program(code, "-W", "error", channel=server.path)
    cut = server.peer()
    wait_for(lambda: queued(cut, termios.FIONREAD) > 10000)
    process.send_signal(signal.SIGINT)
    assert server.peer().message()["type"] == "video"
    assert process.finish() == (0, "sent again\n", "")
    text = b""
    while True:
        received = cut.sock.recv(65536)
        if not received:
            break
        text += received
    assert b"\n" not in text


def test_a_signal_handler_may_send_while_its_thread_is_sending(program, server):
    code = """
import signal
from PIL import Image
from further_link import KeyboardButton, send_image
signal.signal(signal.SIGUSR1, lambda *_: (send_image(Image.new('L', (8, 8))), print('handled', flush=True)))
send_image(Image.effect_noise((1500, 1500), 100))
print('sent', flush=True)
"""
    process = program(code, "-W", "error", channel=server.path)
    peer = server.peer()
    wait_for(lambda: queued(peer, termios.FIONREAD) > 10000)
    process.send_signal(signal.SIGUSR1)
    process.expect("handled")
    sizes = [len(peer.line()), len(peer.line())]
    assert sizes[0] > 500000 and sizes[1] < 5000
    assert process.finish() == (0, "sent\n", "")


def test_no_default_timeout_of_the_program_reaches_the_channel(program, server):
    code = (
        "import socket\nsocket.setdefaulttimeout(0.001)\n"
        + BUTTON
        + (
            "import threading, time\nheard = threading.Event()\nbutton.when_pressed = heard.set\n"
            "time.sleep(0.1)  # a hundred timeouts\nprint(1, flush=True)\nprint(heard.wait(10))"
        )
    )
    process = program(code, "-W", "error", channel=server.path)
    process.expect("1")
    server.peer().key("a", "keydown")
    assert process.finish() == (0, "True\n", "")


def test_no_file_is_left_or_made(program, server, tmp_path):
    # D51: a socket of the original's listener stayed in /tmp.
    code = BUTTON + PICTURE + "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)"
    assert program(code, channel=server.path).finish()[0] == -signal.SIGTERM
    assert os.listdir(str(tmp_path)) == ["channel"]
