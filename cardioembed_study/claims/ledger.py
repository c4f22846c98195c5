"""Which number did who publish where? The files of claims: their schema, their tables, what must hold between them."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cardioembed_lib import files
from cardioembed_study import mappings, paths

FOLDER = paths.MANIFESTS / "claims"
SETTING = "reported setting"
BARE = ("fraction", "count")  # units that are not written after the number
SCALES = {"percent": -2, "points": -2}  # powers of ten to a fraction, so that 0.7748 and 77.48 percent are one number
Kind = Literal[
    "reported setting", "not tested", "closed data", "model out of reach", "never published"
]  # what can be said where nothing is computed
OFFICIAL = "official."  # ids of official numbers, which a publication that differs does not contradict
Text = Annotated[str, Field(min_length=1)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_-]+)+$")]
RowKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Column = Annotated[str, Field(pattern=r"^([A-Za-z0-9_.-]+/)?[A-Za-z0-9_-]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Claim(_Strict):
    """One published number.

    ``source`` is a key of its file's sources, ``place`` the table, figure, section or line; ``model`` and ``data`` say whom
    and what the number is about, ``value`` and ``unit`` are as published. ``conflicts`` are the ids of claims that give
    another value for the same thing (``one_way``: and are not in doubt themselves), ``beside`` those of official numbers by
    another protocol; ``kind``, in the files ``class``, is what is said where none of these and no check decides; ``measured``
    is the task on which we ran the same model.
    """

    id: Id
    source: Text
    place: Text
    model: str = ""
    data: str = ""
    metric: Text
    value: Annotated[float, Field(allow_inf_nan=False)]
    unit: Text
    conflicts: tuple[str, ...] = ()
    one_way: bool = False
    beside: tuple[str, ...] = ()
    kind: Kind | None = Field(None, alias="class")
    measured: str = ""
    note: str = ""


class _Table(_Strict):
    """Many numbers in the compact form: one claim a cell. ``classes`` may name a cell, a row or a column."""

    id: Id
    source: Text
    place: Text
    model: str = ""
    data: str = ""
    columns: Annotated[dict[Column, Text], Field(min_length=1)]
    rows: Annotated[dict[RowKey, list[float | None]], Field(min_length=1)]
    conflicts: dict[str, tuple[str, ...]] = {}
    beside: dict[str, tuple[str, ...]] = {}
    kind: Kind | None = Field(None, alias="class")
    classes: dict[str, Kind] = {}
    measured: dict[str, str] = {}
    notes: dict[str, str] = {}
    note: str = ""


class _Source(_Strict):
    title: Text
    cite: str = ""
    kind: Kind | None = Field(None, alias="class")


class _File(_Strict):
    paper: Text
    kind: Kind = Field(alias="class")
    sources: dict[str, _Source]
    claims: list[Claim] = []
    tables: list[_Table] = []


def load(folder: Path = FOLDER) -> dict[str, Claim]:
    """Return every claim by its id, in the order of the files.

    Conflicts are symmetric, naming one side is enough, unless they are one-way. An official number is contradicted by none.

    Args:
        folder: of ``<file>.yaml``.

    Raises:
        ValueError: naming file, id and field: a field that is missing, unknown or empty (a claim without a place), an id
            that is doubled or does not start with the file's name, an unknown source, class or conflict, a conflict of
            two numbers that rounding makes one.
    """
    claims: dict[str, Claim] = {}
    for path in _files(folder):
        for claim in _claims_of(path):
            if claim.id in claims:
                raise ValueError(f"{path.name}: id {claim.id!r} stands twice; ids are unique over all files")
            claims[claim.id] = claim
    both = {key: set(claim.conflicts) for key, claim in claims.items()}
    for key, claim in claims.items():
        for other in claim.conflicts:
            _check_conflict(claims, key, other)
            if not (claim.one_way or other.startswith(OFFICIAL)):
                both[other].add(key)
        for other in claim.beside:
            _known(f"{key.split('.')[0]}.yaml: {key}: beside names", other, claims, "no claim")
    return {
        key: claim.model_copy(update={"conflicts": tuple(other for other in claims if other in both[key])})
        for key, claim in claims.items()
    }


def sources(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """Return title, bibliography key and paper of every source, by ``<file>.<source>``."""
    return {
        f"{path.stem}.{key}": {"title": source.title, "cite": source.cite, "paper": file.paper}
        for path in _files(folder)
        for file in [_read(path)]
        for key, source in file.sources.items()
    }


def published(value: float, unit: str) -> str:
    """Return a number with its unit as text, no digit lost; from 10,000 on in groups of three.

    >>> published(99.6, "percent"), published(106386.0, "triplets"), published(8.0, "layers"), published(2e-05, "fraction")
    ('99.6 %', '106,386 triplets', '8 layers', '2e-05')
    """
    number = repr(float(value)).removesuffix(".0")
    if value.is_integer() and abs(value) >= 10_000:
        number = f"{int(value):,}"
    return number if unit in BARE else f"{number} {re.sub('^percent', '%', unit)}"


def _files(folder: Path) -> list[Path]:
    """Return the files of claims; that of properties lies beside them."""
    return sorted(path for path in folder.glob("*.yaml") if path.name != "properties.yaml")


def _read(path: Path) -> _File:
    content = mappings.read(path)
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where, inside = ".".join(map(str, problem["loc"])), content
        for step in problem["loc"][:2]:
            inside = (
                inside.get(step) if isinstance(inside, dict) else inside[step] if isinstance(inside, list) else inside
            )
        name = inside.get("id", "no id") if isinstance(inside, dict) else "no id"
        given = str(problem["input"])[:80]
        raise ValueError(f"{path.name}: {name}: {where}: {problem['msg']}; found {given!r}") from None


def _claims_of(path: Path) -> list[Claim]:
    """Return a file's claims and its tables' cells, each with the class that holds for it, ids and sources checked."""
    file = _read(path)
    plain = [*file.claims, *(cell for table in file.tables for cell in _cells(path, table))]
    out = []
    for claim in plain:
        if not claim.id.startswith(f"{path.stem}."):
            raise ValueError(f"{path.name}: id is {claim.id!r}; ids of this file start with '{path.stem}.'")
        where = f"{path.name}: {claim.id}"
        _known(f"{where}: source is", claim.source, file.sources, "not among the file's sources")
        out.append(claim.model_copy(update={"kind": claim.kind or file.sources[claim.source].kind or file.kind}))
    return out


def _cells(path: Path, table: _Table) -> list[Claim]:
    """Return one claim a cell; its id is ``<table>.<row>.<column>``, a slash in the column's name written as a dot."""
    out = []
    for row, values in table.rows.items():
        if len(values) != len(table.columns):
            raise ValueError(
                f"{path.name}: {table.id}: rows.{row} has {len(values)} values, columns has {len(table.columns)}; "
                "write null for a number that is not given"
            )
        for (column, unit), value in zip(table.columns.items(), values, strict=True):
            if value is not None:
                out.append(_cell(table, row, column, unit, value))
    cells = {f"{row}.{column}" for row in table.rows for column in table.columns}
    for field in ("conflicts", "beside", "notes"):
        for key in getattr(table, field):
            _known(f"{path.name}: {table.id}: {field} names", key, cells, "no row.column of it")
    for key in table.classes:
        _known(f"{path.name}: {table.id}: classes names", key, cells | {*table.rows, *table.columns}, "nothing of it")
    for key in table.measured:
        _known(f"{path.name}: {table.id}: measured names", key, table.columns, "no column of it")
    return out


def _cell(table: _Table, row: str, column: str, unit: str, value: float) -> Claim:
    task, _, metric = column.rpartition("/")
    key = f"{row}.{column}"
    data = "; ".join(part for part in (table.data, task, row if table.model else "") if part)
    return Claim(
        id=f"{table.id}.{row}.{column.replace('/', '.')}",
        source=table.source,
        place=table.place,
        model=table.model or row,
        data=data,
        metric=metric,
        value=value,
        unit=unit,
        conflicts=table.conflicts.get(key, ()),
        beside=table.beside.get(key, ()),
        kind=next((table.classes[k] for k in (key, row, column) if k in table.classes), table.kind),
        measured=table.measured.get(column, ""),
        note=" ".join(part for part in (table.note, table.notes.get(key, "")) if part),
    )


def _check_conflict(claims: dict[str, Claim], key: str, other: str) -> None:
    file = f"{key.split('.')[0]}.yaml"
    _known(f"{file}: {key}: conflicts names", other, claims, "no claim")
    pair = [Decimal(str(c.value)).scaleb(SCALES.get(c.unit, 0)).normalize() for c in (claims[key], claims[other])]
    coarser = max(pair, key=lambda number: number.as_tuple().exponent)  # one digit is too few to speak of rounding
    unit = Decimal(1).scaleb(coarser.as_tuple().exponent) if len(coarser.as_tuple().digits) > 1 else 0
    if abs(pair[0] - pair[1]) < unit or pair[0] == pair[1]:
        raise ValueError(
            f"{file}: {key}: conflicts names {other!r}, whose value is the same but for rounding, {claims[other].value:g}; a "
            "conflict is another value for the same thing"
        )


def _known(said: str, name: str, known: Collection[str], fault: str) -> None:
    """Refuse a name that is not among the known ones."""
    if name not in known:
        raise ValueError(f"{said} {name!r}, {fault}; {files.near_miss(name, known)}")
