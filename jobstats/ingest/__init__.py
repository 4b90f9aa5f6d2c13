"""Bytes → jobs table and rejects. See :func:`jobstats.ingest.loading.load`, the only way in."""
