"""When a schedule fires: its cron in its time zone, as milliseconds since the epoch."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


def fire_times(cron: str, timezone: str, since_ms: int, until_ms: int) -> list[int] | None:
    """The times at which a cron fires in [since, until); None when the cron or the zone cannot be read.

    >>> fire_times("30 2 * * *", "Europe/Berlin", 1_795_392_000_000, 1_795_478_400_000)
    [1795397400000]
    """
    try:
        begin = datetime.fromtimestamp((since_ms - 1) / 1000, ZoneInfo(timezone))
        fires = CronSim(cron, begin)
    except (CronSimError, ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return list(takewhile(lambda at: at < until_ms, _from(fires, since_ms)))


def _from(fires: Iterator[datetime], since_ms: int) -> Iterator[int]:
    for moment in fires:
        at = round(moment.astimezone(UTC).timestamp() * 1000)
        if at >= since_ms:
            yield at
