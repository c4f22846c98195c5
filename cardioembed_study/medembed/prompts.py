"""What does an instruction before each query do for a model, and what is lost where a card prescribes it and it is left out?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cardioembed_lib.encoder import Encoder
from cardioembed_study.medembed import asked

NONE = {"query": "", "document": ""}


def effect(
    tasks: Mapping[str, asked.Asked], encoder: Encoder, prompts: Mapping[str, str], cache: Path, seed: int
) -> dict[str, dict[str, float]]:
    """Return what a model scores without prompts, less what the same weights score with them, for each task.

    Args:
        tasks: by name.
        encoder: the model; its own prompts do not count.
        prompts: ``query`` and ``document``: its card's, or another model's (``models.spec(name, table).prompts``).
        cache: folder of embeddings.
        seed: of sign flips and bootstrap.

    Returns:
        ``asked.compare``'s rows: ``base`` is with prompts, ``tuned`` without, ``difference`` the second less the first.
    """
    ways = {"prompted": dict(prompts), "unprompted": NONE}
    outcomes = {way: asked.scores(tasks, replace(encoder, prompts=given), cache) for way, given in ways.items()}
    return asked.compare(tasks, outcomes, "prompted", ["unprompted"], seed)
