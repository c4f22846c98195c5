"""What does a whole book say, chapter by chapter? EPUB, DOCX, HTML, LaTeX or ODT in, Markdown for ``markdown.read`` out.

pandoc reads them, in its sandbox: it opens no file and no address, and sees nothing but the bytes that it is handed. Its tree
of the text is thinned here to what has a meaning for us: headings, paragraphs, items, entries of glossaries, bold, raised and
lowered letters. Its writer is plain ``commonmark``: the others add marks of pandoc's own, such as ``{#id}`` and ``:::``.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import subprocess
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from cardioembed_study.corpus.blocks import NOT_PROSE

FORMATS = {"epub": "epub", "docx": "docx", "html": "html", "latex": "latex", "odt": "odt"}  # ours to pandoc's
ZIPPED = {"epub": "META-INF/container.xml", "docx": "word/document.xml", "odt": "content.xml"}  # with what each holds
LARGEST = 512 * 2**20  # bytes of a zipped book with its pictures
UNFOLDED = 256 * 2**20  # bytes of its text: ten times the longest textbook's
SECONDS, MEMORY = 300, "8g"  # what pandoc may take; 3 s and 0.3 GB are usual for a textbook
ANEW = "open it in its program and save it anew"
INSTALL = "python -m pip install pypandoc_binary"
_MEDIA_WORDS = (
    ".png .jpg .jpeg .gif .svg .webp .bmp .tif .tiff .emf .wmf .ttf .otf .woff .woff2 .mp3 .mp4 .m4a .css .js .bin"
)
MEDIA = frozenset(_MEDIA_WORDS.split())
PART = re.compile(
    r"(?:part|unit|volume|book)\s+(?:\d+|[ivxl]+|[a-z]|one|two|three|four|five|six|seven|eight|nine|ten)\b", re.I
)
OF_A_CHAPTER = re.compile(
    r"[\d. ]*(?:glossary|key terms|(?:review )?questions|exercises|summary)\b", re.I
)  # must not leave it
_ENGLISH_WORDS = "the of and to that with are by or from which be as for this at not have has can may"
ENGLISH = frozenset(_ENGLISH_WORDS.split())  # none is frequent in German, French, Spanish, Italian, Portuguese or Dutch
FEWEST_WORDS = 10  # the title of a scanned book is shorter
MIN_ENGLISH, MIN_WORDS = 0.1, 50  # ours: English textbooks have 0.2 to 0.3 of them, those in other languages below 0.04
_TEX_TERM = re.compile(
    rb"\\(?:key|new)?(?:term|word|concept|defn?)\*?\{([^{}]{1,200})\}"
)  # an author's command for terms
_BREAK = "\ue000"  # a private character, between chapters while they are written in one go

Node = dict[str, Any]


def chapters(data: bytes, format: str, name: str, divide: bool) -> list[tuple[str, str]]:
    """Return the chapters of a book in order: what is added to the file's name (``#03-valves``), and Markdown.

    Chapters begin at the top-most heading level that is repeated, parts aside. Each has its number among all chapters of the
    file, those without text included, so that names stay as long as the file does.

    Args:
        data: the file.
        format: one of ``FORMATS``.
        name: the file's name, for messages.
        divide: if not, the file is one document, and nothing is added to its name.

    Raises:
        ValueError: no pandoc; a file that is broken, locked, too large, without text or not in English.
    """
    data = _TEX_TERM.sub(rb"\\textbf{\1}", data) if format == "latex" else data
    read = _pandoc(_opened(data, format, name), FORMATS[format], "json", name).decode().replace(_BREAK, "")
    try:
        tree = json.loads(read)
        blocks = _blocks(tree["blocks"])
        parts = _divided(blocks, _level(blocks)) if divide else [("", blocks)]
        end = {"t": "Para", "c": [{"t": "Str", "c": _BREAK}]}
        tree |= {"meta": {}, "blocks": [block for _, part in parts for block in [*part, end]]}
        kept = json.dumps(tree).encode()
    except RecursionError:
        raise ValueError(f"{name}: boxes or lists within one another, too many to be read; {ANEW}") from None
    text = _pandoc(kept, "json", "commonmark", name).decode()
    text = re.sub(r"\\([()])", r"\1", text)  # "(a)" at the start is no list here; \\( would begin a formula
    _check_words(text, name)
    endings = [title and f"#{n:0{max(2, len(str(len(parts))))}d}-{title}" for n, (title, _) in enumerate(parts)]
    return list(zip(endings, text.split(_BREAK)[:-1], strict=True))


def _pandoc(data: bytes, source: str, target: str, name: str) -> bytes:
    try:
        import pypandoc  # here, since it is needed for these formats alone

        program = pypandoc.get_pandoc_path()
    except (ImportError, OSError):
        raise ValueError(
            f"{name}: books of this format are read by pandoc, which is not installed; {INSTALL}"
        ) from None
    command = [
        program,
        "+RTS",
        f"-M{MEMORY}",
        "-RTS",
        "--sandbox",
        "--quiet",
        "--wrap=none",
        "-f",
        source,
        "-t",
        target,
    ]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{name}: pandoc took more than {SECONDS} s; divide the file, one a chapter") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise ValueError(f"{name}: pandoc finds it no sound {source}: {said[:200]}; {ANEW}")
    return done.stdout


def _opened(data: bytes, format: str, name: str) -> bytes:
    """Return a zipped book without its pictures, sounds and letter types; any other as it is."""
    if format not in ZIPPED:
        return data
    unlock = "save a copy without a password, which its publisher or program can give"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError(f"{name}: the file has a password or is an old .doc, wanted .{format}; {unlock}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            texts = [entry for entry in packed.infolist() if PurePosixPath(entry.filename.lower()).suffix not in MEDIA]
            names = {entry.filename for entry in texts}
            size, shut = sum(entry.file_size for entry in texts), any(entry.flag_bits & 1 for entry in texts)
            held = {} if shut or size > UNFOLDED else {entry: packed.read(entry) for entry in texts}
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name}: no sound {format}, {error}; copy it anew from where it came") from None
    others = [other for other, part in ZIPPED.items() if part in names]
    if others and format not in others:
        raise ValueError(
            f"{name}: its content is of format {others[0]}, not {format}; name it .{others[0]}, and so in its manifest"
        )
    if size > UNFOLDED:
        raise ValueError(f"{name}: {size:,} bytes of text, wanted at most {UNFOLDED:,}; divide the book")
    if shut:
        raise ValueError(f"{name}: the file has a password; {unlock}")
    return _repacked(held, f"{name}: the text is locked; {unlock}")


def _repacked(entries: dict[zipfile.ZipInfo, bytes], locked: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for entry, data in entries.items():
            of_text = re.search(rb'URI="[^"]*\.(?:x?html?|xml)"', data) and entry.filename == "META-INF/encryption.xml"
            if of_text or (entry.filename == "META-INF/manifest.xml" and b"encryption-data" in data):
                raise ValueError(locked)
            packed.writestr(entry.filename, data)
    return made.getvalue()


def _check_words(text: str, name: str) -> None:
    """Refuse a file without text, such as a scan, or in another language than English."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if len(words) < FEWEST_WORDS:
        raise ValueError(
            f"{name}: {len(words)} words of text, wanted at least {FEWEST_WORDS}; if its pages are pictures, read them first "
            "with marker, docling or nougat; if it only names other files, take it out of the folder"
        )
    share = sum(word in ENGLISH for word in words) / len(words)
    if len(words) >= MIN_WORDS and share < MIN_ENGLISH:
        found = (
            f"{share:.0%} of its words are common English ones ('the', 'of', 'and'), wanted at least {MIN_ENGLISH:.0%}"
        )
        raise ValueError(
            f"{name}: {found}; sentences are divided by English rules: take the file out, or use an English one"
        )


def _level(blocks: list[Node]) -> int:
    """Return the top-most heading level with two chapters that have text, or 0."""
    for level in range(1, 7):
        parts = [(title, part) for title, part in _divided(blocks, level) if part and part[0]["t"] == "Header"]
        whole = [part for title, part in parts if part[0]["c"][0] == level and len(part) > 1 and _is_chapter(part[0])]
        if len(whole) > 1:
            return level
    return 0


def _is_chapter(header: Node) -> bool:
    title = _plain(header["c"][2])
    return not (PART.match(title) or OF_A_CHAPTER.match(title) or NOT_PROSE.match(title))


def _divided(blocks: list[Node], level: int) -> list[tuple[str, list[Node]]]:
    """Return the parts that begin with a heading of this level or above, each with its title as a name has it."""
    parts: list[tuple[str, list[Node]]] = [("start", [])]
    for block in blocks:
        if block["t"] == "Header" and block["c"][0] <= level:
            parts.append((_slug(_plain(block["c"][2])), []))
        parts[-1][1].append(block)
    return parts


def _slug(title: str) -> str:
    """Return a title as part of a name.

    >>> _slug("3. Naïve valves & flow")
    '3-naive-valves-flow'
    """
    letters = unicodedata.normalize("NFKD", title.casefold()).encode("ascii", "ignore").decode()
    return "-".join(re.findall(r"[a-z0-9]+", letters))[:40].strip("-") or "untitled"


def _blocks(nodes: list[Node]) -> list[Node]:
    return [block for node in nodes for block in _block(node["t"], node.get("c"))]


def _block(kind: str, held: Any) -> Iterator[Node]:
    """Yield what is kept of one block: code, raw markup, rules and tables of several columns are not."""
    if kind in ("Para", "Plain"):
        yield from _paragraph(kind, _inlines(held))
    elif kind == "Header":
        title = [{"t": "Space"} if node["t"] == "LineBreak" else node for node in _inlines(held[2])]
        yield {"t": "Header", "c": [held[0], ["", [], []], title]}
    elif kind == "LineBlock":
        yield from _paragraph("Para", _spaced([_inlines(line) for line in held]))
    elif kind in ("BulletList", "OrderedList"):
        items = [_blocks(item) for item in (held if kind == "BulletList" else held[1])]
        yield {"t": "BulletList", "c": [item for item in items if item]}
    elif kind == "DefinitionList":
        yield {"t": "BulletList", "c": [_entry(_inlines(term), meanings) for term, meanings in held]}
    elif kind in ("Div", "BlockQuote", "Figure"):  # an indented paragraph of DOCX is a quotation to pandoc
        yield from _blocks({"Div": lambda: held[1], "BlockQuote": lambda: held, "Figure": lambda: held[1][1]}[kind]())
    elif kind == "Table" and len(held[2]) == 1:  # a box with a frame
        rows = [*held[3][1], *(row for body in held[4] for row in [*body[2], *body[3]]), *held[5][1]]
        yield from (block for row in rows for cell in row[1] for block in _blocks(cell[4]))


def _paragraph(kind: str, inlines: list[Node]) -> Iterator[Node]:
    if any("c" in node for node in inlines):
        yield {"t": kind, "c": inlines}


def _entry(term: list[Node], meanings: list[list[Node]]) -> list[Node]:
    """Return an entry of a glossary as ``markdown.read`` knows it: ``**term**: meaning``."""
    kept = [block for meaning in meanings for block in _blocks(meaning)]
    paragraphs = [block["c"] for block in kept if block["t"] in ("Para", "Plain")]
    bold = {"t": "Strong", "c": _without(term, "Strong")}
    first = {"t": "Para", "c": [bold, {"t": "Str", "c": ":"}, {"t": "Space"}, *_spaced(paragraphs)]}
    return [first, *(block for block in kept if block["t"] not in ("Para", "Plain"))]


def _spaced(lines: list[list[Node]]) -> list[Node]:
    return [node for line in lines for node in [*line, {"t": "Space"}]][:-1]


def _inlines(nodes: list[Node]) -> list[Node]:
    return [inline for node in nodes for inline in _inline(node["t"], node.get("c"))]


def _inline(kind: str, held: Any) -> Iterator[Node]:
    """Yield what is kept of one piece of a line: pictures, notes and raw markup are not, of links and slanted words the words."""
    if kind in ("Space", "SoftBreak", "LineBreak"):
        yield {"t": "LineBreak" if kind == "LineBreak" else "Space"}
    elif kind == "Str" or (kind == "Math" and held[0]["t"] == "InlineMath"):
        yield {"t": kind, "c": held}
    elif kind in ("Strong", "Superscript", "Subscript"):
        yield {"t": kind, "c": _inlines(held)}
    elif kind == "Code":
        yield {"t": "Str", "c": held[1]}
    elif kind in ("Emph", "Underline", "SmallCaps", "Strikeout"):
        yield from _inlines(held)
    elif kind == "Link" and _plain(_inlines(held[1])).startswith("[") and (label := dict(held[0][2]).get("reference")):
        yield {"t": "Str", "c": f"@ref({label})"}
    elif kind in ("Span", "Link", "Cite"):
        yield from _inlines(held[1])
    elif kind == "Quoted":
        before, after = "‘’" if held[0]["t"] == "SingleQuote" else "“”"
        yield from [{"t": "Str", "c": before}, *_inlines(held[1]), {"t": "Str", "c": after}]


def _without(nodes: list[Node], kind: str) -> list[Node]:
    return [inner for node in nodes for inner in (_without(node["c"], kind) if node["t"] == kind else [node])]


def _plain(nodes: list[Node]) -> str:
    texts = (
        " "
        if n["t"] in ("Space", "LineBreak")
        else n["c"]
        if n["t"] == "Str"
        else n["c"][1]
        if n["t"] == "Math"
        else _plain(n["c"])
        for n in nodes
    )
    return "".join(texts)
