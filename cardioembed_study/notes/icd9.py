"""What is an ICD-9-CM diagnosis code, and where does it stand: which category, which chapter?

A code is three digits, ``V`` and two, or ``E`` and three: its category. One or two more (after ``E`` at most one) follow a dot,
which MIMIC-III leaves out. Codes are text, never numbers: ``0389`` is septicaemia, ``389`` is hearing loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CODE = re.compile(
    r"(?P<category>[0-9]{3}|V[0-9]{2})(\.?(?P<rest>[0-9]{1,2}))?|(?P<cause>E[0-9]{3})(\.?(?P<part>[0-9]))?"
)
CHAPTERS = (
    ("infection", "001", "139"),
    ("neoplasm", "140", "239"),
    ("endocrine", "240", "279"),
    ("blood", "280", "289"),
    ("mental", "290", "319"),
    ("nervous", "320", "389"),
    ("circulatory", "390", "459"),
    ("respiratory", "460", "519"),
    ("digestive", "520", "579"),
    ("genitourinary", "580", "629"),
    ("pregnancy", "630", "679"),
    ("skin", "680", "709"),
    ("musculoskeletal", "710", "739"),
    ("congenital", "740", "759"),
    ("perinatal", "760", "779"),
    ("symptoms", "780", "799"),
    ("injury", "800", "999"),
    ("factors", "V01", "V99"),  # what influences health, or brings someone to care without an illness
    ("external", "E000", "E999"),  # what caused an injury or a poisoning, and where
)


def normalise(code: str) -> str:
    """Return a code as MIMIC-III writes it: capitals, no dot, no spaces around.

    Args:
        code: with or without its dot.

    Raises:
        ValueError: if it is no ICD-9-CM diagnosis code in form; whether it is in the list of a year is not asked.

    >>> normalise(" v45.81 "), normalise("E849.7"), normalise("0389")
    ('V4581', 'E8497', '0389')
    """
    return "".join(_parts(code))


def dotted(code: str) -> str:
    """Return a code as people write it, with its dot where it has more than a category.

    Args:
        code: with or without its dot.

    Raises:
        ValueError: as for ``normalise``.

    >>> dotted("42731"), dotted("E8497"), dotted("486")
    ('427.31', 'E849.7', '486')
    """
    return ".".join(filter(None, _parts(code)))


def category(code: str) -> str:
    """Return the part before the dot.

    Args:
        code: with or without its dot.

    Raises:
        ValueError: as for ``normalise``.

    >>> category("42731"), category("V4581"), category("E8497")
    ('427', 'V45', 'E849')
    """
    return _parts(code)[0]


def chapter(code: str) -> str:
    """Return the name of the chapter, one of the 19 of ``CHAPTERS``.

    Args:
        code: with or without its dot; a category alone will do.

    Raises:
        ValueError: as for ``normalise``, and for ``000`` and ``V00``, which are in no chapter.

    >>> chapter("42731"), chapter("V4581"), chapter("E8497")
    ('circulatory', 'factors', 'external')
    """
    found = category(code)
    for name, first, last in CHAPTERS:
        if len(found) == len(first) and first <= found <= last:  # a letter never stands between two digits
            return name
    raise ValueError(f"ICD-9 code {code!r} is in no chapter: they go from 001 to 999, V01 to V99, E000 to E999")


def path(code: str) -> tuple[str, str, str]:
    """Return chapter, category and full code: the levels of the hierarchy, the widest first.

    Args:
        code: with or without its dot.

    Raises:
        ValueError: as for ``chapter``.

    >>> path("427.31")
    ('circulatory', '427', '42731')
    """
    return chapter(code), category(code), normalise(code)


def labels(codes: Sequence[Sequence[str]], loss: str) -> NDArray | None:
    """Return the labels that a hierarchical loss compares, a row for each admission; ``None`` for a loss without labels.

    For ``soft_chapter`` which of the 19 chapters it has: (B, 19) bool. For ``himulcon`` chapter, category and code of its first
    diagnosis as numbers: (B, 3) int64, -1 where there is none; equal numbers in a column are equal labels.

    Args:
        codes: of each admission, the first diagnosis first.
        loss: of ``02_train``.

    >>> labels([["427.31", "V45.01"], []], "soft_chapter").sum(axis=1).tolist()
    [2, 0]
    >>> labels([["42731"], ["427.1"], ["486"], []], "himulcon").tolist()
    [[0, 0, 0], [0, 0, 1], [1, 1, 2], [-1, -1, -1]]
    """
    if loss == "soft_chapter":
        names = [name for name, _, _ in CHAPTERS]
        own = [{chapter(code) for code in of} for of in codes]
        return np.array([[name in found for name in names] for found in own]).reshape(-1, len(names))
    if loss != "himulcon":
        return None
    known: list[dict[str, int]] = [{}, {}, {}]
    paths = [path(of[0]) if of else None for of in codes]
    rows = [[-1] * 3 if p is None else [k.setdefault(x, len(k)) for k, x in zip(known, p, strict=True)] for p in paths]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


@lru_cache(maxsize=32_768)
def _parts(code: str) -> tuple[str, str]:
    """Return what stands before and after the dot."""
    if not isinstance(code, str):
        raise ValueError(
            f"ICD-9 code {code!r} is no text; read codes as text, as numbers they lose their leading zeros"
        )
    match = CODE.fullmatch(code.strip().upper())
    if match is None:
        raise ValueError(f"{code!r} is no ICD-9-CM diagnosis code; wanted one such as 427.31, 42731, V45.81 or E849.7")
    return match["category"] or match["cause"], match["rest"] or match["part"] or ""
