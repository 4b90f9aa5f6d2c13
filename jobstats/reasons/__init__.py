"""Failure text → redacted template, cause and category, by ordered rules (``rules.toml``)."""

from jobstats.reasons.catalog import Catalog, read_catalog, updated, write_catalog
from jobstats.reasons.classifying import NO_REASON, UNKNOWN, WORDLESS, classify, explain, misfits, redact, ruleset
from jobstats.reasons.rules import CATEGORIES, STAGES, Rules, RuleSet

__all__ = [
    "CATEGORIES",
    "NO_REASON",
    "STAGES",
    "UNKNOWN",
    "WORDLESS",
    "Catalog",
    "RuleSet",
    "Rules",
    "classify",
    "explain",
    "misfits",
    "read_catalog",
    "redact",
    "ruleset",
    "updated",
    "write_catalog",
]
