"""A line of numbers as a line of blocks."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[int], width: int) -> str:
    """Draw whole numbers from the lowest to the highest, in `width` characters at most: each the last of its stretch.

    Numbers that are all the same are in the middle. Exact for numbers of any size.
    """
    if not values:
        return ""
    shown = _thinned(values, width)
    low, high = min(shown), max(shown)
    if low == high:
        return _BLOCKS[len(_BLOCKS) // 2 - 1] * len(shown)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[(value - low) * top // (high - low)] for value in shown)


def _thinned(values: Sequence[int], width: int) -> Sequence[int]:
    count = len(values)
    if count <= width:
        return values
    return [values[(place + 1) * count // width - 1] for place in range(width)]
