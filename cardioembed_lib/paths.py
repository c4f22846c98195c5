"""Where is each room? Every folder of the project is named here once."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PROFILES = ROOT / "profiles"
MANIFESTS = ROOT / "data_manifests"
BOOK = ROOT / "book"
ADAPTERS = ROOT / "adapters"
SPEED = ROOT / "benchmarks" / "results"


def artifacts(profile: str) -> Path:
    """Return the folder of everything a profile makes: ``artifacts/<profile>``.

    ``CARDIOEMBED_ARTIFACTS`` moves the parent elsewhere, for example to a larger disk.
    """
    return Path(os.environ.get("CARDIOEMBED_ARTIFACTS", ROOT / "artifacts")) / profile


def downloads() -> Path:
    """Return the folder of fetched and verified source files, shared by all profiles."""
    return artifacts("downloads")


def mirror() -> Path | None:
    """Return the folder looked at before the network, or ``None`` (``CARDIOEMBED_MIRROR``)."""
    value = os.environ.get("CARDIOEMBED_MIRROR")
    return Path(value) if value else None


def need(path: Path, notebook: str) -> Path:
    """Return the path if it exists.

    Raises:
        FileNotFoundError: naming the notebook that makes it.
    """
    if not path.exists():
        where = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
        raise FileNotFoundError(
            f"{where} is missing; run notebooks/{notebook}.ipynb with this profile first, or `make book`"
        )
    return path
