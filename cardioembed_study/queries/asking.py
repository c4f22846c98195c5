"""What is a language model asked about each passage, and can its reply be used?

A paraphrase has to keep what ``corpus.rewording`` keeps, and names: terms of the books, drugs, abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from cardioembed_study import mappings, paths
from cardioembed_study.corpus import pairs, rewording, shingles
from cardioembed_study.settings import Queries

LENGTHS = {"keyword": (1, 8), "natural_language": (4, 40), "procedure": (3, 40)}  # words of a query; ours
COPIED = 8  # words in a row that a query may not take from its passage; ours
LONGEST_TERM = 4  # words
NAMES = re.compile(  # abbreviations, and drugs by the ends that their classes have
    r"[A-Z]+\d*[A-Z]\w*|\w{2,}(?:olol|pril|sartan|statin|dipine|[pf]arin|xaban|gatran|grel|gliflozin|semide|thiazide|darone|mycin|cillin)s?"
)
Line = Annotated[  # without line ends, and characters that are not seen
    str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]+$")
]


@dataclass(frozen=True)
class Task:
    """What is asked of one passage."""

    kind: str  # of query, or "paraphrase"
    number: int  # queries wanted
    text: str  # the passage
    passage_id: str  # of its first sentence, and how many more follow: "primer:d0:00000+2"
    place: tuple[str, str, str, str]  # its source, document, topic and split
    terms: frozenset[str]  # of all books, by their keys (``pairs.key``)


class Fault(ValueError):
    """Why a reply cannot be used: the kind of fault, as it is counted, and a sentence for the model."""


class Query(BaseModel, strict=True, extra="forbid"):
    """One query, and how well its passage answers it: 3 in full, 2 in part, 1 names the subject."""

    query: Line
    relevance: Annotated[int, Field(ge=1, le=3)]


class Written(BaseModel, strict=True, extra="forbid"):
    """A reply with queries."""

    queries: list[Query]


class Paraphrase(BaseModel, strict=True, extra="forbid"):
    """A reply with a paraphrase."""

    paraphrase: Line


def prompts() -> dict[str, str]:
    """Return the prompts by kind, and ``system``, which goes before each.

    Raises:
        ValueError: one is missing or unknown, or has no place for the passage.
    """
    found, wanted = mappings.read(paths.PROMPTS), {"system", *LENGTHS, "paraphrase"}
    if found.keys() != wanted:
        raise ValueError(f"{paths.PROMPTS.name} has the prompts {sorted(found)}, wanted {sorted(wanted)}")
    for name, text in found.items():
        if not isinstance(text, str) or (name != "system" and text.count("{passage}") != 1):
            raise ValueError(f"{paths.PROMPTS.name}: {name!r} wants a text with one {{passage}}")
    return found


def first(task: Task, texts: dict[str, str]) -> list[dict[str, str]]:
    """Return the messages that ask for a task, made of ``prompts``."""
    asked = texts[task.kind].replace("{number}", str(task.number)).replace("{passage}", task.text)
    return [{"role": "system", "content": texts["system"].strip()}, {"role": "user", "content": asked.strip()}]


def read(task: Task, reply: str) -> list[tuple[str, int]]:
    """Return the queries of a reply with their relevance; of a paraphrase itself, with 3.

    Args:
        task: what was asked.
        reply: the model's text; what stands before the first and behind the last brace is not read.

    Raises:
        Fault: the reply is not of its form, or a query or paraphrase not as it must be.
    """
    inside = reply[reply.find("{") : reply.rfind("}") + 1]
    form = Paraphrase if task.kind == "paraphrase" else Written
    try:
        got = form.model_validate_json(inside or reply)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Fault(fault["type"], f"{'.'.join(map(str, fault['loc'])) or 'the reply'}: {fault['msg']}") from None
    if isinstance(got, Paraphrase):
        _check_paraphrase(task, got.paraphrase)
        return [(got.paraphrase, 3)]
    _check_queries(task, [query.query for query in got.queries])
    return [(query.query, query.relevance) for query in got.queries]


def _check_queries(task: Task, texts: Sequence[str]) -> None:
    few, many = LENGTHS[task.kind]
    passage = shingles.shingle_set(shingles.words(task.text), COPIED)
    if not len({text.casefold() for text in texts}) == len(texts) == task.number:
        raise Fault("wrong_number", f"found {len(texts)} queries, wanted {task.number} different ones")
    for text in texts:
        if not few <= (n := len(text.split())) <= many:
            raise Fault("wrong_length", f"a query has {n} words, wanted {few} to {many}")
        if task.kind == "keyword" and text.endswith("?"):
            raise Fault("wrong_form", "wanted no question")
        if task.kind == "natural_language" and not text.endswith("?"):
            raise Fault("wrong_form", "wanted a question mark at the end")
        if passage & shingles.shingle_set(shingles.words(text), COPIED):
            raise Fault("copied", f"a query copies {COPIED} words in a row from the passage; use other words")


def _check_paraphrase(task: Task, text: str) -> None:
    before, after = shingles.words(task.text), shingles.words(text)
    if lost := names(task.text, task.terms) - names(text, task.terms):
        raise Fault("lost_name", f"the paraphrase lost {', '.join(sorted(lost))}; keep every name as it is written")
    if not rewording.faithful(task.text, text):
        raise Fault("unfaithful", "a number, a unit, a negation, a side or a direction changed; keep them as they are")
    if 1 - shingles.jaccard(frozenset(before), frozenset(after)) < rewording.LEAST_CHANGED:
        raise Fault("too_alike", "too few words differ from the sentence; use other words")
    if not len(before) / 2 <= len(after) <= 2 * len(before):
        raise Fault("wrong_length", "the paraphrase is less than half or more than twice as long as the sentence")


def tasks(passages: pl.DataFrame, p: Queries) -> list[Task]:
    """Return everything that is asked, kind by kind; of each kind the same passages (``drawn``).

    Queries are asked of up to ``p.sentences`` neighbouring sentences of one section, paraphrases of single sentences.

    Args:
        passages: of the corpus (``passages.SCHEMA`` with ``split``).
        p: the notebook's parameters.
    """
    terms = frozenset(pairs.key(term) for term in passages["terms"].explode().drop_nulls().unique())
    sections = passages.filter(kind="sentence").group_by("source", "document", "section", maintain_order=True)
    made = []
    for kind in p.kinds:
        number, size = (1, 1) if kind == "paraphrase" else (p.each, p.sentences)
        for part in drawn([part for _, section in sections for part in section.iter_slices(size)], p):
            passage_id = part["passage_id"][0] + (f"+{len(part) - 1}" if len(part) > 1 else "")
            place = part.select("source", "document", "topic", "split").row(0)
            made.append(Task(kind, number, " ".join(part["text"]), passage_id, place, terms))
    return made


def drawn(things: list, p: Queries) -> list:
    """Return at most ``p.limit`` things in their order, drawn by the seed; all where it is 0."""
    chosen = np.random.default_rng(p.seed).permutation(len(things))[: p.limit or None]
    return [things[n] for n in sorted(chosen)]


def names(text: str, terms: frozenset[str]) -> set[str]:
    """Return the names in a text: terms, whatever their number, drugs and abbreviations.

    >>> sorted(names("Give bisoprolol before the ECG; heart valves are seen.", frozenset(["heart valve"])))
    ['bisoprolol', 'ecg', 'heart valve']
    """
    tokens = re.findall(r"[\w-]+", text)
    runs = (pairs.key(" ".join(tokens[i : i + n])) for n in range(1, LONGEST_TERM + 1) for i in range(len(tokens)))
    return terms.intersection(runs) | {pairs.key(token) for token in tokens if NAMES.fullmatch(token)}
