import gzip
import json

import pytest

from jobstats.contract import SCHEDULE_TYPES, Refusal, decode, parse

from .factories import record


def schedule(config: object):
    return parse(record(data={"scheduleConfig": config})).data.schedule_config


FLAT = {
    "hourly": ({"minute": 5}, "5 */1 * * *"),
    "daily": ({"hour": 3, "minute": 0}, "0 3 * * *"),
    "weekly": ({"daysOfWeek": [1, 3, 5], "hour": 3, "minute": 30}, "30 3 * * 1,3,5"),
    "monthly": ({"dayOfMonth": 31, "hour": 0, "minute": 0}, "0 0 31 * *"),
    "custom": ({"cronExpression": "*/5 * * * *"}, "*/5 * * * *"),
    "once": ({"scheduledTime": "2026-11-23T14:11:21.341Z"}, None),
    "interval": ({"intervalMinutes": 15}, None),
}


@pytest.mark.parametrize("kind", SCHEDULE_TYPES)
def test_both_shapes_of_a_schedule_mean_the_same(kind):
    fields, cron = FLAT[kind]
    flat = schedule({"scheduleType": kind, "isEnabled": True, "timezone": "Asia/Tokyo", **fields})
    nested = schedule({"scheduleType": kind, "isEnabled": True, "scheduleConfig": {"timezone": "Asia/Tokyo", **fields}})
    snake = schedule(
        {
            "schedule_type": "UNKNOWN",
            "is_unknown": True,
            "raw": {"scheduleType": kind, "timezone": "Asia/Tokyo", **fields},
        }
    )
    assert (flat.cron, flat.every_ms, flat.at, flat.timezone) == (
        nested.cron,
        nested.every_ms,
        nested.at,
        nested.timezone,
    )
    assert (snake.cron, snake.every_ms, snake.at, snake.timezone) == (flat.cron, flat.every_ms, flat.at, flat.timezone)
    assert flat.cron == cron
    assert flat.timezone == "Asia/Tokyo"


def test_one_time_and_interval_schedules_have_a_time_and_a_length():
    assert schedule({"scheduleType": "once", "scheduledTime": "2026-11-23T15:11:21.341+01:00"}).at.isoformat() == (
        "2026-11-23T14:11:21.341000+00:00"
    )
    assert schedule({"scheduleType": "interval", "intervalMinutes": 2}).every_ms == 120_000


def test_hours_between_runs_and_switched_off_schedules_are_kept():
    assert schedule({"scheduleType": "hourly", "minute": 5, "interval": 5}).cron == "5 */5 * * *"
    assert schedule({"scheduleType": "hourly", "minute": 5, "isEnabled": False}).is_enabled is False


def test_a_reason_stays_short_however_much_is_wrong():
    with pytest.raises(Refusal, match="and 199995 more") as refused:
        schedule({"scheduleType": "weekly", "daysOfWeek": ["x"] * 200_000, "hour": 1, "minute": 1})
    assert len(refused.value.reason) < 1_000
    with pytest.raises(Refusal) as refused:
        parse(record(attemptsMade="\x01" * 10_000))
    assert len(refused.value.reason) < 120


def test_a_null_in_the_nested_shape_does_not_hide_the_outer_value():
    config = {
        "scheduleType": "interval",
        "timezone": "Asia/Tokyo",
        "scheduleConfig": {"intervalMinutes": 1, "timezone": None},
    }
    assert schedule(config).timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "prioritized"},
        {"state": "a state of the future"},
        {"id": None},
        {"id": ...},
        {"delay": None, "processedOn": None, "finishedOn": ..., "failedReason": ...},
        {"progress": "half"},
        {"delay": -5},
        {"progress": {"percentage": 20, "current": 126, "total": 632}},
        {"extra": {"nested": [1, 2]}},
        {"data": {"scheduleConfig": {"scheduleType": "lunar", "hour": "moonrise"}}},
        {"data": {"metadata": {"any": ["thing"]}}},
        {"data": {"connectorId": None}},
        {"data": {"connector": None, "connectorType": "google_workspace"}},
    ],
)
def test_what_real_servers_send_is_accepted(changes):
    assert parse(record(**changes)).name == "crawl-drive-c1"


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"attemptsMade": "1"}, "attemptsMade", 'expected an integer, found "1"'),
        ({"attemptsMade": 1.0}, "attemptsMade", "expected an integer, found 1.0"),
        ({"attemptsMade": True}, "attemptsMade", "expected an integer, found true"),
        ({"attemptsMade": -1}, "attemptsMade", "expected greater than or equal to 0, found -1"),
        ({"attemptsMade": ...}, "attemptsMade", "required, but missing"),
        ({"attemptsMade": None}, "attemptsMade", "expected an integer, found null"),
        ({"timestamp": 1795443252.5}, "timestamp", "found 1795443252.5"),
        ({"timestamp": 10**20}, "timestamp", "expected less than or equal to 253402300799999"),
        ({"processedOn": "2026-11-23"}, "processedOn", "expected an integer"),
        ({"failedReason": {"message": "no"}}, "failedReason", "expected a string, found an object"),
        ({"state": None}, "state", "expected a string, found null"),
        ({"id": 17}, "id", "expected a string, found 17"),
        ({"name": ...}, "name", "required, but missing"),
        ({"data": {"timestamp": "2026-11-23T14:10:06"}}, "data.timestamp", "an ISO 8601 time with its zone"),
        ({"data": {"timestamp": "2026-02-30T14:10:06Z"}}, "data.timestamp", "an ISO 8601 time with its zone"),
        ({"data": {"orgId": None}}, "data.orgId", "expected a string, found null"),
        ({"data": {"connector": None}}, "data.connector", "expected a string, found null"),
        ({"data": {"scheduleConfig": None}}, "data.scheduleConfig", "expected an object, found null"),
        ({"data": {"scheduleConfig": {"scheduleType": "daily", "hour": 24, "minute": 0}}}, "data.scheduleConfig.hour", "found 24"),
        ({"data": {"scheduleConfig": {"scheduleType": "weekly", "daysOfWeek": [7], "hour": 1, "minute": 1}}}, "data.scheduleConfig.daysOfWeek.0", "found 7"),
        ({"data": {"scheduleConfig": {"scheduleType": "interval", "scheduleConfig": {}}}}, "data.scheduleConfig.intervalMinutes", "required"),
        ({"attempts_made": 7}, "attempts_made", "stands beside attemptsMade"),
        ({"finishedOn": None, "finished_on": 5}, "finished_on", "stands beside finishedOn"),
        ({"data": {"org_id": "o2"}}, "data.org_id", "stands beside orgId"),
        ({"data": {"metadata": "text"}}, "data.metadata", "expected an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_the_name_of_its_field(changes, field, found):
    with pytest.raises(Refusal) as refused:
        parse(record(**changes))
    assert refused.value.field == field
    assert refused.value.reason.startswith(f"{field}: ")
    assert found in refused.value.reason


@pytest.mark.parametrize("value", [None, 5, "text", [], True])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(Refusal, match="expected a JobStatus object"):
        parse(value)


@pytest.mark.parametrize(
    "text", [b'{"a":NaN}', b'{"a":Infinity}', b'"\\ud800"', b"[" * 300 + b"]" * 300, b'{"a":"\xff"}', b"{} {}", b""]
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(Refusal, match="not JSON"):
        decode(text)


@pytest.mark.parametrize("version", ["pypi_1.0.1", "repo_0.0.3"])
def test_an_sdk_dump_that_lost_its_fields_is_recognised(root, version):
    with gzip.open(root / f"tests/data/sdk/{version}_model_dump_json_default.ndjson.gz") as file:
        for line in file:
            with pytest.raises(Refusal, match="export again with by_alias=True"):
                parse(json.loads(line))
