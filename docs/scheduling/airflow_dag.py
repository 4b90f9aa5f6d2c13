"""Load last night's export and report on the day before it."""

import os
import subprocess
from datetime import datetime, timedelta, timezone

from airflow.exceptions import AirflowFailException
from airflow.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

LOAD = """
/opt/jobstats/bin/jobstats load "/var/lib/jobstats/exports/$UNTIL*" --to /var/lib/jobstats/store
"""
REPORT = """
/opt/jobstats/bin/jobstats report /var/lib/jobstats/store --out /var/lib/jobstats/reports --since "$SINCE" \
  --until "$UNTIL" --slo /etc/jobstats/slo.toml --fail-on slo,regression --keep 90 --log json
"""


def run(command: str, **environment: str) -> None:
    """Fail for good on what no retry can mend; on all else Airflow tries again."""
    code = subprocess.run(["bash", "-c", command], env={**os.environ, **environment}, check=False).returncode
    if code in {2, 3, 4}:
        raise AirflowFailException(f"jobstats: exit {code}")
    if code:
        raise RuntimeError(f"jobstats: exit {code}")


@dag(
    schedule=CronDataIntervalTimetable("10 5 * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
)
def job_queue_report():
    @task
    def load(until: str) -> None:
        run(LOAD, UNTIL=until)

    @task
    def report(since: str, until: str) -> None:
        run(REPORT, SINCE=since, UNTIL=until)

    since, until = "{{ data_interval_start | ds }}", "{{ data_interval_end | ds }}"
    load(until) >> report(since, until)


job_queue_report()
