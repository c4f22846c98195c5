"""Which other pairs of a batch are partly right, by the diagnoses of their admissions?

Two losses that go by this name, kept apart: ``soft_chapter``, what the MIMIC project's code defines, and ``himulcon``, what
it says it is. Labels come as arrays: which chapters a pair has, or its label on each level. Shapes: B pairs, D width,
C chapters, L levels, coarse to fine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from cardioembed_lib.losses import check, of_all_ranks

SHARE = 0.3  # what a full overlap of chapters counts beside the pair's own 1, before rows are normalised


def chapter_targets(chapters: Tensor, share: float = SHARE) -> Tensor:
    """Return the MIMIC project's soft targets: T_ii = 1, T_ij = share * |ch_i and ch_j| / |ch_i|, each row divided by its sum.

    Not symmetric: an admission with one chapter is like one with ten, not the other way round.

    Args:
        chapters: (B, C) bool, which chapters each pair has.
        share: of a full overlap.

    Returns:
        (B, B) float32, rows of sum 1; a row without a chapter is one-hot.

    >>> chapter_targets(torch.tensor([[True, False], [True, True]]))[0].tolist()  # 1 / 1.3 and 0.3 / 1.3
    [0.7692307829856873, 0.23076924681663513]
    """
    own = chapters.float()
    targets = share * (own @ own.T) / own.sum(dim=1, keepdim=True).clamp(min=1)
    targets = targets.fill_diagonal_(1.0)
    return targets / targets.sum(dim=1, keepdim=True)


def soft_chapter(
    anchors: Tensor, positives: Tensor, chapters: Tensor, *, temperature: float = 0.07, gather: bool = False
) -> Tensor:
    """Return the soft cross-entropy of a batch against ``chapter_targets``: -mean_i sum_j T_ij log softmax(s / tau)_ij.

    With one-hot targets it is InfoNCE; its least value is the targets' entropy (``soft_chapter_floor``), not 0.

    Args:
        anchors: (B, D) vectors, as for ``losses.info_nce``.
        positives: (B, D), row i belongs to anchor i.
        chapters: (B, C) bool, of the admission of each anchor.
        temperature: tau, above 0 (MIMIC project: 0.07).
        gather: take the pairs of all ranks (torch.distributed), with gradients; every rank then has the whole batch's loss.

    Returns:
        () float32, in nats.

    Raises:
        ValueError: if the temperature is not above 0 or the shapes do not fit.

    >>> lost = torch.zeros(8, 19, dtype=torch.bool)
    >>> round(soft_chapter(torch.ones(8, 2), torch.ones(8, 2), lost).item(), 4)  # all alike: log 8
    2.0794
    """
    anchors, positives, chapters = _checked(anchors, positives, chapters, temperature, gather)
    a, p = (functional.normalize(x.float(), dim=-1) for x in (anchors, positives))
    return functional.cross_entropy(a @ p.T / temperature, chapter_targets(chapters))


def himulcon(
    anchors: Tensor, positives: Tensor, levels: Tensor, *, temperature: float = 0.07, gather: bool = False
) -> Tensor:
    """Return the hierarchical contrastive loss with its constraint (Zhang et al. 2022, arXiv 2204.13207, "HiMulConE").

    The 2B texts are views; two views are positives of the finest level they share, the pair itself being the finest of all.
    For view i and its positives P_l(i) of level l the loss of one of them is
    ``-log(e^{s(i,p)/tau} / sum_{a!=i} e^{s(i,a)/tau})``, raised to the largest such loss of the finer levels (the constraint:
    the farther apart two labels are, the larger the loss); these are averaged over P_l(i) and over the views that have any,
    weighted by lambda_l, and averaged over levels.
    lambda of the k-th level from the finest is e^{1/k}: the best of the paper's table 2, in its code exp(1/l). Paper and code
    differ in more (views dropped level by level, constraint on means); where they do, this is the paper's formula.

    Args:
        anchors: (B, D) vectors, as for ``losses.info_nce``.
        positives: (B, D), row i belongs to anchor i and has its labels.
        levels: (B, L) int64 labels, coarse to fine; -1 is no label, and equal to none.
        temperature: tau, above 0.
        gather: as in ``soft_chapter``.

    Returns:
        () float32, in nats.

    Raises:
        ValueError: if the temperature is not above 0 or the shapes do not fit.

    >>> views = torch.eye(2)
    >>> lonely = himulcon(views, views, torch.tensor([[-1], [-1]]), temperature=1.0)  # pairs alone: SimCLR's loss, e / 2 times
    >>> round(lonely.item(), 4)
    0.7495
    """
    anchors, positives, levels = _checked(anchors, positives, levels, temperature, gather)
    views = functional.normalize(torch.cat([anchors, positives]).float(), dim=-1)  # (2B, D)
    scores = (views @ views.T / temperature).fill_diagonal_(float("-inf"))
    losses = (torch.logsumexp(scores, dim=1, keepdim=True) - scores).fill_diagonal_(0.0)  # (2B, 2B)
    total, largest = losses.new_zeros(()), losses.new_zeros(())
    for depth, positive in enumerate(_positives(levels), start=1):  # finest first
        if positive.any():
            held = torch.maximum(losses, largest)
            has = positive.any(dim=1)
            of_view = (held * positive).sum(dim=1)[has] / positive.sum(dim=1)[has]
            total = total + math.exp(1 / depth) * of_view.mean()
            largest = held[positive].max()
    return total / (levels.size(1) + 1)


def soft_chapter_floor(chapters: Tensor) -> float:
    """Return the least value ``soft_chapter`` can take: the mean entropy of the targets' rows, in nats.

    >>> soft_chapter_floor(torch.zeros(4, 19, dtype=torch.bool))
    0.0
    """
    return float(torch.special.entr(chapter_targets(chapters)).sum(dim=1).mean())


def himulcon_floor(levels: Tensor) -> float:
    """Return a lower bound of ``himulcon`` in nats: what it is where each view equals all its positives of a level.

    ``log |P_l(i)|`` averaged and weighted as the loss is, the constraint left out.
    """
    total = 0.0
    for depth, positive in enumerate(_positives(levels), start=1):
        counts = positive.sum(dim=1)
        if positive.any():
            total += math.exp(1 / depth) * float(counts[counts > 0].double().log().mean())
    return total / (levels.size(1) + 1)


def _positives(levels: Tensor) -> list[Tensor]:
    """Return, finest level first, (2B, 2B) True where two views share that level and no finer one."""
    b = len(levels)
    rows = torch.arange(2 * b, device=levels.device)
    finer = rows[:, None] == rows[None, :]  # a view is no positive of itself
    own = (rows[:, None] % b == rows[None, :] % b) & ~finer
    found, finer = [own], finer | own
    for column in reversed(levels.repeat(2, 1).unbind(dim=1)):
        same = (column[:, None] == column[None, :]) & (column[:, None] >= 0) & ~finer
        found.append(same)
        finer = finer | same
    return found


def _checked(
    anchors: Tensor, positives: Tensor, labels: Tensor, temperature: float, gather: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors and labels on one device, of all ranks if they are gathered."""
    check(anchors, positives, None, None, temperature)
    if labels.dim() != 2 or len(labels) != len(anchors):
        raise ValueError(f"labels {tuple(labels.shape)} must have a row for each of {len(anchors)} anchors")
    labels = labels.to(anchors.device)
    return tuple(map(of_all_ranks, (anchors, positives, labels))) if gather else (anchors, positives, labels)
