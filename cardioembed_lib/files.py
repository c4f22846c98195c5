"""How is a file written so that nobody reads half of it, is it still what was written, and which name was meant?"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write; it takes the place of ``path``, flushed to disk, when the block ends well.

    A failure or a kill leaves what was there before; two writers never share the file aside. Parquet, which can be read as
    other content when a bit has flipped, first gets its hash beside it, ``<name>.sha256``; after a kill between the two
    ``verify`` refuses it.

    Args:
        path: its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        if path.suffix == ".parquet":
            write(path.with_name(f"{path.name}.sha256"), f"{sha256(aside)}  {path.name}\n")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all (``replacing``)."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits.

    >>> sha256(Path(os.devnull))[:12]
    'e3b0c44298fc'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(listing: Path, paths: Iterable[Path]) -> None:
    """Write the SHA-256 of files below the folder of ``listing`` there, sorted by name, in the form of ``sha256sum``."""
    write(listing, "".join(f"{sha256(p)}  {p.relative_to(listing.parent).as_posix()}\n" for p in sorted(paths)))


def verify(listing: Path, needed: Iterable[str], remedy: str) -> dict[str, str]:
    """Return the SHA-256 by name that ``listing`` gives, if its files have them and all that are needed are among them.

    Raises:
        FileNotFoundError: there is no list; ``remedy`` ends the sentence.
        ValueError: a file is missing, is another or is not listed; it is named, with what was found and wanted.
    """
    where = listing.parent.name
    if not listing.is_file():
        raise FileNotFoundError(f"{where}/{listing.name}, which says what was written, is missing; {remedy}")
    text = listing.read_text(encoding="utf-8", errors="replace")
    wanted = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64}) [ *](.+)$", text, re.M)}
    for name in sorted({*needed, *wanted}):
        right, file = wanted.get(name, "nothing"), listing.parent / name
        if (found := sha256(file) if file.is_file() else "none") != right:
            raise ValueError(f"{where}/{name}: sha256 is {found:.12}, {listing.name} says {right:.12}; {remedy}")
    return wanted


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known name, or all of them.

    >>> near_miss("lora_rnak", ["lora_rank", "seed"])
    "did you mean 'lora_rank'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
