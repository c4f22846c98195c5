"""Did a recipe gain enough and keep enough? The target, and what each recipe and run gained and lost by it.

The records of a recipe are a pair here: that of 04 (``forgetting``), then that of 03 (``comparison``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

KEPT_FROM = ("BIOSSES", "SciFact", "NFCorpus")  # benchmarks of 04 that an adapter should not lose on; MedQuAD is in 03
P = 0.05  # a gain counts below it, after Holm's correction
GAIN, LOSS = 0.04, 0.005  # the target: MRR gained at least, main score lost at most on any benchmark


def compared(results: Mapping[str, Mapping], recipes: Iterable[str]) -> dict[str, tuple[Mapping, Mapping]]:
    """Return the records of 04 and of 03 for each recipe that both have compared with the base."""
    asked = results["forgetting"]
    return {r: (asked[r], results["comparison"][r]) for r in recipes if r in asked and asked[r]["status"] == "run"}


def headline(comparison: Mapping[str, Any]) -> str:
    """Return the task whose gain counts: held-out cardiology definitions where there are any, else the first one asked."""
    return next(t for t in ("definition_cardiology", *comparison["counts"]) if t in comparison["metrics"])


def losses(forgetting: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, float]:
    """Return what a recipe's mean lost on each benchmark that it should keep: base minus tuned, negative for a gain.

    A profile without those benchmarks is judged by the tasks it has.
    """
    asked, kept = (
        {task: -m["difference"] for task, m in record["metrics"].items()} for record in (comparison, forgetting)
    )
    lost = {task: loss for task, loss in asked.items() if "medquad" in task}
    return lost | {task: loss for task, loss in kept.items() if task in KEPT_FROM} or kept


def run_losses(results: Mapping[str, Mapping], run: str, base: str, tasks: Iterable[str]) -> dict[str, float]:
    """Return what one run lost on each task, base minus tuned: MRR for tasks of 03, the main score for those of 04."""
    lost = {}
    for task in tasks:
        of_03 = task in results["retrieval"][base]["metrics"]
        kind, metric = ("retrieval", "mrr") if of_03 else ("mteb", "main_score")
        before, after = (results[kind][model]["metrics"][task][metric] for model in (base, run))
        lost[task] = before - after
    return lost


def points(results: Mapping[str, Mapping], pairs: Mapping[str, tuple[Mapping, Mapping]], base: str) -> pl.DataFrame:
    """Return gain and worst loss of each recipe's mean, and of each run, for the frontier.

    Args:
        results: measurement to model to record; ``retrieval`` and ``mteb`` are read.
        pairs: of ``compared``.
        base: the model they started from.

    Returns:
        ``name``, ``gain`` (MRR), ``loss`` (main score of the benchmark that lost most; MRR for MedQuAD).
    """
    rows = []
    for recipe, (forgetting, comparison) in pairs.items():
        task, lost = headline(comparison), losses(forgetting, comparison)
        rows.append((f"{recipe}, mean", comparison["metrics"][task]["difference"], max(lost.values())))
        for run in forgetting["params"]["runs"]:
            gain = -run_losses(results, run, base, [task])[task]
            rows.append((run, gain, max(run_losses(results, run, base, lost).values())))
    return pl.DataFrame(rows, schema={"name": pl.String, "gain": pl.Float64, "loss": pl.Float64}, orient="row")


def judge(
    results: Mapping[str, Mapping], forgetting: Mapping[str, Any], comparison: Mapping[str, Any]
) -> dict[str, Any]:
    """Return whether a recipe reaches the target, with the numbers it is judged by.

    The gain is the recipe's: the mean of at least three seeds, Holm p below 0.05. The losses are those of one adapter, the
    run that lost least on its worst benchmark; the mean's worst loss stands beside it.

    Args:
        results: measurement to model to record; ``retrieval`` and ``mteb`` are read.
        forgetting: the recipe's record of 04.
        comparison: the recipe's record of 03.
    """
    m, base = comparison["metrics"][headline(comparison)], comparison["params"]["base"]
    mean = losses(forgetting, comparison)
    each = {run: run_losses(results, run, base, mean) for run in forgetting["params"]["runs"]}
    adapter = min(each, key=lambda run: max(each[run].values()))
    mean_worst, adapter_worst = (max(lost, key=lost.get) for lost in (mean, each[adapter]))
    adapter_loss, seeds = each[adapter][adapter_worst], len(comparison["params"]["runs"])
    gained = m["difference"] >= GAIN and m["p_holm"] < P and seeds >= 3
    return {
        "gain": m["difference"],
        "p": m["p_holm"],
        "seeds": f"{seeds}, {len(each)}",
        "mean_worst": mean_worst,
        "mean_loss": mean[mean_worst],
        "adapter": adapter,
        "adapter_worst": adapter_worst,
        "adapter_loss": adapter_loss,
        "met": bool(gained and adapter_loss <= LOSS and set(KEPT_FROM) <= set(mean)),
    }
