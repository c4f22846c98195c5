"""What can be read in a file that is to be published?

Every text in it, wherever it hides: outputs and metadata of notebooks, strings of JSON, tags and comments, escapes,
base64, compressed parts, what pictures say beside their pixels. What nobody can read is named, and counts as an array.
"""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cardioembed_study.privacy import wrappings

DEPTH = 5  # how many wrappings are opened: gzip in base64 in JSON in JSON …
ARRAY = "array"
CELLS = ("source", "output", "html")  # groups of a notebook
ANSI = re.compile(r"(?:\x1b|\\u001b|\\x1b)\[[0-9;]*[A-Za-z]")
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
TAG = re.compile(r"<!--|-->|<!\[CDATA\[|\]\]>|</?[A-Za-z!?][^<>]*>")
NUMBER_CELL = re.compile(r"(?m)(^|[\t\x0b|,;])[ >\"'\[(#*-]*\d+(?:\.\d+)?[\"'\])]*(?=$|[\s|,;:.)])")
SOFT_BREAK = "\x0b"  # a break that is none in the file, so that lines are counted right


@dataclass(frozen=True)
class Passage:
    """A text with its place in the file; ``group`` says which texts are read one after another."""

    place: str
    text: str
    group: str = "text"


def passages(data: bytes, name: str, place: str = "", depth: int = 0) -> Iterator[Passage]:
    """Yield what can be read in a file, in order; what nobody can read is an empty passage of group ``ARRAY``.

    Args:
        data: the whole file.
        name: its name; tells notebooks and arrays.
        place: where it stands in another file.
        depth: how many wrappings are open around it.
    """
    kind = wrappings.kind(data, name)
    if kind != "text":
        for what, inner in wrappings.inside(data, kind):
            label = _inner(place, what)
            if inner is None or depth >= DEPTH:
                yield Passage(label, "", ARRAY)
            elif isinstance(inner, str):
                yield from readable(inner, label, depth + 1)
            else:
                yield from passages(inner, "", label, depth + 1)
    elif (text := wrappings.decoded(data)) is None:
        yield Passage(_inner(place, "bytes that are no text"), "", ARRAY)
    elif name.endswith(".ipynb") and isinstance(notebook := parsed(text), dict):
        yield from _notebook(notebook)
    else:
        yield from readable(text, place, depth)


def readable(text: str, place: str, depth: int = 0, group: str = "text") -> Iterator[Passage]:
    """Yield a text, the strings of the JSON it may be, and what its base64 and hexadecimal runs say."""
    yield Passage(place, text, group)
    if depth >= DEPTH:
        return
    for what, data in wrappings.encoded(text):
        if wrappings.kind(data, "") == "text":
            yield from readable(wrappings.legible(data), _inner(place, what), depth + 1)
        else:
            yield from passages(data, "", _inner(place, what), depth + 1)
    if values := list(strings(parsed(text))):
        yield Passage(_inner(place, "JSON strings"), "\n".join(values), "json")
    for value in values:
        if len(value) > 20 and ("\n" in value or value[0] in '{["'):
            yield from readable(value, _inner(place, "JSON strings"), depth + 1, "json")


def strings(value: Any) -> Iterator[str]:
    """Yield every string of parsed JSON in order, then its keys.

    >>> list(strings({"a": ["b", {"c": "d"}]}))
    ['b', 'd', 'a', 'c']
    """
    keys: list[str] = []
    yield from _values(value, keys)
    yield from keys


def parsed(text: str) -> Any:
    """Return JSON as values, a list where each line is JSON; ``None`` where it is neither."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return None


def unescaped(text: str) -> str:
    r"""Return a text without the colours of terminals, the escapes of JSON, Python and web addresses undone.

    >>> unescaped(r"no\u0020pain%20at\\nrest").split()
    ['no', 'pain', 'at', 'rest']
    """
    text = ANSI.sub("", text)
    for _ in range(DEPTH):
        if "\\" not in text:
            break
        text = ESCAPE.sub(_character, text)
    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", lambda run: _one_line(urllib.parse.unquote(run[0])), text)


def untagged(text: str) -> str:
    """Return a text without tags, its comments opened and its entities undone; lines stay lines.

    >>> untagged("<b>no</b><!-- pain -->&amp;").split()
    ['no', 'pain', '&']
    """
    if "<" in text:
        text = TAG.sub(lambda tag: SOFT_BREAK + "\n" * tag[0].count("\n"), text)
    return re.sub(r"&#?\w+;", lambda entity: _one_line(html.unescape(entity[0])), text)


def unnumbered(text: str) -> str:
    r"""Return a text without the numbers that begin its lines or stand alone in cells, as an index does.

    >>> unnumbered("0  no\n1  pain").split()
    ['no', 'pain']
    """
    return NUMBER_CELL.sub(r"\1 ", text)


VIEWS: tuple[Callable[[str], str], ...] = (unescaped, untagged, unnumbered)  # one after another


def _values(value: Any, keys: list[str]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        keys += map(str, value)
        for inner in value.values():
            yield from _values(inner, keys)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, keys)


def _notebook(notebook: dict) -> Iterator[Passage]:
    cells = notebook.get("cells")
    rest = {key: value for key, value in notebook.items() if key != "cells"}
    yield from _loose(rest, "metadata")
    for n, cell in enumerate(cells if isinstance(cells, list) else [cells], start=1):
        if not isinstance(cell, dict):
            yield from _loose(cell, f"cell {n}")
            continue
        place = f"cell {cell['id']!r}" if cell.get("id") else f"cell {n}"
        yield from readable(_joined(cell.get("source", "")), place, group="source")
        outputs = cell.get("outputs") or []
        for k, output in enumerate(outputs if isinstance(outputs, list) else [outputs], start=1):
            yield from _output(output, f"{place}, output {k}")
        rest = {key: value for key, value in cell.items() if key not in ("source", "outputs", "cell_type")}
        yield from _loose(rest, f"{place}, metadata")


def _output(output: Any, place: str) -> Iterator[Passage]:
    if not isinstance(output, dict):
        yield from _loose(output, place)
        return
    shown = output.get("data") if isinstance(output.get("data"), dict) else {}
    rest = {key: value for key, value in output.items() if key not in ("output_type", "execution_count")}
    if rest.get("name") in ("stdout", "stderr"):  # between the pieces of a stream it would hide a leak
        del rest["name"]
    rest.pop("data" if shown else "", None)
    for kind, value in [*rest.items(), *shown.items()]:
        text = _joined(value)
        if kind.startswith("image/") and kind != "image/svg+xml":
            for data in wrappings.from_base64(re.sub(r"\s", "", text)) or [text.encode(errors="replace")]:
                yield from passages(data, "", place)
        else:
            yield from readable(text, place, group="html" if kind in ("text/html", "image/svg+xml") else "output")


def _loose(value: Any, place: str) -> Iterator[Passage]:
    """Yield metadata, where a number stands beside its key, and their strings, each by itself where it wraps something."""
    if value:
        yield from readable(json.dumps(value, ensure_ascii=False), place, group="metadata")
    for text in strings(value):
        yield from readable(text, place, group="metadata")


def _joined(value: Any) -> str:
    """Return a text that notebooks keep as one string or as lines; the lines of a traceback have no ends."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in value)
    return json.dumps(value, ensure_ascii=False)


def _character(found: re.Match) -> str:
    code = found[1] or found[2]
    return _one_line(chr(int(code, 16))) if code else SOFT_BREAK if found[3] in "nrtvf" else found[3]


def _one_line(text: str) -> str:
    return text.replace("\r", SOFT_BREAK).replace("\n", SOFT_BREAK)


def _inner(place: str, what: str) -> str:
    return f"{place}, {what}" if place else what
