import polars as pl
import pytest

from jobstats.engines import relation

ENGINES = {"polars": lambda jobs: jobs, "polars lazy": lambda jobs: jobs.lazy(), "duckdb": relation}


@pytest.fixture(params=list(ENGINES))
def engine(request):
    """Turns a Polars jobs table into the same table on another engine."""
    return ENGINES[request.param]


@pytest.fixture
def as_polars():
    """The answer of any engine as Polars, instants in milliseconds."""

    def convert(answer) -> pl.DataFrame:
        if isinstance(answer, pl.LazyFrame):
            return answer.collect()
        if isinstance(answer, pl.DataFrame):
            return answer
        frame = answer.pl()
        instants = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime]
        return frame.with_columns(pl.col(instants).dt.convert_time_zone("UTC").dt.cast_time_unit("ms"))

    return convert
