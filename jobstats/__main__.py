"""``python -m jobstats``: the command line."""

import sys

from jobstats.cli import main

sys.exit(main())
