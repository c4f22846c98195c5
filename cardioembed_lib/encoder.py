"""What vector does a model, with or without an adapter, give a text?

Shapes: B texts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from cardioembed_lib import pooling

TOKEN_BUDGET = 1024  # padded tokens in one forward pass; on a CPU more no longer fits its caches (benchmarks/train.py)


@dataclass(frozen=True)
class Encoder:
    """A loaded model with all that decides its vectors; make one with ``models.load``."""

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    prompts: dict[str, str]
    max_length: int
    revision: str

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device


def tokenise(encoder: Encoder, texts: Sequence[str], prompt: str = "") -> list[list[int]]:
    """Return token ids of each text, prompt in front, cut to ``max_length``, special tokens as the tokenizer adds them.

    Qwen3-Embedding's tokenizer appends its end token itself (id 151643, which is not ``eos_token_id``).
    """
    if not texts:
        return []
    return encoder.tokenizer([prompt + t for t in texts], truncation=True, max_length=encoder.max_length)["input_ids"]


def chunks(lengths: Sequence[int], token_budget: int) -> list[np.ndarray]:
    """Return row numbers in chunks of similar length, each at most ``token_budget`` tokens when padded to its longest.

    >>> [c.tolist() for c in chunks([5, 1, 4, 1], token_budget=10)]
    [[0, 2], [1, 3]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    out: list[list[int]] = []
    for row in order:
        if not out or (len(out[-1]) + 1) * lengths[out[-1][0]] > token_budget:
            out.append([])
        out[-1].append(int(row))
    return [np.array(rows) for rows in out]


def pad(encoder: Encoder, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return the model's input of some texts: ``input_ids`` and ``attention_mask``, both (B, T), on its device.

    The mask hides the padding, so a tokenizer without a padding token is padded with id 0.
    """
    texts = [torch.tensor(text, dtype=torch.long) for text in ids]
    side, filler = encoder.tokenizer.padding_side, encoder.tokenizer.pad_token_id or 0
    tokens = pad_sequence(texts, batch_first=True, padding_value=filler, padding_side=side)
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True, padding_side=side)
    return {"input_ids": tokens.to(encoder.device), "attention_mask": mask.to(encoder.device)}


def forward(encoder: Encoder, ids: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET) -> Tensor:
    """Return the pooled vectors of tokenised texts, in their order, with gradients.

    Texts run in chunks of similar length, so that little is padding; the vectors are those of one large batch.

    Args:
        encoder: the model.
        ids: B token lists from ``tokenise``.
        token_budget: padded tokens in one forward pass; speed and memory only, never the result.

    Returns:
        (B, D) in the model's dtype, not normalised.
    """
    parts = chunks([len(x) for x in ids], token_budget)
    vectors = []
    for rows in parts:
        batch = pad(encoder, [ids[r] for r in rows])
        hidden = encoder.model(**batch).last_hidden_state  # (b, t, D)
        vectors.append(pooling.pool(hidden, batch["attention_mask"], encoder.pooling))
    back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(encoder.device)
    return torch.cat(vectors)[back]


def encode(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    prompt: str = "",
    width: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: bool = False,
) -> np.ndarray:
    """Return unit vectors of texts.

    Args:
        encoder: the model.
        texts: B texts, none empty.
        prompt: put in front of each, for example ``encoder.prompts["query"]``.
        width: Matryoshka width; the model's own when ``None``.
        token_budget: see ``forward``.
        progress: show a bar.

    Returns:
        (B, width or D) float32, each row of length 1, in the order of ``texts``.

    Raises:
        ValueError: naming the first empty text, or if a vector is not finite.
    """
    refuse_empty(texts)
    ids = tokenise(encoder, texts, prompt)
    parts = chunks([len(x) for x in ids], token_budget)
    out = np.empty((len(ids), width or encoder.model.config.hidden_size), dtype=np.float32)
    bar = tqdm(total=len(ids), unit="text", desc=f"encode {encoder.name}", disable=not progress, mininterval=2)
    with torch.inference_mode(), bar:
        for rows in parts:
            vectors = forward(encoder, [ids[r] for r in rows], token_budget)
            out[rows] = pooling.normalise(vectors, width).cpu().numpy()
            bar.update(len(rows))
    if not np.isfinite(out).all():
        raise ValueError(f"{encoder.name} gave vectors that are not finite; load it in float32")
    return out


def refuse_empty(texts: Sequence[str]) -> None:
    """Raise ValueError naming the first text that holds nothing but spaces."""
    empty = [i for i, t in enumerate(texts) if not t.strip()]
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(texts)} texts are empty, the first at position {empty[0]}; drop them before encoding"
        )


def with_model(encoder: Encoder, model: nn.Module) -> Encoder:
    """Return the same encoder around another model, for example one with an adapter laid on.

    Its ``revision`` is empty: the weights may change, so nothing may be kept under their name.
    """
    return replace(encoder, model=model, revision="")
