"""What does a source file say, in order? Bytes in, a list of blocks out.

Formats of one document a file: ``cnxml`` (OpenStax), ``markdown`` (of any dialect, and from OCR), ``text`` and ``medquad``.
Formats of whole books, through pandoc: ``epub``, ``docx``, ``html``, ``latex`` and ``odt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from lxml import etree

from cardioembed_study.corpus import books, cnxml, manifests, markdown
from cardioembed_study.corpus.blocks import PROSE, Block, tidy
from cardioembed_study.corpus.cleaning import MIN_CHARS

LARGEST = (
    32 * 2**20
)  # bytes of one file: more than the longest textbook has; it takes up to 2 minutes and 1 GB of memory


def documents(data: bytes, format: str, name: str, divide: bool = False) -> Iterator[tuple[str, list[Block]]]:
    """Yield what is added to the file's name and the blocks, of each document of a file.

    Args:
        data: the file.
        format: one that ``read`` knows, or one of ``books.FORMATS``.
        name: the file's name.
        divide: whether a book's chapters are documents of their own; those without text are left out.

    Raises:
        ValueError: as for ``read`` and ``books.chapters``; or a book in which no chapter has text.
    """
    if data.startswith(b"%PDF"):
        raise ValueError(f"{name}: the file is a PDF; {manifests.FROM_PDF}")
    if format not in books.FORMATS:
        yield "", read(data, format, name)
        return
    data = _decode(data, name).encode() if format in ("html", "latex") else data
    read_ = ((ending, markdown.read(text, name)) for ending, text in books.chapters(data, format, name, divide))
    yield from ((ending, blocks) for ending, blocks in read_ if any(map(_says_something, blocks)))


def read(data: bytes, format: str, name: str) -> list[Block]:
    r"""Return the blocks of one document in reading order.

    Args:
        data: the file, UTF-8.
        format: cnxml, markdown, text or medquad.
        name: the file's name, for messages, and the title where the text has none.

    Raises:
        ValueError: unknown format, not UTF-8, broken or hostile XML, or no text at all.

    >>> read(b"# Valves\n\nA **cusp** is a leaf of a valve.", "markdown", "valves.md")[0]
    Block(kind='paragraph', section=('Valves',), text='A cusp is a leaf of a valve.', terms=('cusp',))
    """
    if format not in READERS:
        raise ValueError(f"{name}: no reader for format {format!r}; wanted one of {', '.join(sorted(READERS))}")
    text = _decode(data, name)
    if not text.strip():
        raise ValueError(f"{name}: empty document, {len(data)} bytes and no text; remove it from the manifest")
    return READERS[format](text, name)


def _says_something(block: Block) -> bool:
    """Whether it is more than the line of a title page, of which no sentence would be kept."""
    return block.kind not in PROSE or len(block.text) >= MIN_CHARS


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at position {error.start}"
        step = f"convert it first, e.g. iconv -f WINDOWS-1252 -t UTF-8 {name}"
        raise ValueError(f"{name}: {found} is not UTF-8; wanted UTF-8; {step}") from None


def _medquad(text: str, name: str) -> list[Block]:
    """Return question and answer of each answered pair; the document's focus is its title.

    Four files of the release are in an older schema (root ``doc``); their 16 pairs are not among the 16,407 that its
    authors count, and are left out.
    """
    root = cnxml.parse(text, name, "Document", "DiseaseFile", "doc")
    title = _words(root, "Focus") or PurePosixPath(name).stem
    blocks = []
    for pair in root.iter("QAPair"):
        question, answer = _words(pair, "Question"), _words(pair, "Answer")
        if question and answer:
            blocks += [Block("question", (title,), question), Block("answer", (title,), answer)]
    return blocks


def _words(element: etree._Element, tag: str) -> str:
    return tidy(" ".join("".join(part.itertext()) for part in element.iter(tag)))


READERS = {"cnxml": cnxml.read, "markdown": markdown.read, "medquad": _medquad, "text": markdown.read_text}
