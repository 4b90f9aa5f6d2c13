import gzip
import json
from datetime import UTC, datetime
from itertools import accumulate

import pytest

from jobstats.errors import ArgumentError
from jobstats.firing import fire_times

YEAR_MS = 365 * 86_400_000


def test_fires_are_those_of_the_servers_own_library(root):
    """The fires that npm's cron-parser 4.9.0 gives around changes of the clocks in eight zones.

    Each list was made as BullMQ asks: a fresh ``parseExpression(cron, {tz, currentDate}).next()`` 250 ms after the fire
    before, from ``since`` on; null where it throws. ``steps`` are the times from ``since`` to the first, and on.
    """
    with gzip.open(root / "tests/data/fires.ndjson.gz") as file:
        lists = [json.loads(line) for line in file]
    assert len(lists) == 1308
    wrong = set()
    for cron, zone, since, until, steps in (each.values() for each in lists):
        fires = None if steps is None else list(accumulate(steps, initial=since))[1:]
        if fire_times(cron, zone, since, until) != fires:
            wrong.add((cron, zone))
    assert wrong == set()
    assert sum(each["steps"] is None for each in lists) == 300


@pytest.mark.parametrize(
    ("cron", "day", "expected"),
    [
        ("30 2 * * *", "2026-03-29", ["01:30"]),  # 2:30 is left out, and comes as 3:30
        ("*/15 2 * * *", "2026-03-29", ["01:00"]),  # of the four, the first
        ("30 2 * * *", "2026-10-25", ["00:30"]),  # 2:30 comes twice, and counts once
        ("30 */6 * * *", "2026-10-25", ["05:30", "11:30", "17:30", "23:30"]),
        ("0 0 25 * 1", "2026-10-25", ["23:00"]),  # the 25th or any Monday: the 26th is one
    ],
)
def test_by_hand_in_berlin(cron, day, expected):
    since = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
    times = fire_times(cron, "Europe/Berlin", since, since + 86_400_000)
    shown = [datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M") for at in times]
    assert shown == expected


def test_the_window_is_half_open_and_may_be_empty():
    at = 1_795_443_000_000
    assert fire_times("* * * * *", "UTC", at, at + 120_000) == [at, at + 60_000]
    assert fire_times("* * * * *", "UTC", at + 1, at + 60_000) == []
    assert fire_times("* * * * *", "UTC", at, at) == []


@pytest.mark.parametrize(("cron", "zone"), [("61 * * * *", "UTC"), ("* * * * *", "Mars/Olympus"), ("a", "UTC")])
def test_what_cannot_be_read_is_none(cron, zone):
    assert fire_times(cron, zone, 0, YEAR_MS) is None


def test_the_ends_of_the_calendar_are_no_trouble():
    last = 253_402_300_799_000  # the last second of 9999
    assert fire_times("0 0 1 1 *", "UTC", last - 86_400_000, last) == []
    assert fire_times("0 0 1 1 *", "UTC", -62_135_596_800_000, -62_135_596_800_000 + 1) == []


def test_a_decade_of_minutes_is_not_too_much_and_a_century_is():
    assert len(fire_times("* * * * *", "Europe/Berlin", 0, 10 * YEAR_MS)) == 10 * 365 * 1440
    with pytest.raises(ArgumentError, match="fires more than 20,000,000 times in 36,500 days"):
        fire_times("* * * * *", "UTC", 0, 100 * YEAR_MS)
