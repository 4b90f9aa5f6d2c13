from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import jobstats as js
from jobstats.reasons import classify, read_catalog, ruleset, updated, write_catalog
from jobstats.reasons.catalog import first_known

from ..factories import T0, immediate, jobs

DAY = datetime(2026, 11, 1, tzinfo=UTC)
REFUSED, LOST = "connect ECONNREFUSED 10.0.0.1:6379", "no grist for mill 17"


def seen(*texts, first=DAY, last=DAY):
    return pl.DataFrame(
        {"failed_reason": texts, "first_seen_at": [first] * len(texts), "last_seen_at": [last] * len(texts)}
    )


@pytest.fixture
def other(tmp_path):
    """Rules that mask more and name causes otherwise: nearly every id differs."""
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[mask]]\nid = "grist"\npattern = "grist"\nreplace = "<value>"\n'
        '[[cause]]\nid = "connection-refused"\npattern = "econnrefused"\ncause = "Nobody listens"\ncategory = "network"\n'
    )
    return ruleset(path)


def test_first_and_last_times_are_kept():
    catalog = updated(None, seen(REFUSED, LOST))
    catalog = updated(catalog, seen(REFUSED, first=DAY + timedelta(3), last=DAY + timedelta(4)))
    rows = {row["template"]: row for row in catalog.table.to_dicts()}
    assert rows["connect ECONNREFUSED <ip>"]["first_seen_at"] == DAY
    assert rows["connect ECONNREFUSED <ip>"]["last_seen_at"] == DAY + timedelta(4)
    assert rows["no grist for mill <n>"]["last_seen_at"] == DAY
    assert catalog.table["aliases"].list.len().sum() == 0


def test_a_file_gives_back_what_was_written(tmp_path):
    catalog = updated(None, seen(REFUSED, LOST))
    write_catalog(catalog, tmp_path / "deep" / "reasons.parquet")
    again = read_catalog(tmp_path / "deep" / "reasons.parquet")
    assert again.table.equals(catalog.table)
    assert again.rules.sha == catalog.rules.sha
    assert read_catalog(tmp_path / "none.parquet") is None


def test_what_is_no_catalog_is_refused(tmp_path, dump):
    (tmp_path / "a").write_text("hello")
    dump.jobs.write_parquet(tmp_path / "b")
    for name in "ab":
        with pytest.raises(js.TableError, match="is no catalog of reasons"):
            read_catalog(tmp_path / name)


def test_no_raw_text_is_kept(tmp_path):
    write_catalog(updated(None, seen("no mail to ana@example.org, password=hunter9")), tmp_path / "c")
    assert b"hunter9" not in (tmp_path / "c").read_bytes()
    assert b"ana@" not in (tmp_path / "c").read_bytes()


def told(texts, rules=None):
    return classify(texts, rules=rules).with_columns(failed_reason=pl.Series(texts))


@pytest.mark.parametrize("still_there", [True, False])
def test_other_rules_make_no_reason_new(other, still_there):
    before = updated(None, seen(REFUSED, LOST))
    after = updated(before, seen(*([REFUSED, LOST] if still_there else []), first=DAY + timedelta(9)), rules=other)
    now = told([REFUSED, LOST], other)
    known = first_known(after, now, "cause_id", rules=other)
    assert known["known_at"].to_list() == [DAY, DAY]
    assert set(known["cause_id"]) == set(now["cause_id"])
    # The catalog of before will do as well: it is brought up to the rules when it is asked.
    assert first_known(before, now, "cause_id", rules=other)["known_at"].to_list() == [DAY, DAY]
    old = told([REFUSED, LOST])
    aliases = set(after.table["aliases"].explode(keep_nulls=False, empty_as_null=False))
    changed = {*old["template_id"], *old["cause_id"]} - {*now["template_id"], *now["cause_id"]}
    assert changed <= aliases
    # And back again: the ids of today's rules are known too.
    back = first_known(updated(after, seen(), rules=None), old, "cause_id")
    assert back["known_at"].to_list() == [DAY] * len(old["cause_id"].unique())


def test_what_is_masked_less_is_known_while_its_text_is_there(tmp_path):
    """Of what is gone, the template that is left no longer says what was masked."""
    path = tmp_path / "rules.toml"
    path.write_text('[[mask]]\nid = "number"\nenabled = false\n')
    before, now = updated(None, seen(LOST)), told([LOST], path)
    assert first_known(updated(before, seen(LOST), rules=path), now, "cause_id", rules=path)["known_at"].to_list() == [
        DAY
    ]
    assert first_known(updated(before, seen(), rules=path), now, "cause_id", rules=path).is_empty()


def test_a_known_reason_rises_and_is_not_new():
    def failed(n, text):
        at = T0 + n * 3_600_000
        names = {"connectorId": f"c{n % 5}", "orgId": f"o{n % 3}"}
        return immediate(
            str(n), data=names, timestamp=at, processedOn=at + 1, finishedOn=at + 2, state="failed", failedReason=text
        )

    table = jobs(*(failed(n, REFUSED if n > 300 else "HTTP 500") for n in range(340)))
    window = {"since": "2d", "baseline": "10d"}
    fresh = js.failure_reasons(table, **window)
    assert fresh.filter(cause="Connection refused")["change"].to_list() == ["new"]
    catalog = updated(None, seen(REFUSED))
    known = js.failure_reasons(table, **window, catalog=catalog).filter(cause="Connection refused")
    assert known["change"].to_list() == ["rising"]
    assert known["first_seen_at"].to_list() == [DAY]
