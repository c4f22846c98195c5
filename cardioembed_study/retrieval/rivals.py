"""What must a tuned model beat? The ways of searching that need no tuning, each less the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cardioembed_study import show
from cardioembed_study.retrieval import evaluation
from cardioembed_study.retrieval.pools import Outcome, Task


def differences(
    task: Task, outcomes: Mapping[str, Mapping[str, Outcome]], base: str, runs: Sequence[str], seed: int
) -> dict[str, dict[str, dict]]:
    """Return what the advice to a reader is made of: each way of searching less those that it has to beat.

    Args:
        task: the headline task.
        outcomes: by model, then by task; BM25's and the base's hybrid with it among them.
        base: the untuned model.
        runs: the runs of one recipe, one a seed; without any nothing is said of ``tuned``.
        seed: as for ``evaluation.compare``.

    Returns:
        What ``evaluation.compare`` says of ``tuned`` less ``base``, ``bm25`` and ``hybrid``, of ``bm25`` less ``base``, and of
        ``hybrid`` less both.
    """
    untuned = {"base": base, "bm25": "bm25", "hybrid": f"{show.WITH_BM25}{base}"}
    members = {way: [model] for way, model in untuned.items()} | {"tuned": runs}
    pairs = [("tuned", rival) for rival in untuned if runs] + [("bm25", "base"), ("hybrid", "base"), ("hybrid", "bm25")]
    found: dict[str, dict[str, dict]] = {}
    for way, rival in pairs:
        told = evaluation.compare({task.name: task}, outcomes, untuned[rival], members[way], seed)
        found.setdefault(way, {})[rival] = told[task.name]
    return found
