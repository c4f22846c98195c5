"""Texts read in one row, without padding, against each read alone by transformers' plain attention."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import Gemma3TextConfig, Gemma3TextModel, Qwen2Config, Qwen2Model

from cardioembed_lib import encoder as encoders
from cardioembed_lib import packing, pooling

IDS = [[7, 3, 9, 4, 8, 2, 6, 5, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9], [5, 5, 4, 3, 2], [2, 3, 4, 5, 5], [8, 1, 9], [6]]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def gemma(**given):
    heads = {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6}
    return Gemma3TextModel(Gemma3TextConfig(vocab_size=20, **SIZES, **heads, **given))


ARCHITECTURES = {
    "bert": lambda: tiny.bert().model,
    "qwen3": lambda: tiny.qwen3().model,
    "qwen2": lambda: Qwen2Model(Qwen2Config(vocab_size=20, num_key_value_heads=2, **SIZES)),
    "gemma3": gemma,  # its window of 6 is shorter than a text
    "gemma3, both ways": lambda: gemma(use_bidirectional_attention=True),
}


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    torch.manual_seed(3)
    found = ARCHITECTURES[request.param]().eval().requires_grad_(True)
    found.config.use_cache = False
    return found


def alone(model, how):
    """Return the vector of each text, read on its own by the plain products."""
    model.set_attn_implementation("eager")
    states = [model(input_ids=torch.tensor([text])).last_hidden_state for text in IDS]
    return torch.cat([pooling.pool(h, torch.ones(h.shape[:2], dtype=torch.long), how) for h in states])


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
@pytest.mark.parametrize("grad", [True, False])
def test_packed_texts_have_the_vectors_and_gradients_of_each_alone(model, how, grad):
    direction = torch.randn(len(IDS), 32)
    with torch.set_grad_enabled(grad):
        wanted = alone(model, how)
        found = packing.vectors(packing.allow(model), IDS, how, torch.device("cpu"))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=5e-6)
    if not grad:
        return
    learnt = [p for p in model.parameters() if p.requires_grad]
    theirs, ours = (torch.autograd.grad((v * direction).sum(), learnt, allow_unused=True) for v in (wanted, found))
    assert sum(g is not None for g in theirs) > 10
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        assert other is None or (mine - other).abs().max() <= 1e-5 * max(1.0, other.abs().max())


def test_padded_texts_still_have_the_vectors_of_each_alone(model):
    wanted = alone(model, "mean")
    longest = max(map(len, IDS))
    tokens = torch.tensor([text + [0] * (longest - len(text)) for text in IDS])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in IDS])
    hidden = packing.allow(model)(input_ids=tokens, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(pooling.mean_pool(hidden, mask), wanted, rtol=1e-5, atol=5e-6)


def test_rows_without_a_mask_keep_their_window(model):
    model.set_attn_implementation("eager")
    wanted = model(input_ids=torch.tensor(IDS[:2])).last_hidden_state
    found = packing.allow(model)(input_ids=torch.tensor(IDS[:2])).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=5e-6)


def test_half_precision_of_a_model_whose_norms_give_float32_is_near(model):
    with torch.no_grad():
        exact = packing.vectors(packing.allow(model), IDS, "mean", torch.device("cpu"))
        with torch.autocast("cpu", torch.bfloat16):
            rough = packing.vectors(model, IDS, "mean", torch.device("cpu"))
    assert torch.nn.functional.cosine_similarity(exact, rough.float()).min() > 0.99


def test_dropout_of_attention_is_refused():
    found = packing.allow(tiny.bert().model)
    found.train()
    with pytest.raises(ValueError, match="without dropout of attention; put the model in eval mode"):
        packing.vectors(found, IDS, "mean", torch.device("cpu"))


def test_no_text_sees_another_nor_the_filling():
    found = packing.allow(tiny.bert().model)
    first = packing.vectors(found, IDS, "mean", torch.device("cpu"))
    other = packing.vectors(found, [[9, 9, 9], *IDS[:1], [4] * 40], "mean", torch.device("cpu"))
    torch.testing.assert_close(first[0], other[1])
    assert sum(map(len, IDS)) % packing.MULTIPLE


def test_an_unknown_architecture_keeps_its_own_attention(monkeypatch):
    monkeypatch.setattr(packing, "ARCHITECTURES", set())
    found = tiny.bert()
    packing.allow(found.model)
    assert not packing.allowed(found.model)
    assert encoders.encode(found, ["pain", "the heart pumps blood"]).shape == (2, 32)
