"""What is known of reasons beyond the data at hand: when each was first seen, and under which ids.

Ids hold no version, so most survive a change of the rules. For those that do not, the catalog keeps the rules it was
written with: when it meets other rules, the texts at hand are classified by both, what has no text any more is
classified by its template, and the ids of before become aliases. So a reason is never called new because of an upgrade.
No raw text is kept.
"""

import os
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq
from pydantic import ValidationError

from jobstats.errors import TableError
from jobstats.parquet import replace_file
from jobstats.reasons.classifying import classify, ruleset
from jobstats.reasons.rules import Rules, RuleSet
from jobstats.spool import writing

_TIME = pl.Datetime("ms", "UTC")
SCHEMA = pl.Schema(
    {
        "template_id": pl.String(),
        "cause_id": pl.String(),
        "cause": pl.String(),
        "category": pl.String(),
        "template": pl.String(),
        "first_seen_at": _TIME,
        "last_seen_at": _TIME,
        "aliases": pl.List(pl.String),
    }
)
_RULES = "jobstats.rules"


class Catalog(NamedTuple):
    """Known reasons, a row a template, and the rules they were named by."""

    table: pl.DataFrame
    rules: RuleSet


def read_catalog(path: str | os.PathLike[str]) -> Catalog | None:
    """The catalog in a file, or None where there is no file yet.

    Raises:
        TableError: The file is no catalog.
    """
    if not os.path.exists(path):
        return None
    try:
        table = pl.read_parquet(os.fspath(path))
        told = (pq.read_schema(path).metadata or {}).get(_RULES.encode(), b"")
        rules = RuleSet.model_validate_json(told)
    except (OSError, ValueError, ValidationError, pl.exceptions.PolarsError) as error:
        raise TableError(f"{os.fspath(path)} is no catalog of reasons: {' '.join(str(error).split())[:200]}") from error
    if table.schema != SCHEMA:
        raise TableError(f"{os.fspath(path)} is no catalog of reasons: it has other columns")
    return Catalog(table, rules)


def write_catalog(catalog: Catalog, path: str | os.PathLike[str]) -> None:
    """Put a catalog into a file, at once.

    Raises:
        SourceError: The file cannot be written.
    """
    arrow = catalog.table.to_arrow()
    metadata = {**(arrow.schema.metadata or {}), _RULES.encode(): catalog.rules.told().encode()}
    with writing(path):
        replace_file(Path(path), lambda target: pq.write_table(arrow.replace_schema_metadata(metadata), target))


def updated(catalog: Catalog | None, texts: pl.DataFrame, *, rules: Rules = None) -> Catalog:
    """The catalog with the texts of an export, under the ids that the rules give now.

    Args:
        catalog: What was known before, by whatever rules.
        texts: ``failed_reason``, ``first_seen_at``, ``last_seen_at``; a row a text.
        rules: The rules of today.

    >>> from datetime import UTC, datetime
    >>> day = datetime(2026, 11, 23, tzinfo=UTC)
    >>> texts = pl.DataFrame({"failed_reason": ["HTTP 429"], "first_seen_at": [day], "last_seen_at": [day]})
    >>> updated(None, texts).table.select("cause", "category", "aliases").row(0)
    ('HTTP 429', 'rate_limit', [])
    """
    known = ruleset(rules)
    texts = texts.with_columns(pl.col("first_seen_at", "last_seen_at").cast(_TIME))
    now = classify(texts["failed_reason"], rules=known).drop("rule_id")
    seen = texts.hstack(now).with_columns(aliases=pl.lit([], dtype=pl.List(pl.String)))
    earlier = _rekeyed(catalog, texts["failed_reason"], now, known)
    return Catalog(_merged(pl.concat([seen.select(SCHEMA.names()), earlier])), known)


def first_known(catalog: Catalog | None, found: pl.DataFrame, key: str, *, rules: Rules = None) -> pl.DataFrame:
    """When each ``key`` of texts classified by these rules was first seen according to a catalog.

    Args:
        catalog: What is known, by whatever rules.
        found: ``failed_reason`` and the columns of :func:`classify`.
        key: ``cause_id`` or ``template_id``.
        rules: The rules of ``found``.

    Returns:
        ``key`` and ``known_at``, for those that are known.
    """
    if catalog is None:
        return pl.DataFrame(schema={key: pl.String, "known_at": _TIME})
    texts = found.unique("failed_reason")
    table = _merged(_rekeyed(catalog, texts["failed_reason"], texts, ruleset(rules)))
    ids = pl.concat_list("template_id", "cause_id", "aliases")
    known = table.select(id=ids, known_at="first_seen_at").explode("id").group_by("id").agg(pl.col("known_at").min())
    own = found.select(key, pl.col("template_id")).unique()
    pairs = pl.concat([own.select(key, id="template_id"), own.select(key, id=key)]).unique()
    return pairs.join(known, on="id").group_by(key).agg(pl.col("known_at").min())


def _rekeyed(catalog: Catalog | None, texts: pl.Series, now: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
    """The rows of the catalog under the ids of today, with those they had as aliases."""
    if catalog is None:
        return pl.DataFrame(schema=SCHEMA)
    if catalog.rules.sha == rules.sha:
        return catalog.table
    then = classify(texts, rules=catalog.rules)["template_id"]
    named = ("template_id", "cause_id", "cause", "category", "template")
    # A text that several wordings shared before is as old as all of them: better that than news that are none.
    by_text = now.select(named).with_columns(was=then).unique()
    gone = catalog.table.join(by_text, left_on="template_id", right_on="was", how="anti")
    by_template = classify(gone["template"], rules=rules).select(named).with_columns(was=gone["template_id"])
    ids = pl.concat([by_text, by_template])
    kept = catalog.table.select("first_seen_at", "last_seen_at", "aliases", was="template_id", was_cause="cause_id")
    aliases = pl.concat_list("aliases", "was", "was_cause")
    return kept.join(ids, on="was").with_columns(aliases=aliases).select(SCHEMA.names())


def _merged(rows: pl.DataFrame) -> pl.DataFrame:
    merged = (
        rows.sort("template_id", pl.col("template").str.len_chars(), "template", "cause_id")
        .group_by("template_id", maintain_order=True)
        .agg(
            pl.col("cause_id", "cause", "category", "template").first(),
            pl.col("first_seen_at").min(),
            pl.col("last_seen_at").max(),
            aliases=pl.col("aliases").list.explode(keep_nulls=False, empty_as_null=False).unique().sort(),
        )
    )
    # An id that is in use again is no alias of another reason.
    live = pl.concat([merged["template_id"], merged["cause_id"]]).unique().to_list()
    merged = merged.with_columns(aliases=pl.col("aliases").list.set_difference(live).list.sort())
    return merged.select(SCHEMA.names()).cast(SCHEMA)
