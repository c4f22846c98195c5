"""Which training run is this, and does its folder belong to it?"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from cardioembed_lib import paths
from cardioembed_lib.settings import Train

# Modules that decide what a run learns.
CODE = ("encoder", "hierarchical", "icd9", "lora", "losses", "pairs", "pooling", "training")


def name(parameters: Train) -> str:
    """Return the run's name: the one given, else one made of rank, seed and a hash of all parameters."""
    if parameters.run:
        return parameters.run
    digest = hashlib.sha256(_canonical(parameters).encode()).hexdigest()[:6]
    return f"r{parameters.lora_rank}-s{parameters.seed}-{digest}"


def recipes(names: Iterable[str]) -> dict[str, list[str]]:
    """Return runs by the recipe they are seeds of: ``<recipe>-seed<n>`` belongs to ``<recipe>``, any other to ``tuned``.

    >>> recipes(["seed17", "seed18", "kept-seed17"])
    {'tuned': ['seed17', 'seed18'], 'kept': ['kept-seed17']}
    >>> recipes([])
    {'tuned': []}
    """
    found: dict[str, list[str]] = {"tuned": []}
    for run in names:
        match = re.fullmatch(r"(.+)-seed\d+", run)
        found.setdefault(match[1] if match else "tuned", []).append(run)
    return {recipe: runs for recipe, runs in found.items() if runs} or {"tuned": []}


def claim(parameters: Train, inputs: Iterable[Path]) -> Path:
    """Return the run's folder, made or found again.

    The same run over the same inputs goes on where it stopped. The same run over changed inputs, or with changed code of
    training, starts anew: its old state says nothing about them, and is kept as ``.<run>.old`` until the next such start.

    Args:
        parameters: of ``02_train``.
        inputs: the files trained on.

    Raises:
        ValueError: if the folder belongs to a run with other parameters; nothing of it is touched.
    """
    room = paths.restricted if "temporal" in parameters.pairs else paths.artifacts
    folder = room(parameters.profile) / "runs" / name(parameters)
    card = folder / "parameters.json"
    code = [Path(__file__).with_name(f"{module}.py") for module in CODE]
    wanted = {
        "parameters": json.loads(_canonical(parameters)),
        "inputs": {p.name: _digest(p) for p in [*inputs, *code]},
    }
    if card.exists():
        kept = json.loads(card.read_text(encoding="utf-8"))
        changed = {k: v for k, v in wanted["parameters"].items() if kept["parameters"].get(k) != v}
        if changed:
            found = {k: kept["parameters"].get(k) for k in changed}
            raise ValueError(
                f"run {folder.name!r} exists with {found}, wanted {changed}; choose another run name or delete {folder.name}/"
            )
        if kept["inputs"] == wanted["inputs"]:
            return folder
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    folder.mkdir(parents=True, exist_ok=True)
    aside = card.with_suffix(".partial")
    aside.write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(card)
    return folder


def _canonical(parameters: Train) -> str:
    return parameters.model_dump_json(exclude={"run", "profile"})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
