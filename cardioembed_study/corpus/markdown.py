"""What does a textbook in Markdown say, in order? Made for the primer and for books that come from OCR.

Every step looks at one line at a time, and no pattern passes a second opening bracket: time is linear in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath

from cardioembed_study.corpus.blocks import NOT_PROSE, Block, superscript, tidy

HEAD_LINES = 3  # a short line standing alone this often is a running head
HEAD_CHARS = 70
_KEEP_HYPHEN_WORDS = (
    "after alpha anti beta by co cross end follow gamma half high intra inter left life long low mid multi non "
    "one over post pre right self semi short sub three time two under well x"
)
KEEP_HYPHEN = frozenset(_KEEP_HYPHEN_WORDS.split())
_HEADING = re.compile(r"(#{1,6})\s+(\S.*)")
_ITEM = re.compile(r"\s{0,12}(?:[-*+•]|\d{1,2}[.)])\s+(\S.*)")
_CAPTION = re.compile(
    r"(?:Figure|Fig\.?|Table|Box|Plate|Algorithm|Exhibit)\s\d[\d.–-]{0,8}[A-Za-z]?\s?[.:|—–-]?\s(?=[A-Z“])"
)
_PAGE = re.compile(r"(?:[-–—|\s]*(?:page|p\.)?\s?(?:\d{1,4}|[ivxlc]{1,7})(?:\sof\s\d{1,4})?[-–—|\s]*|\{\d+\}-*)", re.I)
_ENTRY = re.compile(r"\*\*([^*]+)\*\*\s?[:–—-]?\s?")
_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]{0,9})(?:\s[^<>]*)?/?>")
_MARKUP_WORDS = "a b i u em strong span p br div img font small center sub sup hr"
_MARKUP = frozenset(_MARKUP_WORDS.split())


@dataclass
class _Paragraph:
    kind: str
    line: int
    parts: list[str] = field(default_factory=list)


def read(text: str, name: str) -> list[Block]:
    r"""Return the blocks of a Markdown text.

    A term is in ``**bold**`` where the prose introduces it; a section ``Glossary`` holds ``- **term**: meaning``;
    ``**Q:**`` and ``**A:**`` are a question and its answer. Tables, quotations (``>``), pictures, code, page numbers,
    running heads and lists of references are left out.

    Raises:
        ValueError: a question without its answer, or the reverse.

    >>> [b.kind for b in read("## Questions\n\n**Q:** Why?\n\n**A:** Because.", "a.md")]
    ['question', 'answer']
    """
    lines = _without_comments(text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")).split("\n")
    furniture = _furniture(lines)
    words = _words(text)
    blocks = list(_blocks(_paragraphs(lines, furniture), words, PurePosixPath(name).stem))
    _check_questions(blocks, name)
    return blocks


def read_text(text: str, name: str) -> list[Block]:
    """Return the blocks of plain text: lone numbered lines and lone lines in capitals are its headings."""
    lines = ["", *text.replace("\r\n", "\n").replace("\f", "\n\n").split("\n"), ""]
    return read("\n".join(map(_as_heading, lines, lines[1:], lines[2:])) if len(lines) > 3 else text, name)


def _as_heading(before: str, line: str, after: str) -> str:
    bare = line.strip()
    alone = not before.strip() and not after.strip() and 3 < len(bare) < HEAD_CHARS and bare[-1] not in ".,;:?!"
    numbered = re.match(r"(?:(?:chapter|part|section)\s)?\d{1,2}(?:\.\d{1,2}){0,3}\.?\s+[A-Z]", bare, re.I)
    titled = alone and any(map(str.isalpha, bare)) and (bare.isupper() or numbered)
    return f"## {bare}" if titled else line


def _without_comments(text: str) -> str:
    """Return the text without HTML comments; one that never ends is left, so that no text is lost."""
    parts, start = [], 0
    while (opening := text.find("<!--", start)) >= 0 and (closing := text.find("-->", opening)) >= 0:
        parts.append(text[start:opening])
        start = closing + 3
    return "".join([*parts, text[start:]])


def _words(text: str) -> set[str]:
    """Return every word of a text, hyphens kept: they decide what a hyphen at a line's end meant."""
    return set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*(?!-?\n)", text.lower()))


def _furniture(lines: list[str]) -> set[int]:
    """Return the numbers of lines that belong to the page: its number and its running head."""
    bare = {n: line.strip() for n, line in enumerate(lines) if 0 < len(line.strip()) <= HEAD_CHARS}
    pages = {n for n, line in bare.items() if _PAGE.fullmatch(line)}
    alone = {n: _head(line) for n, line in bare.items() if n not in pages and _alone(lines, n, pages)}
    often = Counter(alone.values())
    return pages | {n for n, head in alone.items() if head and often[head] >= HEAD_LINES}


def _head(line: str) -> str:
    """Return a running head without its page number; nothing for what cannot be one."""
    if line[0] in "#>|-*+•" or line[-1] in ".?!:;,-\u00ad":
        return ""
    return line.strip("0123456789|–—- ").lower()


def _alone(lines: list[str], n: int, pages: set[int]) -> bool:
    return all(not 0 <= k < len(lines) or k in pages or not lines[k].strip() for k in (n - 1, n + 1))


def _paragraphs(lines: list[str], furniture: set[int]) -> Iterator[_Paragraph]:
    """Yield headings, paragraphs and items; a page break within a sentence does not end its paragraph."""
    current, page_break, fence = None, False, ""
    for n, line in enumerate(lines):
        bare, fence, hidden = *_fenced(line.strip(), fence), bool(fence)
        if n in furniture or not bare:
            page_break |= n in furniture
            if current and not page_break and not _open_end(current, lines, n, furniture):
                yield current
                current = None
            continue
        if hidden or bare[0] in ">|" or bare.startswith(("```", "$$", "[^", "---", "***", "===", "![")):
            continue
        started = _start(line, n)
        if current and (started.kind != "paragraph" or (page_break and not _goes_on(current.parts[-1], bare))):
            yield current
            current = None
        current = current or started
        if current is not started:
            current.parts.append(bare)
        page_break = False
        if current.kind.startswith("#"):
            yield current
            current = None
    if current:
        yield current


def _fenced(bare: str, fence: str) -> tuple[str, str]:
    """Return the line and the mark that ends the hidden part it is in: code, formulas or an HTML table."""
    if fence:
        return bare, "" if bare.endswith(fence) else fence
    if bare.startswith(("```", "$$")):
        mark = bare[:2] if bare[0] == "$" else "```"
        return bare, "" if len(bare) > len(mark) and bare.endswith(mark) else mark
    opens = bare.lower().startswith("<table")
    return ("|" if opens else bare), "</table>" if opens and "</table>" not in bare.lower() else ""


def _open_end(current: _Paragraph, lines: list[str], n: int, furniture: set[int]) -> bool:
    """Whether the next line that is not blank belongs to the page, so that the paragraph may go on behind it."""
    following = next((k for k in range(n + 1, min(n + 4, len(lines))) if lines[k].strip()), -1)
    return following in furniture


def _goes_on(before: str, after: str) -> bool:
    return before[-1] not in ".?!:" and (after[0].islower() or before[-1] == "-")


def _start(line: str, n: int) -> _Paragraph:
    if heading := _HEADING.match(line):
        return _Paragraph(heading[1], n + 1, [heading[2].strip("# ")])
    if (item := _ITEM.match(line)) and not line.lstrip().startswith("**"):
        return _Paragraph("item", n + 1, [item[1].strip()])
    return _Paragraph("paragraph", n + 1, [line.strip()])


def _blocks(paragraphs: Iterator[_Paragraph], words: set[str], stem: str) -> Iterator[Block]:
    titles: list[tuple[int, str]] = []
    for paragraph in paragraphs:
        marked = _join(paragraph.parts, words)
        if paragraph.kind.startswith("#"):
            level = len(paragraph.kind)
            titles = [title for title in titles if title[0] < level] + [(level, _inline(marked))]
        elif not any(NOT_PROSE.match(title) for _, title in titles):
            section = tuple(title for _, title in titles) or (stem,)
            yield from filter(lambda block: block.text, _block(paragraph.kind, section, marked))


def _join(parts: list[str], words: set[str]) -> str:
    """Join the lines of a paragraph and mend words that were divided at a line's end."""
    ends = (_ended(before, after, words) for before, after in pairwise(parts))
    return "".join([*ends, parts[-1]])


def _ended(before: str, after: str, words: set[str]) -> str:
    """Return a line as it runs on into the next one: with a space, with its hyphen, or without it."""
    if before.endswith("\u00ad"):
        return before[:-1]
    first = re.search(r"[^\W\d_]+(?=-$)", before[-60:])
    second = re.match(r"[^\W\d_]+", after)
    if not first or not second:
        return before + " "
    whole, hyphened = (f"{first[0]}{mark}{second[0]}".lower() for mark in ("", "-"))
    compound = hyphened in words or (whole not in words and first[0].lower() in KEEP_HYPHEN)
    return before if compound or not after[0].islower() else before[:-1]


def _block(kind: str, section: tuple[str, ...], marked: str) -> Iterator[Block]:
    entry = _ENTRY.match(marked)
    above = [title for title in section if len(title) > 3] or section  # entries may stand below "A" or "X–Z"
    if entry and re.match(r"glossary|key terms", above[-1], re.I):
        yield Block("glossary", section, _inline(marked[entry.end() :]), (_inline(entry[1]).rstrip(" :"),))
    elif entry and entry[1].strip() in ("Q:", "Q.", "A:", "A."):
        yield from _question_parts(section, marked)
    elif caption := _CAPTION.match(_inline(marked)):
        yield Block("caption", section, _inline(marked)[caption.end() :])
    else:
        bold = [_inline(term) for term in re.findall(r"\*\*([^*]+)\*\*", marked)]
        yield Block(kind, section, _inline(marked), tuple(term for term in bold if term and term[-1] not in ":.?!"))


def _question_parts(section: tuple[str, ...], marked: str) -> Iterator[Block]:
    pieces = re.split(r"\*\*([QA])[:.]\s?\*\*", marked)
    for letter, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        yield Block("question" if letter == "Q" else "answer", section, _inline(piece))


def _check_questions(blocks: list[Block], name: str) -> None:
    """Refuse a question that is not followed by its answer: pairs would shift."""
    kinds = [block.kind for block in blocks] + [""]
    for block, kind, after in zip(blocks, kinds, kinds[1:], strict=False):
        if kind == "question" and after != "answer":
            raise ValueError(f"{name}: question {block.text[:60]!r} has no answer; add one that starts with **A:**")
    if kinds.count("answer") != kinds.count("question"):
        n_questions, n_answers = kinds.count("question"), kinds.count("answer")
        raise ValueError(f"{name}: {n_answers} answers to {n_questions} questions; begin each question with **Q:**")


def _inline(marked: str) -> str:
    """Return Markdown without its marks: pictures and footnotes go, the words of links stay."""
    text = re.sub(r"!\[[^\[\]]*\]\([^()]*\)|\[\^[^\[\]]*\]", " ", marked)
    text = re.sub(r"\[([^\[\]]*)\]\([^()]*\)", r"\1", text)
    text = re.sub(r"<(sup|sub)>([^<>]*)</\1>", lambda m: _raised(text, m), text)
    text = _TAG.sub(lambda m: m[0] if m[1].lower() not in _MARKUP else "", text)
    text = re.sub(r"\*{1,3}|`|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)", "", re.sub(r"\\([*_`#\[\]\\])", r"\1", text))
    return tidy(text)


def _raised(text: str, match: re.Match) -> str:
    return superscript(text[max(0, match.start() - 3) : match.start()], match[2]) if match[1] == "sup" else match[2]
