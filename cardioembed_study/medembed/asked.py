"""What is every model of this study asked, and what does it score, query by query?

One form for definitions, questions and benchmarks, so that vectors that were cut or quantised, token vectors and second
passes are all scored alike: from their similarities.

Shapes: Q queries, N passages, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from mteb.abstasks import AbsTaskRetrieval
from numpy.typing import ArrayLike, NDArray

from cardioembed_lib import metrics, models
from cardioembed_lib.encoder import Encoder
from cardioembed_study import embeddings, paths, records
from cardioembed_study.forgetting import changes, mteb_tasks
from cardioembed_study.retrieval import contrasts, evaluation, pools

BENCHMARKS = ("SciFact", "NFCorpus")
DOCUMENTS, QUERIES = 640, 323  # of a part: every test query, up to two right documents of each, others drawn
MRR, NDCG = "mrr", "ndcg_at_10"
JOINED = {  # what is reported of several tasks as one
    "definitions": ("definition_cardiology", "definition_other"),
    "medquad": ("medquad_cardiology", "medquad_other"),
    "SciFact_part": ("SciFact_part",),
    "NFCorpus_part": ("NFCorpus_part",),
}


@dataclass(frozen=True)
class Asked:
    """A retrieval task with graded judgements and the measure that it is scored by."""

    name: str
    queries: list[str]  # Q texts
    passages: list[str]  # N texts
    grades: NDArray[np.int8]  # (Q, N), 0: not relevant
    clusters: list[str]  # Q units of the bootstrap: documents of a corpus, or the queries themselves
    measure: str  # mrr: one right passage; ndcg_at_10: a benchmark's graded ones
    own: NDArray[np.int64] | None = None  # (Q,) column of the query itself, -1 where it is not among the passages


def from_task(task: pools.Task) -> Asked:
    """Return one of our own tasks in this form.

    >>> task = pools.Task("toy", ["q"], ["p", "x"], np.array([1]), ["d"])
    >>> from_task(task).grades.tolist()
    [[0, 1]]
    """
    grades = np.zeros((len(task.queries), len(task.passages)), dtype=np.int8)
    grades[np.arange(len(task.queries)), task.gold] = 1
    return Asked(task.name, task.queries, task.passages, grades, task.clusters, MRR, task.own)


def from_benchmark(name: str, task: AbsTaskRetrieval) -> Asked:
    """Return one of mteb's retrieval tasks in this form; title and text are joined with a space, as mteb does."""
    (split,) = task.eval_splits
    data = task.dataset["default"][split]
    place = {document: n for n, document in enumerate(data["corpus"]["id"])}
    passages = [f"{row['title']} {row['text']}".strip() for row in data["corpus"]]
    ids = list(data["queries"]["id"])
    grades = np.zeros((len(ids), len(place)), dtype=np.int8)
    for n, query in enumerate(ids):
        for document, grade in data["relevant_docs"][query].items():
            grades[n, place[document]] = grade
    return Asked(name, list(data["queries"]["text"]), passages, grades, ids, NDCG)


def development(made: Mapping[str, pl.DataFrame]) -> Asked:
    """Return what choices are made on: dev documents' definitions.

    Args:
        made: pairs by kind, ``definition`` among them.
    """
    return from_task(contrasts.development(made["definition"]))


def test(made: Mapping[str, pl.DataFrame], benchmark: str, questions: int, seed: int) -> dict[str, Asked]:
    """Return what is reported: held-out definitions, a benchmark's questions, parts of SciFact's and NFCorpus' test splits.

    Args:
        made: pairs by kind: ``definition``, ``heading`` and the benchmark.
        benchmark: its name.
        questions: drawn of each topic, at most.
        seed: of the draws.
    """
    own = contrasts.asked(made, benchmark, questions, seed)
    found = {name: from_task(task) for name, task in own.items() if not name.startswith("heading")}
    for name in BENCHMARKS:
        whole = mteb_tasks.from_files(name)
        found[f"{name}_part"] = from_benchmark(f"{name}_part", changes.subset(whole, DOCUMENTS, QUERIES, seed))
    return found


def vectors(asked: Asked, encoder: Encoder, cache: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors of queries (Q, D) and passages (N, D), each with the encoder's own prompt.

    Args:
        asked: the task.
        encoder: the model, under a name of its own (``embeddings.cached``).
        cache: folder of embeddings.
    """
    sides = ("query", asked.queries), ("document", asked.passages)
    return tuple(
        embeddings.cached(cache, encoder, texts, prompt=encoder.prompts.get(side, ""), progress=True)
        for side, texts in sides
    )


def model(profile: str, name: str) -> Encoder:
    """Return a run of ``02_train`` on the base that it started from, or a base of ``models.yaml``.

    Raises:
        FileNotFoundError: the run has no adapter; says which notebook makes it.
        KeyError: there is no such base.
    """
    place = records.path(profile, "train", name)
    if not place.exists():
        return models.load(models.spec(name, paths.MODELS))
    adapter = paths.need(paths.artifacts(profile) / "runs" / name / "adapter", "02_train")
    return models.load(models.spec(records.read(place)["params"]["base"], paths.MODELS), adapter=adapter)


def embedded(
    asked: Mapping[str, Asked], encoder: Encoder, cache: Path
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the vectors of queries and passages of each task (``vectors``)."""
    return {name: vectors(task, encoder, cache) for name, task in asked.items()}


def scores(asked: Mapping[str, Asked], encoder: Encoder, cache: Path) -> dict[str, NDArray[np.float64]]:
    """Return what a model scores on each task, query by query, by the cosines of its vectors."""
    made = embedded(asked, encoder, cache)
    return {name: score(asked[name], queries @ passages.T) for name, (queries, passages) in made.items()}


def score(asked: Asked, similarities: ArrayLike) -> NDArray[np.float64]:
    """Return what each query scores, (Q,): its reciprocal rank, or nDCG@10; ties count against us.

    Args:
        asked: the task.
        similarities: (Q, N), higher is closer; ``-inf`` for what a first pass left out.

    >>> toy = Asked("toy", ["q"], ["p", "x"], np.array([[0, 1]], dtype=np.int8), ["d"], MRR)
    >>> score(toy, [[0.9, 0.1]]).tolist()
    [0.5]
    """
    if asked.measure == NDCG:
        return metrics.ndcg(similarities, asked.grades, 10)
    return 1 / metrics.gold_ranks(similarities, asked.grades.argmax(axis=1), asked.own)


def compare(
    asked: Mapping[str, Asked],
    outcomes: Mapping[str, Mapping[str, NDArray[np.float64]]],
    base: str,
    runs: Sequence[str],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Return a recipe against another model for each task: the runs' mean, less the other's, query by query.

    Args:
        asked: tasks by name.
        outcomes: by model, then by task (``scores``).
        base: what the runs are compared with.
        runs: the recipe's runs, one a seed.
        seed: of sign flips and bootstrap.

    Returns:
        For each task ``base``, ``tuned``, and ``evaluation.of_seeds`` with ``p_holm`` over the tasks.
    """
    found = {}
    for name, task in asked.items():
        before, each = outcomes[base][name], np.array([outcomes[run][name] for run in runs])
        found[name] = {"base": float(before.mean()), "tuned": float(each.mean())}
        found[name] |= evaluation.of_seeds(each, before, task.clusters, seed)
    return contrasts.corrected(found)


def joined(scored: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """Return what a model scores on each key of ``JOINED``, query by query, one task after the other.

    Args:
        scored: by task (``scores``).
    """
    return {name: np.concatenate([scored[task] for task in tasks]) for name, tasks in JOINED.items()}


def units(asked: Mapping[str, Asked]) -> dict[str, list[str]]:
    """Return the units of the bootstrap of each key of ``JOINED``, query by query."""
    return {name: [unit for task in tasks for unit in asked[task].clusters] for name, tasks in JOINED.items()}


def contrast(
    asked: Mapping[str, Asked],
    outcomes: Mapping[str, Mapping[str, NDArray[np.float64]]],
    runs: Sequence[str],
    others: Sequence[str],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return the mean of some models less that of others, by key of ``JOINED``: ``contrasts.measured``.

    Args:
        asked: tasks by name.
        outcomes: by model, then by task (``scores``).
        runs: names of the models whose scores are averaged.
        others: of those taken away.
        seed: of draws and sign flips.
    """
    means = [[joined(outcomes[name]) for name in names] for names in (runs, others)]
    return {
        name: contrasts.measured(
            np.subtract(*(np.mean([one[name] for one in each], axis=0) for each in means)), clusters, seed
        )
        for name, clusters in units(asked).items()
    }


def counts(asked: Asked) -> dict[str, int]:
    """Return queries, the documents or queries that are the units of the bootstrap, and passages."""
    return {"queries": len(asked.queries), "documents": len(set(asked.clusters)), "candidates": len(asked.passages)}
