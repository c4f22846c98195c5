"""What do the records of retrieval and similarity say, row by row? Nothing here measures anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardioembed_study import show
from cardioembed_study.show import label, ordered

TASKS = {
    "definition_cardiology": "held-out cardiology definitions",
    "definition_heldout": "the same, held-out pool only",
    "definition_other": "held-out definitions, other chapters",
    "heading_heldout": "held-out headings",
    "question_heldout": "held-out textbook questions",
    "medquad_questions": "MedQuAD cardiology questions (unseen domain)",
}
TOP_KS = (1, 5, 10, 20, 50, 100)


def numbers(
    corpus: Mapping[str, Any], retrieval: Mapping[str, Mapping], comparison: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every number that the book quotes in its text, by the name under which the pages ask for it."""
    profile, base = comparison["params"]["profile"], comparison["params"]["base"]
    found: dict[str, Any] = {"profile": profile, "base": base, "runs": len(comparison["params"]["runs"])}
    found |= {"passages": corpus["counts"]["passages"], "leaks": corpus["counts"]["leaks_removed"]}
    found |= {f"{key}_removed": corpus["counts"][key] for key in ("exact_duplicates", "near_duplicates")}
    for name, m in comparison["metrics"].items():
        found |= {f"{name}_{key}": value for key, value in m.items()} | {
            f"{name}_verdict": verdict(m["low"], m["high"])
        }
    for name, counts in retrieval[base]["counts"].items():
        found |= {f"{name}_queries": counts["queries"], f"{name}_candidates": counts["candidates"]}
        found |= {f"{name}_{floor}_mrr": retrieval[floor]["metrics"][name]["mrr"] for floor in show.FLOORS}
    return found


def retrieval_rows(results: Mapping[str, Mapping], task: str) -> list[dict[str, Any]]:
    """Return one task's metrics, a row a model, floors first; MRR with its 95 % interval."""
    rows = []
    for model in show.ordered(results):
        m = results[model]["metrics"][task]
        interval = f"{m['mrr_low']:.3f} to {m['mrr_high']:.3f}"
        cosine = (
            f"{m['mean_positive_cosine']:.3f} ± {m['sd_positive_cosine']:.3f}"
            if "mean_positive_cosine" in m
            else "none"
        )
        scores = {f"Acc@{k}": m[f"acc_at_{k}"] for k in TOP_KS}
        rows.append(
            {
                "model": show.label(model),
                **scores,
                "MRR": m["mrr"],
                "MRR, 95 %": interval,
                "nDCG@10": m["ndcg_at_10"],
                "cosine": cosine,
            }
        )
    return rows


def verdict(low: float, high: float) -> str:
    """Return a difference in words, by its interval.

    >>> verdict(0.01, 0.05), verdict(-0.01, 0.02)
    ('higher', 'not distinguishable')
    """
    return "higher" if low > 0 else "lower" if high < 0 else "not distinguishable"


def headline_rows(
    results: Mapping[str, Mapping], comparisons: Mapping[str, Mapping], recipes: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Return MRR on every task, a row a model, the runs of one recipe as one: what the first page shows."""
    (base,) = {record["params"]["base"] for record in comparisons.values()}
    rows = [
        {"model": show.label(model), **{TASKS.get(t, t): m["mrr"] for t, m in results[model]["metrics"].items()}}
        for model in (*show.FLOORS, base)
    ]
    for recipe, runs in recipes.items():
        found = {TASKS.get(t, t): m["tuned_mrr"] for t, m in comparisons[recipe]["metrics"].items()}
        rows.append({"model": f"{recipe}, mean of {len(runs)} seeds", **found})
    return rows


def gain_rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tuned against base, a row a task: MRR, paired difference, interval, Holm-corrected p."""
    return [
        {
            "task": TASKS.get(task, task),
            "queries": comparison["counts"][task],
            "base MRR": m["base_mrr"],
            "tuned MRR": m["tuned_mrr"],
            "difference": f"{m['difference']:+.3f}",
            "95 % interval": f"{m['low']:+.3f} to {m['high']:+.3f}",
            "p (Holm)": p_value(m["p_holm"]),
            "worst and best seed": f"{m['worst_seed']:+.3f}, {m['best_seed']:+.3f}",
        }
        for task, m in comparison["metrics"].items()
    ]


def p_value(value: float) -> str:
    """Return a p-value as tables show it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


QUESTIONS = {"to the anchor than the contradiction is": "probe", "to the anchor than to the contradiction": "choice"}


def probe_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the minimal pairs' accuracy by category, two rows a model, one for each question asked (``similarity``)."""
    rows = []
    for question, metric in QUESTIONS.items():
        for model in ordered(results):
            found = results[model]["metrics"][metric]
            whole = found["all"]
            rows.append(
                {"is the paraphrase closer": question, "model": label(model)}
                | {name: one["accuracy"] for name, one in found.items()}
                | {"all, 95 %": f"{whole['low']:.3f} to {whole['high']:.3f}"}
            )
    return rows


def separation_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return mean cosines of similar, negated and different pairs, and the separation score, a row a model."""
    rows = []
    for model in ordered(results):
        m = results[model]["metrics"]["separation"]
        rows.append(
            {
                "model": label(model),
                **{kind: m[kind] for kind in ("similar", "negated", "different")},
                "separation": m["separation"],
                "separation, 95 %": f"{m['separation_low']:.3f} to {m['separation_high']:.3f}",
                "similar less negated": m["negated_gap"],
            }
        )
    return rows
