"""What was measured, on what, with what? One JSON a measurement and model.

A record is written once, at the end of a notebook: a run that fails leaves none. Nothing in it depends on the machine's
names or folders.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cardioembed_lib import files
from cardioembed_study import clinical, paths

PACKAGES = (
    *("accelerate", "bitsandbytes", "bm25s", "faiss-cpu", "mteb", "numpy", "peft", "polars", "safetensors"),
    *("scikit-learn", "scipy", "sentence-transformers", "tokenizers", "torch", "transformers", "umap-learn"),
)


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

    Adds commit, versions and the device's model name; rounds floats to 6 places; nobody ever reads half a record.

    Args:
        path: from ``records.path``.
        metrics: numbers, or lists and mappings of numbers.
        counts: what was counted: queries, candidates, ...; of clinical notes each a ``clinical.Count``.
        inputs: files (or folders, such as an adapter's) that the numbers depend on; their SHA-256 is recorded.
        params: the notebook's parameters; of an absolute path only the part below the repository, or the name, is kept.
            They tell a record of clinical notes, of which only what ``clinical`` names is written.
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
    given = list(inputs)
    record: dict[str, Any] = {"metrics": metrics, "counts": counts, "params": params, "status": status}
    if reason:
        record["reason"] = reason
    if seconds is not None:
        record["seconds"] = round(float(seconds), 1)
    record, notes = _plain(record), _of_notes(Path(path), params)
    if notes:
        record |= clinical.through(record, *notes, given)
    else:
        clinical.refuse_open_door(Path(path).name)
    if "profile" in params:  # speed records have none: they name shapes of models
        _refuse_words(record["metrics"])
    device = _device(None if notes else device)
    record |= {"commit": _commit(), "device": device, "inputs": _hashes(given), "versions": versions()}
    record = signed(record, Path(path).name)
    files.write(Path(path), json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return record


def signed(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a record with its digest, the SHA-256 of its name and everything else in it: against slips, not against forgers.

    >>> signed({"metrics": {}}, "retrieval.a.json") == signed({"metrics": {}}, "retrieval.b.json")
    False
    """
    rest = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps([name, rest], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return rest | {"digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}


def read(path: Path | str) -> dict[str, Any]:
    """Return a record.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no record, or not as it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run the notebook that writes it, or `make book`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}; records are written by notebooks, not by hand") from None
    lacking = {"counts", "inputs", "metrics", "params", "status"} - set(record if isinstance(record, dict) else ())
    if lacking:
        raise ValueError(f"{path.name} is no record: it lacks {', '.join(sorted(lacking))}")
    if record.get("digest") != signed(record, path.name)["digest"]:
        found = (
            "was changed or renamed after it was written"
            if "digest" in record
            else "has no digest, as records of before"
        )
        raise ValueError(f"{path.name} {found}; run the notebook that writes it again")
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
    files_of = {
        file.name.removeprefix(f"{measurement}.").removesuffix(".json"): file
        for file in sorted(folder.glob(f"{measurement}.*.json"))
    }
    if needed and not files_of:
        raise FileNotFoundError(
            f"no record {measurement}.*.json among the results of profile {profile!r}; run the notebooks before 06"
        )
    return {model: read(file) for model, file in files_of.items()}


def runs_by(field: str, profile: str, runs: Iterable[str]) -> dict[Any, list[str]]:
    """Return runs of ``02_train`` in groups, by a parameter in their records.

    Args:
        field: of the parameters: ``recipe`` (runs of one recipe are seeds of it), ``loss``.
        profile: whose runs.
        runs: their names.

    Raises:
        FileNotFoundError: a run has no record; ``02_train`` makes it.
    """
    groups: dict[Any, list[str]] = {}
    for run in runs:
        record = read(paths.need(path(profile, "train", run), "02_train"))
        groups.setdefault(record["params"][field], []).append(run)
    return groups


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that can change a number.

    >>> versions()["numpy"] == np.__version__
    True
    """
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _of_notes(place: Path, params: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return profile, measurement and model of a record of clinical notes; ``None`` of any other.

    Raises:
        ValueError: it would lie elsewhere than ``path`` says.
    """
    measurement, _, model = place.name.removesuffix(".json").partition(".")
    if not clinical.sealed(measurement, params):
        return None
    notes = str(params["profile"]), measurement, model
    if place.absolute() != path(*notes).absolute():
        raise ValueError(
            f"a record of clinical notes lies where records.path says; found another place for {measurement}"
        )
    return notes


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in it")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _refuse_words(metrics: Any, key: str = "metrics") -> None:
    """Refuse metrics that are no numbers.

    Raises:
        ValueError: naming the key.
    """
    if isinstance(metrics, (Mapping, list)):
        for name, inner in metrics.items() if isinstance(metrics, Mapping) else enumerate(metrics):
            _refuse_words(inner, f"{key}.{name}")
    elif isinstance(metrics, str) and metrics != clinical.HIDDEN:
        raise ValueError(f"{key} is a text; a metric is a number, so nothing was written")


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
        if place.is_relative_to(paths.ROOT):
            return place.relative_to(paths.ROOT).as_posix()
        return place.name if place.is_absolute() else place.as_posix()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise ValueError(f"{key} is a {type(value).__name__}; a record holds numbers, texts, lists and mappings")


def _hashes(inputs: Iterable[Path | str]) -> dict[str, str]:
    """Return name to SHA-256; where two inputs share a name, the folder's name tells them apart."""
    given = [Path(item) for item in inputs]
    names = [file.name for file in given]
    hashes: dict[str, str] = {}
    for file in given:
        name = file.name if names.count(file.name) == 1 else f"{file.parent.name}/{file.name}"
        if name in hashes:
            raise ValueError(f"two inputs are called {name}; rename one, so that the record can tell them apart")
        hashes[name] = f"sha256:{_hash(file)}"
    return hashes


def _hash(file: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's sorted ``sha256sum`` listing.

    A trained folder's own ``SHA256SUMS`` is left out, so that the hashes of older records, made before there was one, stay true.
    """
    if file.is_dir():
        inside = sorted(f for f in file.rglob("*") if f.is_file() and f.name != "SHA256SUMS")
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
