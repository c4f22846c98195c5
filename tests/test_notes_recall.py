"""Recall of the next note: by hand, against a loop over one query at a time, and what must not change it."""

import numpy as np
import pytest

from cardioembed_lib import statistics
from cardioembed_study import lexical
from cardioembed_study.notes import recall

KS = (1, 5, 10, 20)


def stay(n_patients=12, length=9, width=16, seed=0):
    """Return notes of some patients, in order of time, with their patients: alike within one, more so when neighbours."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), length)
    steps = rng.standard_normal((n_patients, length, width)).cumsum(axis=1).reshape(-1, width)
    return (3 * rng.standard_normal((n_patients, width))[patients] + steps).astype(np.float32), patients


def pairs(patients):
    """Return row numbers of queries and of the notes that follow them."""
    queries = np.flatnonzero(patients[1:] == patients[:-1])
    return queries, queries + 1


def asked(vectors, patients, queries, answers, **options):
    ids, gold, own = recall.pool(queries, answers)
    scores = recall.cosines(vectors[queries], vectors[ids])
    return recall.note_recall(scores, gold, own, patients[queries], patients[ids], seed=17, **options)


def same(one, other):
    """Say whether two results agree in every number and every rank."""
    ranks = all(np.array_equal(one["ranks"][form], other["ranks"][form]) for form in recall.FORMS)
    return ranks and {k: v for k, v in one.items() if k != "ranks"} == {k: v for k, v in other.items() if k != "ranks"}


VECTORS, PATIENTS = stay()
QUERIES, ANSWERS = pairs(PATIENTS)
FOUND = asked(VECTORS, PATIENTS, QUERIES, ANSWERS)


# the pool


def test_a_note_between_two_others_is_an_answer_and_a_query():
    ids, gold, own = recall.pool(["a", "b", "x"], ["b", "c", "y"])
    assert ids.tolist() == ["b", "c", "y"]
    assert gold.tolist() == [0, 1, 2]
    assert own.tolist() == [-1, 0, -1]


def test_a_query_after_the_last_candidate_is_not_taken_for_it():
    assert recall.pool([99, 1], [5, 7])[2].tolist() == [-1, -1]


def test_an_answer_of_two_queries_stands_in_the_pool_once():
    ids, gold, _ = recall.pool([1, 2], [3, 3])
    assert ids.tolist() == [3]
    assert gold.tolist() == [0, 0]


# three forms by hand


def test_three_forms_by_hand():
    """One patient's notes 0, 1, 2 and another's 3, 4: queries 0, 1, 3; the pool is 1, 2, 4.

    Query 0 (answer 1): 2 is closer and of the same patient, 4 is farther. Query 1 (answer 2): finds itself, then 4, then 2.
    Query 3 (answer 4): found first.
    """
    table = np.array([[0.5, 0.9, 0.1], [1.0, 0.2, 0.3], [0.1, 0.2, 0.8]])
    found = recall.note_recall(
        lambda rows: table[rows], [0, 1, 2], [-1, 0, -1], ["a", "a", "b"], ["a", "a", "b"], seed=17, ks=(1, 2)
    )
    assert [found[form]["recall_at_1"] for form in recall.FORMS] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert [found[form]["recall_at_2"] for form in recall.FORMS] == pytest.approx([2 / 3, 1, 1])
    assert found["effective_k"] == pytest.approx(1 / 3)
    assert found["published"]["ceiling_at_1"] == pytest.approx(2 / 3)
    assert found["published"]["ceiling_at_2"] == 1
    assert found["same_patient_before"] == pytest.approx(1 / 3)
    assert found["same_patient_candidates"] == pytest.approx(1 / 3)
    assert (found["queries"], found["candidates"], found["patients"]) == (3, 3, 2)


def test_chance_by_hand():
    """Candidates of queries 0, 1, 3 as above: 3 each; 3, 2, 3 without the query; 2, 2, 3 without the patient's others."""
    table = np.zeros((3, 3))
    found = recall.note_recall(
        lambda rows: table[rows], [0, 1, 2], [-1, 0, -1], ["a", "a", "b"], ["a", "a", "b"], seed=17, ks=(1, 2, 3)
    )
    assert found["published"]["random_at_1"] == pytest.approx(1 / 3)
    assert found["corrected"]["random_at_1"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)
    assert found["other_patients"]["random_at_1"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert found["other_patients"]["random_at_2"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert [found[form]["random_at_3"] for form in recall.FORMS] == [1, 1, 1]


@pytest.mark.slow
def test_random_scores_find_as_much_as_chance_does():
    ids, gold, own = recall.pool(QUERIES, ANSWERS)
    totals = dict.fromkeys(recall.FORMS, 0.0)
    for seed in range(60):
        table = lexical.random_scores(len(QUERIES), len(ids), seed)
        found = recall.note_recall(table.__getitem__, gold, own, PATIENTS[QUERIES], PATIENTS[ids], seed=1, ks=(10,))
        totals = {form: totals[form] + found[form]["recall_at_10"] / 60 for form in recall.FORMS}
    for form in recall.FORMS:
        assert totals[form] == pytest.approx(FOUND[form]["random_at_10"], abs=0.012), form


# against a loop


def test_equals_a_loop_over_single_queries():
    """Cosines in float64, candidates put aside one by one; the data have no near ties."""
    units = VECTORS.astype(np.float64) / np.linalg.norm(VECTORS.astype(np.float64), axis=1, keepdims=True)
    ranks = {form: [] for form in recall.FORMS}
    for query, answer in zip(QUERIES, ANSWERS, strict=True):
        pools = {
            "published": list(ANSWERS),
            "corrected": [c for c in ANSWERS if c != query],
            "other_patients": [c for c in ANSWERS if PATIENTS[c] != PATIENTS[query] or c == answer],
        }
        for form, candidates in pools.items():
            right = units[query] @ units[answer]
            ranks[form].append(sum(units[query] @ units[c] >= right - 1e-12 for c in candidates))
    for form in recall.FORMS:
        assert FOUND["ranks"][form].tolist() == ranks[form], form
        for k in KS:
            assert FOUND[form][f"recall_at_{k}"] == pytest.approx(np.mean(np.array(ranks[form]) <= k)), (form, k)
    assert 0.05 < FOUND["corrected"]["recall_at_1"] < 0.95
    behind = np.array(ranks["corrected"]) > np.array(ranks["other_patients"])
    assert FOUND["same_patient_before"] == pytest.approx(behind.mean())


# the published form


def test_no_model_passes_the_published_ceiling_and_a_perfect_one_reaches_it():
    """Every patient's notes lie on a line of their own, each nearest to the next: right always, but for itself."""
    length, n_patients = 6, 5
    patients = np.repeat(np.arange(n_patients), length)
    angle = np.tile([0.0, 0.5, 0.9, 1.2, 1.4, 1.5], n_patients)
    vectors = np.zeros((len(patients), 2 * n_patients))
    rows = np.arange(len(patients))
    vectors[rows, 2 * patients], vectors[rows, 2 * patients + 1] = np.cos(angle), np.sin(angle)
    found = asked(vectors, patients, *pairs(patients))
    assert found["corrected"]["recall_at_1"] == 1
    assert found["published"]["recall_at_1"] == found["published"]["ceiling_at_1"] == 1 / (length - 1)
    assert found["published"]["recall_at_5"] == found["published"]["ceiling_at_5"] == 1
    assert FOUND["published"]["recall_at_1"] <= FOUND["published"]["ceiling_at_1"]


def test_the_ceiling_of_the_published_subset_is_483_of_23657():
    """Only a patient's first note is nobody's answer: 483 patients with 23,657 pairs, 2.04 %."""
    sizes = np.full(483, 49)
    sizes[:473] += 1
    patients = np.repeat(np.arange(483), sizes)
    queries, answers = pairs(patients)
    _, _, own = recall.pool(queries, answers)
    assert (len(queries), int((own < 0).sum())) == (23_657, 483)


def test_a_copy_of_the_note_counts_against_the_answer():
    """The third note is the second once more: a tie with the answer of the first query."""
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.8, 0.6]])
    found = asked(vectors, np.array([0, 0, 0]), np.array([0, 1]), np.array([1, 2]), ks=(1, 2))
    assert found["corrected"]["recall_at_1"] == 0.5
    assert found["corrected"]["recall_at_2"] == 1


def test_a_model_with_one_vector_for_every_text_finds_only_what_the_pool_gives_away():
    found = asked(np.ones((len(PATIENTS), 4)), PATIENTS, QUERIES, ANSWERS)
    assert [found[form]["recall_at_20"] for form in recall.FORMS] == [0, 0, 0]
    assert found["same_patient_before"] == 1


# intervals


def test_the_published_interval_takes_pairs_and_the_others_patients():
    """Half of the patients are found throughout, half never: 12 patients say much less than 96 pairs."""
    table = np.where(np.arange(12)[PATIENTS[QUERIES], None] % 2, np.eye(len(QUERIES)), -np.eye(len(QUERIES)))
    ids, gold, own = recall.pool(QUERIES, ANSWERS)
    found = recall.note_recall(table.__getitem__, gold, own, PATIENTS[QUERIES], PATIENTS[ids], seed=17, ks=(1,))
    hits = found["published"]["recall_at_1"]
    assert hits == 0.5
    widths = {form: found[form]["recall_at_1_high"] - found[form]["recall_at_1_low"] for form in recall.FORMS}
    right = np.arange(12)[PATIENTS[QUERIES]] % 2
    assert widths["published"] == pytest.approx(np.ptp(statistics.bootstrap(right, 17)))
    assert widths["corrected"] == pytest.approx(np.ptp(statistics.bootstrap(right, 17, groups=PATIENTS[QUERIES])))
    assert widths["corrected"] > 2 * widths["published"]


# what must not change it


def test_the_block_changes_nothing_and_is_never_passed():
    sizes = []
    ids, gold, own = recall.pool(QUERIES, ANSWERS)
    dense = recall.cosines(VECTORS[QUERIES], VECTORS[ids])

    def scores(rows):
        sizes.append(len(rows))
        return dense(rows)

    for block in (7, 96, 5000):
        found = recall.note_recall(scores, gold, own, PATIENTS[QUERIES], PATIENTS[ids], seed=17, block=block)
        assert same(found, FOUND)
    assert max(sizes[:14]) == 7
    assert sizes[:14] == [7] * 13 + [5]


def test_order_of_queries_and_names_of_patients_do_not_matter():
    order = np.random.default_rng(3).permutation(len(QUERIES))
    names = np.array([f"p{p:02}" for p in PATIENTS])
    moved = asked(VECTORS, names, QUERIES[order], ANSWERS[order])
    for form in recall.FORMS:
        for k in KS:
            assert moved[form][f"recall_at_{k}"] == pytest.approx(FOUND[form][f"recall_at_{k}"])
        assert moved["corrected"] == pytest.approx(FOUND["corrected"])
    assert moved["same_patient_before"] == pytest.approx(FOUND["same_patient_before"])


def test_lengths_of_vectors_do_not_matter():
    scaled = VECTORS * np.random.default_rng(4).uniform(0.5, 20, (len(VECTORS), 1)).astype(np.float32)
    assert same(asked(scaled, PATIENTS, QUERIES, ANSWERS), FOUND)


def test_words_go_the_same_way_as_vectors():
    texts = ["chest pain", "pain and fever", "fever and rash", "left hip", "hip replaced"]
    patients = np.array([0, 0, 0, 1, 1])
    queries, answers = pairs(patients)
    ids, gold, own = recall.pool(queries, answers)

    def scores(rows):
        return lexical.bm25_scores([texts[queries[r]] for r in rows], [texts[i] for i in ids])

    found = recall.note_recall(scores, gold, own, patients[queries], patients[ids], seed=17, ks=(1,))
    assert found["corrected"]["recall_at_1"] == 1
    assert found["published"]["recall_at_1"] == pytest.approx(2 / 3)


# bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recall.pool([1, 2], [2]), r"anchors have shape \(2,\), positives \(1,\)"),
        (lambda: recall.pool([], []), "one of each a pair"),
        (lambda: recall.pool([1, 4], [2, 4]), "pair 1 is of a note and itself"),
        (lambda: recall.cosines([[1.0]], [[1.0, 0.0]]), "queries are 1 wide, candidates 2"),
        (lambda: recall.cosines([[0.0, 0.0]], [[1.0, 0.0]]), "queries hold a zero.* in row 0"),
        (lambda: recall.cosines([[1.0]], [[1.0], [np.nan]]), "candidates hold a zero, NaN.* in row 1"),
        (lambda: recall.cosines([1.0], [[1.0]]), r"queries have shape \(1,\)"),
    ],
)
def test_bad_pairs_and_vectors_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": [0]}, r"'gold': \(1,\)"),
        ({"gold": [0, 2]}, "gold of query 1 is column 2; columns go from 0 to 1"),
        ({"own": [-2, 0]}, "own of query 0 is column -2; columns go from -1 to 1"),
        ({"gold": [0.0, 1.0]}, "whole numbers"),
        ({"own": [-1, 1]}, "query 1 is its own right answer"),
        ({"pool_patients": [70081, 10011]}, "right answer of query 1 is of another patient"),
        ({"gold": [0, 0], "own": [1, -1], "pool_patients": [70081, 10011]}, "own note of query 0 is of another"),
        ({"ks": (0, 5)}, r"ks are \[0, 5\]"),
        ({"ks": ()}, "at least one k"),
        ({"block": 0}, "block is 0"),
        ({"scores": lambda rows: np.zeros((len(rows), 3))}, r"queries 0 to 1 have shape \(2, 3\); give \(2, 2\)"),
        ({"scores": lambda rows: np.full((len(rows), 2), np.nan)}, "queries 0 to 1 hold NaN"),
    ],
)
def test_bad_queries_are_refused_by_name_without_a_patients_id(change, message):
    right = {
        "scores": lambda rows: np.eye(2)[rows],
        "gold": [0, 1],
        "own": [-1, 0],
        "patients": [70081, 70081],
        "pool_patients": [70081, 70081],
    }
    with pytest.raises(ValueError, match=message) as caught:
        recall.note_recall(**(right | change), seed=17)
    assert "70081" not in str(caught.value)
