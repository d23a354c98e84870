"""Warnings: one of each kind per process, shown at the line of the user's program that led to it.

Called by the other modules. A warning must never raise in a thread of ours, where no program can catch it (with
`python3 -W error` warnings are exceptions).
"""

from __future__ import annotations

import sys
import warnings

_given: list[str] = []


def warn_once(kind: str, message: str) -> None:
    """A RuntimeWarning, unless there was one of this kind."""
    if kind in _given:
        return
    _given.append(kind)
    text = "further_link: " + message
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("further_link."):
        depth, frame = depth + 1, frame.f_back
    if frame.f_globals.get("__name__") != "threading":
        warnings.warn(text, RuntimeWarning, stacklevel=depth)
        return
    # A thread of ours: no line of the user's program led here.
    try:
        warnings.warn(text, RuntimeWarning)
    except RuntimeWarning:
        print(text, file=sys.stderr)
