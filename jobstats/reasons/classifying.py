"""Failure text → template, cause and category, by the rules.

A pure function of one text, on the linear-time regex engine of Polars, so that an id never depends on what else is in
the data. The rules work on distinct texts, those of causes and categories on distinct templates.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from jobstats.errors import ArgumentError
from jobstats.reasons.rules import TEXT_STAGES, Rules, RuleSet, read_rules, shipped

NO_REASON = "(no reason given)"
"""Template of a failure without text: absent, empty, or the string "null" of a thrown non-Error."""

WORDLESS = ("", "null", "undefined", "None")
"""What a thrown non-Error leaves as its message."""

UNKNOWN = "unknown"

_UNSAFE = ("clean", "secret")
_END_CHARACTERS = 8_000
_HEAD_CHARACTERS = 2_000
_TEMPLATE_CHARACTERS = 300
_CAUSE_CHARACTERS = 120
_COLUMNS = ("template", "template_id", "cause", "cause_id", "category", "rule_id")
_MARKS = str.maketrans("\ue000\ue001\ue003\ue004\ue005\ue006", "‹›''«»")
_BLANK = r"[^\S ]\s*| \s+"
_PLACEHOLDER = r"(?:[a-z][a-z0-9+.-]*://)?<[a-z]+>"


def ruleset(rules: Rules = None) -> RuleSet:
    """The rules to use.

    A file is TOML with the sections of the shipped one and goes on top of it: a rule with the id of a shipped rule
    takes its place, or takes it away with ``enabled = false``; a new one comes before all others of its stage, or
    ``before`` or ``after`` the rule of that id. A ``[[pin]]`` beats every rule.

    Args:
        rules: A file, a set, or None for the shipped rules.

    Raises:
        ArgumentError: The file cannot be read, or a rule in it is wrong: which one, and why. A rule is wrong, too, if
            it does not act on one of its own examples.
    """
    if rules is None:
        return shipped()
    if isinstance(rules, RuleSet):
        return rules
    try:
        path = os.fspath(rules)
    except TypeError as error:
        raise ArgumentError(f"rules are a file or a set, found {type(rules).__name__}") from error
    found, own = read_rules(path)
    for wrong in misfits(found, own):
        raise ArgumentError(f"rules {path}: {wrong}")
    return found


def misfits(rules: RuleSet, among: Iterable[str]) -> list[str]:
    """Which of these rules do not act on one of their examples, or act on a counter-example, and on which."""
    wanted = frozenset(among)
    cases = [
        (stage, rule.id, example, is_meant)
        for stage, rule in rules.named()
        if rule.id in wanted
        for is_meant, examples in ((True, rule.examples), (False, rule.counter_examples))
        for example in examples
    ]
    texts = pl.Series("text", [example for *_, example, _ in cases], dtype=pl.String)
    acting: list[set[str]] = [set() for _ in cases]
    now = _cut(texts)
    for _, rule, before, after in _steps(now, rules):
        for place in (after != before).arg_true():
            acting[place].add(rule.id)
        now = after
    found = pl.DataFrame({"whole": _finished(now)})
    names = found.join(_caused(found.unique(), rules, with_both=True), on="whole", how="left", maintain_order="left")
    for place, row in enumerate(names.iter_rows(named=True)):
        acting[place] |= {row["cause_rule"], row["category_rule"]}
    words = {True: "does not act on its example", False: "acts on its counter-example"}
    return [
        f"{stage}: rule {name!r} {words[is_meant]} {example!r}"
        for (stage, name, example, is_meant), ids in zip(cases, acting, strict=True)
        if (name in ids) != is_meant
    ]


def classify(texts: pl.Series | Iterable[str | None], *, rules: Rules = None) -> pl.DataFrame:
    """What each failure text says, row by row.

    Args:
        texts: Failure texts, a Polars series or others; null, empty and ``"null"`` are failures without a reason.
        rules: A file of rules on top of the shipped ones, or a set of rules.

    Returns:
        A row a text, in the same order: ``template`` (redacted, what differs from run to run masked, at most 300
        characters), ``template_id`` (``t_`` and 12 digits, of its words alone), ``cause`` (the one thing to fix: what
        a rule calls it, or else the template), ``cause_id`` (``c_`` and 12 digits; ``template_id`` where no rule knows
        the cause), ``category`` (see :data:`jobstats.reasons.CATEGORIES`; ``unknown`` where no rule knows it),
        ``rule_id`` (the rule that knew the cause, or else the category).

    Raises:
        ArgumentError: A rule is wrong, or these are no texts.

    >>> texts = ["connect ECONNREFUSED 10.0.0.7:6379", "Request failed with status code 429", None]
    >>> classify(texts).select("template", "cause", "category").rows()  # doctest: +NORMALIZE_WHITESPACE
    [('connect ECONNREFUSED <ip>', 'Connection refused', 'network'),
     ('Request failed with status code 429', 'HTTP 429', 'rate_limit'),
     ('(no reason given)', 'No cause given', 'unknown')]
    """
    known = ruleset(rules)
    rows = _series(texts).alias("text").to_frame()
    distinct = rows.unique()
    distinct = distinct.with_columns(whole=_staged(distinct["text"], known, TEXT_STAGES))
    templates = _caused(distinct.select("whole").unique(), known)
    distinct = distinct.join(templates, on="whole").select("text", *_COLUMNS)
    return rows.join(distinct, on="text", how="left", nulls_equal=True, maintain_order="left").select(_COLUMNS)


def redact(texts: pl.Series | Iterable[str | None], *, rules: Rules = None) -> pl.Series:
    """The texts on one line each, whole up to 2,000 characters, masked as templates are: fit to be shown.

    Raises:
        ArgumentError: A rule is wrong, or these are no texts.
    """
    stages = tuple(stage for stage in TEXT_STAGES if stage != "head")
    series = _series(texts)
    return _staged(series, ruleset(rules), stages).alias(series.name)


def _series(texts: pl.Series | Iterable[str | None]) -> pl.Series:
    if isinstance(texts, pl.Series):
        if texts.dtype not in {pl.String, pl.Null, pl.Categorical} and not isinstance(texts.dtype, pl.Enum):
            raise ArgumentError(f"expected texts, found a series of {texts.dtype}")
        return texts.cast(pl.String)
    try:
        return pl.Series("text", [texts] if isinstance(texts, str) else list(texts), dtype=pl.String)
    except (TypeError, UnicodeEncodeError) as error:
        raise ArgumentError(f"expected texts, found {type(texts).__name__}: {error}") from error


def explain(text: str | None, *, rules: Rules = None) -> pl.DataFrame:
    """Which rules act on a text, in order.

    Returns:
        A row a rule that acts: ``stage``, ``rule_id``, ``text`` (what it makes of the text; null while secrets may be
        in it; ‹ and › enclose what is protected, « and » what may be opaque). Last comes the answer: template,
        template_id, cause, cause_id and category, with the rules that knew the cause and the category, or pins.

    >>> explain("HTTP 429 from 10.0.0.7").select("stage", "rule_id", "text").rows()  # doctest: +NORMALIZE_WHITESPACE
    [('protect', 'status', 'HTTP ‹429› from 10.0.0.7'),
     ('mask', 'address', 'HTTP ‹429› from <ip>'),
     ('tidy', 'marks', 'HTTP 429 from <ip>'),
     ('template', None, 'HTTP 429 from <ip>'),
     ('template_id', None, 't_e0eadf84e61d'),
     ('cause', 'http-status', 'HTTP 429'),
     ('cause_id', None, 'c_069a8f69099c'),
     ('category', 'http-rate', 'rate_limit')]
    """
    known = ruleset(rules)
    steps: list[tuple[str, str | None, str | None]] = []
    readable = None if text is None else text.encode(errors="replace").decode()
    now = _cut(pl.Series("text", [readable], dtype=pl.String))
    for stage, rule, before, after in _steps(now, known):
        if not after.equals(before, null_equal=True):
            steps.append((stage, rule.id, _shown(after.item())))
        now = after
    # What a text is before the last secret is gone must not be shown.
    first_safe = sum(stage in _UNSAFE for stage, *_ in steps)
    steps = [(stage, name, None if i < first_safe - 1 else shown) for i, (stage, name, shown) in enumerate(steps)]
    found = _caused(pl.DataFrame({"whole": _finished(now)}), known, with_both=True).row(0, named=True)
    # A rule of a cause may know the category too.
    rules_of = {
        "cause": found["cause_rule"],
        "category": found["category_rule"] or (found["cause_rule"] if found["category"] != UNKNOWN else None),
    }
    steps += [(name, rules_of.get(name), found[name]) for name in _COLUMNS if name != "rule_id"]
    return pl.DataFrame(steps, schema={"stage": pl.String, "rule_id": pl.String, "text": pl.String}, orient="row")


def _shown(text: str | None) -> str | None:
    """A text between two rules as it can be printed."""
    if text is None:
        return None
    text = text.translate(_MARKS)
    return "".join(letter for letter in text if not "\ue000" <= letter <= "\uf8ff")


def _steps(texts: pl.Series, rules: RuleSet) -> Iterator[tuple[str, Any, pl.Series, pl.Series]]:
    """Each rule of a text in turn, with the texts before and after it."""
    for stage in TEXT_STAGES:
        begun = texts
        for rule in rules.stage(stage):
            before, texts = texts, texts.str.replace_all(rule.regex, rule.replace)
            yield stage, rule, before, texts
        texts = _bounded(begun, texts, stage)


def _staged(texts: pl.Series, rules: RuleSet, stages: tuple[str, ...]) -> pl.Series:
    now = _cut(texts)
    for stage in stages:
        expression = pl.col("text")
        for rule in rules.stage(stage):
            expression = expression.str.replace_all(rule.regex, rule.replace)
        now = _bounded(now, _in_parallel(now, expression), stage)
    return _finished(now)


def _in_parallel(texts: pl.Series, expression: pl.Expr) -> pl.Series:
    """Polars works on one text column with one thread, however long it is."""
    share = -(-len(texts) // pl.thread_pool_size()) or 1
    frame = texts.alias("text").to_frame().lazy()
    parts = [frame.slice(start, share).select(expression) for start in range(0, len(texts), share)]
    return pl.concat(pl.collect_all(parts)).to_series() if parts else texts


def _cut(texts: pl.Series) -> pl.Series:
    """Both ends of a very long text: a message stands at the head of a stack, or at its end.

    What the cut goes through may be half a secret, which no rule would know: the last word before it and the line
    behind it are left out.
    """
    text = pl.col("text")
    head = text.str.head(_END_CHARACTERS).str.replace(r"(\s)\S{1,500}$", "$1")
    tail = text.str.tail(_END_CHARACTERS).str.extract(r"\n((?s:.*))$").fill_null("")
    is_long = text.str.len_chars() > 2 * _END_CHARACTERS
    cut = pl.when(is_long).then(pl.concat_str(head, pl.lit("\n    [...]\n"), tail)).otherwise(text)
    frame = texts.alias("text").to_frame().select(cut, is_ascii=text.str.len_bytes() == text.str.len_chars())
    # Full-width digits and the like become plain ones, where there is anything of the kind.
    other = frame["is_ascii"].not_().arg_true()
    return (
        frame["text"].scatter(other, frame["text"].gather(other).str.normalize("NFKC")) if len(other) else frame["text"]
    )


def _bounded(before: pl.Series, after: pl.Series, stage: str) -> pl.Series:
    """What a stage makes of texts; after the head, what is left is short, and all of it where no head was found."""
    if stage != "head":
        return after
    texts = pl.DataFrame({"before": before, "after": after})
    has_head = pl.col("after").str.contains(r"[^\s\x{e000}-\x{e0ff}]")
    head = pl.when(has_head).then("after").otherwise(pl.col("before").str.replace_all(_BLANK, " "))
    return texts.select(head.str.slice(0, _HEAD_CHARACTERS)).to_series()


def _finished(texts: pl.Series) -> pl.Series:
    text = pl.col("text")
    wordless = text.is_null() | text.is_in(WORDLESS)
    return (
        texts.alias("text")
        .to_frame()
        .select(text.str.slice(0, _HEAD_CHARACTERS).str.replace_all(_BLANK, " ").str.strip_chars())
        .select(pl.when(wordless).then(pl.lit(NO_REASON)).otherwise(text))
        .to_series()
    )


def _caused(templates: pl.DataFrame, rules: RuleSet, *, with_both: bool = False) -> pl.DataFrame:
    """The columns of an answer for each distinct ``whole`` template."""
    whole = pl.col("whole")
    templates = templates.with_columns(lower=whole.str.to_lowercase())
    words = pl.col("lower").str.replace_all(_PLACEHOLDER, " * ").str.replace_all(r"[^\p{L}\p{N}*]+", " ")
    canon = words.str.replace_all(r"\*(?: \*)+", "*").str.strip_chars()
    shown = pl.when(whole.str.len_chars() > _TEMPLATE_CHARACTERS).then(
        whole.str.slice(0, _TEMPLATE_CHARACTERS - 1) + "…"
    )
    table = templates.with_columns(
        template=shown.otherwise(whole), canon=pl.when(canon.str.contains(r"[\p{L}\p{N}]")).then(canon).otherwise(whole)
    )
    table = table.with_columns(template_id=_ids(table["canon"], "t_"))
    table = _ruled(table, rules)
    for place, pin in enumerate(rules.pin, start=1):
        fits = (
            pl.col("template_id") == pin.template_id
            if pin.template_id
            else pl.col("lower").str.contains(pin.regex or "")
        )
        if pin.cause:
            table = table.with_columns(
                named=pl.when(fits).then(pl.lit(pin.cause)).otherwise("named"),
                cause_rule=pl.when(fits).then(pl.lit(f"pin-{place}")).otherwise("cause_rule"),
            )
        if pin.category:
            table = table.with_columns(
                category=pl.when(fits).then(pl.lit(pin.category)).otherwise("category"),
                category_rule=pl.when(fits).then(pl.lit(f"pin-{place}")).otherwise("category_rule"),
            )
    table = table.with_columns(
        cause=pl.coalesce("named", "template"),
        cause_id=pl.coalesce(_ids(table["named"], "c_"), "template_id"),
        category=pl.col("category").fill_null(UNKNOWN),
        rule_id=pl.coalesce("cause_rule", "category_rule"),
    )
    return table.select("whole", *_COLUMNS, *(("cause_rule", "category_rule") if with_both else ()))


def _ruled(table: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
    """With ``named``, what a rule calls the cause, ``category``, and the rules that knew them."""
    fitting = _first(table["lower"], [rule.regex for rule in rules.cause])
    table = table.with_columns(fitting.alias("_rule"))
    named = pl.lit(None, dtype=pl.String)
    for place in fitting.drop_nulls().unique().sort():
        rule = rules.cause[place]
        name: pl.Expr = pl.lit(rule.cause)
        if "$" in rule.cause:
            name = pl.col("whole").str.replace(f"(?s)^.*?(?-s:{rule.naming_regex})(?s:.*)$", rule.cause)
            name = pl.when(name.str.contains(r"\S")).then(name.str.slice(0, _CAUSE_CHARACTERS)).otherwise("template")
        named = pl.when(pl.col("_rule") == place).then(name).otherwise(named)
    table = table.with_columns(
        named=named,
        cause_rule=_at(pl.col("_rule"), [rule.id for rule in rules.cause]),
        given=_at(pl.col("_rule"), [rule.category for rule in rules.cause]),
    )
    subject = pl.concat_str(pl.col("named").str.to_lowercase() + "\n", "lower", ignore_nulls=True)
    is_open = table["given"].is_null()
    subjects = table.select(pl.when(is_open).then(subject)).to_series()
    table = table.with_columns(_kind=_first(subjects, [rule.regex for rule in rules.category]))
    return table.with_columns(
        category=pl.coalesce("given", _at(pl.col("_kind"), [rule.category for rule in rules.category])),
        category_rule=_at(pl.col("_kind"), [rule.id for rule in rules.category]),
    )


def _first(texts: pl.Series, patterns: list[str]) -> pl.Series:
    """The place of the first pattern that fits each text."""
    frame = texts.alias("text").to_frame()
    fits = frame.select(pl.col("text").str.contains(pattern).alias(str(i)) for i, pattern in enumerate(patterns))
    places = [pl.when(pl.col(str(i))).then(pl.lit(i, pl.UInt16)) for i in range(len(patterns))]
    if not places:
        return pl.Series([None] * len(texts), dtype=pl.UInt16)
    return fits.select(pl.coalesce(places).alias("first")).to_series()


def _at(place: pl.Expr, values: list[Any]) -> pl.Expr:
    return place.replace_strict(list(range(len(values))), values, default=None, return_dtype=pl.String)


def _ids(words: pl.Series, prefix: str) -> pl.Series:
    """48 bits of BLAKE2: of 100,000 templates, two share an id with a chance of 2 in 100,000."""
    ids = [
        None if text is None else prefix + hashlib.blake2b(text.encode(), digest_size=6).hexdigest() for text in words
    ]
    return pl.Series(ids, dtype=pl.String)
