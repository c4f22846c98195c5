"""How near is a passage to a query by its words alone?

These scores are the floor that a model has to leave behind: where BM25 finds the answer, nobody needs a model. Each function
returns a (Q, N) array for ``metrics.gold_ranks``, where a passage without a common word has score 0, so all of those tie,
and ties count against us.

Shapes: Q queries, N passages.
"""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np
import snowballstemmer
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_extraction.text import TfidfVectorizer


def bm25_scores(queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float32]:
    """Return BM25 scores (Lucene's variant, k1 1.5, b 0.75: the defaults of bm25s; Lù 2024, arXiv 2407.03618).

    Lower case, words of two characters or more, Lucene's short English list of stop words, Snowball's English stemmer. The
    stemmer is here because a weak floor flatters models: it takes nDCG@10 from 0.662 to 0.686 on SciFact and from 0.306 to
    0.321 on NFCorpus (our measurement).

    Args:
        queries: Q texts.
        passages: N texts.

    Returns:
        (Q, N) float32, 0 where no word is shared.

    Raises:
        ValueError: no queries, no passages, or passages without a single word.

    >>> scores = bm25_scores(["valves of hearts"], ["The heart has four valves.", "Lungs exchange gas."])
    >>> scores.shape, bool(scores[0, 0] > 0), scores[0, 1].item()
    ((1, 2), True, 0.0)
    """
    _texts(queries, passages)
    model = bm25_index(passages)
    scores = np.zeros((len(queries), len(passages)), dtype=np.float32)
    for row, words in enumerate(stems(queries)):
        if words:
            scores[row] = model.get_scores(words)
    return scores


def bm25_index(passages: Sequence[str]) -> bm25s.BM25:
    """Return the index that ``bm25_scores`` makes of N passages."""
    if not any(words := stems(passages)):
        raise ValueError(f"the {len(passages)} passages hold no word of two letters; look at how they were read")
    model = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    model.index(words, show_progress=False)
    return model


def stems(texts: Sequence[str]) -> list[list[str]]:
    """Return the stems of each text, without those of stop words."""
    options = {"stopwords": "en", "return_ids": False, "show_progress": False}
    return bm25s.tokenize(list(texts), stemmer=snowballstemmer.stemmer("english").stemWords, **options)


def tfidf_scores(queries: Sequence[str], passages: Sequence[str], characters: bool = False) -> NDArray[np.float32]:
    """Return cosines of TF-IDF vectors (scikit-learn; 1 + log of counts, weights learnt from the passages, no stop list).

    Args:
        queries: Q texts.
        passages: N texts.
        characters: compare runs of 3 to 5 letters within words instead of words: slower, but it sees through endings and
            compounds ("cardiac", "cardiology").

    Returns:
        (Q, N) float32 in [0, 1], 0 where nothing is shared.

    Raises:
        ValueError: no queries, no passages, or passages without a single word.

    >>> tfidf_scores(["heart"], ["heart", "lung"]).tolist()
    [[1.0, 0.0]]
    """
    _texts(queries, passages)
    shape = {"analyzer": "char_wb", "ngram_range": (3, 5)} if characters else {"analyzer": "word"}
    vectoriser = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **shape)
    indexed = vectoriser.fit_transform(passages)
    return (vectoriser.transform(queries) @ indexed.T).toarray()


def random_scores(n_queries: int, n_passages: int, seed: int) -> NDArray[np.float32]:
    """Return scores that know nothing: the lowest floor, with an expected Acc@1 of 1/N.

    Args:
        n_queries: Q.
        n_passages: N.
        seed: of the draw.

    Returns:
        (Q, N) float32 in [0, 1).

    >>> random_scores(2, 3, seed=17).shape
    (2, 3)
    """
    return np.random.default_rng(seed).random((n_queries, n_passages), dtype=np.float32)


def fused(*scores: ArrayLike, k: int = 60) -> NDArray[np.float32]:
    """Return the sum of reciprocal ranks of several scorings of the same passages (Cormack, Clarke and Büttcher 2009).

    Each scoring gives a passage (k + 1) / (k + rank), 1 for its first; equals share the last of their ranks, so that the many
    passages without a common word gain nothing from each other. The source's 1 / (k + rank) has the same order.

    Args:
        scores: each (Q, N), higher is closer; ``-inf`` takes a passage to the end.
        k: 60 in the source.

    Returns:
        (Q, N) float32, at most the number of scorings.

    Raises:
        ValueError: a score is NaN.

    >>> fused([[3.0, 1.0]], [[0.2, 0.1]], k=2).tolist()
    [[2.0, 1.5]]
    """
    total = np.zeros(np.shape(scores[0]), dtype=np.float64)
    if any(np.isnan(scoring).any() for scoring in scores):
        raise ValueError("a scoring holds NaN, which has no rank; look at its embeddings")
    for row in range(len(total)):
        for each in (np.asarray(scoring)[row] for scoring in scores):
            total[row] += (k + 1) / (k + _ranks(each))
    return total.astype(np.float32)


def _ranks(scores: NDArray) -> NDArray[np.int64]:
    """Return the rank of each of N scores, 1 for the highest; equals share the last of theirs.

    Most passages share no word with a query: the lowest score is not sorted.
    """
    ranks = np.full(len(scores), len(scores))
    above = np.flatnonzero(scores > scores.min())
    order = above[np.argsort(scores[above])]
    values = scores[order]
    ranks[order] = len(order) - np.searchsorted(values, values)
    return ranks


def _texts(queries: Sequence[str], passages: Sequence[str]) -> None:
    for name, texts in (("queries", queries), ("passages", passages)):
        if isinstance(texts, str) or len(texts) == 0:
            raise ValueError(f"{name} must be a list of at least one text, found {texts!r:.40}")
