"""Pieces of clinical notes that nobody wrote, in the forms in which programs let them slip: what the door is attacked with."""

import base64
import gzip
import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

ROWS = 6
WORDS = (
    *(
        "Mr Quillfeather",
        "of Ottery Row",
        "seen at night",
        "left effusion moderate",
        "lasix gtt held",
        "daughter Ysolde",
    ),
    *("phone 617-555-0143", "refuses rehab", "wound vac off", "tolerating sips", "code call changed", "MRN 8810293"),
)


def frame() -> pl.DataFrame:
    """Return a table of notes as a study holds it: ids, a date, a code, a text and a vector each."""
    draw = np.random.default_rng(5)
    texts = ["; ".join(draw.permutation(WORDS)[:7]) + f". Day {n} of stay." for n in range(ROWS)]
    return pl.DataFrame(
        {
            "subject_id": [41_976, 10_006, 87_214, 5_239, 99_982, 63_410],
            "hadm_id": [151_798, 142_345, 103_770, 196_521, 188_202, 127_663],
            "note_id": [1_234_567, 417_233, 990_817, 20_063, 1_873_540, 660_219],
            "charted": [date(2151, 8, 4) + timedelta(days=37 * n) for n in range(ROWS)],
            "code": ["277.39", "710.1", "335.20", "135", "275.1", "446.0"],
            "text": texts,
            "vector": draw.normal(size=(ROWS, 8)).round(6).tolist(),
        }
    )


def leaks() -> list[tuple[str, Any]]:
    """Return kind and value of every leak; a kind has one value for each note."""
    notes = frame()
    return [(kind, value) for row in notes.iter_rows(named=True) for kind, value in _of(row, notes)]


def _of(row: dict[str, Any], notes: pl.DataFrame) -> Iterator[tuple[str, Any]]:
    yield from _ids(row)
    yield from _texts(row, notes)
    yield from _numbers(row)
    yield from _said(row)


def _ids(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("subject_id", "hadm_id", "note_id"):
        n = row[name]
        for kind, value in {
            "plain": n,
            "as a text": str(n),
            "as a float": float(n),
            "scientific": f"{n:.6e}",
            "with commas": f"{n:,}",
            "with spaces": f"{n:,}".replace(",", " "),
            "with underscores": f"{n:_}",
            "with dots": f"{n:,}".replace(",", "."),
            "with hyphens": "-".join(str(n)),
            "padded": f"{n:010d}",
            "hexadecimal": hex(n),
            "octal": oct(n),
            "binary": bin(n),
            "negative": -n,
            "in a list": [n],
            "in a mapping": {str(n): 0.5},
            "as md5": hashlib.md5(str(n).encode()).hexdigest(),
            "as sha1": hashlib.sha1(str(n).encode()).hexdigest(),
            "as sha256": hashlib.sha256(str(n).encode()).hexdigest(),
            "as base64": base64.b64encode(str(n).encode()).decode(),
            "with its name": f"{name}={n}",
            "as a file name": f"note_{n}.txt",
            "as an error": f"KeyError: {n}",
            "as a column": f"{name}\n{n}\n",
            "thousandths": n / 1000,
            "millions": n / 1e4,
        }.items():
            yield f"{name} {kind}", value


def _texts(row: dict[str, Any], notes: pl.DataFrame) -> Iterator[tuple[str, Any]]:
    text = row["text"]
    words = text.split()
    yield from {
        "note": text,
        "note, capitals": text.upper(),
        "note, one line a word": "\n".join(words),
        "note, backwards": text[::-1],
        "note, quoted": repr(text),
        "note, as JSON": json.dumps({"text": text}),
        "note, in a list": [text],
        "note, as base64": base64.b64encode(text.encode()).decode(),
        "note, as hexadecimal": text.encode().hex(),
        "note, zipped": base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode(),
        "note, in an address": urllib.parse.quote(text),
        "note, in HTML": f"<td>{text}</td>",
        "note, in Markdown": f"| {text} |",
        "note, in CSV": f'1,"{text}"',
        "note, cut at 30": text[:30] + "…",
        "note, as a frame prints it": str(notes.filter(pl.col("text") == text).select("text", "code")),
        "sentence": text.split(".")[0],
        "five words": " ".join(words[:5]),
        "two words": " ".join(words[:2]),
        "first word": words[0],
        "token ids": [sum(map(ord, word)) for word in words],
        "tokens": words,
        "terms by weight": {word: round(1 / (n + 2), 4) for n, word in enumerate(words[:6])},
        "one term by weight": {words[1]: 0.31},
        "term counts": {word: 1 for word in words[:4]},
        "name as a key": {"Quillfeather": 0.25},
        "note as a key": {text: 0.5},
        "hash of the note": hashlib.sha256(text.encode()).hexdigest(),
        "length of the note": f"length {len(text)} of note {row['note_id']}",
    }.items()


def _numbers(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    v = row["vector"]
    yield from {
        "vector": v,
        "vector as text": " ".join(map(str, v)),
        "vector, three places": [round(x, 3) for x in v],
        "vector as bytes": base64.b64encode(np.asarray(v, dtype=np.float32).tobytes()).decode(),
        "array": np.asarray(v),
        "array as it prints": str(np.asarray(v)),
        "similarity by id": {str(row["note_id"]): 0.83},
        "rank by id": f"{row['note_id']}: 3",
        "place on a map": {"x": v[0], "y": v[1], "note": row["note_id"]},
        "count of a rare code": {row["code"]: 1},
        "count of a rare code, as text": f"{row['code']}: 3 patients",
        "small cell": row["subject_id"] % 10 + 1,
        "small cell as text": str(row["subject_id"] % 10 + 1),
        "small cell as a float": float(row["subject_id"] % 10 + 1),
        "cells that differ by a few": {"all": 1836, "rest": 1836 - row["subject_id"] % 10 - 1},
        "histogram": {"bins": [0, 1, 2], "ids": [row["subject_id"], row["hadm_id"]]},
    }.items()


def _said(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    day, n = row["charted"], row["subject_id"]
    yield from {
        "date": day.isoformat(),
        "date, American": f"{day:%m/%d/%Y}",
        "date as a number": int(f"{day:%Y%m%d}"),
        "date with a diagnosis": f"{day} {row['code']}",
        "date object": day,
        "tick label": f"patient {n}",
        "legend": f"patient{n} ({row['code']})",
        "log line": f"INFO {day} read note {row['note_id']} of {n}",
        "bar's name": f"note {row['note_id']}: 50%|#####     | 1/2",
        "bar's end": f"embed: 50%|#####     | 1/2, patient={n}",
        "warning": f"UserWarning: patient {n} has no diagnosis",
        "traceback": f'File "x.py", line 3\n    notes.filter(subject_id={n})\nKeyError: {n}',
        "folder": f"/data/mimic/{n}/notes.csv",
        "query": f"SELECT text FROM notes WHERE subject_id={n}",
        "markup": f'<text id="p{n}">{row["code"]}</text>',
        "run name": f"patient-{n}",
        "exception": KeyError(n),
        "row": (n, row["code"], day.isoformat()),
        "sentence about a patient": f"Patient {n} was admitted on {day} with {row['code']}.",
    }.items()


def traces(value: Any) -> set[str]:
    """Return what would show that a value has left: its texts of five characters, and its numbers of four digits, or more."""
    if isinstance(value, dict):
        return {trace for pair in value.items() for one in pair for trace in traces(one)}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return {trace for one in value for trace in traces(one)}
    if isinstance(value, BaseException):
        return traces(value.args)
    if isinstance(value, (int, float, np.floating)):
        return {str(value)} if sum(map(str.isdigit, str(value))) >= 4 else set()
    text = str(value)
    return {line for line in text.splitlines() if len(line) >= 5}
