"""Service level objectives, as a file says them: what share of runs or connectors should be good."""

import os
import tomllib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from jobstats.errors import ArgumentError
from jobstats.moments import length_ms

Words = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
Names = Annotated[
    tuple[Words, ...],
    BeforeValidator(lambda names: (names,) if isinstance(names, str) else names),
    Field(strict=False),
]
_FEW = {"start": 20, "success": 20, "fresh": 1}
_INSTANCE = ("org_id", "connector", "connector_id")


class Objective(BaseModel):
    """What share should be good: of runs that start in time or succeed, or of connectors that are fresh.

    Attributes:
        name: What it is called, once in a file.
        kind: ``start`` (runs that start ``within`` a length of being due), ``success`` (ended runs that completed) or
            ``fresh`` (connectors whose last success is no older than ``within``; see :func:`jobstats.freshness`).
        target: The share that should be good, at most 1.
        within: A length such as ``"5m"``; for ``fresh`` also a number of periods of the schedule, by default 2.
        window: How far back runs count, such as ``"28d"``. Freshness is of one moment and has none.
        by: Columns to group by: every group has the objective for itself.
        min_n: With fewer runs (connectors), nothing is said; by default 20 runs, 1 connector.
        connector: Only these kinds of connectors; all when empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Words
    kind: Literal["start", "success", "fresh"]
    target: Annotated[float, Field(gt=0, le=1)]
    within: str | float | None = None
    window: str = "28d"
    by: Names = ()
    min_n: Annotated[int, Field(ge=1)] | None = None
    connector: Names = ()

    @field_validator("within", "window")
    @classmethod
    def _is_length(cls, value: str | float | None, info: Any) -> str | float | None:
        if isinstance(value, str):
            length_ms(value, info.field_name)
        elif value is not None and not 0 < value < float("inf"):
            raise ValueError(f"a number of periods is above 0; found {value}")
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Objective":
        if self.kind == "start" and not isinstance(self.within, str):
            raise ValueError(f"kind start needs within, a length such as '5m'; found {self.within!r}")
        if self.kind == "success" and self.within is not None:
            raise ValueError("kind success has no within: a run succeeds or does not")
        if self.kind == "fresh" and "window" in self.model_fields_set:
            raise ValueError("kind fresh has no window: it is judged at one moment, and within says how old is too old")
        if self.kind == "fresh" and (wrong := [name for name in self.by if name not in _INSTANCE]):
            raise ValueError(f"kind fresh groups by {', '.join(_INSTANCE)}; found {wrong[0]!r}")
        return self

    @property
    def enough(self) -> int:
        """How many runs or connectors it takes to say something."""
        return self.min_n or _FEW[self.kind]

    @property
    def window_ms(self) -> int:
        """How far back runs count."""
        return length_ms(self.window, "window")


Objectives = str | os.PathLike[str] | Objective | Sequence[Objective]
"""Objectives as functions take them: a file, or one or more of them."""


def read_objectives(path: str | os.PathLike[str]) -> tuple[Objective, ...]:
    """The objectives of a TOML file, in its order: an ``[[objective]]`` table each, with the fields of `Objective`.

    Raises:
        ArgumentError: The file cannot be read, or an objective is wrong: which one, which field, and why.
    """
    where = f"objectives {os.fspath(path)}"
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = tomllib.loads(file.read())
    except OSError as error:
        raise ArgumentError(f"{where}: cannot read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{where}: not TOML: {error}") from error
    entries = found.pop("objective", [])
    if found:
        raise ArgumentError(f"{where}: no table is called {min(found)!r}; write [[objective]] above each objective")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ArgumentError(f"{where}: holds no list of objectives; write [[objective]] above each of them")
    return checked([_read(entry, place, where) for place, entry in enumerate(entries, start=1)], where)


def as_objectives(objectives: Objectives) -> tuple[Objective, ...]:
    """The objectives of a file, or of the caller.

    Raises:
        ArgumentError: A file or objective is wrong, or these are no objectives.
    """
    if isinstance(objectives, str | os.PathLike):
        return read_objectives(objectives)
    given = [objectives] if isinstance(objectives, Objective) else objectives
    if not isinstance(given, Sequence) or not all(isinstance(objective, Objective) for objective in given):
        raise ArgumentError(f"objectives are a file or a list of Objective, found {type(objectives).__name__}")
    return checked(list(given), "objectives")


def checked(objectives: list[Objective], where: str) -> tuple[Objective, ...]:
    """The objectives, each with a name of its own.

    Raises:
        ArgumentError: Two have the same name.
    """
    names = [objective.name for objective in objectives]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"{where}: objective {name!r} is there twice; give each a name of its own")
    return tuple(objectives)


def _read(entry: dict[str, Any], place: int, where: str) -> Objective:
    try:
        return Objective.model_validate(entry)
    except ValidationError as error:
        name = entry.get("name")
        called = f"objective {name!r}" if isinstance(name, str) else f"objective number {place}"
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())
        words = first["msg"].removeprefix("Value error, ")
        found = f"; found {first['input']!r}" if field and first["type"] not in {"missing", "value_error"} else ""
        raise ArgumentError(f"{where}: {called}: {field}{': ' if field else ''}{words}{found}") from error
