#!/usr/bin/env python3
"""Shows a camera in the browser, or a moving picture where there is no camera (or no OpenCV).

sudo apt install python3-pil python3-opencv
"""

import itertools
import math
import time

from further_link import send_image


def camera():
    """Frames of the first camera: numpy arrays, as OpenCV makes them. None without one."""
    try:
        import cv2
    except ImportError:
        return
    video = cv2.VideoCapture(0)
    while True:
        ok, frame = video.read()
        if not ok:
            return
        yield frame


def drawing():
    """A ball that bounces: PIL images."""
    from PIL import Image, ImageDraw

    for step in itertools.count():
        image = Image.new("RGB", (320, 240), "navy")
        x = 160 + 130 * math.sin(step / 20)
        y = 210 - 170 * abs(math.sin(step / 9))
        ImageDraw.Draw(image).ellipse((x - 20, y - 20, x + 20, y + 20), fill="orange")
        yield image
        time.sleep(1 / 25)


def main():
    seen = False
    for frame in camera():
        seen = True
        send_image(frame)
    if not seen:
        print("no camera, so here is a ball")
        for frame in drawing():
            send_image(frame)


if __name__ == "__main__":
    main()
