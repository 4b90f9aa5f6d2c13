"""Failure texts into templates, causes and categories: accuracy and speed against Drain3 and against no grouping.

    python benchmarks/reasons.py [--labelled FILE …] [--rows 1000000] [--distinct 100000] [--rounds 3]
    python benchmarks/reasons.py --drift [--replicates 150]

FILE is a CSV of messages with the columns reason, group (the cause), wording and category. The rules were written with
the first of the three files at hand. The second holds causes that the first does not and was not seen; the third holds
messages as people quote them. Drain3 (pip install drain3) is the usual tool for templates of log lines; it knows
neither causes nor categories.
"""

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

import jobstats as js
from jobstats.analysis.drift import LEVEL, adjusted, compared, upper_tail

HERE = Path(__file__).parent
LABELLED = [HERE.parent / "tests/data/failures.csv.gz", HERE / "unseen.csv.gz", HERE / "wild.csv.gz"]
_VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{16,}\b|\b\d{5,}\b")


def by_jobstats(texts: list[str | None]) -> pl.DataFrame:
    """What jobstats makes of the texts."""
    return js.reasons.classify(pl.Series(texts, dtype=pl.String)).select("template_id", "cause_id", "category")


def by_drain3(texts: list[str | None]) -> pl.DataFrame:
    """The clusters of Drain3 with its own settings; it has no causes and no categories."""
    from drain3 import TemplateMiner
    from drain3.template_miner_config import TemplateMinerConfig

    miner = TemplateMiner(config=TemplateMinerConfig())
    ids = [str(miner.add_log_message((text or "").replace("\n", " "))["cluster_id"]) for text in texts]
    return pl.DataFrame({"template_id": ids, "cause_id": ids, "category": ["unknown"] * len(ids)})


def by_nothing(texts: list[str | None]) -> pl.DataFrame:
    """Every text is its own group."""
    return pl.DataFrame({"template_id": texts, "cause_id": texts, "category": ["unknown"] * len(texts)})


METHODS: dict[str, Callable[[list[str | None]], pl.DataFrame]] = {
    "jobstats": by_jobstats,
    "Drain3": by_drain3,
    "no grouping": by_nothing,
}


def alike(table: pl.DataFrame, found: str, meant: str) -> float:
    """Grouping accuracy: rows whose group holds exactly the rows of its meant group."""
    sized = table.select(found=pl.len().over(found), meant=pl.len().over(meant), both=pl.len().over(found, meant))
    same = (pl.col("found") == pl.col("both")) & (pl.col("meant") == pl.col("both"))
    return float(sized.select(same.mean()).item())


def accuracy(labelled: pl.DataFrame) -> None:
    """How well each method groups labelled messages."""
    causes, wordings = labelled["group"].n_unique(), labelled["wording"].n_unique()
    print(f"{len(labelled):,} messages, {wordings} wordings, {causes} causes\n")
    print("| | wordings grouped alike | rows of mixed wordings | causes grouped alike "
          "| category right | right when given | not given |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, method in METHODS.items():
        table = labelled.rename({"category": "label"}).hstack(method(labelled["reason"].to_list()))
        mixed = table.select((pl.col("wording").n_unique().over("template_id") > 1).mean()).item()
        cells = [
            f"{alike(table, 'template_id', 'wording'):.3f}",
            f"{mixed:.1%}",
            f"{alike(table, 'cause_id', 'group'):.3f}",
        ]
        # Labels made before there was a word for missing settings call them validation; here both are right.
        one_word = pl.col("category", "label").replace("configuration", "validation").name.keep()
        table = table.with_columns(one_word).rename({"category": "told"})
        given = table.filter(pl.col("told") != "unknown")
        right = pl.col("told") == pl.col("label")
        shares = (table.select(right.mean()).item(), given.select(right.mean()).item(), 1 - len(given) / len(table))
        cells += ["–"] * 3 if given.is_empty() else [f"{share:.3f}" for share in shares]
        print(f"| {name} | {' | '.join(cells)} |")


def speed(labelled: pl.DataFrame, n_rows: int, n_distinct: int, rounds: int) -> None:
    """Rows a second, with the repetition of real failures and with none."""
    rng = random.Random(1)
    known = [text for text in labelled["reason"].to_list() if text]

    def other(found: re.Match[str]) -> str:
        return "".join(
            rng.choice("0123456789abcdef" if not found[0].isdigit() else "0123456789") if c.isalnum() else c
            for c in found[0]
        )

    varying = [text for text in known if _VARYING.search(text)]
    distinct = list({_VARYING.sub(other, rng.choice(varying)) for _ in range(n_distinct * 2)})[:n_distinct]
    few = list(dict.fromkeys([*known, *distinct]))[:6_000]
    repeated = rng.choices(few, k=n_rows)
    sample = rng.sample(repeated, min(n_rows, 100_000))
    length = statistics.mean(map(len, distinct))
    print(f"\nRepeated: {n_rows:,} rows of {len(set(repeated)):,} texts. Distinct: {len(distinct):,} texts.")
    print(f"{length:.0f} characters on average. Rows a second, median of {rounds}.\n")
    print("| | repeated | distinct |")
    print("|---|--:|--:|")
    series = {"repeated": pl.Series(repeated), "distinct": pl.Series(distinct)}
    ours = {key: rate(partial(js.reasons.classify, texts), len(texts), rounds) for key, texts in series.items()}
    lists = {"repeated": sample, "distinct": distinct}
    peer = {key: rate(partial(by_drain3, texts), len(texts), 1) for key, texts in lists.items()}
    print(f"| jobstats: template, cause, category | {ours['repeated']:,.0f} | {ours['distinct']:,.0f} |")
    print(f"| Drain3: cluster | {peer['repeated']:,.0f} | {peer['distinct']:,.0f} |")
    print(f"| ratio | {ours['repeated'] / peer['repeated']:.1f} | {ours['distinct'] / peer['distinct']:.2f} |")


def rate(work: Callable[[], object], n: int, rounds: int) -> float:
    """Rows a second, the median of the rounds."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return n / statistics.median(seconds)


def drift(replicates: int) -> None:
    """False alarms and power where the truth is known.

    120 causes, 12 connectors, 28 days against 7, 1.5 times the runs a day, one in ten causes risen.
    """
    print("| failures | true change | test | false discoveries | power | alarm where nothing changed |")
    print("|---|--:|---|--:|--:|--:|")
    for burst in (1, 15):
        for factor in (3, 6):
            told = {"both": Told(), "jobs alone": Told()}
            quiet = {"both": 0, "jobs alone": 0}
            for seed in range(replicates):
                for name, alarms, true in alarmed(random.Random(seed), burst, factor):
                    told[name].add(alarms, true)
                for name, alarms, _ in alarmed(random.Random(10_000 + seed), burst, 1):
                    quiet[name] += bool(alarms)
            words = "one by one" if burst == 1 else f"bursts of about {burst}"
            for name, result in told.items():
                false, power, loud = result.false, result.power, quiet[name] / replicates
                print(f"| {words} | × {factor} | {name} | {false:.2f} | {power:.2f} | {loud:.2f} |")


class Told:
    """What a test found over many data sets."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.found = self.real = 0

    def add(self, alarms: set[int], true: set[int]) -> None:
        """The causes called risen in one data set, and those that did rise."""
        self.shares.append(len(alarms - true) / len(alarms) if alarms else 0.0)
        self.found, self.real = self.found + len(alarms & true), self.real + len(true)

    @property
    def false(self) -> float:
        """The mean share of alarms that are false."""
        return statistics.mean(self.shares)

    @property
    def power(self) -> float:
        """The share of true rises that were found."""
        return self.found / self.real if self.real else 0.0


def alarmed(rng: random.Random, burst: int, factor: float) -> list[tuple[str, set[int], set[int]]]:
    """The causes that each test calls risen, and those that did rise."""
    connectors, days, runs = 12, (28, 7), (100, 150)
    true = set(rng.sample(range(120), 12)) if factor > 1 else set()
    rows = []
    for cause in range(120):
        base = rng.lognormvariate(1.2, 1.0) / burst / 7
        seen = []
        for window in (0, 1):
            n_days, more = days[window], (1.5 if window else 1.0) * (factor if window and cause in true else 1.0)
            events, cells = 0, set()
            for day in range(n_days):
                for _ in range(poisson(rng, base * more)):
                    events += 1 if burst == 1 else max(1, poisson(rng, burst))
                    cells.add((rng.randrange(connectors), day))
            seen.append((events, len(cells)))
        (x0, c0), (x1, c1) = seen
        exposed = {f"days{i}": connectors * days[i] for i in (0, 1)}
        exposed |= {f"runs{i}": runs[i] * exposed[f"days{i}"] for i in (0, 1)}
        rows.append({"x0": x0, "x1": x1, "c0": c0, "c1": c1, **exposed, "is_old": False})
    table = compared(pl.DataFrame(rows))
    both = set(table.with_row_index().filter(pl.col("change").is_in(["new", "rising"]))["index"])
    tested = [i for i, row in enumerate(rows) if row["x0"] + row["x1"] >= 3]
    p_values = [
        upper_tail(
            rows[i]["x1"], rows[i]["x0"] + rows[i]["x1"], rows[i]["runs1"] / (rows[i]["runs0"] + rows[i]["runs1"])
        )
        for i in tested
    ]
    alone = {i for i, q in zip(tested, adjusted(p_values), strict=True) if q <= LEVEL}
    return [("both", both, true), ("jobs alone", alone, true)]


def poisson(rng: random.Random, mean: float) -> int:
    """A Poisson number."""
    count, left = 0, rng.expovariate(1)
    while left < mean:
        count, left = count + 1, left + rng.expovariate(1)
    return count


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=Path, nargs="+", default=LABELLED)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--distinct", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--replicates", type=int, default=150)
    asked = parser.parse_args()
    if asked.drift:
        drift(asked.replicates)
        return
    tables = [pl.read_csv(path) for path in asked.labelled]
    for path, table in zip(asked.labelled, tables, strict=True):
        print(f"\n{path.name}: ", end="")
        accuracy(table)
    speed(tables[0], asked.rows, asked.distinct, asked.rounds)


if __name__ == "__main__":
    main()
