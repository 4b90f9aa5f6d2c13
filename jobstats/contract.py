"""JobStatus as exported: what a record must hold, and the verdict on one record.

The models are strict. No number is read from a string, no float is cut to an integer, no required field is
defaulted. They are also tolerant of what real servers send: any state, unknown schedule types, extra keys,
snake_case from the SDK, absent where another server sends ``null``. :func:`parse` is the one door through
which every record passes; what it refuses, it refuses with the name of the field.
"""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from jobstats.moments import LAST_MS

SCHEDULE_TYPES = ("hourly", "daily", "weekly", "monthly", "custom", "once", "interval")
"""Schedule types the server knows. Others are kept as they come."""

STATES = (
    "waiting",
    "active",
    "completed",
    "failed",
    "delayed",
    "paused",
    "stuck",
    "prioritized",
    "waiting-children",
    "unknown",
)
"""States seen or documented. Others are kept as they come."""

MOST_ATTEMPTS = 2**31 - 1
_MOST_EXPLAINED = 5
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)")


def _instant(value: object) -> datetime:
    """ISO 8601 text with a zone as a UTC datetime; text without a zone names no instant."""
    if isinstance(value, str) and _ISO.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("instant", "expected an ISO 8601 time with its zone, such as 2026-11-23T14:10:06.921Z")


Instant = Annotated[datetime, BeforeValidator(_instant)]
EpochMs = Annotated[int, Field(ge=0, le=LAST_MS)]
Minute = Annotated[int, Field(ge=0, le=59)]
Hour = Annotated[int, Field(ge=0, le=23)]


class _Exported(BaseModel):
    """camelCase as the server writes it, snake_case as SDK attributes are named; extra keys are kept apart."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        allow_inf_nan=False,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
    )


class Schedule(_Exported):
    """What all schedules share. An unknown ``scheduleType`` is this and nothing more."""

    schedule_type: str
    is_enabled: bool | None = None
    timezone: str | None = None

    @property
    def cron(self) -> str | None:
        """The cron expression the server builds from the schedule, if it is of that kind."""
        return None

    @property
    def every_ms(self) -> int | None:
        """The interval in milliseconds, if the schedule is one."""
        return None

    @property
    def at(self) -> datetime | None:
        """The one time at which the schedule fires, if it is of that kind."""
        return None


class Hourly(Schedule):
    """Every ``interval`` hours, at a minute."""

    schedule_type: Literal["hourly"]
    minute: Minute
    interval: Annotated[int, Field(ge=1, le=24)] | None = None

    @property
    def cron(self) -> str:
        """``*/i`` restarts at midnight: an interval of 5 leaves gaps of 5, 5, 5, 5 and 4 hours."""
        return f"{self.minute} */{self.interval or 1} * * *"


class Daily(Schedule):
    """Every day at a time."""

    schedule_type: Literal["daily"]
    hour: Hour
    minute: Minute

    @property
    def cron(self) -> str:
        """The server's cron expression."""
        return f"{self.minute} {self.hour} * * *"


class Weekly(Schedule):
    """On days of the week (Sunday is 0) at a time."""

    schedule_type: Literal["weekly"]
    days_of_week: Annotated[list[Annotated[int, Field(ge=0, le=6)]], Field(min_length=1)]
    hour: Hour
    minute: Minute

    @property
    def cron(self) -> str:
        """The server's cron expression."""
        return f"{self.minute} {self.hour} * * {','.join(map(str, self.days_of_week))}"


class Monthly(Schedule):
    """On a day of the month at a time; months without that day are skipped."""

    schedule_type: Literal["monthly"]
    day_of_month: Annotated[int, Field(ge=1, le=31)]
    hour: Hour
    minute: Minute

    @property
    def cron(self) -> str:
        """The server's cron expression."""
        return f"{self.minute} {self.hour} {self.day_of_month} * *"


class Custom(Schedule):
    """A cron expression of five fields, passed on as written."""

    schedule_type: Literal["custom"]
    cron_expression: Annotated[str, Field(min_length=1)]
    description: str | None = None

    @property
    def cron(self) -> str:
        """The expression as written."""
        return self.cron_expression


class Once(Schedule):
    """One run at a time; the server turns it into a delay."""

    schedule_type: Literal["once"]
    scheduled_time: Instant

    @property
    def at(self) -> datetime:
        """The scheduled time."""
        return self.scheduled_time


class Interval(Schedule):
    """Every n minutes, in slots of the epoch clock."""

    schedule_type: Literal["interval"]
    interval_minutes: Annotated[int, Field(ge=1, le=LAST_MS // 60_000)]

    @property
    def every_ms(self) -> int:
        """The interval in milliseconds."""
        return self.interval_minutes * 60_000


def _tag(value: Any) -> str:
    if isinstance(value, dict):
        kind = value.get("scheduleType", value.get("schedule_type"))
    else:
        kind = getattr(value, "schedule_type", None)
    return kind if isinstance(kind, str) and kind in SCHEDULE_TYPES else "other"


def _unnested(value: Any) -> Any:
    """Both shapes of ``scheduleConfig`` as the flat one, and the SDK's wrapper of unknown types opened."""
    if not isinstance(value, dict):
        return value
    if value.get("is_unknown") is True and isinstance(value.get("raw"), dict):
        value = value["raw"]
    for key in ("scheduleConfig", "schedule_config"):
        if isinstance(inner := value.get(key), dict):
            # A null inside says "not known", so it must not hide what the outer object knows.
            known = {k: v for k, v in inner.items() if v is not None}
            return {k: v for k, v in value.items() if k != key} | known
    return value


ScheduleConfig = Annotated[
    Annotated[Hourly, Tag("hourly")]
    | Annotated[Daily, Tag("daily")]
    | Annotated[Weekly, Tag("weekly")]
    | Annotated[Monthly, Tag("monthly")]
    | Annotated[Custom, Tag("custom")]
    | Annotated[Once, Tag("once")]
    | Annotated[Interval, Tag("interval")]
    | Annotated[Schedule, Tag("other")],
    Discriminator(_tag),
    BeforeValidator(_unnested),
]
"""A ``scheduleConfig`` in either shape, as one of the seven types or an unknown one."""


class JobData(_Exported):
    """The ``data`` of a record. Servers before September 2025 wrote ``connectorType``, before December no id."""

    connector: str
    connector_id: str | None = None
    org_id: str
    user_id: str
    timestamp: Instant
    schedule_config: ScheduleConfig
    metadata: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_the_connector(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("connector") is None:
            for old in ("connectorType", "connector_type"):
                if value.get(old) is not None:
                    return {k: v for k, v in value.items() if k != old} | {"connector": value[old]}
        return value


class JobStatus(_Exported):
    """One exported job. Times are epoch milliseconds; ``delay`` is the *current* delay, not the one created with."""

    id: str | None = None
    name: str
    data: JobData
    progress: Any = None
    delay: Annotated[int, Field(ge=-LAST_MS, le=LAST_MS)] | None = None
    timestamp: EpochMs
    attempts_made: Annotated[int, Field(ge=0, le=MOST_ATTEMPTS)]
    finished_on: EpochMs | None = None
    processed_on: EpochMs | None = None
    failed_reason: str | None = None
    state: str


class Refusal(Exception):
    """Why a text is not a JobStatus: ``field`` is the path in the record, empty when it is no record at all."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def decode(text: bytes) -> Any:
    """A JSON text as Python values, refusing NaN and Infinity, lone surrogates and nesting beyond 200.

    Raises:
        Refusal: The text is not JSON; the reason says where.

    >>> decode(b'{"state": "failed"}')
    {'state': 'failed'}
    """
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal("", f"not JSON: {error}") from None


_SCHEDULES: TypeAdapter[Schedule] = TypeAdapter(ScheduleConfig)


def parse_schedule(value: Any) -> Schedule:
    """The verdict on a ``scheduleConfig`` alone; what is wrong with it, :func:`parse` says of the whole record.

    Raises:
        Refusal: It is none.
    """
    try:
        return _SCHEDULES.validate_python(value, strict=True)
    except ValidationError:
        raise Refusal("data.scheduleConfig", "not a scheduleConfig") from None


def parse_instant(text: str) -> datetime:
    """The verdict on an ISO 8601 time alone, in UTC.

    Raises:
        Refusal: It is none.
    """
    try:
        return _instant(text)
    except PydanticCustomError as error:
        raise Refusal("", error.message()) from None


def parse(value: Any) -> JobStatus:
    """The verdict on one decoded record: a :class:`JobStatus`, or a :class:`Refusal` that names the field.

    Raises:
        Refusal: A required field is missing, or a field has the wrong type or an impossible value.

    >>> try:
    ...     parse({"name": "crawl-drive-1", "timestamp": 1795443252238, "attemptsMade": "2", "state": "failed"})
    ... except Refusal as refusal:
    ...     print(refusal.reason)
    data: required, but missing; attemptsMade: expected an integer, found "2"
    """
    if not isinstance(value, dict):
        raise Refusal("", f"expected a JobStatus object, found {_shown(value)}")
    try:
        job = JobStatus.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        field = _path(details[0])
        if _is_unaliased_dump(value):
            raise Refusal(
                field,
                "exported with the SDK's model_dump() without by_alias=True, which nulls attemptsMade, scheduleConfig "
                "and other fields; export again with by_alias=True",
            ) from None
        more = f"; and {len(details) - _MOST_EXPLAINED} more" if len(details) > _MOST_EXPLAINED else ""
        raise Refusal(field, "; ".join(map(_explained, details[:_MOST_EXPLAINED])) + more) from None

    for model, path in ((job, ""), (job.data, "data.")):
        # Both names of one field: the extra one was not read, and which is right cannot be known.
        if twice := (model.__pydantic_extra__ or {}).keys() & type(model).model_fields.keys():
            name = min(twice)
            raise Refusal(f"{path}{name}", f"{path}{name}: stands beside {to_camel(name)}; export one of them")
    return job


def _is_unaliased_dump(record: dict[str, Any]) -> bool:
    """``model_dump()`` of the SDK looks values up by alias, so every aliased field is present and null."""
    data = record.get("data")
    return (
        isinstance(data, dict)
        and "attemptsMade" in record
        and record["attemptsMade"] is None
        and "scheduleConfig" in data
        and data["scheduleConfig"] is None
    )


def _path(detail: ErrorDetails) -> str:
    steps = [step for step in detail["loc"] if step not in (*SCHEDULE_TYPES, "other")]
    return ".".join(str(step) for step in steps)


_EXPECTED = {
    "int_type": "expected an integer",
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "list_type": "expected an array",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
}


def _explained(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return f"{_path(detail)}: required, but missing"
    expected = _EXPECTED.get(detail["type"]) or detail["msg"].replace("Input should be", "expected")
    return f"{_path(detail)}: {expected}, found {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value[:60] if isinstance(value, str) else value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
