"""Runs: whose folder is it, and is anything lost when the code or the texts have changed?"""

import os
import subprocess
import sys

import pytest

from cardioembed_study import paths, runs, settings


@pytest.fixture(autouse=True)
def own_room(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path / "artifacts"))


def parameters(**given):
    return settings.check("02_train", {"profile": "p", "run": "one", **given})


def texts(tmp_path, content="a"):
    file = tmp_path / "definition.parquet"
    file.write_text(content)
    return [file]


def test_the_same_run_is_found_again_and_one_over_other_texts_puts_it_aside(tmp_path):
    folder = runs.claim(parameters(), texts(tmp_path))
    (folder / "history.jsonl").write_text("kept")
    assert runs.claim(parameters(), texts(tmp_path)) == folder and (folder / "history.jsonl").exists()
    assert runs.claim(parameters(), texts(tmp_path, "b")) == folder and not (folder / "history.jsonl").exists()
    assert (folder.with_name(".one.old") / "history.jsonl").read_text() == "kept"


TRAINED = ["history.jsonl", "checkpoint/last.safetensors", "adapter/adapter_model.safetensors"]


@pytest.mark.parametrize("left", [*TRAINED, "../../results/train.one.json"])
def test_other_parameters_under_the_same_name_are_refused_where_something_was_trained(tmp_path, left):
    file = runs.claim(parameters(), texts(tmp_path)) / left
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("trained")
    with pytest.raises(ValueError, match=r"run 'one' exists with \{'seed': 17\}, wanted \{'seed': 18\}"):
        runs.claim(parameters(seed=18), texts(tmp_path))


def test_a_name_under_which_nothing_was_trained_is_free_for_other_parameters(tmp_path):
    folder = runs.claim(parameters(), texts(tmp_path))
    (folder / "history.jsonl").write_text("kept")
    runs.claim(parameters(), texts(tmp_path, "b"))
    assert runs.claim(parameters(seed=18), texts(tmp_path, "c")) == folder
    assert [path.name for path in folder.iterdir()] == ["parameters.json"]
    assert '"seed": 18' in (folder / "parameters.json").read_text()
    assert (folder.with_name(".one.old") / "history.jsonl").read_text() == "kept"


CHILD = """
import sys
from pathlib import Path
from cardioembed_study import runs, settings
parameters = settings.check("02_train", {"profile": "p", "run": "one"})
for _ in range(2):
    runs.claim(parameters, [Path(sys.argv[1])])
print("owned", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has claimed the run, twice."""
    command = [sys.executable, "-c", CHILD, str(texts(tmp_path)[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=paths.ROOT) as child:
        assert child.stdout.readline() == b"owned\n"
        yield child
        child.kill()


@pytest.mark.slow
def test_a_run_is_one_processs_until_it_ends(tmp_path, other, capsys):
    message = rf"^process {other.pid} works on run 'one'; wait until it has ended, stop it, or choose another run name$"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            runs.claim(parameters(), texts(tmp_path))
    runs.claim(parameters(run="two"), texts(tmp_path))
    other.stdin.close()
    assert other.wait(60) == 0
    runs.claim(parameters(), texts(tmp_path))
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_killed_processs_run_is_taken_over_and_a_line_says_so(tmp_path, other, capsys):
    other.kill()
    other.wait(60)
    folder = runs.claim(parameters(), texts(tmp_path))
    assert capsys.readouterr().err == f"run 'one' is taken over from process {other.pid}, which died\n"
    assert folder.with_name(".one.owner").read_text() == str(os.getpid())
    runs.claim(parameters(), texts(tmp_path))
    assert capsys.readouterr().err == ""


def test_a_run_over_clinical_notes_is_for_its_owners_eyes(tmp_path):
    with pytest.raises(FileNotFoundError, match="no profile 'p'"):  # restricted until something says that it is open
        runs.claim(parameters(pairs=["temporal"]), texts(tmp_path))
    (paths.restricted("p") / "access").write_text("open")
    folder = runs.claim(parameters(pairs=["temporal"]), texts(tmp_path))
    assert folder == paths.restricted("p") / "runs" / "one" == paths.run("p", "one")
    assert paths.restricted("p").stat().st_mode & 0o777 == 0o700
    assert paths.run("p", "other") == paths.artifacts("p") / "runs" / "other"
