"""How well does a model rank and separate, and how sure are we?

Shapes: Q queries, N candidates, D width, G groups; ranks are (Q,), 1-based; a list has k places, at least 1. Similarities are
compared in float32. **Ties count against us**: a candidate that scores as high as the right answer stands before it, so a model
that gives every text one vector finds nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cardioembed_lib import statistics

ROWS = 512  # rows compared at once: bounds the temporaries, never the result


def gold_ranks(
    similarities: ArrayLike,
    gold: ArrayLike | Sequence[Collection[int]] | None = None,
    exclude: ArrayLike | None = None,
    tolerance: float = 1e-6,
) -> NDArray[np.int64]:
    """Return the rank of each query's right answer among all candidates.

    The rank is the number of candidates that score at least as high as the right answer, itself included. With several right
    answers it is the rank of the best one, and the others never stand in its way. ``tolerance`` is there because a matrix
    product gives two equal vectors scores that differ in the last bit (up to 8e-7 seen with OpenBLAS, for the last columns
    of a block): without it a duplicate of the answer would be a coin toss instead of a tie.

    Args:
        similarities: (Q, N), any float type; higher is closer. ``-inf`` takes a candidate out of the pool.
        gold: (Q,) column of the right answer, or Q sets of columns; by default query i's answer is column i.
        exclude: (Q,) column of the query itself where it is in the pool, -1 where it is not; it is never counted.
        tolerance: scores this close are a tie; 0 compares float32 values exactly.

    Returns:
        (Q,) int64, from 1 (found first) to N.

    Raises:
        ValueError: a similarity is NaN; a shape or a column does not fit; a query has no right answer, or is its own.

    >>> gold_ranks([[0.9, 0.5, 0.9], [0.1, 0.2, 0.0]], [0, 1]).tolist()
    [2, 1]
    >>> gold_ranks([[0.9, 0.5, 0.9]], [{1, 2}], exclude=[0]).tolist()
    [1]
    """
    scores = _scores(similarities)
    n_queries, n_candidates = scores.shape
    rows, columns = _gold_cells(gold, n_queries, n_candidates)
    best = np.full(n_queries, -np.inf, dtype=np.float32)
    np.maximum.at(best, rows, scores[rows, columns])
    threshold = best - np.float32(tolerance)
    ranks = np.empty(n_queries, dtype=np.int64)
    for start in range(0, n_queries, ROWS):
        part = slice(start, start + ROWS)
        ranks[part] = np.count_nonzero(scores[part] >= threshold[part, None], axis=1)
    ranks -= np.bincount(rows, scores[rows, columns] >= threshold[rows], n_queries).astype(np.int64)
    if exclude is not None:
        own = _own_columns(exclude, n_queries, n_candidates, rows, columns)
        inside = np.flatnonzero(own >= 0)
        ranks[inside] -= scores[inside, own[inside]] >= threshold[inside]
    return ranks + 1


def accuracy_at(ranks: ArrayLike, k: int) -> float:
    """Return the share of queries whose right answer is among the first k (Acc@k; with one right answer also recall@k).

    >>> accuracy_at([1, 3, 12], 10)
    0.6666666666666666
    """
    return float(np.mean(_ranks(ranks) <= _cut(k)))


def mrr(ranks: ArrayLike, k: int | None = None) -> float:
    """Return the mean of 1/rank, answers after the first k counted as 0 (MRR, or MRR@k).

    >>> mrr([1, 2, 4]), mrr([1, 2, 4], k=2)
    (0.5833333333333334, 0.5)
    """
    return float(np.mean(_reciprocal(_ranks(ranks), k)))


def ndcg_at(ranks: ArrayLike, k: int) -> float:
    """Return nDCG@k where every query has one right answer: the mean of 1/log2(1 + rank), 0 after the first k.

    >>> ndcg_at([1, 3, 11], 10)
    0.5
    """
    return float(np.mean(_discounted(_ranks(ranks), k)))


def ndcg(similarities: ArrayLike, relevance: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return nDCG@k of each query for graded judgements and any number of right answers.

    Linear gains and a log2 discount, as trec_eval and MTEB have them (Järvelin and Kekäläinen 2002); among equal scores the
    least relevant stands first. Values rather than their mean, because intervals and paired tests need them.

    Args:
        similarities: (Q, N); higher is closer; ``-inf`` takes a candidate out of the pool.
        relevance: (Q, N), judgements, 0 = not relevant or not judged.
        k: length of the list, at least 1.

    Returns:
        (Q,) float64 in [0, 1].

    Raises:
        ValueError: a similarity is NaN; shapes differ; a judgement is negative; a query has none above 0.

    >>> ndcg([[0.9, 0.8, 0.1]], [[0, 1, 1]], k=2).round(4).tolist()
    [0.3869]
    """
    scores = _scores(similarities)
    gains = np.asarray(relevance, dtype=np.float64)
    if gains.shape != scores.shape:
        raise ValueError(f"relevance has shape {gains.shape}, similarities {scores.shape}; give one judgement a score")
    if not (gains >= 0).all():
        raise ValueError("relevance holds a negative value or NaN; judgements start at 0 = not relevant")
    empty = np.flatnonzero(gains.max(axis=1) == 0)
    if empty.size:
        raise ValueError(f"query {empty[0]} has no relevant candidate ({empty.size} such queries); leave them out")
    k = min(_cut(k), scores.shape[1])
    discounts = 1 / np.log2(np.arange(2, k + 2))
    worst_first = np.lexsort((gains, -scores), axis=-1)[:, :k]
    found = np.take_along_axis(gains, worst_first, axis=1) @ discounts
    ideal = -np.sort(-gains, axis=1)[:, :k] @ discounts
    return found / ideal


def pool_size_curve(
    similarities: ArrayLike,
    gold: ArrayLike | Sequence[Collection[int]] | None,
    sizes: Sequence[int],
    seed: int,
    repeats: int = 20,
    exclude: ArrayLike | None = None,
) -> dict[int, dict[str, float]]:
    """Return Acc@1 and MRR as they would be with fewer candidates, so that studies with other pools can be compared.

    Each query keeps its right answers and draws the rest of its pool anew. What matters of a draw is how many of the wrong
    candidates that beat the answer are in it, which is hypergeometric: so the draw is exact and costs no sorting.

    Args:
        similarities: (Q, N); higher is closer.
        gold: as for ``gold_ranks``.
        sizes: candidates in a pool, right answers included, without the query itself.
        seed: of the draws.
        repeats: pools drawn for each query.
        exclude: as for ``gold_ranks``.

    Returns:
        For each size ``acc_at_1``, ``mrr`` (means over queries and pools) and ``sd_acc_at_1``, ``sd_mrr`` (over pools).

    Raises:
        ValueError: as for ``gold_ranks``, and when a size is larger than the pool or smaller than a query's answers.

    >>> pool_size_curve([[0.9, 0.8, 0.7]], [1], sizes=[1, 3], seed=17)[3]["mrr"]
    0.5
    """
    n_queries, n_candidates = np.shape(similarities)
    ranks = gold_ranks(similarities, gold, exclude)
    n_right = np.bincount(_gold_cells(gold, n_queries, n_candidates)[0], minlength=n_queries)
    n_wrong = n_candidates - n_right
    if exclude is not None:
        n_wrong = n_wrong - (np.asarray(exclude) >= 0)
    smallest, largest = int(n_right.max()), int((n_right + n_wrong).min())
    rng = np.random.default_rng(seed)
    curve = {}
    for size in sizes:
        if not smallest <= size <= largest:
            raise ValueError(f"a pool of {size} cannot be drawn: sizes go from {smallest} to {largest} candidates")
        above = rng.hypergeometric(ranks - 1, n_wrong - ranks + 1, size - n_right, size=(repeats, n_queries))
        first, reciprocal = (above == 0).mean(axis=1), (1 / (above + 1)).mean(axis=1)
        curve[int(size)] = {
            "acc_at_1": float(first.mean()),
            "sd_acc_at_1": float(first.std()),
            "mrr": float(reciprocal.mean()),
            "sd_mrr": float(reciprocal.std()),
        }
    return curve


def positive_cosines(anchors: ArrayLike, positives: ArrayLike) -> NDArray[np.float32]:
    """Return the cosine of each anchor with its own positive.

    Args:
        anchors: (Q, D), need not be normalised.
        positives: (Q, D).

    Returns:
        (Q,) float32 in [-1, 1].

    Raises:
        ValueError: shapes differ, or a vector is zero.

    >>> positive_cosines([[2.0, 0.0]], [[1.0, 0.0]]).tolist()
    [1.0]
    """
    a, p = np.asarray(anchors, dtype=np.float32), np.asarray(positives, dtype=np.float32)
    if a.shape != p.shape or a.ndim != 2:
        raise ValueError(f"anchors have shape {a.shape}, positives {p.shape}; give two (Q, D) arrays in the same order")
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(p, axis=1)
    if not (norms > 0).all():
        raise ValueError(f"pair {int(np.flatnonzero(~(norms > 0))[0])} has a zero or NaN vector, which has no cosine")
    return np.clip(np.einsum("qd,qd->q", a, p) / norms, -1, 1)


def mean_positive_cosine(cosines: ArrayLike) -> tuple[float, float]:
    """Return mean and standard deviation (of the n pairs, not n - 1) of the positive cosines.

    The paper reports 0.909 ± 0.065 (CardioEmbed, section 3.1). Higher is not better by itself: a collapsed model has 1.

    Args:
        cosines: (Q,) from ``positive_cosines``.

    >>> mean_positive_cosine([0.5, 1.0])
    (0.75, 0.25)
    """
    values = statistics.values_of(cosines, "cosines")
    return float(values.mean()), float(values.std())


def summary(
    ranks: ArrayLike, positive_cosines: ArrayLike, seed: int, groups: ArrayLike | None = None
) -> dict[str, float]:
    """Return the metrics of one retrieval run, spelt as MTEB spells them, headline numbers with 95 % intervals.

    Args:
        ranks: (Q,) from ``gold_ranks``.
        positive_cosines: (Q,) from ``positive_cosines``.
        seed: of the bootstrap.
        groups: (Q,) as for ``bootstrap``.

    Returns:
        ``acc_at_k`` for k in 1, 5, 10, 20, 50, 100, ``mrr``, ``ndcg_at_10``, ``mean_positive_cosine``,
        ``sd_positive_cosine``; ``_low`` and ``_high`` of ``acc_at_1``, ``mrr`` and ``ndcg_at_10``.

    >>> summary([1, 2], [0.9, 0.7], seed=17)["mrr"]
    0.75
    """
    found = _ranks(ranks)
    result = {f"acc_at_{k}": accuracy_at(found, k) for k in (1, 5, 10, 20, 50, 100)}
    result |= {"mrr": mrr(found), "ndcg_at_10": ndcg_at(found, 10)}
    result["mean_positive_cosine"], result["sd_positive_cosine"] = mean_positive_cosine(positive_cosines)
    per_query = {"acc_at_1": found <= 1, "mrr": _reciprocal(found, None), "ndcg_at_10": _discounted(found, 10)}
    for name, values in per_query.items():
        result[f"{name}_low"], result[f"{name}_high"] = statistics.bootstrap(values, seed, groups=groups)
    return result


def separation(
    similar: ArrayLike,
    different: ArrayLike,
    seed: int,
    groups: tuple[ArrayLike, ArrayLike] | None = None,
    n: int = 1000,
    level: float = 0.95,
) -> dict[str, float]:
    """Return how far apart a model holds similar and different pairs: mean cosine of the ones minus mean of the others.

    The score of CardioEmbed's comparative study (section methods), with what the study leaves out: a percentile bootstrap
    interval, for which both sets of pairs are drawn anew, each on its own. It says nothing of opposites: a model that cannot
    see a negation may separate well.

    Args:
        similar: (S,) cosines of pairs that mean the same.
        different: (T,) cosines of pairs that have nothing to do with each other; S and T may differ.
        seed: of the draws.
        groups: (S,) and (T,) names or numbers; pairs of one group (a document's) are drawn together, as for ``bootstrap``.
        n: number of draws.
        level: share of the draws inside the interval.

    Returns:
        ``similar``, ``different`` (means), ``separation`` (their difference, at best 2, 0 where both are alike), ``low``,
        ``high``.

    Raises:
        ValueError: no values, NaN, groups of another length, or a level outside (0, 1).

    >>> separation([1.0, 0.5], [0.25, 0.25, 0.25], seed=17)["separation"]
    0.5
    """
    same, other = statistics.values_of(similar, "similar"), statistics.values_of(different, "different")
    names = (None, None) if groups is None else groups
    sets = [statistics.group_sums(values, own) for values, own in zip((same, other), names, strict=True)]
    low, high = statistics.interval(sets, seed, n, level)
    found = {"similar": same.mean(), "different": other.mean(), "separation": same.mean() - other.mean()}
    return {key: float(value) for key, value in (found | {"low": low, "high": high}).items()}


def _scores(similarities: ArrayLike) -> NDArray[np.float32]:
    scores = np.asarray(similarities, dtype=np.float32)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"similarities have shape {scores.shape}; give (queries, candidates), at least one of each")
    for start in range(0, len(scores), ROWS):
        bad = np.argwhere(np.isnan(scores[start : start + ROWS]))
        if bad.size:
            row, column = bad[0] + (start, 0)
            raise ValueError(f"similarity of query {row} and candidate {column} is NaN; look at their embeddings")
    return scores


def _gold_cells(gold, n_queries: int, n_candidates: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of all right answers, each cell once, rows ascending."""
    if gold is None:
        gold = range(n_queries)
    if len(gold) != n_queries:
        raise ValueError(f"gold has {len(gold)} entries for {n_queries} queries; give one each")
    several = [sorted(set(g)) if isinstance(g, Collection) and not isinstance(g, str) else [g] for g in gold]
    sizes = np.array([len(s) for s in several])
    if not sizes.all():
        raise ValueError(f"query {int(np.argmin(sizes))} has no right answer; leave it out")
    columns = np.array([c for s in several for c in s])
    if not np.issubdtype(columns.dtype, np.integer):
        raise ValueError(f"gold holds {columns.dtype} values; columns are whole numbers")
    rows = np.repeat(np.arange(n_queries), sizes)
    outside = np.flatnonzero((columns < 0) | (columns >= n_candidates))
    if outside.size:
        i = outside[0]
        raise ValueError(f"gold of query {rows[i]} is column {columns[i]}; columns go from 0 to {n_candidates - 1}")
    return rows, columns


def _own_columns(exclude: ArrayLike, n_queries: int, n_candidates: int, rows, columns) -> NDArray[np.int64]:
    own = np.asarray(exclude)
    if own.shape != (n_queries,) or not np.issubdtype(own.dtype, np.integer):
        raise ValueError(f"exclude has shape {own.shape} of {own.dtype}; give {n_queries} columns, -1 for none")
    if ((own < -1) | (own >= n_candidates)).any():
        raise ValueError(f"exclude has columns outside -1 to {n_candidates - 1}")
    clash = np.flatnonzero(own[rows] == columns)
    if clash.size:
        i = clash[0]
        raise ValueError(f"query {rows[i]} is excluded as column {columns[i]}, which is also its right answer")
    return own


def _ranks(ranks: ArrayLike) -> NDArray:
    found = np.asarray(ranks)
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"ranks have shape {found.shape}; give (queries,), at least one")
    if not (found >= 1).all():
        raise ValueError(f"ranks start at 1; found {found[~(found >= 1)][0]}")
    return found


def _cut(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}; a list has at least 1 place")
    return k


def _reciprocal(ranks: NDArray, k: int | None) -> NDArray[np.float64]:
    return 1 / ranks if k is None else np.where(ranks <= _cut(k), 1 / ranks, 0)


def _discounted(ranks: NDArray, k: int) -> NDArray[np.float64]:
    return np.where(ranks <= _cut(k), 1 / np.log2(1 + ranks), 0)
