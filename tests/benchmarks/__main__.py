"""All that ``make bench`` measures, about eleven minutes of it; the figures go to results/ and RESULTS.md.

python -m tests.benchmarks --broker embedded --runs 3
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import figures, machine, report, throughput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--broker", default="both", choices=["embedded", "kafka", "both"])
    parser.add_argument("--runs", type=int, default=3, help="of each subject and workload")
    parser.add_argument("--figure-runs", type=int, default=1, help="of recovery and latency, on each broker")
    args = parser.parse_args()
    began = time.monotonic()
    machine.stay_off_the_subject_core()
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "load_average": round(machine.load_average(), 1),
    }
    _, results["state_of_sessions"] = figures.state_size(figures.IDLE, alone=True)
    rows, results["state"] = figures.state_size(figures.IDLE)
    print(f"state of an idle customer: {results['state']}", flush=True)
    results["throughput"], results["figures"] = [], []
    subjects = list(throughput.SUBJECTS.values())
    names = throughput.brokers(args.broker)
    for name in names:
        with machine.broker(name) as server, tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as made:
            folder = Path(made)
            plans = [(throughput.INTERLEAVED, subjects)]
            if name == names[-1]:
                names_alone = ("raw", "ebbtide", "ebbtide-buyers", "ebbtide-all")
                alone = [throughput.SUBJECTS[each] for each in names_alone]
                plans.append((throughput.SCATTERED, alone))
            for shape, wanted in plans:
                results["throughput"].append(throughput.measure(server, shape, wanted, args.runs, folder))
                print("\n" + report.throughput(results["throughput"][-1]), flush=True)
        # A fresh broker: what the runs have left behind must not slow the recovery.
        with machine.broker(name) as server, tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as made:
            results["figures"].append(figures.measure(server, rows, Path(made), args.figure_runs))
    throughput.keep(throughput.RESULTS, results)
    report.write(results)
    print("\n" + report.figures(results))
    print(f"\nmeasured in {(time.monotonic() - began) / 60:.1f} minutes; kept in results/ and RESULTS.md")


if __name__ == "__main__":
    main()
