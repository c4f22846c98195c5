"""Runs: whose folder is it, and is anything lost when the code or the texts have changed?"""

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


def test_other_parameters_under_the_same_name_are_refused(tmp_path):
    runs.claim(parameters(), texts(tmp_path))
    with pytest.raises(ValueError, match=r"run 'one' exists with \{'seed': 17\}, wanted \{'seed': 18\}"):
        runs.claim(parameters(seed=18), texts(tmp_path))


def test_a_run_over_clinical_notes_is_for_its_owners_eyes(tmp_path):
    folder = runs.claim(parameters(pairs=["temporal"]), texts(tmp_path))
    assert folder == paths.restricted("p") / "runs" / "one" == paths.run("p", "one")
    assert paths.restricted("p").stat().st_mode & 0o777 == 0o700
    assert paths.run("p", "other") == paths.artifacts("p") / "runs" / "other"
