"""Failure text → redacted template: what stays the same when the same thing goes wrong again.

A pure function of one text, on the linear-time regex engine of Polars, so a template never depends on what else
is in the data. Secrets and personal data are removed first. Codes that carry meaning (HTTP status, errno, quoted
error names) are kept, everything that differs from run to run becomes a typed placeholder.
"""

from typing import NamedTuple

import polars as pl

NO_REASON = "(no reason given)"
"""Template of a failure without text: absent, empty, or the string "null" of a thrown non-Error."""

WORDLESS = ("", "null", "undefined")
"""What a thrown non-Error leaves as its message."""

_HEAD_CHARACTERS = 2_000
_TEMPLATE_CHARACTERS = 300


class Rule(NamedTuple):
    """One replacement; ``$1`` is the first group."""

    name: str
    pattern: str
    replacement: str


# Values of the first are secret whatever they look like; of the second, if they hold a digit or a capital, because
# "token: invalid_grant" is the very word that tells what went wrong.
_ALWAYS = (
    r"[0-9A-Za-z_-]*(?:password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key)[0-9A-Za-z_-]*"
    r"|\bpass"
)
_OPAQUE = r"[0-9A-Za-z_-]*(?:token|credential|session|signature)[0-9A-Za-z_-]*|\bsig|\bauth|\bkey"

# The order is the meaning: a secret must go before a mask can cut it in two, and a code must be marked before
# numbers are masked. Marks are characters of the private use area, which the first stage takes out of the input.
RULES = (
    # clean
    Rule("terminal colours", r"\x1b\[[0-9;?]*[ -/]*[@-~]", ""),
    Rule("zero width", r"[\p{Cf}\p{Co}]", ""),
    Rule("control", r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " "),
    Rule("escaped quote", r"\\+([\"'])", "$1"),
    Rule("escaped equals", r"(?i)%3d", "="),
    Rule("escaped at", r"(?i)%40", "@"),
    # head: the last line of a Python traceback is its exception; JavaScript puts frames below the message
    Rule("python traceback", r"(?s)^\s*Traceback \(most recent call last\):.*\n(\S[^\n]*)\s*$", "$1"),
    Rule("javascript frames", r"(?m)^\s+at .*$", ""),
    Rule("blank", r"\s+", " "),
    # secrets and personal data
    Rule("private key", r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", "<key>"),
    Rule("url", r"(?i)\b([a-z][a-z0-9+.-]*)://[^\s\"'<>\\)\]}]+", "$1://<url>"),
    Rule("jwt", r"\beyJ[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]*)?", "<token>"),
    Rule("cookie", r"(?i)\b((?:set-)?cookie\"?\s*[:=]\s*).*", "$1<secret>"),
    Rule("authorization", r"(?i)\b(bearer|basic|digest)\s+[0-9A-Za-z_.~+/=-]{4,}", "$1 <token>"),
    Rule(
        "quoted secret",
        rf"(?i)((?:{_ALWAYS}|[0-9A-Za-z_-]*token)[\"']?\s*(?:[:=]|is)\s*)(?:\"[^\"]*\"?|'[^']*'?)",
        "${1}<secret>",
    ),
    Rule("named secret", rf"(?i)((?:{_ALWAYS})[\"']?\s*[:=]\s*)[^\s\"'<;&}}][^\s\"';&}}]*", "${1}<secret>"),
    Rule("opaque secret", rf"((?i:{_OPAQUE})[\"']?\s*[:=]\s*)[^\s\"'<;&}}]*[0-9A-Z][^\s\"';&}}]*", "${1}<secret>"),
    Rule("given secret", r"(?i)(--?(?:password|passwd|pwd|token|secret|api-?key)\s+|\bpwd )[^\s:=<]+", "${1}<secret>"),
    Rule("spoken secret", r"(?i)(\bpassword is )[^\s:=<]+", "${1}<secret>"),
    Rule("bot token", r"\bbot\d+:[0-9A-Za-z_-]+", "bot<token>"),
    Rule(
        "vendor token",
        r"\b(?:xox[a-z]-|xapp-|gh[a-z]_|github_pat_|glpat-|sk-|[spr]k_(?:live|test)_|hv[sbr]\.|AKIA|ASIA|AIza|ya29\.|1//|SG\."
        r"|shp[a-z]{2}_|dop_v1_|npm_|pypi-|ATATT|EAA)[0-9A-Za-z_./+=-]{8,}",
        "<token>",
    ),
    Rule("e-mail", r"(?:\"[^\"@]+\"|[\w.+%-]+)@[\w-]+(?:\.[\w-]+)*", "<email>"),
    Rule("home directory", r"(?i)(/home/|/users/|~)[\w.-]+|(\b[a-z]:\\+users\\+)[^\\\"']+", "$1$2<user>"),
    # protect what carries meaning: the digits that follow these words are the error's name
    Rule(
        "code",
        r"(?i)\b(status(?: ?code)?|http(?:/\d(?:\.\d)?)?|httperror|code|errno|error|err|winerror|sqlstate|signal)"
        r"([ :=#\"'(\[]{1,3})(\d{1,5})\b",
        "${1}${2}\ue000${3}\ue001",
    ),
    Rule("named code", r"\b(AADSTS|E|ORA-|SQLSTATE |WSA|TS)(\d{3,6})\b", "${1}\ue000${2}\ue001"),
    Rule("http reason", r"\b([1-5]\d\d) ((?:[A-Z][a-z]+)(?: [A-Z][a-z]+)*)", "\ue000${1}\ue001 ${2}"),
    # mask what differs
    Rule("uuid", r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    Rule("time", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
    Rule("date", r"\b\d{4}-\d\d-\d\d\b", "<date>"),
    Rule("address", r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b", "<ip>"),
    Rule("ipv6", r"(?i)(?:\b[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b|::1\b|::ffff:<ip>", "<ip>"),
    Rule(
        "host", r"(?i)\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|dev|cloud|local|internal|app|ai|co)(?::\d{1,5})?\b", "<host>"
    ),
    Rule("path", r"(^|[\s\"'(=:])(?:/[0-9A-Za-z_.@%+~-]+){2,}/?", "${1}<path>"),
    Rule("base64", r"\b[A-Za-z0-9+/_-]{32,}={0,2}", "<base64>"),
    Rule("hexadecimal", r"(?i)\b(?:0x)?[0-9a-f]*(?:\d[a-f]|[a-f]\d)[0-9a-f]{6,}\b", "<hex>"),
    Rule(
        "long identifier",
        r"\b[0-9A-Za-z_-]*(?:\d[A-Za-z_-]|[A-Za-z_-]\d)[0-9A-Za-z_-]*(?:\d[0-9A-Za-z_-]*){3,}\b",
        "<id>",
    ),
    Rule(
        "opaque identifier",
        r"\b(?:\d[0-9A-Za-z_-]{19,}|[0-9A-Za-z_-]{5,}\d[0-9A-Za-z_-]{14,}|[0-9A-Za-z_-]{10,}\d[0-9A-Za-z_-]{9,}|[0-9A-Za-z_-]{15,}\d[0-9A-Za-z_-]{4,}|[0-9A-Za-z_-]{19,}\d)\b",
        "<id>",
    ),
    Rule("number", r"(^|[^\w\ue000])[-+]?\d+(?:[.,:]\d+)*(?:%|\b)", "${1}<n>"),
    Rule("number with unit", r"(^|[^\w\ue000])\d+(?:\.\d+)?(ms|s|m|h|d|k?b|mb|gb|px)\b", "${1}<n>${2}"),
    # tidy
    Rule("marks", r"[\u{E000}\u{E001}]", ""),
    Rule("repeats", r"(<(?:n|id|hex|uuid)>)(?:[ ,;|-]*<(?:n|id|hex|uuid)>)+", "${1}"),
    Rule("blank again", r"\s+", " "),
)


def classify(texts: pl.Series) -> pl.DataFrame:
    """The template of each failure text, row by row.

    Args:
        texts: Failure texts; null, empty and ``"null"`` are failures without a reason.

    Returns:
        ``template``, at most 300 characters, one row a text in the same order.

    >>> texts = pl.Series(["connect ECONNREFUSED 10.0.0.7:6379", "Request failed with status code 429", None])
    >>> classify(texts)["template"].to_list()
    ['connect ECONNREFUSED <ip>', 'Request failed with status code 429', '(no reason given)']
    """
    rows = texts.cast(pl.String).alias("text").to_frame()
    masked = pl.col("text").str.slice(0, _HEAD_CHARACTERS)
    for rule in RULES:
        masked = masked.str.replace_all(rule.pattern, rule.replacement)
    distinct = rows.unique(maintain_order=True).with_columns(template=masked.str.strip_chars())
    template = pl.col("template")
    shortened = (
        pl.when(template.str.len_chars() > _TEMPLATE_CHARACTERS)
        .then(template.str.slice(0, _TEMPLATE_CHARACTERS - 1) + "…")
        .otherwise(template)
    )
    missing = template.is_null() | template.is_in(WORDLESS)
    templates = distinct.with_columns(pl.when(missing).then(pl.lit(NO_REASON)).otherwise(shortened).alias("template"))
    return rows.join(templates, on="text", how="left", nulls_equal=True, maintain_order="left").select("template")
