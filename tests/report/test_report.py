import base64
import hashlib
import html
import re
from datetime import datetime

import polars as pl
import pytest

import jobstats as js
from jobstats.report.model import build
from jobstats.report.page import html as page
from jobstats.report.summary import summary

from ..factories import immediate, jobs


@pytest.fixture(scope="module")
def written(dump, tmp_path_factory) -> str:
    return js.write_report(dump, tmp_path_factory.mktemp("report")).read_text()


def test_the_page_needs_nothing_but_itself(written):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', written)[1])
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "<script" not in written
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', written)
    assert not re.findall(r"""\sstyle=|\son\w+=|@import|url\(""", written)
    for svg in re.findall(r"base64,([^\"]+)", written):
        assert not re.search(r"https?://(?!www\.w3\.org)", base64.b64decode(svg).decode())


def test_the_page_says_what_the_analyses_say(written, dump):
    text = html.unescape(re.sub(r"<[^>]+>", " ", written))
    row = js.retry_rates(dump.jobs).row(0, named=True)
    assert f"{row['failure_rate']:.1%}".replace("%", " %") in text
    assert f"n = {row['n']:,} ended" in text
    for connector in dump.jobs["connector"].unique():
        assert connector in text
    for message in js.quality(*dump)["message"]:
        assert message in text
    assert text.index("can and cannot tell") < text.index("Key figures")


def test_the_style_is_the_one_the_policy_allows(written):
    style = re.search(r"<style>(.*?)</style>", written, re.DOTALL)[1]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in written


def test_headlines_name_the_worst(dump):
    latency = js.queue_latency(dump.jobs, by="connector").filter(pl.col("n") >= 59).sort("p95_ms", descending=True)
    failing = js.retry_rates(dump.jobs, by="connector").sort("failure_rate_low", descending=True)
    slowest, most_failing, most_frequent = build(*dump).headlines
    assert slowest.startswith(f"Slowest to start, of connectors with 59 runs or more: {latency['connector'][0]},")
    assert most_failing.startswith(
        f"Fails most: {failing['connector'][0]}, {failing['failure_rate'][0]:.1%}".replace("%", " %")
    )
    assert "HTTP 429 (18 failed runs, " in most_frequent


def test_nothing_is_said_to_fail_that_never_failed():
    for n in (1, 10, 13, 34):
        assert not any(
            "Fails most" in headline
            for headline in build(*js.Loaded.of(jobs(*(immediate(str(i)) for i in range(n))))).headlines
        )


def test_the_same_data_gives_the_same_bytes(dump, written, tmp_path):
    assert js.write_report(dump, tmp_path).read_text() == written


def test_a_report_without_outcomes_prints_no_rate(polls):
    report = build(*polls)
    figures = {figure.name: figure for figure in report.figures}
    bounds = js.retry_rates(js.history(polls.jobs)).row(0, named=True)
    low, high = (f"{bounds[f'failure_rate_{end}']:.1%}".replace("%", " %") for end in ("min", "max"))
    assert figures["Failed runs"].value == f"{low} to {high}"
    assert "bounds, not an estimate: 43 seen" in figures["Failed runs"].detail
    assert report.findings[0].severity == "error"
    assert "✗" in summary(report)


@pytest.mark.parametrize("n", [0, 1])
def test_little_data_is_reported_all_the_same(n):
    loaded = js.load([immediate("1")] * n)
    report = build(*loaded)
    assert "<h1>" in page(report)
    assert summary(report)


def test_a_window_cuts_every_figure(dump):
    report = build(*dump, since="2026-11-23T14:12:00Z", until="2026-11-23T14:13:00Z")
    expected = js.queue_latency(dump.jobs, since="2026-11-23T14:12:00Z", until="2026-11-23T14:13:00Z")
    assert report.tables.latency["n"].sum() == expected["n"][0] == report.tables.latency_over_time["n"].sum()
    assert report.first >= datetime.fromisoformat("2026-11-23T14:12:00Z")


@pytest.mark.parametrize(("days", "every"), [(0, "1m"), (0.2, "5m"), (1, "1h"), (14, "6h"), (60, "1d"), (3000, "1w")])
def test_windows_suit_the_span(days, every):
    last = int(days * 86_400_000)
    table = jobs(
        immediate("1"),
        immediate(
            "2",
            timestamp=1_795_443_000_000 + last,
            processedOn=1_795_443_000_500 + last,
            finishedOn=1_795_443_000_900 + last,
        ),
    )
    assert build(*js.Loaded.of(table)).every == every


@pytest.mark.parametrize("late", [200, 700, 20_000])
def test_one_absurd_time_does_not_prevent_a_report(late):
    absurd = immediate("2", wait=late * 86_400_000, finishedOn=None, state="active")
    report = build(*js.Loaded.of(jobs(immediate("1"), absurd)))
    assert len(report.tables.retries_over_time) < 4_000
    assert "<h1>" in page(report)


def test_the_data_table_starts_with_what_is_drawn(dump):
    names = pl.Series([f"Connector {n % 300:03}" for n in range(len(dump.jobs))])
    text = page(build(*js.Loaded.of(dump.jobs.with_columns(connector=names))))
    latency = js.queue_latency(dump.jobs.with_columns(connector=names), by="connector").sort("p95_ms", descending=True)
    rows = re.findall(r"<td>(Connector \d+)</td>", text)
    assert rows[:5] == latency["connector"].head(5).to_list()


HOSTILE = [
    "bad \uffff byte",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnp",
    "a\u2028b",
    "{{7*7}}",
    "\x1b[31mred",
    "</style><script>",
]


def test_strings_from_the_data_are_escaped_everywhere(dump):
    names = pl.Series(HOSTILE).gather([i % len(HOSTILE) for i in range(len(dump.jobs))])
    hostile = dump.jobs.with_columns(
        connector=names, failed_reason=names, state=pl.when(pl.col("state") == "active").then(names).otherwise("state")
    )
    report = build(*js.Loaded.of(hostile))
    text = page(report)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "49" not in re.findall(r"\{\{.*?\}\}", text)
    assert not re.search("[\u202e\u2028\x1b]", text + summary(report))
    for svg in re.findall(r"base64,([^\"]+)", text):
        assert not re.search("<script|<img|[\u202e\u2028\x1b]", base64.b64decode(svg).decode())


def test_a_folder_that_cannot_be_written_is_an_error(dump, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(js.SourceError, match="cannot be written"):
        js.write_report(dump, tmp_path / "file/x")


@pytest.mark.parametrize("changes", [{"failedReason": "😀" * 100}, {"data": {"connector": "😀" * 50}}])
def test_labels_of_emoji_can_be_drawn(changes, tmp_path):
    failed = [immediate(str(n), state="failed", **({"failedReason": "no"} | changes)) for n in range(70)]
    assert js.write_report(jobs(*failed, immediate("done")), tmp_path).exists()
