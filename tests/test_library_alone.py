"""The method needs nothing of this repository: a wheel of ``cardioembed_lib`` alone trains, exports, encodes and measures."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from cardioembed_study import paths

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "cardioembed-lib"
version = "0"

[tool.setuptools]
packages = ["cardioembed_lib"]
"""
PROGRAM = """
import json
import sys
from pathlib import Path

sys.modules["cardioembed_study"] = None  # whatever asks for it fails

import polars as pl

import cardioembed_lib
from cardioembed_lib import encoder, export, lora, metrics, models, training

TERMS = ["the heart", "a valve", "arteries", "pain", "a murmur", "the pulse", "a stent", "rhythm"]
MEANINGS = ["pumps blood", "opens", "closes", "after exercise", "in the ventricle", "failure", "a walk", "pressure of veins"]
ids = [f"row {i}" for i in range(8)]
frame = pl.DataFrame(
    {"anchor": TERMS, "positive": MEANINGS, "negatives": [[]] * 8, "group": ids, "anchor_id": ids, "positive_id": ids}
)
base = models.ModelSpec(
    name="tiny", hub_id=sys.argv[1], revision=None, pooling="mean", prompts={"query": "", "document": ""}, width=32,
    max_length=32,
)


def mrr(found):
    return metrics.mrr(metrics.gold_ranks(encoder.encode(found, TERMS) @ encoder.encode(found, MEANINGS).T))


plain = models.load(base, device="cpu")
before = mrr(plain)
adapted = encoder.with_model(
    plain, lora.attach(plain.model, rank=8, alpha=16, dropout=0.0, targets="all-linear", seed=1)
)
plan = training.Plan(batch_size=4, epochs=10, learning_rate=5e-3, seed=17, precision="float32")
history = training.train(adapted, training.tokenise(adapted, frame), plan, Path("run"), progress=False)
export.save(adapted, base, Path("adapter"), {"run": "alone"})
tuned = models.load(base, adapter=Path("adapter"), device="cpu")
said = {
    "from": cardioembed_lib.__file__,
    "losses": [row["loss"] for row in history],
    "mrr": [before, mrr(tuned)],
    "largest_difference": float(abs(encoder.encode(tuned, TERMS) - encoder.encode(adapted, TERMS)).max()),
    "study": [name for name in sys.modules if name.startswith("cardioembed_study.")],
}
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder into which a wheel of the library, and nothing else, was unpacked."""
    project, folder = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("site")
    library = paths.ROOT / "cardioembed_lib"
    shutil.copytree(library, project / "cardioembed_lib", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pyproject.toml").write_text(PROJECT)
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", ".", "."]
    done = subprocess.run([sys.executable, "-m", *command], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = project.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    return folder


@pytest.mark.slow
def test_the_library_alone_tunes_exports_encodes_and_measures(site, tiny_bert, tmp_path):
    found = tiny_bert()
    found.model.save_pretrained(tmp_path / "base")
    found.tokenizer.save_pretrained(tmp_path / "base")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "base")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["from"].startswith(str(site)) and said["study"] == []
    assert len(said["losses"]) == 20 and sum(said["losses"][-2:]) < 0.5 * sum(said["losses"][:2])
    assert said["mrr"][0] < said["mrr"][1] <= 1
    assert said["largest_difference"] < 1e-5
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"cardioembed_lib"}
