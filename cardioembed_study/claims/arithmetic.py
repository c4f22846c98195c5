"""What do the checks of published numbers compute with?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from transformers import BertConfig, PretrainedConfig, Qwen3Config

from cardioembed_lib import lora

QWEN = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 8}
LARGE = {"num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 8}
SIZES: dict[str, tuple[type[PretrainedConfig], dict[str, int]]] = {  # as in config.json; a vocabulary has no adapter
    "Qwen3-Embedding-8B": (Qwen3Config, {"hidden_size": 4096, "intermediate_size": 12288} | QWEN),
    "Qwen3-4B": (Qwen3Config, {"hidden_size": 2560, "intermediate_size": 9728} | QWEN),
    "BioLinkBERT-large": (BertConfig, {"hidden_size": 1024, "intermediate_size": 4096} | LARGE),
}


def near(ours: ArrayLike, published: ArrayLike, unit: ArrayLike) -> bool:
    """Return whether numbers agree, all of them, to a unit of the last published digit.

    >>> near(0.509, 0.510, 0.001), near(0.508, 0.510, 0.001), near([0.509, 0.508], [0.510, 0.510], 0.001)
    (True, False, False)
    """
    return bool(np.all(np.abs(np.subtract(ours, published)) <= np.add(unit, 1e-9)))


def shares(parts: ArrayLike) -> np.ndarray:
    """Return the parts of a whole in percent.

    >>> shares([1, 3]).tolist()
    [25.0, 75.0]
    """
    return 100 * np.divide(parts, np.sum(parts))


def listed(numbers: Sequence[float], form: str, names: Sequence[str] = ()) -> str:
    """Return numbers as text, each with its name where there are names.

    >>> listed([69.2, 34.8], "{:.1f} %"), listed([0.73, 12.02], "{:g} GB", ["A", "B"])
    ('69.2 %, 34.8 %', '0.73 GB (A), 12.02 GB (B)')
    """
    said = [form.format(number) for number in numbers]
    return ", ".join([f"{one} ({name})" for one, name in zip(said, names, strict=True)] if names else said)


@cache
def lora_numbers(model: str, targets: str) -> int:
    """Return how many numbers one rank of a LoRA adapter has; an adapter of rank r has r times as many.

    Args:
        model: a key of ``SIZES``.
        targets: as in ``lora.target_modules``. One block is counted: they are all alike.

    >>> 16 * lora_numbers("BioLinkBERT-large", "qv")
    1572864
    """
    kind, sizes = SIZES[model]
    one = lora.count_from_config(kind(**sizes | {"num_hidden_layers": 1}), 1, targets)
    return one * sizes["num_hidden_layers"]


def projections() -> dict[str, int]:
    """Return how many numbers one rank of an adapter has in each linear layer of Qwen3-Embedding-8B, over all its blocks."""
    sizes = SIZES["Qwen3-Embedding-8B"][1]
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    asked, kept = (sizes[heads] * sizes["head_dim"] for heads in ("num_attention_heads", "num_key_value_heads"))
    ends = {"q": width + asked, "k": width + kept, "v": width + kept, "o": width + asked}
    ends |= dict.fromkeys(("gate", "up", "down"), width + inner)
    return {name: sizes["num_hidden_layers"] * end for name, end in ends.items()}


def adapters_of(megabytes: float, rank: int) -> dict[tuple[str, ...], float]:
    """Return the sets of linear layers whose float32 adapter of a rank has that size, to a percent, with their MB (10^6 bytes).

    >>> [name for name, size in adapters_of(117, 16).items() if "gate" in name and "up" in name and "q" in name]
    [('q', 'k', 'v', 'gate', 'up')]
    """
    each = projections()
    sets = [names for n in range(1, len(each) + 1) for names in combinations(each, n)]
    sizes = {names: 4 * rank * sum(each[name] for name in names) / 1e6 for names in sets}
    return {names: size for names, size in sizes.items() if near(size / megabytes, 1, 0.01)}


def entropy_floor(chapters: float, batch: int, weight: float, total: int, seed: int = 17, batches: int = 100) -> float:
    """Return the mean entropy, in nats, of soft targets by shared chapters: the loss cannot fall below it.

    Targets: 1 for the own pair, ``weight`` times the share of the anchor's chapters that another pair has; rows sum to 1.
    Admissions draw their chapters evenly and independently, so that they share as few as chance allows.

    Args:
        chapters: mean number an admission has; drawn as the whole number below or above.
        batch: pairs a batch.
        weight: of a pair that shares every chapter.
        total: chapters there are.
        seed: of the draws.
        batches: averaged.

    >>> entropy_floor(3, batch=1, weight=0.3, total=19)
    0.0
    """
    random, entropies = np.random.default_rng(seed), []
    for _ in range(batches):
        sizes = np.floor(chapters + random.random(batch))
        held = random.random((batch, total)).argsort(axis=1).argsort(axis=1) < sizes[:, None]
        targets = weight * (held.astype(float) @ held.T) / held.sum(axis=1, keepdims=True)
        np.fill_diagonal(targets, 1)
        targets /= targets.sum(axis=1, keepdims=True)
        entropies.append(-(targets * np.log(np.where(targets > 0, targets, 1))).sum(axis=1).mean())
    return float(np.mean(entropies)) + 0.0


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names that no other point beats or equals on both counts and beats on one; more is better.

    >>> pareto_front({"a": (1, 3), "b": (2, 2), "c": (1, 2)})
    ['a', 'b']
    """
    return [
        m for m, (x, y) in points.items() if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
