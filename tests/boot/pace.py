"""How much longer everything may take in the machine than in a container on two idle processors.

Set once by the machine, and asked by whatever waits.
"""


class Pace:
    factor = 1.0


def patient(seconds):
    return seconds * Pace.factor
