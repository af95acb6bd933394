"""Figures as Markdown, and into RESULTS.md between its marks: ``python -m tests.benchmarks.report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from tests.benchmarks.throughput import RESULTS, SUBJECTS

PAGE: Final = Path(__file__).with_name("RESULTS.md")
_BEGIN: Final = "<!-- measured: written by tests.benchmarks.report -->"
_END: Final = "<!-- /measured -->"
_STATE_BYTES: Final = 400
_RECOVERY_PER_S: Final = 100_000
_LATENCY_S: Final = 2.0


def throughput(result: dict[str, Any]) -> str:
    """One broker's and workload's figures."""
    figures, workload = result["subjects"], result["workload"]
    ours = figures.get("ebbtide")
    lines = [
        f"### {result['broker']}, workload *{workload['name']}*",
        "",
        f"{workload['events']:,} events of {workload['mean_bytes']:.0f} bytes,"
        f" {workload['customers']:,} customers, {workload['sessions']:,} sessions in"
        f" {workload['span_h']:g} h of event time, {workload['partitions']} partitions a topic;"
        f" {max(found['runs'] for found in figures.values())} run(s) of each"
        + (
            f"; in Ebbtide's batches of {workload['events_per_batch']:,} events on average a customer has"
            f" {workload['events_per_customer_and_batch']} events."
            if ours
            else "."
        ),
        "",
        "| subject | events/s: median (min – max) | CPU µs an event: median (min – max) | peak MB"
        " | Ebbtide by wall | by CPU | target |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in figures.items():
        subject = SUBJECTS[name]
        cpu = found["cpu_us_per_event"]
        wall_times = cpu_times = wanted = ""
        if ours and name in ("ebbtide-buyers", "ebbtide-all"):
            by_wall = found["median"] / ours["median"]
            wall_times = f"{by_wall:.0%} of it"
            cpu_times = f"{ours['cpu_us_median'] / found['cpu_us_median']:.0%} of it"
            wanted = f"{subject.target:.0%}: {_met(by_wall >= subject.target)}"
            if name == "ebbtide-all" and "quix" in figures:
                ahead = found["median"] / figures["quix"]["median"]
                wanted += f"; ahead of Quix: {_met(ahead > 1)} ({ahead:.2f}×)"
        elif ours and name != "ebbtide":
            raw = name == "raw"
            by_wall = ours["median"] / found["median"]
            by_cpu = found["cpu_us_median"] / ours["cpu_us_median"]
            wall_times = f"{by_wall:.1%}" if raw else f"{by_wall:.1f}×"
            cpu_times = f"{by_cpu:.1%}" if raw else f"{by_cpu:.1f}×"
            goal = f"{subject.target:.0%}" if raw else f"{subject.target:g}×"
            wanted = f"{goal}: {_met(by_wall >= subject.target)}" if subject.target else ""
        lines.append(
            f"| {subject.title} | {found['median']:,} ({found['min']:,} – {found['max']:,}) |"
            f" {found['cpu_us_median']:.2f} ({min(cpu):.2f} – {max(cpu):.2f}) | {found['peak_mb']}"
            f" | {wall_times} | {cpu_times} | {wanted} |"
        )
    return "\n".join(lines)


def figures(results: dict[str, Any]) -> str:
    """State size, recovery and latency, per broker."""
    lines = [
        "### State, recovery, latency",
        "",
        "| figure | broker | median | all runs | target |",
        "|---|---|---:|---|---|",
    ]
    for title, size in (
        ("sessions", results["state_of_sessions"]),
        ("all of it", results["state"]),
    ):
        wanted = f"≤ {_STATE_BYTES}: {_met(size['state_bytes_mean'] <= _STATE_BYTES)}"
        lines.append(
            f"| state of an idle customer, {title}, bytes (p50 {size['state_bytes_median']},"
            f" p99 {size['state_bytes_p99']}) | – | {size['state_bytes_mean']} (mean) |"
            f" {size['customers']:,} customers, {size['sessions_per_customer']} sessions and"
            f" {size['events_per_customer']} events each | {wanted if title == 'sessions' else ''} |"
        )
    for each in results["figures"]:
        lines += [
            _row(each, "recovery, customers/s", "recovery", ["customers_per_s"], _RECOVERY_PER_S, "≥"),
            _row(each, "recovery, CPU µs a customer", "recovery", ["cpu_us_per_customer"]),
            _row(
                each,
                "memory of a recovered customer, resident bytes",
                "recovery",
                ["resident_bytes_per_customer"],
            ),
            _row(
                each,
                "verdict after its deadline, quiet partition, p99 s",
                "latency",
                ["quiet", "p99_s"],
                _LATENCY_S,
            ),
            _row(
                each,
                "the same, deadline passed while the worker was away, from its readiness, p99 s",
                "latency",
                ["after_restart", "since_ready", "p99_s"],
                _LATENCY_S,
            ),
            _row(
                each,
                "the same, from the deadline, p99 s",
                "latency",
                ["after_restart", "since_due", "p99_s"],
            ),
            _row(
                each,
                "from the worker's start to its readiness, s",
                "latency",
                ["after_restart", "restart_to_ready_s"],
            ),
        ]
    return "\n".join(line for line in lines if line)


def _row(
    each: dict[str, Any],
    title: str,
    kind: str,
    path: Sequence[str],
    target: float | None = None,
    sign: str = "≤",
) -> str:
    values = []
    for value in each[kind]:
        for key in path:
            value = value[key]
        values.append(value)
    if not values:
        return ""
    middle = median(values)
    wanted = ""
    if target is not None:
        wanted = f"{sign} {target:,g}: {_met(middle <= target if sign == '≤' else middle >= target)}"
    runs = ", ".join(f"{value:,}" for value in values)
    return f"| {title} | {each['broker'].split(' (')[0]} | {middle:,} | {runs} | {wanted} |"


def _met(yes: bool) -> str:
    return "met" if yes else "**missed**"


def page(results: dict[str, Any]) -> str:
    """All of it."""
    about = results["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in about.items() if name not in _ABOUT)
    load = results.get("load_average")
    parts = [
        f"{about['date']}; {about['processor']}, {about['cores']} cores, {about['memory']} of memory,"
        f" {about['system']}; Python {about['python']}, {versions}. Others at work on the machine before the"
        f" first run (load average): {load}.",
        *(throughput(each) for each in results["throughput"]),
    ]
    if "figures" in results:
        parts.append(figures(results))
    return "\n\n".join(parts)


_ABOUT: Final = ("date", "processor", "cores", "memory", "system", "python")


def write(results: dict[str, Any]) -> None:
    """Put the figures into RESULTS.md, between its marks."""
    text = PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{page(results)}\n\n{_END}{after}")


if __name__ == "__main__":
    write(msgspec.json.decode(RESULTS.read_bytes()))
