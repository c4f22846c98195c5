"""Which layers an adapter touches, how many numbers that is, and that laying it on and merging it do what they say."""

import subprocess
import sys

import pytest
import tiny
import torch
import transformers
from torch import nn

from cardioembed_lib import lora

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
KV = {"num_key_value_heads": 2, "head_dim": 8}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
CONFIGS = {
    "BERT": transformers.BertConfig(**SIZES, initializer_range=0.2),
    "MPNet": transformers.MPNetConfig(**SIZES, initializer_range=0.2),
    "ModernBERT": transformers.ModernBertConfig(**SIZES, **IDS),
    "GPT-NeoX": transformers.GPTNeoXConfig(**SIZES),
    "Qwen3": transformers.Qwen3Config(**SIZES, **KV, initializer_range=0.2),
    "Gemma3": transformers.Gemma3TextConfig(**SIZES, **KV),
}
BY_HAND = {  # the layers of one block, by targets
    "BERT": {
        "qv": ["attention.self.query", "attention.self.value"],
        "attention": ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
        "all-linear": ["intermediate.dense", "output.dense"],
    },
    "MPNet": {
        "qv": ["attention.attn.q", "attention.attn.v"],
        "attention": ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
        "all-linear": ["intermediate.dense", "output.dense"],
    },
    "ModernBERT": {"attention": ["attn.Wqkv", "attn.Wo"], "all-linear": ["mlp.Wi", "mlp.Wo"]},
    "GPT-NeoX": {
        "attention": ["attention.query_key_value", "attention.dense"],
        "all-linear": ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    },
    "Qwen3": {
        "qv": ["self_attn.q_proj", "self_attn.v_proj"],
        "attention": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
        "all-linear": ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    },
}
BY_HAND["Gemma3"] = BY_HAND["Qwen3"]
QWEN3_8B = [  # rank, targets, numbers by hand: rank * sum of (in + out) over 36 layers; MiB in float32 (DESIGN section 7)
    (8, "all-linear", 21_823_488, 83.25),
    (16, "all-linear", 43_646_976, 166.5),
    (32, "attention", 30_670_848, 117.0),
    (64, "qv", 30_670_848, 117.0),
]
EACH = pytest.mark.parametrize("architecture", CONFIGS)


def made(architecture: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.AutoModel.from_config(CONFIGS[architecture]).eval()


def with_b(model: nn.Module, scale: float = 0.05) -> nn.Module:
    """Give every B numbers, as training would: a fresh adapter's are zero."""
    for i, (name, parameter) in enumerate(model.named_parameters()):
        if "lora_B" in name:
            parameter.data = scale * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    return model


def states(model: nn.Module) -> torch.Tensor:
    tokens = torch.arange(3, 15).view(2, 6)
    with torch.inference_mode():
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state.float()


@EACH
@pytest.mark.parametrize("targets", lora.TARGETS)
def test_targets_are_these_layers_of_each_block_and_nothing_outside(architecture, targets):
    by_hand = BY_HAND[architecture]
    if targets not in by_hand:
        with pytest.raises(ValueError, match=r"has no linear layer for targets 'qv'; its linear layers: \['layers.0"):
            lora.target_modules(made(architecture), targets)
        return
    block = by_hand["attention"] + by_hand["all-linear"] if targets == "all-linear" else by_hand[targets]
    stem = "encoder.layer" if architecture in ("BERT", "MPNet") else "layers"
    wanted = {f"{stem}.{i}.{name}" for i in range(2) for name in block}
    assert set(lora.target_modules(made(architecture), targets)) == wanted


@EACH
@pytest.mark.parametrize("targets", ["all-linear", "attention"])
def test_count_is_what_peft_trains(architecture, targets):
    base = made(architecture)
    counted = lora.count(base, rank=3, targets=targets)
    assert lora.count_from_config(CONFIGS[architecture], 3, targets) == counted
    model = lora.attach(base, rank=3, alpha=6, dropout=0.0, targets=targets, seed=0)
    assert model.get_nb_trainable_parameters()[0] == counted
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert not any("pooler" in name for name in trained)


@pytest.mark.parametrize(("rank", "targets", "numbers", "size"), QWEN3_8B)
def test_adapter_of_the_papers_base_has_the_size_of_the_published_one_or_not(rank, targets, numbers, size, monkeypatch):
    a = tiny.spec("Qwen3-Embedding-8B").architecture
    config = transformers.Qwen3Config(
        vocab_size=a["vocabulary"],
        hidden_size=a["width"],
        intermediate_size=a["feed_forward"],
        num_hidden_layers=a["layers"],
        num_attention_heads=a["heads"],
        num_key_value_heads=a["kv_heads"],
        head_dim=a["head_dim"],
    )
    made, count = [], lora.count
    monkeypatch.setattr(lora, "count", lambda model, *given: made.append(model) or count(model, *given))
    assert lora.count_from_config(config, rank, targets) == numbers
    assert {p.device.type for p in made[0].parameters()} == {"meta"}, "no weight may be made"
    assert lora.mebibytes(numbers) == size
    assert lora.mebibytes(numbers, torch.bfloat16) == size / 2
    queries, keys = a["heads"] * a["head_dim"], a["kv_heads"] * a["head_dim"]
    ends = {"qv": [(a["width"], queries), (a["width"], keys)]}
    ends["attention"] = [*ends["qv"], (a["width"], keys), (queries, a["width"])]
    ends["all-linear"] = ends["attention"] + 3 * [(a["width"], a["feed_forward"])]
    assert numbers == rank * a["layers"] * sum(map(sum, ends[targets]))


@EACH
def test_fresh_adapter_gives_the_bases_vectors_and_a_trained_one_does_not(architecture):
    base = made(architecture)
    before = states(base)
    model = lora.attach(base, rank=4, alpha=8, dropout=0.5, targets="all-linear", seed=0).eval()
    assert torch.equal(states(model), before)
    assert (states(with_b(model)) - before).abs().max() > 1e-3


def test_start_depends_on_the_seed_only_and_leaves_the_global_generator():
    def start(seed: int) -> list[torch.Tensor]:
        model = lora.attach(made("BERT"), rank=4, alpha=8, dropout=0.1, targets="qv", seed=seed)
        return [p for n, p in model.named_parameters() if "lora_A" in n]

    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = start(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert all(map(torch.equal, first, start(1)))
    assert not any(map(torch.equal, first, start(2)))


def test_merge_is_a_straight_line_from_base_to_tuned():
    """Weights: base + weight * alpha / r * B A, to rounding; outputs: the ends are the base's and the adapter's."""
    base = made("BERT")
    plain = {n: p.clone() for n, p in base.named_parameters()}
    tuned = with_b(lora.attach(made("BERT"), rank=4, alpha=12, dropout=0.0, targets="all-linear", seed=3)).eval()
    wanted = states(tuned)
    layer = tuned.base_model.model.encoder.layer[1].intermediate.dense
    delta = 3.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = {}
    for weight in (0.0, 0.25, 0.5, 1.0):
        again = with_b(lora.attach(made("BERT"), rank=4, alpha=12, dropout=0.0, targets="all-linear", seed=3)).eval()
        merged[weight] = lora.merge(again, weight)
        assert not any("lora" in name for name, _ in merged[weight].named_parameters())
        got = merged[weight].encoder.layer[1].intermediate.dense.weight
        torch.testing.assert_close(got, plain["encoder.layer.1.intermediate.dense.weight"] + weight * delta)
    torch.testing.assert_close(states(merged[0.0]), states(base), rtol=0, atol=0)
    torch.testing.assert_close(states(merged[1.0]), wanted, rtol=0, atol=1e-5)
    assert (states(merged[0.5]) - states(base)).abs().max() > 1e-3
    for name, parameter in merged[0.5].named_parameters():
        ends = dict(merged[1.0].named_parameters())[name]
        torch.testing.assert_close(parameter, (plain[name] + ends) / 2, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder with a tiny Qwen3 on disk; wide enough for bitsandbytes, which quantises 64 numbers at a time."""
    folder = tmp_path_factory.mktemp("base")
    sizes = SIZES | {"hidden_size": 64, "intermediate_size": 128}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.Qwen3Config(**sizes, num_key_value_heads=2, head_dim=16, initializer_range=0.1)
        transformers.Qwen3Model(config).save_pretrained(folder)
    return folder


def quantised(folder, bits: int) -> nn.Module:
    model = transformers.AutoModel.from_pretrained(folder, quantization_config=lora.quantisation(bits))
    return lora.keep_differentiable(model).eval()


@pytest.mark.parametrize(("bits", "near"), [(8, 0.999), (4, 0.95)])
def test_adapter_trains_on_a_quantised_base(saved, bits, near):
    """One step on the CPU: only the adapter has gradients, they are finite, and the output moves."""
    whole = states(transformers.AutoModel.from_pretrained(saved).eval())
    base = quantised(saved, bits)
    before = states(base)
    assert torch.cosine_similarity(before, whole, dim=-1).min() > near
    assert not torch.equal(before, whole), "the base was not quantised"
    frozen = {n: p.clone() for n, p in base.named_parameters()}
    model = lora.attach(base, rank=4, alpha=8, dropout=0.0, targets="all-linear", seed=0)
    assert torch.equal(states(model), before)
    assert model.get_nb_trainable_parameters()[0] == lora.count_from_config(base.config, 4, "all-linear")
    step = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    model(input_ids=torch.arange(3, 15).view(2, 6)).last_hidden_state.float().pow(3).mean().backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == {n for n, p in model.named_parameters() if "lora_" in n}
    assert all(torch.isfinite(g).all() for g in found.values())
    assert sum(g.abs().sum() for n, g in found.items() if "lora_B" in n) > 0
    step.step()
    assert (states(model.eval()) - before).abs().max() > 1e-4
    kept = {n.removeprefix("base_model.model.").replace(".base_layer", ""): p for n, p in model.named_parameters()}
    assert all(torch.equal(p, kept[n]) for n, p in frozen.items())


@pytest.mark.parametrize("bits", [8, 4])
def test_an_evaluation_before_training_does_not_spoil_the_gradients(saved, bits):
    """Against the same base, written out in float32 from its quantised weights (what bitsandbytes itself computes with)."""
    bitsandbytes = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is in the test extra")
    low, full = quantised(saved, bits), transformers.AutoModel.from_pretrained(saved)
    for name, module in full.named_modules():
        if isinstance(module, nn.Linear):
            weight = low.get_submodule(name).weight
            state = (weight.data, weight.SCB if bits == 8 else weight.quant_state)
            back = bitsandbytes.int8_vectorwise_dequant if bits == 8 else bitsandbytes.dequantize_4bit
            module.weight.data = back(*state).float()
    gradients = []
    for base in (low, full):
        model = with_b(lora.attach(base, rank=4, alpha=8, dropout=0.0, targets="all-linear", seed=0))
        states(model.eval())
        model.train()
        model(input_ids=torch.arange(3, 15).view(2, 6)).last_hidden_state.float().pow(3).mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, wanted in gradients[1].items():
        assert torch.dist(gradients[0][name], wanted) < 0.15 * wanted.norm(), name


def test_loading_the_models_says_nothing_of_packages_that_are_not_needed():
    done = subprocess.run(
        [sys.executable, "-c", "import cardioembed_lib.export"], capture_output=True, text=True, check=True
    )
    assert "kernels" not in done.stderr


def test_bits_are_those_of_bitsandbytes():
    assert lora.quantisation(None) is None
    assert lora.quantisation(8).load_in_8bit and not lora.quantisation(8).load_in_4bit
    four = lora.quantisation(4)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)
    with pytest.raises(ValueError, match=r"bits is 16; the base is loaded in 8 or 4 bits, or unquantised \(null\)"):
        lora.quantisation(16)


def test_unknown_targets_are_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="no LoRA targets 'qkvo'; known: all-linear, attention, qv"):
        lora.target_modules(made("BERT"), "qkvo")
