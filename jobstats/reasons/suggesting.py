"""Which templates no rule knows, as rules for a person to complete."""

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
    r"""A file of rules, one for each cause of :func:`jobstats.failure_reasons` that no rule knows.

    >>> unknown = {"rule_id": None, "n": 2, "n_recovered": 1, "n_connectors": 1}
    >>> table = pl.DataFrame([{"template": "no grist for mill <n>", "template_id": "t_0a1b2c3d4e5f", **unknown}])
    >>> print(suggested(table))
    # 2 failed runs, 1 recovered, 1 connector
    [[cause]]
    id = "own-0a1b2c"
    pattern = '^no grist for mill <n>'
    cause = "no grist for mill <n>"
    category = "unknown"
    <BLANKLINE>
    """
    unknown = reasons.filter(pl.col("rule_id").is_null(), pl.col("template") != NO_REASON)
    weighed = unknown.group_by("template_id", "template").agg(pl.col("n", "n_recovered", "n_connectors").sum())
    first = weighed.sort("n", "n_recovered", "template", descending=[True, True, False]).head(_MOST)
    return "\n".join(_rule(row) for row in first.to_dicts()) if len(first) else "# every template is known to a rule\n"


def _rule(row: dict[str, str | int]) -> str:
    template = safe(row["template"], 100).removesuffix("…")
    pattern = re.sub(r"([\\.^$*+?()\[\]{}|])", r"\\\1", template)
    counts = f"{plural(int(row['n']), 'failed run')}, {row['n_recovered']:,} recovered"
    quoted = template.replace("\\", "\\\\").replace('"', '\\"')
    literal = f"'^{pattern}'" if "'" not in pattern else f"'''^{pattern}'''"
    return (
        f"# {counts}, {plural(int(row['n_connectors']), 'connector')}\n"
        f'[[cause]]\nid = "own-{str(row["template_id"])[2:8]}"\npattern = {literal}\n'
        f'cause = "{quoted}"\ncategory = "unknown"\n'
    )
