"""Are these the very files that were asked for? SHA-256 lists; folders verified; archives fetched whole or not at all."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pooch
import requests
from filelock import FileLock

from cardioembed_lib import files

SAFE_PATH = r"(?!/)(?!(.*/)?\.{0,2}(/|\Z))[^\\:\x00-\x1f]+"  # relative, without "..", ".", empty steps or drives
UNFOLDED = 100  # times its own size is what an archive may unfold to; one of texts unfolds to 5 to 20
SMALL = 2**20  # bytes: an archive counts as no smaller, and no header of a member has more


def read_sums(file: Path) -> dict[str, str]:
    """Return SHA-256 by relative path, in the order of a file as ``sha256sum`` writes it.

    Raises:
        ValueError: a line is not of that form, repeats a path, or names one that could lead out of the folder.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        match = re.fullmatch(rf"([0-9a-f]{{64}}) [ *](?P<path>{SAFE_PATH})", line)
        if not match or match["path"] in sums:
            form = "'<64 hex digits>  <path inside the folder>', each path once"
            raise ValueError(f"{file.name}, line {number}: {line[:100]!r} is not {form}; write it as sha256sum does")
        sums[match["path"]] = match[1]
    return sums


def write_sums(file: Path, folder: Path, listed: Iterable[str]) -> None:
    """Write the SHA-256 of the listed files of a folder, in this order, as ``sha256sum`` does."""
    files.write(file, "".join(f"{files.sha256(folder / path)}  {path}\n" for path in listed))


def verify(folder: Path, wanted: Mapping[str, str | None], remedy: str) -> None:
    """Refuse a folder in which a wanted file is missing or is another.

    Args:
        folder: where the files should be.
        wanted: SHA-256 by path relative to the folder; ``None`` asks only that the file be there.
        remedy: what the reader should do next, the end of the error's sentence.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has another SHA-256; names both.
    """
    for path, right in wanted.items():
        if not (folder / path).is_file():
            raise FileNotFoundError(f"{path} is missing in {folder}; {remedy}")
        if right and (actual := files.sha256(folder / path)) != right:
            raise ValueError(f"{path} in {folder}: sha256 is {actual[:12]}…, wanted {right[:12]}…; {remedy}")


def install(url: str, target: Path, wanted: Mapping[str, str | None], advice: str) -> None:
    """Download a tar archive and put its wanted files at ``target``, all verified, or leave nothing.

    A killed process leaves a ``*.partial-*`` folder, which the next call removes. The lock that makes this safe while
    another process downloads is freed by the operating system when its owner dies.

    Args:
        url: a tar archive whose members lie below one top folder.
        target: the folder to make; nothing is done where it exists.
        wanted: SHA-256 by path below the archive's top folder; no other member is written.
        advice: what to do where the address cannot be reached.

    Raises:
        FileNotFoundError: the address cannot be reached, or the archive lacks a file.
        ValueError: the archive is damaged, unfolds to more than ``UNFOLDED`` times its size, or a file has another SHA-256.
        OSError: the files cannot be written, for example because the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / ".lock"):
        for left_behind in target.parent.glob("*.partial-*"):
            shutil.rmtree(left_behind)
        if target.is_dir():  # another process fetched it while this one waited
            return
        try:
            with tempfile.TemporaryDirectory(prefix=f"{target.name}.partial-", dir=target.parent) as partial:
                archive, content = Path(partial, "archive"), Path(partial, "content")
                _download(url, archive, advice)
                _extract(archive, content, wanted)
                verify(content, wanted, f"{url} does not hold what was listed; nothing was kept")
                os.replace(content, target)
        except OSError as error:
            if error.errno is None:  # already a sentence of ours
                raise
            remedy = "free some space, or set CARDIOEMBED_ARTIFACTS to a folder on a larger disk"
            raise OSError(
                error.errno, f"{error.strerror} while fetching {url} into {target.parent}; {remedy}"
            ) from error


def _download(url: str, file: Path, advice: str) -> None:
    try:
        pooch.HTTPDownloader(progressbar=sys.stderr.isatty())(url, str(file), None)
    except requests.RequestException as error:
        raise FileNotFoundError(f"{url} cannot be downloaded ({type(error).__name__}); {advice}") from error


def _extract(archive: Path, folder: Path, wanted: Mapping[str, str | None]) -> None:
    """Write the wanted regular files without their top folder; every other member is left alone."""
    folder.mkdir()
    size = archive.stat().st_size
    limit = left = UNFOLDED * max(size, SMALL)
    try:
        with tarfile.open(archive, tarinfo=_Header) as tar:
            for member in tar:
                if (left := left - abs(member.size)) < 0:
                    raise ValueError(
                        f"the downloaded archive has {size:,} bytes and unfolds to more than {limit:,}, {member.name!r:.100} to "
                        f"{member.size:,} of them; nothing was kept, ask whoever offers it"
                    )
                path = member.name.partition("/")[2]
                if path in wanted and member.isreg():
                    tar.extract(member.replace(name=path, deep=False), folder, filter="data")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"the downloaded archive is damaged ({error}); nothing was kept, fetch again") from error


class _Header(tarfile.TarInfo):
    """A member's header; the kinds that tarfile reads into memory whole, for long names and pax fields, may not be large."""

    @classmethod
    def frombuf(cls, *block: Any) -> _Header:
        header = super().frombuf(*block)
        if header.type in b"xgXLK" and header.size > SMALL:
            raise tarfile.HeaderError(f"a header of {header.size:,} bytes, wanted at most {SMALL:,}")
        return header
