"""send_image: what arrives is decoded and looked at."""

import base64
import io
import json
import sys
import threading

import numpy
import pytest
from conftest import wait_for
from PIL import Image

RED, BLUE, GRAY = (255, 0, 0), (0, 0, 255), (90, 90, 90)


def shown(peer):
    """The next picture, decoded."""
    message = peer.message()
    assert sorted(message) == ["data", "type"] and message["type"] == "video" and list(message["data"]) == ["output"]
    image = Image.open(io.BytesIO(base64.b64decode(message["data"]["output"], validate=True)))
    assert image.format == "JPEG"
    image.load()
    return image


def near(image, wanted, at=(0, 0)):
    found = image.convert("RGB").getpixel(at)
    return max(abs(a - b) for a, b in zip(found, wanted)) < 12


def test_a_pil_image_arrives_as_a_jpeg(server, further_link):
    image = Image.new("RGB", (40, 30), RED)
    image.paste(BLUE, (20, 0, 40, 30))
    assert further_link.send_image(image) is None
    image = shown(server.peer())
    assert image.size == (40, 30) and near(image, RED) and near(image, BLUE, (39, 0))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_every_kind_of_pil_image_arrives(server, further_link, mode):
    gray = mode in ("1", "L", "LA", "I", "F")
    white = Image.new("L", (8, 8), 255)
    image = white.convert(mode) if gray else Image.new("RGB", (8, 8), RED)
    if mode == "PA":
        image = image.convert("P").convert("PA")
    elif not gray:
        image = image.convert(mode)
    further_link.send_image(image)
    image = shown(server.peer())
    assert image.mode == ("L" if gray else "RGB") and near(image, (255, 255, 255) if gray else RED)


def test_a_palette_with_transparency_warns_of_nothing(server, further_link):
    image = Image.new("RGB", (8, 8), RED).convert("P")
    image.info["transparency"] = bytes([255] * 256)
    further_link.send_image(image)
    assert near(shown(server.peer()), RED)


def test_an_opencv_frame_is_turned_from_bgr_to_rgb(server, further_link):
    frame = numpy.zeros((30, 40, 3), "uint8")
    frame[:, :, 2] = 255
    frame[:, 20:] = (255, 0, 0)
    further_link.send_image(frame)
    image = shown(server.peer())
    assert image.size == (40, 30) and near(image, RED) and near(image, BLUE, (39, 0))


def test_a_bgra_frame_loses_its_transparency(server, further_link):
    frame = numpy.zeros((8, 8, 4), "uint8")
    frame[:] = (255, 0, 0, 7)
    further_link.send_image(frame)
    assert near(shown(server.peer()), BLUE)


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1)])
def test_grayscale_stays_as_it_is(server, further_link, shape):
    further_link.send_image(numpy.full(shape, 90, "uint8"))
    image = shown(server.peer())
    assert (image.mode, image.size) == ("L", (40, 30)) and near(image, GRAY)


def test_a_mask_of_booleans_is_black_and_white(server, further_link):
    further_link.send_image(numpy.full((8, 8), True))
    assert near(shown(server.peer()), (255, 255, 255))


def test_a_part_of_an_array_that_is_turned_and_mirrored_arrives(server, further_link):
    frame = numpy.zeros((100, 80, 3), "uint8")
    frame[10:20, 10:50] = (0, 0, 255)
    further_link.send_image(frame[10:20, 10:50][::-1, ::2].transpose(1, 0, 2))
    image = shown(server.peer())
    assert image.size == (10, 20) and near(image, RED)


def test_noise_arrives_although_it_cannot_be_optimized_in_pillows_buffer(server, further_link):
    frame = numpy.random.RandomState(1).randint(0, 256, (600, 800, 3)).astype("uint8")
    threading.Thread(target=further_link.send_image, args=(frame,)).start()
    assert shown(server.peer()).size == (800, 600)


def test_the_jpeg_is_optimized(server, further_link):
    image = Image.radial_gradient("L")
    plain = io.BytesIO()
    image.save(plain, "JPEG")
    further_link.send_image(image)
    data = base64.b64decode(server.peer().message()["data"]["output"])
    assert len(data) < len(plain.getvalue())


@pytest.mark.parametrize("frame", [None, b"jpeg", "picture.jpg", [[1, 2], [3, 4]], 7])
def test_what_is_no_image_is_a_type_error(server, further_link, frame):
    with pytest.raises(TypeError, match="an image is a PIL image or a numpy array, not " + type(frame).__name__):
        further_link.send_image(frame)


@pytest.mark.parametrize("dtype", ["float64", "uint16", "int64"])
def test_numbers_of_unknown_range_are_a_type_error(server, further_link, dtype):
    with pytest.raises(TypeError, match="uint8.*" + dtype):
        further_link.send_image(numpy.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (4, 4, 5), (1, 4, 4, 3), (0, 4), (4, 0, 3), ()])
def test_a_shape_that_is_no_image_is_a_value_error(server, further_link, shape):
    with pytest.raises(ValueError, match="shape"):
        further_link.send_image(numpy.zeros(shape, "uint8"))


def test_format_is_noted_once_and_changes_nothing(server, further_link, capsys):
    image = Image.new("RGB", (8, 8), RED)
    further_link.send_image(image, format="PIL")
    further_link.send_image(image, "OpenCV")
    peer = server.peer()
    assert near(shown(peer), RED) and near(shown(peer), RED)
    assert capsys.readouterr().out == "send_image: the format parameter is no longer needed and is ignored\n"


def test_without_format_nothing_is_printed(server, further_link, capsys):
    further_link.send_image(Image.new("RGB", (8, 8)), format=None)
    assert capsys.readouterr() == ("", "")


def test_without_pillow_one_warning_names_the_package(server, further_link, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    frame = numpy.zeros((4, 4), "uint8")
    with pytest.warns(RuntimeWarning, match="python3-pil") as caught:
        further_link.send_image(frame)
        further_link.send_image(frame)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_picture_beyond_the_limit_of_a_line_is_one_warning(server, further_link):
    noise = numpy.random.RandomState(1).randint(0, 256, (2600, 2600)).astype("uint8")
    with pytest.warns(RuntimeWarning, match="too large") as caught:
        further_link.send_image(noise)
        further_link.send_image(noise)
    assert len(caught) == 1
    further_link.send_image(noise[:8, :8])
    assert shown(server.peer()).size == (8, 8)


def test_frames_of_several_threads_arrive_whole_and_in_the_order_of_each(server, further_link):
    # Larger than the socket's buffer, so that each is written in parts.
    noise = numpy.random.RandomState(1).randint(0, 256, (900, 900)).astype("uint8")

    def send(value):
        for number in range(6):
            frame = noise.copy()
            frame[:32, :32], frame[:32, 32:64] = value, number * 40
            further_link.send_image(frame)

    threads = [threading.Thread(target=send, args=(value,)) for value in (0, 100, 200)]
    for thread in threads:
        thread.start()
    peer, came = server.peer(), {0: [], 100: [], 200: []}
    for _ in range(18):
        image = shown(peer)
        value, number = image.getpixel((8, 8)), image.getpixel((40, 8))
        came[round(value / 100) * 100].append(round(number / 40))
    for thread in threads:
        thread.join()
    assert list(came.values()) == [[0, 1, 2, 3, 4, 5]] * 3
    assert server.accepted.empty()


def test_no_frame_is_dropped_when_the_reader_is_slow(server, further_link):
    # D40: a send timeout of 0.1 s lost most of them.
    noise = numpy.random.RandomState(1).randint(0, 256, (500, 500)).astype("uint8")
    sent = []

    def send():
        for _ in range(20):
            further_link.send_image(noise)
            sent.append(None)

    thread = threading.Thread(target=send)
    thread.start()
    peer = server.peer()
    # The sender waits in its write: the next line has begun to arrive, and none is read.
    thread.join(0.3)
    assert len(sent) < 20
    for _ in range(20):
        shown(peer)
    thread.join()
    assert len(sent) == 20


def test_a_complaint_of_the_daemon_is_one_warning_in_a_program_that_only_sends(server, further_link):
    image = Image.new("L", (8, 8))
    further_link.send_image(image)
    peer = server.peer()
    peer.send("error", message="no such thing")
    peer.send("error", message="again")
    peer.send("of another version", any=1)
    with pytest.warns(RuntimeWarning, match="refused a message: no such thing") as caught:
        further_link.send_image(image)
        further_link.send_image(image)
    assert len(caught) == 1
    assert [json.loads(peer.line().decode())["type"] for _ in range(3)] == ["video"] * 3


def test_a_connection_that_the_daemon_closed_is_replaced(server, further_link):
    image = Image.new("L", (8, 8), 90)
    further_link.send_image(image)
    first = server.peer()
    shown(first)
    first.close()
    further_link.send_image(image)
    assert near(shown(server.peer()), GRAY)


def test_a_channel_that_has_gone_is_one_warning(server, further_link):
    image = Image.new("L", (8, 8))
    further_link.send_image(image)
    shown(server.peer())
    server.stop()
    with pytest.warns(RuntimeWarning, match="has closed the channel") as caught:
        for _ in range(5):
            further_link.send_image(image)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_sender_that_waits_for_a_reader_hears_that_it_has_gone(server, further_link):
    noise = numpy.random.RandomState(1).randint(0, 256, (1500, 1500)).astype("uint8")
    caught = []

    def send():
        with pytest.warns(RuntimeWarning) as warned:
            further_link.send_image(noise)
        caught.extend(str(warning.message) for warning in warned)

    thread = threading.Thread(target=send)
    thread.start()
    peer = server.peer()
    peer.sock.recv(10)
    server.stop()
    wait_for(lambda: not thread.is_alive(), "the sender goes on")
    assert len(caught) == 1


def test_a_late_channel_loses_no_frame(late_server, further_link):
    # D40: the first frame was lost.
    thread = threading.Thread(target=further_link.send_image, args=(Image.new("L", (8, 8), 90),))
    thread.start()
    thread.join(0.1)
    late_server.start()
    assert near(shown(late_server.peer()), GRAY)
    thread.join()
