"""Every string of the data is hostile until it is escaped: each through every output."""

import base64
import csv
import email
import email.policy
import gzip
import io
import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

import jobstats as js
from jobstats.formats import written
from jobstats.report.building import Told, build
from jobstats.report.index import index
from jobstats.report.mail import mail
from jobstats.report.markdown import escaped, markdown
from jobstats.report.page import html
from jobstats.report.summary import summary

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></script><svg onload=alert(1)>",
    "'+alert(1)+'",
    "datum['constructor']",
    "{{7*7}}{% raw %}",
    "javascript:alert(1)",
    "https://evil.example/x www.evil.example",
    "[a](https://evil.example) ![b](https://evil.example)",
    "`code` **bold** | pipe\ttab",
    "# head\n- item\n\n<details>",
    "@everyone #1",
    "Subject: x\r\nBcc: evil@example.org",
    "\u202egnp.exe\u2066",
    "a\u2028b\u2029c",
    "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "=HYPERLINK(0)",
    "+1",
    "-1",
    "@SUM(1)",
    " =1+1",
    "bad \uffff byte\x00",
    "😀" * 40,
    "e\u0301" * 80,
    "x" * 5_000,
    "",
]
UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\uffff]")


class Markup(HTMLParser):
    """What a browser would take for markup: tags, and attributes with their values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.n_scripts = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.n_scripts += tag == "script"
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value for name, value in attrs if name in ("href", "src", "action", "xlink:href")}


@pytest.fixture(scope="module")
def jobs(dump) -> pl.DataFrame:
    def spread(step: int) -> pl.Series:
        return pl.Series(HOSTILE).gather([i * step % len(HOSTILE) for i in range(len(dump.jobs))])

    is_active = pl.col("state") == "active"
    return dump.jobs.with_columns(
        connector=spread(1),
        failed_reason=spread(3),
        org_id=spread(5),
        connector_id=pl.format("{} {}", "connector_id", spread(7)),
        state=pl.when(is_active).then(spread(9)).otherwise("state"),
        schedule_cron=pl.when(pl.col("schedule_type") == "custom").then(spread(11)).otherwise("schedule_cron"),
    )


@pytest.fixture(scope="module")
def built(dump, jobs):
    told = Told(
        "=?utf-8?q?a=0AX-Injected:_1?=</title><script>alert(1)</script>\r\nBcc: evil@example.org",
        "12345678",
        tuple(HOSTILE[:3]),
    )
    objective = js.Objective(name="<b>= in time", kind="start", target=0.9, within="10s", by=["connector"], min_n=1)
    return build(jobs, dump.rejects, objectives=objective, told=told, since="3m")


@pytest.mark.parametrize("live", [False, True])
def test_the_page_holds_no_markup_but_its_own(built, live):
    page = html(built, live=live)
    assert not UNSAFE.search(page)
    markup = Markup(page)
    assert markup.n_scripts == (4 if live else 2)
    assert not markup.tags & {"img", "iframe", "object", "embed", "link", "base", "form"}
    assert not {name for name in markup.attributes if name.startswith("on") or name in ("style", "src")}
    assert all(link.startswith("#") for link in markup.links)
    assert "49" not in re.findall(r"\{\{[^{}]*\}\}", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "unsafe" not in policy
    for name in ("tips", "specs"):
        for packed in re.findall(rf'id="{name}">([^<]*)<', page):
            assert not UNSAFE.search(
                json.dumps(json.loads(gzip.decompress(base64.b64decode(packed))), ensure_ascii=False)
            )
    assert not UNSAFE.search(index([("2026-11-23_12345678", built.report)]))
    assert "<script" not in index([("2026-11-23_12345678", built.report)])


def test_markdown_marks_up_nothing_links_nowhere_and_names_nobody(built):
    text = markdown(built.report)
    assert not UNSAFE.search(text)
    assert not re.search(r"https?://|www\.|(?<!\w)@\w", text)
    assert set(re.findall(r"<(/?\w+)", text)) <= {"details", "/details", "summary", "/summary"}
    assert not re.search(r"(?<!\\)\[[^\]]*(?<!\\)\]\(", text)
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert len(tables) > 10
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert escaped("a|b`c`<d>@e") == "a\\|b\\`c\\`&lt;d&gt;(at)e"


def test_a_letter_has_the_headers_it_was_given(built):
    letter = email.message_from_bytes(mail(built), policy=email.policy.default)
    assert set(letter.keys()) == {"Subject", "From", "Date", "Message-ID", "MIME-Version", "Content-Type"}
    assert letter["Bcc"] is None
    body = letter.get_body(("html",)).get_content()
    assert len(body.encode()) < 100_000
    assert not UNSAFE.search(body)
    markup = Markup(body)
    assert not markup.tags & {"script", "svg", "iframe", "a", "link"}
    assert not {name for name in markup.attributes if name.startswith("on")}
    assert all(re.fullmatch(r"cid:\w+@jobstats", link) for link in markup.links)
    assert {part.get_content_type() for part in letter.walk() if not part.is_multipart()} == {
        "text/plain",
        "text/html",
        "image/png",
    }
    assert len(mail(built)) < 700_000


def test_terminals_and_programs_get_text_and_nothing_else(built, jobs):
    assert not UNSAFE.search(summary(built.report))
    assert not UNSAFE.search(built.report.model_dump_json())
    answer = jobs.select("connector", "failed_reason", "org_id").unique()
    for kind in ("table", "json"):
        assert not UNSAFE.search(written(answer, kind))
    rows = [json.loads(line) for line in written(answer, "json").splitlines()]
    assert {row["connector"] for row in rows} == set(answer["connector"])
    sheet = list(csv.reader(io.StringIO(written(answer, "csv"))))
    cells = [cell for row in sheet[1:] for cell in row]
    assert not [cell for cell in cells if cell.lstrip(" ")[:1] in set("=+-@\t\r\n")]
    assert "'=HYPERLINK(0)" in cells
    assert written(pl.DataFrame({"n": [-1], "x": [-0.5]}), "csv") == "n,x\n-1,-0.5\n"
