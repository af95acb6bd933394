"""Backtest of the lapse model on CDNOW and Online Retail, and the time a fit takes: ``make bench-lapse``.

At each cut date every predictor is fitted on what was known by then, says for each buyer how likely a
purchase in the next days is, and is held against what happened. ``lapse_leads`` says how much earlier than
fixed rules the lost are flagged.

No parameter has seen anything after its cut. The form of the calibration (which features) and the default
flag were chosen with these tables in sight, so small differences between predictors prove little.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from streams.domain.backtest import score
from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric
from streams.domain.lapse_fit import calibrate, fit
from tests.benchmarks import lapse_leads, machine
from tests.benchmarks.lapse_leads import leads
from tests.benchmarks.lapse_predictors import Task, lifetimes_bg_nbd, ours, recency
from tests.domain.purchases import cdnow_master, cdnow_sample, online_retail
from tests.domain.simulated import simulate

RESULTS: Final = Path(__file__).parent / "results" / "lapse.json"
SPANS: Final = (90, 273)  # days; the latter are 39 weeks
CUTS: Final = {
    "CDNOW master": ("1997-06-30", "1997-09-30", "1997-12-31", "1998-03-31"),
    "Online Retail": ("2011-03-01", "2011-05-01", "2011-07-01", "2011-09-10"),
}
THRESHOLDS: Final = (0.2, 0.35, 0.5)  # a buyer is flagged when a return is less likely than this
SHOWN: Final = 0.5
SEED: Final = 20110901


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--skip-times", action="store_true", help="leave out the fits that are only timed")
    args = parser.parse_args()
    results: dict[str, Any] = {
        "machine": machine.describe() | {name: version(name) for name in ("numpy", "scipy", "Lifetimes")},
        "seed": SEED,
        "thresholds": THRESHOLDS,
        "backtests": [],
        "skipped": [],
    }
    for load in (cdnow_master, online_retail):
        purchases = load()
        if isinstance(purchases, str):
            results["skipped"].append(purchases)
            print(f"skipped: {purchases}")
            continue
        for span in SPANS:
            for cut in (date.fromisoformat(d).toordinal() for d in CUTS[purchases.name]):
                if cut + span <= purchases.last_day:
                    results["backtests"].append(backtest(Task(purchases, cut, span)))
                    print("\n" + table(results["backtests"][-1]), flush=True)
    results["summary"] = summary(results["backtests"])
    print("\n" + summary_table(results["summary"]))
    if not args.skip_times:
        results["fit_seconds"] = times()
        print("\n" + "\n".join(f"fit of {what}: {s:.2f} s" for what, s in results["fit_seconds"].items()))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def backtest(task: Task) -> dict[str, Any]:
    """Every predictor at one cut."""
    model = ours(task)
    seen = task.outcome()
    known = seen.buyers
    lt_alive, lt_returns, penalty = lifetimes_bg_nbd(task)
    said = {
        "ebbtide": model.calibrated(known),
        "ebbtide, uncalibrated": model.plain(known),
        "ebbtide, P(alive)": model.alive(known),
        "lifetimes BG/NBD, P(alive)": lt_alive,
        "lifetimes BG/NBD, 1-exp(-E)": lt_returns,
        "recency rule": recency(task),
    }
    p, c = model.fit.parameters, model.comeback
    return {
        "data": task.purchases.name,
        "span": task.within,
        "cut": date.fromordinal(task.cut).isoformat(),
        "learnt_from": date.fromordinal(task.earlier).isoformat(),
        "buyers": known.total,
        "returned": round(float(seen.returned.sum() / known.total), 4),
        "model": {
            "name": type(p).__name__,
            "parameters": [round(v, 5) for v in (p.r, p.alpha, p.a, p.b)],
            "interior": model.fit.converged,
            "calibration": [round(v, 4) for v in (c.intercept, c.slope, c.loyalty)],
        },
        "lifetimes_penalty": penalty,
        "predictors": {name: score(p, seen, THRESHOLDS) for name, p in said.items()},
        "leads": leads(task, model, seen),
    }


def summary(backtests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the cuts of a data set and span."""
    rows = []
    for key in dict.fromkeys((b["data"], b["span"]) for b in backtests):
        of = [b for b in backtests if (b["data"], b["span"]) == key]
        rows.append(
            {
                "data": key[0],
                "span": key[1],
                "cuts": len(of),
                "predictors": {
                    name: {
                        what: round(float(np.mean([b["predictors"][name][what] for b in of])), 4)
                        for what in ("auc", "brier")
                    }
                    for name in of[0]["predictors"]
                },
            }
        )
    return rows


def times() -> dict[str, float]:
    """Seconds of a fit, grouping included."""
    found: dict[str, float] = {}
    sample = cdnow_sample()
    if not isinstance(sample, str):
        known = sample.histories(date(1997, 9, 30).toordinal())
        began = time.perf_counter()
        fit(known.buyers, BetaGeometric)
        found["CDNOW, 2,357 buyers, BG/NBD"] = round(time.perf_counter() - began, 3)
    model = ModifiedBetaGeometric(0.9, 45.0, 0.8, 2.0)
    million = simulate(model, 1_000_000, 730, SEED, whole_days=True)
    for kind in (BetaGeometric, ModifiedBetaGeometric):
        began = time.perf_counter()
        fit(million.buyers, kind)
        found[f"1,000,000 simulated buyers, {kind.__name__}"] = round(time.perf_counter() - began, 3)
    buyers = million.buyers
    came = np.random.default_rng(SEED).binomial(buyers.count.astype(int), 0.3)
    began = time.perf_counter()
    calibrate(model, 90.0, model, buyers, came, 90.0)
    found["1,000,000 simulated buyers, calibration"] = round(time.perf_counter() - began, 3)
    return found


def table(result: dict[str, Any]) -> str:
    model = result["model"]
    lines = [
        f"{result['data']}, {result['cut']}, next {result['span']} days: {result['buyers']:,} buyers, "
        f"{result['returned']:.1%} return; {model['name']} {model['parameters']}",
        f"  {'':30} {'AUC':>7} {'Brier':>7} {f'P<{SHOWN}':>8} {'precision':>9} {'recall':>7}",
    ]
    for name, s in result["predictors"].items():
        f = s["flags"][str(SHOWN)]
        precision = "-" if f["precision"] is None else f"{f['precision']:.3f}"
        lines.append(
            f"  {name:30} {s['auc']:7.4f} {s['brier']:7.4f}"
            f" {f['flagged']:8,} {precision:>9} {f['recall']:7.3f}"
        )
    lines += [lapse_leads.line(lead) for lead in result["leads"]]
    return "\n".join(lines)


def summary_table(rows: list[dict[str, Any]]) -> str:
    lines = ["means over the cuts"]
    for row in rows:
        lines.append(f"  {row['data']}, {row['span']} days, {row['cuts']} cuts")
        lines += [
            f"    {n:30} AUC {s['auc']:.4f}  Brier {s['brier']:.4f}" for n, s in row["predictors"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
