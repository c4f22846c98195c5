"""Which runs of words of a text are known, when the text itself is not kept?

A text is read as its letters and digits alone, so case, spaces, line breaks and punctuation do not count. What is kept
are keyed 64-bit hashes: of the letters of ``WORDS`` words from every word on, and of whole short lines.
C letters and digits, N hashes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WORDS = 8  # a run of so many words is told from common language; measured, see tests/test_privacy.py
LENGTHS = (20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 64, 72)  # letters hashed of a run: the longest that its words have
LEAST_LETTERS = 6  # of those, letters: a run of figures is no text
LINE_WORDS = range(5, WORDS)  # whole lines and sentences of so many words are known too
LINE_LETTERS = 12
BLOCK = 1 << 22  # letters and digits hashed at a time
MARKS = re.compile("[\u0300-\u036f\u00ad\u200b-\u200f\u2060\ufeff]")  # accents, soft hyphens, characters without width
IS_WORD = np.array([chr(byte).isalnum() or byte > 127 for byte in range(256)])
IS_LETTER = IS_WORD & ~np.isin(np.arange(256), list(b"0123456789"))


def _table(signs: bytes) -> np.ndarray:
    return np.isin(np.arange(256), list(signs))


IS_STOP, IS_GAP = _table(b".!?"), _table(b' \n\t\x0b"\0')
LINE, CELL, PHRASE = b"\n\x0b\0", b'\n\x0b\0\t|"`<>[]{}', b'\n\x0b\0\t|"`<>[]{},;:'
KINDS = [  # what ends a line, and whether a full stop does; texts are remembered by the first three
    (_table(signs), stops)
    for signs, stops in [(LINE, False), (LINE, True), (b"\0", True), (CELL, False), (CELL, True), (PHRASE, True)]
]


@dataclass(frozen=True)
class Key:
    """What turns letters into hashes: (256,) random numbers for bytes, an odd base, and a mark of whole lines."""

    numbers: np.ndarray
    base: int
    line: np.uint64


@dataclass(frozen=True)
class Hashes:
    """A set of hashes, quick to ask: (N,) uint64 sorted, behind a coarse table of their leading bits."""

    values: np.ndarray
    table: np.ndarray
    shift: np.uint64

    @classmethod
    def of(cls, values: np.ndarray) -> Hashes:
        """Return the set of (N,) sorted different hashes."""
        bits = min(max(len(values), 1).bit_length() + 4, 27)
        shift = np.uint64(64 - bits)
        table = np.zeros(1 << bits, dtype=bool)
        table[values >> shift] = True
        return cls(values, table, shift)

    def places(self, asked: np.ndarray) -> np.ndarray:
        """Return the positions in ``asked`` of the hashes that are in the set."""
        maybe = np.flatnonzero(self.table[asked >> self.shift])
        if not len(maybe):
            return maybe
        nearest = np.minimum(np.searchsorted(self.values, asked[maybe]), len(self.values) - 1)
        return maybe[self.values[nearest] == asked[maybe]]


@lru_cache(maxsize=4)
def key(salt: bytes) -> Key:
    """Return the key that a secret salt stands for."""
    numbers = np.frombuffer(hashlib.shake_256(salt).digest(8 * 258), dtype="<u8").astype(np.uint64)
    return Key(numbers[:256], int(numbers[256]) | 1, numbers[257])


def folded(text: str) -> bytes:
    r"""Return a text in lower case, without accents and signs outside ASCII; line breaks and ASCII signs stay.

    >>> folded("Caf\u00e9 \u201cno\u201d \ufb01brillation")
    b'cafe  no  fibrillation'
    """
    if text.isascii():
        return text.lower().encode()
    plain = MARKS.sub("", unicodedata.normalize("NFKD", text).casefold())
    return re.sub(r"[^\w\x00-\x7f]", " ", plain).encode(errors="replace")


def known(texts: Iterable[str], with_key: Key) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the hashes of runs and of short lines of texts, sorted and different, block by block.

    Args:
        texts: read once, never all at a time.
        with_key: of the profile.
    """
    block: list[bytes] = []
    size = 0
    for text in texts:
        block.append(folded(text.replace("\0", " ")))
        size += len(block[-1])
        if size >= BLOCK:
            yield _marks(block, with_key)
            block, size = [], 0
    if block:
        yield _marks(block, with_key)


def distinct(hashes: np.ndarray) -> np.ndarray:
    """Return hashes sorted, each once; the given ones are sorted in place, which needs the least memory.

    >>> distinct(np.array([3, 1, 3], dtype=np.uint64)).tolist()
    [1, 3]
    """
    hashes.sort()
    return hashes[np.append(np.ones(min(len(hashes), 1), dtype=bool), hashes[1:] != hashes[:-1])]


def found(
    text: bytes, runs: Hashes, lines: Hashes, with_key: Key
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return where a folded text holds known runs and lines: their places in it, ascending, and their hashes.

    Returns:
        places of runs, hashes of those runs, places of lines, hashes of those lines.
    """
    raw = np.frombuffer(text, dtype=np.uint8)
    places = np.flatnonzero(IS_WORD[raw])
    parts: list[tuple[np.ndarray, ...]] = []
    for begin in range(0, max(len(places), 1), BLOCK):
        window = places[begin : begin + BLOCK + 512]  # runs and lines across the border of a block are read whole
        if len(window) >= LENGTHS[0]:
            parts.append(_in_window(raw, window, runs, lines, with_key))
    if not parts:
        return (np.empty(0, np.int64), np.empty(0, np.uint64)) * 2
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _in_window(
    raw: np.ndarray, places: np.ndarray, runs: Hashes, lines: Hashes, with_key: Key
) -> tuple[np.ndarray, ...]:
    sums = _Sums(raw[places], with_key)
    hits = [(n, hashes) for n, hashes in ((n, sums.windows(n)) for n in LENGTHS if n <= len(places))]
    found = [(at, hashes[at]) for _, hashes in hits for at in [runs.places(hashes)]]
    at = np.concatenate([at for at, _ in found])
    which = np.concatenate([hashes for _, hashes in found])
    order = np.argsort(at, kind="stable")
    segments = np.concatenate([_segments(raw, places, kind) for kind in KINDS])
    asked = sums.of(segments[:, 0], segments[:, 1]) ^ with_key.line
    hit = lines.places(asked)
    return places[at[order]], which[order], places[segments[hit, 0]], asked[hit]


def _marks(block: Sequence[bytes], with_key: Key) -> tuple[np.ndarray, np.ndarray]:
    raw = np.frombuffer(b"\0".join(block), dtype=np.uint8)
    places = np.flatnonzero(IS_WORD[raw])
    if not len(places):
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    letters = raw[places]
    sums, starts = _Sums(letters, with_key), np.flatnonzero(np.diff(places, prepend=-2) > 1)
    ends = np.append(np.searchsorted(places, np.flatnonzero(raw == 0)), len(places))  # of each text, in letters
    end = ends[np.searchsorted(ends, starts, side="right")]
    after = np.append(starts, np.full(WORDS, len(places)))[WORDS:]  # where the word after the run begins
    whole = np.minimum(after, end) - starts
    complete = (after <= end) & (np.arange(len(starts)) + WORDS <= len(starts))
    length = np.array(LENGTHS)[np.maximum(np.searchsorted(LENGTHS, whole, side="right") - 1, 0)]
    alphabetic = np.concatenate([[0], np.cumsum(IS_LETTER[letters])])
    fits = complete & (starts + length <= end)
    fits[fits] = alphabetic[(starts + length)[fits]] - alphabetic[starts[fits]] >= LEAST_LETTERS
    runs = sums.of(starts[fits], (starts + length)[fits])
    segments = np.concatenate([_segments(raw, places, kind) for kind in KINDS[:3]])
    words = np.searchsorted(starts, segments[:, 1]) - np.searchsorted(starts, segments[:, 0])
    enough = alphabetic[segments[:, 1]] - alphabetic[segments[:, 0]] >= LINE_LETTERS
    enough &= (segments[:, 1] - segments[:, 0] >= LENGTHS[0]) & np.isin(words, LINE_WORDS)
    lines = sums.of(segments[enough, 0], segments[enough, 1]) ^ with_key.line
    return distinct(runs), distinct(lines)


def _segments(raw: np.ndarray, places: np.ndarray, kind: tuple[np.ndarray, bool]) -> np.ndarray:
    """Return (S, 2) first and last letter (exclusive) of the stretches between borders of a kind."""
    borders, stops = kind
    ends = borders[raw]
    if stops:
        ends[:-1] |= IS_STOP[raw[:-1]] & IS_GAP[raw[1:]]
    cut = np.concatenate([[0], np.searchsorted(places, np.flatnonzero(ends)), [len(places)]])
    return np.stack([cut[:-1], cut[1:]], axis=1)[cut[1:] > cut[:-1]]


class _Sums:
    """Hashes of stretches of letters, as differences of running sums modulo 2**64."""

    def __init__(self, letters: np.ndarray, with_key: Key) -> None:
        powers, self.inverse = _powers(with_key.base, 1 << max(16, len(letters).bit_length()))
        self.sums = np.concatenate(
            [np.zeros(1, np.uint64), np.cumsum(with_key.numbers[letters] * powers[: len(letters)])]
        )

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        return (self.sums[ends] - self.sums[starts]) * self.inverse[starts]

    def windows(self, length: int) -> np.ndarray:
        n = len(self.sums) - length
        return (self.sums[length:] - self.sums[:n]) * self.inverse[:n]


@lru_cache(maxsize=2)
def _powers(base: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) powers of an odd base and of its inverse, modulo 2**64."""
    both = []
    for factor in (base, pow(base, -1, 1 << 64)):
        steps = np.full(n, factor, dtype=np.uint64)
        steps[0] = 1
        both.append(np.cumprod(steps, dtype=np.uint64))
    return both[0], both[1]
