"""How numbers and strangers' text are said to people: durations, shares, and labels made safe."""

import re
from json import dumps

_LABEL_CHARACTERS = 60
# Control, format, private and non-characters, surrogates, line separators and bidi marks: text from the data is not
# trusted. U+FFFF alone ends the process of the SVG writer.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e007f]+"
)
_UNITS = ((999.5, 1, "ms"), (59_950, 1_000, "s"), (3_597_000, 60_000, "min"), (172_800_000, 3_600_000, "h"))


def safe(value: object, most: int = _LABEL_CHARACTERS) -> str:
    r"""Text from the data, fit for a label: no control or direction marks, not too long.

    >>> safe("Drive\u202e\x1b[31m"), safe("x" * 99, most=5)
    ('Drive [31m', 'xxxx…')
    """
    text = _UNSAFE.sub(" ", str(value)).strip() or "(blank)"
    return text if len(text) <= most else text[: most - 1] + "…"


def escaped(json: str) -> str:
    r"""JSON in which unsafe characters are escapes, and mean the same.

    >>> escaped('"a\u202eb"')
    '"a\\u202eb"'
    """
    return _UNSAFE.sub(lambda found: dumps(found[0])[1:-1], json)


def duration(milliseconds: float | None) -> str:
    """A length of time in words.

    >>> [duration(ms) for ms in (0.4, 85, 2_730, 163_800, 9_000_000, 259_200_000)]
    ['0.4 ms', '85 ms', '2.73 s', '2.73 min', '2.5 h', '3 d']
    """
    if milliseconds is None:
        return "–"
    for limit, length, unit in _UNITS:
        if abs(milliseconds) < limit:
            return f"{milliseconds / length:.3g} {unit}"
    days = milliseconds / 86_400_000
    return f"{days:.3g} d" if abs(days) < 1_000 else f"{days:,.0f} d"


def percent(share: float | None) -> str:
    """A share in words.

    >>> percent(0.1361), percent(0.0), percent(None)
    ('13.6 %', '0.0 %', '–')
    """
    return "–" if share is None else f"{share * 100:.1f} %"


def plural(n: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "connector"), plural(2_000, "connector")
    ('1 connector', '2,000 connectors')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
