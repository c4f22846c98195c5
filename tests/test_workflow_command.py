"""The command line: what a search shows of base and tuned model, with models that stand for the real ones."""

import polars as pl
import pytest

from cardioembed_lib import files
from cardioembed_study import paths, records
from cardioembed_study.workflow import command

ROWS = [{"kind": "sentence", "document": f"d{i}", "section": "s", "text": f"text {i}"} for i in range(3)]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return the folder of a profile with passages, where the base finds them in order and every run in reverse."""

    def nearest(table, question, k, base, adapter, folder):
        rows = table.rows(named=True)[:: -1 if adapter else 1]
        return [(1 - i / 10, row) for i, row in enumerate(rows[:k])]

    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    monkeypatch.setattr(command, "_nearest", nearest)
    with files.replacing(paths.artifacts("embedded") / "corpus" / "passages.parquet") as aside:
        pl.DataFrame(ROWS).write_parquet(aside)
    return paths.artifacts("embedded")


def train(made, run):
    (made / "runs" / run / "adapter").mkdir(parents=True)
    params = {"profile": "embedded", "base": "all-MiniLM-L6-v2"}
    records.write(records.path("embedded", "train", run), metrics={}, counts={}, inputs=[], params=params)


def test_a_search_shows_base_and_first_run_place_by_place_and_the_base_alone_until_it_is_trained(made):
    head, *alone = command.answers("embedded", "Where?", "", k=2)
    assert head == "base is all-MiniLM-L6-v2"
    assert alone == ["1  base  1.000  d0, s\n     text 0", "2  base  0.900  d1, s\n     text 1"]
    train(made, "seed17")
    head, *both = command.answers("embedded", "Where?", "", k=1)
    assert head == "base is all-MiniLM-L6-v2, seed17 its tuned model"
    assert both == ["1  base    1.000  d0, s\n     text 0", "1  seed17  1.000  d2, s\n     text 2"]


def test_no_character_of_a_text_steers_the_terminal(made, capsys):
    rows = [row | {"text": "a\x1b[2Jb\u202ec\x9bd\te"} for row in ROWS]
    with files.replacing(made / "corpus" / "passages.parquet") as aside:
        pl.DataFrame(rows).write_parquet(aside)
    assert command.main(["search", "embedded", "Where?", "-k", "1"]) == 0
    assert capsys.readouterr().out.endswith("     a[2Jbcd\te\n")


def test_another_run_is_shown_where_it_is_asked_for(made):
    train(made, "seed18")
    assert "seed18 its tuned model" in next(command.answers("embedded", "Where?", "seed18", k=1))
    with pytest.raises(FileNotFoundError, match=r"train\.seed19\.json is missing; run notebooks/02_train\.ipynb"):
        next(command.answers("embedded", "Where?", "seed19", k=1))
    with pytest.raises(ValueError, match="profile embedded has no run 'seed99'"):
        next(command.answers("embedded", "Where?", "seed99", k=1))
