"""What does a textbook in Markdown say, in order? For the primer, for books of any dialect, and for what OCR makes.

markdown-it-py parses. Ours is a pass over the lines before it, for what the printed page and other dialects add, and the
way from its tokens to blocks. Time is linear in the text: each step looks at one line, or at a piece of bounded length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath

from lxml import etree
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins import deflist, dollarmath, footnote, front_matter, myst_role, subscript, superscript

from cardioembed_study.corpus import cleaning, cnxml, lines
from cardioembed_study.corpus.blocks import FOR_LEARNERS, NOT_PROSE, REFERENCE, Block, in_glossary, tidy

PIECE_CHARS, DENSE_CHARS = 4_000, 200  # parsed at once; the second where one character in eight is a mark
_BOX_WORDS = (
    "abstract objectives quiz equation footnote-refs title metadata toctree code code-block code-cell math table list-table "
    "csv-table image interactive.*"
)
_UNREAD_BOX = re.compile("|".join({*_BOX_WORDS.split()} | cnxml.NOTES_WITHOUT_PROSE | cnxml.SECTIONS_WITHOUT_PROSE))
_EXERCISE = {"exercise", "problem", "solution"}
_OBJECTIVES = re.compile(r"\b(?:will|should) be able to\W*$|^learning (?:objectives|outcomes)\W*$", re.I)
_CAPTION = re.compile(
    r"\(ref:[^()\s]{1,80}\)\s|(?i:Figure|Fig\.?|Table|Box|Plate|Algorithm|Exhibit)\s\d[\d.–-]{0,8}[A-Za-z]?\s?[.:|—–-]?\s(?=[A-Z“])"
)
_TERM, _END = "\ue000", "\ue001"  # stand around a marked term until its block is made
_LINE = "\ue002"  # stands for a line that the author ended
_LINE_END = re.compile(r"<br\s*/?>\s*", re.I)
_TERM_SPAN = re.compile(r"(?<![*_])[*_\[](?P<words>[^*_\[\]]{1,200})[*_\]]\{(?=[^{}]*\bterm\b)[^{}]*\}")
_ENTRY = re.compile(rf"{_TERM}([^{_TERM}{_END}]+){_END}\s?[:–—-]?\s?|([^:–—.{_TERM}]{{2,60}})\s?[:–—]\s")
_FORMULAS = re.compile(  # the second way is OCR's: "$k = 1 $is"
    r"\$(?!\s)[^$]{1,300}(?<!\s)\$|\$ ?(?=[\\A-Za-z(])([A-Za-z]|[^$]{0,80}[=<>+^_(\\-][^$]{0,80}?) ?\$(?!\d)"
)
_CHARACTERS = str.maketrans({"\u2010": "-", "\u00ac": "\u00ad", _TERM: None, _END: None, _LINE: None})
_TARGET = r" {0,3}\[[^\]\n]{1,999}\]:"  # how a line begins that says where a link leads
_TARGETS = re.compile(rf"^({_TARGET}.*)\n(?={_TARGET})", re.M)  # parsed together they would take time with their square
_WORDLESS = re.compile(
    r"<(script|style|cnx-pi|annotation|iframe|svg)\b[^<>]*>[^<>]*</\1>|<\|(\w{1,9})\|>[^<>]*<\|/\2\|>", re.I
)
_BOXES = "div|section|article|aside|details|figure"
_BLOCK_TAG = re.compile(
    rf"<(/?)({_BOXES}|figcaption|summary|header|footer|main|body|html|center|blockquote|p|ul|ol|li|dl|dt|dd|h[1-6])"
    r"(\s[^<>]*)?>\s*",
    re.I,
)
_STARTS = {"li": "- ", "dd": ": "} | {f"h{n}": "#" * n + " " for n in range(1, 7)}


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
    env: dict = {}
    prose = _TARGETS.sub(r"\1\n\n", lines.prose(text, name))
    root = SyntaxTreeNode(_parser().parse(_with_boxes(_WORDLESS.sub(" ", prose)), env))
    found = [block for block in _blocks(_parts(root, "paragraph", env), PurePosixPath(name).stem) if block.text]
    _check_questions(found, name)
    return found


def read_text(text: str, name: str) -> list[Block]:
    """Return the blocks of plain text: lone numbered lines and lone lines in capitals are its headings."""
    return read(lines.with_headings(text), name)


def _with_boxes(text: str) -> str:
    """Return the text with each tag that stands for a block on a line of its own; a box without its end is none."""
    paired: set[int] = set()
    opened: dict[str, list[int]] = {}
    for tag in _BLOCK_TAG.finditer(text):
        if not tag[1]:
            opened.setdefault(tag[2].lower(), []).append(tag.start())
        elif opened.get(tag[2].lower()):
            paired |= {opened[tag[2].lower()].pop(), tag.start()}
    return re.sub(r"\n{3,}", "\n\n", _BLOCK_TAG.sub(lambda tag: _on_its_line(tag, tag.start() in paired), text))


def _on_its_line(tag: re.Match, paired: bool) -> str:
    name = tag[2].lower()
    if name in _BOXES.split("|"):
        return f"\n\n{' '.join(tag[0].split())}\n\n" if paired else "\n\n"
    return "\n\n" + ("" if tag[1] else _STARTS.get(name, ""))


@cache
def _parser() -> MarkdownIt:
    """Return a parser of blocks; paragraphs are parsed apart, in pieces."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(["code", "fence"])
    parser.use(front_matter.front_matter_plugin).use(deflist.deflist_plugin).use(footnote.footnote_plugin)
    parser.use(dollarmath.dollarmath_plugin, allow_space=False, allow_digits=False).use(myst_role.myst_role_plugin)
    parser.use(superscript.superscript_plugin).use(subscript.sub_plugin)
    parser.block.ruler.disable("math_block")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _parts(node: SyntaxTreeNode, kind: str, env: dict) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the marked text and the term of each heading, paragraph, item, meaning and tag of a box."""
    for child in node.children:
        if child.type in ("heading", "paragraph"):
            content = child.children[0].content
            titled = child.type == "heading" and (child.markup[0] == "#" or len(content) <= lines.HEAD_CHARS)
            yield child.tag if titled else kind, _marked(content, env), ""
        elif child.type == "html_block":
            box = _BLOCK_TAG.fullmatch(child.content)
            yield ("box", child.content, "") if box else (kind, _marked(child.content, env), "")
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
    text = " ".join(_LINE_END.sub(_LINE, content).split())
    return "".join(map(_render, (_inline_tokens(piece, env) for piece in _pieces(text))))


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that end with a sentence where they can; from one that is mostly marks the brackets go."""
    start = 0
    while start < len(text):
        window = text[start : start + PIECE_CHARS]
        dense = sum(map(window.count, "[<*$^{~_&`")) > PIECE_CHARS / 8
        window = window[:DENSE_CHARS] if dense else window
        end = window.rfind(". ") + 2 if start + len(window) < len(text) else 0
        start += end if end > 1 else len(window)
        piece = window[:end] if end > 1 else window
        yield piece.replace("[", "") if dense else piece


def _inline_tokens(piece: str, env: dict) -> list[Token]:
    tokens: list[Token] = []
    piece = _TERM_SPAN.sub(rf"{_TERM}\g<words>{_END}", re.sub(r"<math\b.*?</math>", _mathml, piece))
    piece = re.sub(r"\\\((.{1,300}?)\\\)", r"$\1$", piece)
    piece = _FORMULAS.sub(lambda match: f"${match[1]}$ " if match[1] else match[0], piece)
    _parser().inline.parse(piece, _parser(), env, tokens)
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
    if token.type == "strong_open":
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


def _tag(token: Token) -> str:
    name = re.match(r"</?\w*", token.content)[0].lower()
    return f"{name}>" if name.strip("</") in ("sup", "sub") else " " if name == "<br" else ""


_LEAVES = {
    **dict.fromkeys(["image", "footnote_ref"], lambda token: ""),
    **dict.fromkeys(["softbreak", "hardbreak", "math_inline_double"], lambda token: " "),
    **{"html_inline": _tag, "myst_role": _role, "math_inline": lambda token: cleaning.formula(token.content)},
}


_TEX = re.compile(  # commands of LaTeX that stand in the prose of pandoc and bookdown
    r"\\(?:index|label|cite\w{0,9}|[vh]space|input|include\w{0,9})\*?\{(?:[^{}]|\{[^{}]{0,99}\}){0,300}\}"
    r"|\\(?:(?:new|clear)page|pagebreak|noindent|(?:big|med|small)skip|(?:front|main|back)matter|appendix)\b|\\(?:emph|text\w\w)\{([^{}]{0,300})\}"
)
_TEX_REFERENCE = re.compile(
    r"(?:(Fig(?:ure|\.)|Table|Chapter|Section|Appendix|Eq(?:uation|\.))s?\s)?@ref\(([^()\s]{1,80})\)"
)


def _named(reference: re.Match) -> str:
    """Return "the figure" or "the table"; what else is pointed at, such as a chapter, has no name here."""
    kind = (reference[1] or reference[2])[:3].lower()
    return _pointer(f"#{kind}") if kind in ("fig", "tab") else REFERENCE


def _inline(marked: str) -> str:
    """Return the words of a marked text on one line."""
    marked = re.sub(r"\[([^\[\]]*)\]\{[^{}]*\}", r"\1", _TEX.sub(r"\1", marked))
    marked = _TEX_REFERENCE.sub(_named, marked)
    text = re.sub(r"\[?@((?:fig|tbl|tab)[:-][\w:-]+)\]?", lambda m: _pointer("#" + m[1]), marked)
    text = re.sub(
        rf"\[-?@[^\[\]]*\]|\[\^[^\[\]]*\]|\s?\{{(?:[:#.]|[\w-]{{1,30}}=)[^{{}}]*\}}|[{_TERM}{_END}]", "", text
    )
    return tidy(re.sub(r"\*{1,3}|`|</?su[bp]>", "", cleaning.raised(text.replace(_LINE, " "))))


def _blocks(parts: Iterator[tuple[str, str, str]], stem: str) -> Iterator[Block]:
    titles: list[tuple[int, str]] = []
    boxes: list[tuple[set[str], set[str], list]] = []  # what a box is, what it stands in as well, the titles before it
    task: list[tuple[str, str, str]] = []  # what an exercise says: side, kind and words
    able = False
    for kind, marked, term in parts:
        section = tuple(title for _, title in titles) or (stem,)
        words = boxes[-1][1] if boxes else set()
        if kind == "box" and marked.startswith("</"):
            closed, _, titles = boxes.pop() if boxes else (set(), set(), titles)
            yield from _exercise(section, task) if "exercise" in closed else ()
            task = [] if "exercise" in closed else task
        elif kind == "box":
            values = re.findall(r"(?:class|data-type|epub:type)\s*=\s*[\"']([^\"']*)", marked)
            own = {
                "unread" if _UNREAD_BOX.fullmatch(word) else word for value in values for word in value.lower().split()
            }
            own &= {"unread", *_EXERCISE}
            boxes.append((own, own | words, titles))
        elif "unread" in words:
            continue
        elif kind[0] == "h" and kind[1:].isdigit():
            titles = [title for title in titles if title[0] < int(kind[1])] + [(int(kind[1]), _inline(marked))]
        elif not any(NOT_PROSE.match(title) or FOR_LEARNERS.match(title) for _, title in titles):
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
    elif entry and in_glossary(section):
        yield Block("glossary", section, _inline(marked[entry.end() :]), (_inline(entry[1] or entry[2]).rstrip(" :"),))
    elif entry and entry[1] and entry[1].strip() in ("Q:", "Q.", "A:", "A."):
        yield from _question_parts(section, marked)
    elif caption := _CAPTION.match(_inline(marked)):
        yield Block("caption", section, _inline(marked)[caption.end() :])
    else:
        terms = [_inline(term) for term in re.findall(f"{_TERM}([^{_END}]+){_END}", marked)]
        terms = [term for term in terms if term and term[-1] not in ":.?!"]
        lines_ = [_inline(line) for line in marked.split(_LINE)]
        whole = any(line[:1].islower() for line in lines_[1:])  # broken where the page ended, not by the author
        for line in [_inline(marked)] if whole or len(lines_) == 1 else lines_:
            yield Block(kind, section, line, tuple(term for term in terms if term in line or len(lines_) == 1))


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
