"""What a text is found to hold, between cutting it up and judging it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple


class Lines(NamedTuple):
    """Whole lines, each of which may be a record, an array, an envelope, blank or damaged."""

    block: bytes
    first: int
    """The 1-based number of the first line in the file."""

    def texts(self) -> "Iterator[Text]":
        """Each line by itself."""
        return (Text(text, line, None) for line, text in enumerate(self.block.split(b"\n"), self.first))


class Text(NamedTuple):
    """What should be one record, not read yet; ``line`` and ``index`` as in :class:`Item`."""

    text: bytes
    line: int | None
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a record


class Item(NamedTuple):
    """What counts as one record: a decoded value, or a problem that kept it from being decoded.

    ``line`` is the 1-based line of the file, ``index`` the 0-based place in an array. ``source`` gives the exact
    text on demand, because only rejects need it.
    """

    value: Any
    source: Callable[[], bytes]
    line: int | None
    index: int | None  # type: ignore[assignment]
    problem: str | None = None


class Empty(NamedTuple):
    """An envelope without records: an error body, a 404, or an organisation without jobs."""


Found = Text | Item | Empty


def damage(text: bytes, line: int | None, index: int | None, problem: str) -> Item:
    """Text that could not be decoded."""
    return Item(None, partial(bytes, text), line, index, problem)
