"""Every architecture of models.yaml is run as its entry says; cut to its first layers it is another base for adapters."""

import json

import numpy as np
import pytest
import tiny
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel

from cardioembed_lib import encoder, export, lora, models

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
KV = {"num_key_value_heads": 2, "head_dim": 8}
CONFIGS = {  # an architecture of models.yaml, and its norm after the last layer, if it has one
    "BERT": (transformers.BertConfig, {}, None),
    "XLM-RoBERTa": (transformers.XLMRobertaConfig, {}, None),
    "MPNet": (transformers.MPNetConfig, {}, None),
    "ModernBERT": (
        transformers.ModernBertConfig,
        {"bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3},
        "final_norm",
    ),
    "GPT-NeoX": (transformers.GPTNeoXConfig, {}, "final_layer_norm"),
    "Qwen3": (transformers.Qwen3Config, KV, "norm"),
    "Gemma2": (transformers.Gemma2Config, KV, "norm"),
    "Gemma3": (transformers.Gemma3TextConfig, KV | {"use_bidirectional_attention": True}, "norm"),
}
EACH = pytest.mark.parametrize("architecture", CONFIGS)
TEXTS = ["pain after exercise", "the heart pumps blood through arteries", "a murmur"]
MINILM, CUT = "all-MiniLM-L6-v2", "MiniLM-2-layers"


def saved(architecture: str, folder) -> models.ModelSpec:
    """Write a random model of four layers with a tokenizer of whole words, and return how it is loaded."""
    kind, options, _ = CONFIGS[architecture]
    tokenizer = tiny.words(["<unk>", "<pad>", "<s>", "</s>"], "<s> $A </s>", pad_token="<pad>", unk_token="<unk>")
    config = kind(vocab_size=len(tokenizer), pad_token_id=1, initializer_range=0.2, **SIZES, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {"prompts": {"query": "", "document": ""}, "width": 32, "max_length": 32}
    return models.ModelSpec(name=architecture, hub_id=str(folder), revision=None, pooling="mean", **facts)


def alone(found: encoder.Encoder, prompt: str) -> np.ndarray:
    """Return the reference: the pooled states of each text by itself, its prompt in front and nothing padded."""
    states = [
        found.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        for ids in encoder.tokenise(found, TEXTS, prompt)
    ]
    pooled = {"mean": [s.mean(0) for s in states], "cls": [s[0] for s in states], "last": [s[-1] for s in states]}
    rows = torch.stack(pooled[found.pooling])
    return (rows / rows.norm(dim=1, keepdim=True)).numpy()


@EACH
@pytest.mark.parametrize("how", ["mean", "cls", "last"])
def test_a_vector_is_pooled_from_the_prompted_text_alone_whatever_is_padded_where(architecture, how, tmp_path):
    prompt = "patient had "
    spec = saved(architecture, tmp_path / "base").model_copy(update={"pooling": how, "prompts": {"query": prompt}})
    found = models.load(spec, device="cpu")
    for side in ("right", "left")[
        : 1 if architecture == "BERT" else 2
    ]:  # its positions are counted from the padding on
        found.tokenizer.padding_side = side
        np.testing.assert_allclose(encoder.encode(found, TEXTS, prompt=prompt), alone(found, prompt), rtol=0, atol=1e-5)
    blind = how == "cls" and architecture in (
        "GPT-NeoX",
        "Qwen3",
        "Gemma2",
    )  # a causal model's first token sees itself alone
    assert (abs(alone(found, prompt) - alone(found, "")).max() > 1e-3) != blind


@EACH
def test_an_adapter_is_read_back_by_both(architecture, tmp_path):
    spec = saved(architecture, tmp_path / "base").model_copy(update={"prompts": {"query": "patient had "}})
    found = models.load(spec, device="cpu")
    before = encoder.encode(found, TEXTS)
    tuned = tiny.with_adapter(found, rank=2)
    for name, parameter in tuned.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.05)
    folder = export.save(encoder.with_model(tuned, tuned.model.eval()), spec, tmp_path / "tuned", {})
    for prompt in spec.prompts["query"], "":
        wanted = encoder.encode(tuned, TEXTS, prompt=prompt)
        again = encoder.encode(models.load(spec, adapter=folder, device="cpu"), TEXTS, prompt=prompt)
        np.testing.assert_allclose(again, wanted, rtol=0, atol=1e-5)
        theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt=prompt)
        np.testing.assert_allclose(theirs, wanted, rtol=0, atol=1e-5)
    assert abs(wanted - before).max() > 1e-3


def first(spec: models.ModelSpec, layers: int) -> models.ModelSpec:
    return spec.model_copy(update={"layers": layers})


def mean_after(found: encoder.Encoder, layers: int, norm: str | None = None) -> np.ndarray:
    """Return the reference: each text alone through the whole model, the mean of its states after some layers."""
    rows = []
    for ids in encoder.tokenise(found, TEXTS):
        state = found.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layers]
        row = (found.model.get_submodule(norm)(state) if norm else state)[0].mean(0)
        rows.append((row / row.norm()).numpy())
    return np.array(rows)


@EACH
def test_a_cut_model_says_what_the_whole_says_after_these_layers_and_its_norm(architecture, tmp_path, capfd, caplog):
    spec, norm = saved(architecture, tmp_path), CONFIGS[architecture][2]
    capfd.readouterr()
    whole = models.load(spec, device="cpu")
    for layers in (1, 3):
        cut = models.load(first(spec, layers), device="cpu")
        np.testing.assert_allclose(encoder.encode(cut, TEXTS), mean_after(whole, layers, norm), rtol=0, atol=1e-6)
        assert sum(p.numel() for p in cut.model.parameters()) < sum(p.numel() for p in whole.model.parameters())
        assert cut.revision != whole.revision
    same = encoder.encode(models.load(first(spec, 4), device="cpu"), TEXTS)
    np.testing.assert_array_equal(same, encoder.encode(whole, TEXTS))
    said = "".join(capfd.readouterr()) + caplog.text
    assert "UNEXPECTED" not in said and "layers.3" not in said, "nothing is said of weights that are not used"


@EACH
def test_a_cut_model_that_was_tuned_as_a_whole_is_built_again_from_its_configuration(architecture, tmp_path):
    spec = first(saved(architecture, tmp_path / "base"), 3)
    cut = models.load(spec, device="cpu")
    tuned = encoder.with_model(cut, lora.whole(cut.model))
    folder = export.save(tuned, spec, tmp_path / "tuned", {})
    config = AutoConfig.from_pretrained(folder)
    assert config.num_hidden_layers == 3 and len(getattr(config, "layer_types", None) or "abc") == 3
    again = models.load(spec, adapter=folder, device="cpu")
    np.testing.assert_allclose(encoder.encode(again, TEXTS), encoder.encode(cut, TEXTS), rtol=0, atol=1e-6)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, encoder.encode(cut, TEXTS), rtol=0, atol=1e-5)


def test_the_listed_cuts_are_the_first_layers_of_minilm_and_as_large_as_said(minilm):
    for layers in (1, 2, 3, 4):
        spec = tiny.spec(f"MiniLM-{layers}-layer" + "s" * (layers > 1))
        cut = models.load(spec, device="cpu")
        np.testing.assert_allclose(encoder.encode(cut, TEXTS), mean_after(minilm, layers), rtol=0, atol=1e-6)
        assert spec.parameters == round(sum(p.numel() for p in cut.model.parameters()) / 1e6, 1)
        assert spec.identity != tiny.spec(MINILM).identity == tiny.spec(MINILM).hub_id == spec.hub_id


def adapter_of(name: str, folder):
    spec = tiny.spec(name)
    return export.save(tiny.with_adapter(models.load(spec, device="cpu"), rank=2), spec, folder, {})


def test_an_adapter_of_a_cut_model_loads_on_that_model_alone(tmp_path):
    cut, whole = adapter_of(CUT, tmp_path / "cut"), adapter_of(MINILM, tmp_path / "whole")
    assert models.load(tiny.spec(CUT), adapter=cut, device="cpu").name == CUT
    named = f"{tiny.spec(MINILM).hub_id}, cut to 2 of its layers"
    for folder, name, message in (
        (cut, MINILM, f"cut was trained on {named}, not on {MINILM} "),
        (cut, "MiniLM-3-layers", f"cut was trained on {named}, not on MiniLM-3-layers .*, cut to 3 of its layers"),
        (
            whole,
            CUT,
            f"whole was trained on {tiny.spec(MINILM).hub_id}, not on {CUT} .*{named}.; load it on its own base",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            models.load(tiny.spec(name), adapter=folder, device="cpu")
    assert json.loads((cut / export.CONFIG).read_text())["base_model_name_or_path"] == named
    assert f"- base: {named} at revision" in (cut / "README.md").read_text()


def test_no_other_program_lays_it_on_the_whole_model(tmp_path):
    with pytest.raises((ValueError, OSError), match="cut to 2 of its layers"):
        SentenceTransformer(str(adapter_of(CUT, tmp_path / "cut")), device="cpu")


@pytest.mark.parametrize(("layers", "message"), [(7, r"layers is 7, but .*MiniLM-L6-v2 has 6; choose at most 6")])
def test_more_layers_than_the_model_has_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        models.load(first(tiny.spec(MINILM), layers))


def test_no_layers_at_all_are_refused():
    with pytest.raises(ValueError, match=r"layers\n.*greater than 0"):
        models.ModelSpec.model_validate(tiny.spec(MINILM).model_dump() | {"layers": 0})
