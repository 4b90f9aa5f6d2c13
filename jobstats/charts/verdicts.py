"""Verdicts as charts say them: a word, a colour and a shape, so that no reader depends on any one of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from jobstats.charts import theme


class Look(NamedTuple):
    """How the marks of one verdict look, and the word beside them."""

    word: str
    colour: str
    shape: str = "circle"
    is_filled: bool = True


Looks = Mapping[str, Look]


def colour(looks: Looks, field: str = "verdict") -> alt.Color:
    """The colour of each verdict; the words beside the marks are the legend."""
    return alt.Color(f"{field}:N", scale=_colours(looks), legend=None)


def points(base: alt.Chart, looks: Looks, field: str = "verdict", size: int = 75) -> alt.Chart:
    """Points in the colours and shapes of their verdicts, hollow where little is known."""
    fills = _scale(looks, [look.colour if look.is_filled else "transparent" for look in looks.values()])
    return base.mark_point(size=size, opacity=1, strokeWidth=1.6).encode(
        stroke=alt.Stroke(f"{field}:N", scale=_colours(looks), legend=None),
        fill=alt.Fill(f"{field}:N", scale=fills, legend=None),
        shape=alt.Shape(f"{field}:N", scale=_scale(looks, [look.shape for look in looks.values()]), legend=None),
    )


def column(frame: pl.DataFrame, y: alt.Y, looks: Looks, field: str = "verdict", words: str = "word") -> Any:
    """The verdict of each row: its mark, and beside it what is in the column ``words``."""
    base = alt.Chart(theme.data(frame.select("label", "rank", field, words))).encode(y.copy().axis(None))
    marks = points(base, looks, field).encode(x=alt.value(5))
    text = base.mark_text(align="left", style="text").encode(x=alt.value(16), text=f"{words}:N")
    return alt.layer(marks, text).properties(width=16 + theme.text_width(frame[words]), height=alt.Step(24))


def said(frame: pl.DataFrame, looks: Looks, field: str = "verdict") -> str:
    """How many rows have each verdict, in words: ``2 breached, 1 met``."""
    counts = dict(frame.group_by(field).len().iter_rows())
    return ", ".join(f"{counts[name]:,} {look.word}" for name, look in looks.items() if counts.get(name))


def _colours(looks: Looks) -> alt.Scale:
    return _scale(looks, [look.colour for look in looks.values()])


def _scale(looks: Looks, values: list[Any]) -> alt.Scale:
    return alt.Scale(domain=list(looks), range=values)
