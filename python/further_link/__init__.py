"""What a program that further-link runs can do beside printing: show pictures and hear keys.

    from further_link import KeyboardButton, send_image

Called by users' programs; README.md beside this package is their manual. The import must never cost anything: no
thread, no socket, no module but its own. A program must never end because no client is listening.
"""

from further_link._image import send_image
from further_link._keyboard import KeyboardButton

__all__ = ["KeyboardButton", "send_image", "__version__"]

# The daemon's version too: tests/test_package.py compares it with Cargo.toml.
__version__ = "6.0.0"
