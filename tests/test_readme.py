"""Every line that README tells a reader to type, in a fresh shell, over a project whose notebooks only write empty files."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import toy_tree
import yaml

from cardioembed_lib import files

ROOT = toy_tree.ROOT
LINES = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
SENTENCES = ("Bleeding on warfarin is treated with vitamin K.", "The mitral valve has two leaflets.")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a toy project with the Makefile, and an environment that is this one."""
    folder = toy_tree.make(tmp_path_factory.mktemp("readme"))
    (folder / "tests").mkdir()
    (folder / "tests" / "test_toy.py").write_text("def test_toy():\n    pass\n")
    profile = yaml.safe_load((folder / "profiles" / "toy.yaml").read_text())
    profile["03_retrieval"]["base"] = "all-MiniLM-L6-v2"  # for the search
    for name in ("embedded", "open"):
        (folder / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(profile))
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).write_text("")
    (folder / ".venv").mkdir()
    for name in ("bin", "lib"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name, target_is_directory=True)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder / ".venv")
    (folder / ".venv" / "made").touch()
    return folder


def environment(folder):
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": str(folder), "LANG": "C.UTF-8"}


def typed(folder, line):
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def passages(folder):
    rows = [{"kind": "sentence", "document": "d", "section": "s", "text": text} for text in SENTENCES]
    with files.replacing(folder / "artifacts" / "embedded" / "corpus" / "passages.parquet") as aside:
        pl.DataFrame(rows).write_parquet(aside)
    shutil.rmtree(folder / "artifacts" / "embedded" / "runs")  # whose adapters are empty files: the base alone is asked


def evidence(folder):
    shutil.copytree(folder / "artifacts" / "open" / "results", folder / "book" / "results" / "open")


AFTER = {
    "papermill --help-notebook notebooks/02_train.ipynb": passages,
    "make book PROFILE=open": evidence,
}  # what a toy notebook does not make


@pytest.mark.slow
def test_every_line_of_the_readme_does_what_it_says_in_a_fresh_shell(project):
    assert len(LINES) >= 4
    said = {}
    for block in LINES:
        first, *rest = block.strip().splitlines()
        active = f"{first}; " if first.startswith("source ") else ""
        for line in rest if active else [first, *rest]:
            done = typed(project, active + line)
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            said[line] = done.stdout + done.stderr
            AFTER.get(line, lambda folder: None)(project)
    assert "open artifacts/embedded/book/_build/html/index.html" in said["make book"]
    assert (project / "artifacts/embedded/book/_build/html/index.html").is_file()
    assert "1 passed" in said["make test"]
    assert "records: " in said["make verify PROFILE=open"]
    assert {"corpus.ipynb", "r8.ipynb"} <= {path.name for path in project.glob("*.ipynb")}
    assert "lora_rank" in said["papermill --help-notebook notebooks/02_train.ipynb"]
    (search,) = (text for line, text in said.items() if line.startswith("cardioembed search"))
    assert search.index(SENTENCES[0]) < search.index(SENTENCES[1])
    assert "is not recognised" not in typed(project, "make help").stdout


@pytest.mark.slow
def test_a_killed_make_goes_on_by_itself_and_two_at_once_are_refused(project):
    shutil.rmtree(project / "artifacts", ignore_errors=True)
    slow = toy_tree.WRITE.replace("{files}", toy_tree.FILES["02_train"])
    toy_tree.write_notebook(project, "02_train", "import time", "time.sleep(60)", slow)
    first = subprocess.Popen(
        ["make", "all"],
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in first.stdout:
        if "02_train" in line and "step-1" in line:
            break
    second = typed(project, "make all")
    assert second.returncode != 0 and "another process runs this graph already" in second.stdout + second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    for child in subprocess.run(["pgrep", "-f", str(project)], capture_output=True, text=True).stdout.split():
        os.kill(int(child), signal.SIGKILL)  # kernels have sessions of their own
    toy_tree.write_notebook(project, "02_train")
    again = typed(project, "make all")
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    assert (project / "artifacts/embedded/executed/06_report.ipynb").is_file()
