"""Which texts of a list repeat an earlier one, nearly word for word?

Candidates come from min-hashes (Broder 1997) banded by datasketch's LSH; each is verified by the exact Jaccard
similarity of its word 3-shingles, so a chance collision removes nothing, and a "not" more or less keeps both texts.
N texts, S shingles in all, P hash functions.
"""

from __future__ import annotations

import re
import sys
from collections import Counter

import numpy as np
from datasketch import LeanMinHash, MinHashLSH
from tqdm import tqdm

WIDTH = 3  # words in a shingle
N_HASHES = 64  # enough for 10 bands of 6 at a threshold of 0.9; every band costs memory
TURNS = re.compile(  # a word whose change turns what a sentence says: with it, two sentences are never repeats
    r".*\d.*|(?:hyper|hypo|tachy|brady|non|contra).*|no|nor|not|none|never|neither|without|unless|except|cannot|.*n['’]t"
    r"|left|right|absent|present|before|after|above|below|over|under|more|less|most|least|high|low|higher|lower"
    r"|(?:increas|decreas|reduc|rais|lower|elevat|rise|fall|widen|narrow|constrict|dilat|activat|inhibit)\w*"
    r"|systol\w*|diastol\w*|arter\w*|ven(?:ous|ule|a)\w*|atri\w*|ventric\w*|aort\w*|mitral|tricuspid|pulmon\w*"
    r"|anterior\w*|posterior\w*|medial\w*|lateral\w*|superior\w*|inferior\w*|proximal\w*|distal\w*|male|female"
)
MISSES = 1e-3  # wanted: the chance that LSH overlooks a pair right at the threshold


def words(text: str) -> list[str]:
    """Return the words and numbers of a text in lower case; decimals, signs and charges stay part of them.

    >>> words("The K+ was 5.5 mmol/L.")
    ['the', 'k+', 'was', '5.5', 'mmol', 'l']
    """
    return re.findall(r"[<>−-]?\d+(?:[.,]\d+)*%?|\w+[+−]*", text.lower())


def shingle_set(tokens: list[str], width: int = WIDTH) -> frozenset[tuple[str, ...]]:
    """Return the distinct runs of so many words; a shorter text is one run."""
    return frozenset(zip(*(tokens[n:] for n in range(width)), strict=False)) or frozenset([tuple(tokens)])


def jaccard(a: frozenset, b: frozenset) -> float:
    """Return the share of shingles two texts have in common, 0 to 1.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    return len(a & b) / len(a | b)


def same_meaning(a: list[str], b: list[str]) -> bool:
    """Whether the words by which two texts differ leave numbers, negations, sides and directions alone.

    >>> same_meaning("it should rise".split(), "it should not rise".split())
    False
    """
    differing = (Counter(a) - Counter(b)) + (Counter(b) - Counter(a))
    return not any(TURNS.fullmatch(word) for word in differing)


def repeats(texts: list[str], threshold: float, seed: int, n_reference: int = 0) -> dict[int, tuple[int, float]]:
    """Return, for each text that repeats an earlier kept one, that one's index and the similarity.

    Args:
        texts: N texts; the first of several alike is kept.
        threshold: above 0, up to 1: Jaccard similarity from which two texts are alike.
        seed: of the hash functions.
        n_reference: if above 0, the first so many texts are held out, and the others are compared with them alone.
            Then a changed number is no excuse (a leak of wording is a leak); else it is (see ``same_meaning``).

    Raises:
        ValueError: threshold outside its range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"near-duplicate threshold is {threshold}; wanted above 0 and at most 1, such as 0.9")
    tokens = [[sys.intern(word) for word in words(text)] for text in texts]
    lsh = MinHashLSH(num_perm=N_HASHES, params=bands(threshold))
    found: dict[int, tuple[int, float]] = {}
    for n, signature in enumerate(tqdm(_signatures(tokens, seed), desc="near-duplicates", unit="text", leave=False)):
        minhash = LeanMinHash(seed=seed, hashvalues=signature, scheme="legacy")  # any label: all are ours
        candidates = lsh.query(minhash) if n >= n_reference else []
        if candidates and not n_reference:
            candidates = [k for k in candidates if same_meaning(tokens[n], tokens[k])]
        match = _best(tokens, n, candidates)
        if match and match[1] >= threshold:
            found[n] = match
        elif n < n_reference or not n_reference:
            lsh.insert(n, minhash, check_duplication=False)
    return found


def _best(tokens: list[list[str]], n: int, candidates: list[int]) -> tuple[int, float] | None:
    """Return the candidate most like text n, the earliest of equals."""
    own = shingle_set(tokens[n]) if candidates else frozenset()
    scored = ((jaccard(own, shingle_set(tokens[other])), -other) for other in candidates)
    best = max(scored, default=None)
    return None if best is None else (-best[1], best[0])


def bands(threshold: float) -> tuple[int, int]:
    """Return bands and rows: the most selective LSH that overlooks at most ``MISSES`` of pairs at the threshold.

    >>> bands(0.9)
    (10, 6)
    """
    for rows in range(N_HASHES // 2, 1, -1):
        if (1 - threshold**rows) ** (N_HASHES // rows) <= MISSES:
            return N_HASHES // rows, rows
    return N_HASHES, 1


def _signatures(tokens: list[list[str]], seed: int) -> np.ndarray:
    """Return (N, P) uint32 min-hashes, one hash function at a time over all shingles."""
    hashes, starts = _hashed_shingles(tokens)
    draw = np.random.default_rng(seed)
    factors = draw.integers(0, 2**63, size=N_HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.empty((len(tokens), N_HASHES), dtype=np.uint32)
    for column, factor in enumerate(factors):
        mixed = ((hashes ^ (hashes >> np.uint64(29))) * factor) >> np.uint64(32)
        if len(tokens):
            signatures[:, column] = np.minimum.reduceat(mixed.astype(np.uint32), starts)
    return signatures


def _hashed_shingles(tokens: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return (S,) hashes of all shingles and (N,) the position where each text's begin; every text has at least one."""
    numbers: dict[str, int] = {}
    padded = [token for text in tokens for token in text + [""] * max(0, WIDTH - len(text))]
    flat = np.array([numbers.setdefault(token, len(numbers) + 1) for token in padded], dtype=np.uint64)
    lengths = np.array([max(WIDTH, len(text)) for text in tokens], dtype=np.int64)
    inside = np.ones(len(flat), dtype=bool)
    for back in range(1, WIDTH):
        inside[np.cumsum(lengths) - back] = False  # a shingle does not run on into the next text
    mixed = np.zeros(len(flat), dtype=np.uint64)
    for offset in range(WIDTH):
        mixed = (mixed ^ np.roll(flat, -offset)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    counts = lengths - WIDTH + 1
    return mixed[inside], np.cumsum(counts) - counts
