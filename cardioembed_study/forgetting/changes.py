"""What does a gain in one domain cost elsewhere, and what does merging give back?

Shapes: Q queries or pairs, M runs, N draws of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from mteb.abstasks import AbsTask, AbsTaskRetrieval
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from cardioembed_lib import metrics, models, statistics
from cardioembed_study.forgetting import mteb_models, mteb_tasks
from cardioembed_study.forgetting.mteb_models import Outcome
from cardioembed_study.retrieval import evaluation, pools

GOLD = 2  # right documents that a query brings into a subset
WEIGHTS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5)  # shares of the adapter, from the base through the tuned model and beyond
DEV_DOCUMENTS, DEV_QUERIES = 480, 160  # of a benchmark's part used in development: half a minute a model on two cores


def spearman(values: ArrayLike, judged: ArrayLike) -> NDArray[np.float64]:
    """Return Spearman's rank correlation along the last axis, equal values sharing their mean rank; 0 where all are equal.

    Args:
        values: (..., Q) cosines.
        judged: (..., Q) what people said of the same pairs.

    Returns:
        (...) float64 in [-1, 1].

    >>> float(spearman([0.1, 0.7, 0.4], [1.0, 3.0, 2.0]))
    1.0
    """
    ranks = [rankdata(x, axis=-1) for x in np.broadcast_arrays(values, judged)]
    first, second = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    return np.divide((first * second).sum(axis=-1), scale, out=np.zeros_like(scale), where=scale > 0)


def correlation_difference(
    after: ArrayLike, before: ArrayLike, judged: ArrayLike, seed: int, n: int = 10_000
) -> dict[str, float]:
    """Return by how much the mean correlation of some runs is above that of the base, on the same pairs.

    A correlation is no mean over pairs, so nothing can be flipped in sign: pairs are drawn with replacement, the same for
    every model (Efron 1979); p is two-sided, twice the share of draws on the other side of zero, (1 + k) / (1 + n).

    Args:
        after: (M, Q) cosines of the pairs, a row a run.
        before: (Q,) those of the base.
        judged: (Q,) what people said of them.
        seed: of the draws.
        n: number of draws.

    Returns:
        ``difference``, ``low``, ``high`` (95 %), ``p``.

    >>> correlation_difference([[0.1, 0.5, 0.9]], [0.1, 0.5, 0.9], [1, 2, 3], seed=17, n=100)["p"]
    1.0
    """
    runs, base, truth = np.atleast_2d(after), np.asarray(before), np.asarray(judged)
    drawn = np.random.default_rng(seed).integers(0, base.size, (n, base.size))
    change = np.mean([spearman(run[drawn], truth[drawn]) for run in runs], axis=0) - spearman(base[drawn], truth[drawn])
    low, high = np.quantile(change, [0.025, 0.975])
    other_side = min(np.count_nonzero(change <= 0), np.count_nonzero(change >= 0))
    difference = float(spearman(runs, truth).mean() - spearman(base, truth))
    return {
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "p": min(1.0, 2 * (1 + other_side) / (1 + n)),
    }


def measures(outcome: Outcome, seed: int, n: int = 1000) -> dict[str, float]:
    """Return mteb's scores of one model on one task, the main score with its 95 % bootstrap interval where it has one.

    The units drawn are queries, or the documents that they come from, or pairs; a task of another sort has no interval.

    Args:
        outcome: of ``mteb_models.evaluate``.
        seed: of the draws.
        n: number of draws.
    """
    if outcome.values is None:
        return dict(outcome.scores)
    if outcome.judged is None:
        low, high = statistics.bootstrap(outcome.values, seed, n, groups=outcome.clusters)
    else:
        drawn = np.random.default_rng(seed).integers(0, outcome.values.size, (n, outcome.values.size))
        low, high = np.quantile(spearman(outcome.values[drawn], outcome.judged[drawn]), [0.025, 0.975])
    return outcome.scores | {"low": float(low), "high": float(high)}


def compare(
    outcomes: Mapping[str, Mapping[str, Outcome]], base: str, runs: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    """Return tuned against base for each task, the runs' mean less the base's, query by query or pair by pair.

    Args:
        outcomes: by model, then by task.
        base: the model the runs started from.
        runs: the runs, one a seed.
        seed: of sign flips and bootstrap.

    Returns:
        For each task that has a value a query or pair: ``base``, ``tuned``, ``difference``, ``low``, ``high``, ``p``,
        ``p_holm`` (over these tasks), ``worst_seed`` and ``best_seed`` (difference of a single run), ``over_seeds``.
    """
    found = {}
    for name, before in outcomes[base].items():
        if before.values is None:
            continue
        each = np.array([outcomes[run][name].values for run in runs])  # (M, Q)
        if before.judged is None:
            scores, start = each.mean(axis=1), before.values.mean()
            change = statistics.paired_difference(each.mean(axis=0), before.values, seed, groups=before.clusters)
        else:
            scores, start = spearman(each, before.judged), spearman(before.values, before.judged)
            change = correlation_difference(each, before.values, before.judged, seed)
        found[name] = {"base": float(start), "tuned": float(scores.mean()), **change}
        found[name] |= {"worst_seed": float(scores.min() - start), "best_seed": float(scores.max() - start)}
        found[name] |= evaluation.over_seeds(scores - start)
    for entry, p in zip(
        found.values(), statistics.holm([m["p"] for m in found.values()]) if found else (), strict=True
    ):
        entry["p_holm"] = float(p)
    return found


def development(names: Sequence[str], seed: int) -> dict[str, AbsTask]:
    """Return small parts of the benchmarks' development splits, by ``<task>_<split>``; nothing of a test split is in them.

    Args:
        names: of the tasks asked; those without a development split, or whose files are not here, have no part.
        seed: of the draws.

    Raises:
        ValueError: a file or a count is not the manifest's.
    """
    asked = {}
    for name, split in mteb_tasks.DEVELOPMENT.items():
        if name in names and mteb_tasks.here(name):
            whole = mteb_tasks.from_files(name, split)
            asked[f"{name}_{split}"] = subset(whole, DEV_DOCUMENTS, DEV_QUERIES, seed)
    return asked


def subset(task: AbsTaskRetrieval, documents: int, queries: int, seed: int) -> AbsTaskRetrieval:
    """Return a smaller task of the same kind: some queries, up to ``GOLD`` right documents of each, others drawn at random.

    Its score is higher than the whole task's, because fewer documents compete: compare it with itself only.

    Args:
        task: a retrieval task with its texts.
        documents: in the pool, right ones included.
        queries: how many are drawn, at most.
        seed: of both draws.

    Raises:
        ValueError: the queries' right documents alone are more than the pool.
    """
    (split,) = task.eval_splits
    data = task.dataset["default"][split]
    rng, asked = np.random.default_rng(seed), sorted(data["relevant_docs"])
    drawn = {asked[i] for i in rng.permutation(len(asked))[:queries]}
    best = {q: sorted(data["relevant_docs"][q], key=lambda d: (-data["relevant_docs"][q][d], d))[:GOLD] for q in drawn}
    pool = {document for found in best.values() for document in found}
    if len(pool) > documents:
        raise ValueError(
            f"{len(drawn)} queries have {len(pool)} right documents, the pool holds {documents}; draw fewer"
        )
    others = sorted(set(data["corpus"]["id"]) - pool)
    pool |= {others[i] for i in rng.permutation(len(others))[: documents - len(pool)]}
    rows = [row for row in data["corpus"] if row["id"] in pool]
    texts = {row["id"]: row["text"] for row in data["queries"] if row["id"] in drawn}
    right = {q: {d: n for d, n in data["relevant_docs"][q].items() if d in pool} for q in texts}
    source = task.metadata.dataset
    revision = f"{source['revision']}-{documents}-{queries}-{seed}"
    return mteb_tasks.filled(type(task)(), split, rows, texts, right, source["path"], revision)


def curve(
    base: models.ModelSpec, adapter: Path, dev: pools.Task, asked: Mapping[str, AbsTask], cache: Path
) -> dict[str, list[float]]:
    """Return what the models between base and tuned score on development sets: what the share of an adapter is chosen by.

    Args:
        base: which model it was trained on.
        adapter: folder of the run's adapter.
        dev: the development documents' own pairs, as in ``02_train``.
        asked: of ``development``.
        cache: of embeddings.

    Returns:
        Lists of equal length: ``weight``, ``corpus_dev_mrr``, and the main score of each task asked.
    """
    found: dict[str, list[float]] = {key: [] for key in ("weight", "corpus_dev_mrr", *asked)}
    for weight in WEIGHTS:
        encoder = models.load(base, adapter=adapter, weight=weight)
        outcomes = mteb_models.evaluate(mteb_models.Model(encoder, "cardioembed/merged", cache), asked)
        found["weight"].append(weight)
        found["corpus_dev_mrr"].append(metrics.mrr(pools.evaluate(dev, encoder, cache).ranks))
        for name, outcome in outcomes.items():
            found[name].append(outcome.scores["main_score"])
    return found


def curves(
    base: models.ModelSpec,
    adapters: Mapping[str, Path],
    pairs: pl.DataFrame,
    tasks: Sequence[str],
    cache: Path,
    seed: int,
) -> tuple[dict[str, dict[str, list[float]]], dict[str, Any]]:
    """Return the ``curve`` of each of some adapters, by run, and the sizes of the development sets; nothing without adapters.

    Args:
        base: which model they were trained on.
        adapters: run to the folder of its adapter.
        pairs: definitions of the corpus; the dev documents' are asked.
        tasks: whose development parts are asked (``development``).
        cache: of embeddings.
        seed: of the parts.
    """
    if not adapters:
        return {}, {}
    own = pairs.filter(split="dev")
    dev, parts = pools.from_pairs("dev", own, own), development(tasks, seed)
    sizes = {"corpus_dev_mrr": {"queries": len(dev.queries)}} | {n: mteb_tasks.counts(t) for n, t in parts.items()}
    return {run: curve(base, adapter, dev, parts, cache) for run, adapter in adapters.items()}, sizes
