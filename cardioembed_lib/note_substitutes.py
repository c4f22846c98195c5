"""What do our own records of clinical notes say of the property that a number of the MIMIC study asserts?

MIMIC-III is credentialed, so a property is tested on generated notes: they can show what a method does to a number, and never
what is true of patients. Functions as in ``substitutes``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cardioembed_lib import runs as naming
from cardioembed_lib.substitutes import Finding, Results, metrics

PAGE = "notes"


def note_recall_gain(results: Results) -> Finding:
    """Training on a patient's next notes raises recall of the next note, measured as published on the very pairs trained on.

    Published form, recall@10, patients of the training pairs: mean of the InfoNCE runs above the base.
    """
    return _recall(results, "infonce", "seen", "published")


def note_recall_held_out(results: Results) -> Finding:
    """The gain in note recall holds on patients whose notes were not trained on.

    Query taken out of the pool, recall@10, unseen patients: mean of the InfoNCE runs above the base.
    """
    return _recall(results, "infonce", "unseen", "corrected")


def recall_at_1_capped(results: Results) -> Finding:
    """As published, recall@1 is near 0 for every model, because a query in its own pool always finds itself first.

    No encoder passes the share of queries outside their pool; patients of the training pairs.
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
    """With its soft targets at work the hierarchical training loss falls near zero.

    It does if it ends below half of the targets' entropy.
    """
    found = [metrics(results, "train", run) for run in results.get("train", {}) if run.startswith("soft_chapter")]
    found = [m for m in found if m]
    if not found:
        return None
    last, floor = (statistics.fmean(m[name] for m in found) for name in ("loss_last", "loss_floor"))
    ours = f"{last:.3f} nats at the last step, entropy of the targets {floor:.3f} ({len(found)} run{'s' * (len(found) > 1)})"
    return last < floor / 2, ours + _whose(results), PAGE


def hierarchy_above_infonce(results: Results) -> Finding:
    """The hierarchical loss finds more next notes than InfoNCE.

    At equal steps and with labels at work, as published on the training pairs: recall@10.
    """
    return _against(results, "seen", "published")


def hierarchy_as_infonce_held_out(results: Results) -> Finding:
    """On unseen patients the hierarchical loss finds about as many next notes as InfoNCE: the interval includes 0.

    At equal steps and with labels at work, query taken out: recall@10.
    """
    effects = metrics(results, "effects", "all")
    found = (effects or {}).get("one_hot_targets", {}).get("soft_chapter", {}).get("corrected_at_10_unseen")
    if not found:
        return None
    ours = (
        f"{100 * found['difference']:+.1f} points of recall@10 (95 % {100 * found['low']:+.1f} to {100 * found['high']:+.1f}): "
        f"soft_chapter {100 * found['on']:.1f} %, InfoNCE {100 * found['off']:.1f} %{_whose(results)}"
    )
    return found["low"] <= 0 <= found["high"], ours, PAGE


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


def silhouettes_fall(results: Results) -> Finding:
    """Training on pairs of notes lowers the silhouette by category below that by chapter: their difference turns negative.

    Mean of the InfoNCE runs, against the base.
    """
    found = [
        _means(results, lambda m, name=name: m["silhouette"][name]["silhouette"]) for name in ("chapter", "category")
    ]
    if None in found:
        return None
    chapter, category = found
    ours = (
        f"by chapter {chapter[0]:+.3f} to {chapter[1]:+.3f}, by category {category[0]:+.3f} to {category[1]:+.3f}, difference "
        f"{category[0] - chapter[0]:+.3f} to {category[1] - chapter[1]:+.3f} (base to InfoNCE){_whose(results)}"
    )
    return category[1] < chapter[1] and category[0] > chapter[0], ours, PAGE


def _base(results: Results) -> str | None:
    records = [r for r in results.get("mimic", {}).values() if r.get("status") == "run"]
    return records[0]["params"]["base"] if records else None


def _runs(results: Results, loss: str) -> Sequence[str]:
    return naming.recipes(run for run in results.get("mimic", {}) if run.startswith(f"{loss}-")).get(loss, [])


def _recall(results: Results, loss: str, group: str, form: str) -> Finding:
    found = _means(results, lambda m: m["recall"][group][form]["recall_at_10"], loss)
    if found is None:
        return None
    runs = len(_runs(results, loss))
    ours = (
        f"{100 * (found[1] - found[0]):+.1f} points of recall@10, {group} patients: base {100 * found[0]:.1f} %, InfoNCE "
        f"{100 * found[1]:.1f} % ({runs} run{'s' * (runs > 1)}){_whose(results)}"
    )
    return found[1] > found[0], ours, PAGE


def _against(results: Results, group: str, form: str) -> Finding:
    pairs = [
        _means(results, lambda m: m["recall"][group][form]["recall_at_10"], loss)
        for loss in ("soft_chapter", "infonce")
    ]
    if None in pairs:
        return None
    (_, soft), (_, plain) = pairs
    ours = (
        f"{100 * (soft - plain):+.1f} points of recall@10, {group} patients: soft_chapter {100 * soft:.1f} %, InfoNCE "
        f"{100 * plain:.1f} %{_whose(results)}"
    )
    return soft > plain, ours, PAGE


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


def _whose(results: Results) -> str:
    generated = any(r["params"].get("generated_notes") for r in results.get("mimic", {}).values())
    return "; generated notes" if generated else ""


PROPERTIES = {
    function.__name__: function
    for function in (
        *(note_recall_gain, note_recall_held_out, hierarchy_above_infonce, hierarchy_as_infonce_held_out),
        *(recall_at_1_capped, soft_loss_near_zero, note_auroc_gain, silhouettes_fall),
    )
}
