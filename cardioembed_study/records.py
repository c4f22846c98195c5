"""What was measured, on what, with what: one JSON a measurement and model, and is a second run the same?

A record is written once, at the end of a notebook: a run that fails leaves none. Nothing in it depends on the machine's
names or folders. ``python -m cardioembed_study.records verify FRESH COMMITTED`` compares two folders of records.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardioembed_lib import files
from cardioembed_study import paths

SAME, CLOSE = 1e-6, 5e-4  # STYLE section 5: rounding of a record; processors and library versions
VERDICTS = ("same", "note", "close", "extra", "missing", "differs")  # from best to worst
PACKAGES = (
    *("accelerate", "bitsandbytes", "bm25s", "faiss-cpu", "mteb", "numpy", "peft", "polars", "safetensors"),
    *("scikit-learn", "scipy", "sentence-transformers", "tokenizers", "torch", "transformers", "umap-learn"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One compared value: ``record`` and ``key`` name it, ``items`` is the number of queries that changed where it is known."""

    record: str
    key: str
    verdict: str
    ours: Any = None
    committed: Any = None
    items: int | None = None


def path(profile: str, measurement: str, model: str) -> Path:
    """Return where a record lives: ``artifacts/<profile>/results/<measurement>.<model>.json``.

    Raises:
        ValueError: a name that is no plain file name, or a measurement with a dot.

    >>> path("embedded", "retrieval", "all-MiniLM-L6-v2").name
    'retrieval.all-MiniLM-L6-v2.json'
    """
    for name, allowed in ((measurement, r"[\w+-]+"), (model, r"[\w+-][\w.+-]*")):
        if not re.fullmatch(allowed, name):
            raise ValueError(
                f"{name!r} cannot be part of a record's name; use letters, digits, '_' and '-' (short names)"
            )
    return paths.artifacts(profile) / "results" / f"{measurement}.{model}.json"


def write(
    path: Path | str,
    *,
    metrics: Mapping[str, Any],
    counts: Mapping[str, Any],
    inputs: Iterable[Path | str],
    params: Mapping[str, Any],
    status: str = "run",
    reason: str | None = None,
    seconds: float | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Write one record and return it as written.

    Adds commit, versions and the device's model name; rounds floats to 6 places; writes aside and moves, so that nobody
    ever reads half a record.

    Args:
        path: from ``records.path``.
        metrics: numbers, or lists and mappings of numbers.
        counts: what was counted: queries, candidates, ...; a string such as "<10" where the number is not shown.
        inputs: files (or folders, such as an adapter's) that the numbers depend on; their SHA-256 is recorded.
        params: the notebook's parameters; of an absolute path only the part below the repository, or the name, is kept.
        status: "run" or "not run".
        reason: the sentence that the book prints instead of numbers; needed for, and only for, "not run".
        seconds: wall time of the measured part.
        device: "cpu", "cuda", "cuda:1" or a name; by default the GPU if this process has opened one, else the processor.

    Raises:
        ValueError: NaN or infinity (named by key), a value JSON cannot hold, status and reason or metrics that disagree.
        FileNotFoundError: an input is missing.
    """
    if status not in ("run", "not run"):
        raise ValueError(f"status is {status!r}; choose 'run' or 'not run'")
    if (status == "not run") != bool(reason):
        raise ValueError(f"status {status!r} with reason {reason!r}; 'not run' needs a reason, and 'run' has none")
    if status == "not run" and metrics:
        raise ValueError(f"a record that is 'not run' has no metrics; found {', '.join(metrics)}")
    record: dict[str, Any] = {
        "commit": _commit(),
        "counts": counts,
        "device": _device(device),
        "inputs": _hashes(inputs),
        "metrics": metrics,
        "params": params,
        "status": status,
        "versions": versions(),
    }
    if reason:
        record["reason"] = reason
    if seconds is not None:
        record["seconds"] = round(float(seconds), 1)
    record = _plain(record)
    files.write(Path(path), json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
    return record


def read(path: Path | str) -> dict[str, Any]:
    """Return a record.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run the notebook that writes it, or `make book`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is not JSON: {error}; records are written by notebooks, not by hand") from None
    lacking = {"counts", "inputs", "metrics", "params", "status"} - set(record if isinstance(record, dict) else ())
    if lacking:
        raise ValueError(f"{path.name} is no record: it lacks {', '.join(sorted(lacking))}")
    return record


def load(profile: str, measurement: str, needed: bool = True) -> dict[str, dict[str, Any]]:
    """Return all records of one measurement of a profile, by model.

    Args:
        profile: whose records.
        measurement: the first part of the records' names.
        needed: whether every profile has it.

    Raises:
        FileNotFoundError: if it is needed and there is none, naming the folder.
    """
    folder = paths.artifacts(profile) / "results"
    found = {
        p.name.removeprefix(f"{measurement}.").removesuffix(".json"): p
        for p in sorted(folder.glob(f"{measurement}.*.json"))
    }
    if needed and not found:
        raise FileNotFoundError(
            f"no record {measurement}.*.json among the results of profile {profile!r}; run the notebooks before 06"
        )
    return {model: read(path) for model, path in found.items()}


def runs_by(field: str, profile: str, runs: Iterable[str]) -> dict[Any, list[str]]:
    """Return runs of ``02_train`` in groups, by a parameter in their records.

    Args:
        field: of the parameters: ``recipe`` (runs of one recipe are seeds of it), ``loss``.
        profile: whose runs.
        runs: their names.

    Raises:
        FileNotFoundError: a run has no record; ``02_train`` makes it.
    """
    found: dict[Any, list[str]] = {}
    for run in runs:
        record = read(paths.need(path(profile, "train", run), "02_train"))
        found.setdefault(record["params"][field], []).append(run)
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that can change a number.

    >>> versions()["numpy"] == np.__version__
    True
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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


def verify(folder: Path | str, committed_folder: Path | str) -> tuple[list[Row], str]:
    """Return the comparison of two folders of records, and its worst verdict.

    Args:
        folder: freshly measured records (``artifacts/<profile>/results``), subfolders included.
        committed_folder: the evidence (``book/results/<profile>``).

    Raises:
        FileNotFoundError: a folder has no record.
        ValueError: a file is no record.
    """
    sets = []
    for place in (Path(folder), Path(committed_folder)):
        records = {file.relative_to(place).with_suffix("").as_posix(): read(file) for file in place.rglob("*.json")}
        if not records:
            raise FileNotFoundError(f"{place} holds no records; run the notebooks, or `make book`, first")
        sets.append(records)
    rows = compare(*sets)
    return rows, max((row.verdict for row in rows), key=VERDICTS.index, default="same")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison of two folders; return 0 when every number is same or close, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.records", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("verify", help="compare freshly measured records with the committed ones")
    command.add_argument("folder", type=Path, help="freshly measured, e.g. artifacts/open/results")
    command.add_argument("committed", type=Path, help="the evidence, e.g. book/results/open")
    chosen = parser.parse_args(arguments)
    try:
        rows, worst = verify(chosen.folder, chosen.committed)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(_table([row for row in rows if row.verdict != "same"]))
    tally = ", ".join(f"{n} {v}" for v in VERDICTS if (n := sum(row.verdict == v for row in rows)))
    sys.stdout.write(f"{len({row.record for row in rows})} records: {tally or 'nothing to compare'}\n")
    return int(VERDICTS.index(worst) > VERDICTS.index("close"))


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
    cells = [("record", "value", "verdict", "ours", "committed", "queries changed")]
    for row in rows:
        values = ["" if v is None else str(v)[:18] for v in (row.ours, row.committed, row.items)]
        cells.append((row.record, row.key, row.verdict, *values))
    widths = [max(len(line[i]) for line in cells) for i in range(6)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(lines) + "\n" if rows else ""


def _plain(value: Any, key: str = "") -> Any:
    """Return the value as JSON holds it: rounded, without NaN, numpy types or folders of this machine."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{key}.{i}") for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}; a record holds finite numbers only, so nothing was written")
        return round(value, 6) + 0.0  # + 0.0: no minus zero
    if isinstance(value, Path) or (isinstance(value, str) and os.path.isabs(value)):
        place = Path(value)
        below = place.is_absolute() and place.is_relative_to(paths.ROOT)
        return (
            place.relative_to(paths.ROOT).as_posix()
            if below
            else place.name
            if place.is_absolute()
            else place.as_posix()
        )
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise ValueError(f"{key} is a {type(value).__name__}; a record holds numbers, texts, lists and mappings")


def _hashes(inputs: Iterable[Path | str]) -> dict[str, str]:
    """Return name to SHA-256; where two inputs share a name, the folder's name tells them apart."""
    given = [Path(item) for item in inputs]
    names = [file.name for file in given]
    found: dict[str, str] = {}
    for file in given:
        name = file.name if names.count(file.name) == 1 else f"{file.parent.name}/{file.name}"
        if name in found:
            raise ValueError(f"two inputs are called {name}; rename one, so that the record can tell them apart")
        found[name] = f"sha256:{_hash(file)}"
    return found


def _hash(file: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's sorted ``sha256sum`` listing."""
    if file.is_dir():
        inside = sorted(f for f in file.rglob("*") if f.is_file())
        listing = "".join(f"{_hash(f)}  {f.relative_to(file).as_posix()}\n" for f in inside)
        return hashlib.sha256(listing.encode()).hexdigest()
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, though the record's numbers are said to depend on it")
    return files.sha256(file)


def _commit() -> str:
    """Return the repository's short commit, "+changes" when the tree differs from it, or "unknown" without git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != paths.ROOT:  # installed inside another repository
            return "unknown"
        return git("rev-parse", "--short=7", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device(device: str | None) -> str:
    """Return the model name of processor or GPU; host names never."""
    torch = sys.modules.get("torch")  # a record is no reason to load it
    gpu = torch is not None and torch.cuda.is_available()
    if gpu and ((device is None and torch.cuda.is_initialized()) or re.fullmatch(r"cuda(:\d+)?", str(device))):
        return torch.cuda.get_device_name(None if device in (None, "cuda") else device)
    if device not in (None, "cpu"):
        return str(device)
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.is_file() else None
    return (named.group(1) if named else platform.processor()) or platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
