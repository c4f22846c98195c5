"""How far is each anchor from its own positive, compared with the rest of the batch? And how far from the base's vectors?

Shapes: B pairs (of this rank), N pairs of all ranks, K negatives a pair, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed
from torch.nn import functional


def info_nce(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float = 0.05,
    shared_negatives: bool = False,
    symmetric: bool = False,
    groups: Sequence[int] | None = None,
    gather: bool = False,
) -> Tensor:
    """Return the InfoNCE loss of a batch (CardioEmbed, eq. 1; van den Oord et al. 2018, arXiv 1807.03748, eq. 4).

    For anchor i the candidates are its own positive, its own hard negatives and every other positive of the batch:
    ``-log(e^{s(a,p)/tau} / (e^{s(a,p)/tau} + e^{s(a,n)/tau} + sum_{j!=i} e^{s(a,p_j)/tau}))`` with s the cosine.

    Args:
        anchors: (B, D) vectors, any length and dtype; normalised here, in float32.
        positives: (B, D), row i belongs to anchor i.
        negatives: (B, K, D) or (B, D) hard negatives of each anchor.
        temperature: tau, above 0 (paper: 0.05).
        shared_negatives: let every anchor see the hard negatives of all, as MultipleNegativesRankingLoss does; eq. 1 shows
            each anchor its own only.
        symmetric: average with the same loss from positive to anchors (no hard negatives on that side).
        groups: B numbers; two pairs of one group (same passage, term or patient) are not each other's negatives.
        gather: take the positives, and shared negatives, of all ranks as candidates, with gradients (torch.distributed).

    Returns:
        () float32, in nats, mean over the anchors of this rank.

    Raises:
        ValueError: if the temperature is not above 0 or the shapes do not fit.

    >>> round(info_nce(torch.ones(8, 2), torch.ones(8, 2)).item(), 4)  # all alike: log 8
    2.0794
    """
    check(anchors, positives, negatives, groups, temperature)
    a, p = (functional.normalize(x.float(), dim=-1) for x in (anchors, positives))
    group = None if groups is None else torch.as_tensor(groups, device=a.device)
    rank, all_p, all_group = 0, p, group
    if gather:
        rank, all_p = distributed.get_rank(), of_all_ranks(p)
        all_group = None if group is None else of_all_ranks(group)
    own = torch.arange(len(a), device=a.device) + rank * len(a)  # (B,) column of each anchor's own positive
    blocked = _blocked(group, all_group, own)
    loss = _cross_entropy(
        a @ all_p.T, blocked, own, temperature, _negative_scores(a, negatives, shared_negatives, gather)
    )
    if not symmetric:
        return loss
    back = _cross_entropy(p @ (of_all_ranks(a) if gather else a).T, blocked, own, temperature)
    return (loss + back) / 2


def triplet(anchors: Tensor, positives: Tensor, negatives: Tensor | None, *, margin: float = 0.2) -> Tensor:
    """Return the triplet loss on cosines: ``max(0, margin + s(a,n) - s(a,p))`` (Schroff et al. 2015, arXiv 1503.03832, eq. 2).

    The comparative study sets it against InfoNCE without giving distance or margin; only the pair's own negatives count.

    Args:
        anchors: (B, D) vectors, any length and dtype; normalised here, in float32.
        positives: (B, D), row i belongs to anchor i.
        negatives: (B, K, D) or (B, D), K at least 1.
        margin: by how much a positive must be closer than a negative, above 0, in units of cosine.

    Returns:
        () float32, mean over B and K.

    Raises:
        ValueError: if there is no negative, the margin is not above 0, or the shapes do not fit.

    >>> round(triplet(torch.eye(2), torch.eye(2), torch.eye(2)).item(), 4)  # the negative is the positive: the margin
    0.2
    """
    if negatives is None or not negatives.numel():
        raise ValueError("the triplet loss needs a negative for each pair; choose negatives other than 'none'")
    if margin <= 0:
        raise ValueError(f"margin is {margin}; it must be above 0")
    check(anchors, positives, negatives, None, 1.0)
    a, p, n = (functional.normalize(x.float(), dim=-1) for x in (anchors, positives, negatives))
    wrong = torch.einsum("bd,bkd->bk", a, n.unsqueeze(1) if n.dim() == 2 else n)
    return functional.relu(margin + wrong - (a * p).sum(dim=1, keepdim=True)).mean()


def widths(width: int) -> list[int]:
    """Return what ``matryoshka`` cuts vectors to: the whole, then powers of two down to 32, every other where above four.

    >>> widths(384), widths(4096), widths(24)
    ([384, 256, 128, 64, 32], [4096, 2048, 512, 128, 32], [24])
    """
    smaller = [2**n for n in range(5, width.bit_length()) if 2**n < width]
    return [width, *reversed(smaller[:: max(1, math.ceil(len(smaller) / 4))])]


def matryoshka(
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    cuts: Sequence[int] | None = None,
) -> Tensor:
    """Return the mean of a loss over vectors cut to their first numbers (Kusupati et al. 2022, arXiv 2205.13147, eq. 1).

    MatryoshkaLoss of sentence-transformers, and the paper with all weights 1, is the sum; the mean keeps the learning rate of
    the loss alone.

    Args:
        loss: of anchors, positives and negatives, and of their directions only (``info_nce``, its options bound).
        anchors: (B, D) vectors.
        positives: (B, D), row i belongs to anchor i.
        negatives: (B, K, D) or (B, D).
        cuts: how many numbers are kept, each within 1..D; ``None``: ``widths(D)``.

    Returns:
        () float32.

    Raises:
        ValueError: if a cut is outside 1..D or stands twice, or there is none, or the vectors differ in width.

    >>> round(matryoshka(info_nce, torch.ones(8, 2), torch.ones(8, 2), cuts=[2, 1]).item(), 4)  # log 8 at both widths
    2.0794
    """
    vectors = [x for x in (anchors, positives, negatives) if x is not None]
    whole, *others = sorted({x.size(-1) for x in vectors})
    if others:
        raise ValueError(f"vectors are {whole} and {others[0]} numbers wide; wanted one width")
    cuts = widths(whole) if cuts is None else cuts
    if not cuts or len(set(cuts)) < len(cuts) or not all(1 <= cut <= whole for cut in cuts):
        raise ValueError(
            f"cuts are {list(cuts)}; wanted one or more, each once and within 1..{whole}, the vectors' width"
        )
    return torch.stack([loss(*(x[..., :cut] for x in vectors)) for cut in cuts]).mean()


def distillation(students: Tensor, teachers: Tensor) -> Tensor:
    """Return how far vectors have moved from the base's: the mean of 1 - cosine over texts.

    Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), with vectors in the place of class scores: general
    texts hold the model where it was, while the pairs move it.

    Args:
        students: (B, D) vectors of the model in training, any length and dtype.
        teachers: (B, D) vectors of the base for the same texts.

    Returns:
        () float32 in [0, 2].

    Raises:
        ValueError: if the shapes differ.

    >>> distillation(torch.eye(2), -torch.eye(2)).item()
    2.0
    """
    if students.shape != teachers.shape:
        raise ValueError(
            f"students {tuple(students.shape)} and teachers {tuple(teachers.shape)} must have one shape (B, D)"
        )
    return (1 - functional.cosine_similarity(students.float(), teachers.float(), dim=-1)).mean()


def of_all_ranks(x: Tensor) -> Tensor:
    """Return the rows of all ranks, one rank's below the other's; gradients flow back to the rank that a row came from.

    Args:
        x: (B, ...), of one shape on all ranks; torch.distributed must be initialised.
    """
    return _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


def check(anchors: Tensor, positives: Tensor, negatives: Tensor | None, groups, temperature: float) -> None:
    """Raise ValueError, with what is wanted, where ``info_nce`` cannot take these."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (the papers use 0.05 and 0.07)")
    if anchors.dim() != 2 or anchors.shape != positives.shape:
        raise ValueError(
            f"anchors {tuple(anchors.shape)} and positives {tuple(positives.shape)} must have one shape (B, D)"
        )
    b, d = anchors.shape
    if negatives is not None and not (
        negatives.dim() in (2, 3) and negatives.shape[0] == b and negatives.shape[-1] == d
    ):
        raise ValueError(f"negatives {tuple(negatives.shape)} must be ({b}, K, {d}) or ({b}, {d}) for {b} anchors")
    if groups is not None and len(groups) != len(anchors):
        raise ValueError(f"{len(groups)} groups for {len(anchors)} anchors")


def _blocked(group: Tensor | None, all_group: Tensor | None, own: Tensor) -> Tensor | None:
    """Return (B, N) True where a candidate shares the anchor's group without being its own positive."""
    if group is None:
        return None
    same = group[:, None] == all_group[None, :]
    same[torch.arange(len(own), device=own.device), own] = False
    return same


def _negative_scores(a: Tensor, negatives: Tensor | None, shared: bool, gather: bool) -> Tensor | None:
    if negatives is None:
        return None
    n = functional.normalize(negatives.float(), dim=-1)
    n = n.unsqueeze(1) if n.dim() == 2 else n  # (B, K, D)
    if not shared:
        return torch.einsum("bd,bkd->bk", a, n)
    n = n.flatten(0, 1)
    return a @ (of_all_ranks(n) if gather else n).T


def _cross_entropy(scores: Tensor, blocked, own: Tensor, temperature: float, extra: Tensor | None = None) -> Tensor:
    if blocked is not None:
        scores = scores.masked_fill(blocked, float("-inf"))
    if extra is not None:
        scores = torch.cat([scores, extra], dim=1)
    return functional.cross_entropy(scores / temperature, own)
