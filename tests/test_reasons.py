import string
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobstats.reasons import NO_REASON, classify


def template(text: str | None) -> str:
    return classify(pl.Series([text], dtype=pl.String))["template"][0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Request failed with status code 429", "Request failed with status code 429"),
        ("Request failed with status code 503", "Request failed with status code 503"),
        ("connect ECONNREFUSED 127.0.0.1:6379", "connect ECONNREFUSED <ip>"),
        ("timeout of 10000ms exceeded", "timeout of <n>ms exceeded"),
        ("An API error occurred: invalid_auth", "An API error occurred: invalid_auth"),
        ("job crawl-drive-34696659-26eb-4a6c-9210-28bd3e356246 not found", "job crawl-drive-<uuid> not found"),
        ("ENOENT: no such file, open '/var/lib/x/abc.json'", "ENOENT: no such file, open '<path>'"),
        ("\x1b[31mError:\x1b[0m\n\tdisk   full", "Error: disk full"),
        ('Traceback (most recent call last):\n  File "a.py", line 3\nValueError: bad value', "ValueError: bad value"),
        ("fetch failed\n    at node:internal/deps/undici:1:2\n    at async run (/app/x.js:3:4)", "fetch failed"),
        ("  ", NO_REASON),
        ("null", NO_REASON),
        (None, NO_REASON),
        ("\ue000429\ue001 forged", "<n> forged"),
        ("تعذّر الاتصال بالخادم", "تعذّر الاتصال بالخادم"),
    ],
)
def test_templates(text, expected):
    assert template(text) == expected


def test_templates_do_not_depend_on_what_else_is_there(dump):
    texts = dump.jobs["failed_reason"].drop_nulls()
    together = classify(texts)["template"].to_list()
    assert together == [template(text) for text in texts]
    assert classify(texts.reverse())["template"].to_list() == together[::-1]


SECRETS = {
    "slack": "xoxb-" + "2947501836-8362910475-Qw7eRtYuIoPaSdFgHjKl",
    "github": "ghp_" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5",
    "openai": "sk-" + "proj4Kd8sJ2hG6fD0aZ9xC3vB7nM1qW5eR",
    "stripe": "sk_live_" + "51H8fJk2lQw9eRt6yUiOpAsDf",
    "aws id": "AKIA" + "IOSFODNN7EXAMPLE",
    "google": "AIza" + "SyD8fK2jH4gF6dS8aQ0wE2rT4yU6iO8pA0z",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "e-mail": "maria.rossi@example.com",
    "password in url": "mysql://crawler:hunter2secret@db.example.com:5432/jobs",
    "signed url": "https://bucket.s3.amazonaws.com/k?X-Amz-Signature=0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "uuid": "34696659-26eb-4a6c-9210-28bd3e356246",
    "address": "192.168.17.23",
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
}
CONTEXTS = (
    "{}",
    "error: {} rejected",
    'body={{"v":"{}"}}',
    "({})",
    "at '{}',",
    "x\n{}\ny",
    "Authorization: Bearer {}",
    "password={}&x=1",
    "caf\u00e9 {}!",
)


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_secrets_do_not_reach_a_template(kind, context):
    secret = SECRETS[kind]
    shown = template(context.format(secret))
    leaks = [secret[start : start + 10] for start in range(len(secret) - 9) if secret[start : start + 10] in shown]
    assert not [leak for leak in leaks if not set(leak) <= set(string.punctuation)], shown


@given(st.text())
def test_any_text_has_one_bounded_template_that_is_its_own(text):
    shown = template(text)
    assert 0 < len(shown) <= 300
    assert "\n" not in shown
    assert not {"\ue000", "\ue001", "\x1b"} & set(shown)


@pytest.mark.parametrize("text", ["." * 1_000_000, "a1" * 500_000, "/x" * 500_000, "<" * 1_000_000, "\n at " * 200_000])
def test_long_texts_take_no_time(text):
    begun = time.process_time()
    template(text)
    assert time.process_time() - begun < 5  # quadratic matching would take minutes
