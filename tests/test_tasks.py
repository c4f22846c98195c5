"""Tasks: what a model is asked, checked by hand on vectors that one can multiply on paper."""

import numpy as np
import polars as pl
import pytest
import tiny

from cardioembed_lib import encoder as encoders
from cardioembed_lib import tasks


@pytest.fixture
def task():
    rows = [{"anchor": f"w{i}", "positive": f"w{i} w{i + 90}", "document": "d"} for i in (3, 4, 5)]
    return tasks.from_pairs("toy", pl.DataFrame(rows[:2]), pl.DataFrame(rows))


def test_separation_is_the_mean_over_right_pairs_less_the_mean_over_all_wrong_ones(task):
    found = tiny.encoder(adapter=False)
    queries, passages = encoders.encode(found, task.queries), encoders.encode(found, task.passages)
    cosines = [[float(q @ p) for p in passages] for q in queries]
    right = [cosines[0][0], cosines[1][1]]
    wrong = [cosines[0][1], cosines[0][2], cosines[1][0], cosines[1][2]]
    assert tasks.dev_separation(task, found) == pytest.approx(np.mean(right) - np.mean(wrong), abs=1e-6)


def test_separation_of_a_model_that_sees_no_difference_is_zero(task, monkeypatch):
    monkeypatch.setattr(encoders, "encode", lambda _, texts, **__: np.ones((len(texts), 4), np.float32) / 2)
    assert tasks.dev_separation(task, tiny.encoder(adapter=False)) == pytest.approx(0, abs=1e-7)
