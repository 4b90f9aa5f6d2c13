"""What rows about connector instances have in common: labels that tell instances apart, and kinds told by eye."""

from typing import Any, NamedTuple

import altair as alt
import polars as pl

from jobstats.charts import theme
from jobstats.wording import safe

INSTANCE = ("org_id", "connector", "connector_id")
_ID_CHARACTERS = 8


class Look(NamedTuple):
    """How one kind of thing is drawn: never by its colour alone."""

    word: str
    colour: str
    shape: str = "circle"


def labelled_instances(table: pl.DataFrame) -> pl.DataFrame:
    """With a safe ``label`` in place of the instance: its connector, and a piece of its id if others are of it."""
    instances = table.select(INSTANCE).unique(maintain_order=True)
    name, whole = pl.col("connector").fill_null("(none)"), pl.col("connector_id").fill_null("(none)")
    head = whole.str.head(_ID_CHARACTERS)
    is_told_by_head = (head.n_unique() == whole.n_unique()).over("connector") | (
        whole.str.len_chars() <= _ID_CHARACTERS
    )
    short = pl.when(is_told_by_head).then(head).otherwise(pl.lit("…") + whole.str.tail(_ID_CHARACTERS))
    instances = instances.with_columns(
        label=pl.when(pl.len().over("connector") > 1).then(name + " " + short).otherwise(name)
    )
    # Ids of two organisations can be the same: the second of them is #2.
    nth = pl.int_range(1, pl.len() + 1).over("label")
    named = pl.when(nth == 1).then("label").otherwise(pl.format("{} #{}", "label", nth))
    instances = theme.labelled(instances.with_columns(_name=named).drop("label"), ["_name"], "")
    return table.join(instances, on=INSTANCE, how="left", nulls_equal=True, maintain_order="left").drop(INSTANCE)


def scales(field: str, looks: dict[str, Look], present: pl.Series) -> dict[str, Any]:
    """Colour and shape by a field of words, with one legend of those that are there."""
    kinds = set(present.unique())
    shown = [look for name, look in looks.items() if name in kinds]
    words, colours, shapes = ([look[index] for look in shown] for index in range(3))
    legend = alt.Legend(title=None) if shown else None
    return {
        "color": alt.Color(f"{field}:N", scale=alt.Scale(domain=words, range=colours), legend=legend),
        "shape": alt.Shape(f"{field}:N", scale=alt.Scale(domain=words, range=shapes), legend=legend),
    }


def worded(names: pl.Series, looks: dict[str, Look]) -> pl.Series:
    """Names in words; one that is not known is its own word, made safe."""
    words = {name: looks[name].word if name in looks else safe(name) for name in names.drop_nulls().unique()}
    return names.replace_strict(words, default=None, return_dtype=pl.String)


def counted(present: pl.Series, looks: dict[str, Look]) -> list[str]:
    """``45 never``, ``3 stale``: how many there are of each kind, in the order of the looks."""
    counts = dict(present.value_counts().iter_rows())
    return [f"{counts[name]:,} {look.word}" for name, look in looks.items() if name in counts]


def words_of(milliseconds: str) -> str:
    """A Vega expression that says a length of time as :func:`jobstats.wording.duration` does, near enough."""
    sign = f"({milliseconds} < 0 ? '-' : '')"
    size = f"abs({milliseconds})"
    steps = ((1_000, 1, "ms"), (60_000, 1_000, "s"), (3_600_000, 60_000, "min"), (172_800_000, 3_600_000, "h"))
    said = f"format({size} / 86400000, '.3~r') + ' d'"
    for below, length, unit in reversed(steps):
        said = f"{size} < {below} ? format({size} / {length}, '.3~r') + ' {unit}' : {said}"
    return f"isValid({milliseconds}) ? {sign} + ({said}) : '–'"
