import pytest

import jobstats as js
from jobstats.reasons import NO_REASON

from ..factories import T0, immediate, jobs


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
    )


def test_seven_runs_by_hand(failures, engine, as_polars):
    answer = as_polars(js.failure_reasons(engine(failures)))
    columns = ["template", "share", "n", "n_recovered", "n_connectors", "n_orgs"]
    assert answer.select(columns).rows() == [
        ("connect ECONNREFUSED <ip>", 0.5, 2, 0, 2, 2),
        ("Request failed with status code 429", 0.25, 1, 1, 1, 1),
        (NO_REASON, 0.25, 1, 0, 1, 1),
    ]


def test_a_reason_is_seen_from_its_first_to_its_last_time():
    def failed(n):
        return immediate(str(n), timestamp=T0 + n, finishedOn=T0 + n + 600, state="failed", failedReason="no")

    row = js.failure_reasons(jobs(failed(0), failed(50), failed(20))).row(0, named=True)
    assert [row[name].timestamp() * 1000 for name in ("first_seen_at", "last_seen_at")] == [T0 + 600, T0 + 650]


def test_the_error_of_a_completed_run_is_no_failure(dump):
    answer = js.failure_reasons(dump.jobs)
    assert answer["n"].sum() == js.retry_rates(dump.jobs)["n_failed"][0] == 122
    assert answer["n_recovered"].sum() == 154
    assert answer["share"].sum() == pytest.approx(1)
