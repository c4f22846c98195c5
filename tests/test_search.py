"""Neighbours: exact against sorting, FAISS against exact, words against arithmetic."""

import math
import os
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

from cardioembed_lib import metrics
from cardioembed_study import lexical, paths, search

RNG = np.random.default_rng(10930)


def unit(rows, width=32, spread=1.0, centres=None):
    vectors = spread * RNG.standard_normal((rows, width)).astype(np.float32)
    if centres is not None:
        vectors += centres[RNG.integers(0, len(centres), rows)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


CENTRES = unit(40) * 3
PASSAGES = unit(3000, spread=0.5, centres=CENTRES)
QUERIES = unit(100, spread=0.5, centres=CENTRES)

HEART = [
    "The mitral valve lies between the left atrium and the left ventricle.",
    "Diuretics lower the volume of blood that a failing heart must move.",
    "A murmur is the sound of turbulent flow across a valve.",
]


def test_exact_equals_sorting_everything():
    scores, indices = search.exact(QUERIES, PASSAGES, k=10, block=7)
    everything = QUERIES @ PASSAGES.T
    assert np.array_equal(indices, np.argsort(-everything, axis=1, kind="stable")[:, :10])
    assert np.allclose(scores, np.take_along_axis(everything, indices, axis=1), atol=1e-6)
    assert scores.dtype == np.float32


def test_size_of_block_does_not_matter():
    one, other = search.exact(QUERIES, PASSAGES, k=5, block=1), search.exact(QUERIES, PASSAGES, k=5, block=1000)
    assert np.array_equal(one[1], other[1])
    assert np.allclose(one[0], other[0], atol=1e-6)


def test_equal_scores_stand_in_order_of_index_even_at_the_border():
    same = np.ones((50, 4))
    assert search.exact([[1.0, 0, 0, 0]], same, k=7)[1].tolist() == [list(range(7))]
    assert search.exact([[1.0, 0, 0, 0]], np.vstack([same, 2 * same[:1]]), k=3)[1].tolist() == [[50, 0, 1]]


def test_all_passages_may_be_asked_for():
    assert sorted(search.exact(QUERIES[:1], PASSAGES[:20], k=20)[1][0]) == list(range(20))


def test_flat_index_equals_exact_search():
    scores, indices = search.exact(QUERIES, PASSAGES, k=10)
    found, where = search.approximate(search.faiss_index(PASSAGES), QUERIES, k=10)
    assert np.array_equal(where, indices)
    assert np.allclose(found, scores, atol=1e-6)


@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.95), ("ivf", 0.8)])
def test_fast_indexes_find_nearly_all_neighbours(kind, least):
    truth = search.exact(QUERIES, PASSAGES, k=10)[1]
    found = search.approximate(search.faiss_index(PASSAGES, kind), QUERIES, k=10)[1]
    recall = np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth, strict=True)])
    assert recall >= least


def test_ivf_works_on_a_handful_of_passages():
    assert search.approximate(search.faiss_index(PASSAGES[:5], "ivf"), PASSAGES[:1], k=1)[1].tolist() == [[0]]


def test_an_index_on_disk_finds_what_exact_search_finds_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    faiss = pytest.importorskip("faiss")

    def parts():
        return (PASSAGES[i : i + 500] for i in range(0, len(PASSAGES), 500))

    right = search.exact(QUERIES, PASSAGES, 10)[1]
    with monkeypatch.context() as patch:
        patch.setattr(faiss.IndexIVFScalarQuantizer, "add_with_ids", lambda *a: fails.pop()(*a))
        fails = [stopped, faiss.IndexIVF.add_with_ids]
        with pytest.raises(KeyboardInterrupt):
            search.faiss_on_disk(parts, tmp_path / "index", len(PASSAGES))
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == ["cells.faiss", "part000000000000-500.faiss"]
    index = search.faiss_on_disk(parts, tmp_path / "index", len(PASSAGES))
    found = search.approximate(index, QUERIES, 10)[1]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, right, strict=True)]) > 0.95
    again = search.faiss_on_disk(None, tmp_path / "index", 0)  # opened, not made
    assert search.approximate(again, QUERIES, 10)[1].tolist() == found.tolist()
    (tmp_path / "index").rename(tmp_path / "moved")
    assert (
        search.approximate(search.faiss_on_disk(None, tmp_path / "moved", 0), QUERIES, 10)[1].tolist() == found.tolist()
    )
    with pytest.raises(ValueError, match=rf"the parts hold {len(PASSAGES):,} passages, total says 7"):
        search.faiss_on_disk(parts, tmp_path / "other", 7)
    lists = tmp_path / "moved" / "lists.ivfdata"
    os.truncate(lists, wanted := lists.stat().st_size - 1)
    with pytest.raises(ValueError, match=rf"lists.ivfdata has {wanted:,} bytes, its index says {wanted + 1:,}; delete"):
        search.faiss_on_disk(None, tmp_path / "moved", 0)
    os.truncate(tmp_path / "moved" / "index.faiss", 10)
    with pytest.raises(ValueError, match=r"index.faiss or lists.ivfdata cannot be read; delete moved/ and index again"):
        search.faiss_on_disk(None, tmp_path / "moved", 0)


def test_an_index_on_disk_holds_no_more_than_a_part_and_its_sample(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(search, "CELLS", 4)
    given = []

    def parts():
        for start in range(0, len(PASSAGES), 500):
            part = PASSAGES[start : start + 500].copy()
            assert sum(held() is not None for held in given) <= 1, "only what was asked for last"
            given.append(weakref.ref(part))
            yield part
            del part

    search.faiss_on_disk(parts, tmp_path / "index", len(PASSAGES))
    assert len(given) == 12  # learnt from, and then indexed


def stopped(*_):
    raise KeyboardInterrupt


def test_without_faiss_search_is_exact_and_an_index_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert search.exact([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], k=1)[1].tolist() == [[1]]
    with pytest.raises(ModuleNotFoundError, match=r'needs FAISS; pip install "cardioembed-reproduced\[search\]"'):
        search.faiss_index([[1.0]])


def test_the_module_does_not_load_faiss():
    code = "import sys; from cardioembed_study import search; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False).returncode == 0


def test_bm25_by_hand():
    """Lucene's formula for one shared word in a passage of average length: idf x tf / (tf + k1)."""
    scores = lexical.bm25_scores(["aorta"], ["aorta stiff", "vein thin", "lung thin"])
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    assert scores[0].tolist() == pytest.approx([idf / (1 + 1.5), 0, 0], rel=1e-5)


def test_lexical_floors_find_what_shares_words():
    questions = ["Which valve is left of the atrium?", "murmurs and turbulent flows"]
    for scores in (
        lexical.bm25_scores(questions, HEART),
        lexical.tfidf_scores(questions, HEART),
        lexical.tfidf_scores(questions, HEART, characters=True),
    ):
        assert scores.shape == (2, 3)
        assert scores.dtype == np.float32
        assert metrics.gold_ranks(scores, [0, 2]).tolist() == [1, 1]


def test_endings_do_not_hide_a_word_from_bm25():
    assert lexical.bm25_scores(["diuretic"], HEART)[0].argmax() == 1


@pytest.mark.parametrize("question", ["", "zebra", "x"])
@pytest.mark.parametrize("score", [lexical.bm25_scores, lexical.tfidf_scores])
def test_a_question_without_shared_words_finds_its_answer_last(score, question):
    scores = score([question], HEART)
    assert scores.tolist() == [[0, 0, 0]]
    assert metrics.gold_ranks(scores, [1]).tolist() == [3]


def test_stop_words_are_no_words_to_bm25():
    assert not lexical.bm25_scores(["the of and"], HEART).any()


def test_one_unusable_question_leaves_the_others_alone():
    both = lexical.bm25_scores(["", "murmur"], HEART)
    assert np.array_equal(both[1], lexical.bm25_scores(["murmur"], HEART)[0])


def test_random_scores_rank_the_answer_in_the_middle_and_repeat():
    scores = lexical.random_scores(500, 99, seed=17)
    assert np.array_equal(scores, lexical.random_scores(500, 99, seed=17))
    assert metrics.gold_ranks(scores, np.zeros(500, int)).mean() == pytest.approx(50, abs=5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: search.exact([[1.0]], [[1.0, 0.0]], 1), "queries are 1 wide, passages 2"),
        (lambda: search.exact([[1.0]], [[1.0]], 2), "k is 2; choose 1 to 1"),
        (lambda: search.exact([[1.0]], [[1.0]], 0), "k is 0"),
        (lambda: search.exact([[1.0]], [[1.0], [math.nan]], 1), "passages hold NaN or infinite values in row 1"),
        (lambda: search.exact([[1.0]], [[math.inf]], 1), "passages hold NaN or infinite values in row 0"),
        (lambda: search.exact([1.0], [[1.0]], 1), r"queries have shape \(1,\)"),
        (lambda: search.faiss_index([[1.0]], "flta"), "no index 'flta'; known: flat, hnsw, ivf"),
        (lambda: search.approximate(search.faiss_index([[1.0]]), [[1.0, 0.0]], 1), "queries are 2 wide, the index 1"),
        (lambda: search.approximate(search.faiss_index([[1.0]]), [[1.0]], 2), "k is 2"),
        (lambda: lexical.fused([[1.0, 2.0]], [[1.0, math.nan]]), "a scoring holds NaN"),
        (lambda: lexical.bm25_scores("heart", HEART), "queries must be a list"),
        (lambda: lexical.bm25_scores(["heart"], []), "passages must be a list"),
        (lambda: lexical.bm25_scores(["heart"], ["", "a"]), "2 passages hold no word"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_memory_is_that_of_a_block_and_not_of_all_pairs():
    queries, passages = unit(6000), unit(6000)
    tracemalloc.start()
    search.exact(queries, passages, k=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 6000 * 6000 / 4
