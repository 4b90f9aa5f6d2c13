"""The rules by which failure texts become templates, causes and categories: data, checked when they are read."""

import hashlib
import os
import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from jobstats.errors import ArgumentError

Category = Literal[
    "auth",
    "permission",
    "rate_limit",
    "quota",
    "timeout",
    "network",
    "not_found",
    "server_error",
    "validation",
    "configuration",
    "storage",
    "stalled",
    "code_bug",
    "unknown",
]
CATEGORIES: tuple[str, ...] = get_args(Category)

TEXT_STAGES = ("clean", "secret", "head", "protect", "mask", "tidy")
STAGES = (*TEXT_STAGES, "cause", "category")

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Pattern = Annotated[str, Field(min_length=1)]
Words = Annotated[
    str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Rule(_Model):
    """What all rules have: an id, a pattern, and texts on which it must act."""

    id: Id
    pattern: Pattern
    examples: Annotated[tuple[str, ...], Field(strict=False)] = ()
    counter_examples: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @property
    def regex(self) -> str:
        r"""The pattern for the engine; ``\b``, ``\d``, ``\s`` and ``\w`` are ASCII, which keeps it quick."""
        return _ascii(self.pattern)


class Replacement(Rule):
    """A rule that changes the text: ``$1`` or ``${1}`` is the first group."""

    replace: str


class Cause(Rule):
    """A rule that names a cause, which may hold groups; without a category, the rules of categories decide."""

    cause: Words
    category: Category | None = None

    @property
    def regex(self) -> str:
        """The pattern for the engine, to be used on text in lower case."""
        return _lower(_ascii(self.pattern))

    @property
    def naming_regex(self) -> str:
        """The pattern for text as it is, from which the groups of the cause are taken."""
        return f"(?i){_ascii(self.pattern)}"


class Kind(Rule):
    """A rule that names a category."""

    category: Category

    @property
    def regex(self) -> str:
        """The pattern for the engine, to be used on text in lower case: the cause, and the template below it."""
        return f"(?m){_lower(_ascii(self.pattern))}"


class Pin(_Model):
    """What you know better: the cause, the category or both of one template, or of those that a pattern fits."""

    template_id: Annotated[str, StringConstraints(pattern=r"^t_[0-9a-f]{12}$")] | None = None
    pattern: Pattern | None = None
    cause: Words | None = None
    category: Category | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "Pin":
        if (self.template_id is None) == (self.pattern is None):
            raise ValueError("needs either template_id or pattern")
        if self.cause is None and self.category is None:
            raise ValueError("needs a cause, a category or both")
        return self

    @property
    def regex(self) -> str | None:
        """The pattern for the engine, to be used on text in lower case."""
        return None if self.pattern is None else _lower(_ascii(self.pattern))


class RuleSet(_Model):
    """All rules, in order. ``sha`` tells two sets apart."""

    clean: tuple[Replacement, ...] = ()
    secret: tuple[Replacement, ...] = ()
    head: tuple[Replacement, ...] = ()
    protect: tuple[Replacement, ...] = ()
    mask: tuple[Replacement, ...] = ()
    tidy: tuple[Replacement, ...] = ()
    cause: tuple[Cause, ...] = ()
    category: tuple[Kind, ...] = ()
    pin: tuple[Pin, ...] = ()

    def stage(self, name: str) -> tuple[Any, ...]:
        """The rules of one stage."""
        rules: tuple[Any, ...] = getattr(self, name)
        return rules

    def named(self) -> list[tuple[str, Any]]:
        """Every rule with its stage, in order."""
        return [(stage, rule) for stage in STAGES for rule in self.stage(stage)]

    @property
    def sha(self) -> str:
        """The first 12 digits of the SHA-256 of what the rules do."""
        return hashlib.sha256(self.told().encode()).hexdigest()[:12]

    def told(self) -> str:
        """What the rules do as JSON, without the examples."""
        return self.model_dump_json(exclude={name: {"__all__": {"examples", "counter_examples"}} for name in STAGES})


Rules = RuleSet | str | os.PathLike[str] | None
"""Rules as functions take them: a file on top of the shipped rules, a set, or None for the shipped rules."""


@cache
def shipped() -> RuleSet:
    """The rules that come with the package."""
    text = files("jobstats.reasons").joinpath("rules.toml").read_text("utf-8")
    return RuleSet.model_validate(tomllib.loads(text), strict=False)


def read_rules(path: str) -> tuple[RuleSet, frozenset[str]]:
    """The shipped rules with those of a file on top, and the ids of the file's own."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            own = tomllib.loads(file.read())
    except OSError as error:
        raise ArgumentError(f"rules {path}: cannot read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"rules {path}: not TOML: {error}") from error
    return _merged(own, path)


def _merged(own: dict[str, Any], path: str) -> tuple[RuleSet, frozenset[str]]:
    merged: dict[str, Any] = {name: [rule.model_dump() for rule in shipped().stage(name)] for name in STAGES}
    if unknown := sorted(set(own) - {*STAGES, "pin"}):
        raise ArgumentError(f"rules {path}: no stage is called {unknown[0]!r}; there are {', '.join(STAGES)} and pin")
    for name, entries in own.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ArgumentError(f"rules {path}: {name} is not a list of tables; write [[{name}]] above each rule")
        merged[name] = entries if name == "pin" else _placed(merged[name], entries, f"rules {path}: {name}")
    try:
        read = RuleSet.model_validate(merged, strict=False)
    except ValidationError as error:
        raise ArgumentError(f"rules {path}: {_first(error, merged)}") from error
    ids = frozenset(entry["id"] for name in own if name != "pin" for entry in own[name])
    _check(read, ids, path)
    return read, ids


def _placed(rules: list[dict[str, Any]], entries: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The rules with entries replaced, taken away, or put in where they ask to be."""
    placed, front = list(rules), 0
    names = [entry.get("id") for entry in entries]
    for entry in entries:
        if names.count(entry.get("id")) > 1 and entry.get("id") is not None:
            raise ArgumentError(f"{where}: rule {entry['id']!r} is there twice")
        rule = dict(entry)
        asked = {key: rule.pop(key) for key in ("enabled", "before", "after") if key in rule}
        name = rule.get("id")
        ids = [each["id"] for each in placed]
        at = ids.index(name) if name in ids else None
        if "before" in asked and "after" in asked:
            raise ArgumentError(f"{where}: rule {name!r} is to stand both before and after another; say one")
        anchor = asked.get("before", asked.get("after"))
        if anchor is not None and (anchor not in ids or anchor == name):
            raise ArgumentError(f"{where}: rule {name!r} is to stand beside {anchor!r}, which is no other rule of it")
        if not isinstance(asked.get("enabled", True), bool):
            raise ArgumentError(f"{where}: rule {name!r}: enabled is true or false, found {asked['enabled']!r}")
        if at is not None:
            placed.pop(at)
        if not asked.get("enabled", True):
            if at is None:
                raise ArgumentError(f"{where}: rule {name!r} is to be taken away, and there is none of this id")
            continue
        if anchor is not None:
            at = [each["id"] for each in placed].index(anchor) + ("after" in asked)
        elif at is None:
            at, front = front, front + 1
        placed.insert(at, rule)
    return placed


def _first(error: ValidationError, merged: dict[str, Any]) -> str:
    """What is wrong first, by the id of its rule."""
    first = error.errors()[0]
    stage, place, *field = first["loc"]
    entry = merged[str(stage)][place]
    name = f"rule {entry['id']!r}" if "id" in entry else f"number {int(place) + 1}, which has no id"
    if stage == "pin":
        name = f"number {int(place) + 1}"
    words = first["msg"].removeprefix("Value error, ")
    return " ".join(f"{stage}: {name}: {'.'.join(map(str, field))}{': ' if field else ''}{words}".split())


def _check(rules: RuleSet, own: frozenset[str], path: str) -> None:
    """Refuse ids used twice, and patterns that the engine refuses."""
    seen: set[str] = set()
    for stage, rule in rules.named():
        if rule.id in seen:
            raise ArgumentError(f"rules {path}: {stage}: rule {rule.id!r}: another rule has this id")
        seen.add(rule.id)
        if rule.id in own:
            _compile(
                rule.regex,
                f"rules {path}: {stage}: rule {rule.id!r}",
                getattr(rule, "replace", ""),
                getattr(rule, "cause", ""),
            )
    for place, pin in enumerate(rules.pin, start=1):
        if pin.regex is not None:
            _compile(pin.regex, f"rules {path}: pin: number {place}")


def _compile(regex: str, where: str, *templates: str) -> None:
    """Refuse what the engine cannot compile, and templates that use groups which are not there."""
    try:
        groups = pl.select(pl.lit("").str.extract_groups(f"({regex})")).to_series().dtype
    except pl.exceptions.PolarsError as error:
        words = " ".join(str(error).split("This error occurred")[0].split())
        raise ArgumentError(f"{where}: bad pattern: {words}") from error
    if pl.select(pl.lit("").str.contains(regex)).item():
        raise ArgumentError(f"{where}: bad pattern: it fits the empty text, and so every text")
    most = len(groups.fields) - 1 if isinstance(groups, pl.Struct) else 0
    for used in re.findall(r"\$\{?([0-9]+)", " ".join(templates)):
        if int(used) > most:
            raise ArgumentError(f"{where}: uses the group ${used}, and its pattern has {most}")


_CLASSES = {
    "b": r"(?-u:\b)",
    "d": "[0-9]",
    "w": "[0-9A-Za-z_]",
    "s": r"[\t-\r ]",
    "D": "[^0-9]",
    "W": "[^0-9A-Za-z_]",
    "S": r"[^\t-\r ]",
}


def _ascii(pattern: str) -> str:
    return re.sub(r"\\(.)", lambda found: _CLASSES.get(found[1], found[0]), pattern, flags=re.DOTALL)


def _lower(pattern: str) -> str:
    """Half the time of a pattern that ignores case, to compile and to match."""
    return re.sub(r"\\p\{[^}]*\}|\\x\{[^}]*\}|\\.|\(\?[a-zA-Z-]+:?|[^\W\d_]+", _lowered, pattern, flags=re.DOTALL)


def _lowered(found: re.Match[str]) -> str:
    return found[0].lower() if found[0].isalpha() else found[0]
