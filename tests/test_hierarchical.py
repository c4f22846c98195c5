"""The two hierarchical losses against plain loops written from their formulas, values and gradients, limits and labels."""

import math

import numpy as np
import pytest
import torch
from tiny import chapters, levels

from cardioembed_lib import hierarchical, losses
from cardioembed_study.notes import icd9

B, D = 6, 5
CODES = [["42731", "4280"], ["4271", "486"], ["486"], [], ["V4501", "42731"], ["42731"]]


def texts(seed: int = 3) -> list[torch.Tensor]:
    draw = np.random.default_rng(seed)
    return [torch.tensor(draw.normal(size=(B, D)), dtype=torch.float32, requires_grad=True) for _ in range(2)]


def unit(x):
    return x / (x * x).sum(dim=-1, keepdim=True).sqrt()


def plain_soft(anchors, positives, sets, temperature, share=0.3):
    """Return the MIMIC project's loss, one pair at a time, from sets of chapters."""
    a, p = unit(anchors.double()), unit(positives.double())
    total = 0
    for i in range(B):
        wanted = [
            1.0 if j == i else share * len(sets[i] & sets[j]) / len(sets[i]) if sets[i] else 0.0 for j in range(B)
        ]
        scores = [(a[i] * p[j]).sum() / temperature for j in range(B)]
        norm = torch.stack(scores).exp().sum().log()
        total = total - sum(w / sum(wanted) * (s - norm) for w, s in zip(wanted, scores, strict=True))
    return total / B


def plain_himulcon(anchors, positives, paths, temperature):
    """Return Zhang et al.'s loss with the constraint, one level, view and positive at a time; finest level first."""
    views, n = unit(torch.cat([anchors, positives]).double()), 2 * B
    labels = [*paths, *paths]

    def loss(i, p):
        scores = torch.stack([(views[i] * views[a]).sum() / temperature for a in range(n) if a != i])
        return scores.exp().sum().log() - (views[i] * views[p]).sum() / temperature

    def shared(i, p):
        """How far from the finest: 1 the pair itself, 2 code, 3 category, 4 chapter, 0 nothing."""
        if i % B == p % B:
            return 1
        if labels[i] is None or labels[p] is None:
            return 0
        return next((4 - k for k in (2, 1, 0) if labels[i][k] == labels[p][k]), 0)

    total, ceiling = 0.0, None
    for depth in (1, 2, 3, 4):
        of_views, seen = [], []
        for i in range(n):
            own = [loss(i, p) for p in range(n) if p != i and shared(i, p) == depth]
            if ceiling is not None:
                own = [torch.maximum(x, ceiling) for x in own]
            if own:
                of_views.append(sum(own) / len(own))
                seen += own
        if of_views:
            total = total + math.exp(1 / depth) * sum(of_views) / len(of_views)
            ceiling = torch.stack(seen).max()
    return total / 4


def sets_of(codes):
    return [{icd9.chapter(code) for code in own} for own in codes]


def paths_of(codes):
    return [icd9.path(own[0]) if own else None for own in codes]


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("name", ["soft_chapter", "himulcon"])
def test_value_and_gradients_are_those_of_the_formula_written_out(name, temperature):
    ours, theirs = texts(), texts()
    labels = {"soft_chapter": chapters, "himulcon": levels}[name](CODES)
    value = getattr(hierarchical, name)(*ours, labels, temperature=temperature)
    if name == "soft_chapter":
        reference = plain_soft(*theirs, sets_of(CODES), temperature)
    else:
        reference = plain_himulcon(*theirs, paths_of(CODES), temperature)
    assert value.item() == pytest.approx(reference.item(), rel=1e-5)
    value.backward()
    reference.backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_targets_by_hand():
    targets = hierarchical.chapter_targets(chapters(CODES))
    circulatory_and_lung = targets[
        1
    ]  # of chapters {circulatory, respiratory}: half overlaps with most, none with the empty one
    overlaps = [0.15, 1.0, 0.15, 0.0, 0.15, 0.15]
    torch.testing.assert_close(circulatory_and_lung, torch.tensor(overlaps) / sum(overlaps))
    assert targets[3].tolist() == [0, 0, 0, 1, 0, 0]
    assert targets[0, 1] != targets[1, 0]  # not symmetric


def test_soft_targets_without_labels_are_info_nce():
    anchors, positives = texts()
    lost = chapters([[]] * B)
    soft = hierarchical.soft_chapter(anchors, positives, lost, temperature=0.07)
    assert soft.item() == pytest.approx(losses.info_nce(anchors, positives, temperature=0.07).item(), abs=1e-6)
    assert hierarchical.soft_chapter_floor(lost) == 0.0


def test_soft_loss_stops_at_its_floor():
    """The best scores are log T; vectors whose cosines are the targets' logs reach the entropy and nothing goes below it."""
    labels = chapters(CODES)
    targets = hierarchical.chapter_targets(labels)
    floor = hierarchical.soft_chapter_floor(labels)
    entropy = -(targets * targets.clamp(min=1e-30).log()).sum(dim=1).mean().item()
    assert floor == pytest.approx(entropy, abs=1e-6)
    anchors, positives = (
        torch.randn(B, 64, requires_grad=True, generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    )
    optimiser = torch.optim.Adam([anchors, positives], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        value = hierarchical.soft_chapter(anchors, positives, labels, temperature=0.07)
        value.backward()
        optimiser.step()
        assert value.item() >= floor - 1e-5
    assert value.item() == pytest.approx(floor, abs=0.01)


def test_himulcon_never_falls_below_its_bound():
    labels = levels(CODES)
    bound = hierarchical.himulcon_floor(labels)
    anchors, positives = (
        torch.randn(B, 64, requires_grad=True, generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    )
    optimiser = torch.optim.Adam([anchors, positives], lr=0.05)
    start = hierarchical.himulcon(anchors, positives, labels).item()
    for _ in range(300):
        optimiser.zero_grad()
        value = hierarchical.himulcon(anchors, positives, labels)
        value.backward()
        optimiser.step()
        assert value.item() >= bound - 1e-5
    assert bound > 0 and value.item() < start / 2


def test_himulcon_without_labels_is_simclr_of_the_pairs():
    anchors, positives = texts()
    views = unit(torch.cat([anchors, positives])).detach()
    scores = (views @ views.T / 0.5).fill_diagonal_(float("-inf"))
    simclr = torch.nn.functional.cross_entropy(scores, (torch.arange(2 * B) + B) % (2 * B))
    ours = hierarchical.himulcon(anchors, positives, levels([[]] * B), temperature=0.5)
    assert ours.item() == pytest.approx(math.e / 4 * simclr.item(), rel=1e-5)
    assert hierarchical.himulcon_floor(levels([[]] * B)) == 0.0


def test_a_coarser_level_never_costs_less_than_a_finer_one():
    """Equal views of one chapter would cost little by themselves: the constraint raises them to the pair's own loss."""
    near, far = torch.tensor([[1.0, 0.0], [1.0, 0.01]]), torch.tensor([[0.0, 1.0], [0.01, 1.0]])
    labels = levels([["42731"], ["4019"]])  # one chapter, nothing finer
    held = hierarchical.himulcon(near, far, labels, temperature=1.0).item()
    pairs_alone = hierarchical.himulcon(near, far, levels([[], []]), temperature=1.0).item()
    assert held - pairs_alone >= math.exp(1 / 4) / math.e * pairs_alone - 1e-5


def test_order_of_the_pairs_does_not_matter():
    order = [4, 2, 0, 5, 1, 3]
    anchors, positives = texts()
    for name, of in (("soft_chapter", chapters), ("himulcon", levels)):
        one = getattr(hierarchical, name)(anchors, positives, of(CODES))
        other = getattr(hierarchical, name)(anchors[order], positives[order], of([CODES[i] for i in order]))
        assert one.item() == pytest.approx(other.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["soft_chapter", "himulcon"])
def test_what_does_not_fit_is_refused(name):
    loss, labels = getattr(hierarchical, name), torch.zeros(B, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"temperature is 0; it must be above 0"):
        loss(*texts(), labels, temperature=0)
    with pytest.raises(ValueError, match=r"labels \(2, 3\) must have a row for each of 6 anchors"):
        loss(*texts(), labels[:2])
    with pytest.raises(ValueError, match=r"must have one shape"):
        loss(texts()[0], texts()[1][:3], labels)
