"""Is a second run the same as the committed evidence?

``python -m cardioembed_study.workflow.verify FRESH COMMITTED`` compares two folders of records.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from cardioembed_study import records

SAME, CLOSE = 1e-6, 5e-4  # rounding of a record; processors and library versions
VERDICTS = ("same", "note", "close", "extra", "missing", "differs")  # from best to worst


@dataclass(frozen=True)
class Row:
    """One compared value: ``record`` and ``key`` name it, ``items`` is the number of queries that changed where it is known."""

    record: str
    key: str
    verdict: str
    ours: Any = None
    committed: Any = None
    items: int | None = None


def compare(ours: Mapping[str, Mapping], committed: Mapping[str, Mapping]) -> list[Row]:
    """Return one row for each metric and count of two sets of records.

    ``same`` up to 1e-6, ``close`` up to 5e-4, else ``differs``, a rise like a fall. A record or key on one side only is
    ``missing`` (not measured again) or ``extra`` (not committed). Other inputs are a ``note``: they explain, they do not judge.

    Args:
        ours: record name to record, freshly measured.
        committed: the same of the evidence.

    >>> old = {"retrieval.m": {"metrics": {"mrr": 0.5}, "counts": {}, "inputs": {}, "status": "run"}}
    >>> new = {"retrieval.m": {"metrics": {"mrr": 0.5002}, "counts": {}, "inputs": {}, "status": "run"}}
    >>> [(row.key, row.verdict) for row in compare(new, old)]
    [('metrics.mrr', 'close')]
    """
    rows = []
    for name in sorted({*ours, *committed}):
        mine, theirs = ours.get(name), committed.get(name)
        if mine is None or theirs is None:
            rows.append(Row(name, "record", "missing" if mine is None else "extra"))
        elif mine["status"] != theirs["status"]:
            verdict = "missing" if mine["status"] == "not run" else "extra"
            rows.append(Row(name, "status", verdict, mine["status"], theirs["status"]))
        else:
            rows += _compare_one(name, mine, theirs)
    return rows


def compare_folders(folder: Path | str, committed_folder: Path | str) -> tuple[list[Row], str]:
    """Return the comparison of two folders of records, and its worst verdict.

    Args:
        folder: freshly measured records (``artifacts/<profile>/results``), subfolders included.
        committed_folder: the evidence (``book/results/<profile>``).

    Raises:
        FileNotFoundError: a folder has no record.
        ValueError: a file is no record.
    """
    rows = compare(_read(Path(folder)), _read(Path(committed_folder)))
    return rows, max((row.verdict for row in rows), key=VERDICTS.index, default="same")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison of two folders; return 0 when every number is same or close, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.workflow.verify", description=__doc__)
    parser.add_argument("folder", type=Path, help="freshly measured, e.g. artifacts/open/results")
    parser.add_argument("committed", type=Path, help="the evidence, e.g. book/results/open")
    chosen = parser.parse_args(arguments)
    try:
        rows, worst = compare_folders(chosen.folder, chosen.committed)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(_table([row for row in rows if row.verdict != "same"]))
    tally = ", ".join(f"{n} {v}" for v in VERDICTS if (n := sum(row.verdict == v for row in rows)))
    sys.stdout.write(f"{len({row.record for row in rows})} records: {tally or 'nothing to compare'}\n")
    return int(VERDICTS.index(worst) > VERDICTS.index("close"))


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a folder and its subfolders by name."""
    named = {file.relative_to(folder).with_suffix("").as_posix(): records.read(file) for file in folder.rglob("*.json")}
    if not named:
        raise FileNotFoundError(f"{folder} holds no records; run the notebooks, or `make book`, first")
    return named


def _compare_one(name: str, mine: Mapping, theirs: Mapping) -> list[Row]:
    rows = []
    queries = theirs["counts"].get("queries")
    for part in ("metrics", "counts"):
        left, right = (dict(_leaves(record[part], part)) for record in (mine, theirs))
        for key in sorted({*left, *right}):
            if key not in left or key not in right:
                rows.append(Row(name, key, "extra" if key in left else "missing", left.get(key), right.get(key)))
                continue
            items = None
            if key.startswith("metrics.acc_at_") and isinstance(queries, int) and re.fullmatch(r".*_\d+", key):
                items = round(abs(left[key] - right[key]) * queries)
            rows.append(Row(name, key, _verdict(left[key], right[key]), left[key], right[key], items))
    for key in sorted({*mine["inputs"], *theirs["inputs"]}):
        left, right = mine["inputs"].get(key), theirs["inputs"].get(key)
        if left != right:
            rows.append(Row(name, f"inputs.{key}", "note", left, right))
    return rows


def _verdict(ours: Any, committed: Any) -> str:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (ours, committed))
    if not numbers:
        return "same" if ours == committed else "differs"
    gap = abs(ours - committed) - 1e-12  # 0.500001 - 0.5 is a little more than 1e-6 in binary
    return "same" if gap <= SAME else "close" if gap <= CLOSE else "differs"


def _leaves(value: Any, key: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{position}")
    else:
        yield key, value


def _table(rows: Sequence[Row]) -> str:
    head = ("record", "value", "verdict", "ours", "committed", "queries changed")
    cells = [
        (
            row.record,
            row.key,
            row.verdict,
            *("" if v is None else str(v)[:18] for v in (row.ours, row.committed, row.items)),
        )
        for row in rows
    ]
    return tabulate(cells, headers=head, tablefmt="plain", disable_numparse=True) + "\n" if rows else ""


if __name__ == "__main__":
    raise SystemExit(main())
