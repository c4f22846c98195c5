"""How sure are we: intervals, paired tests, corrections for several.

Shapes: Q queries, G groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROWS = 512  # sign flips drawn at once: bounds the temporaries, never the result


def bootstrap(
    values: ArrayLike, seed: int, n: int = 1000, groups: ArrayLike | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean (Efron 1979).

    Values of one group (a patient's notes, a document's sentences) are drawn together: drawing them one by one pretends to
    more evidence than there is.

    Args:
        values: (Q,) one value a query, such as ``ranks <= 1``, ``1 / ranks`` or ``ndcg(...)``.
        seed: of the draws.
        n: number of draws.
        groups: (Q,) name or number of each value's group; by default each value is its own.
        level: share of the draws inside the interval.

    Returns:
        (low, high).

    Raises:
        ValueError: no values, NaN, groups of another length, or a level outside (0, 1).

    >>> bootstrap([1.0, 1.0, 1.0], seed=17)
    (1.0, 1.0)
    """
    return interval([group_sums(values_of(values, "values"), groups)], seed, n, level)


def interval(sets: list[tuple[NDArray, NDArray]], seed: int, n: int, level: float) -> tuple[float, float]:
    """Return the percentile interval of a set's mean, or of the first's less the second's, each drawn on its own.

    Sets are sums and numbers of groups (``group_sums``); the rest is as for ``bootstrap``.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    rng = np.random.default_rng(seed)
    means = np.zeros((n, 2))
    for i in range(n):
        for side, (sums, sizes) in enumerate(sets):
            drawn = rng.integers(0, len(sums), len(sums))
            means[i, side] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means[:, 0] - means[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(
    a: ArrayLike, b: ArrayLike, seed: int, n: int = 10_000, groups: ArrayLike | None = None
) -> dict[str, float]:
    """Return how much better a is than b on the same queries, with interval and p-value.

    The p-value is two-sided, from random sign flips of the differences (Fisher's randomisation test; Smucker, Allan and
    Carterette 2007), (1 + flips at least as large) / (1 + n); the interval is ``bootstrap`` of the differences.

    Args:
        a: (Q,) one value a query.
        b: (Q,) the same queries in the same order.
        seed: of flips and draws.
        n: number of flips.
        groups: (Q,) as for ``bootstrap``; a group's signs flip together.

    Returns:
        ``difference`` (mean of a - b), ``low``, ``high``, ``p``.

    Raises:
        ValueError: lengths differ, NaN, or no values.

    >>> paired_difference([1.0, 1.0], [1.0, 1.0], seed=17)
    {'difference': 0.0, 'low': 0.0, 'high': 0.0, 'p': 1.0}
    """
    first, second = values_of(a, "a"), values_of(b, "b")
    if first.shape != second.shape:
        raise ValueError(f"a has {first.size} values, b {second.size}; pairs need the same queries in the same order")
    change = first - second
    sums, _ = group_sums(change, groups)
    flipped = np.abs(sums[sums != 0])
    observed = abs(change.sum()) * (1 - 1e-12)  # a flip that gives the same sum in another order is a tie
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, n, ROWS):
        signs = rng.integers(0, 2, (min(ROWS, n - start), flipped.size), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ flipped) >= observed))
    low, high = bootstrap(change, seed, groups=groups)
    return {"difference": float(change.mean()), "low": low, "high": high, "p": (1 + extreme) / (1 + n)}


def holm(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for their number, step by step from the smallest (Holm 1979).

    Args:
        pvalues: (any,) in [0, 1], of all comparisons made, not only of those shown.

    Returns:
        The adjusted values in the given order, at most 1.

    Raises:
        ValueError: a value is NaN or outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = values_of(pvalues, "pvalues")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values go from 0 to 1; found {p[(p < 0) | (p > 1)][0]}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def values_of(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return one dimension of numbers as float64.

    Raises:
        ValueError: another shape, no values, or NaN, with what they are called.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} have shape {array.shape}; give one dimension, at least one value")
    if np.isnan(array).any():
        raise ValueError(f"{name} hold NaN at position {int(np.flatnonzero(np.isnan(array))[0])}")
    return array


def group_sums(values: NDArray[np.float64], groups: ArrayLike | None) -> tuple[NDArray, NDArray]:
    """Return sum and number of the values of each group: the units of a bootstrap; without groups each value is its own.

    Raises:
        ValueError: groups of another length.
    """
    if groups is None:
        return values, np.ones(len(values))
    names = np.asarray(groups)
    if names.shape != values.shape:
        raise ValueError(f"groups have shape {names.shape} for {values.size} values; give one each")
    _, member = np.unique(names, return_inverse=True)
    return np.bincount(member, values), np.bincount(member).astype(float)
