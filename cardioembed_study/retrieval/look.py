"""What does each model put first? Questions of the project's own primer, for readers to look at; no record is made of them.

The primer alone may be shown: its sentences are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from cardioembed_lib import files
from cardioembed_study import clinical, paths, show
from cardioembed_study.corpus import manifests, pairs, passages
from cardioembed_study.retrieval import pools
from cardioembed_study.retrieval.pools import Outcome, Task

PRIMER = "primer"
ASKED = {"question": 40, "definition": 20}  # ours: pairs of each kind, as many as one reads through on a page


def unseen(made: Mapping[str, pl.DataFrame], read: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return pairs of the primer that no run of a profile has learnt from, and all passages of the primer.

    A profile that reads the primer is asked about the documents it holds out; to any other the whole primer is new. Pairs
    are taken at equal distances in reading order, so that nobody chooses them by their outcome.

    Args:
        made: the profile's pairs by kind; those of ``ASKED`` are read.
        read: the profile's passages.

    Returns:
        Pairs (``pairs.SCHEMA``), questions first, and passages.
    """
    own = read.filter(source=PRIMER)
    if own.is_empty():
        source = manifests.load(PRIMER)
        own = passages.prepare(source, manifests.fetch(source))[0].with_columns(split=pl.lit("test"))
        made = {kind: pairs.make(own, kind) for kind in ASKED}
    held = {kind: made[kind].filter(source=PRIMER, split="test") for kind in ASKED}
    return pl.concat([_spread(frame, ASKED[kind]) for kind, frame in held.items()]), own


def task(asked: pl.DataFrame, pool: pl.DataFrame) -> Task:
    """Return the task of finding each asked pair's positive among all sentences and answers of the pool.

    Args:
        asked: pairs whose anchors are the queries (``pairs.SCHEMA``).
        pool: passages, with ``kind`` and ``text``.

    Raises:
        ValueError: if there is nothing to ask.
    """
    candidates = pool.filter(pl.col("kind").is_in(["sentence", "answer"])).select(positive="text")
    return pools.from_pairs(PRIMER, asked, candidates)


def compared(task: Task, words: Outcome, models: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return what is shown side by side, by the name under which readers see it: BM25, base, tuned and their hybrid.

    Args:
        task: of ``task``.
        words: BM25's outcome.
        models: the base's, then that of a tuned model; the base alone where nothing was tuned.
    """
    base, *tuned = models.values()
    found = {"BM25": words, "base": base}
    for outcome in tuned[:1]:
        found |= {"tuned": outcome, "hybrid": pools.hybrid(task, words, outcome)}
    return found


def first(task: Task, outcomes: Mapping[str, Outcome], k: int = 5) -> list[dict[str, Any]]:
    """Return for each query what every model puts on its first k places.

    The right passage stands at its rank (``metrics.gold_ranks``), so behind all that tie with it; the query itself is left
    out; other equals stand as in the pool.

    Args:
        task: Q queries.
        outcomes: of each model, by the name under which readers see it.
        k: places.

    Returns:
        Q rows: ``query``; ``right``, the passage; ``candidates``, a count; and by model ``rank``, that of the right passage,
        and ``places``, at most k of ``text`` and whether it is ``right``.
    """
    return [
        {
            "query": query,
            "right": task.passages[task.gold[row]],
            "candidates": len(task.passages) - (_itself(task, row) >= 0),
            "models": {name: _found(task, outcome, row, k) for name, outcome in outcomes.items()},
        }
        for row, query in enumerate(task.queries)
    ]


def write(profile: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``artifacts/<profile>/tables/look.html``: a list that needs no script; ``book/_static/look.js`` searches it."""
    clinical.refuse_open_door("what belongs to tables/")
    files.write(paths.artifacts(profile) / "tables" / "look.html", show.filled(__package__, "look.html.j2", rows=rows))


def _found(task: Task, outcome: Outcome, row: int, k: int) -> dict[str, Any]:
    right, rank = int(task.gold[row]), int(outcome.ranks[row])
    order = np.argsort(-outcome.similarities[row], kind="stable").tolist()
    others = [column for column in order if column not in (right, _itself(task, row))]
    columns = [*others[: rank - 1], right, *others[rank - 1 :]][:k]
    return {"rank": rank, "places": [{"text": task.passages[c], "right": c == right} for c in columns]}


def _itself(task: Task, row: int) -> int:
    return -1 if task.own is None else int(task.own[row])


def _spread(frame: pl.DataFrame, n: int) -> pl.DataFrame:
    return frame[np.linspace(0, len(frame) - 1, min(n, len(frame))).round().astype(int).tolist()]
