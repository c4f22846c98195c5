"""What do the vectors of clinical notes know of the patient: can the diagnoses be read off them?

A linear probe, as the MIMIC study has it, in two splits. By *rows*, as published: notes of one admission, with the same
codes, stand on both sides, so the probe may recognise the patient instead of the disease. By *patients*: nobody is on both.

Shapes: N notes, D width, K codes, S scored notes, B draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, train_test_split
from tqdm import tqdm

from cardioembed_study.clinical import Count, people

SPLITS = ("rows", "patients")
AT_ONCE = 50  # draws weighed at once: bounds the temporaries, never the result


def top_codes(codes: Sequence[Collection[str]], top: int) -> list[str]:
    """Return the codes that most notes have, the most frequent first, among equals the first in the alphabet.

    Args:
        codes: N lists; a code that stands twice in one counts once.
        top: how many, or as many as there are.

    >>> top_codes([["4019", "25000"], ["25000"], ["4019"], ["V270"]], top=2)
    ['25000', '4019']
    """
    counts = Counter(code for own in codes for code in set(own))
    return sorted(counts, key=lambda code: (-counts[code], code))[:top]


def weighted_auroc(
    scores: ArrayLike, positive: ArrayLike, weights: ArrayLike, folds: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the AUROC once for each row of weights, sorting once: the chance that a note with stands above one without.

    Args:
        scores: (S,); among equals half a pair is won.
        positive: (S,) whether the note has the code.
        weights: (B, S), at least 0, for example how often a draw took each note.
        folds: (S,) only notes of one fold are compared; by default all with all.

    Returns:
        (B,) float64 in [0, 1]; NaN where no note with and note without of one fold have weight.

    >>> weighted_auroc([0.1, 0.2, 0.3], [0, 1, 0], [[1, 1, 1], [3, 1, 1], [1, 0, 1]]).tolist()
    [0.5, 0.75, nan]
    """
    score, has = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    part = np.zeros(len(score), dtype=int) if folds is None else np.asarray(folds)
    order = np.lexsort((score, part))
    score, part = score[order], part[order]
    border = np.append(True, part[1:] != part[:-1])
    ties = np.flatnonzero(border | np.append(True, score[1:] != score[:-1]))  # where each run of equal scores begins
    weight = np.asarray(weights, dtype=np.float64)[:, order]
    with_code = np.add.reduceat(weight * has[order], ties, axis=1)
    without = np.add.reduceat(weight * ~has[order], ties, axis=1)
    below = np.cumsum(without, axis=1) - without / 2
    starts = np.flatnonzero(border[ties])
    n_with, n_without = np.add.reduceat(with_code, starts, axis=1), np.add.reduceat(without, starts, axis=1)
    earlier = np.cumsum(n_without, axis=1) - n_without  # of folds before: counted in ``below``, but never compared
    won = (np.add.reduceat(with_code * below, starts, axis=1) - n_with * earlier).sum(axis=1)
    pairs = (n_with * n_without).sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(weight), np.nan), where=pairs > 0)


def auroc(
    vectors: ArrayLike,
    codes: Sequence[Collection[str]],
    patients: ArrayLike,
    split: str,
    seed: int,
    top: int = 25,
    folds: int = 5,
    unseen: Collection | None = None,
    draws: int = 1000,
) -> dict:
    """Return how well one logistic regression a code reads the most frequent codes off the notes.

    As published: the codes most notes have, notes without any of them dropped, one-vs-rest, C = 1, lbfgs. In the split by
    patients every note is scored once, by a classifier that has not seen its patient, and compared with notes of its own
    fold alone, because the scores of two classifiers share no scale: the fold with more cases is taught by fewer. Compared
    across folds, vectors that know nothing got 0.443 instead of 0.5, and 0.490 within (our simulation, 60 patients).

    Args:
        vectors: (N, D).
        codes: N lists of the codes of the note's admission.
        patients: (N,) name or number.
        split: "rows", where a random fifth of the notes is scored; or "patients", in ``folds`` folds.
        seed: of split and draws.
        top: number of codes.
        folds: of the split by patients.
        unseen: patients the encoder was not trained on; used in the split by patients alone.
        draws: of patients, for the intervals.

    Returns:
        ``macro``, the mean over codes, ``low`` and ``high`` (95 %: the notes' patients are drawn, the classifiers stay);
        ``per_code``: for each ``auroc``, and ``notes`` and ``patients`` that have it; ``skipped``: codes
        that a classifier could not learn or the scored notes could not tell, for want of notes with or without; ``notes``
        kept, ``dropped``, ``scored``; ``patients`` of the scored notes; ``drawn``, (draws,) macro in each draw, paired where
        notes and seed are the same.

        With ``unseen`` and "patients" also ``unseen``: ``macro``, ``low``, ``high``, ``codes``, ``notes``, ``patients``,
        ``drawn``, of the scored notes of these patients alone.

    Raises:
        ValueError: lengths differ; a vector is not finite; an unknown split; fewer patients than folds; no note has a code;
            no scored note is of an unseen patient; no code can be scored.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; known: {', '.join(SPLITS)}")
    if top < 1 or draws < 1:
        raise ValueError(f"top is {top}, draws are {draws}; both start at 1")
    x, owners = _checked(vectors, codes, patients)
    names = top_codes(codes, top)
    y = np.array([[name in own for name in names] for own in codes], dtype=bool)
    kept = np.flatnonzero(y.any(axis=1))
    if not kept.size:
        raise ValueError(f"none of the {len(codes)} notes has a code; look at how diagnoses were joined to notes")
    uncoded, x, y, owners = owners[~y.any(axis=1)], x[kept], y[kept], owners[kept]
    scores, fold = _scored(x, y, _parts(owners, split, folds, seed))
    scored = fold >= 0
    result, each = _macro(scores[scored], y[scored], fold[scored], owners[scored], np.unique(owners), draws, seed)
    per_code = {
        name: {"auroc": float(value), "notes": Count(owners[has]), "patients": people(owners[has])}
        for name, value, has in zip(names, each, y.T, strict=True)
        if not np.isnan(value)
    }
    result |= {"per_code": per_code, "skipped": len(names) - len(per_code), "patients": people(owners[scored])}
    result |= {"notes": Count(owners), "dropped": Count(uncoded), "scored": Count(owners[scored])}
    if unseen is not None and split == "patients":
        rows = scored & np.isin(owners, list(unseen))
        if not rows.any():
            raise ValueError(
                f"no scored note is of one of the {len(unseen)} unseen patients; compare the two sets of ids"
            )
        mine = owners[rows]
        alone, each = _macro(scores[rows], y[rows], fold[rows], mine, np.unique(mine), draws, seed)
        counts = {"codes": int((~np.isnan(each)).sum()), "notes": Count(mine), "patients": people(mine)}
        result["unseen"] = alone | counts
    return result


def interval(draws: NDArray[np.float64]) -> dict[str, float]:
    """Return ``low`` and ``high``, between which 95 % of the draws lie, NaN left out.

    >>> interval(np.array([0.0, np.nan, 1.0]))
    {'low': 0.025, 'high': 0.975}
    """
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def _parts(owners: NDArray, split: str, folds: int, seed: int) -> list[tuple[NDArray, NDArray]]:
    """Return rows to learn from and rows to score, once or fold by fold."""
    if split == "rows":
        return [tuple(train_test_split(np.arange(len(owners)), test_size=0.2, random_state=seed))]
    if not 2 <= folds <= _distinct(owners):
        raise ValueError(
            f"{folds} folds of {_distinct(owners)} patients; choose 2 folds or more, and no more than patients"
        )
    return list(GroupKFold(folds, shuffle=True, random_state=seed).split(owners, groups=owners))


def _scored(x: NDArray, y: NDArray, parts: list[tuple[NDArray, NDArray]]) -> tuple[NDArray, NDArray]:
    """Return (N, K) scores and (N,) folds, -1 where a note is not scored.

    A code that all notes to learn from have, or none of them, cannot be learnt: its scores are NaN.
    """
    scores, fold = np.full(y.shape, np.nan), np.full(len(y), -1)
    with tqdm(total=len(parts) * y.shape[1], desc="codes", unit="fit", leave=False) as bar:
        for number, (learn, score) in enumerate(parts):
            fold[score] = number
            known, asked = x[learn], x[score]
            for k, has in enumerate(y[learn].T):
                if has.any() and not has.all():
                    model = LogisticRegression(C=1.0, solver="lbfgs", max_iter=1000).fit(known, has)
                    scores[score, k] = model.decision_function(asked)
                bar.update()
    return scores, fold


def _macro(
    scores, y, fold, owners, everyone: NDArray, draws: int, seed: int
) -> tuple[dict[str, float | NDArray], NDArray[np.float64]]:
    """Return the macro AUROC with its interval and draws, and (K,) the AUROC of each code, NaN where there is none.

    ``everyone``: the patients drawn from, sorted; the same ones for two splits of one set of notes, so that draws are paired.
    """
    member, n_patients = np.searchsorted(everyone, owners), len(everyone)
    once = np.ones((1, len(y)))
    each = np.array([weighted_auroc(score, has, once, fold)[0] for score, has in zip(scores.T, y.T, strict=True)])
    each[np.isnan(scores).any(axis=0)] = np.nan  # not learnt
    usable = np.flatnonzero(~np.isnan(each))
    if not usable.size:
        raise ValueError(
            f"none of {y.shape[1]} codes can be scored on {len(y)} notes of {n_patients} patients: none has notes with and "
            "without it where it was learnt and where it is scored; take more patients"
        )
    times = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=draws)
    macros = []
    for start in range(0, draws, AT_ONCE):
        weights = times[start : start + AT_ONCE, member]
        drawn = np.array([weighted_auroc(scores[:, k], y[:, k], weights, fold) for k in usable])  # (codes, draws)
        n_codes = (~np.isnan(drawn)).sum(axis=0)
        macros.append(
            np.divide(np.nansum(drawn, axis=0), n_codes, out=np.full(len(n_codes), np.nan), where=n_codes > 0)
        )
    macro = np.concatenate(macros)  # NaN where a draw took no code's notes
    return {"macro": float(each[usable].mean()), "drawn": macro} | interval(macro), each


def _checked(vectors, codes, patients) -> tuple[NDArray[np.float64], NDArray]:
    x, owners = np.asarray(vectors, dtype=np.float64), np.asarray(patients)
    if x.ndim != 2 or not len(x) == len(codes) == len(owners):
        raise ValueError(
            f"vectors have shape {x.shape} for {len(codes)} lists of codes and {len(owners)} patients; one each"
        )
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise ValueError(f"vectors hold NaN or infinite values in row {bad[0]} ({bad.size} such rows)")
    for row, own in enumerate(codes):
        if own is None or isinstance(own, str):
            raise ValueError(
                f"codes of row {row} are of type {type(own).__name__}; give a list of codes, empty for none"
            )
    return x, owners


def _distinct(names: NDArray) -> int:
    return len(np.unique(names))
