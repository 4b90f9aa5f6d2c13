"""Each peer as a script of its own: NDJSON in, Parquet out, written as its manual would have it."""

from importlib.util import find_spec

DUCKDB_READ = """
import duckdb
COLUMNS = '''{id: 'VARCHAR', name: 'VARCHAR', progress: 'JSON', delay: 'BIGINT', timestamp: 'BIGINT',
    attemptsMade: 'BIGINT', finishedOn: 'BIGINT', processedOn: 'BIGINT', failedReason: 'VARCHAR', state: 'VARCHAR',
    data: 'STRUCT(connector VARCHAR, connectorId VARCHAR, orgId VARCHAR, userId VARCHAR, "timestamp" TIMESTAMP,
    scheduleConfig JSON, metadata JSON)'}'''
def query(source, more='', format='newline_delimited'):
    return f'''select * exclude data, data.* exclude "timestamp", data."timestamp" as requested_at
        from read_json('{source}', format='{format}', columns={COLUMNS}{more})'''
"""
_COPY = """
more = %r
duckdb.sql(f"copy ({query(sys.argv[1], more)}) to '{sys.argv[2]}' (format parquet, compression zstd)")
"""
IGNORE_ERRORS = ", ignore_errors=true"
POLARS_READ = """
import polars as pl
texts = ('connector', 'connectorId', 'orgId', 'userId', 'timestamp', 'scheduleConfig', 'metadata')
schema = dict.fromkeys(('id', 'name', 'progress', 'failedReason', 'state'), pl.String)
schema |= dict.fromkeys(('delay', 'timestamp', 'attemptsMade', 'finishedOn', 'processedOn'), pl.Int64)
schema |= {'data': pl.Struct(dict.fromkeys(texts, pl.String))}
"""
_POLARS = """
frame = pl.scan_ndjson(sys.argv[1], schema=schema%s).unnest('data', separator='_')
frame = frame.with_columns(pl.col('data_timestamp').str.to_datetime('%%Y-%%m-%%dT%%H:%%M:%%S%%.fZ'))
frame.sink_parquet(sys.argv[2], compression='zstd')
"""
_PANDAS = """
import json, pandas as pd
frame = pd.json_normalize([json.loads(line) for line in open(sys.argv[1], encoding='utf-8')])
frame = frame.map(lambda v: json.dumps(v) if isinstance(v, (list, dict)) else v)
mixed = [name for name in frame if frame[name].map(type).nunique() > 1 and frame[name].dtype == object]
frame.astype(dict.fromkeys(mixed, 'string')).to_parquet(sys.argv[2], compression='zstd')
"""
_LOOP = """
import json, polars as pl
from jobstats.contract import JobStatus
rows, refused = [], []
for number, line in enumerate(open(sys.argv[1], 'rb'), 1):
    try:
        job = %s
    except ValueError as error:
        refused.append((number, str(error)))
        continue
    data = job.data
    rows.append((job.id, job.name, data.org_id, data.user_id, data.connector, data.connector_id, job.state,
        job.attempts_made, job.failed_reason, job.timestamp, job.processed_on, job.finished_on, job.delay,
        json.dumps(job.progress), data.schedule_config.model_dump_json(), data.timestamp))
pl.DataFrame(rows, orient='row', infer_schema_length=None).write_parquet(sys.argv[2])
"""
_PYDANTIC = _LOOP % "JobStatus.model_validate_json(line)"
_MSGSPEC = _LOOP.replace("import json", "import json, msgspec") % "JobStatus.model_validate(msgspec.json.decode(line))"

COMMAND_LINE = "jobstats load, command line"
DUCKDB, POLARS = "DuckDB read_json", "Polars scan_ndjson"
IGNORING = "DuckDB read_json, ignore_errors"
PANDAS = "pandas json_normalize"
SAMPLED = ("Pydantic, line by line", "msgspec decode, then Pydantic")
SCRIPTS = {
    "jobstats load and write, in Python": "import jobstats as js; js.write(js.load(sys.argv[1]), sys.argv[2])",
    DUCKDB: DUCKDB_READ + _COPY % "",
    IGNORING: DUCKDB_READ + _COPY % IGNORE_ERRORS,
    POLARS: POLARS_READ + _POLARS % "",
    "Polars scan_ndjson, ignore_errors": POLARS_READ + _POLARS % ", ignore_errors=True",
    PANDAS: _PANDAS,
    SAMPLED[0]: _PYDANTIC,
    SAMPLED[1]: _MSGSPEC,
}
READ = "import collections; collections.deque(iter(lambda f=open(sys.argv[1], 'rb'): f.read(1 << 20), b''), 0)"
LIMITS = {
    "limit: reading the bytes": READ,
    "limit: counting the lines": "print(sum(1 for _ in open(sys.argv[1], 'rb')))",
}
LIMITS_OF_TABLE = {
    "limit: reading the finished Parquet": "import jobstats as js; js.read(sys.argv[1])",
    "limit: reading and writing it": "import jobstats as js; js.write(js.read(sys.argv[1]), sys.argv[2])",
}
DECOMPRESS = {
    ".gz": READ.replace("collections;", "collections, gzip;").replace("open(", "gzip.open("),
    ".zst": "import collections, pyarrow as pa; f = pa.input_stream(sys.argv[1], compression='zstd'); "
    "collections.deque(iter(lambda: f.read(1 << 20), b''), 0)",
}
_COPY_BYTES = """
import gzip, shutil, pyarrow as pa
with open(sys.argv[1], 'rb') as plain, %s as packed:
    shutil.copyfileobj(plain, packed, 1 << 20)
"""
COMPRESS = {
    ".gz": _COPY_BYTES % "gzip.open(sys.argv[2], 'wb', 6)",
    ".zst": _COPY_BYTES % "pa.output_stream(sys.argv[2], compression='zstd')",
}


def installed(name: str) -> bool:
    """Whether what a peer's name begins with can be imported."""
    return find_spec(name.split(maxsplit=1)[0].strip(",").lower()) is not None


_WROTE = """
import pyarrow.parquet as pq, os
about = pq.ParquetFile(sys.argv[%d]).metadata
print(about.num_row_groups, about.num_columns, os.path.getsize(sys.argv[%d]))
"""
SIZES = {
    "jobstats": _WROTE % (1, 1),
    "DuckDB, zstd": "import duckdb\nduckdb.sql(f\"copy (from '{sys.argv[1]}') to '{sys.argv[2]}' "
    '(format parquet, compression zstd)")' + _WROTE % (2, 2),
    "Polars, zstd": "import polars as pl\npl.read_parquet(sys.argv[1]).write_parquet(sys.argv[2])" + _WROTE % (2, 2),
    "PyArrow, its defaults": "import pyarrow.parquet as pq\npq.write_table(pq.read_table(sys.argv[1]), sys.argv[2])"
    + _WROTE % (2, 2),
}
"""The same table as others write it."""

# Each reader defines whole(), asked() (connector, failed runs, sum of their waits) and facts() (rows, sums, bounds).
_SQL = """
QUESTION = "select connector, count(*), sum(queue_latency_ms) from jobs where state = 'failed' group by connector"
def facts():
    select = ', '.join(f'sum({name})' for name in INTEGERS)
    return rows(f'select count(*), {select}, {IN_MS}(min(created_at)), {IN_MS}(max(created_at)) from jobs')[0]
def asked():
    return rows(QUESTION)
"""
_TIMED = """
import datetime, json, time
def plain(found):
    if isinstance(found, datetime.datetime):
        return round(found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp() * 1000)
    return found if isinstance(found, str) else 0 if found is None or found != found else int(found)
began = time.perf_counter()
whole()
read = time.perf_counter()
answer = asked()
done = time.perf_counter()
count, *sums, least, most = map(plain, facts())
print(json.dumps({'whole': read - began, 'asked': done - read, 'facts': {
    'rows': count, 'sums': dict(zip(INTEGERS, sums)), 'created_at': [least, most],
    'answer': sorted([plain(cell) for cell in row] for row in answer)}}))
"""
_INTEGERS = """
import pyarrow as pa, pyarrow.parquet as pq
source = sys.argv[1]
INTEGERS = [field.name for field in pq.read_schema(source) if pa.types.is_integer(field.type)]
"""
_READ_POLARS = """
import polars as pl
def whole():
    return pl.read_parquet(source)
def asked():
    failed = pl.scan_parquet(source).filter(pl.col('state') == 'failed')
    return failed.group_by('connector').agg(n=pl.len(), ms=pl.col('queue_latency_ms').sum()).collect().rows()
def facts():
    created = pl.col('created_at')
    picked = [pl.len(), *(pl.col(name).sum() for name in INTEGERS), created.min().alias('a'), created.max().alias('b')]
    return pl.scan_parquet(source).select(picked).collect().row(0)
"""
_READ_PYARROW = """
import pyarrow.compute as pc, pyarrow.dataset
def whole():
    return pq.read_table(source)
def asked():
    names = ['connector', 'queue_latency_ms']
    failed = pq.read_table(source, columns=names, filters=[('state', '=', 'failed')])
    found = failed.group_by('connector').aggregate([([], 'count_all'), ('queue_latency_ms', 'sum')])
    return [(row['connector'], row['count_all'], row['queue_latency_ms_sum']) for row in found.to_pylist()]
def facts():
    jobs = whole()
    bounds = pc.min_max(jobs['created_at']).as_py()
    return [jobs.num_rows, *(pc.sum(jobs[name]).as_py() for name in INTEGERS), bounds['min'], bounds['max']]
"""
_READ_DUCKDB = """
import duckdb
IN_MS = 'epoch_ms'
duckdb.sql(f"create view jobs as from '{source}'")
def whole():
    return duckdb.sql('from jobs').to_arrow_table()
def rows(sql):
    return duckdb.sql(sql).fetchall()
"""
_READ_PANDAS = """
import pandas as pd
def whole():
    return pd.read_parquet(source, dtype_backend='numpy_nullable')
def asked():
    failed = pd.read_parquet(source, columns=['connector', 'queue_latency_ms'], filters=[('state', '=', 'failed')],
        dtype_backend='numpy_nullable')
    found = failed.groupby('connector')['queue_latency_ms'].agg(['size', 'sum'])
    return list(found.itertuples())
def facts():
    jobs = whole()
    created = jobs['created_at']
    return [len(jobs), *(jobs[name].sum() for name in INTEGERS), created.min(), created.max()]
"""
_READ_SPARK = """
from pyspark.sql import SparkSession
IN_MS = 'unix_millis'
session = SparkSession.builder.master('local[*]').config('spark.sql.session.timeZone', 'UTC').getOrCreate()
session.read.parquet(source).createOrReplaceTempView('jobs')
def whole():
    session.read.parquet(source).write.format('noop').mode('overwrite').save()
def rows(sql):
    return [tuple(row) for row in session.sql(sql).collect()]
"""
READERS = {
    "Polars": ("polars", _INTEGERS + _READ_POLARS + _TIMED),
    "PyArrow": ("pyarrow", _INTEGERS + _READ_PYARROW + _TIMED),
    "DuckDB": ("duckdb", _INTEGERS + _READ_DUCKDB + _SQL + _TIMED),
    "pandas": ("pandas", _INTEGERS + _READ_PANDAS + _TIMED),
    "Spark": ("pyspark", _INTEGERS + _READ_SPARK + _SQL + _TIMED),
}
"""The jobs table read by others: the module each needs, and its script."""
