"""What do our own records measure of the properties that published numbers assert?

The published texts and models cannot be had, so a property is measured on what can: open textbooks and a small model, and for
MIMIC-III, which is credentialed, generated notes, which can show what a method does to a number and never what is true of
patients. Every test goes from records to what was measured, and to ``None`` where a record is missing; what follows is the
rule's to say (``properties``). ``TESTS`` has them all, by the names that properties give.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from scipy import stats

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # measurement, model, record; as ``records.load`` gives them
RETRIEVAL, BENCHMARKS, TRAINING, NOTES = "executed/03_retrieval", "executed/04_mteb", "executed/06_report", "notes"
DOMAIN = "specialty"  # the page of the experiment on specialty and format
HEADLINE = "definition_cardiology"  # the task of 03 that stands for the paper's retrieval of paraphrases
OF_CORPUS = "CorpusDefinitions"  # the task of 04 that is no benchmark of others
ENDS = "interval from the ends of "  # of several intervals: it is wider than one
RECALL = ("recall_at_10", "recall_at_10_low", "recall_at_10_high")


@dataclass(frozen=True)
class Measured:
    """A difference with its interval, if it has one, and what it rests on.

    ``n`` counts ``of``; ``groups`` are the documents, patients or the like that they come from, as far as recorded. ``said``
    are the two numbers of the difference, ``page`` is where the book shows them, ``interval`` says of which kind it is.
    """

    difference: float
    low: float | None
    high: float | None
    seeds: int
    n: Any
    of: str
    groups: Any = None
    grouped: str = "documents"
    said: str = ""
    page: str = RETRIEVAL
    interval: str = "95 %"


def metrics(results: Results, measurement: str, model: str) -> Mapping[str, Any] | None:
    """Return the metrics of a record, or ``None`` if there is no such record or it was not run."""
    record = results.get(measurement, {}).get(model)
    return record["metrics"] if record and record.get("status") == "run" else None


def recipe(results: Results) -> str:
    """Return the recipe that is told of: the papers' own, ``tuned``, or without it the first that was compared with the base."""
    compared = [name for name in results.get("comparison", {}) if metrics(results, "comparison", name)]
    return "tuned" if "tuned" in compared else next(iter(compared), "tuned")


def named(results: Results) -> str:
    """Return words that name the recipe told of where it is not the papers' own."""
    return "" if recipe(results) == "tuned" else f"; recipe {recipe(results)}"


def contrast(results: Results, model: str, name: str) -> Measured | None:
    """Return a contrast of the experiment on specialty and format; its seeds are those of the arm that has fewest."""
    found = ((metrics(results, "domain", model) or {}).get("contrasts") or {}).get(name)
    if not found:
        return None
    members = results["domain"][model]["params"]["members"]
    seeds = min(len(runs) for arm, runs in members.items() if arm != "base")
    counted = seeds, found["queries"], "definitions", found["documents"]
    return Measured(found["difference"], found["low"], found["high"], *counted, page=DOMAIN)


def of_medembed(results: Results, model: str, part: str, task: str = "definitions") -> Measured | None:
    """Return a difference of the MedEmbed study on one of its tasks; its seeds are those of the recipe that has fewest."""
    found = ((metrics(results, "medembed", model) or {}).get(part) or {}).get(task)
    if not found:
        return None
    seeds = min(map(len, results["medembed"][model]["params"]["members"].values()))
    counted = seeds, found["queries"], "definitions" if task == "definitions" else "questions", found["documents"]
    return Measured(found["difference"], found["low"], found["high"], *counted, page="medembed")


def of_merges(results: Results) -> Measured | None:
    """Return what the merge chosen on dev gains over plain tuning; no interval where plain tuning itself was chosen."""
    record = results.get("medembed", {}).get("merges")
    if not record or record["params"]["chosen"] != "none":
        return of_medembed(results, "merges", "chosen_less_none")
    counts = [of for task, of in record["counts"].items() if task.startswith("definition")]
    n, documents = (sum(of[key] for of in counts) for key in ("queries", "documents"))
    seeds = min(map(len, record["params"]["members"].values()))
    words = "plain tuning was chosen, no merge"
    return Measured(0.0, None, None, seeds, n, "definitions", documents, said=words, page="medembed")


def in_domain_gain(results: Results) -> Measured | None:
    """Return the paired difference of the seeds' mean on held-out cardiology definitions."""
    gain = (metrics(results, "comparison", recipe(results)) or {}).get(HEADLINE)
    if not gain:
        return None
    record = results["comparison"][recipe(results)]
    words = (metrics(results, "retrieval", "bm25") or {}).get(HEADLINE)
    floor = f"; BM25, words alone, {words['mrr']:.3f}" if words else ""
    return Measured(
        *(gain["difference"], gain["low"], gain["high"], len(record["params"]["runs"])),
        *(record["counts"][HEADLINE], "definitions", documents(results)),
        said=f"base {gain['base_mrr']:.3f}, tuned {gain['tuned_mrr']:.3f}{floor}{named(results)}",
    )


def documents(results: Results, task: str = HEADLINE) -> int | None:
    """Return how many documents the queries of a task come from, if the base's record says so."""
    base = (results.get("comparison", {}).get(recipe(results)) or {}).get("params", {}).get("base")
    return (results.get("retrieval", {}).get(base) or {"counts": {}})["counts"].get(task, {}).get("documents")


def benchmarks_kept(results: Results) -> Measured | None:
    """Return the change of the benchmark that falls most; the others are named."""
    changes = {t: m for t, m in (metrics(results, "forgetting", recipe(results)) or {}).items() if t != OF_CORPUS}
    if not changes:
        return None
    record = results["forgetting"][recipe(results)]
    (task, worst), *others = sorted(changes.items(), key=lambda item: item[1]["difference"])
    counts = record["counts"][task]
    n = counts if not isinstance(counts, Mapping) else counts.get("queries", counts.get("pairs"))
    said = f"{task} {worst['base']:.3f} to {worst['tuned']:.3f}"
    said += "".join(f"; {name} {m['difference']:+.3f}" for name, m in others) + named(results)
    ends = worst["difference"], worst["low"], worst["high"]
    return Measured(*ends, len(record["params"]["runs"]), n, f"queries of {task}", said=said, page=BENCHMARKS)


def separation_gain(results: Results) -> Measured | None:
    """Return the change of separation on our own minimal pairs; its interval is made of the ends of both."""
    found = similarities(results)
    if not found:
        return None
    base, tuned, n = found
    ends = _apart(base, tuned, "separation", "separation_low", "separation_high")
    after = statistics.fmean(m["separation"] for m in tuned)
    said = f"base {base['separation']:.3f}, tuned {after:.3f}{named(results)}"
    return Measured(*ends, len(tuned), n, "pairs of each kind", said=said, interval=f"{ENDS}both")


def negation_insensitive(results: Results) -> Measured | None:
    """Return how much closer contradictions are than paraphrases, on our own minimal pairs; words alone are said beside it."""
    found = similarities(results)
    if not found:
        return None
    base, tuned, n = found
    negated, similar = (statistics.fmean(m[kind] for m in tuned) for kind in ("negated", "similar"))
    ends = [-end(m["negated_gap_" + name] for m in (base, *tuned)) for end, name in ((max, "high"), (min, "low"))]
    said = f"{negated:.3f} and {similar:.3f}; base {base['negated']:.3f} and {base['similar']:.3f}"
    words = (metrics(results, "similarity", "tfidf") or {}).get("separation")
    said += f"; TF-IDF, words alone, {words['negated']:.3f} and {words['similar']:.3f}" if words else ""
    said += named(results)
    counted = len(tuned), n, "pairs of each kind"
    return Measured(negated - similar, *ends, *counted, said=said, interval=f"{ENDS}all models")


def merging_better(results: Results) -> Measured | None:
    """Return what the best merge gains over the whole adapter on the development sets, of the runs of recipe *kept*."""
    trained = results.get("train", {})
    runs = [run for run in results.get("curve", {}) if run in trained and trained[run]["params"]["recipe"] == "kept"]
    curves = [curve for run in runs if (curve := metrics(results, "curve", run))]
    scores = [dict(zip(curve["weight"], _averages(curve), strict=True)) for curve in curves]
    shared = set.intersection(*map(set, scores)) if scores else set()
    means = {weight: statistics.fmean(row[weight] for row in scores) for weight in shared}
    inner = {weight: mean for weight, mean in means.items() if 0 < weight < 1}
    if not inner or 1.0 not in means:
        return None
    best = max(inner, key=inner.__getitem__)
    said = f"best merge {inner[best]:.3f} (share {best:g} of the adapter), whole adapter {means[1.0]:.3f}"
    ends, n = _over_seeds([row[best] - row[1.0] for row in scores]), len(curves[0]) - 1
    return Measured(*ends, len(curves), n, "development tasks", said=said, page=BENCHMARKS)


def infonce_above_triplet(results: Results) -> Measured | None:
    """Return the difference of the two losses over the pairs of cells of our ablation."""
    cells = _ablation(results)
    both = {key[::2] for key in cells if {(key[0], loss, key[2]) for loss in ("infonce", "triplet")} <= set(cells)}
    return _of_cells(cells, [((s, "infonce", r), (s, "triplet", r)) for s, r in sorted(both)], "InfoNCE", "triplets")


def more_data_better(results: Results) -> Measured | None:
    """Return the difference of all data and a quarter of it, over the ranks of our ablation."""
    cells = _ablation(results)
    ranks = sorted({rank for share, loss, rank in cells if loss == "infonce"})
    pairs = [((1.0, "infonce", r), (0.25, "infonce", r)) for r in ranks]
    return _of_cells(cells, pairs, "all", "a quarter")


def note_recall_gain(results: Results) -> Measured | None:
    """Return the gain of the InfoNCE runs over the base in the published form, on patients of the training pairs."""
    found = recalls(results, "seen", "published")
    if found is None:
        return None
    counted, said = _counted(results, "seen"), _both(*found, RECALL[0])
    return _of_notes(results, _apart(*found, *RECALL), counted, said, interval=f"{ENDS}both")


def held_out_below_training(results: Results) -> Measured | None:
    """Return the gain on unseen patients less that on seen ones, query taken out, in two pools that differ in size."""
    pools = [recalls(results, patients, "corrected") for patients in ("seen", "unseen")]
    if None in pools:
        return None
    seen, unseen = (_apart(*pool, *RECALL) for pool in pools)
    low, high = (None if None in pair else pair[0] - pair[1] for pair in ((unseen[1], seen[2]), (unseen[2], seen[1])))
    said = f"gain {unseen[0]:+.3f} on unseen patients, {seen[0]:+.3f} on seen ones"
    ends = unseen[0] - seen[0], low, high
    return _of_notes(results, ends, _counted(results, "unseen"), said, interval=f"{ENDS}all four")


def recall_at_1_capped(results: Results) -> Measured | None:
    """Return the highest recall@1 of our encoders less the ceiling that follows from the definition."""
    measured = [metrics(results, "mimic", model) for model in results.get("mimic", {})]
    encoders = [one["recall"]["seen"]["published"] for one in measured if one and "auroc" in one]
    ceiling = encoders[0]["ceiling_at_1"] if encoders else None  # nor do records of restricted notes have one
    if ceiling is None:
        return None
    best = max(one["recall_at_1"] for one in encoders)
    said = f"{best:.3f} at most of {len(encoders)} encoders, ceiling {ceiling:.3f}"
    return _of_notes(results, (best - ceiling, None, None), _counted(results, "seen"), said)


def soft_loss_above_entropy(results: Results) -> Measured | None:
    """Return the loss at the last step of soft targets less their entropy."""
    names = _note_runs(results, "soft_chapter")
    runs = [m for run in names if (m := metrics(results, "train", run))]
    if not runs:
        return None
    last, floor = (statistics.fmean(m[name] for m in runs) for name in ("loss_last", "loss_floor"))
    counted = results["train"][names[0]]["counts"].get("pairs"), "pairs", None
    said = f"loss {last:.3f}, entropy {floor:.3f}"
    return _of_notes(results, (last - floor, None, None), counted, said, len(runs))


def note_auroc_gain(results: Results) -> Measured | None:
    """Return the gain of the InfoNCE runs over the base in macro-AUROC, in the published split by rows."""
    found = _note_metrics(results, "auroc", "rows")
    if found is None:
        return None
    counted = found[0].get("notes"), "notes", found[0].get("patients")
    ends, said = _apart(*found, "macro", "low", "high"), _both(*found, "macro")
    return _of_notes(results, ends, counted, said, interval=f"{ENDS}both")


def silhouette_difference_negative(results: Results) -> Measured | None:
    """Return the difference of the two silhouettes after training; that of the base is said beside it."""
    found = _note_metrics(results, "silhouette", "delta")
    if found is None:
        return None
    base, runs = found
    ends = statistics.fmean(m["silhouette"] for m in runs), min(m["low"] for m in runs), max(m["high"] for m in runs)
    counted = _note_metrics(results, "silhouette", "category")[0].get("n"), "notes", None
    return _of_notes(results, ends, counted, f"base {base['silhouette']:+.3f}", interval=f"{ENDS}all seeds")


def similarities(results: Results) -> tuple[Mapping, list[Mapping], int] | None:
    """Return the separation metrics of the base, those of the runs of the recipe told of, and n."""
    params = (results.get("comparison", {}).get(recipe(results)) or {}).get("params", {})
    names = [params.get("base", ""), *params.get("runs", [])]
    measured = [(metrics(results, "similarity", name) or {}).get("separation") for name in names]
    if len(measured) < 2 or not all(measured):
        return None
    return measured[0], measured[1:], results["similarity"][names[0]]["counts"].get("all", 0)


def recalls(results: Results, patients: str, form: str) -> tuple[Mapping, list[Mapping]] | None:
    """Return the recall of the next note of the base and of the InfoNCE runs."""
    return _note_metrics(results, "recall", patients, form)


def _apart(base: Mapping, runs: Sequence[Mapping], value: str, low: str, high: str) -> tuple[float, Any, Any]:
    """Return the mean of the runs less the base, and the widest interval that the ends of both allow."""
    difference = statistics.fmean(m[value] for m in runs) - base[value]
    if any(m.get(end) is None for m in (base, *runs) for end in (low, high)):
        return difference, None, None
    return difference, min(m[low] for m in runs) - base[high], max(m[high] for m in runs) - base[low]


def _over_seeds(differences: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean of paired differences, one a seed, and its 95 % interval by Student's t, if there are two or more."""
    mean, n = statistics.fmean(differences), len(differences)
    if n < 2:
        return mean, None, None
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return mean, mean - half, mean + half


def _ablation(results: Results) -> dict[tuple[float, str, int], dict[int, float]]:
    """Return the separation of each cell, by share of the data, loss and rank, and in it by seed."""
    cells: dict[tuple[float, str, int], dict[int, float]] = {}
    for run, record in results.get("train", {}).items():
        p = record["params"]
        score = (metrics(results, "train", run) or {}).get("dev_separation")
        if p.get("grid") == "ablation" and score is not None:
            cells.setdefault((p["data_share"], p["loss"], p["lora_rank"]), {})[p["seed"]] = score
    return cells


def _of_cells(cells: Mapping, pairs: Sequence[tuple], *names: str) -> Measured | None:
    """Return the mean difference of pairs of cells over the seeds that every one of them has."""
    if not pairs or any(key not in cells for pair in pairs for key in pair):
        return None
    seeds = sorted(set.intersection(*(set(cells[key]) for pair in pairs for key in pair)))
    a, b = ([statistics.fmean(cells[pair[i]][seed] for pair in pairs) for seed in seeds] for i in (0, 1))
    if not seeds:
        return None
    ends = _over_seeds([x - y for x, y in zip(a, b, strict=True)])
    said = f"{names[0]} {statistics.fmean(a):.3f}, {names[1]} {statistics.fmean(b):.3f}"
    return Measured(*ends, len(seeds), len(pairs), "pairs of cells", said=said, page=TRAINING)


def _averages(curve: Mapping[str, list[float]]) -> list[float]:
    return [statistics.fmean(point) for point in zip(*(v for k, v in curve.items() if k != "weight"), strict=True)]


def _note_runs(results: Results, loss: str) -> Sequence[str]:
    """Return the runs that were trained on pairs of notes with a loss."""
    trained = results.get("train", {})
    params = {run: trained[run]["params"] for run in results.get("mimic", {}) if run in trained}
    return [run for run, p in params.items() if p["loss"] == loss and "temporal" in p["pairs"]]


def _note_metrics(results: Results, *keys: str) -> tuple[Mapping, list[Mapping]] | None:
    """Return what records of notes hold at some keys: the base's, and that of every InfoNCE run."""
    base = next((r["params"]["base"] for r in results.get("mimic", {}).values() if r.get("status") == "run"), None)
    runs = _note_runs(results, "infonce")
    measured: list[Any] = [metrics(results, "mimic", model) for model in (base, *runs)] if base else []
    if not runs or not measured or not all(measured):
        return None
    for key in keys:
        measured = [m[key] for m in measured]
    return measured[0], measured[1:]


def _counted(results: Results, patients: str) -> tuple[Any, str, Any]:
    """Return how many queries of how many patients recall has."""
    counts = next(iter(results["mimic"].values()))["counts"].get(patients, {})
    return counts.get("queries"), "queries", counts.get("patients")


def _both(base: Mapping, runs: Sequence[Mapping], value: str) -> str:
    return f"base {base[value]:.3f}, InfoNCE {statistics.fmean(m[value] for m in runs):.3f}"


def _of_notes(
    results: Results, ends: tuple, counted: tuple[Any, str, Any], said: str, seeds: int = 0, interval: str = ""
) -> Measured:
    """Return what was measured on notes; it says whether they are generated."""
    generated = any(r["params"].get("generated_notes") for r in results.get("mimic", {}).values())
    said += "; generated notes" * generated
    return Measured(*ends, seeds or len(_note_runs(results, "infonce")), *counted, "patients", said, NOTES, interval)


TESTS: dict[str, Callable[[Results], Measured | None]] = {
    test.__name__: test
    for test in (
        *(in_domain_gain, benchmarks_kept, separation_gain, negation_insensitive, merging_better),
        *(infonce_above_triplet, more_data_better, note_recall_gain, held_out_below_training, recall_at_1_capped),
        *(soft_loss_above_entropy, note_auroc_gain, silhouette_difference_negative),
    )
} | {
    "specialty_helps": partial(contrast, model="folds", name="specialty"),
    "format_helps": partial(contrast, model="folds", name="format"),
    "format_more_than_specialty": partial(contrast, model="folds", name="format_less_specialty"),
    "specialty_interaction": partial(contrast, model="matrix", name="interaction"),
    "mined_negatives_help": partial(of_medembed, model="recipes", part="chosen_less_none"),
    "small_gains_more": partial(of_medembed, model="sizes", part="smallest_less_largest"),
    "written_queries_help": partial(of_medembed, model="recipes", part="query_less_none", task="medquad"),
    "merging_helps": of_merges,
    "late_interaction_finds_more": partial(of_medembed, model="late", part="late_less_none"),
}
