"""What can go wrong, and who can put it right.

    JobstatsError
    ├── SourceError      nothing usable where the caller pointed; the caller fixes the path or the file
    ├── ArgumentError    an argument outside the vocabulary; the caller fixes the call
    ├── TableError       a frame or Parquet file that is not a jobs table; load the export again
    └── BusyError        another process holds the lock; try again when it has finished

A bad *record* is never an exception: it becomes a row of the rejects frame. A bad *request* always is one.
Messages name what was wrong, what was found and what would be right, in one line.
"""


class JobstatsError(Exception):
    """Base of every error jobstats raises on purpose."""


class SourceError(JobstatsError):
    """A path that does not exist, a folder without exports, a file that is not JSON."""


class ArgumentError(JobstatsError, ValueError):
    """An argument that means nothing, such as ``every="fortnight"``."""


class TableError(JobstatsError):
    """A frame or Parquet file without the columns of a jobs table."""


class BusyError(JobstatsError):
    """Another process is publishing into the same folder."""
