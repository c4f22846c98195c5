"""InfoNCE against a plain numpy rewriting, sentence-transformers, limits, and itself shared out over two processes."""

import itertools
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer import losses as peer

from cardioembed_lib import hierarchical
from cardioembed_lib.losses import distillation, info_nce, matryoshka, triplet, widths

B, K, D = 6, 2, 8
GROUPS = [0, 1, 0, 2, 2, 2]
OPTIONS = [
    {"k": k, "shared_negatives": shared, "symmetric": symmetric, "groups": groups}
    for k, shared, symmetric, groups in itertools.product([0, 1, K], [False, True], [False, True], [None, GROUPS])
]
NAMES = [
    f"K={o['k']}{'-shared' * o['shared_negatives']}{'-symmetric' * o['symmetric']}{'-groups' * bool(o['groups'])}"
    for o in OPTIONS
]


def plain(anchors, positives, negatives, temperature, shared_negatives, symmetric, groups):
    """Return eq. 1 in float64, one pair and one candidate at a time."""

    def cosine(x, y):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    def side(x, y, hard):
        total = 0.0
        for i in range(len(x)):
            rivals = [y[j] for j in range(len(y)) if j != i and (groups is None or groups[i] != groups[j])]
            rivals += [n for row in (hard if shared_negatives else hard[i : i + 1]) for n in row]
            own = math.exp(cosine(x[i], y[i]) / temperature)
            total -= math.log(own / (own + sum(math.exp(cosine(x[i], r) / temperature) for r in rivals)))
        return total / len(x)

    forward = side(anchors, positives, negatives)
    return (forward + side(positives, anchors, negatives[:, :0])) / 2 if symmetric else forward


def batch(k: int, seed: int = 5) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape) for shape in [(B, D), (B, D), (B, k, D)]]


def torch_batch(k: int) -> list[torch.Tensor | None]:
    tensors = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in batch(k)]
    return tensors if k else [*tensors[:2], None]


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_value_is_that_of_the_formula_written_out(options, temperature):
    rest = {name: options[name] for name in ("shared_negatives", "symmetric", "groups")}
    wanted = plain(*batch(options["k"]), temperature, **rest)
    assert info_nce(*torch_batch(options["k"]), temperature=temperature, **rest).item() == pytest.approx(
        wanted, rel=2e-6
    )


@pytest.mark.parametrize("options", [o for o in OPTIONS if o["k"] != 1], ids=[n for n in NAMES if "K=1" not in n])
def test_gradients_are_the_slopes_of_the_formula(options):
    """Central differences of the float64 formula, for every number that goes in."""
    rest = {name: options[name] for name in ("shared_negatives", "symmetric", "groups")}
    tensors = torch_batch(options["k"])
    info_nce(*tensors, temperature=0.5, **rest).backward()
    arrays, step = batch(options["k"]), 1e-5
    for array, tensor in zip(arrays, tensors, strict=True):
        slopes = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            kept = array[place]
            ends = []
            for moved in (kept + step, kept - step):
                array[place] = moved
                ends.append(plain(*arrays, 0.5, **rest))
            array[place] = kept
            slopes[place] = (ends[0] - ends[1]) / (2 * step)
        if tensor is not None:
            np.testing.assert_allclose(tensor.grad.numpy(), slopes, atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("k", [0, 1, K])
def test_shared_negatives_are_multiple_negatives_ranking(k, symmetric):
    """Values and gradients of sentence-transformers' loss, its own scale; two directions are our ``symmetric``."""
    options = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"} if symmetric else {}
    theirs = peer.MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20.0, **options)
    ours_in, theirs_in = torch_batch(k), torch_batch(k)
    columns = [*theirs_in[:2], *(theirs_in[2].unbind(dim=1) if k else [])]
    ours = info_nce(*ours_in, temperature=0.05, shared_negatives=True, symmetric=symmetric)
    reference = theirs.compute_loss_from_embeddings(columns, None)
    assert ours.item() == pytest.approx(reference.item(), rel=1e-6)
    ours.backward()
    reference.backward()
    for mine, other in zip(ours_in[: 2 + bool(k)], theirs_in, strict=False):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-6)


def test_perfect_separation_costs_nothing_and_confusion_costs_log_b():
    eye = torch.eye(8)
    assert info_nce(eye, eye).item() < 1e-6
    assert info_nce(eye, eye, symmetric=True).item() < 1e-6
    alike = torch.ones(8, 2)
    assert info_nce(alike, alike).item() == pytest.approx(math.log(8), rel=1e-6)
    assert info_nce(alike, alike, torch.ones(8, 3, 2)).item() == pytest.approx(math.log(8 + 3), rel=1e-6)
    assert info_nce(alike, alike, torch.ones(8, 3, 2), shared_negatives=True).item() == pytest.approx(math.log(8 + 24))


def test_two_pairs_by_hand():
    """First anchor: own cosine 0.6, the other 0. Second: 0.8 and 0.8."""
    anchors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    positives = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.8, 0.6]])
    wanted = [math.log(1 + math.exp(-0.6)), math.log(2)]
    assert info_nce(anchors, positives, temperature=1.0).item() == pytest.approx(sum(wanted) / 2, rel=1e-6)


def test_length_of_the_vectors_does_not_matter_and_bfloat16_is_computed_in_float32():
    anchors, positives, negatives = torch_batch(K)
    value = info_nce(anchors, positives, negatives)
    assert info_nce(anchors * 7, positives / 3, negatives * 100).item() == pytest.approx(value.item(), rel=1e-6)
    rounded = [x.detach().bfloat16() for x in (anchors, positives, negatives)]
    low = info_nce(*rounded)
    assert low.dtype == torch.float32
    assert torch.equal(low, info_nce(*(x.float() for x in rounded)))


def test_order_of_the_pairs_does_not_matter():
    tensors, order = torch_batch(K), torch.tensor([3, 0, 5, 1, 4, 2])
    moved = [x[order] for x in tensors]
    before = info_nce(*tensors, symmetric=True, groups=GROUPS)
    after = info_nce(*moved, symmetric=True, groups=[GROUPS[i] for i in order])
    assert after.item() == pytest.approx(before.item(), rel=1e-6)


def test_one_negative_may_come_without_its_own_dimension():
    anchors, positives, negatives = torch_batch(1)
    assert torch.equal(info_nce(anchors, positives, negatives), info_nce(anchors, positives, negatives[:, 0]))


def test_groups_that_differ_everywhere_change_nothing_and_one_group_leaves_no_rival():
    anchors, positives, _ = torch_batch(0)
    assert torch.equal(info_nce(anchors, positives, groups=range(B)), info_nce(anchors, positives))
    assert info_nce(anchors, positives, groups=[1] * B).item() == 0


def test_a_pair_of_the_same_group_gets_no_gradient_from_the_other():
    anchors, positives, _ = torch_batch(0)
    info_nce(anchors[:2], positives[:2], groups=[4, 4]).backward()
    assert anchors.grad.abs().sum() == 0 and positives.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            [(4, 3), (4, 3)],
            {"temperature": 0.0},
            r"temperature is 0.0; it must be above 0 \(the papers use 0.05 and 0.07\)",
        ),
        ([(4, 3), (4, 3)], {"temperature": -1.0}, r"temperature is -1.0"),
        ([(4, 3), (5, 3)], {}, r"anchors \(4, 3\) and positives \(5, 3\) must have one shape \(B, D\)"),
        ([(4,), (4,)], {}, r"anchors \(4,\) and positives \(4,\) must have one shape \(B, D\)"),
        ([(4, 3), (4, 3), (3, 2, 3)], {}, r"negatives \(3, 2, 3\) must be \(4, K, 3\) or \(4, 3\) for 4 anchors"),
        ([(4, 3), (4, 3), (4, 2, 5)], {}, r"negatives \(4, 2, 5\) must be \(4, K, 3\)"),
        ([(4, 3), (4, 3)], {"groups": [1, 2]}, r"2 groups for 4 anchors"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        info_nce(*(torch.ones(shape) for shape in arguments), **options)


RANKS = """
import os, sys, torch
from functools import partial
from safetensors.torch import load_file, save_file
from torch import distributed
from cardioembed_lib.hierarchical import himulcon, soft_chapter
from cardioembed_lib.losses import info_nce, matryoshka

folder = sys.argv[1]
rank = int(os.fork() == 0)  # the second process begins here
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
whole, out = load_file(f"{folder}/batch.safetensors"), {}
for case in range(16):
    mine = {n: whole[n].chunk(2)[rank].clone().requires_grad_() for n in ("anchors", "positives", "negatives")}
    of_pairs = partial(
        info_nce, shared_negatives=bool(case & 1), symmetric=bool(case & 2),
        groups=whole["groups"].chunk(2)[rank].tolist() if case & 4 else None, gather=True,
    )
    columns = [mine[n] for n in ("anchors", "positives", "negatives")]
    loss = matryoshka(of_pairs, *columns, cuts=[8, 3]) if case & 8 else of_pairs(*columns)
    loss.backward()
    out[f"{case}/loss"] = loss.detach()
    out |= {f"{case}/{n}": x.grad for n, x in mine.items()}
for of_labels in (soft_chapter, himulcon):
    name = of_labels.__name__
    mine = {n: whole[n].chunk(2)[rank].clone().requires_grad_() for n in ("anchors", "positives")}
    loss = of_labels(*mine.values(), whole[name].chunk(2)[rank], gather=True)
    loss.backward()
    out[f"{name}/loss"] = loss.detach()
    out |= {f"{name}/{n}": x.grad for n, x in mine.items()}
save_file(out, f"{folder}/rank{rank}.safetensors")
distributed.barrier()
distributed.destroy_process_group()
sys.exit(rank == 0 and os.wait()[1] != 0)
"""


@pytest.mark.slow
def test_two_processes_that_gather_are_one_process_with_the_whole_batch(tmp_path):
    """Loss: the mean over ranks. Gradients: what DDP makes of them, the sum over ranks divided by their number."""
    tensors = dict(zip(["anchors", "positives", "negatives"], torch_batch(K), strict=True))
    kept = {n: x.detach() for n, x in tensors.items()}
    labels = {
        "soft_chapter": torch.arange(3 * B).view(B, 3) % 4 < 2,
        "himulcon": torch.arange(2 * B).view(B, 2) % 3 - 1,
    }
    save_file(kept | labels | {"groups": torch.tensor(GROUPS)}, tmp_path / "batch.safetensors")
    subprocess.run([sys.executable, "-c", RANKS, str(tmp_path)], check=True, timeout=1800)
    parts = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2)]
    for case in range(16):
        options = {"shared_negatives": bool(case & 1), "symmetric": bool(case & 2)}
        of_pairs = partial(info_nce, **options, groups=GROUPS if case & 4 else None)
        loss = matryoshka(of_pairs, *tensors.values(), cuts=[D, 3]) if case & 8 else of_pairs(*tensors.values())
        same_as_shared(loss, tensors, parts, case)
    del tensors["negatives"]
    for of_labels in (hierarchical.soft_chapter, hierarchical.himulcon):
        name = of_labels.__name__
        same_as_shared(of_labels(*tensors.values(), labels[name]), tensors, parts, name)


def same_as_shared(loss, tensors, parts, case):
    for tensor in tensors.values():
        tensor.grad = None
    loss.backward()
    mean = (parts[0][f"{case}/loss"] + parts[1][f"{case}/loss"]) / 2
    torch.testing.assert_close(mean, loss.detach(), rtol=0, atol=1e-6)
    for name, tensor in tensors.items():
        shared = torch.cat([part[f"{case}/{name}"] for part in parts]) / 2
        torch.testing.assert_close(shared, tensor.grad, rtol=0, atol=1e-6, msg=lambda m: f"case {case}: {m}")


# ---- nested widths


class Columns(torch.nn.Module):
    """In the place of a model: it returns the vectors that it is given."""

    def forward(self, features):
        return dict(features)

    def get_embedding_dimension(self):
        return D


@pytest.mark.parametrize("k", [0, K])
@pytest.mark.parametrize("cuts", [[D], [D, 4, 2], [3, 2]])
def test_matryoshka_is_the_peers_sum_divided_by_the_number_of_widths(cuts, k):
    """Values and gradients of sentence-transformers' MatryoshkaLoss, which adds the widths with weights of 1."""
    model, ours_in, theirs_in = Columns(), torch_batch(k), torch_batch(k)
    theirs = peer.MatryoshkaLoss(model, peer.MultipleNegativesRankingLoss(model, scale=20.0), cuts)
    columns = [*theirs_in[:2], *(theirs_in[2].unbind(dim=1) if k else [])]
    reference = theirs([{"sentence_embedding": x} for x in columns], None) / len(cuts)
    ours = matryoshka(partial(info_nce, temperature=0.05, shared_negatives=True), *ours_in, cuts=cuts)
    assert ours.item() == pytest.approx(reference.item(), rel=1e-6)
    ours.backward()
    reference.backward()
    for mine, other in zip(ours_in[: 2 + bool(k)], theirs_in, strict=False):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_matryoshka_is_the_formula_written_out_on_the_first_numbers(options):
    rest = {name: options[name] for name in ("shared_negatives", "symmetric", "groups")}
    wanted = np.mean([plain(*(x[..., :cut] for x in batch(options["k"])), 0.1, **rest) for cut in (5, 2)])
    found = matryoshka(partial(info_nce, temperature=0.1, **rest), *torch_batch(options["k"]), cuts=[5, 2])
    assert found.item() == pytest.approx(wanted, rel=2e-6)


def test_matryoshka_of_the_whole_width_is_the_loss_itself():
    tensors = torch_batch(K)
    assert torch.equal(matryoshka(info_nce, *tensors, cuts=[D]), info_nce(*tensors))
    assert torch.equal(matryoshka(info_nce, *tensors), info_nce(*tensors))  # D = 8 has no narrower width


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        (384, [384, 256, 128, 64, 32]),
        (4096, [4096, 2048, 512, 128, 32]),
        (768, [768, 512, 128, 32]),
        (256, [256, 128, 64, 32]),
        (33, [33, 32]),
        (32, [32]),
        (1, [1]),
    ],
)
def test_widths_are_the_whole_and_powers_of_two_down_to_32(width, wanted):
    assert widths(width) == wanted


def test_widths_of_any_model_are_five_at_most_and_end_at_32():
    for width in range(33, 20_000, 7):
        assert len(found := widths(width)) <= 5 and found[0] == width and found[-1] == 32
        assert found == sorted(set(found), reverse=True)


@pytest.mark.parametrize("cuts", [[], [8, 0], [9], [-1], [4, 4]])
def test_matryoshka_refuses_widths_that_are_none(cuts):
    with pytest.raises(ValueError, match=r"cuts are \[.*\]; wanted one or more, each once and within 1..8"):
        matryoshka(info_nce, *torch_batch(0), cuts=cuts)
    with pytest.raises(ValueError, match=r"vectors are 4 and 5 numbers wide; wanted one width"):
        matryoshka(info_nce, torch.ones(2, 4), torch.ones(2, 5))  # which a cut would hide


# ---- the triplet loss and the pull towards the base


def test_triplet_is_the_formula_written_out():
    anchors, positives, negatives = batch(K)

    def cosine(x, y):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    wanted = [
        max(0.0, 0.3 + cosine(anchors[i], negatives[i, k]) - cosine(anchors[i], positives[i]))
        for i, k in itertools.product(range(B), range(K))
    ]
    assert 0 in wanted and max(wanted) > 0.3
    assert math.isclose(triplet(*torch_batch(K), margin=0.3).item(), np.mean(wanted), rel_tol=1e-6)


def test_triplet_agrees_with_sentence_transformers_in_value_and_gradients():
    ours, theirs = torch_batch(1), torch_batch(1)
    loss = triplet(*ours, margin=0.25)
    distance = peer.TripletDistanceMetric.COSINE(theirs[0], theirs[1])
    wrong = peer.TripletDistanceMetric.COSINE(theirs[0], theirs[2][:, 0])
    reference = torch.relu(distance - wrong + 0.25).mean()  # TripletLoss.forward, without the model it wraps
    loss.backward(), reference.backward()
    assert math.isclose(loss.item(), reference.item(), rel_tol=1e-6)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("negatives", [None, torch.empty(2, 0, 3)])
def test_triplet_without_negatives_says_where_to_get_them(negatives):
    with pytest.raises(ValueError, match="needs a negative for each pair; choose negatives other than 'none'"):
        triplet(torch.ones(2, 3), torch.ones(2, 3), negatives)
    with pytest.raises(ValueError, match="margin is 0; it must be above 0"):
        triplet(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3), margin=0)


def test_distillation_is_one_minus_the_mean_cosine_whatever_the_lengths():
    students, teachers = (torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in batch(0)[:2])
    wanted = 1 - torch.nn.CosineSimilarity(dim=1)(students, teachers).mean()
    torch.testing.assert_close(distillation(students, teachers), wanted)
    torch.testing.assert_close(distillation(3 * students, 0.1 * teachers), wanted)
    assert distillation(students, 7 * students).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match=r"students \(6, 8\) and teachers \(5, 8\) must have one shape"):
        distillation(students, teachers[:5])


def test_distillation_pulls_towards_the_teacher():
    students, teachers = (torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in batch(0)[:2])
    distillation(students, teachers).backward()
    moved = students.detach() - 0.1 * students.grad
    assert distillation(moved, teachers) < distillation(students, teachers)
