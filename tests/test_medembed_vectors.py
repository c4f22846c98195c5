"""Smaller vectors: each way against FAISS, sentence-transformers or a value by hand, and its bytes against the array kept."""

import faiss
import numpy as np
import pytest
from sentence_transformers.util.quantization import semantic_search_faiss

from cardioembed_lib import statistics
from cardioembed_study.medembed import asked, vectors

Q, N, D = 5, 120, 44  # 44 bits are five bytes and a half


def unit(rows: int, seed: int, width: int = D) -> np.ndarray:
    """Return unit vectors whose numbers have spreads of their own, as a model's have."""
    draw = np.random.default_rng(seed).normal(size=(rows, width)) * np.linspace(0.2, 2, width) + 0.1
    return (draw / np.linalg.norm(draw, axis=1, keepdims=True)).astype(np.float32)


QUERIES, PASSAGES = unit(Q, 1), unit(N, 2)


def cosines(first, second, width):
    cut = [x[:, :width].astype(float) for x in (first, second)]
    return cut[0] @ cut[1].T / np.outer(*(np.linalg.norm(x, axis=1) for x in cut))


def test_whole_vectors_in_float32_are_what_they_were():
    assert np.array_equal(vectors.similarities(QUERIES, PASSAGES), QUERIES @ PASSAGES.T)
    assert vectors.cut(PASSAGES, D) is PASSAGES


@pytest.mark.parametrize("width", [1, 7, 32, 43])
def test_a_cut_is_the_cosine_of_the_first_numbers(width):
    found = vectors.similarities(QUERIES, PASSAGES, width)
    np.testing.assert_allclose(found, cosines(QUERIES, PASSAGES, width), atol=1e-6)


@pytest.mark.parametrize("width", [D, 16])
def test_float16_moves_a_score_by_less_than_a_thousandth_and_not_by_nothing(width):
    moved = np.abs(vectors.similarities(QUERIES, PASSAGES, width, "float16") - cosines(QUERIES, PASSAGES, width))
    assert 1e-6 < moved.max() < 1e-3


@pytest.mark.parametrize("width", [D, 16])
@pytest.mark.parametrize("sample", [None, PASSAGES[:30]])
def test_int8_is_the_scalar_quantiser_of_faiss_trained_on_passages(width, sample):
    q, p, taught = (vectors.cut(x, width) for x in (QUERIES, PASSAGES, PASSAGES if sample is None else sample))
    index = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(taught)
    index.add(p)
    wanted = q @ index.reconstruct_n(0, N).T
    found = vectors.similarities(QUERIES, PASSAGES, width, "int8", calibration=sample)
    # A number that lies on the border of a step may fall to either side in float32.
    np.testing.assert_allclose(found, wanted, atol=1.5 * np.max(np.ptp(taught, axis=0)) / 255)
    assert np.mean(np.abs(found - wanted) < 1e-5) > 0.9


def test_int8_learns_nothing_from_the_queries():
    alone = vectors.similarities(QUERIES[:1], PASSAGES, precision="int8")
    among = vectors.similarities(np.concatenate([QUERIES[:1], -PASSAGES]), PASSAGES, precision="int8")
    np.testing.assert_allclose(alone[0], among[0], atol=1e-6)


def test_int8_by_hand():
    """Range 0 to 1: 0.6 is in step 153 of 256, its middle 153.5 / 255. A value outside the range is the nearest inside."""
    bounds = np.array([[0.0, 0.0], [1.0, 0.5]], dtype=np.float32)
    kept = vectors.encoded(np.array([[0.6, 0.8], [0.0, -1.0]], dtype=np.float32), "int8", bounds)
    assert kept.tolist() == [[153 - 128, 127], [-128, -128]]
    wanted = [[153.5 / 255, 255.5 / 510], [0.5 / 255, 0.5 / 510]]
    np.testing.assert_allclose(vectors.decoded(kept, "int8", bounds), wanted, rtol=1e-5)


def test_a_number_that_never_changes_is_kept_as_it_is():
    passages = np.array([[0.6, 0.8, 0.0], [0.6, 0.0, 0.8]], dtype=np.float32)
    found = vectors.similarities([[1.0, 0.0, 0.0]], passages, precision="int8")
    np.testing.assert_allclose(found, [[0.6, 0.6]], rtol=1e-6)


def test_binary_by_hand():
    """Three of four signs shared: a Hamming distance of 1, a cosine of the signs of 1/2; a zero counts as negative."""
    query, passages = [[0.5, 0.5, -0.5, -0.5]], [[0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5], [0.6, 0.8, 0.0, 0.0]]
    assert vectors.similarities(query, passages, precision="binary").tolist() == [[0.5, -1.0, 1.0]]


@pytest.mark.parametrize("width", [D, 16, 9])
def test_binary_is_the_hamming_distance_of_faiss(width):
    q, p = (np.packbits(x[:, :width] > 0, axis=1) for x in (QUERIES, PASSAGES))
    index = faiss.IndexBinaryFlat(q.shape[1] * 8)
    index.add(p)
    distances, places = index.search(q, N)
    wanted = np.empty((Q, N))
    np.put_along_axis(wanted, places, 1 - 2 * distances / width, axis=1)
    found = vectors.similarities(QUERIES, PASSAGES, width, "binary")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_rescoring_by_signs_orders_as_sentence_transformers_does():
    width = 32  # its faiss index wants whole bytes
    q, p = (vectors.cut(x, width) for x in (QUERIES, PASSAGES))
    bits = np.packbits(p > 0, axis=1)
    theirs, _ = semantic_search_faiss(
        q, corpus_embeddings=bits, corpus_precision="ubinary", top_k=N, rescore_multiplier=1, exact=True
    )
    found = vectors.similarities(QUERIES, PASSAGES, width, "binary_rescored", first=N)
    for row, hits in zip(found, theirs, strict=True):
        by_place = {hit["corpus_id"]: hit["score"] for hit in hits}
        # bits of 0 and 1 in place of -1 and 1: half of it, and half the sum of the query
        shift = np.array([by_place[n] for n in range(N)]) - row / 2
        np.testing.assert_allclose(shift, shift[0], atol=1e-5)


@pytest.mark.parametrize("precision", ["binary_rescored", "binary_int8"])
def test_a_second_look_keeps_the_first_forty_of_the_first_pass(precision):
    hamming = vectors.similarities(QUERIES, PASSAGES, precision="binary")
    found = vectors.similarities(QUERIES, PASSAGES, precision=precision)
    inside = np.isfinite(found)
    assert (inside.sum(axis=1) == vectors.FIRST).all() and (found[~inside] == -np.inf).all()
    for row, kept in zip(hamming, inside, strict=True):
        assert row[kept].min() >= row[~kept].max()
    last = "int8" if precision == "binary_int8" else "binary_rescored"
    whole = vectors.similarities(QUERIES, PASSAGES, precision=last, first=N)
    assert np.array_equal(found[inside], whole[inside])
    assert np.isfinite(vectors.similarities(QUERIES, PASSAGES, precision=precision, first=N + 1)).all()


def test_ties_count_against_us_in_the_first_pass_and_after():
    """Four passages of the same signs, two let through: the right one is not among them, wherever it stands."""
    query, passages = [[0.6, 0.8]], [[0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0.96, 0.28]]
    for gold in range(4):
        grades = np.eye(4, dtype=np.int8)[[gold]]
        task = asked.Asked("toy", ["q"], list("abcd"), grades, ["d"], asked.MRR)
        apart = vectors.similarities(query, passages, precision="binary_int8", first=2, grades=grades)
        assert apart[0, gold] == -np.inf and asked.score(task, apart) == [1 / 4]
        alike = vectors.similarities(query, passages, precision="binary")
        assert asked.score(task, alike) == [1 / 4]
        assert asked.score(task, vectors.similarities(query, passages, precision="binary_rescored")) == [1 / 4]


@pytest.mark.parametrize("width", [D, 33, 32, 1])
@pytest.mark.parametrize("precision", vectors.PRECISIONS)
def test_bytes_are_those_of_the_arrays_kept(width, precision):
    cut = vectors.cut(PASSAGES, width)
    kept = {form: vectors.encoded(cut, form, vectors.ranges(cut)) for form in vectors.PRECISIONS[precision]}
    assert vectors.size(width, precision) * N == sum(array.nbytes for array in kept.values())
    for form, array in kept.items():
        assert vectors.decoded(array, form, vectors.ranges(cut)).shape == (N, width)


def spoilt(value, row=3):
    array = PASSAGES.copy()
    array[row, 2] = value
    return array


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ((QUERIES, spoilt(np.nan)), {}, r"passages have length nan in row 3 \(1 such rows\); wanted 1"),
        ((spoilt(np.inf), PASSAGES), {}, r"queries have length inf in row 3"),
        ((2 * QUERIES, PASSAGES), {}, r"queries have length 2 in row 0 \(5 such rows\); wanted 1"),
        ((QUERIES[0], PASSAGES), {}, r"queries have shape \(44,\); give \(texts, width\)"),
        ((QUERIES, PASSAGES[:0]), {}, r"passages have shape \(0, 44\)"),
        ((QUERIES, unit(3, 4, 40)), {}, r"vectors are 40 and 44 numbers wide; wanted one width"),
        ((QUERIES, PASSAGES), {"calibration": unit(3, 4, 40)}, r"vectors are 40 and 44 numbers wide"),
        ((QUERIES, PASSAGES), {"width": 45}, r"width 45 is outside 1..44, the model's width"),
        ((QUERIES, PASSAGES), {"width": 0}, r"width 0 is outside 1..44"),
        ((QUERIES, PASSAGES), {"precision": "int4"}, r"no precision 'int4'; did you mean 'int8'\?"),
        ((QUERIES, PASSAGES), {"first": 0}, r"first is 0; wanted 1 or more"),
    ],
)
def test_what_cannot_be_compared_is_named(given, options, message):
    with pytest.raises(ValueError, match=message):
        vectors.similarities(*given, **options)


def toy(name: str, measure: str) -> asked.Asked:
    grades = np.zeros((Q, N), dtype=np.int8)
    grades[np.arange(Q), (QUERIES @ PASSAGES.T).argmax(axis=1)] = 1
    return asked.Asked(name, ["q"] * Q, ["p"] * N, grades, ["one", "one", "two", "three", "three"], measure)


def test_each_way_is_set_against_the_same_models_whole_vectors():
    names = [task for tasks in asked.JOINED.values() for task in tasks]
    tasks = {name: toy(name, asked.NDCG if "part" in name else asked.MRR) for name in names}
    made = {"a": (QUERIES, PASSAGES), "b": (-QUERIES, PASSAGES)}
    members = {"none": ["a"], "matryoshka": ["a", "b"]}
    found = vectors.measured(tasks, lambda model: dict.fromkeys(tasks, made[model]), members, 17, (D, 8))
    kept = found["kept"]["none"]["definitions"]
    assert list(kept) == list(vectors.PRECISIONS) and list(kept["int8"]) == [str(D), "8"]
    assert kept["float32"][str(D)] == {"score": 1.0, "difference": 0, "low": 0, "high": 0, "p": 1}
    once = asked.score(tasks[names[0]], vectors.similarities(QUERIES, PASSAGES, 8, "binary"))
    scores, units = np.tile(once, 2), 2 * tasks[names[0]].clusters  # of two tasks that ask the same
    wanted = statistics.paired_difference(scores, np.ones(2 * Q), 17, groups=units)
    assert wanted["difference"] < 0 and kept["binary"]["8"] == {"score": scores.mean(), **wanted}
    worse = asked.score(tasks[names[0]], -(QUERIES @ PASSAGES.T))
    assert found["kept"]["matryoshka"]["definitions"]["float32"][str(D)]["score"] == (1 + worse.mean()) / 2
    assert found["matryoshka_less_none"]["definitions"][str(D)]["difference"] == pytest.approx((worse.mean() - 1) / 2)
