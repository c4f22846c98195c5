"""What does an outcome say, alone and against the base?

Shapes: Q queries, N passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cardioembed_lib import metrics, statistics
from cardioembed_study.retrieval.pools import Outcome, Task

POOL_SIZES = (30, 100, 300, 1000, 3000, 10_000)


def measures(task: Task, outcome: Outcome, seed: int) -> dict:
    """Return the metrics of one model on one task; intervals are drawn over the documents the queries come from.

    Args:
        task: the task.
        outcome: of ``pools.evaluate`` or ``pools.floors``.
        seed: of bootstrap and pools.

    Returns:
        ``metrics.summary`` (without cosines for a lexical floor), and ``pool_sizes``: ``acc_at_1`` and ``mrr`` in smaller
        pools, the last one whole.
    """
    lexical = np.isnan(outcome.cosines).all()
    found = metrics.summary(
        outcome.ranks, np.zeros(len(outcome.ranks)) if lexical else outcome.cosines, seed, task.clusters
    )
    if lexical:
        found = {k: v for k, v in found.items() if "cosine" not in k}
    n = len(task.passages)
    sizes = [*(s for s in POOL_SIZES if s < n), n]
    return found | {"pool_sizes": metrics.pool_size_curve(outcome.similarities, task.gold, sizes, seed)}


def compare(
    asked: Mapping[str, Task], outcomes: Mapping[str, Mapping[str, Outcome]], base: str, runs: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    """Return tuned against base for each task: reciprocal ranks averaged over the runs, less the base's, query by query.

    Args:
        asked: tasks by name.
        outcomes: by model, then by task.
        base: the model the runs started from.
        runs: the runs, one a seed.
        seed: of sign flips and bootstrap; both take documents, not queries, as units.

    Returns:
        For each task ``base_mrr``, ``tuned_mrr``, ``difference``, ``low``, ``high``, ``p``, ``p_holm`` (over the tasks),
        ``worst_seed`` and ``best_seed`` (difference of a single run), ``over_seeds`` (their interval), ``by_document`` (the
        difference of means over documents, each one whatever its number of queries) and ``acc_at_1`` (the same of Acc@1, with
        ``base`` and ``tuned``).
    """
    found = {}
    for name, task in asked.items():
        before = 1 / outcomes[base][name].ranks
        each = np.array([1 / outcomes[run][name].ranks for run in runs])  # (runs, Q)
        after = each.mean(axis=0)
        found[name] = {
            "base_mrr": float(before.mean()),
            "tuned_mrr": float(after.mean()),
            **of_seeds(each, before, task.clusters, seed),
            "by_document": by_document(after - before, task.clusters, seed),
        }
        first, ours = outcomes[base][name].ranks == 1, np.mean([outcomes[run][name].ranks == 1 for run in runs], axis=0)
        change = statistics.paired_difference(ours, first, seed, groups=task.clusters)
        found[name]["acc_at_1"] = {"base": float(first.mean()), "tuned": float(ours.mean()), **change}
    for entry, p in zip(found.values(), statistics.holm([m["p"] for m in found.values()]), strict=True):
        entry["p_holm"] = float(p)
    return found


def of_seeds(each: NDArray[np.float64], before: NDArray[np.float64], groups: Sequence | None, seed: int) -> dict:
    """Return by how much the mean of some runs scores above the base, query by query, and how far the runs differ.

    Args:
        each: (runs, Q) scores.
        before: (Q,) the base's.
        groups: (Q,) units of sign flips and bootstrap; ``None``: the queries.
        seed: of both.

    Returns:
        ``statistics.paired_difference``, ``worst_seed`` and ``best_seed`` (difference of a single run), ``over_seeds``.
    """
    gains = (each - before).mean(axis=1)
    change = statistics.paired_difference(each.mean(axis=0), before, seed, groups=groups)
    return change | {"worst_seed": float(gains.min()), "best_seed": float(gains.max())} | over_seeds(gains)


def over_seeds(gains: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Return ``over_seeds``, Student's 95 % interval of the mean gain over seeds; nothing for one run.

    The interval over documents says what other texts would give, this one what other seeds would.

    >>> [round(end, 3) for end in over_seeds(np.array([0.0, 1.0, 2.0]))["over_seeds"].values()]
    [-1.484, 3.484]
    """
    if len(gains) < 2:
        return {}
    reach = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
    return {"over_seeds": {"low": float(gains.mean() - reach), "high": float(gains.mean() + reach)}}


def by_document(change: NDArray[np.float64], documents: Sequence[str], seed: int) -> dict[str, float]:
    """Return the mean over documents of a difference, each document one whatever its number of queries, with its interval.

    Args:
        change: (Q,) differences.
        documents: (Q,) where each query comes from.
        seed: of the draws.

    >>> by_document(np.array([0.0, 0.0, 1.0]), ["a", "a", "b"], seed=17)["difference"]
    0.5
    """
    sums, sizes = statistics.group_sums(change, documents)
    low, high = statistics.bootstrap(sums / sizes, seed)
    return {"difference": float(np.mean(sums / sizes)), "low": low, "high": high}


def counts(task: Task) -> dict[str, int]:
    """Return the number of queries, of documents that they come from, and of candidates: what stands beside every score."""
    return {
        "queries": len(task.queries),
        "documents": len(set(task.clusters)),
        "candidates": len(task.passages),
    }
