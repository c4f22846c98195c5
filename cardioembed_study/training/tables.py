"""What do the records of training runs say, row by row?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GRID = "ablation"  # the profile's grid that the study's ablation is
NAMES = ("run", "recipe", "grid", "precision_used")  # parameters that say nothing of how a run was trained


def run_rows(training: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return what each training run was and cost, a row a run."""
    return [
        {
            "run": run,
            "pairs": record["counts"]["pairs"],
            "steps": record["counts"]["steps"],
            "trained numbers": record["counts"]["trained_parameters"],
            "adapter, MiB": record["metrics"]["adapter_mebibytes"],
            "dev MRR before": record["metrics"]["dev_mrr_base"],
            "dev MRR, best": record["metrics"]["dev_mrr_best"],
            "at step": record["counts"]["best_step"],
            "precision": record["params"]["precision_used"],
            "minutes": record["seconds"] / 60,
        }
        for run, record in training.items()
    ]


def tried_rows(training: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return every run with what sets it apart from the first, and its dev scores, whole and merged; best first."""
    first = next(iter(training.values()))["params"]
    rows = []
    for run, record in training.items():
        own = {k: v for k, v in record["params"].items() if v != first[k] and k not in NAMES}
        changed = "; ".join(f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in own.items())
        m = record["metrics"]
        gain = m["dev_mrr_best"] - m["dev_mrr_base"]
        merged = {"merged at 0.5": m["dev_mrr_merged"]["0.5"]} if "0.5" in m["dev_mrr_merged"] else {}
        rows.append(
            {"run": run, "differs in": changed or "nothing", "dev MRR": m["dev_mrr_best"], "gain": gain} | merged
        )
    return sorted(rows, key=lambda row: -row["dev MRR"])


def on_books(training: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Return the runs on textbooks that are no cells of the ablation."""
    return {
        run: record
        for run, record in training.items()
        if not record["params"]["grid"] and "temporal" not in record["params"]["pairs"]
    }


def grid_cells(training: Mapping[str, Mapping], metric: str) -> list[dict[str, Any]]:
    """Return each cell of the ablation, as ``figures.ablation`` draws them.

    Args:
        training: run to ``train`` record; cells are those of the grid ``ablation``.
        metric: of the record: ``dev_mrr_best`` or ``dev_separation``.
    """
    return [
        {
            "share": record["params"]["data_share"],
            "loss": record["params"]["loss"],
            "rank": record["params"]["lora_rank"],
            "seed": record["params"]["seed"],
            "value": record["metrics"][metric],
        }
        for record in training.values()
        if record["params"]["grid"] == GRID
    ]


def numbers(training: Mapping[str, Mapping]) -> dict[str, Any]:
    """Return how many cells the ablation has and how many steps each ran, for the book's sentences.

    Args:
        training: run to ``train`` record.
    """
    steps = sorted({r["counts"]["steps"] for r in training.values() if r["params"]["grid"] == GRID})
    cells = len(grid_cells(training, "dev_mrr_best"))
    return {"ablation_cells": cells, "ablation_steps": f"{steps[0]} to {steps[-1]}" if steps else "no"}


def grid_rows(training: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the ablation as the study prints it: share and loss a row, ranks in columns, mean ± sd over the seeds."""
    rows: dict[tuple, dict[str, list[float]]] = {}
    for metric, name in (("dev_mrr_best", "MRR"), ("dev_separation", "separation")):
        for cell in sorted(grid_cells(training, metric), key=lambda c: (c["share"], c["loss"], c["rank"])):
            columns = rows.setdefault((cell["share"], cell["loss"]), {})
            columns.setdefault(f"{name}, r = {cell['rank']}", []).append(cell["value"])
    return [
        {"data": f"{share:.0%}", "loss": loss} | {name: _spread(values) for name, values in columns.items()}
        for (share, loss), columns in rows.items()
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
