"""``python -m leadertag``: the same as the command ``leadertag``."""

from __future__ import annotations

import sys

from leadertag.cli import main

if __name__ == "__main__":
    sys.exit(main())
