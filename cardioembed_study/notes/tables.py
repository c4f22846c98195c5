"""How do the records of the notes' study become tables? Rows for ``show.table``; every header says whose notes they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cardioembed_study import show
from cardioembed_study.notes.recall import GROUPS, KS
from cardioembed_study.show import label

FORMS = {"published": "as published", "corrected": "query taken out", "other_patients": "other patients only"}
MEASURES = {
    "at_1": "recall@1, unseen",
    "at_10": "recall@10, unseen",
    "auroc": "macro-AUROC",
    "auroc_unseen": "macro-AUROC, unseen",
    "corrected_at_10_seen": "recall@10, query taken out, seen",
    "corrected_at_10_unseen": "recall@10, query taken out, unseen",
    "other_patients_at_10_seen": "recall@10, other patients only, seen",
    "other_patients_at_10_unseen": "recall@10, other patients only, unseen",
}
STEPS = {  # mistake: its name, and what it is called switched on and switched off
    "query_in_pool": ("query in the pool", "published", "corrected"),
    "row_split": ("split by rows", "by rows", "by patients"),
    "one_hot_targets": ("one-hot targets", "InfoNCE", "labels at work"),
}
ENDS = {"": "difference", "_low": "low", "_high": "high"}
SINGLE = ("kind", "source", "patients", "notes", "ceiling", "bm25_10", "best", "best_10", "runs", "steps")
QUOTED = (*SINGLE, "pool_1", "pool_10", *(f"{name}{end}" for name in ("rows", "labels") for end in ENDS))
SIGNED = "+z.3f"  # no minus zero


def kind(results: Mapping[str, Mapping]) -> str:
    """Return "generated notes" where they are, else "notes": the first words of every table's header."""
    return "generated notes" if any(r["params"].get("generated_notes") for r in results.values()) else "notes"


def run(results: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Return the records that were run, encoders after floors, in the order of their names within."""
    done = {model: r for model, r in results.items() if r["status"] == "run"}
    order = {model: i for i, model in enumerate(next(iter(done.values()))["params"]["order"])} if done else {}
    return dict(sorted(done.items(), key=lambda item: order.get(item[0], len(order))))


def by_code(results: Mapping[str, Mapping], model: str) -> tuple[Mapping[str, Mapping], Mapping[str, Mapping]]:
    """Return what an encoder's record says of each code in the split by rows, and by patients; empty if it was not run."""
    splits = dict(show.each(run(results), "auroc")).get(label(model), {})
    by_rows, by_patients = (splits.get(split, {}).get("per_code", {}) for split in ("rows", "patients"))
    return by_rows, by_patients


def mistakes(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, float]]]:
    """Yield what the three mistakes of the published method change: mistake, encoder or loss, measure, and numbers.

    The numbers are ``on``, with the mistake; ``off``, without it; ``difference``, the first less the second, with its
    interval from ``low`` to ``high``. Recall is that of unseen patients. A record that was not run (``effects.all``) has none.
    """
    metrics = record["metrics"]
    for model, groups in metrics.get("query_in_pool", {}).items():
        for measure, m in groups.get("unseen", {}).items():
            yield "query_in_pool", label(model), measure, turned(m)
    for model, m in metrics.get("row_split", {}).items():
        yield "row_split", label(model), "auroc", m | {"on": m["rows"], "off": m["patients"]}
    for loss, measures in metrics.get("one_hot_targets", {}).items():
        for measure, m in measures.items():
            yield "one_hot_targets", loss, measure, turned(m)


def turned(m: Mapping[str, float]) -> dict[str, float]:
    """Return a difference the other way round, so that of the mending becomes that of the mistake."""
    return {"on": m["off"], "off": m["on"], "difference": -m["difference"], "low": -m["high"], "high": -m["low"]}


def note_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return patients, admissions, notes and pairs of the clinical study, a row a split; none where it was not run."""
    notes, splits = kind({"all": record}), record["counts"].get("splits", {})
    columns = {"patients": "patients", "admissions": "admissions", "notes": notes, "pairs": "pairs"}
    return [
        {"split": split} | {title: splits[split][name] for name, title in columns.items()}
        for split in ("train", "dev", "test")
        if split in splits
    ]


def reasons(results: Mapping[str, Mapping]) -> list[dict[str, str]]:
    """Return why a record was not run, a row a record."""
    return [{"model": m, "not run, because": r["reason"]} for m, r in results.items() if r["status"] == "not run"]


def recall_rows(results: Mapping[str, Mapping], group: str) -> list[dict[str, Any]]:
    """Return recall@k of the next note, a row an encoder and form, in per cent with the interval of k = 10.

    Args:
        results: model to its record ``mimic.<model>``.
        group: ``seen`` or ``unseen`` patients.
    """
    return [
        {
            f"{kind(results)}, {group} patients": model,
            "pool": words,
            **{f"@{k}": f"{100 * forms[form][f'recall_at_{k}']:.1f}" for k in KS},
            "95 % of @10": show.interval(
                100 * forms[form]["recall_at_10_low"], 100 * forms[form]["recall_at_10_high"], ".1f"
            ),
        }
        for model, forms in show.each(run(results), "recall", group)
        for form, words in FORMS.items()
    ]


def ceiling_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return what the published form allows at best and chance at least, a row a group of patients."""
    first = next((record for record in run(results).values() if "auroc" in record["metrics"]), None)
    if first is None:
        return []
    return [
        {
            kind(results): f"{group} patients",
            **{name: first["counts"][group][name] for name in ("queries", "candidates", "patients")},
            "queries in their own pool": _told(m["effective_k"], 100, unit=" %"),
            **{f"ceiling @{k}": _told(m["published"][f"ceiling_at_{k}"], 100) for k in KS[:2]},
            **{f"chance @{k}": _told(m["corrected"][f"random_at_{k}"], 100, 2) for k in (1, 10)},
            "same patient's notes in the pool": _told(m["same_patient_candidates"]),
        }
        for group in GROUPS
        if (m := first["metrics"]["recall"].get(group))
    ]


def auroc_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return macro-AUROC of the most frequent codes, a row an encoder: as published, by patients, on unseen patients."""
    return [
        {
            kind(results): model,
            "by rows (published)": _with_interval(m["rows"], "macro"),
            "by patients": _with_interval(m["patients"], "macro"),
            "unseen patients": _with_interval(m["patients"].get("unseen"), "macro"),
            "codes": len(m["patients"]["per_code"]),
        }
        for model, m in show.each(run(results), "auroc")
    ]


def code_rows(results: Mapping[str, Mapping], model: str) -> list[dict[str, Any]]:
    """Return the AUROC of each code for one encoder, that of most notes first."""
    by_rows, by_patients = by_code(results, model)
    often = {code: one["notes"] if isinstance(one["notes"], int) else 0 for code, one in by_patients.items()}
    return [
        {
            f"{kind(results)}, {label(model)}": code,
            "notes": by_patients[code]["notes"],
            "patients": by_patients[code]["patients"],
            "by rows (published)": by_rows.get(code, {}).get("auroc", "none"),
            "by patients": by_patients[code]["auroc"],
        }
        for code in sorted(often, key=lambda code: (-often[code], code))
    ]


def silhouette_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the silhouettes by chapter and category and their difference, a row an encoder."""
    columns = {"by chapter": "chapter", "by category": "category", "category less chapter": "delta"}
    return [
        {
            kind(results): model,
            **{title: _with_interval(m[key], "silhouette", "+.3f") for title, key in columns.items()},
            "n": m["chapter"]["n"],
        }
        for model, m in show.each(run(results), "silhouette")
    ]


def effect_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sizes of the three method effects (``effects.all``), a row an effect and encoder; unseen patients."""
    return [
        {
            f"effect, {kind({'all': record})}": STEPS[mistake][0],
            "encoder or loss": who,
            "measure": MEASURES[measure],
            "switched on": f"{m['on']:.3f} ({STEPS[mistake][1]})",
            "switched off": f"{m['off']:.3f} ({STEPS[mistake][2]})",
            **_change(m),
        }
        for mistake, who, measure, m in mistakes(record)
        if measure in MEASURES
    ]


def other_loss_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what another loss gives in the place of InfoNCE, a row a measure: no switch of the published method."""
    return [
        {
            f"loss, {kind({'all': record})}": loss,
            "measure": MEASURES[measure],
            "this loss": m["on"],
            "InfoNCE": m["off"],
            **_change(m),
        }
        for loss, measures in record["metrics"].get("other_loss", {}).items()
        for measure, m in measures.items()
    ]


def floor_rows(training: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return where each run on notes began and ended, and the floor its labels set, in nats."""
    return [
        {
            "run": run,
            "loss": record["params"]["loss"],
            "steps": record["counts"]["steps"],
            "first": record["metrics"]["loss_first"],
            "last": record["metrics"]["loss_last"],
            "floor": record["metrics"]["loss_floor"],
            "MRR on dev, before": record["metrics"]["dev_mrr_base"],
            "best": record["metrics"]["dev_mrr_best"],
            "at step": record["counts"]["best_step"],
        }
        for run, record in training.items()
        if record["params"]["pairs"] == ["temporal"]
    ]


def numbers(
    record: Mapping[str, Any],
    results: Mapping[str, Mapping],
    effects: Mapping[str, Any],
    training: Mapping[str, Mapping],
    base: str,
) -> dict[str, Any]:
    """Return the numbers of the notes' study that the book quotes in its text, as text; "not run" where it was not.

    Args:
        record: ``notes.all``.
        results: ``mimic.<model>``.
        effects: ``effects.all``.
        training: ``train.<run>``.
        base: whose effects are quoted.
    """
    quoted: dict[str, Any] = dict.fromkeys(QUOTED, "not run") | {"kind": "none"}
    if effects["status"] == "run":
        counts, m = effects["counts"], effects["metrics"]
        recall = {model: r["metrics"]["recall"]["unseen"] for model, r in run(results).items()}
        pool, rows = m["query_in_pool"][base]["unseen"], m["row_split"][base]
        tens = {model: 100 * forms["corrected"]["recall_at_10"] for model, forms in recall.items()}
        bm25 = tens.pop("bm25")
        best = max(tens, key=tens.__getitem__)
        quoted |= {"kind": kind(results), "source": record["params"]["source"]}
        quoted |= {name: f"{counts[name]:,}" for name in ("patients", "notes")}
        quoted["ceiling"] = _told(recall[base]["published"]["ceiling_at_1"], 100)
        quoted |= {f"pool_{k}": f"{100 * pool[f'at_{k}']['difference']:.1f}" for k in (1, 10)}
        quoted |= {f"rows{end}": f"{rows[name]:+.3f}" for end, name in ENDS.items()}
        quoted |= {"bm25_10": f"{bm25:.1f}", "best": label(best), "best_10": f"{tens[best]:.1f}"}
        if labels := m["one_hot_targets"].get("soft_chapter", {}).get("corrected_at_10_unseen"):
            runs = counts["runs"]["soft_chapter"]
            steps = sorted({training[name]["counts"]["steps"] for name in runs})
            quoted |= {f"labels{end}": f"{100 * labels[name]:+.1f}" for end, name in ENDS.items()}
            quoted["runs"] = "one run" if len(runs) == 1 else f"{len(runs)} runs"
            quoted["steps"] = ", ".join(map(str, steps))
    return {f"notes_{name}": value for name, value in quoted.items()}


def _told(value: float | None, times: int = 1, digits: int = 1, unit: str = "") -> str:
    """Return a number that records of restricted notes do not hold, because a count could be worked out from it."""
    return "withheld" if value is None else f"{times * value:.{digits}f}{unit}"


def _change(m: Mapping[str, float]) -> dict[str, str]:
    return {"difference": f"{m['difference']:{SIGNED}}", "95 %": show.interval(m["low"], m["high"], SIGNED)}


def _with_interval(m: Mapping[str, float] | None, name: str, form: str = ".3f") -> str:
    return f"{m[name]:{form}} ({show.interval(m['low'], m['high'], form)})" if m else "none"
