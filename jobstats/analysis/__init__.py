"""Questions to the jobs table, one module each: frames in, a small tidy frame out.

Every function takes jobs first and the shared vocabulary by keyword: ``by``, ``every``, ``since``, ``until``, ``q``,
``confidence``. It counts runs (the newest observation of each), names what it left out in ``n_…`` columns, sorts by
its keys, and returns the kind of frame it was given.
"""
