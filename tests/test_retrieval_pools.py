"""Tasks: what a model is asked, checked by hand on vectors that one can multiply on paper."""

import numpy as np
import polars as pl
import pytest
import tiny

from cardioembed_lib import encoder
from cardioembed_study.retrieval import pools


@pytest.fixture
def task():
    rows = [{"anchor": f"w{i}", "positive": f"w{i} w{i + 90}", "source": "s", "document": "d"} for i in (3, 4, 5)]
    return pools.from_pairs("toy", pl.DataFrame(rows[:2]), pl.DataFrame(rows))


def test_separation_is_the_mean_over_right_pairs_less_the_mean_over_all_wrong_ones(task):
    found = tiny.encoder(adapter=False)
    queries, passages = encoder.encode(found, task.queries), encoder.encode(found, task.passages)
    cosines = [[float(q @ p) for p in passages] for q in queries]
    right = [cosines[0][0], cosines[1][1]]
    wrong = [cosines[0][1], cosines[0][2], cosines[1][0], cosines[1][2]]
    assert pools.dev_separation(task, found) == pytest.approx(np.mean(right) - np.mean(wrong), abs=1e-6)


def test_separation_of_a_model_that_sees_no_difference_is_zero(task, monkeypatch):
    monkeypatch.setattr(encoder, "encode", lambda _, texts, **__: np.ones((len(texts), 4), np.float32) / 2)
    assert pools.dev_separation(task, tiny.encoder(adapter=False)) == pytest.approx(0, abs=1e-7)


def test_a_query_that_is_in_the_pool_never_counts_as_its_own_answer():
    """Notes in order: the second is the first one's answer and asks for the third; itself it would always find first."""
    rows = [{"anchor": f"w{i}", "positive": f"w{i + 1}", "source": "s", "document": "d"} for i in (3, 4)]
    task = pools.from_pairs("notes", pl.DataFrame(rows), pl.DataFrame(rows))
    assert task.own.tolist() == [-1, 0] and task.passages == ["w4", "w5"]
    found = pools.evaluate(task, tiny.encoder(adapter=False))
    assert found.ranks[1] == 1  # of two candidates one is the query
    assert pools.floors(task, 17)["bm25"].ranks[1] == 1
    vectors = encoder.encode(tiny.encoder(adapter=False), ["w3", "w4", "w5"])
    right, wrong = [vectors[0] @ vectors[1], vectors[1] @ vectors[2]], [vectors[0] @ vectors[2]]
    separation = pools.dev_separation(task, tiny.encoder(adapter=False))
    assert separation == pytest.approx(np.mean(right) - np.mean(wrong), abs=1e-6)


def test_documents_of_one_name_in_two_books_are_two_units_and_other_names_stay():
    pair = {"anchor": "w3", "positive": "w4"}
    asked = pl.DataFrame([pair | {"source": s, "document": d} for s, d in (("a", "one"), ("b", "one"), ("b", "two"))])
    assert pools.from_pairs("toy", asked, asked.select("positive")).clusters == ["a:one", "b:one", "two"]
    assert pools.from_pairs("toy", asked.tail(2), asked).clusters == [
        "b:one",
        "two",
    ]  # whatever part of a pool is asked
