"""Did a recipe gain enough and keep enough? The target, and what each recipe and run gained and lost by it.

Keeping is a question of non-inferiority: a loss of more than ``MARGIN`` must be ruled out by the interval over texts. Where
the interval is too wide for that at any outcome near zero, the answer is that it cannot be decided with so few texts.

The records of a recipe are a pair here: that of 04 (``forgetting``), then that of 03 (``comparison``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

KEPT_FROM = ("BIOSSES", "SciFact", "NFCorpus")  # benchmarks of 04 that an adapter should not lose on; MedQuAD is in 03
P = 0.05  # a gain counts below it, after Holm's correction
SEEDS = 3  # of a recipe, at least
GAIN, MARGIN = 0.05, 0.005  # the target: MRR gained at least; loss of a score that must be ruled out on every benchmark
KEPT, LOST, UNDECIDED = "yes", "no", "cannot be decided"


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
        ``name``, ``gain`` (MRR), ``loss`` (main score of the benchmark that lost most; MRR for MedQuAD), and of a recipe the ends
        of both intervals over texts: ``gain_low``, ``gain_high``, ``loss_low``, ``loss_high``.
    """
    rows: list[tuple] = []
    for recipe, (forgetting, comparison) in pairs.items():
        task, lost = headline(comparison), losses(forgetting, comparison)
        gained, worst = comparison["metrics"][task], max(lost, key=lost.__getitem__)
        fell = (comparison if worst in comparison["metrics"] else forgetting)["metrics"][worst]
        ends = gained["low"], gained["high"], -fell["high"], -fell["low"]
        rows.append((f"{recipe}, mean", gained["difference"], lost[worst], *ends))
        for run in forgetting["params"]["runs"]:
            gain = -run_losses(results, run, base, [task])[task]
            rows.append((run, gain, max(run_losses(results, run, base, lost).values()), *[None] * 4))
    ends = [f"{side}_{end}" for side in ("gain", "loss") for end in ("low", "high")]
    schema = {"name": pl.String} | dict.fromkeys(["gain", "loss", *ends], pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def decision(m: Mapping[str, float], n: int) -> tuple[str, int]:
    """Return whether a loss of more than ``MARGIN`` is ruled out, and the number of texts at which it could be decided.

    ``yes``: the interval over texts lies above -MARGIN. ``no``: it does not, though its half-width is at most MARGIN, or it
    lies below -MARGIN as a whole. Otherwise it cannot be decided; the half-width shrinks with the root of n.

    Args:
        m: ``low`` and ``high`` of the difference.
        n: queries, or pairs.

    >>> decision({"low": -0.004, "high": 0.02}, 300), decision({"low": -0.01, "high": 0.01}, 300)
    (('yes', 300), ('cannot be decided', 1200))
    """
    half = (m["high"] - m["low"]) / 2
    needed = max(n, math.ceil(n * (half / MARGIN) ** 2 - 1e-9))
    if m["low"] >= -MARGIN:
        return KEPT, n
    return (LOST, n) if half <= MARGIN or m["high"] < -MARGIN else (UNDECIDED, needed)


def judge(forgetting: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a recipe reaches the target, with what it is judged by: means of its seeds, intervals over texts.

    Args:
        forgetting: the recipe's record of 04.
        comparison: the recipe's record of 03.

    Returns:
        ``gain``, ``p``, ``seeds`` (of gain and of benchmarks), ``decisions`` (task to ``decision``), ``verdict``: *met* if the
        gain is there and every loss ruled out, *not met* if the gain is not there or a loss is not ruled out where that can be
        decided, else *cannot be decided*.
    """
    m = comparison["metrics"][headline(comparison)]
    tasks = losses(forgetting, comparison)
    found = {}
    for task in tasks:
        record = comparison if task in comparison["metrics"] else forgetting
        found[task] = decision(record["metrics"][task], size(record["counts"][task]))
    runs = [len(record["params"]["runs"]) for record in (comparison, forgetting)]
    gained = m["difference"] >= GAIN and m["p_holm"] < P and min(runs) >= SEEDS and set(KEPT_FROM) <= set(tasks)
    answers = {answer for answer, _ in found.values()}
    verdict = "not met" if not gained or LOST in answers else "cannot be decided" if UNDECIDED in answers else "met"
    return {"gain": m["difference"], "p": m["p_holm"], "seeds": runs, "decisions": found, "verdict": verdict}


def merges(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> pl.DataFrame:
    """Return what each merged model gains and loses on the development sets, a row a run and share of its adapter.

    Args:
        curves: run to its curve (``changes.curve``): ``weight``, the base's 0 among them, ``corpus_dev_mrr``, and a score a set.

    Returns:
        ``run``, ``weight``, ``corpus_dev_mrr``, ``gain`` (MRR over the base) and ``worst_loss``, base less this on the other set
        that lost most.
    """
    rows = []
    for run, curve in curves.items():
        first = curve["weight"].index(0)
        own, others = curve["corpus_dev_mrr"], [v for k, v in curve.items() if k not in ("weight", "corpus_dev_mrr")]
        for i, weight in enumerate(curve["weight"]):
            lost = max((scores[first] - scores[i] for scores in others), default=0.0)
            rows.append((run, float(weight), own[i], own[i] - own[first], lost))
    return pl.DataFrame(rows, schema=["run", "weight", "corpus_dev_mrr", "gain", "worst_loss"], orient="row")


def choice(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Return the row of ``merges`` with the best definitions among those that lose at most ``MARGIN``; nothing of no curve."""
    kept = merges(curves).filter(pl.col("worst_loss") <= MARGIN) if curves else pl.DataFrame()
    return kept.sort("corpus_dev_mrr", descending=True, maintain_order=True).row(0, named=True) if len(kept) else {}


def size(counts: Any) -> int:
    """Return n of a task: queries, or pairs."""
    return counts if isinstance(counts, int) else counts.get("queries", counts.get("pairs"))
