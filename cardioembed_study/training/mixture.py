"""What does a run learn from: which pairs, which negatives, which general texts?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cardioembed_study import lexical
from cardioembed_study.corpus import pairs as pairing


def mix(frames: Iterable[pl.DataFrame], limit: int = 0, seed: int = 0) -> pl.DataFrame:
    """Return several kinds of pairs in one table, ``group`` renewed so that it holds across kinds.

    Args:
        frames: tables of pairs.
        limit: at most so many of each table, drawn by ``seed``; 0 for all.
        seed: of the draw.

    Returns:
        The rows, those of the first table first; ``group`` is now ``g<number>``: two pairs share one when they share a group
        or a text. Pairs of clinical notes keep their patient: an empty finding in the same words does not make two patients one.
    """
    taken = [f.sample(limit, seed=seed, shuffle=False) if 0 < limit < len(f) else f for f in frames]
    pairs = pl.concat(taken, how="diagonal")
    if "codes" in pairs.columns:
        return pairs
    return pairs.with_columns(group=pl.Series([f"g{g}" for g in _components(pairs)], dtype=pl.String))


def general(passages: pl.DataFrame, each: int, seed: int) -> list[str]:
    """Return general texts, short and long, as searches meet them: those whose vectors training should leave as they are.

    Runs of 1, 3 and 8 neighbouring sentences of one document, section titles, and questions about the terms of the
    glossaries, made from ``QUESTIONS``. Glossary entries are left out: they are the anchors of the definition pairs, which
    have to move.

    Args:
        passages: of the corpus (``passages.SCHEMA``); only training documents are used.
        each: at most so many of each sort, drawn by ``seed``.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    train = passages.filter(split="train")
    sentences, glossary = train.filter(kind="sentence"), train.filter(kind="glossary")
    terms = glossary["terms"].list.first().drop_nulls().unique(maintain_order=True).to_list()
    sorts = [_neighbours(sentences, length) for length in (1, 3, 8)]
    sorts += [sentences["section"].unique(maintain_order=True).str.replace_all(" > ", ": ").to_list()]
    sorts += [[pairing.QUESTIONS[i % len(pairing.QUESTIONS)].format(term) for i, term in enumerate(terms)]]
    return [sort[i] for sort in sorts for i in np.sort(rng.permutation(len(sort))[:each])]


def _neighbours(sentences: pl.DataFrame, length: int) -> list[str]:
    """Return every run of so many sentences that does not pass the end of a document."""
    parts = sentences.group_by("source", "document", maintain_order=True).agg("text")["text"].to_list()
    return [" ".join(texts[i : i + length]) for texts in parts for i in range(len(texts) - length + 1)]


def with_negatives(pairs: pl.DataFrame, how: str, seed: int, margin: float = 0.95) -> pl.DataFrame:
    """Return the pairs with one hard negative each, a positive of another pair of the same source and split.

    Args:
        pairs: pairs of one or several kinds.
        how: ``none``; ``random_distant``, drawn from another document (the paper, section 2.1); or ``mined``, the best BM25
            match of the anchor that is no match of the same group and scores at most ``margin`` of the own positive.
        seed: of ``random_distant``.
        margin: against false negatives: a candidate nearly as close as the positive may be right too.

    Raises:
        KeyError: for another ``how``.
        ValueError: if a source has a single document, so nothing is distant, or a pair has no candidate at all.
    """
    makers = {"none": None, "random_distant": _random_distant, "mined": _mined}
    if how not in makers:
        raise KeyError(f"no negatives {how!r}; known: {', '.join(makers)}")
    if how == "none":
        return pairs
    numbered = pairs.with_row_index("row")
    negatives: dict[int, list[str]] = {}
    for (source, split), part in numbered.group_by("source", "split", maintain_order=True):
        if part["document"].n_unique() < 2:
            raise ValueError(
                f"source {source}, split {split}: one document, so no negative is distant; use negatives 'none'"
            )
        negatives |= dict(zip(part["row"], makers[how](part, seed, margin), strict=True))
    return pairs.with_columns(negatives=pl.Series([negatives[i] for i in range(len(pairs))], dtype=pl.List(pl.String)))


def _components(pairs: pl.DataFrame) -> np.ndarray:
    """Return a number for each pair: equal where a chain of shared groups or equal texts joins two pairs.

    Anchors count as well: of three neighbouring sentences the second is the first pair's positive and the second pair's
    anchor, and would otherwise be asked to differ from itself.
    """
    n = len(pairs)
    texts = pl.concat([pairs["anchor"], pairs["positive"]]).rank("dense").to_numpy().astype(int)
    groups = pairs["group"].rank("dense").to_numpy().astype(int)
    nodes = n - 1 + np.concatenate([texts, groups + texts.max()])
    size = int(nodes.max()) + 1
    edges = coo_array((np.ones(3 * n), (np.tile(np.arange(n), 3), nodes)), shape=(size, size))
    return connected_components(edges, directed=False)[1][:n]


def _random_distant(part: pl.DataFrame, seed: int, margin: float) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    texts, documents, groups = (part[c].to_list() for c in ("positive", "document", "group"))
    others = list(dict.fromkeys(zip(documents, groups, strict=True)))  # each once: the check below ends early
    out = []
    for document, group in zip(documents, groups, strict=True):
        if all(d == document or g == group for d, g in others):
            raise _nothing_wrong(part, group)
        while True:
            drawn = int(rng.integers(len(texts)))
            if documents[drawn] != document and groups[drawn] != group:
                break
        out.append([texts[drawn]])
    return out


def _nothing_wrong(part: pl.DataFrame, group: str) -> ValueError:
    source, split = part["source"][0], part["split"][0]
    return ValueError(
        f"source {source}, split {split}: no pair of another group (and, for random_distant, document) than {group!r} is "
        "left to be its negative; use negatives 'none'"
    )


def _mined(part: pl.DataFrame, seed: int, margin: float) -> list[list[str]]:
    texts, groups = part["positive"].to_list(), np.array(part["group"].to_list())
    out = []
    for start in range(0, len(part), 2048):
        block = part.slice(start, 2048)
        scores = lexical.bm25_scores(block["anchor"].to_list(), texts)
        for i in range(len(block)):
            own = start + i
            wrong = groups != groups[own]
            if not wrong.any():
                raise _nothing_wrong(part, str(groups[own]))
            allowed = wrong & (scores[i] <= margin * scores[i, own])
            if allowed.any():
                chosen = np.argmax(np.where(allowed, scores[i], -1.0))
            else:  # all stand nearer than the positive, which shares hardly a word with its anchor: the farthest is safest
                chosen = np.argmin(np.where(wrong, scores[i], np.inf))
            out.append([texts[int(chosen)]])
    return out
