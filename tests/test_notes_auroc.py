"""Diagnoses read off vectors: AUROC by hand and against scikit-learn, and what a split by notes gives away."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from threadpoolctl import threadpool_limits

from cardioembed_study.notes import auroc

NAMES = [f"c{i:02}" for i in range(6)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Fit on one thread: on matrices this small further ones only wait for each other, for ten times the processor time."""
    with threadpool_limits(1):
        yield


def ward(n_patients=40, length=8, width=24, signal=1.0, person=1.0, seed=0):
    """Return notes of patients with codes: vectors made of the codes, of the person, and of chance."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), length)
    has = rng.random((n_patients, len(NAMES))) < np.array([0.6, 0.5, 0.4, 0.35, 0.3, 0.25])
    own = signal * has @ rng.standard_normal((len(NAMES), width)) + person * rng.standard_normal((n_patients, width))
    vectors = own[patients] + rng.standard_normal((len(patients), width))
    codes = [[name for name, yes in zip(NAMES, has[p], strict=True) if yes] for p in patients]
    return vectors, codes, patients


VECTORS, CODES, PATIENTS = ward()


def figures(found):
    """Return a result without its draws, for comparison by ``==``."""
    return {k: figures(v) if isinstance(v, dict) else v for k, v in found.items() if k != "drawn"}


def table(codes, names):
    return np.array([[name in own for name in names] for own in codes])


# codes


def test_the_most_frequent_codes_come_first_and_equals_by_name():
    codes = [["b", "a"], ["b", "c", "c", "c"], ["a"], [], ["d"]]
    assert auroc.top_codes(codes, 3) == ["a", "b", "c"]
    assert auroc.top_codes(codes, 99) == ["a", "b", "c", "d"]
    assert auroc.top_codes([["z"], ["y"], ["x"], ["w"]], 2) == ["w", "x"]


# weighted AUROC


def test_auroc_by_hand():
    """Pairs of 0.8 and 0.4 with 0.6 and 0.4: one won twice, once lost and once tied, 2.5 of 4."""
    assert auroc.weighted_auroc([0.8, 0.4, 0.6, 0.4], [1, 1, 0, 0], np.ones((1, 4))).tolist() == [2.5 / 4]


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_equals_sklearns_with_weights_and_ties(ties):
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 12, 300).astype(float) if ties else rng.standard_normal(300)
    positive, weights = rng.random(300) < 0.3, rng.integers(0, 4, (20, 300))
    found = auroc.weighted_auroc(scores, positive, weights)
    expected = [roc_auc_score(positive[w > 0], scores[w > 0], sample_weight=w[w > 0]) for w in weights]
    assert found == pytest.approx(expected, abs=1e-12)
    fractions = rng.random((3, 300))
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in fractions]
    assert auroc.weighted_auroc(scores, positive, fractions) == pytest.approx(expected, abs=1e-12)


def test_a_weight_of_two_is_a_note_that_stands_there_twice():
    scores, positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 1, 0, 1])
    times = np.array([2, 1, 3, 1])
    twice = auroc.weighted_auroc(np.repeat(scores, times), np.repeat(positive, times), np.ones((1, 7)))
    assert auroc.weighted_auroc(scores, positive, [times]).tolist() == twice.tolist()


def test_notes_are_compared_within_their_fold_alone():
    """By fold: 1 of 1 pairs won, and 0 of 2; together 1 of 3, though the second fold scores far higher throughout."""
    scores, positive, folds = [2, 1, 10, 11, 12], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1]
    assert auroc.weighted_auroc(scores, positive, np.ones((1, 5)), folds).tolist() == [1 / 3]


def test_auroc_within_folds_is_the_mean_of_sklearns_by_pairs():
    rng = np.random.default_rng(2)
    scores, positive, folds = rng.integers(0, 30, 400), rng.random(400) < 0.4, rng.integers(0, 5, 400)
    weights = rng.integers(0, 3, (1, 400))
    won = pairs = 0
    for fold in range(5):
        rows = (folds == fold) & (weights[0] > 0)
        n_with = weights[0, rows & positive].sum()
        n_pairs = n_with * (weights[0, rows].sum() - n_with)
        won += n_pairs * roc_auc_score(positive[rows], scores[rows], sample_weight=weights[0, rows])
        pairs += n_pairs
    assert auroc.weighted_auroc(scores, positive, weights, folds)[0] == pytest.approx(won / pairs, abs=1e-12)


def test_a_draw_of_one_class_has_no_auroc():
    found = auroc.weighted_auroc([1, 2, 3], [1, 0, 0], [[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert np.isnan(found).tolist() == [True, True, False, True]
    assert found[2] == 0


# the probe


def test_split_by_rows_equals_the_published_way():
    """scikit-learn's own one-vs-rest, split and score."""
    found = auroc.auroc(VECTORS, CODES, PATIENTS, "rows", seed=42, top=4, draws=5)
    names = auroc.top_codes(CODES, 4)
    y = table(CODES, names)
    kept = y.any(axis=1)
    x_train, x_test, y_train, y_test = train_test_split(VECTORS[kept], y[kept], test_size=0.2, random_state=42)
    model = OneVsRestClassifier(LogisticRegression(max_iter=1000, C=1.0, solver="lbfgs")).fit(
        x_train, y_train.astype(int)
    )
    expected = roc_auc_score(y_test, model.predict_proba(x_test), average=None)
    assert [found["per_code"][name]["auroc"] for name in names] == pytest.approx(expected, abs=1e-12)
    assert found["macro"] == pytest.approx(expected.mean(), abs=1e-12)
    assert (found["notes"], found["dropped"], found["scored"]) == (kept.sum(), (~kept).sum(), len(y_test))
    assert found["dropped"] > 0


def test_split_by_patients_equals_a_loop_over_folds():
    found = auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=7, top=6, draws=5)
    names = auroc.top_codes(CODES, 6)
    y = table(CODES, names)
    kept = y.any(axis=1)
    x, y, owners = VECTORS[kept], y[kept], PATIENTS[kept]
    for k, name in enumerate(names):
        won = pairs = 0
        for learn, score in GroupKFold(5, shuffle=True, random_state=7).split(x, groups=owners):
            assert not set(owners[learn]) & set(owners[score])
            model = LogisticRegression(max_iter=1000).fit(x[learn], y[learn, k])
            n_pairs = y[score, k].sum() * (~y[score, k]).sum()
            if n_pairs:
                won += n_pairs * roc_auc_score(y[score, k], model.decision_function(x[score]))
                pairs += n_pairs
        assert found["per_code"][name]["auroc"] == pytest.approx(won / pairs, abs=1e-12)
    assert found["scored"] == found["notes"] == kept.sum()
    assert found["patients"] == len(set(owners))


def test_counts_of_a_code_by_hand():
    vectors = np.random.default_rng(0).standard_normal((12, 3))
    patients = np.repeat(np.arange(6), 2)
    codes = [["x"], ["x"], ["x"], ["y"], ["x"], ["x"], ["y"], ["y"], ["y"], ["y"], ["x", "y"], []]
    found = auroc.auroc(vectors, codes, patients, "patients", seed=1, folds=3, draws=5)
    assert found["per_code"]["x"] == {"auroc": found["per_code"]["x"]["auroc"], "notes": 6, "patients": 4}
    assert found["per_code"]["y"] == {"auroc": found["per_code"]["y"]["auroc"], "notes": 6, "patients": 4}
    assert (found["notes"], found["dropped"], found["patients"]) == (11, 1, 6)


@pytest.mark.slow
def test_a_split_by_notes_recognises_the_patient_and_a_split_by_patients_does_not():
    """Codes that have nothing to do with the vectors, but every patient is easy to recognise."""
    rows, by_patient = [], []
    for seed in range(12):
        vectors, codes, patients = ward(signal=0.0, person=4.0, seed=seed)
        rows.append(auroc.auroc(vectors, codes, patients, "rows", seed=seed, draws=1)["macro"])
        by_patient.append(auroc.auroc(vectors, codes, patients, "patients", seed=seed, draws=1)["macro"])
    assert np.mean(rows) > 0.9
    assert np.mean(by_patient) == pytest.approx(0.5, abs=0.04)


def test_vectors_that_tell_the_codes_are_read_in_both_splits():
    vectors, codes, patients = ward(signal=6.0, person=0.0)
    for split in auroc.SPLITS:
        assert auroc.auroc(vectors, codes, patients, split, seed=17, draws=5)["macro"] > 0.98


def test_interval_equals_drawing_the_notes_of_patients_by_hand():
    """The same draws, each scored note repeated as often as its patient was drawn, and scikit-learn's AUROC."""
    vectors, codes, patients = ward(n_patients=12, person=0.3)
    codes = [[*own, "one"] if patient == 4 else own for own, patient in zip(codes, patients, strict=True)]
    found = auroc.auroc(vectors, codes, patients, "rows", seed=5, draws=80)
    names = list(found["per_code"])
    y = table(codes, names)
    kept = y.any(axis=1)
    x, y, owners = vectors[kept], y[kept], patients[kept]
    learn, score = train_test_split(np.arange(len(x)), test_size=0.2, random_state=5)
    fits = [LogisticRegression(max_iter=1000).fit(x[learn], has[learn]) for has in y.T]
    scores, truth = np.stack([fit.decision_function(x[score]) for fit in fits], axis=1), y[score]
    people = np.unique(owners)
    member = np.searchsorted(people, owners[score])
    macros, skipped = [], 0
    for times in np.random.default_rng(5).multinomial(len(people), np.full(len(people), 1 / len(people)), size=80):
        rows = np.repeat(np.arange(len(score)), times[member])
        known = [k for k in range(len(names)) if 0 < truth[rows, k].sum() < len(rows)]
        skipped += len(names) - len(known)
        macros.append(np.mean([roc_auc_score(truth[rows, k], scores[rows, k]) for k in known]))
    assert skipped > 0
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(macros, [0.025, 0.975]), abs=1e-12)


def test_interval_repeats_with_its_seed_and_holds_the_estimate():
    found = auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=17, draws=300)
    assert found["low"] < found["macro"] < found["high"]
    assert figures(found) == figures(auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=17, draws=300))
    assert len(found["drawn"]) == 300
    assert np.quantile(found["drawn"], [0.025, 0.975]).tolist() == [found["low"], found["high"]]


def test_draws_are_the_same_patients_for_every_model():
    """Two models that see much the same: their AUROCs rise and fall together, draw by draw, with one seed only."""
    blurred = VECTORS + np.random.default_rng(0).standard_normal(VECTORS.shape)
    one, other, strange = (
        auroc.auroc(x, CODES, PATIENTS, "patients", seed, draws=200)["drawn"]
        for x, seed in ((VECTORS, 17), (blurred, 17), (blurred, 18))
    )
    assert np.corrcoef(one, other)[0, 1] > 0.5
    assert abs(np.corrcoef(one, strange)[0, 1]) < 0.25


def test_draws_weighed_in_pieces_equal_the_whole(monkeypatch):
    whole = auroc.auroc(VECTORS, CODES, PATIENTS, "rows", seed=17, draws=60)
    monkeypatch.setattr(auroc, "AT_ONCE", 7)
    pieces = auroc.auroc(VECTORS, CODES, PATIENTS, "rows", seed=17, draws=60)
    assert figures(pieces) == figures(whole)
    assert pieces["drawn"].tolist() == whole["drawn"].tolist()


def test_unseen_patients_are_scored_apart():
    unseen = {1, 5, 8, 13, 21, 34, 38}
    found = auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=17, unseen=unseen, draws=50)
    alone = found.pop("unseen")
    assert figures(found) == figures(auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=17, draws=50))
    assert alone["low"] <= alone["macro"] <= alone["high"]
    assert alone["notes"] == sum(bool(own) for own, p in zip(CODES, PATIENTS, strict=True) if p in unseen)
    assert alone["patients"] <= 7
    assert "unseen" not in auroc.auroc(VECTORS, CODES, PATIENTS, "rows", seed=17, unseen=unseen, draws=5)
    everybody = auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=17, unseen=set(PATIENTS.tolist()), draws=50)
    assert {k: everybody["unseen"][k] for k in ("macro", "low", "high")} == {
        k: found[k] for k in ("macro", "low", "high")
    }


def test_a_code_that_cannot_be_learnt_or_told_is_skipped_and_counted():
    codes = [
        [*own, "everybody"] + (["rare"] if patient == 3 else []) for own, patient in zip(CODES, PATIENTS, strict=True)
    ]
    found = auroc.auroc(VECTORS, codes, PATIENTS, "patients", seed=17, draws=5)
    assert found["skipped"] == 2
    assert sorted(found["per_code"]) == NAMES
    assert found["macro"] == pytest.approx(np.mean([code["auroc"] for code in found["per_code"].values()]))


def test_order_of_notes_does_not_matter_where_patients_are_split():
    order = np.random.default_rng(6).permutation(len(CODES))
    moved = auroc.auroc(VECTORS[order], [CODES[i] for i in order], PATIENTS[order], "patients", seed=17, draws=50)
    found = auroc.auroc(VECTORS, CODES, PATIENTS, "patients", seed=17, draws=50)
    assert [moved[k] for k in ("macro", "low", "high")] == pytest.approx(
        [found[k] for k in ("macro", "low", "high")], abs=1e-3
    )
    assert moved["per_code"].keys() == found["per_code"].keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "notes"}, "no split 'notes'; known: rows, patients"),
        ({"codes": [["a"]]}, r"shape \(4, 1\) for 1 lists of codes and 4 patients"),
        ({"codes": [["a"], [], "250.00", []]}, "codes of row 2 are of type str"),
        ({"codes": [["a"], None, [], []]}, "codes of row 1 are of type NoneType"),
        ({"codes": [[], [], [], []]}, "none of the 4 notes has a code"),
        ({"vectors": [[0.0], [1.0], [np.nan], [2.0]]}, "infinite values in row 2"),
        ({"folds": 3}, "3 folds of 2 patients"),
        ({"folds": 1}, "1 folds of 2 patients"),
        ({"top": 0}, "top is 0"),
        ({"draws": 0}, "draws are 0"),
        ({"codes": [["a"], ["a"], ["a"], ["a"]]}, "none of 1 codes can be scored on 4 notes of 2 patients"),
        ({"unseen": {10011}}, "no scored note is of one of the 1 unseen patients"),
    ],
)
def test_bad_input_is_refused_by_name_without_a_patients_id(change, message):
    right = {
        "vectors": [[0.0], [1.0], [1.5], [2.0]],
        "codes": [["a"], ["b"], ["a"], ["b"]],
        "patients": [70081, 70081, 70082, 70082],
        "split": "patients",
        "folds": 2,
    }
    with pytest.raises(ValueError, match=message) as caught:
        auroc.auroc(**(right | change), seed=17)
    assert not any(number in str(caught.value) for number in ("70081", "70082", "10011"))
