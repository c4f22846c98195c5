"""Which training run is this, and does its folder belong to it?"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from cardioembed_lib import files, launched
from cardioembed_study import clinical, paths, records
from cardioembed_study.settings import Train, on_notes

CODE = (  # modules that decide what a run learns
    "cardioembed_lib.encoder",
    "cardioembed_lib.fused",
    "cardioembed_lib.hierarchical",
    "cardioembed_lib.lora",
    "cardioembed_lib.losses",
    "cardioembed_lib.packing",
    "cardioembed_lib.pooling",
    "cardioembed_lib.training",
    "cardioembed_study.lexical",
    "cardioembed_study.notes.icd9",
    "cardioembed_study.retrieval.pools",
    "cardioembed_study.search",
    "cardioembed_study.training.mixture",
)

_owned: dict[Path, FileLock] = {}  # run folders that are this process's until it ends


def name(parameters: Train) -> str:
    """Return the run's name: the one given, else one made of rank, seed and a hash of all parameters."""
    if parameters.run:
        return parameters.run
    digest = hashlib.sha256(_canonical(parameters).encode()).hexdigest()[:6]
    return f"r{parameters.lora_rank}-s{parameters.seed}-{digest}"


def helps() -> bool:
    """Return whether this process only shares the training of another, the first that ``accelerate launch`` has started."""
    return launched()[0] > 0


def claim(parameters: Train, inputs: Iterable[Path]) -> Path:
    """Return the run's folder, made or found again, and this process's until it ends unless it only ``helps``.

    The same run over the same inputs goes on where it stopped. The same run over changed inputs, or with changed code of
    training, starts anew: its old state says nothing about them, and is kept as ``.<run>.old`` until the next such start.
    A name under which nothing was trained yet is free for other parameters.

    Args:
        parameters: of ``02_train``.
        inputs: the files trained on.

    Raises:
        ValueError: if the folder belongs to a run with other parameters, or another process works in it, or restricted notes
            are learnt from under a name that is not in the profile's file; nothing of it is touched.
    """
    notes = on_notes(parameters.model_dump())
    if notes:
        clinical.refuse_strange(parameters, name(parameters))
    folder = (paths.restricted if notes else paths.artifacts)(parameters.profile) / "runs" / name(parameters)
    if helps():
        return folder
    _own(folder)
    card = folder / "parameters.json"
    code = {name: Path(importlib.util.find_spec(name).origin) for name in CODE}
    wanted = {
        "parameters": json.loads(_canonical(parameters)),
        "inputs": {name: files.sha256(path) for name, path in {**{p.name: p for p in inputs}, **code}.items()},
    }
    if card.exists():
        try:
            kept = json.loads(card.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"{folder.name}/{card.name} cannot be read; delete {folder.name}/ to start anew") from None
        changed = {k: v for k, v in wanted["parameters"].items() if kept["parameters"].get(k) != v}
        record = records.path(parameters.profile, "train", folder.name)
        untrained = list(folder.iterdir()) == [card] and not record.exists()
        if changed and not untrained:
            found = {k: kept["parameters"].get(k) for k in changed}
            raise ValueError(
                f"run {folder.name!r} exists with {found}, wanted {changed}; choose another run name or delete {folder.name}/"
            )
        if not changed and kept["inputs"] == wanted["inputs"]:
            return folder
        if not untrained:
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
    files.write(card, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
    return folder


def _own(folder: Path) -> None:
    """Lock a run's folder, or refuse one that a living process has locked; the operating system frees a dead one's lock."""
    if folder in _owned:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock, owner = (folder.with_name(f".{folder.name}.{end}") for end in ("lock", "owner"))
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        other = owner.read_text(encoding="utf-8") if owner.exists() else "of unknown id"
        raise ValueError(
            f"process {other} works on run {folder.name!r}; wait until it has ended, stop it, or choose another run name"
        ) from None
    if owner.exists():
        was = owner.read_text(encoding="utf-8")
        sys.stderr.write(f"run {folder.name!r} is taken over from process {was}, which died\n")
    files.write(owner, str(os.getpid()))
    atexit.register(owner.unlink, missing_ok=True)
    _owned[folder] = held


def _canonical(parameters: Train) -> str:
    return parameters.model_dump_json(exclude={"run", "profile"})
