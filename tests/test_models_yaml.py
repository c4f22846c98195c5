"""The list of base models: complete, unambiguous, safe, and true of the copy that is installed."""

import hashlib
import importlib.metadata
import re

import pytest
import tiny
import yaml

from cardioembed_study import paths

FILE = paths.MANIFESTS / "models.yaml"
MODELS = yaml.safe_load(FILE.read_text(encoding="utf-8"))
REQUIRED = {
    "hub_id",
    "revision",
    "pooling",
    "prompts",
    "width",
    "max_length",
    "parameters",
    "licence",
    "causal",
    "note",
}
OPTIONAL = {"architecture", "layers", "needs_remote_code", "package"}
PUBLISHED = {name: model for name, model in MODELS.items() if "layers" not in model}  # the others are cut by us
EACH = pytest.mark.parametrize("name", MODELS)


def test_no_name_is_given_twice():
    """YAML itself would keep the last and say nothing."""
    names = re.findall(r"^([\w.-]+):", FILE.read_text(encoding="utf-8"), re.M)
    assert sorted(names) == sorted(MODELS)
    hub_ids = [model["hub_id"] for model in PUBLISHED.values()]
    assert len(hub_ids) == len(set(hub_ids))
    identities = [tiny.spec(name).identity for name in MODELS]
    assert len(identities) == len(set(identities))


@EACH
def test_name_can_stand_in_the_name_of_a_record(name):
    assert re.fullmatch(r"\w[\w.+-]*", name)


@EACH
def test_fields_are_those_that_are_explained(name):
    assert set(MODELS[name]) >= REQUIRED
    assert set(MODELS[name]) <= REQUIRED | OPTIONAL


@EACH
def test_revision_is_a_commit_or_the_note_says_why_not(name):
    model = MODELS[name]
    if model["revision"] is None:
        assert "Not in mteb" in model["note"]
    else:
        assert re.fullmatch(r"[0-9a-f]{40}", model["revision"])


@EACH
def test_pooling_is_one_we_have_and_fits_the_attention(name):
    model = MODELS[name]
    assert model["pooling"] in {"mean", "cls", "last"}
    assert type(model["causal"]) is bool
    assert (model["pooling"] == "last") == model["causal"], "only a causal model's last token has seen the text"


@EACH
def test_prompts_are_there_even_when_empty_and_end_where_the_text_begins(name):
    prompts = MODELS[name]["prompts"]
    assert set(prompts) == {"query", "document"}
    for prompt in prompts.values():
        assert prompt == "" or prompt.endswith((": ", "\nQuery:"))


@EACH
def test_sizes_are_plausible(name):
    model = MODELS[name]
    assert model["width"] % 64 == 0
    assert 64 <= model["max_length"] <= 32768
    assert (20 if name in PUBLISHED else 1) <= model["parameters"] <= 10_000


def test_a_model_that_was_cut_says_so_in_its_name_and_its_note():
    for name in set(MODELS) - set(PUBLISHED):
        assert re.search(r"-\d-layers?$", name) and "not a published model" in MODELS[name]["note"]


@EACH
def test_nothing_asks_for_remote_code_to_be_run(name):
    model = MODELS[name]
    assert "trust_remote_code" not in model
    assert model.get("needs_remote_code", False) in (False, True)
    if model.get("needs_remote_code"):
        assert "code" in model["note"]


def test_facts_agree_with_mteb_where_it_knows_the_model():
    implementations = pytest.importorskip("mteb.models.model_implementations", reason="mteb is in the test extra")
    registry = implementations.MODEL_REGISTRY
    known = {name: registry[m["hub_id"]] for name, m in PUBLISHED.items() if m["hub_id"] in registry}
    assert len(known) >= 20
    for name, meta in known.items():
        model = MODELS[name]
        assert (model["revision"], model["width"]) == (meta.revision, meta.embed_dim), name
        assert model["parameters"] == pytest.approx(meta.n_parameters / 1e6, rel=0.02), name
        assert model["licence"].lower() == meta.license, name
        assert model["max_length"] <= meta.max_tokens, name
        prompts = meta.loader_kwargs.get("model_prompts", {})
        assert {k: prompts[k] for k in ("query", "document") if k in prompts}.items() <= model["prompts"].items(), name
        assert bool(meta.loader_kwargs.get("trust_remote_code")) == model.get("needs_remote_code", False), name
    assert {m["hub_id"] for m in MODELS.values() if m["revision"]} <= set(registry)


def test_architecture_of_the_papers_base_gives_its_number_of_parameters():
    a = MODELS["Qwen3-Embedding-8B"]["architecture"]
    queries, keys = a["heads"] * a["head_dim"], a["kv_heads"] * a["head_dim"]
    attention = 2 * a["width"] * (queries + keys) + 2 * a["head_dim"]
    layer = attention + 3 * a["width"] * a["feed_forward"] + 2 * a["width"]
    total = a["vocabulary"] * a["width"] + a["layers"] * layer + a["width"]
    assert total == 7_567_295_488
    assert MODELS["Qwen3-Embedding-8B"]["parameters"] == round(total / 1e6, 1)


def test_every_model_of_the_papers_is_listed():
    assert set(MODELS) >= {
        *("Qwen3-Embedding-8B", "Qwen3-Embedding-4B", "Qwen3-Embedding-0.6B", "Qwen3-8B", "Qwen3-4B", "Qwen2.5-0.5B"),
        *("Gemma-2-2B", "BioLinkBERT-large", "BioLinkBERT-base", "MPNet-base", "all-mpnet-base-v2", "PubMedBERT"),
        *("bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5", "bge-m3", "e5-large-v2", "e5-small-v2"),
        *("jina-embeddings-v2-base-en", "gte-base", "MedTE", "MedEmbed-small-v0.1", "MedEmbed-base-v0.1"),
        *("MedEmbed-large-v0.1", "snowflake-arctic-embed-xs", "all-MiniLM-L12-v2", "all-MiniLM-L6-v2"),
        *("nomic-embed-text-v1.5", "embeddinggemma-300m", "BMRetriever-410M", "BMRetriever-7B", "Clinical-ModernBERT"),
        *("MedCPT-Query-Encoder", "MedCPT-Article-Encoder"),
    }


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "package" in model])
def test_installed_copy_is_the_pinned_one(name):
    package = MODELS[name]["package"]
    found = importlib.metadata.files(package["name"])
    for file, wanted in package["sha256"].items():
        matching = [f for f in found if f.as_posix() == f"{package['path']}/{file}"]
        assert len(matching) == 1, f"{package['name']} has no {package['path']}/{file}"
        with matching[0].locate().open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == wanted


def test_hashes_are_complete_enough_to_fix_weights_and_words():
    package = MODELS["all-MiniLM-L6-v2"]["package"]
    assert set(package["sha256"]) == {"model.safetensors", "tokenizer.json"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in package["sha256"].values())
