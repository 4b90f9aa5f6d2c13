"""Which templates no rule names a cause for, as rules for a person to complete."""

import re

import polars as pl

from jobstats.reasons.classifying import NO_REASON
from jobstats.wording import plural, safe

_MOST = 20
_SEEN = ("finished_at", "processed_at", "created_at")


def texts_of(jobs: pl.LazyFrame) -> pl.DataFrame:
    """The distinct failure texts of a jobs table: ``failed_reason``, ``first_seen_at``, ``last_seen_at``."""
    at = pl.coalesce(_SEEN)
    has_failed = (pl.col("state") == "failed") | pl.col("failed_reason").is_not_null()
    texts = jobs.filter("is_latest", has_failed).group_by("failed_reason")
    return texts.agg(first_seen_at=at.min(), last_seen_at=at.max()).sort("failed_reason").collect(engine="streaming")


def suggested(reasons: pl.DataFrame) -> str:
    r"""A file of rules, one for each template of :func:`jobstats.failure_reasons` without a rule of its cause.

    >>> counts = {"n": 2, "n_recovered": 1, "n_connectors": 1, "category": "unknown"}
    >>> ids = {"template_id": "t_0a1b2c3d4e5f", "cause_id": "t_0a1b2c3d4e5f"}
    >>> table = pl.DataFrame([{"template": "no grist for mill <n>", **ids, **counts}])
    >>> print(suggested(table))
    # 2 failed runs, 1 recovered, 1 connector
    [[cause]]
    id = "own-0a1b2c"
    pattern = '^no grist for mill <n>'
    cause = "no grist for mill"
    category = "unknown"
    <BLANKLINE>
    """
    unknown = reasons.filter(pl.col("cause_id") == pl.col("template_id"), pl.col("template") != NO_REASON)
    weighed = unknown.group_by("template_id", "template", "category").agg(
        pl.col("n", "n_recovered", "n_connectors").sum()
    )
    first = weighed.sort("n", "n_recovered", "template", descending=[True, True, False]).head(_MOST)
    return (
        "\n".join(_rule(row) for row in first.to_dicts())
        if len(first)
        else "# a rule names the cause of every template\n"
    )


def _rule(row: dict[str, str | int]) -> str:
    template = safe(row["template"], 100).removesuffix("…")
    pattern = re.sub(r"([\\.^$*+?()\[\]{}|])", r"\\\1", template)
    counts = f"{plural(int(row['n']), 'failed run')}, {row['n_recovered']:,} recovered"
    # A dollar sign would ask for a group.
    words = " ".join(re.sub(r"'?<[a-z]+>'?", " ", template).split()) or template
    words = words.replace("$", "$$")
    quoted = words.replace("\\", "\\\\").replace('"', '\\"')
    literal = f"'^{pattern}'" if "'" not in pattern else '"^' + pattern.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return (
        f"# {counts}, {plural(int(row['n_connectors']), 'connector')}\n"
        f'[[cause]]\nid = "own-{str(row["template_id"])[2:8]}"\npattern = {literal}\n'
        f'cause = "{quoted}"\ncategory = "{row["category"]}"\n'
    )
