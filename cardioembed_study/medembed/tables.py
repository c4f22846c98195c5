"""What do the records of the MedEmbed study say, row by row?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cardioembed_study import show
from cardioembed_study.medembed import asked

TASKS = {
    "definition_cardiology": "definitions, cardiology",
    "definition_other": "definitions, other subjects",
    "medquad_cardiology": "MedQuAD questions, cardiology",
    "medquad_other": "MedQuAD questions, other subjects",
    "SciFact_part": "SciFact, part",
    "NFCorpus_part": "NFCorpus, part",
}
MEASURES = {asked.MRR: "MRR", asked.NDCG: "nDCG@10"}


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
