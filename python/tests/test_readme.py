"""The README's examples and the two programs in examples/ do what they say."""

import os
import re

from conftest import PACKAGE, wait_for

with open(os.path.join(PACKAGE, "README.md"), encoding="utf-8") as file:
    BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```$", file.read())


def test_the_example_shows_a_picture_for_a_key(program, server):
    process = program(BLOCKS[0], channel=server.path)
    keys = server.peer()
    assert keys.message()["data"] == {"key": "ArrowUp"}

    def pressed():
        # Again, since nothing announces that the callback is set.
        keys.key("ArrowUp", "keydown")
        return not server.accepted.empty()

    wait_for(pressed, "a connection for pictures")
    assert server.peer().message()["type"] == "video"
    process.kill()


def test_any_language_can_hear_keys(program, server):
    process = program(BLOCKS[1], "-u", channel=server.path)
    peer = server.peer()
    assert peer.message() == {"type": "keylisten", "data": {"key": "ArrowUp"}}
    peer.key("ArrowUp", "keydown")
    process.expect("ArrowUp keydown")
    server.stop()
    assert process.finish()[0] == 0


def test_the_camera_example_shows_a_ball_without_a_camera(program, server):
    code = "import sys\nsys.modules['cv2'] = None\n" + source("camera.py")
    process = program(code, channel=server.path)
    peer = server.peer()
    assert peer.message()["data"] != peer.message()["data"]
    process.kill()


def test_the_rover_example_drives_by_keys(program, server):
    code = "import sys\nsys.modules['gpiozero'] = None\n" + source("rover.py")
    process = program(code, channel=server.path)
    assert "only talks" in process.stdout.readline()
    peer = server.peer()
    keys = [peer.message()["data"]["key"] for _ in range(5)]
    assert keys == ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", " "]
    peer.key("ArrowLeft", "keydown")
    peer.key("ArrowLeft", "keyup")
    process.expect("left")
    process.expect("stop")
    process.kill()


def source(name):
    with open(os.path.join(PACKAGE, "examples", name), encoding="utf-8") as file:
        return file.read()
