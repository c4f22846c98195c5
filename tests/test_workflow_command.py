"""The command line: what a search shows of base and tuned model, with models that stand for the real ones."""

import polars as pl
import pytest
import tiny

from cardioembed_lib import encoder, files, models
from cardioembed_study import paths, records, search
from cardioembed_study.workflow import command

ROWS = [{"kind": "sentence", "document": f"d{i}", "section": "s", "text": f"text {i}"} for i in range(3)]


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """Return the folder of a profile with passages; base and runs are two tiny random models."""
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    monkeypatch.setattr(models, "load", lambda spec, adapter: tiny.bert(seed=int(adapter is not None)))
    write(paths.artifacts("embedded"), ROWS)
    return paths.artifacts("embedded")


@pytest.fixture
def made(untouched, monkeypatch):
    """Return that folder, where the base finds passages in order and every run in reverse."""

    def nearest(pool, question, k):
        rows = range(len(ROWS))[:: 1 if pool.index.name == "base" else -1]
        return [(1 - i / 10, row) for i, row in enumerate(rows[:k])]

    monkeypatch.setattr(command._Pool, "nearest", nearest)
    return untouched


def write(folder, rows):
    with files.replacing(folder / "corpus" / "passages.parquet") as aside:
        pl.DataFrame(rows).write_parquet(aside)


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
    write(made, [row | {"text": "a\x1b[2Jb\u202ec\x9bd\te"} for row in ROWS])
    assert command.main(["search", "embedded", "Where?", "-k", "1"]) == 0
    assert capsys.readouterr().out.endswith("     a[2Jbcd\te\n")


def test_another_run_is_shown_where_it_is_asked_for(made):
    train(made, "seed18")
    assert "seed18 its tuned model" in next(command.answers("embedded", "Where?", "seed18", k=1))
    with pytest.raises(FileNotFoundError, match=r"train\.seed19\.json is missing; run notebooks/02_train\.ipynb"):
        next(command.answers("embedded", "Where?", "seed19", k=1))
    with pytest.raises(ValueError, match="profile embedded has no run 'seed99'"):
        next(command.answers("embedded", "Where?", "seed99", k=1))


def test_sentences_are_embedded_in_parts_and_searched_by_an_index_of_what_they_are_now(untouched, monkeypatch, capsys):
    pytest.importorskip("faiss")
    words = tiny.VOCABULARY.split()
    rows = [ROWS[0] | {"text": f"{a} {b}"} for a in words for b in words][:900]  # two shards
    write(untouched, rows)

    def said(*words):
        assert command.main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out.splitlines()

    assert [said("embed", "embedded", "--part", f"{i}/2") for i in (1, 2)] == [["512 sentences"], ["388 sentences"]]
    assert command.main(["embed", "embedded", "--part", "3/2"]) == 1
    assert "--part is '3/2'; wanted which of how many, such as 3/20" in capsys.readouterr().err
    ask = ("search", "embedded", rows[700]["text"], "-k", "3")
    whole = said(*ask)
    assert whole[1].startswith("1  base  1.000") and whole[2].strip() == rows[700]["text"]
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "encode", None)  # nothing is embedded twice
        assert said("index", "embedded")[-1] == "900 sentences"
    with monkeypatch.context() as patch:
        patch.setattr(search, "exact", None)
        assert said(*ask)[1:3] == whole[1:3]
    write(untouched, rows[::-1])  # the index is of other sentences
    assert said(*ask)[1:3] == whole[1:3]
    assert said("index", "embedded")[-1] == "900 sentences"
    assert said(*ask)[1:3] == whole[1:3]
