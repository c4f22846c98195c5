"""Silhouettes by hand, against scikit-learn, and how honest their intervals are."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import silhouette_samples, silhouette_score

from cardioembed_study.notes import silhouette
from cardioembed_study.retrieval import maps


def notes(n=240, width=20, kinds=7, spread=1.0, seed=0):
    """Return vectors around means of kinds of very unequal size, with their kinds and patients."""
    rng = np.random.default_rng(seed)
    kind = np.minimum(rng.geometric(0.45, n) - 1, kinds - 1)
    kind[: 2 * kinds] = np.repeat(np.arange(kinds), 2)
    vectors = rng.standard_normal((kinds, width))[kind] + spread * rng.standard_normal((n, width))
    return vectors, [f"k{k}" for k in kind], rng.integers(0, 30, n)


VECTORS, KINDS, PATIENTS = notes()


def units(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def numbers(labels):
    return np.unique(labels, return_inverse=True)[1]


# one note's silhouette


def test_a_note_between_two_classes_by_hand():
    """Angles 0, 60 | 90 degrees twice: the second note is 0.5 from the first and 1 - cos 30 from the others."""
    angles = np.radians([0, 60, 90, 90])
    found = silhouette.silhouette_values(np.stack([np.cos(angles), np.sin(angles)], axis=1), [0, 0, 1, 1])
    near = 1 - np.sqrt(3) / 2
    assert found[1] == pytest.approx((near - 0.5) / 0.5)
    assert found[0] == pytest.approx((1 - 0.5) / 1)
    assert found[2:].tolist() == [1, 1]


@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("kinds", [2, 7])
def test_values_equal_sklearns(spread, kinds):
    vectors, labels, _ = notes(spread=spread, kinds=kinds, seed=kinds)
    expected = silhouette_samples(vectors, labels, metric="cosine")
    assert silhouette.silhouette_values(units(vectors), numbers(labels)) == pytest.approx(expected, abs=1e-9)


def test_near_duplicates_and_copies_equal_sklearns():
    """Each kind is one text, copied with changes in the seventh digit, or exactly."""
    rng = np.random.default_rng(8)
    centres = units(rng.standard_normal((4, 30)))
    kind = np.repeat(np.arange(4), [2, 5, 40, 3])
    near = centres[kind] + 1e-7 * rng.standard_normal((50, 30))
    expected = silhouette_samples(near, kind, metric="cosine")
    assert silhouette.silhouette_values(units(near), kind) == pytest.approx(expected, abs=1e-6)
    assert silhouette.silhouette_values(centres[kind], kind) == pytest.approx(np.ones(50), abs=1e-12)


def test_a_model_with_one_vector_for_every_text_has_silhouette_zero():
    same = np.tile(units(np.random.default_rng(9).standard_normal((1, 50))), (100, 1))
    assert set(silhouette.silhouette_values(same, np.arange(100) % 7)) == {0.0}


def test_a_note_alone_in_its_class_has_none_and_is_nobodys_nearest():
    vectors = units(np.array([[1, 0.1], [1, 0.2], [0.1, 1], [0.2, 1], [1.0, 0.15]]))
    found = silhouette.silhouette_values(vectors, [0, 0, 1, 1, 2])
    assert np.isnan(found).tolist() == [False] * 4 + [True]
    assert found[:4].tolist() == silhouette.silhouette_values(vectors[:4], [0, 0, 1, 1]).tolist()


# sets of labels


def test_means_equal_sklearns_with_single_notes_left_out():
    forms = [f"f{i % 5}" for i in range(len(KINDS))]
    lonely = ["alone", *KINDS[1:]]
    found = silhouette.silhouettes(VECTORS, {"kind": lonely, "form": forms}, PATIENTS, seed=17)
    assert found["kind"]["silhouette"] == pytest.approx(
        silhouette_score(VECTORS[1:], KINDS[1:], metric="cosine"), abs=1e-9
    )
    assert found["form"]["silhouette"] == pytest.approx(silhouette_score(VECTORS, forms, metric="cosine"), abs=1e-9)
    assert (found["kind"]["n"], found["form"]["n"]) == (len(KINDS) - 1, len(KINDS))
    assert (found["kind"]["classes"], found["form"]["classes"]) == (len(set(KINDS)), 5)
    assert found["delta"]["silhouette"] == found["form"]["silhouette"] - found["kind"]["silhouette"]


def test_float32_vectors_of_any_length_give_the_same():
    scaled = (VECTORS * np.random.default_rng(1).uniform(0.1, 9, (len(VECTORS), 1))).astype(np.float32)
    expected = silhouette_score(VECTORS, KINDS, metric="cosine")
    found = silhouette.silhouettes(scaled, {"kind": KINDS}, PATIENTS, seed=17)
    assert found["kind"]["silhouette"] == pytest.approx(expected, abs=1e-6)
    assert "delta" not in found


def test_a_sample_is_drawn_by_seed_and_shared_by_the_sets():
    rows = np.sort(np.random.default_rng(17).choice(len(KINDS), 100, replace=False))
    left = [KINDS[r] for r in rows]
    kept = [i for i, kind in enumerate(left) if left.count(kind) > 1]
    expected = silhouette_score(VECTORS[rows[kept]], [left[i] for i in kept], metric="cosine")
    found = silhouette.silhouettes(VECTORS, {"a": KINDS, "b": KINDS}, PATIENTS, seed=17, size=100)
    assert found["a"] == found["b"]
    assert found["a"]["silhouette"] == pytest.approx(expected, abs=1e-9)
    assert found["a"]["n"] == len(kept)
    assert found["delta"] == {"silhouette": 0, "low": 0, "high": 0}
    other = silhouette.silhouettes(VECTORS, {"a": KINDS}, PATIENTS, seed=18, size=100)
    assert other["a"]["silhouette"] != found["a"]["silhouette"]


def test_order_of_notes_and_names_of_labels_do_not_matter():
    order = np.random.default_rng(2).permutation(len(KINDS))
    found = silhouette.silhouettes(VECTORS, {"kind": KINDS}, PATIENTS, seed=17)["kind"]
    renamed = [f"{9 - int(KINDS[i][1:])} other" for i in order]
    moved = silhouette.silhouettes(VECTORS[order], {"kind": renamed}, PATIENTS[order], seed=17)["kind"]
    assert moved == pytest.approx(found, abs=1e-12)


# intervals


def test_interval_equals_a_jackknife_with_sklearns_silhouette():
    found = silhouette.silhouettes(VECTORS, {"kind": KINDS}, PATIENTS, seed=17)["kind"]
    without = []
    for patient in np.unique(PATIENTS):
        rows = np.flatnonzero(patient != PATIENTS)
        left = [KINDS[r] for r in rows]
        rows = [r for r in rows if left.count(KINDS[r]) > 1]
        without.append(silhouette_score(VECTORS[rows], [KINDS[r] for r in rows], metric="cosine"))
    n = len(without)
    half = stats.t.ppf(0.975, n - 1) * (n - 1) / np.sqrt(n) * np.std(without, ddof=1)
    assert found["high"] - found["silhouette"] == pytest.approx(half, rel=1e-9)
    assert found["silhouette"] - found["low"] == pytest.approx(half, rel=1e-9)


def test_many_patients_are_left_out_in_groups_with_much_the_same_interval():
    patients = np.arange(len(KINDS))
    one_by_one = silhouette.silhouettes(VECTORS, {"kind": KINDS}, patients, seed=17, groups=len(KINDS))["kind"]
    grouped = silhouette.silhouettes(VECTORS, {"kind": KINDS}, patients, seed=17, groups=40)["kind"]
    assert grouped["silhouette"] == one_by_one["silhouette"]
    width = one_by_one["high"] - one_by_one["low"]
    assert grouped["high"] - grouped["low"] == pytest.approx(width, rel=0.4)


def test_interval_holds_the_truth_about_as_often_as_it_says():
    """Labels of patients, who look like themselves: the truth is the mean over many hospitals of 25 patients."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(25), 6)
        own = np.eye(8)[:3][np.arange(25) % 3] + rng.standard_normal((25, 8))
        vectors = own[patients] + 0.5 * rng.standard_normal((150, 8))
        labels = [f"c{p % 3}" for p in patients]
        found.append(silhouette.silhouettes(vectors, {"chapter": labels}, patients, seed=1)["chapter"])
    truth = np.mean([f["silhouette"] for f in found])
    assert np.mean([f["low"] <= truth <= f["high"] for f in found]) >= 0.88
    assert np.mean([f["high"] - f["low"] for f in found]) < 6 * np.std([f["silhouette"] for f in found])


# maps


@pytest.mark.slow
def test_a_map_repeats_with_its_seed_and_keeps_kinds_together():
    vectors, labels, _ = notes(n=90, kinds=3, spread=0.2)
    points = maps.umap_points(vectors, seed=17)
    assert points.shape == (90, 2) and points.dtype == np.float64
    assert np.array_equal(points, maps.umap_points(vectors, seed=17))
    assert silhouette_score(points, labels) > 0.5


# bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.eye(5)}, r"vectors have shape \(5, 5\) for 6 patients"),
        ({"vectors": np.zeros((6, 2))}, r"zero, NaN or infinite vector in row 0 \(6 such rows\)"),
        ({"labels": {}}, r"sets of labels are \[\]"),
        ({"labels": {"delta": list("aabbcc")}}, "none called 'delta'"),
        ({"labels": {"form": list("aab")}}, "labels 'form': 3 for 6 vectors"),
        ({"labels": {"form": [*"aabbc", None]}}, "labels 'form': row 5 has none"),
        ({"labels": {"form": list("aaabcd")}}, "labels 'form': 1 class of two notes or more among 6"),
        ({"labels": {"form": list("abcdef")}}, "labels 'form': 0 class of two notes or more"),
        ({"labels": {"form": list("aaaabb")}}, "labels 'form': without one of the patients' groups"),
        ({"patients": [70081] * 6}, "all 6 notes are of one patient"),
        ({"size": 3}, "size is 3"),
        ({"groups": 1}, "groups are 1"),
    ],
)
def test_bad_input_is_refused_by_name_without_a_patients_id(change, message):
    right = {
        "vectors": np.random.default_rng(0).standard_normal((6, 2)),
        "labels": {"form": list("aabbcc")},
        "patients": [70081, 70081, 70082, 70082, 70083, 70083],
    }
    with pytest.raises(ValueError, match=message) as caught:
        silhouette.silhouettes(**(right | change), seed=17)
    assert "7008" not in str(caught.value)


def test_too_few_vectors_for_a_map_are_refused():
    with pytest.raises(ValueError, match=r"shape \(19, 3\); a map needs \(N, D\) with N of 20"):
        maps.umap_points(np.ones((19, 3)), seed=17)
