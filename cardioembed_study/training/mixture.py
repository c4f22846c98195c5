"""What does a run learn from: which pairs, which negatives, which general texts?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cardioembed_lib import encoder, models
from cardioembed_study import lexical, paths, search, settings
from cardioembed_study.corpus import pairs as pairing


def mix(frames: Iterable[pl.DataFrame], limit: int = 0, seed: int = 0) -> pl.DataFrame:
    """Return several kinds of pairs in one table, ``group`` renewed so that it holds across kinds.

    Args:
        frames: tables of pairs.
        limit: at most so many of each table, drawn by ``seed``; 0 for all.
        seed: of the draw.

    Returns:
        The rows, those of the first table first; ``group`` is now ``g<number>``: two pairs share one when they share a group,
        a text or a sentence of a passage. Pairs of clinical notes keep their patient: an empty finding in the same words does
        not make two patients one.

    Raises:
        ValueError: no pair in any table.
    """
    taken = [f.sample(limit, seed=seed, shuffle=False) if 0 < limit < len(f) else f for f in frames]
    pairs = pl.concat(taken, how="diagonal")
    if pairs.is_empty():
        raise ValueError(f"02_train, field 'pairs': 0 pairs to learn from, wanted at least 1; {settings.OTHER_PAIRS}")
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


def with_negatives(pairs: pl.DataFrame, how: str, seed: int) -> pl.DataFrame:
    """Return the pairs with hard negatives, positives of other pairs of the same source and split.

    Args:
        pairs: pairs of one or several kinds.
        how: ``none``; ``random_distant``, one drawn from another document (the paper, section 2.1); or what
            ``settings.mining`` reads, for ``mine`` by BM25 or by the vectors of an untuned base.
        seed: of what is drawn.

    Raises:
        ValueError: for another ``how``; if a source has a single document, so nothing is distant, or a pair has too few
            candidates.
    """
    try:
        mining = settings.mining(how)
    except ValueError as error:
        raise ValueError(f"negatives is {how!r:.100}; {error}") from None
    if how == "none":
        return pairs
    base = models.load(models.spec(mining.base, paths.MODELS)) if mining and mining.by == "dense" else None
    numbered = pairs.with_row_index("row")
    negatives: dict[int, list[str]] = {}
    for (source, split), part in numbered.group_by("source", "split", maintain_order=True):
        if part["document"].n_unique() < 2:
            raise ValueError(
                f"source {source}, split {split}: one document, so no negative is distant; use negatives 'none'"
            )
        made = mine(part, _similarity(part, base), mining, seed) if mining else _random_distant(part, seed)
        negatives |= dict(zip(part["row"], made, strict=True))
    return pairs.with_columns(negatives=pl.Series([negatives[i] for i in range(len(pairs))], dtype=pl.List(pl.String)))


def mine(
    pairs: pl.DataFrame, similarity: Callable[[int, int], np.ndarray], how: settings.Mining, seed: int
) -> list[list[str]]:
    """Return the hard negatives of each pair, the nearest first: those of sentence-transformers' ``mine_hard_negatives``.

    Three things are ours. A text of a pair of the same group, its anchors included, is never a negative. Margins go by the
    pair's own positive, where theirs go by the farthest of the anchor's positives. Where the window holds too few, the next
    nearest that fit the margins follow, and then the farthest texts of all, the safest; they drop such a pair.

    Args:
        pairs: B pairs of one source and split.
        similarity: from first and last row (as of a slice) to the similarities (b, B) of their anchors to all positives.
        how: window, margins, how many.
        seed: of ``sampling_strategy`` ``random``.

    Raises:
        ValueError: if there are fewer texts of other groups than negatives wanted.
    """
    texts = pairs["positive"].to_list()
    first = {text: row for row, text in reversed(list(enumerate(texts)))}
    columns = np.array(sorted(first.values()))
    place = {texts[column]: n for n, column in enumerate(columns)}  # N different texts
    own = defaultdict(set)
    for anchor, positive, group in (rows := pairs.select("anchor", "positive", "group").rows()):
        own[group] |= {place[text] for text in (anchor, positive) if text in place}
    end = how.range_max or how.range_min + 10 * how.num_negatives
    depth = min(len(columns), end + max(map(len, own.values())))
    step = max(1, 2**22 // depth)  # anchors sorted at once: bounds the memory where a group is large
    rng = np.random.default_rng(seed)
    out = []
    for start in range(0, len(pairs), 2048):
        scores = similarity(start, start + 2048)
        scores = scores if len(columns) == len(texts) else scores[:, columns]  # (b, N)
        parts = (scores[first : first + step] for first in range(0, len(scores), step))
        nearest = (near for part in parts for near in search.largest(part, depth)[1])
        for row, near, (_, positive, group) in zip(scores, nearest, rows[start : start + 2048], strict=True):
            chosen = _chosen(row, near, own[group], row[place[positive]], how, rng)
            if len(chosen) < how.num_negatives:
                raise _nothing_wrong(pairs, group)
            out.append([texts[columns[c]] for c in chosen])
    return out


def _chosen(
    row: np.ndarray,
    near: np.ndarray,
    own: set[int],
    positive: np.float32,
    how: settings.Mining,
    rng: np.random.Generator,
) -> list[int]:
    """Return the columns of one anchor's negatives, fewer only if there are no more."""
    limit = np.inf if how.absolute_margin is None else positive - how.absolute_margin
    if how.relative_margin is not None:
        limit = min(limit, positive - abs(positive) * how.relative_margin)
    scored = zip(near.tolist(), row[near].tolist(), strict=True)
    window = [c for c, score in scored if c not in own and score <= limit][how.range_min : how.range_max]
    if how.sampling_strategy == "random" and len(window) > how.num_negatives:
        window = [window[n] for n in np.sort(rng.choice(len(window), how.num_negatives, replace=False))]
    if len(window) < how.num_negatives:
        other = np.ones(len(row), dtype=bool)
        other[list(own)] = False
        fitting = search.first(row, other & (row <= limit), how.range_min + how.num_negatives)[how.range_min :]
        window = list(dict.fromkeys([*fitting, *search.first(-row, other, how.num_negatives)]))
    return window[: how.num_negatives]


def _similarity(part: pl.DataFrame, base: encoder.Encoder | None) -> Callable[[int, int], np.ndarray]:
    """Return the similarity of anchors to positives for ``mine``: cosines by the base, BM25 scores without one."""
    anchors, texts = part["anchor"].to_list(), part["positive"].to_list()
    if base is None:
        return lambda start, stop: lexical.bm25_scores(anchors[start:stop], texts)
    asked, kept = (
        encoder.encode(base, side, prompt=base.prompts.get(name, ""), progress=True)
        for name, side in (("query", anchors), ("document", texts))
    )
    return lambda start, stop: asked[start:stop] @ kept.T


def _components(pairs: pl.DataFrame) -> np.ndarray:
    """Return a number for each pair: equal where a chain of shared groups, equal texts or common passages joins two pairs.

    Anchors count as well: of three neighbouring sentences the second is the first pair's positive and the second pair's
    anchor, and would otherwise be asked to differ from itself. Passages count since one may be in another in part, as a
    sentence in a query's passage, or in other words, as a definition without its term.
    """
    numbers: dict[tuple[str, str], int] = {}
    edges = []
    sides = pairs.select("group", "anchor", "positive", "anchor_id", "positive_id").rows()
    for row, (group, anchor, positive, *passages) in enumerate(sides):
        ids = [("id", sentence) for passage in passages for sentence in _sentences(passage)]
        keys = [("group", group), ("text", anchor), ("text", positive), *ids]
        edges += [(row, len(pairs) + numbers.setdefault(key, len(numbers))) for key in keys]
    size = len(pairs) + len(numbers)
    joined = coo_array((np.ones(len(edges)), np.transpose(edges)), shape=(size, size))
    return connected_components(joined, directed=False)[1][: len(pairs)]


def _sentences(passage_id: str) -> list[str]:
    """Return the identifiers of the sentences of a query's passage; of any other passage its own.

    >>> _sentences("primer:d0:00009+1"), _sentences("primer:d0:00009")
    (['primer:d0:00009', 'primer:d0:00010'], ['primer:d0:00009'])
    """
    if not (several := re.fullmatch(r"(.*:)(\d+)\+(\d+)", passage_id)):
        return [passage_id]
    return [f"{several[1]}{int(several[2]) + n:05d}" for n in range(int(several[3]) + 1)]


def _random_distant(part: pl.DataFrame, seed: int) -> list[list[str]]:
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
        f"source {source}, split {split}: too few pairs of another group (and, for random_distant, document) than {group!r} "
        "are left to be its negatives; use negatives 'none', or fewer"
    )
