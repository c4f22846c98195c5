"""What do the records of retrieval and similarity say, row by row? Nothing here measures anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cardioembed_study import show
from cardioembed_study.show import label, ordered

TASKS = {
    "definition_cardiology": "held-out cardiology definitions",
    "definition_heldout": "the same, held-out pool only",
    "definition_other": "held-out definitions, other chapters",
    "heading_heldout": "held-out headings",
    "heading_cardiology": "held-out cardiology headings",
    "heading_other": "held-out headings, other chapters",
    "medquad_cardiology": "MedQuAD questions, cardiology",
    "medquad_other": "MedQuAD questions, other subjects",
    "paraphrase_hand": "paraphrases by hand (minimal pairs)",
    "paraphrase_rule": "paraphrases by rule (held-out sentences)",
    "question_heldout": "held-out textbook questions",
    "medquad_questions": "MedQuAD cardiology questions (unseen domain)",
}
ARMS = {  # of the experiment on specialty and format
    "all": "all definitions",
    "without": "definitions, no cardiology",
    "swapped": "definitions, all cardiology among them, as many as that",
    "cardiology": "cardiology definitions alone",
    "other": "other subjects' definitions, as many",
    "heading": "cardiology headings, as many",
}
CONTRASTS = {
    "specialty": "specialty: with cardiology pairs less without",
    "format": "format: other subjects' definitions less base",
    "whole": "whole gain: with cardiology pairs less base",
    "format_less_specialty": "format less specialty",
    "interaction": "specialty's help to cardiology less to other subjects",
    "swapped_on_cardiology": "cardiology pairs swapped in, on cardiology",
    "small_specialty": "in small: cardiology less other definitions",
    "small_format": "in small: other definitions less base",
    "small_topic": "in small: cardiology headings less base",
}
NONE = "not measured in this profile"
TOP_KS = (1, 5, 10, 20, 50, 100)
QUESTIONS = {"to the anchor than the contradiction is": "probe", "to the anchor than to the contradiction": "choice"}


def retrieval_rows(results: Mapping[str, Mapping], task: str) -> list[dict[str, Any]]:
    """Return one task's metrics, a row a model, floors first; MRR with its 95 % interval."""
    return [
        {
            "model": model,
            **{f"Acc@{k}": m[f"acc_at_{k}"] for k in TOP_KS},
            "MRR": m["mrr"],
            "MRR, 95 %": show.interval(m["mrr_low"], m["mrr_high"]),
            "nDCG@10": m["ndcg_at_10"],
            "cosine": _cosine(m),
        }
        for model, m in show.each(ordered(results), task)
    ]


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
    alone = [model for model in (*show.FLOORS, base, f"{show.WITH_BM25}{base}") if model in results]
    lines = [(label(model), results[model]["metrics"], "mrr") for model in alone]
    for recipe, runs in recipes.items():
        lines.append((f"{recipe}, mean of {len(runs)} seeds", comparisons[recipe]["metrics"], "tuned_mrr"))
    return [
        {"model": model, **{TASKS.get(task, task): m[score] for task, m in metrics.items()}}
        for model, metrics, score in lines
    ]


def gain_rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tuned against base, a row a task: MRR, paired difference, interval, Holm-corrected p."""
    return [
        {
            "task": TASKS.get(task, task),
            "queries": comparison["counts"][task],
            "base MRR": m["base_mrr"],
            "tuned MRR": m["tuned_mrr"],
            **show.change(m),
        }
        for task, m in comparison["metrics"].items()
    ]


def first_rows(results: Mapping[str, Mapping], comparisons: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return Acc@1 in per cent on each task, a row a recipe: BM25, base, tuned, and their difference in points.

    Args:
        results: model to its record.
        comparisons: recipe to its record; none of before ``acc_at_1`` was written in them.
    """
    return [
        {
            "task": TASKS.get(task, task),
            "recipe": recipe,
            "queries": record["counts"][task],
            "BM25": f"{100 * results['bm25']['metrics'][task]['acc_at_1']:.1f} %",
            "base": f"{100 * m['base']:.1f} %",
            "tuned": f"{100 * m['tuned']:.1f} %",
            "difference, points": f"{100 * m['difference']:+.1f}",
            "95 % interval": show.interval(100 * m["low"], 100 * m["high"], "+.1f"),
        }
        for recipe, record in in_order(comparisons, {"tuned": ""})
        for task, entry in record["metrics"].items()
        if (m := entry.get("acc_at_1"))
    ]


def in_order(found: Mapping[str, Any], order: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Return the items of what a record holds, whose keys are sorted, in the order in which readers meet them.

    >>> in_order({"a": 1, "b": 2}, {"b": "second letter"})
    [('b', 2), ('a', 1)]
    """
    return [(name, found[name]) for name in dict.fromkeys([*order, *found]) if name in found]


def matrix_rows(arms: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return each arm less the base, a row an arm and a column a task: MRR with its 95 % interval over documents."""
    return [
        {"trained on": ARMS.get(arm, arm)} | {TASKS.get(t, t): show.with_interval(m) for t, m in of.items()}
        for arm, of in in_order(arms, ARMS)
    ]


def contrast_rows(contrasts: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return contrasts of arms, a row each: by query with interval and p, by document with interval, n of both."""
    return [
        {
            "contrast": CONTRASTS.get(name, name),
            "queries": c["queries"],
            "documents": c["documents"],
            "difference, MRR": f"{c['difference']:+.3f}",
            "95 %": show.interval(c["low"], c["high"], "+.3f"),
            **({"p (Holm)": show.p_value(c["p_holm"])} if "p_holm" in c else {"p, uncorrected": show.p_value(c["p"])}),
            "by document, 95 %": _by_document(c.get("by_document")),
        }
        for name, c in in_order(contrasts, CONTRASTS)
    ]


def probe_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the minimal pairs' accuracy by category, two rows a model, one for each question asked (``similarity``)."""
    return [
        {
            "is the paraphrase closer": question,
            "model": model,
            **{category: one["accuracy"] for category, one in answers.items()},
            "all, 95 %": show.interval(answers["all"]["low"], answers["all"]["high"]),
        }
        for question, metric in QUESTIONS.items()
        for model, answers in show.each(ordered(results), metric)
    ]


def separation_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return mean cosines of similar, negated and different pairs, and the separation score, a row a model."""
    return [
        {
            "model": model,
            **{kind: m[kind] for kind in ("similar", "negated", "different", "separation")},
            "separation, 95 %": show.interval(m["separation_low"], m["separation_high"]),
            "similar less negated": m["negated_gap"],
        }
        for model, m in show.each(ordered(results), "separation")
    ]


def numbers(
    corpus: Mapping[str, Any],
    retrieval: Mapping[str, Mapping],
    comparison: Mapping[str, Any],
    similarity: Mapping[str, Mapping],
    recipes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the numbers of corpus, retrieval and probe that the book quotes, by the name under which its pages ask for them.

    Args:
        corpus: record of 01.
        retrieval: model to its record of 03.
        comparison: the record of 03 on the recipe that the book tells of: ``tuned``, or without it the first.
        similarity: model to its record of 03.
        recipes: recipe to the names of its runs.
    """
    profile, base = comparison["params"]["profile"], comparison["params"]["base"]
    quoted: dict[str, Any] = {"profile": profile, "base": base, "runs": len(comparison["params"]["runs"])}
    quoted |= {"passages": corpus["counts"]["passages"], "leaks": corpus["counts"]["leaks_removed"]}
    quoted |= {f"{key}_removed": corpus["counts"][key] for key in ("exact_duplicates", "near_duplicates")}
    for task, m in comparison["metrics"].items():
        quoted |= {f"{task}_{key}": value for key, value in m.items() if not isinstance(value, Mapping)}
        quoted[f"{task}_verdict"] = verdict(m["low"], m["high"])
    for task, counts in retrieval[base]["counts"].items():
        quoted |= {f"{task}_queries": counts["queries"], f"{task}_candidates": counts["candidates"]}
        quoted |= {f"{task}_{floor}_mrr": retrieval[floor]["metrics"][task]["mrr"] for floor in show.FLOORS}
    quoted["probe_items"] = similarity[base]["counts"]["all"]
    for metric in QUESTIONS.values():
        right = {model: record["metrics"][metric]["all"]["accuracy"] for model, record in similarity.items()}
        quoted |= {f"{metric}_base": right[base], f"{metric}_tfidf": right["tfidf"]}
        means = {recipe: np.mean([right[run] for run in runs]) for recipe, runs in recipes.items()}
        quoted |= {f"{metric}_{recipe}": float(mean) for recipe, mean in means.items()}
        quoted.setdefault(f"{metric}_tuned", quoted[f"{metric}_{next(iter(recipes))}"] if recipes else NONE)
    quoted.setdefault("question_heldout_verdict", NONE)
    return quoted


def _by_document(m: Mapping[str, float] | None) -> str:
    return show.with_interval(m) if m else "none"


def _cosine(m: Mapping[str, float]) -> str:
    """Return mean and spread of the right answers' cosines; words alone have none."""
    if "mean_positive_cosine" not in m:
        return "none"
    return f"{m['mean_positive_cosine']:.3f} ± {m['sd_positive_cosine']:.3f}"
