"""Generated fakes of many formats in many places: none may reach anything that is shown."""

import base64
import random
import string
import uuid

import polars as pl
import pytest

import jobstats as js
from jobstats.reasons import classify, explain, redact

from ..factories import immediate, jobs

WORD, HEX, DIGITS = string.ascii_letters + string.digits, "0123456789abcdef", string.digits
BASE64 = WORD + "+/"


def some(rng: random.Random, n: int, of: str = WORD) -> str:
    return "".join(rng.choice(of) for _ in range(n))


def jwt(rng):
    parts = ({"alg": "HS256"}, {"sub": some(rng, 12)})
    head = ".".join(base64.urlsafe_b64encode(str(part).encode()).decode().rstrip("=") for part in parts)
    return f"eyJ{head}.{some(rng, 43)}"


FORMATS = {
    "slack bot": lambda r: f"xoxb-{some(r, 12, DIGITS)}-{some(r, 12, DIGITS)}-{some(r, 24)}",
    "slack user": lambda r: f"xoxp-{some(r, 11, DIGITS)}-{some(r, 11, DIGITS)}-{some(r, 12, DIGITS)}-{some(r, 32, HEX)}",
    "slack app": lambda r: f"xapp-1-A{some(r, 10).upper()}-{some(r, 13, DIGITS)}-{some(r, 64, HEX)}",
    "slack webhook": lambda r: f"https://hooks.slack.com/services/T{some(r, 8).upper()}/B{some(r, 8).upper()}/{some(r, 24)}",
    "github": lambda r: f"ghp_{some(r, 36)}",
    "github app": lambda r: f"ghs_{some(r, 36)}",
    "github fine-grained": lambda r: f"github_pat_{some(r, 22)}_{some(r, 59)}",
    "gitlab": lambda r: f"glpat-{some(r, 19)}7",
    "openai": lambda r: f"sk-{some(r, 47)}3",
    "openai project": lambda r: f"sk-proj-{some(r, 80)}4",
    "anthropic": lambda r: f"sk-ant-api03-{some(r, 93)}-{some(r, 6)}AA",
    "stripe": lambda r: f"sk_live_{some(r, 23)}5",
    "aws id": lambda r: f"AKIA{some(r, 15, string.ascii_uppercase + '234567')}2",
    "aws secret": lambda r: some(r, 39, BASE64) + "8",
    "aws session": lambda r: f"IQoJb3JpZ2luX2Vj{some(r, 200, BASE64)}==",
    "google key": lambda r: f"AIza{some(r, 34)}1",
    "google access": lambda r: f"ya29.a0{some(r, 60)}",
    "google refresh": lambda r: f"1//0{some(r, 60)}",
    "google client secret": lambda r: f"GOCSPX-{some(r, 27)}6",
    "entra client secret": lambda r: f"{some(r, 3)}8Q~{some(r, 34)}",
    "azure storage key": lambda r: some(r, 85, BASE64) + "2==",
    "azure sas": lambda r: f"https://x.blob.core.windows.net/c/b?sv=2024-11-04&sig={some(r, 42)}%3D",
    "jwt": jwt,
    "atlassian": lambda r: f"ATATT3xFfGF0{some(r, 170)}",
    "notion": lambda r: f"ntn_{some(r, 45)}9",
    "notion old": lambda r: f"secret_{some(r, 42)}4",
    "dropbox": lambda r: f"sl.u.{some(r, 130)}1",
    "linear": lambda r: f"lin_api_{some(r, 39)}2",
    "hubspot": lambda r: f"pat-na1-{uuid.UUID(int=r.getrandbits(128))}",
    "airtable": lambda r: f"pat{some(r, 14)}.{some(r, 64, HEX)}",
    "asana": lambda r: f"1/{some(r, 16, DIGITS)}:{some(r, 32, HEX)}",
    "shopify": lambda r: f"shpat_{some(r, 32, HEX)}",
    "sendgrid": lambda r: f"SG.{some(r, 22)}.{some(r, 42)}3",
    "twilio": lambda r: f"SK{some(r, 32, HEX)}",
    "npm": lambda r: f"npm_{some(r, 35)}1",
    "pypi": lambda r: f"pypi-AgEIcHlwaS5vcmc{some(r, 60)}",
    "hugging face": lambda r: f"hf_{some(r, 33)}7",
    "databricks": lambda r: f"dapi{some(r, 32, HEX)}",
    "vault": lambda r: f"hvs.{some(r, 90)}5",
    "telegram": lambda r: f"{some(r, 9, '123456789')}:AA{some(r, 33)}",
    "discord": lambda r: f"{some(r, 24)}.{some(r, 6)}.{some(r, 27)}",
    "salesforce": lambda r: f"00D{some(r, 12)}!{some(r, 80)}",
    "sentry": lambda r: f"sntrys_{some(r, 60)}9",
    "grafana": lambda r: f"glsa_{some(r, 32)}_{some(r, 8, HEX)}",
    "hexadecimal": lambda r: some(r, 40, HEX) + "0a",
    "private key": lambda r: f"-----BEGIN PRIVATE KEY-----\n{some(r, 64, BASE64)}\n{some(r, 40, BASE64)}\n-----END PRIVATE KEY-----",
    "mongo address": lambda r: f"mongodb://crawler:{some(r, 14)}@db.example.org:27017/es",
    "redis address": lambda r: f"redis://:{some(r, 20)}@10.3.4.5:6379/0",
    "e-mail": lambda r: f"{some(r, 6).lower()}.{some(r, 7).lower()}@example{some(r, 3).lower()}.org",
    "uuid": lambda r: str(uuid.UUID(int=r.getrandbits(128))),
    "home": lambda r: f"/home/{some(r, 12).lower()}x",
    "address": lambda r: f"10.{r.randrange(100, 256)}.{r.randrange(100, 256)}.{r.randrange(100, 256)}",
    "address 6": lambda r: f"2001:db8:{some(r, 4, HEX)}:{some(r, 4, HEX)}:0:0:{some(r, 4, HEX)}:{some(r, 4, HEX)}",
}  # fmt: skip
CONTEXTS = (
    "{}",
    "Request failed: {}",
    "request with {} was rejected (403)",
    "({})",
    "'{}' is not valid",
    '{{"error":{{"message":"bad value {} given","code":400}}}}',
    "{{'error': '{}', 'ok': False}}",
    "Authorization: Bearer {}",
    "GET https://api.example.org/v1/x?token={}&page=2 failed",
    "token={}; path=/",
    "export API_KEY={}",
    "crawl --token {} --all",
    "Traceback (most recent call last):\n  File \"/app/x.py\", line 3, in run\n    call('{}')\nValueError: {}",
    "boom\n    at call ({}:3:4)\n    at run (/app/x.js:1:1)",
    "<html><head><title>Denied {}</title></head><body>{}</body></html>",
    "caf\u00e9 {}!",
    "\x1b[31m{}\x1b[0m",
    "key\u200b: {}",
)  # fmt: skip
KEYED = (
    "password={}", 'password: "{}"', "{{'password': '{}'}}", '{{\\"password\\":\\"{}\\"}}', "pwd={}&x=1", "--password {} --all",
    "DB_PASSWORD={} not accepted", "client_secret={}", "api_key = '{}'", "Cookie: sid={}; a=b", "password is {}", "passphrase: {}",
    "https://ana:{}@example.org/x", "PWD {}", "DB_PASS={}", "Passwort: {}", "<password>{}</password>", "curl -u ana:{} x",
    "login ana password {}", "identified by {}", "Authorization: ApiKey {}", "password == {}", "_authToken={}", "%22password%22%3A%22{}%22",
    "Server=db;Uid=a;Pwd={};", "api key: {}", "{{'password': b'{}'}}", "pass\0word={}", "postgres://ana:{}#)x@db/x", "password -> {}", "dbPass: {}", "jdbc:oracle:thin:scott/{}@//db", "connect.sid={}", "name: DB_PASSWORD\n  value: {}", "mysql -u x -p{}", "secret => \"{}\"", "?password%3D{}",
)  # fmt: skip


def leaks(secret: str, shown: str) -> list[str]:
    """Pieces of ten characters that a reader could use; of addresses and short secrets, the whole."""
    size = min(10, len(secret))
    pieces = (secret[start : start + size] for start in range(len(secret) - size + 1))
    known = ("-----", "PRIVATE KEY", "https://", "mongodb://", "hooks.slac", "core.windo", "2024-11-04", "example")  # fmt: skip
    return [piece for piece in pieces if piece in shown and not any(word in piece or piece in word for word in known)]


def planted():
    rng = random.Random(5)
    for kind, make in FORMATS.items():
        for context in CONTEXTS:
            for _ in range(4):
                secret = make(rng)
                yield kind, secret, context.replace("{}", secret).replace("{{", "{").replace("}}", "}")


def test_no_format_in_no_place_reaches_a_template_or_an_example():
    cases = list(planted())
    assert len(FORMATS) >= 50
    assert len(CONTEXTS) >= 12
    texts = pl.Series([text for *_, text in cases])
    found = classify(texts).with_columns(example=redact(texts))
    leaked = [
        (kind, shown)
        for (kind, secret, _), row in zip(cases, found.select("template", "cause", "example").rows(), strict=True)
        for shown in row
        if leaks(secret, shown)
    ]
    assert not leaked, leaked[:5]


@pytest.mark.parametrize("context", KEYED)
def test_what_is_secret_by_its_name_does_not_reach_a_template(context):
    rng = random.Random(6)
    secrets = [rng.choice(("Hunter2", "correct7horse", "Tr0ub4dor&3", "s3cr3t!x", "pass-word1")) for _ in range(20)]
    texts = pl.Series([context.replace("{}", s).replace("{{", "{").replace("}}", "}") for s in secrets])
    shown = classify(texts)["template"] + redact(texts)
    assert not [text for text, secret in zip(shown, secrets, strict=True) if secret[:6] in text]


def test_no_step_of_an_explanation_shows_a_secret():
    cases = list(planted())[::97]
    for kind, secret, text in cases:
        for shown in explain(text)["text"].drop_nulls():
            if kind not in {
                "address",
                "address 6",
                "uuid",
                "hexadecimal",
                "aws secret",
                "aws session",
                "azure storage key",
            }:
                assert not leaks(secret, shown), (kind, shown)


def test_no_secret_reaches_a_result_table_a_chart_or_a_page(tmp_path):
    cases = list(planted())[::13]
    failed = {"state": "failed", "attemptsMade": 3}
    table = jobs(*(immediate(str(i), **failed, failedReason=text) for i, (*_, text) in enumerate(cases)))
    reasons = js.failure_reasons(table)
    page = js.write_report(table, tmp_path).read_text()
    outputs = {"table": str(reasons.rows()), "chart": js.charts.failure_reasons(reasons).to_json(), "page": page}
    leaked = [(name, kind) for kind, secret, _ in cases for name, shown in outputs.items() if leaks(secret, shown)]
    assert not leaked
