"""Where is each room? Every folder of the project is named here once."""

from __future__ import annotations

import os
from pathlib import Path

from cardioembed_lib import files

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PROFILES = ROOT / "profiles"
MANIFESTS = ROOT / "data_manifests"
MODELS = MANIFESTS / "models.yaml"
PROMPTS = MANIFESTS / "queries" / "prompts.yaml"
BOOK = ROOT / "book"
ADAPTERS = ROOT / "adapters"
SPEED = ROOT / "benchmarks" / "results"
CLOSED = "CARDIOEMBED_CLOSED"  # environment variable of a process that must not see clinical notes
OPENED: set[str] = set()  # profiles whose clinical notes this process may have seen


def artifacts(profile: str) -> Path:
    """Return the folder of everything a profile makes: ``artifacts/<profile>``.

    ``CARDIOEMBED_ARTIFACTS`` moves the parent elsewhere, for example to a larger disk.
    """
    return Path(os.environ.get("CARDIOEMBED_ARTIFACTS", ROOT / "artifacts")) / profile


def restricted(profile: str) -> Path:
    """Return the folder of clinical texts and all that is made of them, made if it is missing, for its owner's eyes alone.

    Generated notes lie there as well: what holds for MIMIC-III is exercised with every run.

    Raises:
        PermissionError: this process renders what is published, or has no business with notes.
    """
    if os.environ.get(CLOSED):
        raise PermissionError(
            "restricted/ is closed to this notebook; only 01_notes, 05_mimic and runs on notes open it"
        )
    OPENED.add(profile)
    folder = artifacts(profile) / "restricted"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (ignore := folder / ".gitignore").exists():
        ignore.write_text("*\n", encoding="utf-8")  # wherever the artefacts lie
    return folder


def pairs(profile: str, kind: str) -> Path:
    """Return the file of the pairs of one kind; pairs of clinical notes are restricted."""
    folder = restricted(profile) if kind == "temporal" else artifacts(profile) / "pairs"
    return folder / f"{kind}.parquet"


def run(profile: str, name: str) -> Path:
    """Return the folder of a training run: below ``restricted`` where it learnt from clinical notes, else ``runs``.

    A run is looked for in both; a new one belongs where ``runs.claim`` puts it.
    """
    learnt = (artifacts(profile) / "restricted" / "runs" / name).exists()
    return (restricted(profile) if learnt else artifacts(profile)) / "runs" / name


def downloads() -> Path:
    """Return the folder of fetched and verified source files, shared by all profiles."""
    return artifacts("downloads")


def mirror() -> Path | None:
    """Return the folder looked at before the network, or ``None`` (``CARDIOEMBED_MIRROR``)."""
    value = os.environ.get("CARDIOEMBED_MIRROR")
    return Path(value) if value else None


def need(path: Path, notebook: str) -> Path:
    """Return the path if it exists and, of Parquet, holds what was written (``files.replacing``).

    Raises:
        FileNotFoundError: it is missing, or what says what was written; names the notebook that makes it.
        ValueError: a Parquet file holds something else.
    """
    notebook = "01_queries" if path.name in ("query.parquet", "paraphrase.parquet") else notebook
    remedy = f"run notebooks/{notebook}.ipynb with this profile"
    if not path.exists():
        raise FileNotFoundError(f"{'/'.join(path.parts[-3:])} is missing; {remedy} first, or `make book`")
    if path.suffix == ".parquet":
        files.verify(path.with_name(f"{path.name}.sha256"), [path.name], f"{remedy} again")
    return path
