"""Where ./sync.sh starts a verb. The arguments: the Bash of the scripts, their PATH, the name by which ./sync.sh was
called, what a command that a message names needs for the local cloud, the verb, and its options."""

import signal
import sys


def main() -> int:
    # Ctrl-C ends the process as it ends other programs, until there is something to do at the end. nohup ignores it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    # An isolated Python looks for modules in none of the user's folders, and so not in this one either.
    sys.path.insert(0, __file__.rpartition("/operate/")[0])
    from operate.run import run

    return run(*sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
