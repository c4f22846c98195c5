"""Where does a text come from, and which files is it? Manifests: load, check, fetch, seal.

A manifest is ``data_manifests/{sources,benchmarks,clinical}/NAME.yaml``; its sidecar ``NAME.sha256`` lists the files in
reading order. Every field is explained in ``data_manifests/README.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cardioembed_lib import files
from cardioembed_study import mappings, paths
from cardioembed_study.corpus import archives

ROOMS = {"sources": "corpus", "benchmarks": "benchmark", "clinical": "clinical"}  # folder to role
TABLES = ("ADMISSIONS", "DIAGNOSES_ICD", "D_ICD_DIAGNOSES", "NOTEEVENTS", "PATIENTS")  # of MIMIC-III, what is read
BOOKS = {
    **{"epub": ("*.epub",), "docx": ("*.docx",), "html": ("*.html", "*.xhtml", "*.htm"), "latex": ("*.tex",)},
    "odt": ("*.odt",),
}  # formats of which one file may be a whole book
PATTERNS = {
    **BOOKS,
    **{"cnxml": ("index.cnxml",), "markdown": ("*.md",), "text": ("*.txt",), "medquad": ("*.xml",)},
    **{"beir": ("corpus.jsonl", "queries.jsonl", "qrels/*.tsv"), "pairs": ("*.tsv",)},
    "mimic3": tuple(f"{name}.csv{end}" for table in TABLES for name in (table, table.lower()) for end in ("", ".gz")),
}
FROM_PDF = (
    "a PDF holds no order of its words; turn it into Markdown first with marker, docling or nougat (format markdown)"
)
SEAL = "run `cardioembed seal {}`"
Text = Annotated[str, Field(min_length=1)]
SafePath = Annotated[str, Field(pattern=rf"^{archives.SAFE_PATH}\Z")]
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]
Notebook = Literal[
    *(
        "01_corpus",
        "01_notes",
        "01_queries",
        "02_train",
        "03_retrieval",
        "03_domain",
        "04_mteb",
        "04_medembed",
        "05_mimic",
        "06_report",
    )
]


class Source(BaseModel):
    """One manifest, checked; the fields are explained in ``data_manifests/README.md``."""

    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="python-re")

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: Text
    role: Literal["corpus", "benchmark", "clinical"]
    format: Literal[
        *("cnxml", "markdown", "text", "medquad", "epub", "docx", "html", "latex", "odt"),
        *("beir", "pairs", "mimic3", "generated"),
    ]
    licence: Text
    access: Literal["open", "registered", "private", "restricted"]
    source: Url | None = None
    revision: SafePath | None = None
    archive: Url | None = None
    folder: SafePath = Field(default_factory=lambda fields: fields.get("name", ""))
    path: Text | None = None
    attribution: str = ""
    used_by: tuple[Notebook, ...] = ()
    stands_for: str = ""
    notes: str = ""
    files: SafePath | None = None
    cardiology: Literal["all"] | tuple[SafePath, ...] = ()
    expect: dict[str, Annotated[int, Field(ge=0)]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Source:
        if self.format == "generated" and (self.path or self.files or self.archive):
            raise ValueError("a source of format 'generated' has no files: take out `path`, `files` and `archive`")
        given = self.path or (self.source and self.revision and self.files)
        if not (given or self.format == "generated" or _readers_own(self)):
            raise ValueError("give `path` (a local folder), or `source`, `revision` and `files` (a .sha256 sidecar)")
        github = (self.source or "").startswith("https://github.com/")
        if github and not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            raise ValueError(f"revision is {self.revision!r}; a GitHub source needs a commit's 40 hex digits, quoted")
        return self


def names() -> dict[str, Path]:
    """Return the file of every manifest by its name."""
    return {file.stem: file for room in ROOMS for file in sorted((paths.MANIFESTS / room).glob("*.yaml"))}


def load(name: str) -> Source:
    """Return the manifest of this name, its fields and its list of files checked.

    Raises:
        KeyError: no manifest has this name.
        ValueError: a field, or a line of the sidecar, is wrong.
        FileNotFoundError: the sidecar, or the local folder of a source without one, is missing.

    >>> load("openstax_nutrition").access
    'open'
    """
    source = _parse(name)
    _listed(source)
    return source


def documents(source: Source) -> list[str]:
    """Return the source's files in reading order, as paths relative to its folder.

    >>> documents(load("openstax_nutrition"))[:2]
    ['modules/m00492/index.cnxml', 'modules/m00001/index.cnxml']
    """
    return list(_listed(source))


def file_of(source: Source, path: str) -> str:
    """Return the file that a path of ``cardiology`` is in: of a book ``heart.epub#03-valves`` is one chapter."""
    return path.partition("#")[0] if source.format in BOOKS else path


def fetch(source: Source) -> Path:
    """Return the folder of the source, every listed file there and of the right SHA-256.

    Order: ``path``; ``$CARDIOEMBED_MIRROR/<folder>``; an earlier download; else the archive is downloaded. A restricted MIMIC-III
    without ``path`` and ``files`` is where ``CARDIOEMBED_MIMIC`` says.

    Raises:
        FileNotFoundError: a file is missing, or the archive cannot be reached; a generated source has no files.
        ValueError: a file's SHA-256 is not the listed one, or a local file is not listed or a link that leads out of its folder.
        OSError: the disk is full.
    """
    if source.format == "generated":
        raise FileNotFoundError(f"{source.name} has no files to fetch; notebooks/01_notes.ipynb generates its notes")
    if _readers_own(source):
        return clinical_folder(source)
    listed, mirror, cache = _listed(source), paths.mirror(), _cache(source)
    if source.path is not None:
        folder, remedy = _local(source), f"{SEAL.format(source.name)} if the change is meant"
        if unlisted := [path for path in _inside(source) if path not in listed]:
            raise ValueError(f"{unlisted[0]} in {folder} is not listed in {source.files}; {remedy}")
    elif mirror is not None and not mirror.is_dir():
        raise FileNotFoundError(f"CARDIOEMBED_MIRROR is {mirror}, which is not a folder; correct it or unset it")
    elif mirror is not None and (mirror / source.folder).is_dir():
        folder, remedy = mirror / source.folder, "correct that copy, or unset CARDIOEMBED_MIRROR to download another"
    else:
        folder, remedy = cache, f"delete {cache} and run `cardioembed fetch {source.name}`"
        if not cache.is_dir():
            return _download(source, cache)
    archives.verify(folder, listed, remedy)
    return folder


def clinical_folder(source: Source) -> Path:
    """Return the folder of MIMIC-III's tables: what ``fetch`` finds, or ``$CARDIOEMBED_MIMIC``, a reader's own copy.

    Raises:
        FileNotFoundError: the variable is not set, or is no folder; and as for ``fetch``.
        ValueError: the source is not of format ``mimic3``; and as for ``fetch``.
    """
    if source.format != "mimic3":
        raise ValueError(f"{source.name} is of format {source.format!r}; only 'mimic3' has MIMIC-III's tables")
    if not _readers_own(source):
        return fetch(source)
    advice = "set CARDIOEMBED_MIMIC to the folder of its tables (data_manifests/README.md, 'Your own MIMIC-III')"
    value = os.environ.get("CARDIOEMBED_MIMIC")
    if not value:
        raise FileNotFoundError(
            f"{source.name} is for those whom PhysioNet has given access ({source.source}); {advice}"
        )
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"CARDIOEMBED_MIMIC is {value}, which is not a folder; {advice}")
    return folder


def check_counts(source: Source, counts: dict[str, int]) -> None:
    """Refuse a preparation whose counts are not those in ``expect``; counts that it does not name are free.

    Raises:
        ValueError: a count differs, or was not made; names both counts.

    >>> check_counts(load("openstax_nutrition"), {**load("openstax_nutrition").expect, "anything": 1})
    """
    wrong = [(key, counts.get(key, "none"), n) for key, n in source.expect.items() if counts.get(key) != n]
    if wrong:
        both = "; ".join(f"{key}: found {got}, expected {n}" for key, got, n in wrong)
        raise ValueError(f"{source.name}: {both}; if the texts are right, correct 'expect' in {source.name}.yaml")


def seal(name: str) -> Path:
    """Rewrite the sidecar of a local source from its folder, and return it; a fixed revision is refused."""
    source = _parse(name)
    if source.path is None:
        raise ValueError(f"{name} is fixed at revision {source.revision}; only a source with 'path' can be sealed")
    if source.files is None:
        raise ValueError(f"{name}.yaml has no field 'files'; add `files: {name}.sha256` and seal again")
    archives.write_sums(sidecar := names()[name].parent / source.files, _local(source), _inside(source))
    load(name)
    return sidecar


def _parse(name: str) -> Source:
    """Return the manifest with its fields checked, but not yet its list of files."""
    if name not in names():
        raise KeyError(f"no manifest {name!r}; {files.near_miss(name, names())}")
    try:
        source = Source.model_validate(mappings.read(names()[name]))
    except ValidationError as error:
        raise ValueError(f"{name}.yaml: {_reworded(error)}; data_manifests/README.md explains the fields") from None
    if source.name != name:
        raise ValueError(f"{name}.yaml: field 'name' is {source.name!r}; write {name!r}, as the file is called")
    if source.role != (role := ROOMS[room := names()[name].parent.name]):
        raise ValueError(
            f"{name}.yaml: field 'role' is {source.role!r}, in {room}/ it is {role!r}; move the file or correct it"
        )
    return source


def _reworded(error: ValidationError) -> str:
    """Return pydantic's complaints as one sentence, one a field, each with the nearest field or value."""
    complaints: dict[str, str] = {}
    for item in error.errors():
        if item["type"] == "default_factory_not_called":  # of a default that is made of a wrong field
            continue
        field, message = str(item["loc"][0]) if item["loc"] else "", item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown field {field!r}; {files.near_miss(field, Source.model_fields)}"
        elif item["type"] == "missing":
            message = f"field {field!r} is missing"
        elif field:
            known = re.findall(r"'([^']*)'", item.get("ctx", {}).get("expected", ""))
            wanted = files.near_miss(str(item["input"]), known) if known else message
            wanted = "wanted 'all', or a list of its files such as [ch/one.md]" if field == "cardiology" else wanted
            wanted = FROM_PDF if (field, item["input"]) == ("format", "pdf") else wanted
            message = f"field {field!r} is {item['input']!r:.100}; {wanted}"
        complaints.setdefault(field, message)
    return "; ".join(complaints.values())


def _listed(source: Source) -> dict[str, str | None]:
    """Return SHA-256 by relative path in reading order; ``None`` where a local source has no sidecar."""
    listed = _sidecar(source) if source.files else dict.fromkeys(_inside(source) if source.path is not None else ())
    named = {file_of(source, path): path for path in source.cardiology} if source.cardiology != "all" else {}
    unknown = [path for file, path in named.items() if file not in listed]
    if unknown:
        near = files.near_miss(unknown[0], listed)[:200]  # a source may have thousands
        raise ValueError(f"{source.name}.yaml: field 'cardiology' names {unknown[0]!r}, no file of this source; {near}")
    return listed


def _sidecar(source: Source) -> dict[str, str]:
    file = names()[source.name].parent / source.files
    if not file.is_file():
        hint = "restore it from the repository" if source.path is None else SEAL.format(source.name)
        raise FileNotFoundError(f"{file} is missing; {hint}")
    return archives.read_sums(file)


def _local(source: Source) -> Path:
    folder = (names()[source.name].parent / Path(source.path).expanduser()).resolve()
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file; name its folder in 'path' in {source.name}.yaml")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; put the texts there, or correct 'path' in {source.name}.yaml"
        )
    return folder


def _inside(source: Source) -> list[str]:
    """Return the files of the source's format below its local folder, sorted."""
    folder, patterns = _local(source), PATTERNS[source.format]
    inside = sorted({file.relative_to(folder).as_posix() for pattern in patterns for file in folder.rglob(pattern)})
    if visible := [path for path in inside if "/." not in f"/{path}"]:  # a hidden folder holds an editor's copies
        if away := [path for path in visible if not (folder / path).resolve().is_relative_to(folder)]:
            raise ValueError(f"{away[0]} in {folder} is a link that leads out of it; put the file itself there")
        return visible
    wanted = ", ".join(patterns)
    if any(folder.rglob("*.[pP][dD][fF]")):
        raise FileNotFoundError(f"{folder} holds PDF files and no {wanted}; {FROM_PDF}")
    for format, others in BOOKS.items():
        if book := next((file.name for pattern in others for file in folder.rglob(pattern)), None):
            raise FileNotFoundError(
                f"{folder} holds {book} and no {wanted}; write `format: {format}` in {source.name}.yaml"
            )
    raise FileNotFoundError(f"{folder} holds no {wanted}; put the texts there, or correct {source.name}.yaml")


def _readers_own(source: Source) -> bool:
    """Return whether it is a MIMIC-III that nobody but its reader can place: restricted, with neither folder nor list."""
    return source.format == "mimic3" and source.access == "restricted" and source.path is None and source.files is None


def _cache(source: Source) -> Path:
    return paths.downloads() / f"{source.folder}@{(source.revision or '')[:12]}"


def _download(source: Source, cache: Path) -> Path:
    """Download the archive, with the files of every source that shares it, and return the folder."""
    advice = f"set CARDIOEMBED_MIRROR to a folder that has the files in {source.folder}/"
    if source.archive is None:
        raise FileNotFoundError(f"{source.name} has no archive to download; get it from {source.source} and {advice}")
    sharing = [other for other in map(_parse, names()) if other.path is None and _cache(other) == cache]
    wanted = {path: digest for other in sharing for path, digest in _listed(other).items()}
    archives.install(source.archive, cache, wanted, f"connect and try again, or {advice}")
    return cache


def command(action: str, name: str) -> int:
    """Fetch or seal a source and print its folder, or its list of files; return 0, or 1 after a sentence that says why not.

    Args:
        action: "fetch" or "seal".
        name: of the manifest.
    """
    try:
        sys.stdout.write(f"{fetch(load(name)) if action == 'fetch' else seal(name)}\n")
    except (ValueError, KeyError, OSError) as error:
        sys.stderr.write(f"{error.args[0] if isinstance(error, KeyError) else error}\n")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch or seal one source as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.corpus.manifests")
    parser.add_argument("action", choices=["fetch", "seal"])
    parser.add_argument("name")
    chosen = parser.parse_args(arguments)
    return command(chosen.action, chosen.name)


if __name__ == "__main__":
    raise SystemExit(main())
