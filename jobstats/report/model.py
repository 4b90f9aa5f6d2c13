"""What a report says, before it is a page, a mail or a file: every format is written from this, and adds no number.

The model is published: ``report.json`` is its dump, ``docs/report.schema.json`` its JSON Schema. A reader of an older
report ignores what it does not know; ``schema_version`` grows when a field changes its meaning or goes.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
Status = Literal["good", "caution", "bad", "unknown"]
Kind = Literal["text", "count", "duration", "rate", "number", "time", "flag"]
Cell = str | bool | int | float | datetime | None
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Period(_Part):
    """What the report is about: runs in [since, until), or all of them where an end is null."""

    since: AwareDatetime | None
    until: AwareDatetime | None
    first: AwareDatetime | None
    """When the first run in the period became due."""
    last: AwareDatetime | None
    observed: AwareDatetime | None
    """The newest observation: the "now" of the data."""
    reached: AwareDatetime | None = None
    """Observations before this were left out, but for what bears on the period; null where all were looked at."""
    every: str
    """Length of the windows in charts over time."""


class Verdict(_Part):
    """The report in one word and one sentence."""

    status: Status
    headline: str


class Figure(_Part):
    """One number to remember, with what it was counted on; ``text`` is how every format prints it."""

    id: str
    name: str
    kind: Kind
    value: float | None
    low: float | None = None
    high: float | None = None
    is_bounds: bool = False
    """Whether low and high are what is certain, whatever happened unseen, and not an interval of an estimate."""
    n: int
    text: str
    detail: str
    target: str | None = None
    status: Status | None = None


class ObjectiveResult(_Part):
    """One objective for one group, as :func:`jobstats.slo` judges it."""

    objective: str
    group: str
    verdict: Literal["breached", "at risk", "not enough data", "met"]
    target: Share
    attainment: Share | None
    attainment_low: Share | None
    attainment_high: Share | None
    budget_left: float | None
    alert: str | None
    reason: str | None
    n: int
    n_bad: int
    n_excluded: int


class Change(_Part):
    """What is not as it was in the report before, or in the window before the period."""

    against: Literal["report", "window"]
    direction: Literal["worse", "better", "new", "gone"]
    subject: str
    message: str


class Attention(_Part):
    """Something that is new or broken, and wants a person."""

    kind: Literal["cause", "stale", "failing", "stuck"]
    status: Status
    subject: str
    message: str


class Stale(_Part):
    """A connector that has not succeeded for too long, or never; the key tells it from all others."""

    key: str
    name: str


class Finding(_Part):
    """One limit of the data."""

    check: str
    severity: Literal["error", "warning", "note"]
    message: str


class Column(_Part):
    """A column of a table: its name as the analyses have it, and what its values are."""

    name: str
    kind: Kind


class Table(_Part):
    """The first rows of a result table, as they are drawn: worst first."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_rows: int
    """How many rows there are in all."""


class Exhibit(_Part):
    """A chart, said in a sentence and told in a table."""

    id: str
    title: str
    sentence: str
    chart: str | None
    """Which function of :mod:`jobstats.charts` draws it; null where there is nothing to draw."""
    table: Table


class Section(_Part):
    """One question, and the exhibits that answer it."""

    id: str
    title: str
    text: str
    exhibits: tuple[Exhibit, ...]


class Scorecard(_Part):
    """A row a kind of connector, worst first, and how its failure rate ran through the period."""

    table: Table
    trends: tuple[tuple[float | None, ...], ...]


class Previous(_Part):
    """The report that this one is compared with."""

    key: str
    since: AwareDatetime | None
    until: AwareDatetime | None
    observed: AwareDatetime | None


class Provenance(_Part):
    """Where the numbers come from. There is no time of writing: the same data makes the same report."""

    version: str
    key: str
    """Stands for the input, the period, the options and the version: the same key, the same report."""
    sources: tuple[str, ...]
    options: dict[str, str]


class Report(_Part):
    """Everything a report says."""

    schema_version: int = SCHEMA_VERSION
    title: str
    period: Period
    population: str
    verdict: Verdict
    objectives: tuple[ObjectiveResult, ...]
    figures: tuple[Figure, ...]
    changes: tuple[Change, ...]
    previous: Previous | None
    attention: tuple[Attention, ...]
    headlines: tuple[str, ...]
    scorecard: Scorecard
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...]
    causes: tuple[str, ...]
    """Ids of the causes seen in the period."""
    stale: tuple[Stale, ...]
    """Connectors that have not succeeded for too long, or never."""
    provenance: Provenance
