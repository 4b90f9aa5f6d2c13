from datetime import UTC, datetime

import polars as pl
import pytest

import jobstats as js
from jobstats.reasons import NO_REASON

from ..factories import T0, immediate, jobs

HOUR = 3_600_000


@pytest.fixture
def failures():
    failed = {"state": "failed", "attemptsMade": 3}
    return jobs(
        immediate("1", **failed, failedReason="connect ECONNREFUSED 10.0.0.1:443"),
        immediate(
            "2", **failed, failedReason="connect ECONNREFUSED 10.0.0.2:8443", data={"connectorId": "c2", "orgId": "o2"}
        ),
        immediate("3", **failed, failedReason="Request failed with status code 429"),
        immediate("4", **failed, failedReason="null"),
        immediate("5", attemptsMade=2, failedReason="Request failed with status code 429"),
        immediate(
            "6", attemptsMade=1, state="active", finishedOn=None, failedReason="Request failed with status code 500"
        ),
        immediate("7"),
        immediate(
            "8", **failed, failedReason="[Errno 111] Connection refused", data={"connectorId": "c2", "orgId": "o2"}
        ),
    )


def test_eight_runs_by_hand(failures, engine, as_polars):
    answer = as_polars(js.failure_reasons(engine(failures)))
    columns = [
        "cause",
        "category",
        "template",
        "n",
        "n_recovered",
        "n_retrying",
        "n_connectors",
        "n_orgs",
        "n_connector_days",
        "n_templates",
        "connectors",
    ]
    assert answer.select(columns).rows() == [
        ("Connection refused", "network", "connect ECONNREFUSED <ip>", 3, 0, 0, 2, 2, 2, 2, "Drive 3"),
        ("HTTP 429", "rate_limit", "Request failed with status code 429", 1, 1, 0, 1, 1, 1, 1, "Drive 1"),
        ("No cause given", "unknown", NO_REASON, 1, 0, 0, 1, 1, 1, 1, "Drive 1"),
        ("HTTP 500", "server_error", "Request failed with status code 500", 0, 0, 1, 0, 0, 0, 0, None),
    ]  # fmt: skip
    assert answer["share"].to_list() == pytest.approx([0.6, 0.2, 0.2, 0])


def test_a_reason_is_seen_from_its_first_to_its_last_time():
    def failed(n):
        return immediate(str(n), timestamp=T0 + n, finishedOn=T0 + n + 600, state="failed", failedReason="no")

    row = js.failure_reasons(jobs(failed(0), failed(50), failed(20))).row(0, named=True)
    assert [row[name].timestamp() * 1000 for name in ("first_seen_at", "last_seen_at")] == [T0 + 600, T0 + 650]


def test_the_error_of_a_completed_run_is_no_failure(dump):
    answer = js.failure_reasons(dump.jobs)
    assert answer["n"].sum() == js.retry_rates(dump.jobs)["n_failed"][0] == 122
    assert answer["n_recovered"].sum() == 154
    waiting = dump.jobs.filter("is_latest", ~pl.col("is_ended"), pl.col("failed_reason").is_not_null())
    assert answer["n_retrying"].sum() == len(waiting) == 14
    assert answer["share"].sum() == pytest.approx(1)


def test_an_example_is_of_the_most_frequent_template_and_masked():
    def failed(n, text):
        return immediate(str(n), state="failed", failedReason=text)

    stack = "read ECONNRESET\n    at TLSWrap.onStreamRead (/home/ana/app/x.js:3:4)"
    answer = js.failure_reasons(jobs(failed(1, stack), failed(2, stack), failed(3, "socket hang up")))
    assert answer.select("cause", "n", "n_templates", "template", "example").rows() == [
        (
            "Connection reset or closed by the other side",
            3,
            2,
            "read ECONNRESET",
            "read ECONNRESET at TLSWrap.onStreamRead (<path>)",
        )
    ]


def failed(n: int, hour: int, text: str, connector: int = 0):
    at = T0 + hour * HOUR
    names = {"connectorId": f"c{connector}", "orgId": "o1"}
    times = {"timestamp": at, "processedOn": at + 100, "finishedOn": at + 200}
    return immediate(f"{n}", data=names, state="failed", failedReason=text, **times)


@pytest.fixture
def month():
    """28 days and 7: every connector of ten runs daily; one cause begins, one ends, one bursts, one goes on."""
    records = []
    for day in range(35):
        for connector in range(10):
            at = T0 + (day * 24 + connector) * HOUR
            names = {"connectorId": f"c{connector}", "orgId": "o1"}
            times = {"timestamp": at, "processedOn": at + 100, "finishedOn": at + 200}
            records.append(immediate(f"ok-{day}-{connector}", data=names, **times))
            if connector == day % 10:
                records.append(
                    failed(len(records), day * 24 + connector, "Request failed with status code 500", connector)
                )
            if day >= 28 and connector < 3:
                records.append(failed(len(records), day * 24 + connector, "connect ECONNREFUSED 10.0.0.1:1", connector))
            if day < 28 and connector < 3:
                records.append(failed(len(records), day * 24 + connector, "read ECONNRESET", connector))
    records += [failed(len(records) + i, 30 * 24, "jwt expired", 4) for i in range(40)]
    return jobs(*records)


def test_what_is_new_and_gone_and_bursts(month, engine, as_polars):
    since = datetime(2026, 12, 21, 14, tzinfo=UTC)
    answer = as_polars(js.failure_reasons(engine(month), since=since, baseline="28d"))
    columns = ("cause", "change", "n", "n_before", "n_connector_days", "n_connector_days_before")
    assert answer.select(columns).rows() == [
        ("Token has expired", "burst", 40, 0, 1, 0),
        ("Connection refused", "new", 21, 0, 21, 0),
        ("HTTP 500", "steady", 7, 28, 7, 28),
        ("Connection reset or closed by the other side", "vanished", 0, 84, 0, 84),
    ]
    assert answer.filter(cause="HTTP 500")["first_seen_at"][0] < since
    later = js.failure_reasons(month, since=since, baseline="28d", by="org_id")
    assert later["change"].to_list() == answer["change"].to_list()


def test_what_was_seen_before_the_baseline_is_not_new(month):
    # Only the last day is asked about, against the two before: the token expired five days ago.
    answer = js.failure_reasons(month, since="2026-12-27T14:00Z", baseline="2d")
    assert "Token has expired" not in answer["cause"]
    assert answer.filter(cause="Connection refused")["change"].to_list() == ["steady"]


def test_a_window_without_runs_says_nothing(month):
    answer = js.failure_reasons(month, since="2026-11-24", baseline="1w")
    assert answer["change"].null_count() == len(answer) - 0 or set(answer["change"]) <= {None, "few", "steady"}
    empty = js.failure_reasons(month, since="2026-11-01", baseline="1w")
    assert empty["change"].is_null().all()


def test_a_baseline_needs_its_window(month):
    with pytest.raises(js.ArgumentError, match="baseline needs since"):
        js.failure_reasons(month, baseline="7d")
    with pytest.raises(js.ArgumentError, match="pass one of them"):
        js.failure_reasons(month, baseline="7d", since="1d", every="1d")
    with pytest.raises(js.ArgumentError, match="baseline must be a number"):
        js.failure_reasons(month, baseline="fortnight", since="1d")


def test_own_rules_name_causes(failures, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[[pin]]\npattern = "econnrefused"\ncause = "Old firewall"\ncategory = "configuration"\n')
    answer = js.failure_reasons(failures, rules=path)
    assert ("Old firewall", "configuration", 2) in answer.select("cause", "category", "n").rows()
    assert js.failure_reasons(failures, rules=js.reasons.ruleset(path)).equals(answer)


def test_every_cause_has_its_words_in_every_window(dump):
    answer = js.failure_reasons(dump.jobs, every="1m", by="connector")
    assert (
        answer.select("cause", "category", "template", "example", "cause_id", "template_id").null_count().row(0)
        == (0,) * 6
    )
    assert isinstance(answer, pl.DataFrame)
