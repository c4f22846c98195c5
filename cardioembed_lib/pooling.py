"""How do token states become one vector per text?

Shapes: B texts, T tokens, D model width. Every pooling takes token states (B, T, D) and a mask (B, T), 1 for real tokens and 0
for padding; it returns (B, D) in the states' dtype, not normalised, and raises ValueError if a text has no real token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the average state of the real tokens of each text (sentence-transformers, BERT family).

    >>> mean_pool(torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([[1, 1, 0]])).tolist()
    [[2.0]]
    """
    _refuse_empty(mask)
    real = mask.unsqueeze(-1).bool()  # (B, T, 1)
    return hidden.masked_fill(~real, 0).sum(dim=1) / real.sum(dim=1)  # filled, not multiplied: padding may hold nan


def cls_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the state of the first real token of each text (BGE, BioLinkBERT).

    >>> h = torch.arange(6.0).view(2, 3, 1)
    >>> cls_pool(h, torch.tensor([[1, 1, 0], [0, 1, 1]])).squeeze(-1).tolist()
    [0.0, 4.0]
    """
    _refuse_empty(mask)
    first = mask.to(torch.int).argmax(dim=1)  # (B,)
    return hidden[torch.arange(len(hidden), device=hidden.device), first]


def last_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the state of the last real token of each text (Qwen3-Embedding; the paper's EOS pooling, section 2.2).

    A decoder has read the whole text only at its last real token, so that state stands for the text. Right for left and
    right padding alike; the model card's ``hidden[:, -1, :]`` is right for left padding only.

    >>> h = torch.arange(6.0).view(2, 3, 1)
    >>> last_pool(h, torch.tensor([[1, 1, 0], [0, 1, 1]])).squeeze(-1).tolist()
    [1.0, 5.0]
    """
    _refuse_empty(mask)
    position = torch.arange(1, mask.size(1) + 1, device=mask.device)  # (T,)
    last = (mask * position).argmax(dim=1)  # (B,)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def pool(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """Return one vector per text by the named pooling.

    Args:
        hidden: (B, T, D).
        mask: (B, T).
        how: ``mean``, ``cls`` or ``last``, as ``models.yaml`` says of the model.

    Raises:
        KeyError: for another name.
    """
    kinds = {"mean": mean_pool, "cls": cls_pool, "last": last_pool}
    if how not in kinds:
        raise KeyError(f"no pooling {how!r}; known: {', '.join(kinds)}")
    return kinds[how](hidden, mask)


def normalise(vectors: Tensor, width: int | None = None) -> Tensor:
    """Return unit vectors, cut to the first ``width`` numbers before (Matryoshka, Kusupati et al. 2022, arXiv 2205.13147).

    Args:
        vectors: (B, D) pooled vectors.
        width: numbers kept; all of them when ``None``.

    Returns:
        (B, width or D) float32, each row of length 1.

    Raises:
        ValueError: if ``width`` is not within 1..D.

    >>> normalise(torch.tensor([[3.0, 4.0, 12.0]]), width=2).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if width is not None and not 1 <= width <= vectors.size(1):
        raise ValueError(f"width {width} is outside 1..{vectors.size(1)}, the model's width")
    return functional.normalize(vectors[:, :width].float(), dim=1)


def _refuse_empty(mask: Tensor) -> None:
    empty = (mask.sum(dim=1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"rows {empty} have no real token (mask is all zero)")
