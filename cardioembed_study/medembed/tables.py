"""What do the records of the MedEmbed study say, row by row?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cardioembed_study import show

TASKS = {
    "definition_cardiology": "definitions, cardiology",
    "definition_other": "definitions, other subjects",
    "medquad_cardiology": "MedQuAD questions, cardiology",
    "medquad_other": "MedQuAD questions, other subjects",
    "SciFact_part": "SciFact, part",
    "NFCorpus_part": "NFCorpus, part",
}
JOINED = {
    "definitions": "held-out definitions, MRR",
    "medquad": "MedQuAD questions, MRR",
    "SciFact_part": "SciFact, part, nDCG@10",
    "NFCorpus_part": "NFCorpus, part, nDCG@10",
}


def recipe_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each recipe less the base on each task, a row a recipe and task."""
    return [
        {
            "trained": name,
            "task": TASKS.get(task, task),
            "n": record["counts"][task]["queries"],
            "documents": record["counts"][task]["documents"],
            "base": m["base"],
            "tuned": m["tuned"],
            **show.change(m),
        }
        for name, tasks in record["metrics"].items()
        for task, m in tasks.items()
    ]


def size_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what tuning gains or loses on each task at each size, a row a size and task, the smallest first."""
    return [
        {
            "layers": record["counts"]["layers"][recipe],
            "parameters, million": record["counts"]["parameters"][recipe] / 1e6,
            "task": JOINED[task],
            "base": m["base"],
            "tuned": m["tuned"],
            "difference": show.with_interval(m),
            "worst and best seed": f"{m['worst_seed']:+.3f}, {m['best_seed']:+.3f}",
        }
        for recipe, tasks in record["metrics"]["sizes"].items()
        for task, m in tasks.items()
    ]
