"""Which texts belong together? Passages in, pairs of an anchor and its positive out.

Four kinds (``KINDS``), each from the structure of a book; negatives are added to pairs of any kind. Books without a glossary
have a substitute for definitions, to be learnt from and never to be asked (``introduced``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import chain, pairwise

import polars as pl

QUESTIONS = (
    *("What is {}?", "What does {} mean?", "What causes {}?", "How is {} treated?", "How is {} recognised?"),
    *("Who is at risk of {}?", "Can {} be prevented?", "What happens in {}?"),
)
FEWEST_CHARS = 20  # of what is left of a definition without its term
SUBSTITUTE = "introduced:"  # before the term, in the group of a pair that no glossary entry is in
_NO_NAME = r"(?!(?:it|this|that|these|those|there|he|she|they|we|you|one|what|which|who|here)\b)"
_NAME = rf"(?P<term>{_NO_NAME}[\w’'-]+(?: [\w’'-]+){{0,3}})"  # four words at most
_MEANS = (
    r"(?: (?:is|are)(?: defined as)? (?=(?:an?|the)\b)| refers? to (?=(?:an?|the)\b)|, (?=an? (?:kind|type|form) of\b))"
)
DEFINES = re.compile(rf"(?:(?:an?|the) )?{_NAME}{_MEANS}", re.IGNORECASE)  # as a sentence begins
SCHEMA = {
    "anchor": pl.String,
    "positive": pl.String,
    "negatives": pl.List(pl.String),
    "anchor_id": pl.String,
    "positive_id": pl.String,
    "group": pl.String,
    "source": pl.String,
    "document": pl.String,
    "topic": pl.String,
    "split": pl.String,
}


def make(passages: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return all pairs of one kind; both sides of a pair come from one document, so pairs keep its split.

    Args:
        passages: one row a passage, in reading order, with ``split`` (``passages.SCHEMA``).
        kind: one of ``KINDS``.

    Returns:
        One row a pair (``SCHEMA``), in reading order, without negatives. Pairs of one ``group`` are true for each other.

        No row where the books have no such structure. Definitions of a source whose glossary gives no pair, or has none, are a
        substitute, of training documents alone (``introduced``); ``of_glossary`` leaves it out.

    Raises:
        KeyError: for another kind.
    """
    if kind not in KINDS:
        raise KeyError(f"no pairs of kind {kind!r}; known: {', '.join(KINDS)}")
    by_document = passages.partition_by("source", "document", maintain_order=True)
    made = [(document, document["source"][0], KINDS[kind](document)) for document in by_document]
    paired = {source for _, source, rows in made if rows or kind != "definition"}
    rows = [row for document, source, rows in made for row in (rows if source in paired else introduced(document))]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def of_glossary(definitions: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs that are glossary entries with their sentences: those that may be asked."""
    return definitions.filter(~pl.col("group").str.starts_with(SUBSTITUTE))


def introduced(document: pl.DataFrame) -> list[tuple]:
    """Pair what a sentence says of a term, the term taken out, with another sentence of the document that has the term.

    A sentence says what a term is where it has the term in bold or begins as ``DEFINES`` wants. The other sentence is the
    first that has the term in bold, else the first that has it at all; without one there is no pair. It need not say what the
    term is, and others may be as right: so such pairs are learnt from, and documents held out for dev and test give none.
    Terms go by their first sentence.
    """
    rows = document.filter(pl.col("kind") == "sentence", ~pl.col("split").is_in(["dev", "test"])).rows(named=True)
    said: dict[str, tuple[dict, str]] = {}
    bold, worded = defaultdict(list), defaultdict(list)  # so that a term is sought in few sentences
    for row in rows:
        for term in map(key, row["terms"]):
            bold[term].append(row)
        for stem in _stems(row["text"]):
            worded[stem].append(row)
        for term, bare in _said(row):
            said.setdefault(key(term), (row, bare))
    found = ((term, row, bare, _other(row, term, bold, worded)) for term, (row, bare) in said.items())
    return [_row(row, other, anchor=bare, group=SUBSTITUTE + term) for term, row, bare, other in found if other]


def _said(row: dict) -> list[tuple[str, str]]:
    """Return each term of which a sentence says something, with what it says; too little is nothing."""
    begins = DEFINES.match(row["text"])
    found = [(term, row["text"]) for term in row["terms"]]
    if begins and key(begins["term"]) not in map(key, row["terms"]):
        found.append((begins["term"], row["text"]))
    about = (
        (term, row["text"][begins.end() :] if begins and key(begins["term"]) == key(term) else text)
        for term, text in found
    )
    return [(term, bare) for term, text in about if len(bare := without_term(text, term)) >= FEWEST_CHARS]


def _other(row: dict, term: str, bold: dict[str, list[dict]], worded: dict[str, list[dict]]) -> dict | None:
    """Return the first other sentence that has the term in bold, else the first that has it."""
    pattern = re.compile(rf"(?<!\w){_any_number(term)}(?!\w)", re.IGNORECASE)
    fewest = min((worded[stem] for stem in _stems(term)), key=len, default=[])
    having = (other for other in fewest if pattern.search(other["text"]))
    return next((other for other in chain(bold[term], having) if other is not row), None)


def _stems(text: str) -> set[str]:
    """Return the words of a text without the letters that end them in one number or the other (``_any_number``)."""
    return {word.rstrip("eiys") for word in re.findall(r"\w+", text.lower())}


def without_term(text: str, term: str) -> str:
    """Return a definition with the term it defines taken out, so that matching the word alone cannot answer.

    >>> without_term("Preload: stretch of the heart; preload rises with filling", "preload")
    'stretch of the heart; rises with filling'
    """
    pattern = rf"(?<!\w){_any_number(term)}(?!\w)(?:\s*:)?"  # no \b: a term may begin or end with a sign, "Na+"
    bare = re.sub(pattern, "", text, flags=re.IGNORECASE)
    bare = re.sub(r"\s+", " ", re.sub(r"\(\s*\)", "", bare))
    return re.sub(r"^[\s:;,.–—()-]+", "", re.sub(r"\s+([,.;:)])", r"\1", bare)).strip()


def _definition(document: pl.DataFrame) -> list[tuple]:
    """Pair each glossary entry, its term taken out, with the first sentence that introduces the term."""
    first: dict[str, dict] = {}
    for row in document.filter(kind="sentence").iter_rows(named=True):
        for term in row["terms"]:
            first.setdefault(key(term), row)
    out = []
    for row in document.filter(kind="glossary").iter_rows(named=True):
        term = row["terms"][0]
        bare = without_term(row["text"], term)
        sentence = first.get(key(term))
        if sentence is not None and len(bare) >= FEWEST_CHARS:
            out.append(_row(row, sentence, anchor=bare, group=f"term:{key(term)}"))
    return out


def _heading(document: pl.DataFrame) -> list[tuple]:
    """Pair each section's path of titles with its first sentence."""
    first = document.filter(pl.col("kind") == "sentence").unique("section", keep="first", maintain_order=True)
    return [
        _row(row, row, anchor=row["section"].replace(" > ", ": "), group=row["passage_id"])
        for row in first.iter_rows(named=True)
    ]


def _adjacent(document: pl.DataFrame) -> list[tuple]:
    """Pair each sentence with the next of its section; where cleaning took one out between, they are no neighbours."""
    rows = document.filter(kind="sentence").rows(named=True)
    return [
        _row(a, b, anchor=a["text"], group=b["passage_id"])
        for a, b in pairwise(rows)
        if a["section"] == b["section"] and _position(b) == _position(a) + 1
    ]


def _question(document: pl.DataFrame) -> list[tuple]:
    """Pair each question with the answer that follows it."""
    rows = document.filter(pl.col("kind").is_in(["question", "answer"])).rows(named=True)
    return [
        _row(q, a, anchor=q["text"], group=a["passage_id"])
        for q, a in pairwise(rows)
        if q["kind"] == "question" and a["kind"] == "answer" and _position(a) == _position(q) + 1
    ]


KINDS = {"definition": _definition, "heading": _heading, "adjacent": _adjacent, "question": _question}


def _row(anchor_row: dict, positive_row: dict, anchor: str, group: str) -> tuple:
    shared = (anchor_row["source"], anchor_row["document"], anchor_row["topic"], anchor_row["split"])
    return (anchor, positive_row["text"], [], anchor_row["passage_id"], positive_row["passage_id"], group, *shared)


def key(term: str) -> str:
    """Return a term in the form under which prose and glossary are matched: lower case, singular."""
    return _singular(re.sub(r"\s+", " ", term.lower()).strip(" .,;:"))


def _singular(term: str) -> str:
    if re.search(r"[^aeiou]ies$", term, re.IGNORECASE):
        return term[:-3] + "y"
    return term[:-1] if term.endswith("s") and not term.endswith(("ss", "is", "us")) else term


def _any_number(term: str) -> str:
    """Return a pattern of a term's singular and plural, whatever the spaces in it: artery, arteries; stenosis, stenoses."""
    one = _singular(term.strip())
    endings = (("y", "(?:y|ies|ys)"), ("is", "[ie]s"), ("", "(?:s|es)?"))
    end, both = next((end, both) for end, both in endings if one.endswith(end))
    return r"\s+".join(map(re.escape, one.removesuffix(end).split())) + both


def _position(row: dict) -> int:
    return int(row["passage_id"].rsplit(":", 1)[1])
