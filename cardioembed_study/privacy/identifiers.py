"""Which numbers of a text are a patient's, an admission's or a note's, and which are mere counts?

Ids are dense small numbers, so a known number says nothing by itself. Its place does: beside a word such as
``hadm_id``, written ``note123``, or three of them in one column, index or list that is no arrangement of ours.
N ids.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import numpy as np

LEAST = 1000  # a smaller number is an id only where its place says so beyond doubt
SEVERAL = 3  # so many different ids make a column or list of ids
CHANCE = 1e-4  # and so improbable must their being known by chance be, where nothing else speaks for ids
KINDS = ("subject", "patient", "hadm", "admission", "icustay", "stay", "row", "note")
KIND = f"(?:{'|'.join(KINDS)})"
OWN = re.compile(r"(?i)(?<![A-Za-z0-9])(?:subject|patient|hadm|admission|note)[_-]?(\d+)(?!\w|[.,]\d)")  # note123
NAMED = re.compile(
    rf"(?i)(?<![a-z]){KIND}[ _-]?(?:ids?|no|number|nr)\b[\"'\s:=<>#.|\[(),]{{0,40}}(?:[a-z][\w.]{{0,11}}\()?"
    r"(\d+)(?:\.0)?(?![\d.,]*\d|\w)"
)
BESIDE = re.compile(
    r"(?i)(?<![A-Za-z0-9_])(?:subject|patient|pt|admission|hadm|note)[\"']?(?:\s*[:=#]+\s*#?(\d{4,})(?:\.0)?(?![\d.,]*\d|\w|-)"
    r"|\s#?(\d{4,})(?![\d.,]*\d|\w|-|\s*%|\s+(?!(?:was|has|is|does)\b)[a-z]+(?<!s)s\b))"  # "patient 1000 draws" counts
)
COLUMN = re.compile(rf"(?i)(?:^|.*[^a-z]){KIND}[ _-]?ids?$")  # the heading of a column of ids
LONE = re.compile(r"(?i)(?:subject|patient|admission|hadm|note)s?$")  # a heading that may be one
NUMBER = re.compile(r"[\"'\[(]*(\d{1,12})(?:\.0+)?[\"'\])]*")
LIST = re.compile(r"[\[({]\s*['\"]?\d+(?:\.0*)?['\"]?(?:[,\s]+['\"]?\d+(?:\.0*)?['\"]?){2,}[,\s]*[\])}]")
RULED = re.compile(r"[\s|:+─═━┌┐└┘├┤┬┴┼╞╡╪╤╧═-]*")


@dataclass(frozen=True)
class Column:
    """What stands below one another in a table, or after one another in a list at ``place``; an index has no heading."""

    head: str
    cells: Sequence[str] = field(repr=False)
    index: bool = False
    place: int = 0


@dataclass(frozen=True)
class Known:
    """The ids of a profile: (N,) int64, sorted and different."""

    ids: np.ndarray

    def __contains__(self, number: int) -> bool:
        return bool(self.among([number])[0])

    def among(self, numbers: Sequence[int]) -> np.ndarray:
        """Return, for each number, whether it is an id."""
        if not len(self.ids):
            return np.zeros(len(numbers), dtype=bool)
        return self.ids[np.minimum(np.searchsorted(self.ids, numbers), len(self.ids) - 1)] == np.asarray(numbers)

    def chance(self, numbers: Sequence[int]) -> float:
        """Return the probability that numbers of this size are all ids by chance: the product of the shares of ids near them."""
        low, high = np.asarray(numbers) * 0.8, np.asarray(numbers) * 1.25
        near = np.searchsorted(self.ids, high, side="right") - np.searchsorted(self.ids, low)
        return float(np.prod(np.minimum(near / (high - low), 1.0)))


def in_text(text: str, known: Known) -> list[int]:
    """Return the places in a text of ids that the words beside them, or their list, give away."""
    marked = list(_marked(text))
    places = [
        found.start() for found in marked if int(found[found.lastindex]) in known and not _enumerated(text, found)
    ]
    lists = (Column("", re.findall(r"\d+(?:\.0*)?", found[0]), place=found.start()) for found in LIST.finditer(text))
    return sorted(places + [column.place for column in lists if is_of_ids(column, known)])


def is_of_ids(column: Column, known: Known) -> bool:
    """Whether a column or list holds ids: by its heading, or because so many known numbers are there by no chance."""
    found = [NUMBER.fullmatch(cell.strip()) for cell in column.cells]
    numbers = list(dict.fromkeys(int(number[1]) for number in found if number))
    ids = [number for number, is_id in zip(numbers, known.among(numbers), strict=True) if is_id] if numbers else []
    if COLUMN.fullmatch(column.head.strip()):
        return bool(ids) and (len(ids) >= SEVERAL or max(ids) >= LEAST or len(ids) == len(numbers))
    large = [number for number in ids if number >= LEAST]
    if LONE.fullmatch(column.head.strip()) and not column.head.strip().endswith("s"):
        return bool(large)
    if len(large) < SEVERAL or len(ids) < 0.6 * len(numbers) or is_arranged(numbers):
        return False
    return column.index or column.head.strip().lower() in ("id", "ids") or known.chance(large) < CHANCE


def is_arranged(numbers: Sequence[int]) -> bool:
    """Whether numbers are steps, round sizes or powers, as axes and schedules have them, and not drawn by nature.

    >>> is_arranged([1000, 1500, 2000, 2311]), is_arranged([1024, 4096]), is_arranged([1042, 1760, 2299])
    (True, True, False)
    """
    ordered = sorted(numbers)
    steps = {b - a for a, b in pairwise(ordered[:-1] if len(ordered) > SEVERAL else ordered)}
    powers = all(number & (number - 1) == 0 for number in ordered)
    return (
        len(steps) == 1
        or powers
        or all(len(str(number).rstrip("0")) <= 2 for number in ordered[: max(SEVERAL, len(ordered) - 1)])
    )


def _marked(text: str) -> Iterator[re.Match]:
    """Yield numbers with their word; words are looked for first, which is quicker than three patterns from every letter on."""
    lower = text.lower() if text.isascii() else re.sub("[A-Z]", lambda letter: letter[0].lower(), text)
    for word in (*KINDS, "pt"):
        at = lower.find(word)
        while at >= 0:
            yield from filter(None, (pattern.match(text, at) for pattern in (OWN, NAMED, BESIDE)))
            at = lower.find(word, at + 1)


def _enumerated(text: str, found: re.Match) -> bool:
    """Whether the numbers before and after stand beside it too, as in a vocabulary, where words are counted through."""
    number = int(found[found.lastindex])
    near = re.findall(r"\d+", text[max(0, found.start() - 80) : found.end() + 80])
    return str(number - 1) in near and str(number + 1) in near


def columns(text: str) -> Iterator[Column]:
    """Yield the columns of every table in a text: of HTML, Markdown, CSV, of frames as they are printed, of bare numbers."""
    rows = [_cells(line) for line in _html_rows(text).splitlines() if not RULED.fullmatch(line)]
    for _, group in groupby(rows, key=lambda row: (row[0], len(row[1]))):
        table = [cells for _, cells in group]
        if len(table) >= 2:
            yield from _of_table(table)


def of_csv(text: str) -> Iterator[Column]:
    """Yield the columns of a CSV file, in which cells may have several lines."""
    csv.field_size_limit(1 << 30)
    rows = list(
        csv.reader(text.splitlines(keepends=True), delimiter="\t" if text.partition("\n")[0].count("\t") else ",")
    )
    yield from _of_table(rows)


def of_json(value: Any, head: str = "") -> Iterator[Column]:
    """Yield the lists and numbers of parsed JSON with the key they stand under, keys that are numbers, and columns of rows."""
    if isinstance(value, dict):
        numbers = [key for key in value if NUMBER.fullmatch(key)]
        yield Column("", numbers if len(numbers) > len(value) / 2 else [], index=True)
        plain = {inner for inner in value.values() if type(inner) is int}
        for key, inner in value.items():
            below = head if NUMBER.fullmatch(key) else key
            if isinstance(inner, (dict, list)):
                yield from of_json(inner, below)
            elif (COLUMN.fullmatch(below) or LONE.fullmatch(below)) and not (
                type(inner) is int and {inner - 1, inner + 1} <= plain  # words counted through, as in a vocabulary
            ):
                yield Column(below, _scalars([inner]))
    elif isinstance(value, list):
        rows = [row for row in value if isinstance(row, dict)]
        for key in dict.fromkeys(key for row in rows for key in row):
            yield Column(key, _scalars(row.get(key) for row in rows))
        lists = [row for row in value if isinstance(row, list)]
        for n in range(max(map(len, lists), default=0)):
            yield Column("", _scalars(row[n] for row in lists if n < len(row)))
        yield Column(head, _scalars(value))
        for inner in value:
            if isinstance(inner, (dict, list)):
                yield from of_json(inner, head)


def _scalars(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values if isinstance(value, (int, float, str)) and not isinstance(value, bool)]


def _html_rows(text: str) -> str:
    """Return a text with each row of an HTML table on a line, its cells between tabs."""
    if "<t" not in text:
        return text
    text = re.sub(r"</t[dh]>\s*<t[dh][^<>]*>", "\t", text)
    text = re.sub(r"[ \n]*</?(?:tr|t[dh]|tbody|thead|table)\b[^<>]*>[ \n]*", "\n", text)
    return re.sub(r"\n{2,}", "\n", re.sub(r"<[^<>]*>", "", text))


def _cells(line: str) -> tuple[str, list[str]]:
    """Return by what a line is divided, and its cells; a line that is one number is a cell by itself."""
    for sign in "│|\t":
        if sign in line:
            inner = line.replace("┆", "│").rstrip()
            return sign, [cell.strip() for cell in inner.strip("|│").split(sign)] if sign != "\t" else line.split(sign)
    if "  " in line:
        return " ", [cell.strip() for cell in re.split(r"\s{2,}", line.rstrip())]
    if "," in line:
        return ",", line.split(",")
    return ("1", [line]) if NUMBER.fullmatch(line.strip()) else ("", [line])


def _of_table(rows: list[list[str]]) -> Iterator[Column]:
    width = max(map(len, rows), default=0)
    for n in range(width):
        head, *cells = [row[n] if n < len(row) else "" for row in rows]
        headed = not NUMBER.fullmatch(head.strip())
        bare = n == 0 and width > 1 and not (headed and head.strip())
        yield Column(head if headed else "", cells if headed else [head, *cells], index=bare)
