"""What is missing in ministack for this project's chain, one file per service; importing a file puts it in place."""

import sys
from importlib.metadata import version

MINISTACK = "1.5.33"
if version("ministack") != MINISTACK:
    sys.exit(f"local/gaps replaces internals of ministack {MINISTACK}, but {version('ministack')} is installed")
