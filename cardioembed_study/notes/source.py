"""Are these the tables of MIMIC-III, and is every value what its column holds? CSV files in, typed blocks out.

Ids are 64-bit whole numbers, missing ones null, never floats: a program that makes floats of them turns admission 145834 into
"145834.0", which matches nothing. No message shows a value of a table: what stands in the wrong column may be a note's text.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from cardioembed_study.notes import icd9

TABLES = {  # the columns that are read, and what their values are
    "NOTEEVENTS": {
        "ROW_ID": "number",
        "SUBJECT_ID": "number",
        "HADM_ID": "number or empty",
        "CHARTDATE": "date",
        "CHARTTIME": "time or empty",
        "CATEGORY": "text",
        "ISERROR": "number or empty",
        "TEXT": "text",
    },
    "DIAGNOSES_ICD": {
        "SUBJECT_ID": "number",
        "HADM_ID": "number",
        "SEQ_NUM": "number or empty",
        "ICD9_CODE": "code or empty",
    },
    "ADMISSIONS": {"SUBJECT_ID": "number", "HADM_ID": "number"},
    "PATIENTS": {"SUBJECT_ID": "number"},
    "D_ICD_DIAGNOSES": {"ICD9_CODE": "code"},
}
WANTED = {
    "number": "a whole number such as 145834",
    "date": "a date such as 2151-08-04",
    "time": "a time such as 2151-08-04 12:30:00",
    "code": "an ICD-9-CM code such as 42731",
}
BLOCK = 8 * 2**20  # bytes read at once, and more than any one row has
HEADER = 2**16  # characters, more than the header has
REMEDY = "take the original file of MIMIC-III v1.4"


@dataclass(frozen=True)
class Table:
    """One table, found: its name, its file, and each needed column as the file's header spells it."""

    name: str
    file: Path
    columns: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name} ({self.file.name})"

    @property
    def zipped(self) -> bool:
        """Whether the file is a ``.csv.gz``."""
        return self.file.suffix.lower() == ".gz"


def find(source: Path, name: str) -> Table:
    """Return a table of a folder, its header checked.

    Args:
        source: folder with ``NAME.csv`` or ``NAME.csv.gz`` (the first where both are there); in small letters or capitals, as
            the columns may be.
        name: one of ``TABLES``.

    Raises:
        FileNotFoundError: the folder or the file is missing.
        ValueError: a column is missing or stands twice, or the file cannot be read; names the column nearest to it.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; give the folder that holds MIMIC-III's tables")
    files = {file.name.upper(): file for file in source.iterdir() if file.is_file()}
    file = files.get(f"{name}.CSV") or files.get(f"{name}.CSV.GZ")
    if file is None:
        near = difflib.get_close_matches(f"{name}.CSV", files, n=1)
        hint = f"; did you mean {files[near[0]].name}?" if near else ""
        raise FileNotFoundError(f"{name}.csv or {name}.csv.gz is missing in {source}{hint}; MIMIC-III v1.4 has it")
    table = Table(name, file, {})
    header = _header(table)
    names = [column.strip().upper() for column in header]
    known = dict(zip(names, header, strict=True))
    for column in TABLES[name]:
        if column not in known:
            near = difflib.get_close_matches(column, known, n=1)
            hint = f"the nearest is {known[near[0]]!r}" if near else f"none of its {len(header)} is near"
            raise ValueError(f"{table} has no column {column}: {hint}; {REMEDY}")
        if names.count(column) > 1:
            raise ValueError(f"{table} has column {column} twice; {REMEDY}")
    return Table(name, file, {column: known[column] for column in TABLES[name]})


def batches(table: Table) -> Iterator[pl.DataFrame]:
    """Yield the needed columns block by block, every value parsed, and show the bytes read.

    Args:
        table: from ``find``.

    Yields:
        Some rows in the file's order; columns in small letters, whole numbers as Int64, missing values null, a missing code
        empty. Of a table without rows, one block without rows.

    Raises:
        ValueError: a value does not parse, or the file is damaged; names table, file, row (the header is row 1) and column.
    """
    row, problem = 2, ""
    size = table.file.stat().st_size
    with (
        pa.OSFile(str(table.file)) as raw,
        tqdm(total=size, desc=table.name, unit="B", unit_scale=True, leave=False) as bar,
    ):
        stream = _Counted(pa.CompressedInputStream(raw, "gzip") if table.zipped else raw)
        try:
            for batch in _reader(stream, table):
                yield _parsed(pl.DataFrame(batch), table, row)
                row += len(batch)
                bar.update(raw.tell() - bar.n)
        except pa.ArrowInvalid as error:
            problem = _wording(str(error), row)
        except OSError as error:
            if error.errno is not None:  # of the disk, or of who reads; a damaged archive has none
                raise
            problem = f"is damaged or cut off after row {row - 1:,}"
    if not problem and stream.quotes % 2:
        problem = "has a quoted field that is never closed: it is cut off, or was edited"
    if problem:  # outside the handler, so that pyarrow's own message, which quotes the row, is not attached
        raise ValueError(f"{table} {problem}; {REMEDY}")
    if row == 2:
        yield _parsed(pl.DataFrame(schema=dict.fromkeys(table.columns.values(), pl.String)), table, row)


class _Counted:
    """A stream of bytes that counts its quotes: whole CSV has an even number of them, whatever its fields hold."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self.stream, self.quotes = stream, 0

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.quotes += block.count(b'"')
        return block


def _header(table: Table) -> list[str]:
    opened = gzip.open if table.zipped else open
    try:
        with opened(table.file, "rt", encoding="utf-8-sig", errors="replace", newline="") as stream:
            line = stream.readline(HEADER)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{table} is damaged: it is no whole gzip archive; {REMEDY}") from error
    if len(line) == HEADER:
        raise ValueError(f"{table} has no end of a line within its first {HEADER:,} characters, the header; {REMEDY}")
    return next(csv.reader([line]), [])


def _reader(stream: _Counted, table: Table) -> Iterator[pa.RecordBatch]:
    columns = list(table.columns.values())
    text = dict.fromkeys(columns, pa.string())
    with pyarrow.csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),  # with threads no row is numbered
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=columns, column_types=text, strings_can_be_null=False
        ),
    ) as reader:
        yield from reader


def _wording(message: str, row: int) -> str:
    """Return pyarrow's complaint without the row's content, which it would show."""
    if wrong := re.match(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)", message):
        return f"has {int(wrong[3]):,} columns in row {int(wrong[1]):,} and {wrong[2]} in its header"
    if wrong := re.search(r"Row #(\d+): .*invalid UTF8", message):
        return f"is not UTF-8 in row {int(wrong[1]):,}"
    if "straddling" in message:
        return f"has no end of a row within {BLOCK // 2**20} MiB after row {row - 1:,}: a quoted field is not closed"
    return f"is no CSV that can be read after row {row - 1:,}"


def _parsed(frame: pl.DataFrame, table: Table, row: int) -> pl.DataFrame:
    """Return the columns with their types; ``row`` is that of the first one in the file."""
    parsed = {}
    for column, kinds in TABLES[table.name].items():
        kind, _, or_empty = kinds.partition(" or ")
        text = frame[table.columns[column]]
        value = text if kind == "text" else _converted(text := text.str.strip_chars(), kind)
        wrong = value.is_null() & ((text != "") | (not or_empty))
        if wrong.any():
            first = wrong.arg_max()
            raise ValueError(f"{table}, row {row + first:,}, column {column}: {_described(text[first], kind)}")
        parsed[column.lower()] = value
    return pl.DataFrame(parsed)


def _converted(text: pl.Series, kind: str) -> pl.Series:
    """Return the values of a column, null where one is empty or does not parse."""
    if kind == "number":
        return text.cast(pl.Int64, strict=False)
    if kind == "date":
        return text.str.strip_suffix(" 00:00:00").str.to_date("%Y-%m-%d", strict=False)
    if kind == "time":
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    return text.replace_strict({code: _code(code) for code in text.unique()}, return_dtype=pl.String)


def _code(text: str) -> str | None:
    try:
        return icd9.normalise(text)
    except ValueError:
        return None


def _described(text: str, kind: str) -> str:
    """Return what is wrong with a value without showing it."""
    if kind == "number" and re.fullmatch(r"-?\d+\.\d*", text):
        return f"a number with a decimal point, wanted {WANTED[kind]}; some program made floats of the ids: {REMEDY}"
    written = f"{len(text):,} characters that are none" if text else "empty"
    return f"{written}, wanted {WANTED[kind]}; {REMEDY}"
