"""Which hard negatives are worth their time? The choice is made on dev, by the rule at the head of ``profiles/medembed.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardioembed_study import settings, show
from cardioembed_study.medembed import asked
from cardioembed_study.retrieval import evaluation

CLOSE = 0.005  # MRR: no better than this is as good, and the simpler is taken
ORDER = {  # recipes, the simplest first
    "none": "none",
    "random": "drawn from another document (CardioEmbed)",
    "bm25": "nearest by BM25, margin 5 %",
    "dense": "nearest by the base, margin 5 %",
    "window": "nearest by the base, from rank 11 on",
    "several": "two, by the base, from rank 11 on",
}


def choice(dev: Mapping[str, float], order: Iterable[str] = ORDER) -> str:
    """Return the simplest of the recipes whose score on dev is within ``CLOSE`` of the best.

    Args:
        dev: recipe to its score.
        order: the simplest first.

    >>> choice({"none": 0.700, "bm25": 0.706, "dense": 0.710})
    'bm25'
    """
    return next(name for name in order if name in dev and dev[name] >= max(dev.values()) - CLOSE - 1e-9)


def measured(
    task: asked.Asked,
    outcomes: Mapping[str, Mapping[str, NDArray[np.float64]]],
    base: str,
    members: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return what each choice of negatives scores on dev, against the base and against none.

    Args:
        task: dev documents' definitions.
        outcomes: by model, then by task (``asked.scores``).
        base: the model they started from.
        members: recipe to its runs; those of ``ORDER`` count.
        seed: of sign flips and bootstrap.

    Returns:
        For each recipe ``asked.compare``'s row against the base, and ``less_none``, ``evaluation.of_seeds``.
    """
    taken = [name for name in ORDER if name in members]
    found = {}
    for name in taken:
        found[name] = asked.compare({task.name: task}, outcomes, base, members[name], seed)[task.name]
        if "none" in taken and name != "none":
            plain, each = (np.array([outcomes[run][task.name] for run in members[r]]) for r in ("none", name))
            found[name]["less_none"] = evaluation.of_seeds(each, plain.mean(axis=0), task.clusters, seed)
    return found


def rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each choice of negatives with what it scores on dev and what it costs, a row a choice."""
    return [
        {
            "hard negatives": ORDER[name] + (", chosen" if name == record["params"]["chosen"] else ""),
            "dev MRR": m["tuned"],
            "less the base": show.with_interval(m),
            "less none": show.with_interval(m["less_none"]) if "less_none" in m else "",
            "worst and best seed": f"{m['worst_seed']:+.3f}, {m['best_seed']:+.3f}",
            "texts a pair": record["counts"]["texts"][name],
        }
        for name, m in in_order(record)
    ]


def in_order(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each choice's name and metrics, the simplest first."""
    return [(name, record["metrics"][name]) for name in ORDER if name in record["metrics"]]


def texts(negatives: str) -> int:
    """Return how many texts of one pair a training step embeds.

    >>> texts("none"), texts("mined"), texts("dense:10-50,num=4")
    (2, 3, 6)
    """
    mining = settings.mining(negatives)
    return 2 + (mining.num_negatives if mining else int(negatives != "none"))
