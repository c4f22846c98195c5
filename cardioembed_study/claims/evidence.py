"""What do our own records say of the property that a published number asserts?

The published texts and models cannot be had, so a property is tested on what can: open textbooks and a small model, and for
MIMIC-III, which is credentialed, generated notes, which can show what a method does to a number and never what is true of
patients. Every test goes from records to whether the property holds, our numbers in a sentence, and the page that shows
them; ``None`` where a record is missing. ``PROPERTIES`` has them all, by the names that claims give in ``tests``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # measurement, model, record; as ``records.load`` gives them
Finding = tuple[bool, str, str] | None  # holds, our numbers, page
RETRIEVAL, BENCHMARKS, TRAINING, NOTES = "executed/03_retrieval", "executed/04_mteb", "executed/06_report", "notes"
HEADLINE = "definition_cardiology"  # the task of 03 that stands for the paper's retrieval of paraphrases
NEAR = 0.5  # points between a model's official score and ours that we call the same
OPEN_TEXTS, GENERATED_NOTES = "open texts", "generated notes"


@dataclass(frozen=True)
class Property:
    """What a published number asserts.

    ``sentence`` is printed with every verdict, ``test`` returns a finding from records, ``texts`` says what it is tested on.
    ``official`` is the id of a claim whose value the test takes too.
    """

    sentence: str
    test: Callable[..., Finding]
    texts: str = OPEN_TEXTS
    official: str = ""


def metrics(results: Results, measurement: str, model: str) -> Mapping[str, Any] | None:
    """Return the metrics of a record, or ``None`` if there is no such record or it was not run."""
    record = results.get(measurement, {}).get(model)
    return record["metrics"] if record and record.get("status") == "run" else None


def in_domain_gain(results: Results) -> Finding:
    """Test held-out cardiology definitions: the paired difference of the seeds' mean lies above 0 with its interval."""
    gain = (metrics(results, "comparison", "tuned") or {}).get(HEADLINE)
    if not gain:
        return None
    record = results["comparison"]["tuned"]
    words = (metrics(results, "retrieval", "bm25") or {}).get(HEADLINE)
    floor = f"; BM25, words alone, {words['mrr']:.3f}" if words else ""
    ours = (
        f"{gain['difference']:+.3f} MRR on held-out cardiology definitions (95 % {gain['low']:+.3f} to {gain['high']:+.3f}; "
        f"n = {record['counts'][HEADLINE]}; {len(record['params']['runs'])} seeds): base {gain['base_mrr']:.3f}, tuned "
        f"{gain['tuned_mrr']:.3f}{floor}"
    )
    return gain["low"] > 0, ours, RETRIEVAL


def benchmarks_kept(results: Results) -> Finding:
    """Test that no benchmark is lower than the base with its whole interval."""
    changes = metrics(results, "forgetting", "tuned")
    if not changes:
        return None
    counts = results["forgetting"]["tuned"]["counts"]
    each = "; ".join(
        f"{task} {m['difference']:+.3f} (95 % {m['low']:+.3f} to {m['high']:+.3f}; n = {_size(counts[task])})"
        for task, m in sorted(changes.items(), key=lambda item: item[1]["difference"])
    )
    return all(m["high"] >= 0 for m in changes.values()), f"{each}: main score, tuned less base", BENCHMARKS


def separation_gain(results: Results) -> Finding:
    """Test our own minimal pairs: the mean of the seeds lies above the base's interval."""
    similarities = _similarities(results)
    if not similarities:
        return None
    base, tuned, n = similarities
    after = statistics.fmean(m["separation"] for m in tuned)
    ours = (
        f"{after - base['separation']:+.3f} separation: base {base['separation']:.3f} (95 % {base['separation_low']:.3f} to "
        f"{base['separation_high']:.3f}), tuned {after:.3f} (n = {n} pairs of each kind; {len(tuned)} seeds)"
    )
    return after > base["separation_high"], ours, RETRIEVAL


def negation_insensitive(results: Results) -> Finding:
    """Test our own minimal pairs, mean of the seeds."""
    similarities = _similarities(results)
    if not similarities:
        return None
    base, tuned, n = similarities
    negated, similar = (statistics.fmean(m[kind] for m in tuned) for kind in ("negated", "similar"))
    ours = (
        f"{negated:.3f} mean cosine of contradictions, {similar:.3f} of paraphrases (n = {n} pairs of each kind; {len(tuned)} "
        f"seeds); base {base['negated']:.3f} and {base['similar']:.3f}"
    )
    return negated >= similar, ours, RETRIEVAL


def merging_better(results: Results) -> Finding:
    """Test the development sets of the merge curve: the share of the adapter that does best is below 1."""
    curves = [curve for run in results.get("curve", {}) if (curve := metrics(results, "curve", run))]
    if not curves:
        return None
    scores = [dict(zip(curve["weight"], _averages(curve), strict=True)) for curve in curves]
    means = {weight: statistics.fmean(row[weight] for row in scores) for weight in set.intersection(*map(set, scores))}
    inner = {weight: mean for weight, mean in means.items() if 0 < weight < 1}
    if not inner or 1.0 not in means:
        return None
    best = max(inner, key=inner.__getitem__)
    ours = (
        f"{inner[best] - means[1.0]:+.3f} mean score of {len(curves[0]) - 1} development tasks: best merge {inner[best]:.3f} "
        f"(share {best:g} of the adapter), whole adapter {means[1.0]:.3f} ({_runs(len(curves))})"
    )
    return inner[best] > means[1.0], ours, BENCHMARKS


def mined_negatives_better(results: Results) -> Finding:
    """Test the development definitions, a run of each, the same otherwise."""
    trained = {run: record for run, record in results.get("train", {}).items() if record.get("status") == "run"}
    params = {run: {k: v for k, v in record["params"].items() if k != "run"} for run, record in trained.items()}
    mined = next((run for run, p in params.items() if p.get("negatives") == "mined"), None)
    if mined is None:
        return None
    twin = params[mined] | {"negatives": "none"}
    plain = next((run for run, p in params.items() if {k: v for k, v in p.items() if k in twin} == twin), None)
    if plain is None:
        return None
    scores = [trained[run]["metrics"]["dev_mrr_best"] for run in (mined, plain)]
    ours = (
        f"{scores[0] - scores[1]:+.3f} MRR of the development definitions: mined {scores[0]:.3f}, none {scores[1]:.3f} "
        "(one run each)"
    )
    return scores[0] > scores[1], ours, TRAINING


def infonce_above_triplet(results: Results) -> Finding:
    """Test every cell of our ablation, mean of its seeds, by the development definitions."""
    cells = _ablation(results)
    both = {key[::2] for key in cells if {(key[0], loss, key[2]) for loss in ("infonce", "triplet")} <= set(cells)}
    if not both:
        return None
    above = sum(cells[share, "infonce", rank] > cells[share, "triplet", rank] for share, rank in both)
    means = [statistics.fmean(v for key, v in cells.items() if key[1] == loss) for loss in ("infonce", "triplet")]
    ours = f"{above} of {len(both)} pairs of cells; mean separation {means[0]:.3f} with InfoNCE, {means[1]:.3f} with triplets"
    return above == len(both), ours, TRAINING


def more_data_better(results: Results) -> Finding:
    """Test every rank of our ablation, mean of its seeds, by the development definitions."""
    cells = _ablation(results)
    ranks = sorted({rank for share, loss, rank in cells if loss == "infonce"})
    rows = [(cells.get((0.25, "infonce", r)), cells.get((1.0, "infonce", r))) for r in ranks]
    if not rows or any(x is None for row in rows for x in row):
        return None
    ours = "; ".join(
        f"{b / a:.2f} times at rank {r} ({a:.3f} to {b:.3f})" for r, (a, b) in zip(ranks, rows, strict=True)
    )
    return all(b > a for a, b in rows), ours, TRAINING


def as_official(results: Results, official: float, task: str) -> Finding:
    """Test the packaged model's main score: it lies within ``NEAR`` points of the official one, which is in percent."""
    measured = (metrics(results, "mteb", "all-MiniLM-L6-v2") or {}).get(task)
    if not measured:
        return None
    ours = 100 * measured["main_score"]
    interval = f" (95 % {100 * measured['low']:.2f} to {100 * measured['high']:.2f})" if "low" in measured else ""
    said = f"{ours:.2f}{interval}, {ours - official:+.2f} points from the official score"
    return abs(ours - official) <= NEAR, said, BENCHMARKS


def note_recall_gain(results: Results, k: int = 10) -> Finding:
    """Test the published form on patients of the training pairs: the mean of the InfoNCE runs lies above the base."""
    recall = _recall(results, "seen", "published", k)
    if recall is None:
        return None
    base, tuned = recall
    gain = f"{tuned - base:+.1f} points of recall@{k}, seen patients"
    return _of_notes(results, tuned > base, f"{gain}: base {base:.1f} %, InfoNCE {tuned:.1f} %", "infonce")


def held_out_below_training(results: Results, k: int = 10) -> Finding:
    """Test the gain of the InfoNCE runs, query taken out, in two pools that differ in size: the unseen patients' is lower."""
    recalls = [_recall(results, patients, "corrected", k) for patients in ("seen", "unseen")]
    if None in recalls:
        return None
    seen, unseen = (tuned - base for base, tuned in recalls)
    ours = (
        f"{unseen - seen:+.1f} points of gain in recall@{k}: {unseen:+.1f} on unseen patients, {seen:+.1f} on seen ones "
        "(InfoNCE less base)"
    )
    return _of_notes(results, unseen < seen, ours, "infonce")


def recall_at_1_capped(results: Results) -> Finding:
    """Test patients of the training pairs: our encoders show it, no measurement could refute it."""
    measured = [metrics(results, "mimic", model) for model in results.get("mimic", {})]
    encoders = [one["recall"]["seen"] for one in measured if one and "auroc" in one]
    ceiling = (
        encoders[0]["published"]["ceiling_at_1"] if encoders else None
    )  # nor do records of restricted notes have one
    if ceiling is None:
        return None
    best = max(encoders, key=lambda recall: recall["published"]["recall_at_1"])
    published, corrected = (best[form]["recall_at_1"] for form in ("published", "corrected"))
    ours = (
        f"{100 * published:.1f} % at most of {len(encoders)} encoders, ceiling {100 * ceiling:.1f} %; {100 * corrected:.1f} % "
        "with the query taken out"
    )
    return _of_notes(results, published <= ceiling, ours)


def soft_loss_near_zero(results: Results) -> Finding:
    """Test the loss at the last step: it is below half of the targets' entropy."""
    runs = [m for run in _note_runs(results, "soft_chapter") if (m := metrics(results, "train", run))]
    if not runs:
        return None
    last, floor = (statistics.fmean(m[name] for m in runs) for name in ("loss_last", "loss_floor"))
    ours = f"{last:.3f} nats at the last step, entropy of the targets {floor:.3f} ({_runs(len(runs))})"
    return _of_notes(results, last < floor / 2, ours)


def hierarchy_above_infonce(results: Results, k: int = 10) -> Finding:
    """Test at equal steps and with labels at work, as published on the training pairs."""
    recalls = [_recall(results, "seen", "published", k, loss) for loss in ("soft_chapter", "infonce")]
    if None in recalls:
        return None
    (_, soft), (_, plain) = recalls
    gain = f"{soft - plain:+.1f} points of recall@{k}, seen patients"
    return _of_notes(results, soft > plain, f"{gain}: soft_chapter {soft:.1f} %, InfoNCE {plain:.1f} %", "soft_chapter")


def note_auroc_gain(results: Results) -> Finding:
    """Test the mean of the InfoNCE runs: it lies above the base."""
    rows, fair = (_means(results, "auroc", split, "macro") for split in ("rows", "patients"))
    if rows is None or fair is None:
        return None
    ours = (
        f"{rows[1] - rows[0]:+.3f} macro-AUROC by rows (base {rows[0]:.3f}, InfoNCE {rows[1]:.3f}); by patients "
        f"{fair[1] - fair[0]:+.3f} (base {fair[0]:.3f}, InfoNCE {fair[1]:.3f})"
    )
    return _of_notes(results, rows[1] > rows[0], ours)


def silhouette_difference_negative(results: Results) -> Finding:
    """Test every InfoNCE run: below 0 with its whole interval, where the base is above 0."""
    means = [_means(results, "silhouette", name, "silhouette") for name in ("chapter", "category", "delta")]
    if None in means:
        return None
    chapter, category, delta = means
    runs = [results["mimic"][run]["metrics"]["silhouette"]["delta"] for run in _note_runs(results, "infonce")]
    low, high = min(d["low"] for d in runs), max(d["high"] for d in runs)
    ours = (
        f"{delta[0]:+.3f} to {delta[1]:+.3f} (95 % {low:+.3f} to {high:+.3f}), base to InfoNCE; by category "
        f"{category[0]:+.3f} to {category[1]:+.3f}, by chapter {chapter[0]:+.3f} to {chapter[1]:+.3f}"
    )
    return _of_notes(results, delta[0] > 0 and high < 0, ours, "infonce")


def _similarities(results: Results) -> tuple[Mapping, list[Mapping], int] | None:
    """Return the separation metrics of the base, those of the runs of the papers' recipe, and n."""
    params = (results.get("comparison", {}).get("tuned") or {}).get("params", {})
    names = [params.get("base", ""), *params.get("runs", [])]
    measured = [(metrics(results, "similarity", name) or {}).get("separation") for name in names]
    if len(measured) < 2 or not all(measured):
        return None
    return measured[0], measured[1:], results["similarity"][names[0]]["counts"].get("all", 0)


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


def _runs(n: int) -> str:
    return f"{n} run{'s' * (n > 1)}"


def _note_runs(results: Results, loss: str) -> Sequence[str]:
    """Return the runs that were trained on pairs of notes with a loss."""
    trained = results.get("train", {})
    params = {run: trained[run]["params"] for run in results.get("mimic", {}) if run in trained}
    return [run for run, p in params.items() if p["loss"] == loss and "temporal" in p["pairs"]]


def _means(results: Results, *keys: str, loss: str = "infonce") -> tuple[float, float] | None:
    """Return a measure of notes, by its keys in a record: the base's, and its mean over the runs of a loss."""
    base = next((r["params"]["base"] for r in results.get("mimic", {}).values() if r.get("status") == "run"), None)
    runs = _note_runs(results, loss)
    measured: list[Any] = [metrics(results, "mimic", model) for model in (base, *runs)] if base else []
    if not runs or not measured or not all(measured):
        return None
    for key in keys:
        measured = [m[key] for m in measured]
    return measured[0], statistics.fmean(measured[1:])


def _recall(results: Results, patients: str, form: str, k: int, loss: str = "infonce") -> tuple[float, float] | None:
    """Return recall of the next note in percent, of the base and of the runs of a loss."""
    means = _means(results, "recall", patients, form, f"recall_at_{k}", loss=loss)
    return means and (100 * means[0], 100 * means[1])


def _of_notes(results: Results, holds: bool, ours: str, loss: str = "") -> Finding:
    """Return a finding on notes, which says how many runs of a loss it rests on, and whether the notes are generated."""
    runs = f" ({_runs(len(_note_runs(results, loss)))})" if loss else ""
    generated = any(r["params"].get("generated_notes") for r in results.get("mimic", {}).values())
    return holds, f"{ours}{runs}{f'; {GENERATED_NOTES}' if generated else ''}", NOTES


_ON_OPEN_TEXTS: dict[Callable[..., Finding], str] = {
    in_domain_gain: "Tuning on pairs of the domain raises retrieval in the domain above the base.",
    benchmarks_kept: "A model tuned on pairs of the domain keeps its scores on general biomedical benchmarks.",
    separation_gain: (
        "Tuning on pairs of the domain raises the separation score: similar pairs move apart from different ones."
    ),
    negation_insensitive: (
        "A tuned model scores contradictions, negated sentences among them, as close as paraphrases or closer."
    ),
    merging_better: "A merge of tuned and base weights scores above the tuned model on average over tasks.",
    mined_negatives_better: "Mined hard negatives train a better model than the other pairs of the batch alone.",
    infonce_above_triplet: (
        "InfoNCE gives a higher separation than the triplet loss at the same share of data and rank."
    ),
    more_data_better: "All of the data gives a higher separation than a quarter of it, with InfoNCE.",
}
_ON_NOTES: dict[Callable[..., Finding], str] = {
    note_recall_gain: (
        "Training on a patient's next notes raises recall of the next note, measured as published on the very pairs trained "
        "on."
    ),
    held_out_below_training: (
        "A model gains less recall on patients whose notes it was not trained on than on the training pairs."
    ),
    recall_at_1_capped: (
        "As published, recall@1 cannot exceed the share of queries outside their own pool: it follows from the definition."
    ),
    soft_loss_near_zero: (
        "With its soft targets at work the hierarchical training loss falls near zero, which their entropy does not allow."
    ),
    hierarchy_above_infonce: "The hierarchical loss finds more next notes than InfoNCE.",
    note_auroc_gain: (
        "Training on pairs of notes raises the macro-AUROC of the most frequent diagnoses, in the published split by rows."
    ),
    silhouette_difference_negative: (
        "Training on pairs of notes turns the silhouette by category less that by chapter negative."
    ),
}
_OFFICIAL = "Our measurement of the packaged model agrees with its official score."
PROPERTIES: dict[str, Property] = (
    {test.__name__: Property(sentence, test) for test, sentence in _ON_OPEN_TEXTS.items()}
    | {test.__name__: Property(sentence, test, GENERATED_NOTES) for test, sentence in _ON_NOTES.items()}
    | {
        f"{test.__name__}_at_5": Property(_ON_NOTES[test], partial(test, k=5), GENERATED_NOTES)
        for test in (note_recall_gain, held_out_below_training, hierarchy_above_infonce)
    }
    | {
        f"official_{task.lower()}": Property(
            _OFFICIAL, partial(as_official, task=task), official=f"official.minilm.all-MiniLM-L6-v2.{task}.{metric}"
        )
        for task, metric in (("BIOSSES", "spearman"), ("SciFact", "ndcg_at_10"), ("NFCorpus", "ndcg_at_10"))
    }
)
