"""What is a check of published numbers, and what do several of them need?

A check takes the ledger's values by the ids of their claims, so no published number is typed in it; what is typed are
ids, words and the sizes of released models. ``arithmetic_paper``, ``arithmetic_study`` and ``arithmetic_peers`` hold the
checks, one function each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from transformers import BertConfig, PretrainedConfig, Qwen3Config

from cardioembed_lib import lora

Values = Mapping[str, float]  # published value by the id of its claim
SIZES: dict[
    str, tuple[type[PretrainedConfig], dict[str, int]]
] = {  # as in the models' config.json; a vocabulary has no adapter
    "Qwen3-Embedding-8B": (
        Qwen3Config,
        {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
        | {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 8},
    ),
    "Qwen3-4B": (
        Qwen3Config,
        {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32}
        | {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 8},
    ),
    "BioLinkBERT-large": (
        BertConfig,
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        | {"vocab_size": 8},
    ),
}


@dataclass(frozen=True)
class Check:
    """What a publication states, and what follows from its own numbers.

    ``holds`` is whether the statement follows from the numbers; ``decides`` is whether a check that fails is a fault of
    arithmetic. A comparison of two sources, or one that rests on a reading of ours, informs and does not decide.
    """

    name: str
    claims: tuple[str, ...]
    holds: bool
    stated: str
    computed: str
    decides: bool = True


def cells(ids: str, rows: Sequence[str], column: str) -> tuple[str, ...]:
    """Return the ids of a table's column.

    >>> cells("study.table1", ["A", "B"], "mrr")
    ('study.table1.A.mrr', 'study.table1.B.mrr')
    """
    return tuple(f"{ids}.{row}.{column}" for row in rows)


def near(ours: float, published: float, unit: float) -> bool:
    """Return whether two numbers agree to a unit of the last published digit.

    >>> near(0.509, 0.510, 0.001), near(0.508, 0.510, 0.001)
    (True, False)
    """
    return abs(ours - published) <= unit + 1e-9


def listed(numbers: Sequence[float], form: str) -> str:
    """Return numbers as text.

    >>> listed([69.2, 34.8], "{:.1f} %")
    '69.2 %, 34.8 %'
    """
    return ", ".join(form.format(number) for number in numbers)


@cache
def lora_numbers(model: str, targets: str, layers: int | None = None) -> int:
    """Return how many numbers one rank of a LoRA adapter has; an adapter of rank r has r times as many.

    Args:
        model: a key of ``SIZES``.
        targets: as in ``lora.target_modules``.
        layers: other than the model's. One is counted: they are all alike.

    >>> 16 * lora_numbers("BioLinkBERT-large", "qv")
    1572864
    """
    kind, sizes = SIZES[model]
    one = lora.count_from_config(kind(**sizes | {"num_hidden_layers": 1}), 1, targets)
    return one * (layers or sizes["num_hidden_layers"])
