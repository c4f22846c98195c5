"""Does tuning help the small more than the large? One family of real weights, cut to its first layers, tuned alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardioembed_study.medembed.asked import Asked
from cardioembed_study.retrieval import contrasts, evaluation

JOINED = {  # what is asked, and the tasks that it joins
    "definitions": ("definition_cardiology", "definition_other"),
    "medquad": ("medquad_cardiology", "medquad_other"),
    "SciFact_part": ("SciFact_part",),
    "NFCorpus_part": ("NFCorpus_part",),
}


def measured(
    asked: Mapping[str, Asked],
    outcomes: Mapping[str, Mapping[str, NDArray[np.float64]]],
    members: Mapping[str, Sequence[str]],
    bases: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Return what each size gains or loses by tuning, and whether the smallest gains more than the largest.

    Args:
        asked: tasks by name, all those of ``JOINED``.
        outcomes: by model, then by task (``asked.scores``); bases and runs.
        members: recipe to its runs, the smallest model first.
        bases: recipe to the base that it started from.
        seed: of draws and sign flips.

    Returns:
        ``sizes``: recipe, then a key of ``JOINED``: ``base`` and ``tuned`` score, ``evaluation.of_seeds``.
        ``smallest_less_largest``: a key of ``JOINED`` to ``contrasts.measured`` of the difference of their gains.
    """
    found, gains = {}, {}
    for recipe, runs in members.items():
        before = {name: _joined([outcomes[bases[recipe]][task] for task in tasks]) for name, tasks in JOINED.items()}
        each = {
            name: np.array([_joined([outcomes[run][task] for task in tasks]) for run in runs])
            for name, tasks in JOINED.items()
        }
        gains[recipe] = {name: each[name].mean(axis=0) - before[name] for name in JOINED}
        found[recipe] = {
            name: {"base": float(before[name].mean()), "tuned": float(each[name].mean())}
            | evaluation.of_seeds(each[name], before[name], documents(asked, name), seed)
            for name in JOINED
        }
    small, *_, large = members
    less = {
        name: contrasts.measured(gains[small][name] - gains[large][name], documents(asked, name), seed)
        for name in JOINED
    }
    return {"sizes": found, "smallest_less_largest": less}


def documents(asked: Mapping[str, Asked], name: str) -> list[str]:
    """Return the units of the bootstrap of a key of ``JOINED``, query by query."""
    return list(chain.from_iterable(asked[task].clusters for task in JOINED[name]))


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts)
