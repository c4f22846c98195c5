"""What was asked and written, row by row; whoever wrote is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cardioembed_study.queries import rules, study


def plan_rows(planned: study.Plan) -> list[dict[str, Any]]:
    """Return what is about to be asked; without a language model nothing is."""
    if planned.writer == rules.NAME:
        return [{"": f"written by {rules.NAME}", "requests": 0}]
    return [
        {
            "": f"to be written by {planned.writer}",
            "passages": planned.counts["passages"],
            "requests, without repeats": planned.counts["requests"],
            "tokens read, about": planned.counts["prompt_tokens"],
            "tokens written, at most": planned.counts["completion_tokens"],
            "cost, at most": planned.cost,
        }
    ]


def written_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was written of each kind, and how many passages were skipped."""
    if record["status"] == "not run":
        return [{"": record["reason"]}]
    counts, by = record["counts"], f"written by {record['params']['written_by']}"
    skipped = counts.get("skipped", {})
    return [
        {"kind": k.replace("_", " "), "": by, "written": counts[f"written_{k}"], "passages skipped": skipped.get(k, 0)}
        for k in record["params"]["kinds"]
    ]


def pair_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pairs of each kind by split."""
    by, splits = f"written by {record['params']['written_by']}", ("train", "dev", "test")
    found = record["counts"].get("pairs", {})
    return [{"pairs": kind, "": by, **{split: n.get(split, 0) for split in splits}} for kind, n in found.items()]


def fault_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return why replies could not be used, and the tokens and cost of all replies; nothing for rules."""
    counts = record["counts"]
    faults = {f"replies refused: {kind}": n for kind, n in counts.get("faults", {}).items()}
    shown = faults | counts.get("tokens", {}) | record["metrics"]
    return [{"": name.replace("_", " "), "number": n} for name, n in shown.items()]
