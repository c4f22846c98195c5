"""Adapters computed without copies, against peft's own layers; dropout against what it must be; threads against one."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from cardioembed_lib import encoder as encoders
from cardioembed_lib import fused, lora, packing, training

MODELS = {"bert": tiny.bert, "qwen3": tiny.qwen3, "gemma3": tiny.gemma3}


def stirred(base, dropout=0.0):
    """Return a packed base with an adapter whose B is not zero, in training mode."""
    packing.allow(base.model)
    found = tiny.with_adapter(base, dropout=dropout)
    torch.manual_seed(5)
    for name, parameter in found.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter.data, std=0.05)
    training.train_mode(found.model)
    return found


def gradients(found, texts, **given):
    """Return the vectors of some texts and the gradients of a loss of them."""
    ids = encoders.tokenise(found, texts)
    vectors = encoders.forward(found, ids, **given)
    found.model.zero_grad()
    torch.manual_seed(1)
    (vectors * torch.randn_like(vectors)).sum().backward()
    return vectors.detach(), {n: p.grad.clone() for n, p in found.model.named_parameters() if p.requires_grad}


TEXTS = [
    "the heart pumps blood through arteries and veins",
    "a valve opens",
    "pain after exercise",
    "stent",
    "a murmur is",
]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fused_layers_have_the_outputs_and_gradients_of_pefts(name, precision):
    found = stirred(MODELS[name]())
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        wanted, theirs = gradients(found, TEXTS)
        with fused.fused(found.model):
            assert sum("forward" in vars(m) for m in found.model.modules()) == len(theirs) / 2
            vectors, ours = gradients(found, TEXTS)
    near = 1e-5 if precision == "float32" else 0.05  # of the largest number
    assert (vectors - wanted).abs().max() < near * wanted.abs().max()
    for key, gradient in theirs.items():
        assert gradient.abs().max() > 0, key
        assert (ours[key] - gradient).abs().max() < near * gradient.abs().max(), key
    assert not any("forward" in vars(m) for m in found.model.modules())


def test_dropout_scales_what_it_keeps_and_its_gradient_is_that_of_its_mask():
    layer = nn.Linear(6, 4)
    model = lora.attach(nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"q_proj": layer})])}), **ADAPTER)
    found = model.base_model.model["layers"][0]["q_proj"]
    nn.init.normal_(found.lora_B["default"].weight)
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    model.double().train()
    down, up = (m["default"].weight for m in (found.lora_A, found.lora_B))
    with fused.fused(model), fused.draws(3, 4):
        y = found(x)
        mask = torch.ones(30, dtype=torch.float64)
        mask[fused._dropped(x, 0.4, (3, 4, 0))] = 0
        wanted = layer(x) + 2 * (x * mask.view(5, 6) / 0.6) @ down.T @ up.T
        torch.testing.assert_close(y, wanted)
        assert 0 < mask.sum() < 30
        ours, theirs = (torch.autograd.grad((v**2).sum(), (x, down, up)) for v in (y, wanted))
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other)


ADAPTER = {"rank": 2, "alpha": 4.0, "dropout": 0.4, "targets": "all-linear", "seed": 1}


def test_dropped_places_are_independent_draws_of_one_probability():
    x = torch.empty(200, 50)
    drawn = [fused._dropped(x, 0.05, (1, i)).numpy() for i in range(300)]
    assert all(np.all(np.diff(d) > 0) and d[0] >= 0 and d[-1] < 10_000 for d in drawn)
    counts = np.array([len(d) for d in drawn])
    assert abs(counts.mean() - 500) < 5 * 21.8 / 300**0.5  # sd of a binomial of 10,000 and 0.05
    assert 0.85 < counts.std() / 21.8 < 1.15
    each = np.bincount(np.concatenate(drawn), minlength=10_000)
    assert abs(each.var() / (300 * 0.05 * 0.95) - 1) < 0.1, "some places are dropped more often than others"


def test_dropout_is_the_same_from_the_same_numbers_in_any_thread_and_other_from_others(two_threads):
    found = stirred(tiny.bert(), dropout=0.3)
    with fused.fused(found.model):
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(gradients(found, TEXTS * 100, token_budget=256))
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    assert not torch.equal(runs[0][0], runs[2][0])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("in_thread", [True, False])
def test_the_gradient_cache_has_the_plain_gradients_and_keeps_no_activation(dropout, in_thread, two_threads):
    """Also where peft's own layers draw the dropout, from torch's one generator: then in one thread."""
    found = stirred(tiny.bert(), dropout=dropout)
    passes = []
    block = found.model.base_model.model.encoder.layer[1].intermediate.dense
    block.base_layer.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    with fused.fused(found.model) if in_thread else torch.enable_grad():
        assert encoders.threads_for(found) == (2 if in_thread or not dropout else 1)
        torch.manual_seed(7)
        cached = gradients(found, TEXTS * 100, token_budget=256, cached=True)
        if not in_thread:
            assert set(passes) == {True, False}
        torch.manual_seed(7)
        again = gradients(found, TEXTS * 100, token_budget=256, cached=True)
        torch.manual_seed(7)
        plain = gradients(found, TEXTS * 100, token_budget=256)
    assert torch.equal(cached[0], again[0])
    if in_thread or not dropout:  # else the plain pass draws from the generator as it goes
        torch.testing.assert_close(cached[0], plain[0])
        for name, gradient in plain[1].items():
            torch.testing.assert_close(cached[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_a_dropout_does_not_depend_on_the_number_of_threads(two_threads):
    found = stirred(tiny.bert(), dropout=0.3)
    with fused.fused(found.model):
        runs = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(7)
            runs.append(gradients(found, TEXTS * 100, token_budget=512))
    torch.testing.assert_close(runs[0][0], runs[1][0])
    for name, gradient in runs[0][1].items():
        torch.testing.assert_close(runs[1][1][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_a_bias_that_learns_has_its_gradient_and_a_quantised_base_runs_alone(two_threads):
    layer = fused.quicken(nn.Sequential(nn.Linear(4, 3)))[0]
    layer.weight.requires_grad_(False)
    layer(torch.ones(2, 4)).sum().backward()
    assert layer.bias.grad.tolist() == [2.0, 2.0, 2.0]
    found = tiny.bert()
    assert encoders.threads_for(found) == 2
    found.model.is_quantized = True
    assert encoders.threads_for(found) == 1


def test_threads_change_no_vector_and_torchs_number_of_threads_comes_back(two_threads):
    found = tiny.bert()
    packing.allow(found.model)
    two = encoders.encode(found, TEXTS * 100, token_budget=128)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    np.testing.assert_allclose(encoders.encode(found, TEXTS * 100, token_budget=128), two, rtol=0, atol=1e-6)


def test_an_error_in_a_thread_reaches_the_caller(two_threads):
    def task(part):
        if part == 3:
            raise FloatingPointError("part 3")
        return part

    with pytest.raises(FloatingPointError, match="part 3"):
        list(encoders.side_by_side(task, range(8), 2))
    assert torch.get_num_threads() == 2


def test_onednns_product_is_torchs():
    torch.manual_seed(0)
    plain = nn.Linear(48, 20)
    quick = fused.quicken(nn.Sequential(plain))[0]
    for shape in ((1, 48), (3, 5, 48), (0, 48)):
        x = torch.randn(*shape)
        wanted = nn.functional.linear(x, plain.weight, plain.bias)
        with torch.no_grad():
            torch.testing.assert_close(quick(x), wanted)
        assert quick(x).requires_grad
    if fused._onednn is None:
        pytest.fail("this torch no longer has the product: the library's float32 is a tenth slower")


def test_a_switched_off_adapter_is_switched_off_here_too():
    found = stirred(tiny.bert())
    with found.model.disable_adapter(), fused.fused(found.model):
        off = encoders.encode(found, TEXTS)
    with found.model.disable_adapter():
        np.testing.assert_allclose(off, encoders.encode(found, TEXTS), atol=1e-6)
    assert abs(off - encoders.encode(found, TEXTS)).max() > 1e-4
