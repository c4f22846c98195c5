"""Which words do generated notes have, and who writes how? The phrase banks of ``data_manifests/clinical/notes``, read.

In a phrase ``(a|b)`` is a choice, and ``{slot}`` a trait, a value of the moment or a masked item, which ``stays`` fills in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from cardioembed_study import mappings, paths
from cardioembed_study.notes import icd9

SIGNS = ("circulatory", "respiratory", "infection_renal", "others")  # the files of signs by code
FACTS = ("title", "complaint", "levels")  # fields of an entry that are no signs
TYPO = 0.01  # a word is misspelt; ours
MASKED = r"\[\*\*.*?\*\*\]"
Phrase = tuple[tuple[str, ...], ...]
Entry = dict[str, Any]


class Section(BaseModel):
    """A section of a kind of note; the fields are explained in ``styles.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str
    heads: str
    chance: float
    lines: tuple[int, int]
    own: float


class Style(BaseModel):
    """A kind of note; the fields are explained in ``styles.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    category: str
    share: float
    timed: bool
    short: float
    prose: bool
    shuffle: bool
    description: str
    opening: str
    closing: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Author:
    """Somebody's habits of writing."""

    number: int
    words: dict[str, str]  # long form to the short form that this author prefers
    separator: str  # between a heading and its text
    joiner: str  # between sentences
    capitals: bool  # sentences begin with one


@cache
def bank(name: str) -> dict[str, Any]:
    """Return a file as it stands: ``common``, ``words``, ``chapters``, ``events``, ``styles``, or one of ``SIGNS``."""
    return mappings.read(paths.MANIFESTS / "clinical" / "notes" / f"{name}.yaml")


@cache
def styles() -> dict[str, Style]:
    """Return the kinds of note by name."""
    return TypeAdapter(dict[str, Style]).validate_python(bank("styles"))


@cache
def lines(text: str) -> tuple[Phrase, ...]:
    """Return the phrases of a block of lines, each as its parts: one option is literal text, several are a choice.

    >>> lines("no (edema|rash) seen")
    ((('no ',), ('edema', 'rash'), (' seen',)),)
    """
    return tuple(tuple(tuple(part.split("|")) for part in re.split(r"[()]", line)) for line in text.splitlines())


@cache
def entry(code: str) -> Entry:
    """Return what is known of a code: by its longest known beginning, and what is missing there by its chapter.

    Args:
        code: ICD-9-CM, without its dot.

    Raises:
        ValueError: if it is no such code.

    >>> entry("42731")["title"], entry("42731")["levels"], "cv" in entry("42731")
    ('atrial fibrillation', {'hr': 18, 'inr': 0.5}, True)
    """
    own = {key: known for name in SIGNS for key, known in bank(name).items() if code.startswith(key)}
    nearest = own[max(own, key=len)] if own else {}
    merged = {**bank("chapters")[icd9.chapter(code)], **nearest}
    if "title" in merged:
        merged["titles"] = merged["title"]
    return {key: value if key in FACTS else lines(value) for key, value in merged.items()}


@cache
def author(style: str, number: int, seed: int) -> Author:
    """Return the habits of one author of a kind of note; the same for all patients.

    >>> author("nursing_shift", 3, seed=17) == author("nursing_shift", 3, seed=17)
    True
    """
    rng, kind = Random(f"author {seed} {style} {number}"), styles()[style]
    words = {long: short for long, short in bank("words")["short"].items() if rng.random() < kind.short}
    separator = rng.choice((": ", ":\n", ":  ") if kind.prose else (": ", " - ", ":", ":\n", ". "))
    joiner = ". " if kind.prose else rng.choice((". ", ". ", "; ", ", ", "\n", ".  "))
    return Author(number, words, separator, joiner, kind.prose or rng.random() < 0.6)


def shortened(sentence: str, words: dict[str, str]) -> str:
    """Return a sentence with an author's short forms; masked items stay.

    >>> shortened("denies shortness of breath with [**left 12**]", {"with": "w/", "shortness of breath": "SOB", "left": "L"})
    'denies SOB w/ [**left 12**]'
    """
    return _long_forms().sub(lambda found: words.get(found[0], found[0]), sentence)


def misspelt(note: str, rng: Random) -> str:
    """Return a note with the odd word's letters swapped, dropped or doubled; masked items and numbers stay.

    >>> misspelt("[**Known lastname 12**] 128/64", Random(17))
    '[**Known lastname 12**] 128/64'
    """
    parts = re.split(f"({MASKED})", note, flags=re.DOTALL)
    parts[::2] = [" ".join(_slip(word, rng) for word in part.split(" ")) for part in parts[::2]]
    return "".join(parts)


def _slip(word: str, rng: Random) -> str:
    if len(word) < 4 or rng.random() > 1.6 * TYPO or not word.isalpha():  # about two words in three are eligible
        return word
    at = rng.randrange(1, len(word) - 1)
    return word[:at] + rng.choice((word[at + 1] + word[at], word[at + 1], word[at] * 2 + word[at + 1])) + word[at + 2 :]


@cache
def _long_forms() -> re.Pattern[str]:
    longest_first = sorted(bank("words")["short"], key=len, reverse=True)
    return re.compile(rf"{MASKED}|\b(?:{'|'.join(map(re.escape, longest_first))})\b")
