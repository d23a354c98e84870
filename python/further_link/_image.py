"""send_image: a picture for the browser, as a JPEG in a `video` message.

Used by programs. The import must never need Pillow or numpy. numpy is never asked for: a program with an array has it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    import numpy
    from PIL.Image import Image

    Frame = Union[Image, "numpy.ndarray[Any, Any]"]

_noted = False


def send_image(frame: Frame, format: Optional[str] = None) -> None:
    """Shows a picture in the browser: a PIL image, or a numpy array as OpenCV makes them (BGR, or grayscale).

    A wrong argument is a TypeError or ValueError. A picture that no client can see is a warning, once. `format` is
    there for old programs and changes nothing.
    """
    if format is not None:
        _note_format()
    jpeg = _jpeg(frame)
    if jpeg is not None:
        _send(jpeg)


def _note_format() -> None:
    global _noted
    if not _noted:
        _noted = True
        print("send_image: the format parameter is no longer needed and is ignored")


def _jpeg(frame: Any) -> Optional[bytes]:
    # An object of a module that was not imported does not exist.
    numpy, pillow = sys.modules.get("numpy"), sys.modules.get("PIL.Image")
    if numpy is not None and isinstance(frame, numpy.ndarray):
        pixels = _pixels(frame)
    elif pillow is not None and isinstance(frame, pillow.Image):
        pixels = None
    else:
        raise TypeError(f"an image is a PIL image or a numpy array, not {type(frame).__name__}")
    try:
        from PIL import Image
    except ImportError:
        from further_link._warn import warn_once

        warn_once("pillow", "send_image needs Pillow: sudo apt install python3-pil (in a venv: pip install Pillow)")
        return None
    return _encode(frame if pixels is None else Image.fromarray(pixels))


def _pixels(array: Any) -> Any:
    """What Pillow takes: rows of gray, or of red, green and blue."""
    if array.dtype == bool:
        array = array.astype("uint8") * 255
    if array.dtype != "uint8":
        # Whether white is 1.0, 255 or 65535 is not to be seen.
        raise TypeError(f"an image's numbers are uint8, from 0 to 255, not {array.dtype}: see numpy's astype")
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an image has the shape (height, width) or (height, width, 3), not {array.shape}")
    if array.ndim == 2:
        return array
    # From OpenCV's blue, green, red (and transparency).
    return array[:, :, 0] if array.shape[2] == 1 else array[:, :, 2::-1]


def _encode(image: Any) -> bytes:
    from io import BytesIO

    if image.mode in ("P", "PA"):
        # Not at once: Pillow warns of palettes with transparency then.
        image = image.convert("RGBA")
    if image.mode not in ("L", "RGB"):
        gray = image.mode in ("1", "LA", "La", "I", "F") or image.mode.startswith("I;")
        image = image.convert("L" if gray else "RGB")
    file = BytesIO()
    try:
        image.save(file, "JPEG", optimize=True)
    except OSError:
        # Optimizing needs the whole JPEG in one buffer, which Pillow makes too small for noise.
        file = BytesIO()
        image.save(file, "JPEG")
    return file.getvalue()


def _send(jpeg: bytes) -> None:
    from base64 import b64encode

    # Only now, so that importing the package needs neither sockets nor threads.
    from further_link import _channel

    line = _channel.encode("video", output=b64encode(jpeg).decode("ascii"))
    if len(line) > _channel.LINE_LIMIT:
        from further_link._warn import warn_once

        hint = "too large and not shown; make it smaller, see resize()"
        warn_once("size", f"send_image: a picture of {len(jpeg)} bytes as a JPEG is {hint}")
        return
    _channel.pictures.look()
    _channel.pictures.send(lambda _fresh: [line])
