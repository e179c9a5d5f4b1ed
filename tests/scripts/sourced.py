"""Functions of sync.sh without a cloud, by the oldest jq, and how to read what the scripts print."""

import atexit
import contextlib
import functools
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from account import PROJECT
from documents import Scripts, sourced_scripts

# The oldest jq that the scripts are for. tests/run builds it; where it is not, the pieces run with the machine's.
OLDEST_JQ = PROJECT / ".cache/oldest-jq/bin"
ENVIRONMENT = os.environ | {"PATH": f"{OLDEST_JQ}:{os.environ['PATH']}"}


@functools.cache
def scripts() -> Scripts:
    """One Bash for all pieces, which ends with this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sourced-")))
    return stack.enter_context(sourced_scripts(folder, "sync.sh", tools=OLDEST_JQ if OLDEST_JQ.exists() else None))


def as_text(value: Any) -> str:
    """Text as it is, "" for None, and JSON for everything else: what AWS answers."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def unfolded(output: str) -> str:
    """Each line as it was before it was put into 80 columns."""
    return re.sub(r"\n(?: {14}| {4})(?=\S)", " ", output)


def printed(script: str, text: str = "", **variables: Any) -> str:
    """What a piece that succeeds prints; the text is its standard input, the variables are in its environment."""
    (scripts().folder / "text").write_text(text)
    given = {name: as_text(value) for name, value in variables.items()}
    return scripts().run(f'exec <"$FOLDER/text"; set_names\n{script}', **given).output
