"""What does a textbook in Markdown say, in order? For the primer, for books of any dialect, and for what OCR makes.

markdown-it-py parses. Ours is a pass over the lines before it, for what the printed page and other dialects add, and the
way from its tokens to blocks. Time is linear in the text: each step looks at one line, or at a piece of bounded length.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import PurePosixPath

from lxml import etree
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins import attrs, deflist, dollarmath, footnote, front_matter, myst_role, subscript, superscript

from cardioembed_study.corpus import blocks, cleaning, cnxml
from cardioembed_study.corpus.blocks import NOT_PROSE, REFERENCE, Block, tidy

HEAD_LINES = 3  # a short line standing alone this often is a running head
HEAD_CHARS = 70
PIECE_CHARS, DENSE_CHARS = 4_000, 200  # parsed at once; the second where one character in eight is a mark
_KEEP_HYPHEN_WORDS = (
    "after alpha anti beta by co cross end follow gamma half high intra inter left life long low mid multi non "
    "one over post pre right self semi short sub three time two under well x"
)
KEEP_HYPHEN = frozenset(_KEEP_HYPHEN_WORDS.split())
_FOR_LEARNERS = re.compile(  # titles of parts that set tasks
    r"[\d. ]*(?:(?:chapter |learning )(?:objectives?|outcomes?|goals?)|links? to learning|(?:foot|end)notes?"
    r"|(?:chapter )?review questions?|multiple[ -]choice.{0,20}|self[ -](?:test|check|assessment))\W*$",
    re.I,
)
_BOX_WORDS = (
    "abstract objectives quiz equation footnote-refs title metadata toctree code math table list-table csv-table image"
)
_UNREAD_BOX = re.compile("|".join({*_BOX_WORDS.split()} | cnxml.NOTES_WITHOUT_PROSE | cnxml.SECTIONS_WITHOUT_PROSE))
_OBJECTIVES = re.compile(r"\b(?:will|should) be able to\W*$|^learning (?:objectives|outcomes)\W*$", re.I)
_CAPTION = re.compile(
    r"(?i:Figure|Fig\.?|Table|Box|Plate|Algorithm|Exhibit)\s\d[\d.–-]{0,8}[A-Za-z]?\s?[.:|—–-]?\s(?=[A-Z“])"
)
_PAGE = re.compile(
    r"[-–—|\s]*(?:page|p\.)?\s?(?:\d{1,4}|[ivxlc]{1,7})(?:\sof\s\d{1,4})?[-–—|\s]*|\{\d+\}-*"
    r"|\[MISSING_PAGE\w*(?::\d+)?\]|<-+ ?page.{0,20}>",
    re.I,
)
_TERM, _END = "\ue000", "\ue001"  # stand around a marked term until its block is made
_ENTRY = re.compile(rf"{_TERM}([^{_TERM}{_END}]+){_END}\s?[:–—-]?\s?|([^:–—.{_TERM}]{{2,60}})\s?[:–—]\s")
_CHARACTERS = str.maketrans({"\u2010": "-", "\u00ac": "\u00ad", _TERM: None, _END: None})
_WORDLESS = re.compile(
    r"<(script|style|cnx-pi|annotation|iframe|svg)\b[^<>]*>[^<>]*</\1>|<\|(\w{1,9})\|>[^<>]*<\|/\2\|>", re.I
)
_BLOCK_TAG = re.compile(
    r"<(/?)(div|section|article|aside|details|figure|figcaption|summary|p|ul|ol|li|dl|dt|dd|center|h[1-6])(\s[^<>]*)?>\s*",
    re.I,
)
_STARTS = {"li": "- ", "dd": ": "} | {f"h{n}": "#" * n + " " for n in range(1, 7)}
_NO_PROSE_LINE = re.compile(r"\{[:#.%][^{}]*\}|\^|\([\w:-]{1,80}\)=|:[\w-]{1,30}:(?:\s.*)?|\|.*")
_HIDES = re.compile(
    r"(?P<fence>`{3,9}|~{3,9})(?!.*`)\s*(?:\{(?P<note>[\w-]+)\})?"
    r"|(?P<math>\$\$|\\\[(?![\w ]+\\\])|<table\b|\\begin\{(?:equation|align|table|tabular|figure)\*?\})",
    re.I,
)
_CLOSES = {"$$": "$$", "\\[": "\\]", "<table": "</table>"}
_HEADING = re.compile(r"#{1,6}\s+\S")
_COLUMNS = re.compile(r"(?:(?:[-*+:~]|\d{1,3}[.)])\s+)?.*?\S {3,}\S")


def read(text: str, name: str) -> list[Block]:
    r"""Return the blocks of a Markdown text.

    A term is in ``**bold**`` where the prose introduces it, or has the attribute ``term``. Its meaning is in a definition
    list, or in a section ``Glossary`` or ``Key Terms`` as ``- **term**: meaning``. ``**Q:**`` and ``**A:**`` are a
    question and its answer. Tables, quotations (``>``), pictures, code, displayed formulas, page numbers, running heads,
    learning objectives, review questions and lists of references are left out.

    Code, a formula or a table that is not closed is taken to end at the next heading, or at the next blank line if no
    heading follows; a warning names the file and the line.

    Raises:
        ValueError: a question without its answer, or the reverse.

    >>> [b.kind for b in read("## Questions\n\n**Q:** Why?\n\n**A:** Because.", "a.md")]
    ['question', 'answer']
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n").translate(_CHARACTERS)
    lines = _without_columns(_shown(_without_comments(text).split("\n"), name))
    prose = _joined(lines, _furniture(lines), _words(text))
    env: dict = {}
    root = SyntaxTreeNode(_parser().parse(_with_boxes(_WORDLESS.sub(" ", prose)), env))
    found = [block for block in _blocks(_parts(root, "paragraph", env), PurePosixPath(name).stem) if block.text]
    _check_questions(found, name)
    return found


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
    while (n := len(shown)) < len(lines):
        bare, hides = lines[n].strip(), _HIDES.match(lines[n].strip())
        if notes and bare == notes[-1]:
            shown.append("</div>")
            notes.pop()
        elif hides and hides["note"]:
            shown.append(f'<div class="{hides["note"]}">')
            notes.append(hides["fence"])
        elif hides:
            shown += [""] * (_hidden_until(lines, n, hides["fence"] or hides["math"].lower(), name, lost) - n)
        elif bare.startswith(":::"):
            words = " ".join(re.findall(r"[\w-]+", bare))
            shown.append(f'<div class="{words}">' if words else "</div>")
        else:
            shown.append("" if _NO_PROSE_LINE.fullmatch(bare) else re.sub(r"^(\s*)[•▪●◦‣]\s+", r"\1- ", lines[n]))
    return shown


def _hidden_until(lines: list[str], start: int, mark: str, name: str, lost: set[str]) -> int:
    """Return the line after the one that closes what ``mark`` opens, or, with a warning, the one where it must have ended."""
    end, blank = _CLOSES.get(mark, mark.replace("begin", "end")), 0
    for n in range(start, len(lines)):
        bare = lines[n].strip().lower()
        if _closes(bare[len(mark) :] if n == start else bare, end):
            return n + 1
        blank = blank or (0 if bare else n)
        if _HEADING.match(bare) if blank == n - 1 else (not bare and (mark == "$$" or mark in lost)):
            break
    else:
        lost.add(mark)
        n = blank or len(lines)
    warnings.warn(f"{name}, line {start + 1}: {mark} is not closed; left out up to line {n}", stacklevel=2)
    return n


def _closes(bare: str, end: str) -> bool:
    return bare.startswith(end) and not bare.strip(end[0]) if end[0] in "`~" else end in bare


def _without_columns(lines: list[str]) -> list[str]:
    """Return the lines without those of tables that are set with spaces: two in a row with a gap in them."""
    gaps = [len(line) < 400 and bool(_COLUMNS.match(line.strip())) for line in lines]
    return [
        "" if gap and (before or after) else line
        for line, gap, before, after in zip(lines, gaps, [False, *gaps], [*gaps[1:], False], strict=False)
    ]


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
    return len(before) >= HEAD_CHARS / 2 and not line[0].islower() and after[0].islower() and _goes_on(before, after)


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


def _with_boxes(text: str) -> str:
    """Return the text with each tag that stands for a block on a line of its own; a box without its end is none."""
    paired: set[int] = set()
    opened: dict[str, list[int]] = {}
    for tag in _BLOCK_TAG.finditer(text):
        if not tag[1]:
            opened.setdefault(tag[2].lower(), []).append(tag.start())
        elif opened.get(tag[2].lower()):
            paired |= {opened[tag[2].lower()].pop(), tag.start()}
    return _BLOCK_TAG.sub(lambda tag: _on_its_line(tag, tag.start() in paired), text)


def _on_its_line(tag: re.Match, paired: bool) -> str:
    name = tag[2].lower()
    if name in ("div", "section", "article", "aside", "details", "figure"):
        return f"\n\n{' '.join(tag[0].split())}\n\n" if paired else "\n\n"
    return "\n\n" + ("" if tag[1] else _STARTS.get(name, ""))


@cache
def _parser() -> MarkdownIt:
    """Return a parser of blocks; paragraphs are parsed apart, in pieces."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(["code", "fence"])
    parser.use(front_matter.front_matter_plugin).use(deflist.deflist_plugin).use(footnote.footnote_plugin)
    parser.use(dollarmath.dollarmath_plugin, allow_space=False, allow_digits=False).use(myst_role.myst_role_plugin)
    parser.use(superscript.superscript_plugin).use(subscript.sub_plugin)
    parser.use(attrs.attrs_plugin, after=("image", "link_close", "span_close", "strong_close", "em_close"), spans=True)
    parser.disable(["attr", "math_block"], ignoreInvalid=True)
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _parts(node: SyntaxTreeNode, kind: str, env: dict) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the marked text and the term of each heading, paragraph, item, meaning and tag of a box."""
    for child in node.children:
        if child.type in ("heading", "paragraph"):
            lines = child.children[0].content
            short = child.markup not in ("-", "=") or (len(lines) <= HEAD_CHARS and "\n" not in lines)
            yield child.tag if child.type == "heading" and short else kind, _marked(lines, env), ""
        elif child.type == "html_block":
            yield "box", child.content, ""
        elif child.type == "dl":
            yield from _meanings(child, env)
        elif child.type in ("bullet_list", "ordered_list", "list_item"):
            yield from _parts(child, "item", env)


def _meanings(node: SyntaxTreeNode, env: dict) -> Iterator[tuple[str, str, str]]:
    term, meanings = "", []
    for child in [*node.children, None]:
        if child is not None and child.type == "dd":
            meanings += [text for kind, text, _ in _parts(child, "item", env) if kind == "item"]
            continue
        if term and meanings:
            yield "glossary", "; ".join(meanings), term
        term, meanings = _marked(child.children[0].content, env) if child else "", []


def _marked(content: str, env: dict) -> str:
    """Return a paragraph's words, its terms between two signs; links without words are named after what they point at."""
    return "".join(map(_render, (_inline_tokens(piece, env) for piece in _pieces(" ".join(content.split())))))


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that end with a sentence where they can: the parser's work may grow with a piece's square."""
    start = 0
    while start < len(text):
        size = (
            DENSE_CHARS
            if sum(map(text[start : start + PIECE_CHARS].count, "[<*$^{~_&`")) > PIECE_CHARS / 8
            else PIECE_CHARS
        )
        end = len(text) if start + size >= len(text) else (text.rfind(". ", start, start + size) + 2)
        end = end if end > start + 1 else start + size
        yield text[start:end]
        start = end


def _inline_tokens(piece: str, env: dict) -> list[Token]:
    tokens: list[Token] = []
    piece = re.sub(r"<math\b.*?</math>", _mathml, piece)
    _parser().inline.parse(re.sub(r"\\\((.{1,300}?)\\\)", r"$\1$", piece), _parser(), env, tokens)
    return tokens


def _mathml(match: re.Match) -> str:
    root = etree.fromstring(match[0], etree.XMLParser(recover=True, resolve_entities=False, no_network=True))
    return "" if root is None else cnxml.formula(root)


def _render(tokens: list[Token]) -> str:
    out: list[str] = []
    ends: list[tuple[str, int, str]] = []
    for token in tokens:
        if token.nesting > 0:
            begin, end = _around(token)
            ends.append((end, len(out), str(token.attrs.get("href", ""))))
            out.append(begin)
        elif token.nesting < 0:
            end, start, target = ends.pop()
            if target and "".join(out[start:]).strip(" []") in ("", "link"):
                out[start:] = [_pointer(target)]
            out.append(end)
        else:
            out.append(_LEAVES.get(token.type, lambda token: token.content)(token))
    return "".join(out)


def _around(token: Token) -> tuple[str, str]:
    if token.type == "strong_open" or "term" in f"{token.attrs.get('class')} {token.attrs.get('data-type')}".split():
        return _TERM, _END
    return (f"<{token.tag}>", f"</{token.tag}>") if token.tag in ("sup", "sub") else ("", "")


def _pointer(target: str) -> str:
    kind = "table" if re.match(r"#?ta?bl?e?", target) else "figure"
    return f"{REFERENCE}the {kind}{REFERENCE}" if target[0] == "#" else REFERENCE


def _role(token: Token) -> str:
    """Return what a MyST role says; a reference without words is named, a citation left out."""
    name, words = token.meta["name"], re.sub(r"\s*<[^<>]*>$", "", token.content)
    if name.endswith("ref") and words == token.content:
        return _pointer(f"#{words}")
    known = {"math": cleaning.formula(words), "term": _TERM + words + _END, "sup": f"<sup>{words}</sup>"}
    return "" if name.startswith("cite") else known.get(name, words)


_LEAVES = {
    "image": lambda token: "",
    "softbreak": lambda token: " ",
    "hardbreak": lambda token: " ",
    "footnote_ref": lambda token: "",
    "html_inline": lambda token: (
        "".join(re.findall(r"^</?su[bp]", token.content)) and re.sub(r"\s.*(?=>)", "", token.content)
    ),
    "math_inline": lambda token: cleaning.formula(token.content),
    "math_inline_double": lambda token: " ",
    "myst_role": _role,
}


def _inline(marked: str) -> str:
    """Return the words of a marked text on one line."""
    text = re.sub(r"\[?@((?:fig|tbl|tab)[:-][\w:-]+)\]?", lambda m: _pointer("#" + m[1]), marked)
    text = re.sub(rf"\[-?@[^\[\]]*\]|\[\^[^\[\]]*\]|\s?\{{[:#.][^{{}}]*\}}|[{_TERM}{_END}]", "", text)
    text = re.sub(r"<(sup|sub)>([^<>]*)</\1>", lambda m: _raised(text, m), text)
    return tidy(re.sub(r"\*{1,3}|`|</?su[bp]>", "", text))


def _raised(text: str, match: re.Match) -> str:
    before = text[max(0, match.start() - 3) : match.start()]
    return blocks.superscript(before, match[2]) if match[1] == "sup" else match[2]


def _blocks(parts: Iterator[tuple[str, str, str]], stem: str) -> Iterator[Block]:
    titles: list[tuple[int, str]] = []
    boxes: list[tuple[set[str], list]] = []
    task: list[tuple[str, str, str]] = []  # what an exercise says: side, kind and words
    able = False
    for kind, marked, term in parts:
        section = tuple(title for _, title in titles) or (stem,)
        words = set().union(*(words for words, _ in boxes))
        if kind == "box" and marked.startswith("</"):
            closed, titles = boxes.pop() if boxes else (set(), titles)
            yield from _exercise(section, task) if "exercise" in closed else ()
            task = [] if "exercise" in closed else task
        elif kind == "box":
            values = re.findall(r"(?:class|data-type|epub:type)\s*=\s*[\"']([^\"']*)", marked)
            boxes.append(({word for value in values for word in value.lower().split()}, titles))
        elif any(map(_UNREAD_BOX.match, words)):
            continue
        elif kind[0] == "h" and kind[1:].isdigit():
            titles = [title for title in titles if title[0] < int(kind[1])] + [(int(kind[1]), _inline(marked))]
        elif not any(NOT_PROSE.match(title) or _FOR_LEARNERS.match(title) for _, title in titles):
            able = bool(_OBJECTIVES.search(_inline(marked))) or (able and kind == "item")
            if side := {"problem", "solution"} & words:
                task.append((*side, kind, _inline(marked)))
            elif not able:
                yield from _block(kind, section, marked, term)


def _exercise(section: tuple[str, ...], task: list[tuple[str, str, str]]) -> Iterator[Block]:
    """Yield question and answer of an exercise that has both in words, and no choice of answers."""
    question, answer = (
        " ".join(text for side, _, text in task if side == wanted) for wanted in ("problem", "solution")
    )
    worded = question and len(answer) >= cleaning.MIN_CHARS and REFERENCE not in question + answer
    if worded and all(kind == "paragraph" for _, kind, _ in task):
        yield from (Block("question", section, question), Block("answer", section, answer))


def _block(kind: str, section: tuple[str, ...], marked: str, term: str) -> Iterator[Block]:
    entry = _ENTRY.match(marked)
    if kind == "glossary":
        yield Block(kind, section, _inline(marked), (_inline(term).rstrip(" :"),))
    elif entry and re.match(r"glossary|key terms", section[-1], re.I):
        yield Block("glossary", section, _inline(marked[entry.end() :]), (_inline(entry[1] or entry[2]).rstrip(" :"),))
    elif entry and entry[1] and entry[1].strip() in ("Q:", "Q.", "A:", "A."):
        yield from _question_parts(section, marked)
    elif caption := _CAPTION.match(_inline(marked)):
        yield Block("caption", section, _inline(marked)[caption.end() :])
    else:
        terms = [_inline(term) for term in re.findall(f"{_TERM}([^{_END}]+){_END}", marked)]
        yield Block(kind, section, _inline(marked), tuple(term for term in terms if term and term[-1] not in ":.?!"))


def _question_parts(section: tuple[str, ...], marked: str) -> Iterator[Block]:
    pieces = re.split(rf"{_TERM}([QA])[:.]\s?{_END}", marked)
    for letter, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        yield Block("question" if letter == "Q" else "answer", section, _inline(piece))


def _check_questions(found: list[Block], name: str) -> None:
    """Refuse a question that is not followed by its answer: pairs would shift."""
    kinds = [block.kind for block in found] + [""]
    for block, kind, after in zip(found, kinds, kinds[1:], strict=False):
        if kind == "question" and after != "answer":
            raise ValueError(f"{name}: question {block.text[:60]!r} has no answer; add one that starts with **A:**")
    if kinds.count("answer") != kinds.count("question"):
        n_questions, n_answers = kinds.count("question"), kinds.count("answer")
        raise ValueError(f"{name}: {n_answers} answers to {n_questions} questions; begin each question with **Q:**")
