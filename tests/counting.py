"""Counts the work of a call without a clock."""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType


def count_calls(work: Callable[[], object], *refusals: type[Exception]) -> int:
    """How many functions, C's included, this work calls. It may end in one of the refusals."""
    count = 0

    def hear(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    with suppress(*refusals):
        sys.setprofile(hear)
        try:
            work()
        finally:
            sys.setprofile(None)
    return count
