"""Which queries do books hold already? Terms, titles and questions, without any language model.

Rules see words, not grammar: some of what they write is clumsy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from cardioembed_study.corpus import pairs, rewording

NAME = "rule"  # of the writer
DONE = re.compile(  # a title that speaks of something done
    r"\b(?:procedure|operat|surg|treat|therap|interven|insert|record|measur|imag|administ|techni|catheter|resuscitat|assess"
    r"|manag|prevent|test|monitor|replac|repair|pac(?:ing|emaker)|ablat|stent|bypass|examin|screen|car(?:e|ing)\b)\w*",
    re.I,
)


def write(passages: pl.DataFrame) -> Iterator[tuple]:
    """Yield what the books themselves ask, as rows of ``study.SCHEMA``, in reading order of each kind.

    Keywords are terms, with the sentence that introduces them, and titles, with the first sentence of their section;
    questions are those of the books, with their answers, and those for a term's meaning, with its definition; procedures are
    titles that speak of something done; paraphrases are those of ``corpus.rewording``.

    Args:
        passages: of the corpus (``passages.SCHEMA`` with ``split``).
    """
    glossary = {row["passage_id"]: row for row in passages.filter(kind="glossary").iter_rows(named=True)}
    for pair in pairs.of_glossary(pairs.make(passages, "definition")).iter_rows(named=True):
        entry = glossary[pair["anchor_id"]]
        yield _row(pair, entry["terms"][0], "keyword", 2)
        meaning = pair | {"positive": entry["text"], "positive_id": entry["passage_id"]}
        yield _row(meaning, f"What is meant by {entry['terms'][0]}?", "natural_language", 3)
    for pair in pairs.make(passages, "heading").iter_rows(named=True):
        title = pair["anchor"].rsplit(": ", 1)[-1]
        yield _row(pair, title, "keyword", 2)
        if DONE.search(title):
            yield _row(pair, f"{title}: how is it done?", "procedure", 2)
    for pair in pairs.make(passages, "question").iter_rows(named=True):
        yield _row(pair, pair["anchor"], "natural_language", 3)
    for row in passages.filter(kind="sentence").iter_rows(named=True):
        if made := rewording.paraphrase(row["text"]):
            yield _row(row | {"positive": row["text"], "positive_id": row["passage_id"]}, made, "paraphrase", 3)


def _row(pair: dict, query: str, kind: str, relevance: int) -> tuple:
    place = (pair["source"], pair["document"], pair["topic"], pair["split"])
    return (query, kind, pair["positive"], relevance, pair["positive_id"], *place, NAME)
