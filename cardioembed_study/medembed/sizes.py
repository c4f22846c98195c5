"""Does tuning help the small more than the large? One family of real weights, cut to its first layers, tuned alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardioembed_lib import encoder as encoders
from cardioembed_study.medembed import asked
from cardioembed_study.retrieval import contrasts, evaluation

RECIPES = ("layers1", "layers2", "layers3", "layers4", "none")  # the same training, the smallest base first


def described(profile: str, base: str) -> dict[str, int]:
    """Return how many layers and parameters a base has."""
    model = asked.model(profile, base).model
    return {"layers": model.config.num_hidden_layers, "parameters": sum(p.numel() for p in model.parameters())}


def texts_per_second(profile: str, base: str, texts: Sequence[str]) -> float:
    """Return how many texts a base embeds in a second of one processor, the median of three times; other work does not count."""
    encoder, times = asked.model(profile, base), []
    for _ in range(3):
        started = time.process_time()
        encoders.encode(encoder, texts)
        times.append(time.process_time() - started)
    return len(texts) / float(np.median(times))


def measured(
    tasks: Mapping[str, asked.Asked],
    outcomes: Mapping[str, Mapping[str, NDArray[np.float64]]],
    members: Mapping[str, Sequence[str]],
    bases: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Return what each size gains or loses by tuning, and whether the smallest gains more than the largest.

    Args:
        tasks: by name, all those of ``asked.JOINED``.
        outcomes: by model, then by task (``asked.scores``); bases and runs.
        members: recipe to its runs, the smallest model first.
        bases: recipe to the base that it started from.
        seed: of draws and sign flips.

    Returns:
        ``sizes``: recipe, then a key of ``asked.JOINED``: ``base`` and ``tuned`` score, ``evaluation.of_seeds``.
        ``smallest_less_largest``: a key of ``asked.JOINED`` to ``contrasts.measured`` of the difference of their gains.
    """
    units, found, gains = asked.units(tasks), {}, {}
    for recipe, runs in members.items():
        before, each = asked.joined(outcomes[bases[recipe]]), [asked.joined(outcomes[run]) for run in runs]
        found[recipe], gains[recipe] = {}, {}
        for name, start in before.items():
            scored = np.array([run[name] for run in each])
            gains[recipe][name] = scored.mean(axis=0) - start
            found[recipe][name] = {"base": float(start.mean()), "tuned": float(scored.mean())}
            found[recipe][name] |= evaluation.of_seeds(scored, start, units[name], seed)
    small, *_, large = gains.values()
    less = {name: contrasts.measured(small[name] - large[name], units[name], seed) for name in asked.JOINED}
    return {"sizes": found, "smallest_less_largest": less}
