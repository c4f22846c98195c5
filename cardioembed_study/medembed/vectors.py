"""What do smaller vectors cost: the first numbers only, fewer bits a number, and a second look at the nearest?

Passages are kept small; a query is made once and stays in float32, but for its signs in a first pass.

Shapes: Q queries, N passages, D width of the model, W numbers kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sentence_transformers import quantize_embeddings

from cardioembed_lib import files, pooling, statistics
from cardioembed_study.medembed import asked
from cardioembed_study.retrieval import contrasts

WIDTHS = (384, 256, 128, 64, 32)  # of our model: what ``losses.matryoshka`` cuts it to
FIRST = 40  # passages that a first pass lets through: sentence-transformers' example, four times the ten that are shown
BITS = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}  # of one number
PRECISIONS = {  # what is kept of a passage: the first is searched, a second look takes the last
    "float32": ("float32",),
    "float16": ("float16",),
    "int8": ("int8",),
    "binary": ("binary",),  # Hamming distance alone
    "binary_rescored": ("binary", "binary"),  # of the nearest, the query in float32 against the signs
    "binary_int8": ("binary", "int8"),  # of the nearest, against int8
}


def cut(vectors: ArrayLike, width: int) -> NDArray[np.float32]:
    """Return unit vectors of the first ``width`` numbers (``pooling.normalise``); the vectors themselves at full width.

    Raises:
        ValueError: if the width is outside 1..D.

    >>> cut([[0.36, 0.48, 0.8]], 2).round(6).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    array = np.asarray(vectors, dtype=np.float32)
    return array if width == array.shape[1] else pooling.normalise(torch.tensor(array), width).numpy()


def size(width: int, precision: str) -> int:
    """Return the bytes that are kept of a passage; the ranges of int8, 8 bytes a number, are kept once for all passages.

    Raises:
        ValueError: if there is no such precision.

    >>> [size(384, precision) for precision in PRECISIONS]
    [1536, 768, 384, 48, 48, 432]
    """
    return sum(math.ceil(width * BITS[form] / 8) for form in set(_forms(precision)))


def sizes(widths: Sequence[int] = WIDTHS) -> dict[str, dict[str, int]]:
    """Return the bytes that are kept of a passage, by precision and width."""
    return {precision: {str(width): size(width, precision) for width in widths} for precision in PRECISIONS}


def ranges(vectors: ArrayLike) -> NDArray[np.float32]:
    """Return least and greatest value of each number, (2, W): what int8 divides into 256 steps, of passages and never of queries.

    >>> ranges([[0.0, 3.0], [1.0, 2.0]]).tolist()
    [[0.0, 2.0], [1.0, 3.0]]
    """
    return np.stack([np.min(vectors, axis=0), np.max(vectors, axis=0)]).astype(np.float32)


def encoded(vectors: NDArray[np.float32], form: str, bounds: NDArray[np.float32]) -> NDArray:
    """Return vectors as they are kept, (N, W), for ``binary`` (N, W / 8) rounded up.

    Args:
        vectors: (N, W).
        form: a key of ``BITS``.
        bounds: (2, W) ranges; a value outside becomes the nearest inside.
    """
    if form == "float16":
        return vectors.astype(np.float16)
    return quantize_embeddings(vectors, "ubinary" if form == "binary" else form, ranges=bounds)


def decoded(kept: NDArray, form: str, bounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is kept as numbers again, (N, W): the middle of an int8 step, and -1 or 1 for a sign."""
    width = bounds.shape[1]
    if form == "int8":
        return bounds[0] + (kept.astype(np.float32) + np.float32(128.5)) * ((bounds[1] - bounds[0]) / 255)
    if form == "binary":
        return np.unpackbits(kept, axis=1, count=width).astype(np.float32) * 2 - 1
    return kept.astype(np.float32)


def similarities(
    queries: ArrayLike,
    passages: ArrayLike,
    width: int | None = None,
    precision: str = "float32",
    *,
    calibration: ArrayLike | None = None,
    first: int = FIRST,
    grades: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Return how close each passage is to each query once vectors are cut and passages kept at a precision.

    Args:
        queries: (Q, D) unit vectors.
        passages: (N, D) unit vectors.
        width: numbers kept; all when ``None``.
        precision: a key of ``PRECISIONS``. ``binary`` gives the cosine of the signs, 1 - 2 * (Hamming distance) / W.
        calibration: (any, D) vectors whose ranges int8 takes, in place of the passages.
        first: passages that a first pass lets through; the query itself, where it is among them, takes a place.
        grades: (Q, N) relevance: of passages equally far at the end of the first pass the least relevant are let through,
            for ties count against us. Without grades it is the earliest.

    Returns:
        (Q, N) float32; ``-inf`` for what a first pass left out.

    Raises:
        ValueError: NaN, vectors not of length 1, another shape or width, no such precision, or ``first`` below 1.

    >>> similarities([[0.6, 0.8]], [[0.8, 0.6], [0.8, -0.6]], precision="binary").tolist()
    [[1.0, 0.0]]
    """
    forms = _forms(precision)
    q, p = _unit(queries, "queries"), _unit(passages, "passages")
    sample = p if calibration is None else _unit(calibration, "calibration")
    if len(widths := {x.shape[1] for x in (q, p, sample)}) > 1:
        raise ValueError(f"vectors are {' and '.join(map(str, sorted(widths)))} numbers wide; wanted one width")
    if first < 1:
        raise ValueError(f"first is {first}; wanted 1 or more")
    q, p, sample = (cut(x, x.shape[1] if width is None else width) for x in (q, p, sample))
    bounds = ranges(sample)
    scores = q @ decoded(encoded(p, forms[-1], bounds), forms[-1], bounds).T
    if forms[0] == "binary":
        signs = [decoded(encoded(x, "binary", bounds), "binary", bounds) for x in (q, p)]
        shared = signs[0] @ signs[1].T / q.shape[1]
        scores = shared if len(forms) == 1 else np.where(_nearest(shared, grades, first), scores, -np.inf)
    return scores.astype(np.float32)


def measured(
    tasks: Mapping[str, asked.Asked],
    vectors: Callable[[str], Mapping[str, tuple[ArrayLike, ArrayLike]]],
    members: Mapping[str, Sequence[str]],
    seed: int,
    widths: Sequence[int] = WIDTHS,
) -> dict[str, Any]:
    """Return what each recipe scores at each width and precision, what that loses, and what training for it gains.

    Args:
        tasks: by name, all those of ``asked.JOINED``.
        vectors: from the name of a model to its vectors of queries and passages, by task (``asked.vectors``).
        members: recipe to its models, whose scores are averaged; ``none`` and ``matryoshka`` are compared.
        seed: of draws and sign flips.
        widths: numbers kept, the whole first.

    Returns:
        ``kept``: recipe, key of ``asked.JOINED``, precision and width to ``score`` and the ``difference`` to the same models'
        whole vectors in float32, with ``low`` and ``high`` (95 %, over ``asked.units``). ``matryoshka_less_none``: key and
        width to ``contrasts.measured``, in float32.
    """
    scored = {recipe: _scored(tasks, [vectors(m) for m in models], widths) for recipe, models in members.items()}
    units, kept = asked.units(tasks), {}
    for recipe, of in scored.items():
        for (precision, width), by_name in of.items():
            for name, score in by_name.items():
                whole = of["float32", widths[0]][name]
                less = statistics.paired_difference(score, whole, seed, groups=units[name])
                place = kept.setdefault(recipe, {}).setdefault(name, {}).setdefault(precision, {})
                place[str(width)] = {"score": float(score.mean()), **less}
    pair = [scored[recipe] for recipe in ("matryoshka", "none") if recipe in scored]
    less = {
        name: {
            str(width): contrasts.measured(
                pair[0]["float32", width][name] - pair[1]["float32", width][name], units[name], seed
            )
            for width in widths
        }
        for name in asked.JOINED
        if len(pair) == 2
    }
    return {"kept": kept, "matryoshka_less_none": less}


def _scored(
    tasks: Mapping[str, asked.Asked], models: Sequence[Mapping[str, tuple]], widths: Sequence[int]
) -> dict[tuple[str, int], dict[str, NDArray[np.float64]]]:
    """Return the mean of some models' scores by precision and width, then by key of ``asked.JOINED``, query by query."""
    found = {}
    for precision in PRECISIONS:
        for width in widths:
            each = [
                {
                    name: asked.score(task, similarities(*model[name], width, precision, grades=task.grades))
                    for name, task in tasks.items()
                }
                for model in models
            ]
            found[precision, width] = asked.joined(
                {name: np.mean([scores[name] for scores in each], axis=0) for name in tasks}
            )
    return found


def _forms(precision: str) -> tuple[str, ...]:
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; {files.near_miss(precision, PRECISIONS)}")
    return PRECISIONS[precision]


def _unit(vectors: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} have shape {array.shape}; give (texts, width), at least one of each")
    lengths = np.linalg.norm(array, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))  # NaN is no length either
    if bad.size:
        raise ValueError(f"{name} have length {lengths[bad[0]]:.3g} in row {bad[0]} ({bad.size} such rows); wanted 1")
    return array


def _nearest(scores: NDArray[np.float32], grades: ArrayLike | None, first: int) -> NDArray[np.bool_]:
    """Return (Q, N) True for the ``first`` highest of each row, the least relevant first among equals."""
    order = np.lexsort((np.zeros_like(scores) if grades is None else np.asarray(grades), -scores), axis=-1)[:, :first]
    inside = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(inside, order, True, axis=1)
    return inside
