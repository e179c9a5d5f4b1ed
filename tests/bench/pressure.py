"""Puts workers under pressure, one scenario after the other on the stand-in, and prints what each suffered.

    .venv/bin/python tests/bench/pressure.py --worker worker.py --worker /another/worker.py --only hot-key,limit

A row is one scenario with one worker.py: seconds until its goal was reached (inf: not in time), how many changes the
mirror shows, receives used, dead letters, lags, what it cost, and seconds from SIGTERM to the end (inf: killed after
130). pressure_scenarios.py says what is done in each. Nothing here passes or fails.
"""

import argparse
import json
import math
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))  # the stand-in

from movers import PROJECT
from pressure_runs import Figures, measure
from pressure_scenarios import SCENARIOS
from rows import aligned, number
from standin import running_standin

QUICK = 0.1  # of the counts


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--worker", type=Path, action="append", help="a worker.py (default: of this checkout); again: beside"
    )
    parser.add_argument("--only", type=names, default=list(SCENARIOS), help=",".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the changes: shows that all of it runs")
    parser.add_argument("--list", action="store_true", help="say what the scenarios are")
    parser.add_argument("--output", type=Path, default=PROJECT / ".cache/bench/pressure", help="for results and logs")
    return parser.parse_args()


def names(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(SCENARIOS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    return text.split(",")


def table(rows: list[tuple[str, str, Figures]]) -> str:
    columns = list(dict.fromkeys(name for _, _, figures in rows for name in figures))
    lines = [["scenario", "worker", *columns]]
    for scenario, worker, figures in rows:
        lines.append([scenario, worker, *(cell(figures.get(name, "-")) for name in columns)])
    return aligned(lines)


def cell(value: float | str | None) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, int | float) and math.isfinite(value):
        return number(value)
    return str(value)


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every finally: workers stop
    if arguments.list:
        print("\n".join(f"{name:24} {scenario.about}" for name, scenario in SCENARIOS.items()))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, Figures]] = []
    workers = [path.resolve() for path in arguments.worker or [PROJECT / "worker.py"]]
    with running_standin() as standin:
        for name in arguments.only:
            for worker in workers:
                scale = QUICK if arguments.quick else 1.0
                figures = measure(standin, SCENARIOS[name], worker, arguments.output, scale)
                rows.append((name, worker.parent.name, figures))
                print(f"{name} {worker.parent.name}", {key: cell(value) for key, value in figures.items()}, flush=True)
                (arguments.output / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
