"""What is a language model asked about each passage, and can its reply be used?

A reply is JSON of a known form, or it is refused with a reason that the model is told once. What has to survive in a
paraphrase is what ``retrieval.paraphrases`` keeps, and names: terms of the books, drugs, abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from cardioembed_study import mappings, paths
from cardioembed_study.corpus import pairs, shingles
from cardioembed_study.retrieval import paraphrases
from cardioembed_study.settings import Queries

LENGTHS = {"keyword": (1, 8), "natural_language": (4, 40), "procedure": (3, 40)}  # words of a query; ours
COPIED = 8  # words in a row that a query may not take from its passage; ours
LONGEST_TERM = 4  # words
NAMES = re.compile(  # abbreviations, and drugs by the ends that their classes have
    r"[A-Z]+\d*[A-Z]\w*|\w{2,}(?:olol|pril|sartan|statin|dipine|[pf]arin|xaban|gatran|grel|gliflozin|semide|thiazide|darone|mycin|cillin)s?"
)
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000, pattern=r"^[^\r\n]+$")]
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Task:
    """What is asked of one passage.

    Args:
        kind: of query, or "paraphrase".
        number: queries wanted.
        text: the passage.
        ids: of the sentences that it is made of.
        place: its source, document, topic and split.
        terms: of all books, by their keys (``pairs.key``).
    """

    kind: str
    number: int
    text: str
    ids: tuple[str, ...]
    place: tuple[str, str, str, str]
    terms: frozenset[str]


class Query(BaseModel):
    """One query, and how well its passage answers it: 3 in full, 2 in part, 1 names the subject."""

    model_config = ConfigDict(strict=True, extra="forbid")
    query: Line
    relevance: Annotated[int, Field(ge=1, le=3)]


class Written(BaseModel):
    """A reply with queries, as many as were asked for and of the kind's form."""

    model_config = ConfigDict(strict=True, extra="forbid")
    queries: list[Query]

    @model_validator(mode="after")
    def _fit(self, info: ValidationInfo) -> Written:
        task: Task = info.context
        texts = [query.query for query in self.queries]
        if len({text.casefold() for text in texts}) != task.number or len(texts) != task.number:
            _refuse("wrong_number", f"found {len(texts)} queries, wanted {task.number} different ones")
        few, many = LENGTHS[task.kind]
        runs = _runs(task.text)
        for text in texts:
            if not few <= (n := len(text.split())) <= many:
                _refuse("wrong_length", f"a query has {n} words, wanted {few} to {many}")
            if task.kind != "procedure" and text.endswith("?") != (task.kind == "natural_language"):
                _refuse(
                    "wrong_form", f"wanted {'no question' if task.kind == 'keyword' else 'a question mark at the end'}"
                )
            if runs & _runs(text):
                _refuse("copied", f"a query copies {COPIED} words in a row from the passage; use other words")
        return self


class Paraphrase(BaseModel):
    """A reply with a paraphrase that keeps numbers, negations, directions and names, and changes enough of the rest."""

    model_config = ConfigDict(strict=True, extra="forbid")
    paraphrase: Line

    @model_validator(mode="after")
    def _fit(self, info: ValidationInfo) -> Paraphrase:
        task: Task = info.context
        before, after = (shingles.words(text) for text in (task.text, self.paraphrase))
        if lost := names(task.text, task.terms) - names(self.paraphrase, task.terms):
            _refuse("lost_name", f"the paraphrase lost {', '.join(sorted(lost))}; keep every name as it is written")
        if not paraphrases.faithful(task.text, self.paraphrase):
            _refuse("unfaithful", "a number, a unit, a negation, a side or a direction changed; keep them as they are")
        if 1 - shingles.jaccard(frozenset(before), frozenset(after)) < paraphrases.LEAST_CHANGED:
            _refuse("too_alike", "too few words differ from the sentence; use other words")
        if not len(before) / 2 <= len(after) <= 2 * len(before):
            _refuse("wrong_length", "the paraphrase is less than half or more than twice as long as the sentence")
        return self


def prompts() -> dict[str, str]:
    """Return the prompts by kind, and ``system``, which goes before each.

    Raises:
        ValueError: one is missing or unknown, or has no place for the passage.
    """
    found, wanted = mappings.read(paths.PROMPTS), {"system", *LENGTHS, "paraphrase"}
    for name in sorted(wanted ^ found.keys()):
        raise ValueError(
            f"{paths.PROMPTS.name}: {name!r} is {'missing' if name in wanted else 'no prompt'}; it has {sorted(wanted)}"
        )
    for name, text in found.items():
        if not isinstance(text, str) or (name != "system" and text.count("{passage}") != 1):
            raise ValueError(f"{paths.PROMPTS.name}: {name!r} wants a text with one {{passage}}")
    return found


def first(task: Task, texts: dict[str, str]) -> Messages:
    """Return the messages that ask for a task.

    Args:
        task: the passage and what is wanted of it.
        texts: ``prompts``.
    """
    asked = texts[task.kind].replace("{number}", str(task.number)).replace("{passage}", task.text)
    return [{"role": "system", "content": texts["system"].strip()}, {"role": "user", "content": asked.strip()}]


def again(messages: Messages, reply: str, fault: str) -> Messages:
    """Return the messages that ask once more, after a reply that could not be used."""
    asked = (
        f"That cannot be used: {fault}. Answer again, in full, with one JSON object of that form and nothing around it."
    )
    return [*messages, {"role": "assistant", "content": reply or "-"}, {"role": "user", "content": asked}]


def read(task: Task, reply: str) -> list[tuple[str, int]]:
    """Return the queries of a reply with their relevance; of a paraphrase itself, with 3.

    Args:
        task: what was asked.
        reply: the model's text; what stands before the first and behind the last brace is not read.

    Raises:
        Fault: the reply cannot be used.
    """
    inside = re.search(r"\{.*\}", reply, re.S)
    kind = Paraphrase if task.kind == "paraphrase" else Written
    try:
        got: Any = kind.model_validate_json(inside[0] if inside else reply, context=task)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = f"field {'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise Fault(first["type"], f"{place}{first['msg']}") from None
    return [(got.paraphrase, 3)] if kind is Paraphrase else [(query.query, query.relevance) for query in got.queries]


class Fault(ValueError):
    """Why a reply cannot be used: ``kind``, as it is counted, and a sentence for the model."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind


def tasks(passages: pl.DataFrame, p: Queries) -> list[Task]:
    """Return everything that is asked, kind by kind; of each kind the same passages, at most ``p.limit``, drawn by the seed.

    Queries are asked of up to ``p.sentences`` neighbouring sentences of one section, paraphrases of single sentences.

    Args:
        passages: of the corpus (``passages.SCHEMA`` with ``split``).
        p: the notebook's parameters.
    """
    terms, sentences = known_terms(passages), passages.filter(kind="sentence")
    out = []
    for kind in p.kinds:
        number, size = (1, 1) if kind == "paraphrase" else (p.each, p.sentences)
        found = list(_windows(sentences, size))
        drawn = np.sort(np.random.default_rng(p.seed).permutation(len(found))[: p.limit or len(found)])
        out += [Task(kind, number, *found[n], terms) for n in drawn]
    return out


def known_terms(passages: pl.DataFrame) -> frozenset[str]:
    """Return the keys of all terms that the books define or set apart."""
    return frozenset(pairs.key(term) for term in passages["terms"].explode().drop_nulls().unique())


def names(text: str, terms: frozenset[str]) -> set[str]:
    """Return the names in a text: terms, whatever their number, drugs and abbreviations.

    >>> sorted(names("Give bisoprolol before the ECG; heart valves are seen.", frozenset(["heart valve"])))
    ['bisoprolol', 'ecg', 'heart valve']
    """
    tokens = re.findall(r"[\w-]+", text)
    runs = (pairs.key(" ".join(tokens[i : i + n])) for n in range(1, LONGEST_TERM + 1) for i in range(len(tokens)))
    return terms.intersection(runs) | {pairs.key(token) for token in tokens if NAMES.fullmatch(token)}


def _windows(sentences: pl.DataFrame, size: int) -> Iterator[tuple[str, tuple[str, ...], tuple[str, str, str, str]]]:
    """Yield text, ids and place of each run of so many neighbours; the last of a section may be shorter."""
    for _, section in sentences.group_by("source", "document", "section", maintain_order=True):
        for part in section.iter_slices(size):
            place = part.select("source", "document", "topic", "split").row(0)
            yield " ".join(part["text"]), tuple(part["passage_id"]), place


def _runs(text: str) -> set[tuple[str, ...]]:
    tokens = shingles.words(text)
    return set(zip(*(tokens[n:] for n in range(COPIED)), strict=False))


def _refuse(kind: str, said: str) -> None:
    raise PydanticCustomError(kind, "{said}", {"said": said})
