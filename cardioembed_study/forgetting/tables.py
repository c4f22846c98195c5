"""What do the records of benchmarks, forgetting, similarity and the grid say, row by row? Nothing here measures anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from cardioembed_study.retrieval import tables
from cardioembed_study.show import label, ordered

KEPT_FROM = ("BIOSSES", "SciFact", "NFCorpus")  # benchmarks of 04 that an adapter should not lose on; MedQuAD is in 03
P = 0.05  # a gain counts below it, after Holm's correction
GAIN, LOSS = 0.04, 0.005  # the target: MRR gained at least, main score lost at most on any benchmark


def mteb_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return main scores on MTEB tasks, a row a model and task, with n and interval."""
    return [
        {
            "task": task,
            "model": label(model),
            "n": _size(results[model]["counts"][task]),
            "main score": m["main_score"],
            "95 %": f"{m['low']:.4f} to {m['high']:.4f}" if "low" in m else "none",
        }
        for task in dict.fromkeys(task for record in results.values() for task in record["metrics"])
        for model in ordered(results)
        if (m := results[model]["metrics"].get(task))
    ]


def truth_rows(results: Mapping[str, Mapping], base: str, official: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the base's scores beside the official ones.

    Args:
        results: model to ``mteb`` record.
        base: whose scores.
        official: task to official main score, 0..1.
    """
    found = results[base]["metrics"]
    return [
        {
            "task": task,
            "n": _size(results[base]["counts"][task]),
            "official": f"{value:.4f}",
            "measured here": f"{found[task]['main_score']:.4f}",
            "difference": f"{found[task]['main_score'] - value:+.4f}",
        }
        for task, value in official.items()
        if task in found
    ]


def change_rows(recipe: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a record ``forgetting.<recipe>`` or ``comparison.<recipe>`` says of each task; nothing if it was not run.

    Args:
        recipe: its name.
        record: of 04, or of 03, whose scores are MRR.
    """
    return [
        {
            "recipe": recipe,
            "task": task,
            "n": _size(record["counts"][task]),
            "seeds": len(record["params"]["runs"]),
            "base": f"{m.get('base_mrr', m.get('base')):.4f}",
            "tuned": f"{m.get('tuned_mrr', m.get('tuned')):.4f}",
            "difference": f"{m['difference']:+.4f}",
            "95 % interval": f"{m['low']:+.4f} to {m['high']:+.4f}",
            "p (Holm)": "< 0.001" if m["p_holm"] < 0.001 else f"{m['p_holm']:.3f}",
            "worst and best seed": f"{m['worst_seed']:+.4f}, {m['best_seed']:+.4f}",
        }
        for task, m in record["metrics"].items()
    ]


def forgetting_rows(recipe: str, forgetting: Mapping[str, Any], comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a recipe's gain and losses, a row a task: the headline of 03, MedQuAD, and the benchmarks of 04.

    Args:
        recipe: its name.
        forgetting: record of 04.
        comparison: record of 03.
    """
    gains = [row for row in change_rows(recipe, comparison) if row["task"] == headline(comparison)]
    asked = [row for row in change_rows(recipe, comparison) if "medquad" in row["task"]]
    return [*gains, *asked, *change_rows(recipe, forgetting)]


def headline(comparison: Mapping[str, Any]) -> str:
    """Return the task whose gain counts: held-out cardiology definitions where there are any, else the first one asked."""
    return (
        "definition_cardiology"
        if "definition_cardiology" in comparison["metrics"]
        else next(iter(comparison["counts"]))
    )


def measured(comparisons: Mapping[str, Mapping]) -> dict[str, list[str]]:
    """Return each recipe that was compared with the base, and its runs, ``tuned`` first."""
    run = {recipe: record["params"]["runs"] for recipe, record in comparisons.items() if record["status"] == "run"}
    return dict(sorted(run.items(), key=lambda item: item[0] != "tuned"))


def changes(results: Mapping[str, Mapping], recipes: Sequence[str]) -> dict[str, tuple[Mapping, Mapping]]:
    """Return the records of 04 and of 03 for each recipe that both have compared with the base."""
    asked = results["forgetting"]
    return {r: (asked[r], results["comparison"][r]) for r in recipes if r in asked and asked[r]["status"] == "run"}


def points(results: Mapping[str, Mapping], changed: Mapping[str, tuple[Mapping, Mapping]], base: str) -> pl.DataFrame:
    """Return gain and worst loss of each recipe's mean, and of each run, for the frontier.

    Args:
        results: measurement to model to record; ``retrieval`` and ``mteb`` are read.
        changed: of ``changes``.
        base: the model they started from.

    Returns:
        ``name``, ``gain`` (MRR), ``loss`` (main score of the benchmark that lost most; MRR for MedQuAD).
    """
    rows = []
    for recipe, (forgetting, comparison) in changed.items():
        task, lost = headline(comparison), losses(comparison, forgetting)
        rows.append((f"{recipe}, mean", comparison["metrics"][task]["difference"], max(lost.values())))
        for run in forgetting["params"]["runs"]:
            gain = _moved(results["retrieval"], run, base, task, "mrr")
            rows.append((run, gain, max(run_losses(results, run, base, lost).values())))
    return pl.DataFrame(rows, schema={"name": pl.String, "gain": pl.Float64, "loss": pl.Float64}, orient="row")


def losses(comparison: Mapping[str, Any], forgetting: Mapping[str, Any]) -> dict[str, float]:
    """Return what a recipe's mean lost on each benchmark that it should keep: base minus tuned, negative for a gain.

    A profile without those benchmarks is judged by the tasks it has.
    """
    found = {task: -m["difference"] for task, m in comparison["metrics"].items() if "medquad" in task}
    kept = {t: -m["difference"] for t, m in forgetting["metrics"].items() if t in KEPT_FROM}
    return (found | kept) or {t: -m["difference"] for t, m in forgetting["metrics"].items()}


def run_losses(results: Mapping[str, Mapping], run: str, base: str, tasks: Iterable[str]) -> dict[str, float]:
    """Return what one run lost on each task, base minus tuned: MRR for tasks of 03, the main score for those of 04."""
    return {
        task: -_moved(results["retrieval"], run, base, task, "mrr")
        if task in results["retrieval"][base]["metrics"]
        else -_moved(results["mteb"], run, base, task, "main_score")
        for task in tasks
    }


def target(
    results: Mapping[str, Mapping], comparison: Mapping[str, Any], forgetting: Mapping[str, Any]
) -> dict[str, Any]:
    """Return whether a recipe reaches the target, with the numbers it is judged by.

    The gain is the recipe's: the mean of at least three seeds, Holm p below 0.05. The losses are those of one adapter, the
    run that lost least on its worst benchmark; the mean's worst loss stands beside it.

    Args:
        results: measurement to model to record; ``retrieval`` and ``mteb`` are read.
        comparison: the recipe's record of 03.
        forgetting: the recipe's record of 04.
    """
    m, lost, base = (
        comparison["metrics"][headline(comparison)],
        losses(comparison, forgetting),
        comparison["params"]["base"],
    )
    each = {run: run_losses(results, run, base, lost) for run in forgetting["params"]["runs"]}
    best = min(each, key=lambda run: max(each[run].values()))
    worst = {"mean": max(lost, key=lost.get), "adapter": max(each[best], key=each[best].get)}
    seeds = len(comparison["params"]["runs"])
    gained = m["difference"] >= GAIN and m["p_holm"] < P and seeds >= 3
    return {
        "gain": m["difference"],
        "p": m["p_holm"],
        "seeds": f"{seeds}, {len(each)}",
        "mean_worst": worst["mean"],
        "mean_loss": lost[worst["mean"]],
        "adapter": best,
        "adapter_worst": worst["adapter"],
        "adapter_loss": each[best][worst["adapter"]],
        "met": bool(gained and each[best][worst["adapter"]] <= LOSS and set(KEPT_FROM) <= set(lost)),
    }


def target_rows(results: Mapping[str, Mapping], changed: Mapping[str, tuple[Mapping, Mapping]]) -> list[dict[str, Any]]:
    """Return the target against each recipe, a row a recipe; five digits, since a margin can be small.

    Args:
        results: as for ``target``.
        changed: of ``changes``.
    """
    reached = {recipe: target(results, comparison, forgetting) for recipe, (forgetting, comparison) in changed.items()}
    return [
        {
            "recipe": recipe,
            "seeds of gain, of loss": t["seeds"],
            "gain, MRR": f"{t['gain']:+.3f}",
            "p (Holm)": f"{t['p']:.4f}",
            "worst loss, mean": f"{t['mean_loss']:+.5f} ({t['mean_worst']})",
            "worst loss, best adapter": f"{t['adapter_loss']:+.5f} ({t['adapter_worst']}, {t['adapter']})",
            "target met": "yes" if t["met"] else "no",
        }
        for recipe, t in reached.items()
    ]


def missing_rows(records: Mapping[str, Mapping]) -> list[dict[str, str]]:
    """Return what could not be run, and why."""
    return [{"task": task, "why it was not run": record["reason"]} for task, record in records.items()]


def official(ledger: Mapping[str, Any], base: str) -> dict[str, float]:
    """Return the official main scores of a model that the ledger quotes, by task, 0..1."""
    head = f"official.minilm.{base}."
    return {key.removeprefix(head).split(".")[0]: c.value / 100 for key, c in ledger.items() if key.startswith(head)}


def numbers(
    results: Mapping[str, Mapping],
    recipes: Mapping[str, Sequence[str]],
    changed: Mapping[str, tuple[Mapping, Mapping]],
    base: str,
) -> dict[str, Any]:
    """Return the numbers of this part of the study that the book quotes in its text."""
    found: dict[str, Any] = {"recipes": len(recipes), "probe_items": results["similarity"][base]["counts"]["all"]}
    for metric in tables.QUESTIONS.values():
        right = {m: record["metrics"][metric]["all"]["accuracy"] for m, record in results["similarity"].items()}
        found |= {f"{metric}_base": right[base], f"{metric}_tfidf": right["tfidf"]}
        found |= {
            f"{metric}_{recipe}": float(np.mean([right[run] for run in runs])) for recipe, runs in recipes.items()
        }
    reached = {recipe: target(results, comparison, forgetting) for recipe, (forgetting, comparison) in changed.items()}
    best = max(reached, key=lambda recipe: _merit(reached[recipe]), default="none")
    met = reached.get(best, {}).get("met")
    found |= {"target_gain": GAIN, "target_loss": LOSS, "target_p": P}
    return found | {"target_recipe": best, "target_verdict": {True: "met", False: "not met", None: "not measured"}[met]}


def _merit(found: Mapping[str, Any]) -> tuple[bool, float]:
    """Return what orders recipes: the target met, then gain less worst loss."""
    return bool(found["met"]), found["gain"] - found["adapter_loss"]


def _moved(results: Mapping[str, Mapping], run: str, base: str, task: str, metric: str) -> float:
    return results[run]["metrics"][task][metric] - results[base]["metrics"][task][metric]


def _size(counts: Any) -> int:
    """Return n of a task: queries, or pairs."""
    return counts if isinstance(counts, int) else counts.get("queries", counts.get("pairs"))
