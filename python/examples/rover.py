#!/usr/bin/env python3
"""Drives a rover with the arrow keys and honks with the space bar, from the keyboard in front of the browser.

The motors are gpiozero's Robot on these GPIO pins; without gpiozero or the pins it only says what it would do.
"""

import signal

from further_link import KeyboardButton

LEFT_PINS, RIGHT_PINS = (4, 14), (17, 18)


class TalkingRobot:
    """What there is without motors."""

    def forward(self):
        print("forward", flush=True)

    def backward(self):
        print("backward", flush=True)

    def left(self):
        print("left", flush=True)

    def right(self):
        print("right", flush=True)

    def stop(self):
        print("stop", flush=True)


def robot():
    try:
        from gpiozero import Motor, Robot

        return Robot(left=Motor(*LEFT_PINS), right=Motor(*RIGHT_PINS))
    except Exception as error:  # no gpiozero, no pins, no right to use them
        print(f"no motors ({error}), so this rover only talks", flush=True)
        return TalkingRobot()


def main():
    rover = robot()
    moves = {"ArrowUp": rover.forward, "ArrowDown": rover.backward, "ArrowLeft": rover.left, "ArrowRight": rover.right}
    for key, move in moves.items():
        button = KeyboardButton(key)
        button.when_pressed = move
        button.when_released = rover.stop
    horn = KeyboardButton(" ")
    horn.when_pressed = lambda: print("honk", flush=True)
    # The keys are heard in the background; the program lives as long as this.
    signal.pause()


if __name__ == "__main__":
    main()
