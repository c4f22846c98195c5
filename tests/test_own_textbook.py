"""A reader's own textbook, of another specialty: one folder of Markdown, one manifest, one profile, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys

import polars as pl
import pytest
import yaml

from cardioembed_study import paths
from cardioembed_study.report import advice

PARTS = ["nephron", "glomerulus", "calyx", "pelvis", "ureter", "hilum", "cortex", "medulla", "papilla", "fascia"]
PLACES = ["upper pole", "lower pole", "lateral border", "renal sinus", "retroperitoneal space", "bladder neck"]
TASKS = ["filters plasma", "carries urine onward", "holds the collecting ducts", "anchors the organ", "secretes renin"]


def chapter(number: int) -> str:
    """Return a chapter on invented parts of the kidney; each term is introduced in one sentence and defined in another."""
    terms = [f"{part} {chr(97 + number)}{i}" for i, part in enumerate(PARTS)]
    prose = [
        f"Near the {PLACES[(i + number) % 6]} surgeons look for the **{term}**, which {TASKS[(i * 3 + number) % 5]} in adults. "
        f"Its size varies by {i + 2}.5 mm between patients, and it does not regenerate after injury number {number * 10 + i}."
        for i, term in enumerate(terms)
    ]
    glossary = [
        f"- **{t}**: structure at the {PLACES[(i + number) % 6]} that {TASKS[(i * 3 + number) % 5]}, {i + 2}.{number} mm wide"
        for i, t in enumerate(terms)
    ]
    return "\n\n".join([f"# Kidney {number}", "## Structure", *prose, "## Glossary", *glossary]) + "\n"


def without_glossary(number: int) -> str:
    """Return the same chapter as most books are: sections of plain sentences, no term in bold, no glossary, no question."""
    prose = [line.replace("**", "") for line in chapter(number).split("## Glossary")[0].split("\n\n")[2:] if line]
    sections = [f"## Part {n} of kidney {number}\n\n{text}" for n, text in enumerate(prose)]
    return "\n\n".join([f"# Kidney {number}", *sections]) + "\n"


def add_book(project, folder, write, pairs):
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.md").write_text(write(number))
    manifest = {"name": "kidney", "title": "Kidneys", "role": "corpus", "format": "markdown", "path": str(folder)}
    manifest |= {"licence": "all rights reserved", "access": "private", "cardiology": []}
    (project / "data_manifests" / "sources" / "kidney.yaml").write_text(yaml.safe_dump(manifest))
    told = re.findall(r"^```yaml\n(.*?)^```", (paths.BOOK / "use.md").read_text(), re.M | re.S)[1]  # to readers
    kept = yaml.safe_load(told)["02_train"]["kept-seed17"]
    profile = {
        "01_notes": {"source": ""},
        "01_corpus": {"sources": ["kidney"], "other_split": [0.5, 0.2, 0.3]},
        "02_train": {
            "first": kept
            | {"pairs": pairs, "epochs": 1, "batch_size": 8, "lora_rank": 4, "max_length": 48, "keep_each": 20}
        },
        "adapters": {"my-adapter": "first"},
        "03_retrieval": {"runs": ["first"]},
        "04_mteb": {"runs": ["first"]},
    }
    (project / "profiles" / "mine.yaml").write_text(yaml.safe_dump(profile))


@pytest.fixture
def project(tmp_path):
    """Return a copy of this project, to which a reader adds a book."""
    folder = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", "executed", "_build")
    for room in (
        "benchmarks",
        "book",
        "cardioembed_lib",
        "cardioembed_study",
        "data_manifests",
        "notebooks",
        "profiles",
    ):
        shutil.copytree(paths.ROOT / room, folder / room, ignore=ignored)
    for file in ("Snakefile", "_config.yml", "CITATION.cff", "README.md"):
        shutil.copy(paths.ROOT / file, folder)
    return folder


def run(project, *words):
    """Run a Python module in the project as its Makefile does."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CARDIOEMBED_")}
    environment |= {"PYTHONPATH": str(project)}
    done = subprocess.run([sys.executable, "-m", *words], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "pairs", "tasks"),
    [
        (chapter, ["definition"], ["definition_heldout", "definition_other"]),
        (without_glossary, ["heading", "adjacent"], ["heading_heldout"]),
    ],
    ids=["glossary", "no glossary"],
)
def test_a_book_of_another_specialty_runs_from_corpus_to_report(project, write, pairs, tasks):
    add_book(project, project.parent / "kidney", write, pairs)
    run(project, "snakemake", "--cores", "all", "--config", "profile=mine", "--", "all")
    run(project, "cardioembed_study.workflow.publish", "assemble", "mine")
    made = project / "artifacts" / "mine"
    passages = pl.read_parquet(made / "corpus" / "passages.parquet")
    assert passages["source"].unique().to_list() == ["kidney"]
    assert passages.filter(kind="glossary").height == 60 * ("definition" in pairs)
    comparison = json.loads((made / "results" / "comparison.kept.json").read_text())
    of_book = [task for task in comparison["counts"] if not task.startswith("paraphrase")]
    assert of_book == tasks and "paraphrase_hand" in comparison["counts"]
    assert "too few documents to tell" in (made / "book" / "tables" / "advice.md").read_text()
    assert f"kept: {advice.SAID['few']}" in (made / "executed" / "06_report.ipynb").read_text()
    card = (made / "adapters" / "my-adapter" / "README.md").read_text()
    assert (
        'SentenceTransformer("artifacts/mine/adapters/my-adapter")' in card and "Kidneys, all rights reserved" in card
    )
    found = run(project, "cardioembed_study.workflow.command", "search", "mine", "What secretes renin?", "-k", "1")
    assert "first its tuned model" in found and "\n1  base   0." in found and "\n1  first  0." in found
    shown = "".join(p.read_text() for p in made.rglob("executed/*.ipynb")) + "".join(
        p.read_text() for p in made.rglob("tables/*")
    )
    assert "surgeons look for" not in shown and "does not regenerate" not in shown
