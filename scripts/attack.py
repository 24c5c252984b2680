"""Attacks metarl, to prove what docs/reliability.md promises, and prints the table that is there.

Each attack runs the real commands on small runs in a temporary folder. With --short it is a sample
of less than a minute, which the test suite runs too.

    python scripts/attack.py
    python scripts/attack.py --only kills-at-events signals-in-the-save --keep
    python scripts/attack.py --short
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attacks import checkpoints, children, configs, evaluations, kills, limits, others, run_files
from attacks.result import HEAD, SHORT, Effort, Result, row

ATTACKS: dict[str, Callable[[Effort, Path], Result]] = {
    "kills-at-moments": kills.kills_at_moments,
    "kills-at-events": kills.kills_at_events,
    "kills-in-evaluations": evaluations.kills_in_evaluations,
    "signals-in-the-save": kills.signals_in_the_save,
    "signals-anywhere": kills.signals_anywhere,
    "lost-workers": kills.lost_workers,
    "damaged-checkpoints": checkpoints.damaged_bytes,
    "hostile-configs": configs.hostile_configs,
    "hostile-files": run_files.hostile_files,
    "beyond-the-machine": limits.beyond_the_machine,
    "full-disk": others.full_disk,
    "sockets": others.sockets,
    "long-run": others.long_run,
    "cores": others.cores,
}


def main() -> int:
    """Runs the attacks that the command line names; returns the number of faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--minutes", type=float, default=40.0, help="time after which it ends")
    parser.add_argument("--short", action="store_true", help="a sample of each attack")
    parser.add_argument("--keep", action="store_true", help="keep the folder of an attack's runs")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    children.load()
    children.ends_at.append(time.monotonic() + 60 * asked.minutes)
    print(HEAD, flush=True)
    faults: list[str] = []
    for name in asked.only:
        place = Path(tempfile.mkdtemp(prefix=f"attack-{name}-"))
        started = time.monotonic()
        result = ATTACKS[name](SHORT if asked.short else Effort(), place)
        print(row(result, time.monotonic() - started), flush=True)
        faults += [f"{name}: {fault}" for fault in result.faults]
        if asked.keep:
            print(f"{name}: {place}", file=sys.stderr)
        else:
            shutil.rmtree(place, ignore_errors=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return len(faults)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
