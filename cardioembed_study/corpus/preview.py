"""What does a text give, before anything is learnt from it? Counts, a sample, what was dropped, and markup that is left.

It shows sentences of the text: it is for its reader's eyes, and nothing of it becomes a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cardioembed_lib import files
from cardioembed_study import show
from cardioembed_study.corpus import books, cleaning, manifests, pairs, passages, readers

SHOWN, EXAMPLES, SEED = 20, 3, 17
HELD_OUT = "Documents of each split by default (page Advice says how many test documents it needs):"
NO_GLOSSARY = "No definitions of a glossary: write `pairs: [heading, definition]` in the profile."
_BLOCKS = {"items": "blocks_item", "captions": "blocks_caption"}
_DROPPED = {
    "too_short": f"sentences of fewer than {cleaning.MIN_CHARS} characters",
    "noise": "references, pointers to films and sites, rows of numbers",
    "exact_duplicates": "the same text once more",
    "near_duplicates": f"{passages.THRESHOLD:.0%} of the same word triples as a text before",
    "left_out": "entries of a glossary at the back whose term no chapter has in bold, and its other text",
}


def of(source: manifests.Source, folder: Path) -> dict[str, Any]:
    """Return what a source gives.

    Args:
        source: a manifest.
        folder: of its verified files.

    Returns:
        ``source``; ``counts`` by kind; ``pairs`` by kind; ``dropped``, rows of count and reason;
        ``splits``, documents by split; ``documents``, a row each;
        ``residue``, with ``per_thousand`` passages and ``examples``; ``samples``, passages in reading order.

    Raises:
        ValueError: a restricted source, or one whose format is no text to learn from; and as for ``passages.prepare``.
    """
    if source.access == "restricted":
        raise ValueError(f"{source.name} is restricted: no sentence of it is shown; see the records of 05_mimic")
    if source.format not in (known := [*readers.READERS, *books.FORMATS]):
        raise ValueError(f"{source.name} is of format {source.format}; a preview is made of {', '.join(sorted(known))}")
    frame, counts = passages.prepare(source, folder)
    kept, removed = passages.deduplicate(frame)
    made = {kind: pairs.make(kept.with_columns(split=pl.lit("")), kind) for kind in pairs.KINDS}
    entries = pairs.of_glossary(made["definition"])
    n = len(made["definition"]) - len(entries)
    substitutes = {"instead_of_definitions_(training_takes_those_of_train_documents_alone)": n} if n else {}
    counted = {key: counts[key] for key in ("documents", "sentences", "glossary", "questions")}
    counted |= {key: counts.get(name, 0) for key, name in _BLOCKS.items()}
    counted["bold_terms"] = int(frame.filter(kind="sentence")["terms"].list.len().sum())
    return {
        "source": source,
        "counts": counted,
        "pairs": {kind: table.height for kind, table in (made | {"definition": entries}).items()} | substitutes,
        "dropped": [(counts.get(key, removed.get(key, 0)), reason) for key, reason in _DROPPED.items()],
        "splits": _splits(frame),
        "documents": _documents(frame),
        "residue": _residue(frame["text"].to_list()),
        "samples": _sample(kept).select("document", "section", "kind", "terms", "text").to_dicts(),
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a preview as lines of a terminal."""
    yield f"{found['source'].title} ({found['source'].licence}, {found['source'].access})"
    for title in ("counts", "pairs"):
        yield f"\n{title.capitalize()}: " + ", ".join(f"{_words(key)} {n:,}" for key, n in found[title].items())
    if not found["pairs"]["definition"]:
        yield NO_GLOSSARY
    yield f"\n{HELD_OUT} " + ", ".join(f"{split} {n:,}" for split, n in found["splits"].items())
    yield "\nDropped:"
    yield from (f"  {n:>7,}  {reason}" for n, reason in found["dropped"])
    yield f"\nMarkup left, per 1,000 passages: {found['residue']['per_thousand']:.1f}"
    yield from (f"  {piece!r} in: {text}" for piece, text in found["residue"]["examples"])
    yield "\nDocuments, with sentences, glossary entries and topic:"
    yield from (
        f"  {row['sentences']:>7,} {row['glossary']:>5,}  {row['topic']}  {row['document']}"
        for row in found["documents"]
    )
    yield "\nA sample:"
    yield from (
        f"  [{row['kind']}] {row['document']}, {row['section']}\n       {shown(row)}" for row in found["samples"]
    )


def shown(row: Mapping[str, Any]) -> str:
    """Return a passage as it is shown, its terms behind it.

    >>> shown({"text": "wall between sides", "terms": ["septum"]})
    'wall between sides (septum)'
    """
    return row["text"] + (f" ({', '.join(row['terms'])})" if row["terms"] else "")


def write(file: Path, found: Mapping[str, Any]) -> None:
    """Write a preview as one page of HTML that needs nothing else."""
    files.write(
        file,
        show.filled(
            __package__,
            "preview.html.j2",
            words=_words,
            shown=shown,
            held_out=HELD_OUT,
            no_glossary=NO_GLOSSARY,
            **found,
        ),
    )


def _words(key: str) -> str:
    return key.replace("_", " ")


def _documents(frame: pl.DataFrame) -> list[dict[str, Any]]:
    kinds = {"sentences": "sentence", "glossary": "glossary"}
    sums = {key: (pl.col("kind") == kind).sum() for key, kind in kinds.items()}
    return frame.group_by("document", "topic", maintain_order=True).agg(**sums).to_dicts()


def _splits(frame: pl.DataFrame) -> dict[str, int]:
    placed = passages.split(frame.unique(["source", "document"]))["split"].to_list()
    return {split: placed.count(split) for split in passages.SPLITS}


def _residue(texts: list[str]) -> dict[str, Any]:
    found = [(piece, text) for text in texts if (piece := cleaning.residue(text))]
    return {"per_thousand": 1000 * len(found) / max(1, len(texts)), "examples": found[:EXAMPLES]}


def _sample(frame: pl.DataFrame) -> pl.DataFrame:
    places = pl.Series(range(frame.height), dtype=pl.Int64).sample(min(SHOWN, frame.height), seed=SEED).sort()
    return frame[places]
