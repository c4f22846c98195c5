"""What was asked and written, row by row; whoever wrote is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cardioembed_study.queries import rules, study


def by(writer: str) -> str:
    """Return how tables name a writer.

    >>> by("rule"), by("a-model")
    ('written by rule', 'written by a-model')
    """
    return f"written by {writer}"


def plan_rows(planned: study.Plan) -> list[dict[str, Any]]:
    """Return what is about to be asked; without a language model nothing is."""
    if planned.writer == rules.NAME:
        return [{"": by(planned.writer), "requests": 0}]
    counts = planned.counts
    return [
        {
            "": f"to be {by(planned.writer)}",
            "passages": counts["passages"],
            "requests, without repeats": counts["requests"],
            "tokens read, about": counts["prompt_tokens"],
            "tokens written, at most": counts["completion_tokens"],
            "cost, at most": planned.cost,
        }
    ]


def written_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was written of each kind, how many passages were skipped, and the pairs of each split."""
    if record["status"] == "not run":
        return [{"": record["reason"]}]
    counts, writer = record["counts"], by(record["params"]["written_by"])
    return [
        {
            "kind": kind.replace("_", " "),
            "": writer,
            "written": counts[f"written_{kind}"],
            "passages skipped": counts.get("skipped", {}).get(kind, 0),
        }
        for kind in record["params"]["kinds"]
    ]


def pair_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pairs of each kind by split."""
    writer = by(record["params"]["written_by"])
    return [
        {"pairs": kind, "": writer, **{split: n.get(split, 0) for split in ("train", "dev", "test")}}
        for kind, n in record["counts"].get("pairs", {}).items()
    ]


def fault_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return why replies could not be used, and the tokens and cost of all replies; nothing for rules."""
    counts = record["counts"]
    if "tokens" not in counts:
        return []
    faults = [{"": f"replies refused: {kind.replace('_', ' ')}", "number": n} for kind, n in counts["faults"].items()]
    tokens = [{"": name.replace("_", " "), "number": n} for name, n in counts["tokens"].items()]
    return faults + tokens + [{"": name, "number": value} for name, value in record["metrics"].items()]
