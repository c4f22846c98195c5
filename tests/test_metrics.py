"""Ranks, scores, intervals and tests: by hand, against other implementations, and what must not change them."""

import math

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from cardioembed_lib import metrics, statistics

RNG = np.random.default_rng(2511)
SCORES = RNG.standard_normal((40, 60)).astype(np.float32)
GOLD = RNG.integers(0, 60, 40)


def one_hot(gold, n):
    return np.eye(n)[gold]


# ranks


def test_rank_counts_the_candidates_that_score_higher():
    scores = [[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]]
    assert metrics.gold_ranks(scores, [2, 0]).tolist() == [2, 1]


def test_without_gold_query_i_belongs_to_candidate_i():
    assert metrics.gold_ranks([[0.9, 0.1], [0.9, 0.1]]).tolist() == [1, 2]


def test_a_tie_counts_against_us_wherever_it_stands():
    assert metrics.gold_ranks([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1]], [0, 1]).tolist() == [2, 2]


def test_a_model_with_one_vector_for_every_text_finds_nothing():
    assert metrics.gold_ranks(np.ones((3, 50)), [0, 7, 49]).tolist() == [50, 50, 50]


def test_equal_passages_tie_although_blas_rounds_them_apart():
    passages = RNG.standard_normal((6001, 384)).astype(np.float32)
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    passages[-1] = passages[0]
    queries = passages[:500] + 0.02 * RNG.standard_normal((500, 384)).astype(np.float32)
    queries[:] = queries[0] + 0.001 * RNG.standard_normal((500, 384)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert set(metrics.gold_ranks(queries @ passages.T, np.zeros(500, int))) == {2}


def test_tolerance_zero_compares_exactly():
    just_below = np.nextafter(np.float32(0.5), np.float32(0))
    scores = np.array([[0.5, just_below]], dtype=np.float32)
    assert metrics.gold_ranks(scores, [0]).tolist() == [2]
    assert metrics.gold_ranks(scores, [0], tolerance=0).tolist() == [1]


def test_of_several_answers_the_best_counts_and_the_others_are_not_in_its_way():
    scores = [[0.9, 0.8, 0.8, 0.7]]
    assert metrics.gold_ranks(scores, [{1, 2}]).tolist() == [2]
    assert metrics.gold_ranks(scores, [[2, 3]]).tolist() == [3]
    assert metrics.gold_ranks(scores, [{0, 3}]).tolist() == [1]


def test_one_answer_as_number_or_as_set_is_the_same():
    as_sets = metrics.gold_ranks(SCORES, [{int(g)} for g in GOLD])
    assert np.array_equal(metrics.gold_ranks(SCORES, GOLD), as_sets)


def test_the_query_itself_is_not_counted():
    scores = [[1.0, 0.8, 0.3], [1.0, 0.8, 0.3], [0.2, 1.0, 0.3]]
    assert metrics.gold_ranks(scores, [1, 1, 2], exclude=[0, -1, 0]).tolist() == [1, 2, 2]


def test_order_of_the_pool_does_not_matter():
    order = RNG.permutation(60)
    where = np.argsort(order)
    assert np.array_equal(metrics.gold_ranks(SCORES[:, order], where[GOLD]), metrics.gold_ranks(SCORES, GOLD))


def test_rows_in_pieces_equal_the_whole(monkeypatch):
    whole = metrics.gold_ranks(SCORES, GOLD)
    pieces = [metrics.gold_ranks(SCORES[i : i + 7], GOLD[i : i + 7]) for i in range(0, 40, 7)]
    assert np.array_equal(np.concatenate(pieces), whole)
    monkeypatch.setattr(metrics, "ROWS", 3)
    assert np.array_equal(metrics.gold_ranks(SCORES, GOLD), whole)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([[0.1, math.nan]], {"gold": [0]}, "query 0 and candidate 1 is NaN"),
        ([0.1, 0.2], {}, r"shape \(2,\)"),
        ([[0.1, 0.2]], {"gold": [2]}, "query 0 is column 2; columns go from 0 to 1"),
        ([[0.1, 0.2]], {"gold": [-1]}, "column -1"),
        ([[0.1, 0.2]], {"gold": [0, 1]}, "2 entries for 1 queries"),
        ([[0.1, 0.2]], {"gold": [set()]}, "query 0 has no right answer"),
        ([[0.1, 0.2]], {"gold": [0.5]}, "whole numbers"),
        ([[0.1, 0.2]], {"gold": [0], "exclude": [0]}, "also its right answer"),
        ([[0.1, 0.2]], {"gold": [0], "exclude": [2]}, "outside -1 to 1"),
        ([[0.1, 0.2]], {"gold": [0], "exclude": [0, 1]}, "give 1 columns"),
        ([[0.1], [0.2]], {}, "query 1 is column 1"),
    ],
)
def test_bad_input_is_refused_by_name(scores, options, message):
    with pytest.raises(ValueError, match=message):
        metrics.gold_ranks(scores, **options)


def test_nan_beyond_the_first_rows_is_named_by_its_own_row():
    scores = np.zeros((metrics.ROWS + 5, 4))
    scores[metrics.ROWS + 2, 3] = np.nan
    with pytest.raises(ValueError, match=f"query {metrics.ROWS + 2} and candidate 3"):
        metrics.gold_ranks(scores, np.zeros(len(scores), int))


# scores


def test_scores_by_hand():
    ranks = [1, 2, 4, 20]
    assert metrics.accuracy_at(ranks, 1) == 0.25
    assert metrics.accuracy_at(ranks, 4) == 0.75
    assert metrics.mrr(ranks) == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 20) / 4)
    assert metrics.mrr(ranks, k=4) == pytest.approx((1 + 1 / 2 + 1 / 4) / 4)
    assert metrics.ndcg_at(ranks, 10) == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5)) / 4)


def test_mrr_of_one_answer_is_sklearns_label_ranking_average_precision():
    expected = label_ranking_average_precision_score(one_hot(GOLD, 60), SCORES)
    assert metrics.mrr(metrics.gold_ranks(SCORES, GOLD)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_ndcg_equals_sklearns_without_ties(k):
    graded = RNG.integers(0, 3, SCORES.shape)
    graded[:, 0] = 1
    assert metrics.ndcg(SCORES, graded, k).mean() == pytest.approx(ndcg_score(graded, SCORES, k=k), abs=1e-12)


def test_ndcg_from_ranks_and_from_scores_agree_for_one_answer():
    from_scores = metrics.ndcg(SCORES, one_hot(GOLD, 60), 10).mean()
    assert metrics.ndcg_at(metrics.gold_ranks(SCORES, GOLD), 10) == pytest.approx(from_scores, abs=1e-12)


def test_ndcg_puts_the_least_relevant_of_equal_scores_first():
    constant = metrics.ndcg(np.ones((1, 3)), [[2, 1, 0]], 3)
    by_hand = (1 / math.log2(3) + 2 / math.log2(4)) / (2 + 1 / math.log2(3))
    assert constant[0] == pytest.approx(by_hand)


def test_agrees_with_mteb_without_ties():
    retrieval = pytest.importorskip("mteb._evaluators.retrieval_metrics", reason="mteb is in the test extra")
    several = [{int(g), int((g + 11) % 60)} for g in GOLD]
    relevance = np.zeros(SCORES.shape, dtype=int)
    for row, answers in enumerate(several):
        relevance[row, list(answers)] = [2, 1]
    results = {f"q{i}": {f"d{j}": float(s) for j, s in enumerate(row)} for i, row in enumerate(SCORES)}
    judged = {f"q{i}": {f"d{j}": int(g) for j, g in enumerate(row) if g} for i, row in enumerate(relevance)}
    theirs = retrieval.calculate_retrieval_scores(results, judged, [1, 5, 10])
    ranks = metrics.gold_ranks(SCORES, several)
    for k in (1, 5, 10):
        assert theirs.ndcg[f"NDCG@{k}"] == pytest.approx(metrics.ndcg(SCORES, relevance, k).mean(), abs=1e-5)
        assert theirs.mrr[f"MRR@{k}"] == pytest.approx(metrics.mrr(ranks, k), abs=1e-5)
        assert theirs.hit_rate[f"HitRate@{k}"] == pytest.approx(metrics.accuracy_at(ranks, k), abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy_at([0, 1], 1), "ranks start at 1; found 0"),
        (lambda: metrics.mrr([]), "at least one"),
        (lambda: metrics.ndcg_at([1], 0), "k is 0"),
        (lambda: metrics.ndcg([[0.1, 0.2]], [[0, 0]], 10), "query 0 has no relevant candidate"),
        (lambda: metrics.ndcg([[0.1, 0.2]], [[0, -1]], 10), "negative value"),
        (lambda: metrics.ndcg([[0.1, 0.2]], [[1]], 10), r"shape \(1, 1\), similarities \(1, 2\)"),
        (lambda: metrics.positive_cosines([[0.0, 0.0]], [[1.0, 0.0]]), "pair 0 has a zero"),
        (lambda: metrics.positive_cosines([[1.0]], [[1.0, 0.0]]), "same order"),
        (lambda: statistics.bootstrap([], seed=1), "at least one value"),
        (lambda: statistics.bootstrap([1.0], seed=1, level=95), "level is 95"),
        (lambda: statistics.bootstrap([1.0, 2.0], seed=1, groups=["a"]), "give one each"),
        (lambda: statistics.paired_difference([1.0], [1.0, 2.0], seed=1), "a has 1 values, b 2"),
        (lambda: statistics.holm([0.1, 1.2]), "found 1.2"),
        (lambda: statistics.holm([0.1, math.nan]), "NaN at position 1"),
    ],
)
def test_bad_values_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# pools


def test_whole_pool_gives_the_whole_result_and_a_pool_of_one_is_always_right():
    ranks = metrics.gold_ranks(SCORES, GOLD)
    curve = metrics.pool_size_curve(SCORES, GOLD, [1, 60], seed=17, repeats=3)
    assert curve[1] == {"acc_at_1": 1.0, "sd_acc_at_1": 0.0, "mrr": 1.0, "sd_mrr": 0.0}
    assert curve[60]["acc_at_1"] == pytest.approx(metrics.accuracy_at(ranks, 1))
    assert curve[60]["mrr"] == pytest.approx(metrics.mrr(ranks))


def test_pool_curve_equals_drawing_pools_by_hand():
    """The shortcut against the long way: pools drawn candidate by candidate."""
    rng, size, hits = np.random.default_rng(3), 10, []
    for query, gold in enumerate(GOLD):
        others = np.delete(np.arange(60), gold)
        for _ in range(200):
            drawn = rng.choice(others, size - 1, replace=False)
            hits.append(SCORES[query, gold] > SCORES[query, drawn].max())
    curve = metrics.pool_size_curve(SCORES, GOLD, [size], seed=17, repeats=200)
    assert curve[size]["acc_at_1"] == pytest.approx(np.mean(hits), abs=0.02)


def test_excluded_query_takes_no_place_in_a_pool():
    scores = [[1.0, 0.9, 0.1]]
    assert metrics.pool_size_curve(scores, [1], [2], seed=1, exclude=[0])[2]["acc_at_1"] == 1.0
    with pytest.raises(ValueError, match="a pool of 3 cannot be drawn: sizes go from 1 to 2"):
        metrics.pool_size_curve(scores, [1], [3], seed=1, exclude=[0])


# cosines


def test_cosines_by_hand():
    cosines = metrics.positive_cosines([[2, 0], [1, 0]], [[5, 0], [0, 3]])
    assert cosines.dtype == np.float32
    assert cosines.tolist() == [1, 0]
    assert metrics.mean_positive_cosine(cosines) == (0.5, 0.5)


# intervals and tests


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    inside = 0
    for seed in range(200):
        low, high = statistics.bootstrap(rng.random(80) < 0.6, seed, n=200)
        inside += low <= 0.6 <= high
    assert 0.89 <= inside / 200 <= 0.99


def test_interval_is_near_the_normal_one_and_repeats_with_its_seed():
    values = np.random.default_rng(1).standard_normal(2000)
    low, high = statistics.bootstrap(values, seed=17)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.2 * half)
    assert (low, high) == statistics.bootstrap(values, seed=17)
    assert (low, high) != statistics.bootstrap(values, seed=18)


def test_groups_of_equal_values_count_as_one_value_each():
    patients = np.repeat(np.arange(30), 50)
    values = np.random.default_rng(2).standard_normal(30)[patients]
    wide, narrow = statistics.bootstrap(values, 17, groups=patients), statistics.bootstrap(values, 17)
    assert wide[1] - wide[0] > 5 * (narrow[1] - narrow[0])


def test_names_of_groups_do_not_matter():
    values, groups = SCORES[0], np.repeat(np.arange(20), 3)
    assert statistics.bootstrap(values, 1, groups=groups) == statistics.bootstrap(
        values, 1, groups=[f"p{g:02}" for g in groups]
    )


@pytest.mark.slow
def test_p_is_flat_when_there_is_no_difference():
    rng = np.random.default_rng(7)
    p = [statistics.paired_difference(rng.random(40), rng.random(40), seed, n=200)["p"] for seed in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
    assert 0.42 <= np.mean(p) <= 0.58


def test_p_is_small_when_there_is_one_and_its_interval_leaves_zero_out():
    rng = np.random.default_rng(8)
    base = rng.random(100)
    result = statistics.paired_difference(base + 0.1 + 0.1 * rng.standard_normal(100), base, seed=17)
    assert result["p"] < 0.001
    assert 0 < result["low"] < result["difference"] < result["high"]


def test_p_by_hand_for_three_equal_gains():
    """All signs alike in 2 of 8 flips: p = 0.25."""
    result = statistics.paired_difference([0.3, 0.3, 0.3], [0.1, 0.1, 0.1], seed=17)
    assert result["p"] == pytest.approx(0.25, abs=0.02)
    assert result["difference"] == pytest.approx(0.2)


def test_swapping_the_models_swaps_the_sign_only():
    a, b = SCORES[0], SCORES[1]
    there, back = statistics.paired_difference(a, b, 1, n=500), statistics.paired_difference(b, a, 1, n=500)
    assert there["difference"] == -back["difference"]
    assert there["p"] == back["p"]


def test_flips_of_one_group_go_together():
    """Fifty notes of each of three patients are three differences, not 150."""
    patients = np.repeat([0, 1, 2], 50)
    change = np.full(150, 0.2)
    grouped = statistics.paired_difference(change, 0 * change, 17, groups=patients)["p"]
    assert grouped == pytest.approx(0.25, abs=0.02)
    assert statistics.paired_difference(change, 0 * change, 17)["p"] < 0.001


def test_holm_by_hand():
    """Holm's own steps: 4 x .005, 3 x .01, then the larger of 2 x .03 and 1 x .04."""
    assert statistics.holm([0.04, 0.005, 0.03, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert statistics.holm([0.7, 0.8]).tolist() == [1.0, 1.0]
    assert statistics.holm([0.03]).tolist() == [0.03]


def test_summary_speaks_mtebs_language_and_brackets_its_headlines():
    ranks = metrics.gold_ranks(SCORES, GOLD)
    result = metrics.summary(ranks, SCORES[:, 0], seed=17)
    assert sorted(result) == sorted(
        [f"acc_at_{k}" for k in (1, 5, 10, 20, 50, 100)]
        + ["mrr", "ndcg_at_10", "mean_positive_cosine", "sd_positive_cosine"]
        + [f"{m}_{end}" for m in ("acc_at_1", "mrr", "ndcg_at_10") for end in ("low", "high")]
    )
    for name in ("acc_at_1", "mrr", "ndcg_at_10"):
        assert result[f"{name}_low"] <= result[name] <= result[f"{name}_high"]
    assert all(type(value) is float for value in result.values())


# separation


def test_separation_by_hand():
    found = metrics.separation([0.9, 0.7], [0.1, 0.2, 0.3], seed=17)
    assert found["similar"] == pytest.approx(0.8)
    assert found["different"] == pytest.approx(0.2)
    assert found["separation"] == pytest.approx(0.6)
    assert found["low"] <= found["separation"] <= found["high"]
    assert all(type(value) is float for value in found.values())


def test_a_model_that_sees_no_difference_separates_nothing():
    """One vector for every text: all cosines 1, no draw can change that."""
    found = metrics.separation([1.0] * 5, [1.0] * 9, seed=17)
    assert (found["separation"], found["low"], found["high"]) == (0.0, 0.0, 0.0)


def test_separation_goes_from_minus_two_to_two():
    assert metrics.separation([1.0, 1.0], [-1.0], seed=17)["separation"] == 2.0
    assert metrics.separation([-1.0], [1.0, 1.0], seed=17)["separation"] == -2.0


def test_interval_of_separation_covers_every_draw_of_two_by_two():
    """Means of two values drawn from {0, 1} are 0, 1/2 or 1, so differences end at -1 and 1, each with chance 1/16."""
    found = metrics.separation([0.0, 1.0], [0.0, 1.0], seed=17)
    assert (found["separation"], found["low"], found["high"]) == (0.0, -1.0, 1.0)


def test_interval_of_separation_is_near_the_normal_one_and_repeats_with_its_seed():
    rng = np.random.default_rng(3)
    similar, different = 0.8 + 0.1 * rng.standard_normal(1500), 0.2 + 0.2 * rng.standard_normal(800)
    found = metrics.separation(similar, different, seed=17)
    half = 1.96 * math.sqrt(similar.var() / 1500 + different.var() / 800)
    expected = (found["separation"] - half, found["separation"] + half)
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=0.2 * half)
    assert found == metrics.separation(similar, different, seed=17)
    assert found != metrics.separation(similar, different, seed=18)


def test_both_sets_are_drawn_anew():
    """Where only one of the sets varies, the interval is as wide as that one's own."""
    spread, still = np.random.default_rng(4).random(200), np.full(200, 0.5)
    alone = np.subtract(*reversed(statistics.bootstrap(spread, seed=17)))
    for sets in ((spread, still), (still, spread)):
        found = metrics.separation(*sets, seed=17)
        assert found["high"] - found["low"] == pytest.approx(alone, rel=0.15)


def test_pairs_of_one_group_are_drawn_together():
    documents = np.repeat(np.arange(20), 40)
    similar = np.random.default_rng(5).random(20)[documents]
    narrow = metrics.separation(similar, [0.1] * 800, 17)
    wide = metrics.separation(similar, [0.1] * 800, 17, groups=(documents, documents))
    assert wide["separation"] == narrow["separation"]
    assert wide["high"] - wide["low"] > 4 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.separation([], [0.1], seed=1), "similar have shape"),
        (lambda: metrics.separation([0.1], [0.2, math.nan], seed=1), "different hold NaN at position 1"),
        (lambda: metrics.separation([0.1], [0.2], seed=1, groups=(["a"], ["a", "b"])), "for 1 values; give one each"),
        (lambda: metrics.separation([0.1], [0.2], seed=1, level=95), "level is 95"),
    ],
)
def test_bad_pairs_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
