"""What do the records of training runs say, row by row?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
    plain = next(iter(training.values()))["params"]
    rows = []
    for run, record in training.items():
        own = {
            k: v
            for k, v in record["params"].items()
            if v != plain[k] and k not in ("run", "recipe", "grid", "precision_used")
        }
        merged = record["metrics"]["dev_mrr_merged"]
        gain = record["metrics"]["dev_mrr_best"] - record["metrics"]["dev_mrr_base"]
        changed = "; ".join(f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in own.items())
        shown = {"merged at 0.5": merged["0.5"]} if "0.5" in merged else {}
        rows.append(
            {"run": run, "differs in": changed or "nothing", "dev MRR": record["metrics"]["dev_mrr_best"], "gain": gain}
            | shown
        )
    return sorted(rows, key=lambda row: -row["dev MRR"])


GRID = "ablation"  # the profile's grid that the study's ablation is


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


def grid_rows(training: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the ablation as the study prints it: share and loss a row, ranks in columns, mean ± sd over the seeds."""
    found = [
        {"shown": shown, **cell}
        for metric, shown in (("dev_mrr_best", "MRR"), ("dev_separation", "separation"))
        for cell in grid_cells(training, metric)
    ]
    rows: dict[tuple, dict[str, Any]] = {}
    for cell in sorted(found, key=lambda c: (c["share"], c["loss"], c["shown"], c["rank"])):
        row = rows.setdefault((cell["share"], cell["loss"]), {"data": f"{cell['share']:.0%}", "loss": cell["loss"]})
        row.setdefault(f"{cell['shown']}, r = {cell['rank']}", []).append(cell["value"])
    return [{k: _spread(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows.values()]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
