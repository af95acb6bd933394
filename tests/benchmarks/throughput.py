"""Events a second of one process on one core: the raw read, Ebbtide, and the same sessionization elsewhere.

    python -m tests.benchmarks.throughput --subjects raw,ebbtide --broker embedded --runs 3

Every subject reads the same topics, loaded before, from their beginning, one subject at a time, in turns
(a b c a b c ...). A rate is events over seconds between the first and the last moment at which a subject
states its progress, so start-up, joining the group and imports are not in it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from schemas import topics
from tests.benchmarks import machine
from tests.benchmarks.measure import Ingest, Process, Run, RunFailed, figure, reading
from tests.benchmarks.subjects.telling import Options
from tests.benchmarks.workload import Shape, Workload, load, tick

RESULTS: Final = Path(__file__).with_name("results") / "throughput.json"
INPUT_NAMES: Final = [topic.name for topic in topics.INPUTS]


@dataclass(frozen=True, slots=True)
class Subject:
    """``module`` below ``subjects``; ``events`` after which a run is long enough, None for all there are."""

    name: str
    module: str
    title: str
    events: int | None = None
    #: Ebbtide's rate is to be at least this many times the subject's; 0 if nothing is asked for. Of more of
    #: Ebbtide, the share of its rate with sessions alone.
    target: float = 0.0
    #: How often it reads all there is.
    passes: int = 1
    env: Mapping[str, str] = field(default_factory=dict)


SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        Subject("raw", "raw", "raw read (aiokafka getmany)", target=0.2, passes=2),
        Subject(
            "ebbtide", "ebbtide", "Ebbtide, sessions", env={"EBBTIDE_BUYERS": "0", "EBBTIDE_LOSSES": "0"}
        ),
        Subject(
            "ebbtide-buyers",
            "ebbtide",
            "Ebbtide, sessions, buyers and segments",
            target=0.85,
            env={"EBBTIDE_LOSSES": "0"},
        ),
        Subject("ebbtide-all", "ebbtide", "Ebbtide, all of it", target=0.5),
        Subject("faust", "stock_faust", "stock Faust, Table", events=15_000, target=25),
        Subject("quix", "quix", "Quix Streams, state and changelog", events=200_000, target=2),
        Subject("bytewax", "bytewax_flow", "Bytewax, state and recovery", events=200_000, target=2),
        Subject("bytewax-windows", "bytewax_windows", "Bytewax, session windows", events=100_000, target=2),
    )
}

INTERLEAVED: Final = Shape("interleaved", events=400_000, customers=20_000, span_h=4.0)
SCATTERED: Final = Shape("scattered", events=400_000, customers=100_000, span_h=1.0, seed=2)
SHAPES: Final = {shape.name: shape for shape in (INTERLEAVED, SCATTERED)}


class Bench:
    """One broker with loaded input topics, and the runs on it."""

    def __init__(self, server: machine.Server, shape: Shape, folder: Path) -> None:
        self.server = server
        self.shape = shape
        self.folder = folder
        self.inputs = tuple(f"{shape.name}-{name}" for name in INPUT_NAMES)
        began = time.monotonic()
        machine.create_topics(
            server.address, {name: {"retention.ms": "-1"} for name in self.inputs}, shape.partitions
        )
        self.workload: Workload = load(server.address, self.inputs, shape)
        self.load_s = time.monotonic() - began
        self._number = 0

    def run(self, subject: Subject, deadline_s: float = 180.0) -> Run:
        """Run ``subject`` once; RunFailed if it does not get there."""
        self._number += 1
        run = f"{self.shape.name}{self._number}-{subject.name}"
        events = min(subject.events or self.shape.events, self.shape.events) * subject.passes
        options = Options(
            self.server.address, self.inputs, run, self.shape.partitions, events, str(self.folder)
        )
        if subject.module == "ebbtide":
            return self._run_ebbtide(subject, options, deadline_s)
        machine.create_topics(self.server.address, {f"{run}-sessions": {}}, self.shape.partitions)
        with Process(subject.module, options) as process:
            process.wait(
                lambda: bool(process.progress) and process.progress[-1][1] >= events, deadline_s, run
            )
            found = figure(subject.name, process, process.progress)
        machine.delete_topics(self.server.address, [f"{run}-sessions"])
        return found

    def _run_ebbtide(self, subject: Subject, options: Options, deadline_s: float) -> Run:
        names = create_own_topics(self.server.address, options.run, self.shape.partitions)
        with (
            reading(self.server.address, [f"{options.run}-ingest"], self.shape.partitions) as reader,
            Process(subject.module, options, dict(subject.env)) as process,
        ):
            ingest = Ingest(reader, INPUT_NAMES)
            # As whoever replays does it: time goes by the events then, though some topics have none.
            tick(self.server.address, f"{options.run}-ticks", self.shape.partitions, self.workload.last_ms)
            process.wait(lambda: ingest.read() >= options.events, deadline_s, options.run)
            found = replace(figure(subject.name, process, ingest.progress), batches=ingest.batches)
            applied = sum(counts["applied"] for counts in ingest.counts.values())
            if applied != options.events:
                raise RunFailed(f"{options.run}: applied {applied} of {options.events} events")
        machine.delete_topics(self.server.address, names)
        return found


def create_own_topics(kafka: str, run: str, partitions: int) -> list[str]:
    """The topics that a customers worker of the run ``run`` needs beside its inputs."""
    own = {f"{run}-{t.name}": t.config() for t in topics.ALL if t not in topics.INPUTS}
    machine.create_topics(kafka, own, partitions)
    return list(own)


def measure(
    server: machine.Server, shape: Shape, subjects: Sequence[Subject], runs: int, folder: Path
) -> dict[str, Any]:
    """All runs of all subjects on one broker, as figures to keep."""
    bench = Bench(server, shape, folder)
    workload = bench.workload
    print(
        f"\n{server.what}: {shape.events:,} events of {workload.mean_bytes:.0f} bytes,"
        f" {shape.customers:,} customers, {workload.sessions:,} sessions ({workload.converted:,} converted)"
        f" in {shape.span_h:g} h of event time, {shape.partitions} partitions a topic;"
        f" loaded in {bench.load_s:.1f} s",
        flush=True,
    )
    found: dict[str, list[Run]] = {subject.name: [] for subject in subjects}
    for number in range(runs):
        for subject in subjects:
            load_average = machine.load_average()
            try:
                run = bench.run(subject)
            except RunFailed as exc:
                print(f"  run {number + 1} {subject.name}: FAILED: {exc}", flush=True)
                continue
            found[subject.name].append(run)
            print(
                f"  run {number + 1} {subject.name:15} {run.rate:>9,.0f} events/s"
                f" {run.cpu_us:>7.2f} µs of CPU an event  {run.events:>7,} events in {run.seconds:5.1f} s,"
                f" peak {run.peak_mb:.0f} MB"
                f"  (load before: {load_average:.1f})",
                flush=True,
            )
    ours = next((run for run in found.get("ebbtide", [])), None)
    return {
        "broker": server.what,
        "workload": {
            **msgspec.to_builtins(shape),
            "mean_bytes": round(workload.mean_bytes, 1),
            "sessions": workload.sessions,
            "converted": workload.converted,
            "by_topic": workload.by_topic,
            "events_per_customer_and_batch": round(workload.per_customer_and_batch(ours.batches), 2)
            if ours
            else None,
            "events_per_batch": round(sum(end - first for *_, first, end in ours.batches) / len(ours.batches))
            if ours
            else None,
        },
        "subjects": {name: _figures(each) for name, each in found.items() if each},
    }


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    rates, cpu = [run.rate for run in runs], [run.cpu_us for run in runs]
    return {
        "runs": len(runs),
        "events": runs[0].events,
        "events_per_s": [round(rate) for rate in rates],
        "median": round(median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
        "cpu_us_per_event": [round(each, 2) for each in cpu],
        "cpu_us_median": round(median(cpu), 2),
        "peak_mb": round(max(run.peak_mb for run in runs)),
    }


def brokers(wanted: str) -> list[str]:
    """The brokers of ``--broker``, without Kafka where it cannot run."""
    names = ["embedded", "kafka"] if wanted == "both" else [wanted]
    reason = machine.why_no_kafka() if "kafka" in names else None
    if reason is not None:
        if wanted == "kafka":
            raise SystemExit(f"Apache Kafka cannot run here: {reason}")
        print(f"without Apache Kafka: {reason}", flush=True)
        names.remove("kafka")
    return names


def keep(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help=f"some of {','.join(SUBJECTS)}")
    parser.add_argument("--broker", default="both", choices=["embedded", "kafka", "both"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shape", default="interleaved", choices=list(SHAPES))
    parser.add_argument("--events", type=int, help="instead of the shape's; its span shrinks with it")
    parser.add_argument("--customers", type=int, help="instead of the shape's")
    parser.add_argument("--keep", type=Path, help="write the figures as JSON to this file")
    args = parser.parse_args()
    from tests.benchmarks import report  # it takes the subjects' titles and targets from here

    unknown = set(args.subjects.split(",")) - set(SUBJECTS)
    if unknown:
        raise SystemExit(f"--subjects takes some of {', '.join(SUBJECTS)}, not {', '.join(sorted(unknown))}")
    shape = SHAPES[args.shape]
    if args.events:
        shape = replace(shape, events=args.events, span_h=shape.span_h * args.events / shape.events)
    if args.customers:
        shape = replace(shape, customers=args.customers)
    subjects = [SUBJECTS[name] for name in args.subjects.split(",")]
    machine.stay_off_the_subject_core()
    results = []
    for name in brokers(args.broker):
        with machine.broker(name) as server, tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as folder:
            results.append(measure(server, shape, subjects, args.runs, Path(folder)))
            print("\n" + report.throughput(results[-1]), flush=True)
    if args.keep:
        keep(args.keep, {"machine": machine.describe(), "throughput": results})


if __name__ == "__main__":
    sys.exit(main())
