"""A project small enough for tests: the real library, graph and parameters, but notebooks that only write empty files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from cardioembed_study import records
from cardioembed_study.clinical import NO_SOURCE

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
WRITE = """import json
from cardioembed_study import records
for name, text in {files}:
    target = paths.artifacts(profile) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = json.dumps(records.signed(json.loads(text), target.name)) if text.startswith("{") else text
    print(name, target.write_text(whole))"""
RECORD = json.dumps({"counts": {}, "inputs": {}, "metrics": {}, "params": {}, "status": "run"})
NOT_RUN = json.dumps(json.loads(RECORD) | {"status": "not run", "reason": NO_SOURCE})
FILES = {
    "01_corpus": f"[('corpus/passages.parquet', ''), ('results/corpus.all.json', '{RECORD}')]",
    "01_notes": f"[('results/notes.all.json', '{NOT_RUN}')]",
    "01_queries": f"[('results/queries.all.json', '{RECORD}')]",
    "02_train": f"[(f'results/train.{{run}}.json', '{RECORD}'), (f'runs/{{run}}/adapter/adapter_model.safetensors', '')]",
    "03_retrieval": f"[(f'results/{{kind}}.{{m}}.json', '{RECORD}') for kind in ('retrieval', 'similarity')"
    f" for m in [base, *runs]] + [(f'results/retrieval.bm25+{{m}}.json', '{RECORD}') for m in [base, *runs]]"
    f" + [(f'results/{{name}}.json', '{RECORD}') for name in"
    " ('comparison.tuned', 'advice.tuned', f'hybrid.{base}', 'hybrid.tuned')]",
    "03_domain": f"[(f'results/domain.{{part}}.json', '{RECORD}') for part in ('power', 'matrix', 'folds')]",
    "04_mteb": f"[(f'results/mteb.{{m}}.json', '{RECORD}') for m in [base, *runs]]"
    f" + [('results/forgetting.tuned.json', '{RECORD}')]",
    "04_medembed": f"[(f'results/medembed.{{part}}.json', '{RECORD}') for part in"
    " ('negatives', 'recipes', 'prompts', 'sizes', 'widths')]",
    "05_mimic": f"[(f'results/mimic.{{m}}.json', '{RECORD}') for m in ['bm25', base, *runs]]"
    f" + [('results/effects.all.json', '{RECORD}')]",
    "06_report": "[('tables/claims-headline.md', '<!-- made -->\\n| a |'), ('figures/fig.svg', '<svg/>'),"
    " ('figures/fig.csv', 'a')]",
}
MODULE = {
    "01_corpus": "cardioembed_study.corpus import passages",
    "01_notes": "cardioembed_study.notes import icd9",
    "01_queries": "cardioembed_study.queries import rules",
    "02_train": "cardioembed_lib import losses",
    "03_retrieval": "cardioembed_lib import metrics",
    "03_domain": "cardioembed_study.corpus import arms",
    "04_mteb": "cardioembed_study.retrieval import probe",
    "04_medembed": "cardioembed_study.medembed import sizes",
    "05_mimic": "cardioembed_study.notes import recall",
    "06_report": "cardioembed_study import records",
}


def notebook(stem: str, *cells: str) -> NotebookNode:
    """Return the real title and parameters, followed by the given cells, or by two that write the stop's files."""
    made = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)
    place = next(n for n, cell in enumerate(made.cells) if "parameters" in cell.metadata.get("tags", []))
    imports = "from cardioembed_study import paths" + ("" if cells else f"\nfrom {MODULE[stem]}")
    sources = [imports, *(cells or [WRITE.replace("{files}", FILES[stem])])]
    steps = [new_code_cell(source, id=f"step-{n}") for n, source in enumerate(sources)]
    made.cells = [*made.cells[: place + 1], *steps]
    return made


def write_notebook(folder: Path, stem: str, *cells: str) -> Path:
    """Write one notebook of a project and return its path."""
    path = folder / "notebooks" / f"{stem}.ipynb"
    nbformat.write(notebook(stem, *cells), path)
    return path


def write_profile(folder: Path, **changes: object) -> None:
    """Write the only profile of a project: the primer, two runs."""
    content = {
        "01_corpus": {"sources": ["primer"], "benchmarks": []},
        "02_train": {"a": {"lora_rank": 4}, "b": {"seed": 18}},
        "03_retrieval": {"base": "tiny", "runs": ["a", "b"], "benchmarks": []},
        "04_mteb": {"base": "tiny", "runs": ["a"]},
        "05_mimic": {"base": "tiny"},
    }
    (folder / "profiles" / "toy.yaml").write_text(yaml.safe_dump(content | changes))


def make(folder: Path, *, code: bool = True) -> Path:
    """Write the project into a folder and return it; without the code, where nothing is started in it."""
    for name in ("cardioembed_lib", "cardioembed_study", "data_manifests") if code else ():
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("notebooks", "profiles", "book", "adapters"):
        (folder / name).mkdir()
    for stem in FILES:
        write_notebook(folder, stem)
    write_profile(folder)
    (folder / "book" / "index.md").write_text("# A book\n\nWords.\n")
    (folder / "book" / "references.bib").write_text("")
    (folder / "README.md").write_text("# A project\n\n<!-- table -->\nold\n<!-- /table -->\n\nWords.\n")
    toc = {"format": "jb-book", "root": "index", "chapters": [{"glob": "executed/*"}]}
    (folder / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))
    return folder


def record(name: str, text: str = RECORD, **changes: object) -> str:
    """Return a record as a project's notebook would write it under this name."""
    return json.dumps(records.signed(json.loads(text) | changes, f"{name}.json"))


def call(folder: Path, *words: str, seconds: int = 300, **environment: str) -> subprocess.CompletedProcess:
    """Run a Python module in a project, with its own copy of the library, and return what it said."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CARDIOEMBED_")}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run the graph of a project's profile as the Makefile does; raise if it fails."""
    options = ["--cores", "2", "--max-checksum-file-size", "0", "--config", "profile=toy"]
    done = call(folder, "snakemake", *words, *options)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done
