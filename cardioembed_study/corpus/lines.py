"""Which lines of a Markdown file are text? A pass before the parser: what print, OCR and other dialects add goes.

Every step looks at one line and its neighbours, and no pattern passes a second opening bracket: time is linear in the text.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from itertools import pairwise

from cardioembed_study.corpus.cleaning import MIN_CHARS

HEAD_LINES = 3  # a short line standing alone this often is a running head
HEAD_CHARS = 70
_KEEP_HYPHEN_WORDS = (
    "after alpha anti beta by co cross end follow gamma half high intra inter left life long low mid multi non "
    "one over post pre right self semi short sub three time two under well x"
)
KEEP_HYPHEN = frozenset(_KEEP_HYPHEN_WORDS.split())
_PAGE = re.compile(
    r"[-–—|\s]*(?:page|p\.)?\s?(?:\d{1,4}|[ivxlc]{1,7})(?:\sof\s\d{1,4})?[-–—|\s]*|\{\d+\}-*"
    r"|#{1,6}\spage\s\d{1,4}\W*|\[MISSING_PAGE\w*(?::\d+)?\]|<-+ ?page.{0,20}>",
    re.I,
)
_NO_LINE = "\0"  # stands for one that goes without dividing its paragraph
_ATTRIBUTES = re.compile(r"\{[:#.%][^{}]*\}")
_NO_PROSE_LINE = re.compile(r"\^|\([\w:-]{1,80}\)=|:[\w-]{1,30}:(?:\s.*)?|\|.*")
_HIDES = re.compile(
    r"(?P<fence>`{3,9}|~{3,9})(?!.*`)\s*(?:\{(?P<note>[\w-]+)\})?"
    r"|(?P<math>\$\$|\\\[(?![\w ]+\\\])|<table\b|\\begin\{(?:equation|align|table|tabular|figure)\*?\})",
    re.I,
)
_CLOSES = {"$$": "$$", "\\[": "\\]", "<table": "</table>"}
_BULLET = re.compile(r"^(\s*)[•▪●◦‣]\s+")
_BOX = re.compile(r"(?:^:{3,}\s*\{?|\.)([A-Za-z][\w-]*)")
_FLOAT = re.compile(
    r"(?:<span\b[^<>]*></span>)?(?:!\[|[*_]{0,2}(?:Figure|Fig\.|Table)\s\d[\d.–-]{0,8}[A-Za-z]?[.: *|])"
)
_HEADING = re.compile(r"#{1,6}\s+\S")
_ENDED = re.compile(
    r"(?<=[^\s`~|\\])(?<!:::)(?<!---)(?<!===)(?: {2,3}| ?\\)\n(?=[ \t]*\S)"
)  # lines that the author ended
_COLUMNS = re.compile(r"(?:(?:[-*+:~]|\d{1,3}[.)])\s+)?.*?\S {3,}\S")


def prose(text: str, name: str) -> str:
    r"""Return the text without code, formulas, tables and the page's lines; sentences and words that they divided are joined.

    A code fence, formula or table that is not closed is taken to end at the next heading, or at the next blank line if no
    heading follows; a warning names the file and the line.

    >>> prose("The left ven-\n\n12\n\ntricle fills.", "a.md")
    'The left ventricle fills.\n'
    """
    ended = re.sub(r"(?<=[^\\\s])\\$", "", _ENDED.sub("<br>\n", _without_comments(text)), flags=re.M)
    shown = _shown(ended.split("\n"), name)
    lines = _without_columns([line for line in shown if line != _NO_LINE])
    lines = _floated(lines)
    return _joined(lines, _furniture(lines), _words(text))


def with_headings(text: str) -> str:
    """Return plain text with its lone numbered lines and lone lines in capitals as headings of Markdown."""
    lines = ["", *text.replace("\r\n", "\n").replace("\f", "\n\n").split("\n"), ""]
    return "\n".join(map(_as_heading, lines, lines[1:], lines[2:])) if len(lines) > 3 else text


def _as_heading(before: str, line: str, after: str) -> str:
    bare = line.strip()
    alone = not before.strip() and not after.strip() and 3 < len(bare) < HEAD_CHARS and bare[-1] not in ".,;:?!"
    numbered = re.match(r"(?:(?:chapter|part|section)\s)?\d{1,2}(?:\.\d{1,2}){0,3}\.?\s+[A-Z]", bare, re.I)
    titled = alone and any(map(str.isalpha, bare)) and (bare.isupper() or numbered)
    return f"## {bare}" if titled else line


def _without_comments(text: str) -> str:
    """Return the text without HTML comments, its lines kept; one that never ends is left, so that no text is lost."""
    parts, start = [], 0
    while (opening := text.find("<!--", start)) >= 0 and (closing := text.find("-->", opening)) >= 0:
        parts += [text[start:opening], "\n" * text.count("\n", opening, closing)]
        start = closing + 3
    return "".join([*parts, text[start:]])


def _shown(lines: list[str], name: str) -> list[str]:
    """Return the lines, those blank that hold code, formulas, tables or attributes; directives and ``:::`` become boxes."""
    shown: list[str] = []
    notes: list[str] = []
    lost: set[str] = set()
    glossary = False
    while (n := len(shown)) < len(lines):
        bare, hides = lines[n].strip(), _HIDES.match(lines[n].strip())
        opens = (hides and hides["note"]) or (bare.startswith(":::") and " ".join(_BOX.findall(bare.split("}")[0])))
        if (notes and bare == notes[-1]) or (bare and not bare.strip(":")):
            shown.append("</div>")
            notes = notes[: -1 if bare[0] != ":" else None]
            glossary = False
        elif opens:
            shown.append(f'<div class="{opens}">')
            notes += [hides["fence"]] if hides else []
            glossary = opens == "glossary"
        elif hides:
            shown += [""] * (_hidden_until(lines, n, hides["fence"] or hides["math"].lower(), name, lost) - n)
        elif glossary and bare and lines[n][0].isspace() and shown[-1][:1].isalnum():
            shown.append(f": {bare}")
        else:
            shown.append(
                ""
                if _NO_PROSE_LINE.fullmatch(bare)
                else _NO_LINE
                if _ATTRIBUTES.fullmatch(bare)
                else _BULLET.sub(r"\1- ", lines[n])
            )
    return shown


def _hidden_until(lines: list[str], start: int, mark: str, name: str, lost: set[str]) -> int:
    """Return the line after the one that closes what ``mark`` opens, or, with a warning, the one where it must have ended."""
    end, blank = _CLOSES.get(mark, mark.replace("begin", "end")), 0
    for n in range(start, len(lines)):
        bare = lines[n].strip().lower()
        if _closes(bare[len(mark) :] if n == start else bare, end):
            return n + 1
        blank = blank or (0 if bare else n)
        if (not bare and (mark == "$$" or mark in lost)) or (n > start and _lone_heading(lines, n)):
            break
    else:
        lost.add(mark)
        n = blank or len(lines)
    warnings.warn(f"{name}, line {start + 1}: {mark} is not closed; left out up to line {n}", stacklevel=2)
    return n


def _lone_heading(lines: list[str], n: int) -> bool:
    return bool(_HEADING.match(lines[n])) and not any(
        line.strip(" {}:=") for line in (lines[n - 1], *lines[n + 1 : n + 2])
    )


def _closes(bare: str, end: str) -> bool:
    return bare.startswith(end) and not bare.strip(end[0]) if end[0] in "`~" else end in bare


def _without_columns(lines: list[str]) -> list[str]:
    """Return the lines without those of tables that are set with spaces: two in a row with a gap in them."""
    gaps = [len(line) < 400 and bool(_COLUMNS.match(line.strip())) for line in lines]
    return [
        "" if gap and (before or after) else line
        for line, gap, before, after in zip(lines, gaps, [False, *gaps], [*gaps[1:], False], strict=False)
    ]


def _floated(lines: list[str]) -> list[str]:
    """Return the lines, pictures and captions that stand within a sentence now after it: print sets them where there is room."""
    text, floats = [], False
    for n, line in enumerate(lines):
        floats = bool(line.strip()) and (floats or bool(_FLOAT.match(line.strip())))
        text += [n] if line.strip() and not floats else []
    for start, stop in reversed(list(pairwise(text))):
        before, after, between = (
            lines[start].strip(),
            lines[stop].strip(),
            [line.strip() for line in lines[start + 1 : stop]],
        )
        if any(between) and not (between[0] or between[-1]) and len(before) >= MIN_CHARS and _goes_on(before, after):
            end = next((n for n in range(stop, len(lines)) if not lines[n].strip()), len(lines))
            lines[start + 1 : end] = [*lines[stop:end], *lines[start + 1 : stop]]
    return lines


def _words(text: str) -> set[str]:
    """Return every word of a text, hyphens kept: they decide what a hyphen at a line's end meant."""
    return set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*(?!-?\n)", text.lower()))


def _furniture(lines: list[str]) -> set[int]:
    """Return the numbers of lines that belong to the page: its number, and its running head."""
    bare = {n: line.strip() for n, line in enumerate(lines) if 0 < len(line.strip()) <= HEAD_CHARS}
    pages = {n for n, line in bare.items() if _PAGE.fullmatch(line)}
    alone = {n: _head(line) for n, line in bare.items() if n not in pages and _alone(lines, n, pages)}
    often = Counter(alone.values())
    filled = [n for n, line in enumerate(lines) if line.strip() and n not in pages]
    within = {
        n
        for a, n, b in zip(filled, filled[1:], filled[2:], strict=False)
        if alone.get(n) and _interrupts(*(lines[k].strip() for k in (a, n, b)))
    }
    return pages | within | {n for n, head in alone.items() if head and often[head] >= HEAD_LINES}


def _head(line: str) -> str:
    """Return a running head without its page number; nothing for what cannot be one."""
    if line[0] in "#>|-*+•:<" or line[-1] in ".?!:;,-\u00ad":
        return ""
    return line.strip("0123456789|–—- ").lower()


def _alone(lines: list[str], n: int, pages: set[int]) -> bool:
    return all(not 0 <= k < len(lines) or k in pages or not lines[k].strip() for k in (n - 1, n + 1))


def _interrupts(before: str, line: str, after: str) -> bool:
    """Whether a lone line stands within a sentence: a running head that occurs once."""
    return len(before) >= MIN_CHARS and not line[0].islower() and after[0].islower() and _goes_on(before, after)


def _goes_on(before: str, after: str) -> bool:
    open_end = before[0] != "#" and before[-1] not in ".?!:>"
    return open_end and (after[0].islower() or (before[-1] in "-\u00ad" and after[0].isalnum()))


def _joined(lines: list[str], furniture: set[int], words: set[str]) -> str:
    """Return the text without the page's lines; a page break within a sentence, or a hyphen at a line's end, goes too."""
    kept: list[str] = []
    page_break = False
    for n, line in enumerate(lines):
        page_break |= n in furniture
        if n in furniture or not line.strip():
            kept += [] if n in furniture else [""]
            continue
        while page_break and kept and not kept[-1].strip():
            kept.pop()
        goes_on = kept and kept[-1].strip() and _goes_on(kept[-1].strip(), line.strip())
        kept += [""] if page_break and not goes_on else []
        kept.append(line.strip() if goes_on else line.rstrip())
        page_break = False
    return "".join(_ended(before, after, words) for before, after in pairwise([*kept, ""]))


def _ended(before: str, after: str, words: set[str]) -> str:
    """Return a line as it runs on into the next one: with a line break, with its hyphen, or without it."""
    if before.endswith("\u00ad") and after:
        return before[:-1]
    first = re.search(r"[^\W\d_]+(?=-$)", before[-60:])
    second = re.match(r"[^\W\d_]+", after)
    if not first or not second or before[0] == "#":
        return before + "\n"
    whole, hyphened = (f"{first[0]}{mark}{second[0]}".lower() for mark in ("", "-"))
    compound = hyphened in words or (whole not in words and first[0].lower() in KEEP_HYPHEN)
    return before if compound or not after[0].islower() else before[:-1]
