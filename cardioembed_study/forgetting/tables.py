"""What do the records of benchmarks and of forgetting say, row by row? Nothing here measures anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardioembed_study import show
from cardioembed_study.forgetting import target
from cardioembed_study.retrieval.tables import TASKS
from cardioembed_study.show import label, ordered


def mteb_rows(results: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return main scores on MTEB tasks, a row a model and task, with n and interval."""
    return [
        {
            "task": task,
            "model": label(model),
            "n": target.size(record["counts"][task]),
            "main score": m["main_score"],
            "95 %": show.interval(m["low"], m["high"], ".4f") if "low" in m else "none",
        }
        for task in dict.fromkeys(task for record in results.values() for task in record["metrics"])
        for model, record in ordered(results).items()
        if (m := record["metrics"].get(task))
    ]


def truth_rows(results: Mapping[str, Mapping], base: str, official: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the base's scores beside the official ones.

    Args:
        results: model to ``mteb`` record.
        base: whose scores.
        official: task to official main score, 0..1.
    """
    ours = {task: m["main_score"] for task, m in results[base]["metrics"].items()}
    return [
        {
            "task": task,
            "n": target.size(results[base]["counts"][task]),
            "official": f"{value:.4f}",
            "measured here": f"{ours[task]:.4f}",
            "difference": f"{ours[task] - value:+.4f}",
        }
        for task, value in official.items()
        if task in ours
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
            "n": target.size(record["counts"][task]),
            "seeds": len(record["params"]["runs"]),
            "base": f"{m.get('base_mrr', m.get('base')):.4f}",
            "tuned": f"{m.get('tuned_mrr', m.get('tuned')):.4f}",
            **show.change(m, 4),
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
    asked = {row["task"]: row for row in change_rows(recipe, comparison)}
    first = [target.headline(comparison), *(task for task in asked if "medquad" in task)]
    return [asked[task] for task in first] + change_rows(recipe, forgetting)


def measured(comparisons: Mapping[str, Mapping]) -> dict[str, list[str]]:
    """Return each recipe that was compared with the base, and its runs, ``tuned`` first."""
    runs = {recipe: record["params"]["runs"] for recipe, record in comparisons.items() if record["status"] == "run"}
    return dict(sorted(runs.items(), key=lambda item: item[0] != "tuned"))


def target_rows(pairs: Mapping[str, tuple[Mapping, Mapping]]) -> list[dict[str, Any]]:
    """Return the target against each recipe, a row a recipe and benchmark, with the intervals over texts and over seeds.

    Args:
        pairs: of ``target.compared``.
    """
    rows = []
    for recipe, (forgetting, comparison) in pairs.items():
        judged = target.judge(forgetting, comparison)
        for task, (answer, needed) in judged["decisions"].items():
            record = comparison if task in comparison["metrics"] else forgetting
            m, n = record["metrics"][task], target.size(record["counts"][task])
            over_seeds = m.get("over_seeds")
            rows.append(
                {
                    "recipe": recipe,
                    "task": TASKS.get(task, task),
                    "n": n,
                    "seeds": len(record["params"]["runs"]),
                    "difference": f"{m['difference']:+.4f}",
                    "95 % over texts": show.interval(m["low"], m["high"], "+.4f"),
                    "95 % over seeds": show.interval(over_seeds["low"], over_seeds["high"], "+.4f")
                    if over_seeds
                    else "none recorded",
                    f"loss above {target.MARGIN:g} ruled out": answer,
                    "n that would decide": f"{needed:,}" if answer == target.UNDECIDED else "decided",
                }
            )
    return rows


def missing_rows(records: Mapping[str, Mapping]) -> list[dict[str, str]]:
    """Return what could not be run, and why."""
    return [{"task": task, "why it was not run": record["reason"]} for task, record in records.items()]


def official(ledger: Mapping[str, Any], base: str) -> dict[str, float]:
    """Return the official main scores of a model that the ledger quotes, by task, 0..1."""
    head = f"official.minilm.{base}."
    return {key.removeprefix(head).split(".")[0]: c.value / 100 for key, c in ledger.items() if key.startswith(head)}


def numbers(
    recipes: Mapping[str, Sequence[str]],
    pairs: Mapping[str, tuple[Mapping, Mapping]],
    curves: Mapping[str, Mapping],
) -> dict[str, Any]:
    """Return the numbers of this part of the study that the book quotes in its text.

    The recipe named is that of the best verdict; among equals that of most gain less worst loss.

    Args:
        recipes: of ``measured``.
        pairs: of ``target.compared``.
        curves: run to its record ``curve``.
    """
    judged = {recipe: target.judge(*pair) for recipe, pair in pairs.items()}
    order = ("not met", "cannot be decided", "met")
    worst = {recipe: max(target.losses(*pair).values()) for recipe, pair in pairs.items()}
    merit = {r: (order.index(t["verdict"]), t["gain"] - worst[r]) for r, t in judged.items()}
    best = max(merit, key=merit.get, default="none")
    verdict = judged[best]["verdict"] if best in judged else "not measured"
    quoted = {"recipes": len(recipes), "target_gain": target.GAIN, "target_loss": target.MARGIN, "target_p": target.P}
    return quoted | {"target_recipe": best, "target_verdict": verdict, "chosen_merge": _chosen(curves)}


def _chosen(curves: Mapping[str, Mapping]) -> str:
    """Return in words what the rule for merges takes on development sets."""
    taken = target.choice({run: record["metrics"] for run, record in curves.items()})
    if not taken:
        return "not measured"
    if not taken["weight"]:
        return "the base itself, for every other point loses more"
    return f"{taken['weight']:g} of {taken['run']}, {taken['gain']:+.3f} MRR on dev, {taken['worst_loss']:+.4f} lost"
