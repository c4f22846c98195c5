"""What do our own records say of the property that a published number asserts?

The published texts and models cannot be had, so a property is tested on what can: open textbooks and a small model. One
function a property: from records to whether it holds, our numbers in a sentence, and the page that shows them; ``None``
where a record is missing. The first line of a function's docstring is the property, as the book prints it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # measurement, model, record; as ``records.load`` gives them
Finding = tuple[bool, str, str] | None  # holds, our numbers, page
RETRIEVAL, BENCHMARKS, TRAINING = "executed/03_retrieval", "executed/04_mteb", "executed/06_report"
HEADLINE = "definition_cardiology"  # the task of 03 that stands for the paper's retrieval of paraphrases


def metrics(results: Results, measurement: str, model: str) -> Mapping[str, Any] | None:
    """Return the metrics of a record, or ``None`` if there is no such record or it was not run."""
    record = results.get(measurement, {}).get(model)
    return record["metrics"] if record and record.get("status") == "run" else None


def in_domain_gain(results: Results) -> Finding:
    """Tuning on pairs of the domain raises retrieval in the domain above the base.

    Task: held-out cardiology definitions; the paired difference of the seeds' mean must lie above 0 with its interval.
    """
    found = (metrics(results, "comparison", "tuned") or {}).get(HEADLINE)
    if not found:
        return None
    record = results["comparison"]["tuned"]
    words = (metrics(results, "retrieval", "bm25") or {}).get(HEADLINE)
    floor = f"; BM25, words alone, {words['mrr']:.3f}" if words else ""
    ours = (
        f"{found['difference']:+.3f} MRR on held-out cardiology definitions (95 % {found['low']:+.3f} to {found['high']:+.3f}; "
        f"n = {record['counts'][HEADLINE]}; {len(record['params']['runs'])} seeds): base {found['base_mrr']:.3f}, tuned "
        f"{found['tuned_mrr']:.3f}{floor}"
    )
    return found["low"] > 0, ours, RETRIEVAL


def benchmarks_kept(results: Results) -> Finding:
    """A model tuned on pairs of the domain keeps its scores on general biomedical benchmarks.

    It does if no benchmark is lower than the base with its whole interval.
    """
    found = metrics(results, "forgetting", "tuned")
    if not found:
        return None
    counts = results["forgetting"]["tuned"]["counts"]
    each = "; ".join(
        f"{task} {m['difference']:+.3f} (95 % {m['low']:+.3f} to {m['high']:+.3f}; n = {_size(counts[task])})"
        for task, m in sorted(found.items(), key=lambda item: item[1]["difference"])
    )
    return all(m["high"] >= 0 for m in found.values()), f"{each}: main score, tuned less base", BENCHMARKS


def separation_gain(results: Results) -> Finding:
    """Tuning on pairs of the domain raises the separation score: similar pairs move apart from different ones.

    On our own minimal pairs; the mean of the seeds must lie above the base's interval.
    """
    found = _similarities(results)
    if not found:
        return None
    base, tuned, n = found
    after = statistics.fmean(m["separation"] for m in tuned)
    ours = (
        f"{after - base['separation']:+.3f} separation: base {base['separation']:.3f} (95 % {base['separation_low']:.3f} to "
        f"{base['separation_high']:.3f}), tuned {after:.3f} (n = {n} pairs of each kind; {len(tuned)} seeds)"
    )
    return after > base["separation_high"], ours, RETRIEVAL


def negation_insensitive(results: Results) -> Finding:
    """A tuned model scores contradictions, negated sentences among them, as close as paraphrases or closer.

    On our own minimal pairs, mean of the seeds.
    """
    found = _similarities(results)
    if not found:
        return None
    base, tuned, n = found
    negated, similar = (statistics.fmean(m[kind] for m in tuned) for kind in ("negated", "similar"))
    ours = (
        f"{negated:.3f} mean cosine of contradictions, {similar:.3f} of paraphrases (n = {n} pairs of each kind; {len(tuned)} "
        f"seeds); base {base['negated']:.3f} and {base['similar']:.3f}"
    )
    return negated >= similar, ours, RETRIEVAL


def merging_better(results: Results) -> Finding:
    """A merge of tuned and base weights scores above the tuned model on average over tasks.

    On the development sets of the merge curve; the share of the adapter that does best must be below 1.
    """
    curves = [curve for run in results.get("curve", {}) if (curve := metrics(results, "curve", run))]
    if not curves:
        return None
    scores = [dict(zip(curve["weight"], _averages(curve), strict=True)) for curve in curves]
    means = {weight: statistics.fmean(row[weight] for row in scores) for weight in set.intersection(*map(set, scores))}
    inner = {weight: mean for weight, mean in means.items() if 0 < weight < 1}
    if not inner or 1.0 not in means:
        return None
    best = max(inner, key=inner.__getitem__)
    tasks = len(curves[0]) - 1
    ours = (
        f"{inner[best] - means[1.0]:+.3f} mean score of {tasks} development tasks: best merge {inner[best]:.3f} (share "
        f"{best:g} of the adapter), whole adapter {means[1.0]:.3f} ({len(curves)} run{'s' * (len(curves) > 1)})"
    )
    return inner[best] > means[1.0], ours, BENCHMARKS


def mined_negatives_better(results: Results) -> Finding:
    """Mined hard negatives train a better model than the other pairs of the batch alone.

    On the development definitions, a run of each, the same otherwise.
    """
    found = {run: record for run, record in results.get("train", {}).items() if record.get("status") == "run"}
    mined = next((run for run, r in found.items() if r["params"].get("negatives") == "mined"), None)
    if mined is None:
        return None
    params = found[mined]["params"]
    alike = {key: value for key, value in params.items() if key not in ("negatives", "run")}
    others = {run: {k: v for k, v in r["params"].items() if k in alike} for run, r in found.items()}
    plain = next(
        (run for run, o in others.items() if o == alike and found[run]["params"].get("negatives") == "none"), None
    )
    if plain is None:
        return None
    scores = [found[run]["metrics"]["dev_mrr_best"] for run in (mined, plain)]
    ours = (
        f"{scores[0] - scores[1]:+.3f} MRR of the development definitions: mined {scores[0]:.3f}, none {scores[1]:.3f} "
        "(one run each)"
    )
    return scores[0] > scores[1], ours, TRAINING


def infonce_above_triplet(results: Results) -> Finding:
    """InfoNCE gives a higher separation than the triplet loss at the same share of data and rank.

    In every cell of our ablation, mean of its seeds, by the development definitions.
    """
    cells = _ablation(results)
    both = {key[::2] for key in cells if {(key[0], loss, key[2]) for loss in ("infonce", "triplet")} <= set(cells)}
    if not both:
        return None
    above = sum(cells[share, "infonce", rank] > cells[share, "triplet", rank] for share, rank in both)
    means = [statistics.fmean(v for key, v in cells.items() if key[1] == loss) for loss in ("infonce", "triplet")]
    ours = f"{above} of {len(both)} pairs of cells; mean separation {means[0]:.3f} with InfoNCE, {means[1]:.3f} with triplets"
    return above == len(both), ours, TRAINING


def more_data_better(results: Results) -> Finding:
    """All of the data gives a higher separation than a quarter of it, with InfoNCE.

    At every rank of our ablation, mean of its seeds, by the development definitions.
    """
    cells = _ablation(results)
    ranks = sorted({rank for share, loss, rank in cells if loss == "infonce"})
    rows = [(cells.get((0.25, "infonce", r)), cells.get((1.0, "infonce", r))) for r in ranks]
    if not rows or any(x is None for row in rows for x in row):
        return None
    ours = "; ".join(
        f"{b / a:.2f} times at rank {r} ({a:.3f} to {b:.3f})" for r, (a, b) in zip(ranks, rows, strict=True)
    )
    return all(b > a for a, b in rows), ours, TRAINING


PROPERTIES: dict[str, Callable[[Results], Finding]] = {
    function.__name__: function
    for function in (
        *(
            in_domain_gain,
            benchmarks_kept,
            separation_gain,
            negation_insensitive,
            merging_better,
            mined_negatives_better,
        ),
        *(infonce_above_triplet, more_data_better),
    )
}


def _runs(results: Results) -> list[str]:
    """Return the runs of the papers' recipe: those that comparison.tuned names."""
    record = results.get("comparison", {}).get("tuned") or {}
    return list(record.get("params", {}).get("runs", []))


def _similarities(results: Results) -> tuple[Mapping, list[Mapping], int] | None:
    """Return the separation metrics of the base, those of the tuned runs, and n."""
    record = results.get("comparison", {}).get("tuned") or {}
    names = [record.get("params", {}).get("base", ""), *_runs(results)]
    found = [(metrics(results, "similarity", name) or {}).get("separation") for name in names]
    if len(found) < 2 or not all(found):
        return None
    return found[0], found[1:], results["similarity"][names[0]]["counts"].get("all", 0)


def _ablation(results: Results) -> dict[tuple[float, str, int], float]:
    """Return the mean separation of each cell, by share of the data, loss and rank."""
    cells: dict[tuple[float, str, int], list[float]] = {}
    for run, record in results.get("train", {}).items():
        p = record["params"]
        score = (metrics(results, "train", run) or {}).get("dev_separation")
        if p.get("grid") == "ablation" and score is not None:
            cells.setdefault((p["data_share"], p["loss"], p["lora_rank"]), []).append(score)
    return {key: statistics.fmean(scores) for key, scores in cells.items()}


def _averages(curve: Mapping[str, list[float]]) -> list[float]:
    return [statistics.fmean(point) for point in zip(*(v for k, v in curve.items() if k != "weight"), strict=True)]


def _size(counts: Any) -> Any:
    return counts if not isinstance(counts, Mapping) else counts.get("queries", counts.get("pairs"))
