"""Does a model find a patient's next note, and how much of what was published is that?

Three answers from the same scores, because the published one leaves the query itself in the pool. *Published*: every note
that follows another is a candidate, the query too, which always finds itself first. *Corrected*: the query is taken out.
*Other patients*: so are all notes of its patient but the right one, which leaves the question whether a model tells patients
apart. Ties count against us, as in ``metrics.gold_ranks``.

Shapes: Q queries, N candidates, D width, b queries of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from tqdm import tqdm

from cardioembed_lib import metrics, statistics
from cardioembed_study.clinical import KS, Count, people

FORMS = ("published", "corrected", "other_patients")
GROUPS = {"seen": "train", "unseen": "test"}  # patients whose notes a run learnt from, and patients nobody learnt from
Scores = Callable[[NDArray[np.int64]], ArrayLike]  # (b,) numbers of queries -> (b, N), higher is closer


def pool(anchor_ids: ArrayLike, positive_ids: ArrayLike) -> tuple[NDArray, NDArray[np.int64], NDArray[np.int64]]:
    """Return the candidates of a list of pairs, and where each query finds its answer and itself among them.

    Of three notes in a row the second is an answer and a query: it stands in the pool and asks it.

    Args:
        anchor_ids: (Q,) names or numbers of the queries' notes.
        positive_ids: (Q,) of the notes that follow them.

    Returns:
        ``ids`` (N,), the different positives, sorted; ``gold`` (Q,), columns of the answers; ``own`` (Q,), columns of the
        queries themselves, -1 where a query is nobody's answer.

    Raises:
        ValueError: lengths differ, there is no pair, or a note follows itself.

    >>> ids, gold, own = pool([7, 8, 9], [8, 9, 4])
    >>> ids.tolist(), gold.tolist(), own.tolist()
    ([4, 8, 9], [1, 2, 0], [-1, 1, 2])
    """
    anchors, positives = np.asarray(anchor_ids), np.asarray(positive_ids)
    if anchors.shape != positives.shape or anchors.ndim != 1 or anchors.size == 0:
        raise ValueError(f"anchors have shape {anchors.shape}, positives {positives.shape}; give one of each a pair")
    same = np.flatnonzero(anchors == positives)
    if same.size:
        raise ValueError(
            f"pair {same[0]} is of a note and itself ({same.size} such pairs); a note's answer is the next"
        )
    ids, gold = np.unique(positives, return_inverse=True)
    near = np.minimum(np.searchsorted(ids, anchors), len(ids) - 1)
    return ids, gold, np.where(ids[near] == anchors, near, -1)


def cosines(queries: ArrayLike, candidates: ArrayLike) -> Scores:
    """Return the scores of a dense model: cosines, computed for the queries that are asked for and no others.

    Args:
        queries: (Q, D), need not be normalised.
        candidates: (N, D).

    Returns:
        A function from numbers of queries to their (b, N) float32 cosines.

    Raises:
        ValueError: widths differ, or a vector is zero or not finite.

    >>> cosines([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]])(np.array([1])).tolist()
    [[0.0]]
    """
    q, p = units(queries, "queries"), units(candidates, "candidates")
    if q.shape[1] != p.shape[1]:
        raise ValueError(f"queries are {q.shape[1]} wide, candidates {p.shape[1]}; embed both with the same model")
    return lambda rows: q[rows] @ p.T


def units(vectors: ArrayLike, name: str, dtype: DTypeLike = np.float32) -> NDArray:
    """Return (N, D) vectors of length 1, computed in ``dtype``.

    Raises:
        ValueError: another shape, no vector, or one that is zero or not finite, with ``name`` and its row.
    """
    array = np.asarray(vectors, dtype=dtype)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} have shape {array.shape}; give (notes, width), at least one of each")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    bad = np.flatnonzero(~((lengths > 0) & np.isfinite(lengths)))
    if bad.size:
        raise ValueError(f"{name} hold a zero, NaN or infinite vector in row {bad[0]} ({bad.size} such rows)")
    return array / lengths


def note_recall(
    scores: Scores,
    gold: ArrayLike,
    own: ArrayLike,
    patients: ArrayLike,
    pool_patients: ArrayLike,
    seed: int,
    ks: Sequence[int] = KS,
    block: int = 512,
) -> dict:
    """Return recall@k of the next note in three forms, with what chance and the best possible model would reach.

    Memory is that of a few (block, N) arrays; the block changes nothing but speed.

    Args:
        scores: of a block of queries against the whole pool: ``cosines(queries, candidates)``, or for words
            ``lambda rows: search.bm25_scores([texts[r] for r in rows], candidate_texts)``, best with larger blocks.
        gold: (Q,) column of the right answer.
        own: (Q,) column of the query's own note, -1 where it is not in the pool.
        patients: (Q,) name or number of the query's patient.
        pool_patients: (N,) of the candidates' patients.
        seed: of the bootstrap.
        ks: lengths of the list.
        block: queries scored at once.

    Returns:
        For each of ``FORMS`` and each k ``recall_at_k``, ``_low`` and ``_high`` (95 %, 1000 draws of pairs in the published
        form, as published, and of patients in the others) and ``random_at_k`` (expected of random scores). In the published
        form also ``ceiling_at_k``: the most that cosines can reach, because a query in the pool stands first itself (if
        both sides are embedded alike; words have no such ceiling).

        ``effective_k``: share of queries in the pool, for whom k places are k - 1. ``same_patient_before``: share whose right
        answer stands, query taken out, behind another note of the same patient. ``same_patient_candidates``: such notes a
        query, mean. ``queries``, ``candidates``, ``patients``. ``ranks``: of each form, (Q,), for comparisons of two models.

    Raises:
        ValueError: a shape, column or k does not fit; a query's answer or own note is of another patient, or both are one;
            scores have another shape than asked for, or hold NaN.

    >>> scores = cosines([[1.0, 0.0], [0.6, 0.8]], [[0.6, 0.8], [0.0, 1.0], [0.8, 0.6]])
    >>> found = note_recall(scores, [0, 1], [-1, 0], ["a", "a"], ["a", "a", "b"], seed=17, ks=[1])
    >>> [found[form]["recall_at_1"] for form in FORMS], found["published"]["ceiling_at_1"]
    ([0.0, 0.0, 0.0], 0.5)
    """
    answers, itself, asking, owners = _checked(gold, own, patients, pool_patients)
    if block < 1 or min(ks, default=0) < 1:
        raise ValueError(f"block is {block}, ks are {list(ks)}; both start at 1, and at least one k is needed")
    ranks = _ranks(scores, answers, itself, asking, owners, block)
    n, inside = len(owners), itself >= 0
    kin = np.bincount(owners, minlength=asking.max() + 1)[asking]
    left = {"published": np.full(len(answers), n), "corrected": n - inside, "other_patients": n - kin + 1}
    groups = {"published": None, "corrected": asking, "other_patients": asking}
    result: dict = {form: _form(ranks[form], left[form], groups[form], seed, ks) for form in FORMS}
    result["published"] |= {f"ceiling_at_{k}": float(np.mean(~inside)) if k == 1 else 1.0 for k in ks}
    return result | {
        "effective_k": float(inside.mean()),
        "same_patient_before": float(np.mean(ranks["corrected"] > ranks["other_patients"])),
        "same_patient_candidates": float(np.mean(kin - 1 - inside)),
        "queries": Count(asking),
        "candidates": Count(owners),
        "patients": people(asking),
        "ranks": ranks,
    }


def _ranks(scores: Scores, gold, own, patients, owners, block: int) -> dict[str, NDArray[np.int64]]:
    """Return the ranks in each form; the second and third differ by the notes of the query's patient alone."""
    ranks = {form: np.empty(len(gold), dtype=np.int64) for form in FORMS}
    with tqdm(total=len(gold), desc="note recall", unit="query", leave=False) as bar:
        for start in range(0, len(gold), block):
            rows = np.arange(start, min(start + block, len(gold)))
            table = _block(scores, rows, len(owners))
            ranks["published"][rows] = metrics.gold_ranks(table, gold[rows])
            ranks["corrected"][rows] = metrics.gold_ranks(table, gold[rows], exclude=own[rows])
            kin = patients[rows, None] == owners[None, :]
            kin[np.arange(len(rows)), gold[rows]] = False
            table[kin] = -np.inf
            ranks["other_patients"][rows] = metrics.gold_ranks(table, gold[rows])
            bar.update(len(rows))
    return ranks


def _block(scores: Scores, rows: NDArray[np.int64], n_candidates: int) -> NDArray[np.float32]:
    """Return the scores of some queries, in an array of our own."""
    table = np.array(scores(rows), dtype=np.float32)
    where = f"queries {rows[0]} to {rows[-1]}"
    if table.shape != (len(rows), n_candidates):
        raise ValueError(f"scores of {where} have shape {table.shape}; give ({len(rows)}, {n_candidates})")
    if not np.isfinite(table).all():
        raise ValueError(f"scores of {where} hold NaN or infinite values; look at their embeddings")
    return table


def _form(
    ranks: NDArray, candidates: NDArray, groups: NDArray | None, seed: int, ks: Sequence[int]
) -> dict[str, float]:
    result = {}
    for k in ks:
        low, high = statistics.bootstrap(ranks <= k, seed, groups=groups)
        result |= {
            f"recall_at_{k}": metrics.accuracy_at(ranks, k),
            f"recall_at_{k}_low": low,
            f"recall_at_{k}_high": high,
        }
        result[f"random_at_{k}"] = float(np.minimum(k / candidates, 1).mean())
    return result


def _checked(gold, own, patients, pool_patients) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return columns of answers and queries, and the patients of queries and candidates as numbers from 0.

    Errors name rows, never patients: their ids may be restricted.
    """
    answers, itself, asking, owners = (np.asarray(x) for x in (gold, own, patients, pool_patients))
    shapes = {"gold": answers.shape, "own": itself.shape, "patients": asking.shape}
    if len(set(shapes.values())) > 1 or answers.ndim != 1 or answers.size == 0 or owners.ndim != 1:
        raise ValueError(
            f"shapes are {shapes}, pool_patients {owners.shape}; give (Q,) three times, at least one, and (N,)"
        )
    for name, columns, lowest in (("gold", answers, 0), ("own", itself, -1)):
        if not np.issubdtype(columns.dtype, np.integer):
            raise ValueError(f"{name} holds {columns.dtype} values; columns are whole numbers")
        outside = np.flatnonzero((columns < lowest) | (columns >= len(owners)))
        if outside.size:
            i = outside[0]
            raise ValueError(
                f"{name} of query {i} is column {columns[i]}; columns go from {lowest} to {len(owners) - 1}"
            )
    same = np.flatnonzero(answers == itself)
    if same.size:
        raise ValueError(
            f"query {same[0]} is its own right answer ({same.size} such queries); its answer is the next note"
        )
    for name, columns in (("right answer", answers), ("own note", itself)):
        strange = np.flatnonzero((columns >= 0) & (owners[columns] != asking))
        if strange.size:
            raise ValueError(f"the {name} of query {strange[0]} is of another patient ({strange.size} such queries)")
    numbers = np.unique(np.concatenate([asking, owners]), return_inverse=True)[1]
    return answers.astype(np.int64), itself.astype(np.int64), numbers[: len(asking)], numbers[len(asking) :]
