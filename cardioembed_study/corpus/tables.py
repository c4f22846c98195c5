"""What do the records of the corpus say, row by row?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def corpus_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each cleaning step kept of each source, a row a source."""
    steps = ("documents", "sentences_raw", "too_short", "noise", "sentences", "glossary", "questions")
    return [
        {"source": name, **{step.replace("_", " "): counts.get(step, 0) for step in steps}}
        for name, counts in record["counts"]["sources"].items()
    ]


def pair_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pairs of each kind and topic, by split."""
    return [
        {"pairs": kind, "topic": topic, **{split: splits.get(split, 0) for split in ("train", "dev", "test")}}
        for kind, topics in record["counts"]["pairs"].items()
        for topic, splits in topics.items()
    ]
