"""What does an OpenStax module (CNXML) say, in order?

Not prose, and left out: tables, equations on their own line, reviews of multiple choice, references, and boxes that
only send the reader to a film or a site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from lxml import etree

from cardioembed_study.corpus.blocks import FOR_LEARNERS, NOT_PROSE, REFERENCE, Block, in_glossary, superscript, tidy

_SECTIONS_WITHOUT_PROSE_WORDS = (
    "multiple-choice interactive-exercise review-questions critical-thinking references suggested-reading "
    "further-reading learning-objectives contrib-auth sr-contrib-auth reviewers art-attribution"
)
SECTIONS_WITHOUT_PROSE = frozenset(_SECTIONS_WITHOUT_PROSE_WORDS.split())
_NOTES_WITHOUT_PROSE_WORDS = "interactive media-feature link-to-learning chapter-objectives practice-problems"
NOTES_WITHOUT_PROSE = frozenset(_NOTES_WITHOUT_PROSE_WORDS.split())
_NOT_INLINE_WORDS = "list figure table media note footnote equation exercise iframe image"
NOT_INLINE = frozenset(_NOT_INLINE_WORDS.split())
_SPACED = frozenset("=×÷+−<>≤≥≈→±·∙")


def read(text: str, name: str) -> list[Block]:
    """Return the blocks of one OpenStax module: prose and exercises in order, then the glossary."""
    root = parse(text, name, "document")
    title = _title(root) or PurePosixPath(name).stem
    blocks = [
        b for part in root if _tag(part) == "content" and not NOT_PROSE.match(title) for b in _walk(part, (title,))
    ]
    entries = [b for part in root if _tag(part) == "glossary" for b in _glossary(part, (title, "Glossary"))]
    return [block for block in blocks + entries if block.text]


def _title(element: etree._Element) -> str:
    title = element.find("{*}title")
    return "" if title is None else _plain(title)


def _walk(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    for child in element:
        yield from _WALKERS.get(_tag(child), _walk)(child, section)


def _nothing(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    return iter(())


def _section(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    classes = _classes(element)
    if classes & SECTIONS_WITHOUT_PROSE:
        return
    title = _title(element)
    if NOT_PROSE.match(title) or FOR_LEARNERS.match(title):
        return
    path = (*section, title) if title and title != section[-1] else section
    yield from _exercises(element, path) if "free-response" in classes else _walk(element, path)


def _note(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    """Walk a box, unless it only sends the reader to a film, a site or an exercise."""
    if not _classes(element) & NOTES_WITHOUT_PROSE and element.find(".//{*}iframe") is None:
        yield from _section(element, section)


def _prose(kind: str, element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    """Yield an element's own words, line by line, then the lists and figures inside it; in a glossary, an entry."""
    first = next(iter(element), None)
    if first is not None and _tag(first) in ("term", "emphasis") and not (element.text or "").strip():
        term, whole = _plain(first), _plain(element)
        if in_glossary(section) and (meaning := whole.removeprefix(term).lstrip(" :–—-")):
            yield Block("glossary", section, meaning, (term,))
            return
    lines = [tidy(line) for line in _inline(element).split("\n")]
    terms = tuple(dict.fromkeys(_plain(term) for term in _introduced(element)))
    for line in _rejoin(lines):
        yield Block(kind, section, line, tuple(term for term in terms if term and term in line))
    yield from _walk_inner(element, section)


def _rejoin(lines: list[str]) -> list[str]:
    """Join lines that a ``newline`` breaks within a sentence: the next one goes on in lower case."""
    joined: list[str] = []
    for line in filter(None, lines):
        if joined and line[0].islower():
            joined[-1] += " " + line
        else:
            joined.append(line)
    return joined


def _walk_inner(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    for child in element:
        if _tag(child) in NOT_INLINE:
            yield from _WALKERS.get(_tag(child), _walk)(child, section)


def _introduced(element: etree._Element) -> Iterator[etree._Element]:
    """Yield the terms an element introduces; ``no-emphasis`` ones are marks for the index only."""
    for child in element:
        if _tag(child) == "term" and "no-emphasis" not in _classes(child):
            yield child
        elif _tag(child) not in NOT_INLINE:
            yield from _introduced(child)


def _paragraph(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    return _prose("paragraph", element, section)


def _item(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    return _prose("item", element, section)


def _caption(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    return _prose("caption", element, section)


def _glossary(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    for definition in element.iterfind(".//{*}definition"):
        term = definition.find("{*}term")
        meaning = "; ".join(_plain(part) for part in definition.iterfind("{*}meaning"))
        if term is not None and meaning:
            yield Block("glossary", section, meaning, (_plain(term),))


def _exercises(element: etree._Element, section: tuple[str, ...]) -> Iterator[Block]:
    """Yield question and answer of each exercise that has both in words."""
    for exercise in element.iterfind(".//{*}exercise"):
        problem, solution = exercise.find("{*}problem"), exercise.find("{*}solution")
        if problem is not None and solution is not None and problem.find(".//{*}list") is None:
            question, answer = _paragraphs(problem), _paragraphs(solution)
            if question and answer:
                yield Block("question", section, question)
                yield Block("answer", section, answer)


def _paragraphs(element: etree._Element) -> str:
    return " ".join(filter(None, (_plain(part) for part in element.iter("{*}para", "{*}item"))))


_WALKERS = {"section": _section, "note": _note, "para": _paragraph, "item": _item, "caption": _caption}


_WALKERS |= dict.fromkeys(
    ["title", "label", "table", "equation", "exercise", "media", "footnote", "metadata"], _nothing
)


def _plain(element: etree._Element) -> str:
    return tidy(_inline(element))


def _inline(element: etree._Element) -> str:
    """Return the words of an element without its lists, figures and notes; ``newline`` becomes a line break."""
    parts = [_space(element.text)]
    for child in element:
        parts.append(_piece(child, "".join(parts[-3:])))
        parts.append(_space(child.tail))
    return "".join(parts)


def _space(text: str | None) -> str:
    return re.sub(r"[\n\t\r]", " ", text or "")


def _piece(child: etree._Element, before: str) -> str:
    tag = _tag(child)
    if tag in NOT_INLINE or not tag:
        return " "
    if tag in ("newline", "space"):
        return "\n" if tag == "newline" else " "
    if tag == "link":
        return _inline(child) or _referred(child)
    if tag == "math":
        return formula(child)
    return superscript(before, _inline(child)) if tag == "sup" else _inline(child)


def _referred(link: etree._Element) -> str:
    """Name what a link without words points at; a whole module has no name here."""
    target = link.get("target-id") or ""
    kind = "table" if target.startswith(("tbl", "table")) else "figure"
    return f"{REFERENCE}the {kind}{REFERENCE}" if target else REFERENCE


def formula(element: etree._Element) -> str:
    """Return presentation MathML as one line of text."""
    tag, parts = _tag(element), [formula(child) for child in element]
    if tag == "mfrac" and len(parts) == 2:
        return "/".join(f"({part.strip()})" if " " in part.strip() else part.strip() for part in parts)
    if tag in ("msup", "msubsup") and len(parts) > 1:
        base, raised = "".join(parts[:-1]), parts[-1].replace(" ", "")
        return base + superscript(base, raised)
    if tag == "msub":
        return "".join(parts).replace(" ", "")
    own = _space(element.text)
    if tag == "mo" and own.strip() in _SPACED and own.strip():
        return f" {own.strip()} "
    inner = own + "".join(parts)
    return {"msqrt": f"√({inner})", "mfenced": f"({inner})", "mtr": f" {inner} "}.get(tag, inner)


def parse(text: str, name: str, *roots: str) -> etree._Element:
    """Return the root of an XML text that declares nothing: no DOCTYPE, so no entity to expand and none to fetch."""
    _refuse_declarations(text, name)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8", remove_comments=True
    )
    try:
        tree = etree.fromstring(text.encode("utf-8"), parser)
    except etree.XMLSyntaxError as error:
        message = f"{name}: broken XML, {error.msg}; wanted a complete {roots[0]!r} document; fetch the file again"
        raise ValueError(message) from None
    if _tag(tree) not in roots:
        raise ValueError(
            f"{name}: the root element is {_tag(tree)!r}, wanted {' or '.join(map(repr, roots))}; check the manifest's format"
        )
    if not "".join(tree.itertext()).strip():
        raise ValueError(f"{name}: empty document, XML without any text; remove it from the manifest")
    return tree


def _refuse_declarations(text: str, name: str) -> None:
    if "<!DOCTYPE" not in text and "<!ENTITY" not in text:
        return
    external = re.search(r"\b(?:SYSTEM|PUBLIC)\s+[\"']", text)
    entity = re.search(r"<!ENTITY\s+(?:%\s+)?([\w.-]{1,40})", text)
    found = "external entity" if entity and external else "entity" if entity else "document type"
    label = f" {entity[1]!r}" if entity else ""
    raise ValueError(
        f"{name}: declares an {found}{label}".replace("an document", "a document")
        + "; wanted XML without DOCTYPE; remove the declaration and write the characters themselves"
    )


def _tag(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _classes(element: etree._Element) -> set[str]:
    return set((element.get("class") or "").split())
