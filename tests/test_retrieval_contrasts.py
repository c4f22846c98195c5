"""Contrasts of arms: by hand, against numpy, and what must not matter."""

import numpy as np
import polars as pl
import pytest

from cardioembed_study import lexical
from cardioembed_study.corpus import pairs
from cardioembed_study.retrieval import contrasts, evaluation, pools, rivals
from cardioembed_study.retrieval.pools import Outcome, Task

NONE = np.full(2, np.nan, dtype=np.float32)


def outcome(*ranks):
    n = len(ranks)
    return Outcome(np.array(ranks), np.ones(n, dtype=np.float32), np.zeros((n, 2), dtype=np.float32))


def task(name, documents):
    n = len(documents)
    return Task(name, [f"q{i}" for i in range(n)], ["p0", "p1"], np.zeros(n, dtype=int), list(documents))


def test_fused_ranks_are_cormacks_by_hand():
    scores = lexical.fused([[9.0, 5.0, 0.0, 0.0]], [[0.1, 0.9, 0.5, 0.2]])
    wanted = [1 / 61 + 1 / 64, 1 / 62 + 1 / 61, 1 / 64 + 1 / 62, 1 / 64 + 1 / 63]  # equals share the last rank
    assert np.allclose(scores[0], 61 * np.array(wanted))


def test_a_hybrid_finds_what_either_puts_first_and_never_counts_the_query_itself():
    words = Outcome(np.array([1, 2]), NONE, np.array([[3.0, 1.0, 0.0], [9.0, 2.0, 1.0]], dtype=np.float32))
    model = Outcome(np.array([1, 2]), NONE, np.array([[0.9, 0.1, 0.2], [0.9, 0.5, 0.4]], dtype=np.float32))
    asked = Task("t", ["a", "b"], ["p", "q", "r"], np.array([0, 1]), ["x", "y"], np.array([-1, 0]))
    assert pools.hybrid(asked, words, model).ranks.tolist() == [1, 1]
    assert words.similarities[1, 0] == 9.0  # what was given stays as it was


def test_each_definition_of_the_folds_is_asked_of_the_model_that_did_not_learn_it():
    held = {"fold1": task("fold1", "ab"), "fold2": task("fold2", "c")}
    members = {"base": ["m"], "without": ["w1", "w2"], "fold1": ["f1"], "fold2": ["f2"]}
    outcomes = {
        "m": {"fold1": outcome(4, 4), "fold2": outcome(4)},
        "w1": {"fold1": outcome(2, 2), "fold2": outcome(4)},
        "w2": {"fold1": outcome(1, 2), "fold2": outcome(4)},
        "f1": {"fold1": outcome(1, 1)},
        "f2": {"fold2": outcome(2)},
    }
    ranks = contrasts.reciprocal(outcomes, members)
    found = contrasts.across(ranks, held, np.array([True, False, False]), seed=17)
    assert found["mrr"]["fold"] == {"by_query": pytest.approx(2.5 / 3), "by_document": pytest.approx(2.5 / 3)}
    without = (0.75 + 0.5 + 0.25) / 3
    assert found["contrasts"]["specialty"]["difference"] == pytest.approx(2.5 / 3 - without)
    assert found["contrasts"]["format"]["difference"] == pytest.approx(without - 0.25)
    format_less = (without - 0.25) - (2.5 / 3 - without)
    assert found["contrasts"]["format_less_specialty"]["difference"] == pytest.approx(format_less)
    assert (found["seen"]["specialty"]["queries"], found["unseen"]["specialty"]["queries"]) == (1, 2)


def test_an_interaction_is_the_difference_of_two_differences_and_its_interval_grows_with_either():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.1, 0.2, 200), rng.normal(0.0, 0.2, 200)
    one = contrasts.interaction(first, range(200), second, range(200), seed=17)
    assert one["difference"] == pytest.approx(first.mean() - second.mean())
    error = np.sqrt(first.var() / 200 + second.var() / 200)
    assert (one["high"] - one["low"]) / (2 * 1.96) == pytest.approx(error, rel=0.1)
    clustered = contrasts.interaction(first, [i // 50 for i in range(200)], second, range(200), seed=17)
    assert clustered["documents"] == 204


def test_the_power_shrinks_with_the_root_of_the_documents():
    rng = np.random.default_rng(1)
    arms = ("base", "without", "swapped", "cardiology", "other", "heading")
    ranks = {arm: rng.random(100) for arm in arms}
    found = contrasts.powers(ranks, range(100), folds=400, matrix=25, seed=17)
    error = (ranks["swapped"] - ranks["without"]).std() / 10
    assert found["specialty"]["standard_error"] == pytest.approx(error, rel=0.1)
    assert found["specialty"]["detectable"] == pytest.approx(2.8 * found["specialty"]["standard_error"] / 2)
    assert found["interaction"]["detectable"] == pytest.approx(4 * found["specialty"]["detectable"])


def test_a_document_counts_once_however_many_queries_it_has():
    change = np.array([1.0, 1.0, 1.0, 0.0])
    assert evaluation.by_document(change, list("aaab"), seed=17)["difference"] == 0.5


def test_topics_are_asked_apart_and_a_draw_of_questions_is_its_own_pool():
    rows = [
        (f"a{i}", f"p{i}", [], f"a{i}", f"p{i}", f"g{i}", "s", f"d{i}", topic, "test")
        for i, topic in enumerate(["cardiology", "other"] * 4)
    ]
    made = pl.DataFrame(rows, schema=pairs.SCHEMA, orient="row")
    found = contrasts.asked({"definition": made, "heading": made, "medquad": made}, "medquad", 2, seed=17)
    assert {name: (len(t.queries), len(t.passages)) for name, t in found.items()} == {
        **{f"{kind}_{topic}": (4, 8) for kind in ("definition", "heading") for topic in ("cardiology", "other")},
        **{f"medquad_{topic}": (2, 2) for topic in ("cardiology", "other")},
    }


def test_advice_takes_the_mean_over_seeds_less_each_way_of_searching_that_needs_no_tuning():
    asked = task("t", "ab")
    ranks = {"base": (4, 4), "bm25": (2, 4), "bm25+base": (2, 2), "s1": (1, 1), "s2": (1, 2)}
    outcomes = {name: {"t": outcome(*both)} for name, both in ranks.items()}
    found = rivals.differences(asked, outcomes, "base", ["s1", "s2"], seed=17)
    differences = {way: {rival: m["difference"] for rival, m in less.items()} for way, less in found.items()}
    assert differences == {
        "tuned": {"base": 0.625, "bm25": 0.5, "hybrid": 0.375},
        "bm25": {"base": 0.125},
        "hybrid": {"base": 0.25, "bm25": 0.125},
    }
    assert (found["tuned"]["hybrid"]["low"], found["tuned"]["hybrid"]["high"]) == (0.25, 0.5)  # the two documents
    assert set(rivals.differences(asked, outcomes, "base", [], seed=17)) == {"bm25", "hybrid"}
