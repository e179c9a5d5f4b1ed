"""Where ./sync.sh starts a verb (lib/operate.sh). Any Python 3 can read this file, which says whether it is too old."""

import sys
from pathlib import Path

OLDEST = (3, 9)
TOO_OLD = 3  # exit status: lib/operate.sh says what to install


def main() -> int:
    if sys.version_info < OLDEST:
        return TOO_OLD

    # An isolated Python looks for modules in none of the user's folders, and so not in this one either.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from operate.run import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
