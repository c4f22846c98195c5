"""Does a file that is to leave hold restricted text, or a patient's number?

Texts that are read are remembered as hashes, under a salt that stays in ``artifacts/<profile>/restricted``, mode 700;
ids are remembered as they are, for a small number has no hash that hides it. Found are runs of eight words with at least
20 letters and digits, whole lines and sentences of five words with as many, ids whose place gives them away, and arrays.
Not found are paraphrases, translations, shorter snippets (also a word a line between other words, such as its score),
vectors written as decimal numbers, encodings other than base64 and hexadecimal, encryption, words drawn as pixels, ids without
context or in forms of no table or list, numbers written out, and what an adapter's weights remember. Idioms of up to 100
letters that our own files have are no leak.

``python -m cardioembed_study.privacy check PROFILE PATH...`` looks through files and folders.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
import zipfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock

from cardioembed_study import paths
from cardioembed_study.privacy import artefacts, fingerprints, identifiers
from cardioembed_study.privacy.fingerprints import Hashes, Key
from cardioembed_study.privacy.gate import Gate

__all__ = ["Gate", "Leak", "files", "gate", "remember", "shown"]
FILE = "fingerprints.npz"
NONE = np.empty(0, np.uint64)
MERGE = 1 << 25  # new hashes that are held apart before they are sorted into the others
FEW = 10  # smaller counts of patients or notes are not shown
OURS = (
    *("cardioembed_lib/*.py", "cardioembed_study/**/*.py", "notebooks/*.ipynb"),
    *(f"data_manifests/**/*.{end}" for end in ("md", "yaml", "jsonl")),
)
APART = "\0" * 2 * max(fingerprints.LENGTHS)
NOT_OURS = ("data_manifests/clinical/notes/", "cardioembed_study/notes/generator/")  # what generated notes are made of
LONGEST_IDIOM = 100  # letters: a longer run that our own files share with a note was copied, and stays a leak


def remember(profile: str, texts: Iterable[str], ids: Iterable[int | str] = ()) -> int:
    """Add restricted texts and ids to what the gate of a profile knows; return how many hashes and ids it knows now.

    Takes about 20 bytes of memory for each different run of words, and one block of texts.

    Args:
        profile: its folder ``restricted`` keeps them, with their salt.
        texts: notes; read once.
        ids: of patients, admissions and notes: 123, "123" or "note123".

    Raises:
        ValueError: an id is no whole number, with at most a word before it.
    """
    file = paths.restricted(profile) / FILE
    new_ids = _numbers(ids)
    with FileLock(file.with_suffix(".lock")):
        content = _load(file) or dict.fromkeys(("runs", "lines"), NONE) | {"salt": _salt(), "ids": new_ids}
        parts = {name: [content.pop(name)] for name in ("runs", "lines")}
        for hashes in fingerprints.known(texts, fingerprints.key(content["salt"].tobytes())):
            for name, new in zip(parts, hashes, strict=True):
                parts[name].append(new)
            if sum(map(len, parts["runs"][1:])) > MERGE:
                parts["runs"] = [_merged(parts["runs"])]
        content |= {name: _merged(arrays) for name, arrays in parts.items()}
        content["ids"] = np.union1d(content["ids"], new_ids)
        _write(file, content)
    return sum(len(content[name]) for name in ("runs", "lines", "ids"))


def gate(profile: str) -> Gate:
    """Return the gate of a profile, which knows what was remembered and is not common to our own files.

    Raises:
        ValueError: the fingerprints cannot be read.
    """
    file = paths.artifacts(profile) / "restricted" / FILE
    if not file.is_file():
        return _none()
    state = file.stat()
    return _gate(file, state.st_mtime_ns, state.st_size)


def shown(count: int) -> int | str:
    """Return a count of patients or notes as it may be shown.

    >>> [shown(count) for count in (0, 1, 9, 10)]
    [0, '<10', '<10', 10]
    """
    return f"<{FEW}" if 0 < count < FEW else count


def files(places: Iterable[Path]) -> list[Path]:
    """Return files, and of folders all files below but those built anew from them (``_build``).

    Raises:
        FileNotFoundError: nothing is there.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"{place} is neither a file nor a folder; name what is to be checked")
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        found += [file for file in inside if file.is_file() and "_build" not in file.relative_to(place).parts]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Look through files and folders; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.privacy", description=__doc__)
    parser.add_argument("what", choices=["check"])
    parser.add_argument("profile")
    parser.add_argument("places", type=Path, nargs="+", metavar="PATH")
    chosen = parser.parse_args(arguments)
    try:
        looked = files(chosen.places)
        known = gate(chosen.profile)
        known.refuse(looked, "do not publish it")
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    against = "no restricted text was ever read" if known.empty else f"{len(known.runs.values):,} runs of words known"
    sys.stdout.write(f"{len(looked)} files pass; profile {chosen.profile}: {against}\n")
    return 0


def _numbers(ids: Iterable[int | str]) -> np.ndarray:
    found = []
    for n, value in enumerate(ids, start=1):
        number = re.fullmatch(r"[A-Za-z _-]*(\d+)(?:\.0)?", str(value).strip())
        if number is None:
            raise ValueError(f"id {n} to remember is no whole number; wanted one such as 123, '123' or 'note123'")
        found.append(int(number[1]))
    return np.unique(np.array(found, dtype=np.int64))


def _salt() -> np.ndarray:
    return np.frombuffer(secrets.token_bytes(32), dtype=np.uint8)


def _merged(arrays: list[np.ndarray]) -> np.ndarray:
    """Return sorted different hashes of several arrays, which are let go to save memory."""
    joined = np.concatenate(arrays)
    arrays.clear()
    return fingerprints.distinct(joined)


def _load(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in ("salt", "runs", "lines", "ids")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        where = "/".join(file.parts[-3:])
        raise ValueError(
            f"{where} cannot be read ({type(error).__name__}), so nothing can be checked; "
            "delete that folder and prepare the notes again"
        ) from None


def _write(file: Path, content: dict[str, np.ndarray]) -> None:
    aside = file.with_suffix(".partial")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        np.savez(stream, **content)
    aside.replace(file)


@lru_cache(maxsize=1)
def _none() -> Gate:
    nothing = Hashes.of(NONE)
    return Gate(nothing, nothing, identifiers.Known(np.empty(0, np.int64)), fingerprints.key(b""))


@lru_cache(maxsize=2)
def _gate(file: Path, changed: int, size: int) -> Gate:
    content = _load(file)
    with_key = fingerprints.key(content["salt"].tobytes())
    return Gate(*_uncommon(content, with_key), identifiers.Known(content["ids"]), with_key)


def _uncommon(content: dict[str, np.ndarray], with_key: Key) -> tuple[Hashes, Hashes]:
    """Return runs and lines without those that our own files have too, as common language; what was copied stays."""
    runs, lines = Hashes.of(content["runs"]), Hashes.of(content["lines"])
    at, run, _, line = fingerprints.found(_ours(paths.ROOT), runs, lines, with_key)
    return (
        Hashes.of(np.setdiff1d(content["runs"], run[_short(at)])) if len(at) else runs,
        Hashes.of(np.setdiff1d(content["lines"], line)) if len(line) else lines,
    )


def _short(at: np.ndarray) -> np.ndarray:
    """Return which of the places of known runs, ascending, belong to a stretch no longer than an idiom."""
    if not len(at):
        return np.zeros(0, dtype=bool)
    stretch = np.cumsum(np.diff(at, prepend=at[0]) > max(fingerprints.LENGTHS))
    spans = np.array([at[stretch == n][-1] - at[stretch == n][0] for n in range(stretch[-1] + 1)])
    return spans[stretch] <= LONGEST_IDIOM


@lru_cache(maxsize=1)
def _ours(root: Path) -> bytes:
    """Return our own texts, folded, too far apart for a run to reach from one into the next."""
    found = sorted({file for pattern in OURS for file in root.glob(pattern)})
    texts = (
        file.read_text(encoding="utf-8") for file in found if not file.relative_to(root).as_posix().startswith(NOT_OURS)
    )
    return fingerprints.folded(
        APART.join("\n".join(artefacts.strings(artefacts.parsed(text))) or text for text in texts)
    )
