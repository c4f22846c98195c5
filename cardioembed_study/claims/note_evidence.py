"""What do our own records of clinical notes say of the property that a number of the MIMIC study asserts?

MIMIC-III is credentialed, so a property is tested on generated notes: they can show what a method does to a number, and never
what is true of patients. Functions as in ``substitutes``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from cardioembed_study.claims.evidence import Finding, Results, metrics

PAGE = "notes"


def note_recall_gain(results: Results, k: int = 10) -> Finding:
    """Training on a patient's next notes raises recall of the next note, measured as published on the very pairs trained on.

    Published form, patients of the training pairs: mean of the InfoNCE runs above the base.
    """
    found = _means(results, lambda m: m["recall"]["seen"]["published"][f"recall_at_{k}"])
    if found is None:
        return None
    ours = (
        f"{100 * (found[1] - found[0]):+.1f} points of recall@{k}, seen patients: base {100 * found[0]:.1f} %, InfoNCE "
        f"{100 * found[1]:.1f} %{_runs_said(results, 'infonce')}{_whose(results)}"
    )
    return found[1] > found[0], ours, PAGE


def held_out_below_training(results: Results, k: int = 10) -> Finding:
    """A model gains less recall on patients whose notes it was not trained on than on the training pairs.

    Query taken out, gain of the InfoNCE runs over the base in each of the two pools, which differ in size.
    """
    gains = [_means(results, lambda m, g=g: m["recall"][g]["corrected"][f"recall_at_{k}"]) for g in ("seen", "unseen")]
    if None in gains:
        return None
    seen, unseen = (tuned - base for base, tuned in gains)
    ours = (
        f"{100 * (unseen - seen):+.1f} points of gain in recall@{k}: {100 * unseen:+.1f} on unseen patients, "
        f"{100 * seen:+.1f} on seen ones (InfoNCE less base){_runs_said(results, 'infonce')}{_whose(results)}"
    )
    return unseen < seen, ours, PAGE


def recall_at_1_capped(results: Results) -> Finding:
    """As published, recall@1 cannot exceed the share of queries outside their own pool: it follows from the definition.

    Patients of the training pairs; our encoders show it, no measurement could refute it.
    """
    found = {m: metrics(results, "mimic", m) for m in results.get("mimic", {})}
    encoders = {m: one["recall"]["seen"] for m, one in found.items() if one and "auroc" in one}
    if not encoders:
        return None
    ceiling = next(iter(encoders.values()))["published"]["ceiling_at_1"]
    best = max(encoders, key=lambda m: encoders[m]["published"]["recall_at_1"])
    ours = (
        f"{100 * encoders[best]['published']['recall_at_1']:.1f} % at most of {len(encoders)} encoders, ceiling "
        f"{100 * ceiling:.1f} %; {100 * encoders[best]['corrected']['recall_at_1']:.1f} % with the query "
        f"taken out{_whose(results)}"
    )
    return encoders[best]["published"]["recall_at_1"] <= ceiling, ours, PAGE


def soft_loss_near_zero(results: Results) -> Finding:
    """With its soft targets at work the hierarchical training loss falls near zero, which their entropy does not allow.

    It would if it ended below half of that entropy.
    """
    found = [metrics(results, "train", run) for run in _runs(results, "soft_chapter")]
    found = [m for m in found if m]
    if not found:
        return None
    last, floor = (statistics.fmean(m[name] for m in found) for name in ("loss_last", "loss_floor"))
    ours = f"{last:.3f} nats at the last step, entropy of the targets {floor:.3f} ({len(found)} run{'s' * (len(found) > 1)})"
    return last < floor / 2, ours + _whose(results), PAGE


def hierarchy_above_infonce(results: Results, k: int = 10) -> Finding:
    """The hierarchical loss finds more next notes than InfoNCE.

    At equal steps and with labels at work, as published on the training pairs.
    """
    pairs = [
        _means(results, lambda m: m["recall"]["seen"]["published"][f"recall_at_{k}"], loss)
        for loss in ("soft_chapter", "infonce")
    ]
    if None in pairs:
        return None
    (_, soft), (_, plain) = pairs
    ours = (
        f"{100 * (soft - plain):+.1f} points of recall@{k}, seen patients: soft_chapter {100 * soft:.1f} %, InfoNCE "
        f"{100 * plain:.1f} %{_runs_said(results, 'soft_chapter')}{_whose(results)}"
    )
    return soft > plain, ours, PAGE


def note_auroc_gain(results: Results) -> Finding:
    """Training on pairs of notes raises the macro-AUROC of the most frequent diagnoses, in the published split by rows.

    Mean of the InfoNCE runs above the base.
    """
    scores = _means(results, lambda m: m["auroc"]["rows"]["macro"])
    fair = _means(results, lambda m: m["auroc"]["patients"]["macro"])
    if scores is None or fair is None:
        return None
    ours = (
        f"{scores[1] - scores[0]:+.3f} macro-AUROC by rows (base {scores[0]:.3f}, InfoNCE {scores[1]:.3f}); by patients "
        f"{fair[1] - fair[0]:+.3f} (base {fair[0]:.3f}, InfoNCE {fair[1]:.3f}){_whose(results)}"
    )
    return scores[1] > scores[0], ours, PAGE


def silhouette_difference_negative(results: Results) -> Finding:
    """Training on pairs of notes turns the silhouette by category less that by chapter negative.

    In every InfoNCE run, with its whole interval; for the base it is above 0.
    """
    found = [
        _means(results, lambda m, name=name: m["silhouette"][name]["silhouette"])
        for name in ("chapter", "category", "delta")
    ]
    if None in found:
        return None
    chapter, category, delta = found
    runs = [results["mimic"][run]["metrics"]["silhouette"]["delta"] for run in _runs(results, "infonce")]
    low, high = min(d["low"] for d in runs), max(d["high"] for d in runs)
    ours = (
        f"{delta[0]:+.3f} to {delta[1]:+.3f} (95 % {low:+.3f} to {high:+.3f}), base to InfoNCE; by category "
        f"{category[0]:+.3f} to {category[1]:+.3f}, by chapter {chapter[0]:+.3f} to {chapter[1]:+.3f}"
        f"{_runs_said(results, 'infonce')}{_whose(results)}"
    )
    return delta[0] > 0 and all(d["high"] < 0 for d in runs), ours, PAGE


def _base(results: Results) -> str | None:
    records = [r for r in results.get("mimic", {}).values() if r.get("status") == "run"]
    return records[0]["params"]["base"] if records else None


def _runs(results: Results, loss: str) -> Sequence[str]:
    trained = results.get("train", {})
    asked = {run: trained[run]["params"] for run in results.get("mimic", {}) if run in trained}
    return [run for run, p in asked.items() if p["loss"] == loss and "temporal" in p["pairs"]]


def _means(results: Results, of: Any, loss: str = "infonce") -> tuple[float, float] | None:
    """Return a measure of the base, and its mean over the runs of a loss."""
    base, runs = _base(results), _runs(results, loss)
    if base is None or not runs:
        return None
    measured: list[Mapping[str, Any] | None] = [metrics(results, "mimic", model) for model in (base, *runs)]
    if not all(measured):
        return None
    values = [of(m) for m in measured]
    return values[0], statistics.fmean(values[1:])


def _runs_said(results: Results, loss: str) -> str:
    n = len(_runs(results, loss))
    return f" ({n} run{'s' * (n > 1)})"


def _whose(results: Results) -> str:
    generated = any(r["params"].get("generated_notes") for r in results.get("mimic", {}).values())
    return "; generated notes" if generated else ""


PROPERTIES = {
    function.__name__: function
    for function in (
        *(note_recall_gain, held_out_below_training, recall_at_1_capped, soft_loss_near_zero, hierarchy_above_infonce),
        *(note_auroc_gain, silhouette_difference_negative),
    )
} | {
    f"{function.__name__}_at_5": partial(function, k=5)
    for function in (note_recall_gain, held_out_below_training, hierarchy_above_infonce)
}
