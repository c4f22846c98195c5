"""How do the records of the notes' study become tables? Rows for ``show.table``; every header says whose notes they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cardioembed_study.notes.recall import GROUPS, KS
from cardioembed_study.show import label


def note_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return patients, admissions, notes and pairs of the clinical study, a row a split; none where it was not run."""
    kind = "generated notes" if record["params"].get("generated_notes") else "notes"
    return [
        {"split": split, **{kind if name == "notes" else name: n for name, n in counts.items()}}
        for split, counts in record["counts"].get("splits", {}).items()
    ]


FORMS = {"published": "as published", "corrected": "query taken out", "other_patients": "other patients only"}
TITLES = {
    "query_in_pool": "query in the pool",
    "row_split": "split by rows",
    "one_hot_targets": "one-hot targets",
}
QUOTED = (
    *("kind", "source", "patients", "notes", "ceiling", "pool_1", "pool_10", "rows", "rows_low", "rows_high"),
    *("bm25_10", "best", "best_10", "labels", "labels_low", "labels_high", "runs", "steps"),
)
MEASURES = {
    f"{form}_at_10_{group}": f"recall@10, {words}, {group}"
    for group in ("seen", "unseen")
    for form, words in (("corrected", "query taken out"), ("other_patients", "other patients only"))
} | {"auroc_unseen": "macro-AUROC, unseen"}
ENDS = {"": "difference", "_low": "low", "_high": "high"}


def kind(results: Mapping[str, Mapping]) -> str:
    """Return "generated notes" where they are, else "notes": the first words of every table's header."""
    return "generated notes" if any(r["params"].get("generated_notes") for r in results.values()) else "notes"


def run(results: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Return the records that were run, encoders after floors, in the order of their names within."""
    done = {model: r for model, r in results.items() if r["status"] == "run"}
    order = {model: i for i, model in enumerate(next(iter(done.values()))["params"]["order"])} if done else {}
    return dict(sorted(done.items(), key=lambda item: order.get(item[0], len(order))))


def reasons(results: Mapping[str, Mapping]) -> list[dict[str, str]]:
    """Return why a record was not run, a row a record."""
    return [{"model": m, "not run, because": r["reason"]} for m, r in results.items() if r["status"] == "not run"]


def recall_rows(results: Mapping[str, Mapping], group: str) -> list[dict[str, Any]]:
    """Return recall@k of the next note, a row an encoder and form, in per cent with the interval of k = 10.

    Args:
        results: model to its record ``mimic.<model>``.
        group: ``seen`` or ``unseen`` patients.
    """
    rows = []
    for model, record in run(results).items():
        found = record["metrics"]["recall"].get(group, {})
        for form, words in FORMS.items() if found else ():
            one = found[form]
            rows.append(
                {
                    f"{kind(results)}, {group} patients": label(model),
                    "pool": words,
                    **{f"@{k}": f"{100 * one[f'recall_at_{k}']:.1f}" for k in KS},
                    "95 % of @10": f"{100 * one['recall_at_10_low']:.1f} to {100 * one['recall_at_10_high']:.1f}",
                }
            )
    return rows


def ceiling_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return what the published form allows at best and chance at least, a row a group of patients."""
    done = run(results)
    encoders = [r for r in done.values() if "auroc" in r["metrics"]]
    if not encoders:
        return []
    first = encoders[0]
    return [
        {
            kind(results): f"{group} patients",
            **{name: first["counts"][group][name] for name in ("queries", "candidates", "patients")},
            "queries in their own pool": f"{100 * found['effective_k']:.1f} %",
            **{f"ceiling @{k}": f"{100 * found['published'][f'ceiling_at_{k}']:.1f}" for k in KS[:2]},
            **{f"chance @{k}": f"{100 * found['corrected'][f'random_at_{k}']:.2f}" for k in (1, 10)},
            "same patient's notes in the pool": f"{found['same_patient_candidates']:.1f}",
        }
        for group in GROUPS
        if (found := first["metrics"]["recall"].get(group))
    ]


def auroc_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return macro-AUROC of the most frequent codes, a row an encoder: as published, by patients, on unseen patients."""
    rows = []
    for model, record in run(results).items():
        if found := record["metrics"].get("auroc"):
            cells = {"by rows (published)": found["rows"], "by patients": found["patients"]}
            cells["unseen patients"] = found["patients"].get("unseen", {})
            shown = {name: _interval(c, "macro") if c else "none" for name, c in cells.items()}
            rows.append({kind(results): label(model), **shown, "codes": len(found["patients"]["per_code"])})
    return rows


def code_rows(results: Mapping[str, Mapping], model: str) -> list[dict[str, Any]]:
    """Return the AUROC of each code for one encoder, that of most notes first."""
    found = results[model]["metrics"]["auroc"] if model in run(results) else {}
    codes = found["patients"]["per_code"].items() if found else ()
    often = sorted(codes, key=lambda item: (-item[1]["notes"] if isinstance(item[1]["notes"], int) else 0, item[0]))
    return [
        {
            f"{kind(results)}, {label(model)}": code,
            "notes": one["notes"],
            "patients": one["patients"],
            "by rows (published)": found["rows"]["per_code"].get(code, {}).get("auroc", "none"),
            "by patients": one["auroc"],
        }
        for code, one in often
    ]


def silhouette_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the silhouettes by chapter and category and their difference, a row an encoder."""
    return [
        {
            kind(results): label(model),
            **{f"by {name}": _interval(found[name], "silhouette", "+.3f") for name in ("chapter", "category")},
            "category less chapter": _interval(found["delta"], "silhouette", "+.3f"),
            "n": found["chapter"]["n"],
        }
        for model, record in run(results).items()
        if (found := record["metrics"].get("silhouette"))
    ]


def effect_rows(record: Mapping[str, Any], group: str = "unseen") -> list[dict[str, Any]]:
    """Return the sizes of the three method effects, a row an effect and encoder.

    Args:
        record: ``effects.all``.
        group: patients whose recall@10 is shown.
    """
    if record["status"] != "run":
        return []
    notes = "generated notes" if record["params"].get("generated_notes") else "notes"
    found = record["metrics"]
    lines = [
        (TITLES["query_in_pool"], model, f"recall@{k}, {group}", "published", "corrected", (m["off"], m["on"]), m, -1)
        for model, groups in found["query_in_pool"].items()
        for k in (1, 10)
        if (m := groups.get(group, {}).get(f"at_{k}"))
    ]
    lines += [
        (TITLES["row_split"], model, "macro-AUROC", "by rows", "by patients", (m["rows"], m["patients"]), m, 1)
        for model, m in found["row_split"].items()
    ]
    lines += [
        (TITLES["one_hot_targets"], loss, MEASURES[measure], "InfoNCE", "labels at work", (m["off"], m["on"]), m, -1)
        for loss, measures in found["one_hot_targets"].items()
        for measure, m in measures.items()
    ]
    return [
        {
            f"effect, {notes}": title,
            "encoder or loss": label(who),
            "measure": what,
            "switched on": f"{values[0]:.3f} ({on})",
            "switched off": f"{values[1]:.3f} ({off})",
            "difference": _signed(sign * m["difference"]),
            "95 %": " to ".join(map(_signed, sorted((sign * m["low"], sign * m["high"])))),
        }
        for title, who, what, on, off, values, m, sign in lines
    ]


def other_loss_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what another loss gives in the place of InfoNCE, a row a measure: no switch of the published method."""
    if record["status"] != "run":
        return []
    notes = "generated notes" if record["params"].get("generated_notes") else "notes"
    return [
        {
            f"loss, {notes}": loss,
            "measure": MEASURES[measure],
            "this loss": m["on"],
            "InfoNCE": m["off"],
            "difference": _signed(m["difference"]),
            "95 %": f"{_signed(m['low'])} to {_signed(m['high'])}",
        }
        for loss, measures in record["metrics"]["other_loss"].items()
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
    found: dict[str, Any] = dict.fromkeys((f"notes_{name}" for name in QUOTED), "not run")
    if effects["status"] != "run":
        return found | {"notes_kind": "none"}
    counts, ceiling = effects["counts"], results[base]["metrics"]["recall"]["unseen"]["published"]["ceiling_at_1"]
    found |= {f"notes_{name}": f"{counts[name]:,}" for name in ("patients", "notes")}
    found |= {"notes_kind": kind(results), "notes_source": record["params"]["source"]}
    found["notes_ceiling"] = f"{100 * ceiling:.1f}"
    pool, rows = (effects["metrics"][name][base] for name in ("query_in_pool", "row_split"))
    found |= {f"notes_pool_{k}": f"{100 * pool['unseen'][f'at_{k}']['difference']:.1f}" for k in (1, 10)}
    found |= {f"notes_rows{end}": f"{rows[name]:+.3f}" for end, name in ENDS.items()}
    tens = {m: 100 * r["metrics"]["recall"]["unseen"]["corrected"]["recall_at_10"] for m, r in run(results).items()}
    found["notes_bm25_10"], best = f"{tens.pop('bm25'):.1f}", max(tens, key=tens.__getitem__)
    found |= {"notes_best": label(best), "notes_best_10": f"{tens[best]:.1f}"}
    if labels := effects["metrics"]["one_hot_targets"].get("soft_chapter", {}).get("corrected_at_10_unseen"):
        found |= {f"notes_labels{end}": f"{100 * labels[name]:+.1f}" for end, name in ENDS.items()}
        runs = counts["runs"]["soft_chapter"]
        steps = ", ".join(str(n) for n in sorted({training[name]["counts"]["steps"] for name in runs}))
        found |= {"notes_runs": "one run" if len(runs) == 1 else f"{len(runs)} runs", "notes_steps": steps}
    return found


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # + 0.0: no minus zero


def _interval(found: Mapping[str, float], name: str, form: str = ".3f") -> str:
    return f"{found[name]:{form}} ({found['low']:{form}} to {found['high']:{form}})"
