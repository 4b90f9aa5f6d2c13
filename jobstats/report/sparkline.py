"""A line the size of a word, for a row of a table."""

from collections.abc import Sequence

WIDTH, HEIGHT = 120, 22
_BLOCKS = "▁▂▃▄▅▆▇█"


def path(values: Sequence[float | None]) -> str:
    """The path of an SVG of this size, from 0 at the bottom; where nothing is known the line breaks.

    >>> path([0.0, 1.0, None, 1.0])
    'M0,21 L40,1 M120,1'
    """
    most = max((value for value in values if value is not None), default=0) or 1
    step = WIDTH / max(1, len(values) - 1)
    parts, is_open = [], False
    for place, value in enumerate(values):
        if value is not None:
            y = HEIGHT - 1 - (HEIGHT - 2) * value / most
            parts.append(f"{'L' if is_open else 'M'}{place * step:.3g},{y:.3g}")
        is_open = value is not None
    return " ".join(parts)


def blocks(values: Sequence[float | None], most_blocks: int = 24) -> str:
    """The same as text; a blank where nothing is known.

    >>> blocks([0.0, 0.5, None, 1.0])
    '▁▅ █'
    """
    shown = values[-most_blocks:]
    most = max((value for value in shown if value is not None), default=0) or 1
    return "".join(" " if value is None else _BLOCKS[round(value / most * 7)] for value in shown)
