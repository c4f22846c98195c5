"""What is a model asked? Queries, a pool of passages, and which of them is right.

Shapes: Q queries, N passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cardioembed_lib import encoder as encoders
from cardioembed_lib import lora, metrics
from cardioembed_lib.encoder import Encoder
from cardioembed_study import embeddings, lexical, settings
from cardioembed_study.corpus import pairs


@dataclass(frozen=True)
class Task:
    """A retrieval task: each query has one right passage, and is never counted as its own."""

    name: str
    queries: list[str]  # Q texts
    passages: list[str]  # N different texts
    gold: NDArray[np.int64]  # (Q,) column of the right passage
    clusters: list[str]  # Q documents the queries come from: the units of the bootstrap
    own: NDArray[np.int64] | None = None  # (Q,) column of the query itself, -1 where it is not among the passages


@dataclass(frozen=True)
class Outcome:
    """What a model made of a task: rank of the right passage and its cosine, for each query."""

    ranks: NDArray[np.int64]  # (Q,), 1 is best
    cosines: NDArray[np.float32]  # (Q,), NaN for a lexical floor
    similarities: NDArray[np.float32]  # (Q, N)


def from_pairs(name: str, asked: pl.DataFrame, pool: pl.DataFrame) -> Task:
    """Return the task of finding each asked anchor's positive among all different positives of the pool.

    Args:
        name: of the task, as records and tables call it.
        asked: pairs whose anchors are the queries (``pairs.SCHEMA``).
        pool: pairs whose positives are the candidates; those of ``asked`` are added.

    Raises:
        ValueError: if there is nothing to ask.

    >>> row = {"anchor": "q", "positive": "p", "source": "s", "document": "d"}
    >>> from_pairs("toy", pl.DataFrame([row]), pl.DataFrame([row, {**row, "positive": "x"}])).gold.tolist()
    [0]
    """
    if asked.is_empty():
        raise ValueError(f"task {name}: 0 pairs to ask, wanted at least 1; {settings.OTHER_PAIRS}")
    passages = (
        pl.concat([pool["positive"], asked["positive"]]).unique(maintain_order=True).to_list()
    )  # one order a pool
    place = {text: i for i, text in enumerate(passages)}
    gold = np.array([place[text] for text in asked["positive"]])
    own = np.array(
        [-1 if a == p else place.get(a, -1) for a, p in zip(asked["anchor"], asked["positive"], strict=True)]
    )
    return Task(name, asked["anchor"].to_list(), passages, gold, _units(asked, pool), own)


def _units(asked: pl.DataFrame, pool: pl.DataFrame) -> list[str]:
    """Return each pair's document, with its source before it where another source has a document of that name."""
    known = pl.concat([asked, pool], how="diagonal").select("source", "document").unique()
    several = known.filter(pl.col("document").is_duplicated())["document"].implode()
    unit = (
        pl.when(pl.col("document").is_in(several)).then(pl.format("{}:{}", "source", "document")).otherwise("document")
    )
    return asked.select(unit).to_series().to_list()


def standard(made: Mapping[str, pl.DataFrame], benchmarks: Sequence[str], split: str = "test") -> dict[str, Task]:
    """Return the tasks of the study that the pairs allow, by name, the headline first.

    ``definition_cardiology`` and ``definition_other``: a held-out glossary entry without its term, to be matched with the
    sentence that introduces the term among all introducing sentences of the corpus. ``definition_heldout``: the headline's
    queries again, the pool cut to held-out documents. ``question_heldout``: the held-out documents' own questions, to be
    matched with all answers of the corpus. ``<benchmark>_questions``: cardiology questions of an unseen domain, to be
    matched with their answers. ``heading_heldout`` stands in for the definitions of books without a glossary: a section's
    titles, to be matched with its first sentence.

    Args:
        made: pairs by kind (``definition``, ``heading``, ``question``) and benchmark.
        benchmarks: which of ``made`` are benchmarks.
        split: whose documents are asked.

    Raises:
        ValueError: if there is nothing to ask.
    """
    definitions, questions = pairs.of_glossary(made["definition"]), made["question"]
    held = definitions.filter(split=split)
    heart, other = held.filter(topic="cardiology"), held.filter(topic="other")
    headline = heart if len(heart) else other
    choices = [
        ("definition_cardiology", heart, definitions),
        ("definition_heldout", headline, held),
        ("definition_other", other, definitions),
        ("question_heldout", questions.filter(split=split), questions),
        *((f"{name}_questions", *2 * [made[name].filter(topic="cardiology")]) for name in benchmarks),
    ]
    if held.is_empty():
        choices.append(("heading_heldout", made["heading"].filter(split=split), made["heading"]))
    tasks = {name: from_pairs(name, asked, pool) for name, asked, pool in choices if len(asked)}
    if not tasks:
        raise ValueError(f"no {split} pair of any kind to ask; look at the counts of 01_corpus")
    return tasks


def evaluate(task: Task, encoder: Encoder, cache: Path | None = None, progress: bool = False) -> Outcome:
    """Return what an encoder makes of a task, with its own query and document prompts, similarities in float32.

    Args:
        task: the task.
        encoder: the model.
        cache: folder of embeddings (``embeddings.cached``); ``None`` embeds anew.
        progress: show a bar.
    """
    query, document = (encoder.prompts.get(side, "") for side in ("query", "document"))
    if cache is None:
        q = encoders.encode(encoder, task.queries, prompt=query, progress=progress)
        p = encoders.encode(encoder, task.passages, prompt=document, progress=progress)
    else:
        q = embeddings.cached(cache, encoder, task.queries, prompt=query, progress=progress)
        p = embeddings.cached(cache, encoder, task.passages, prompt=document, progress=progress)
    similarities = q @ p.T
    cosines = metrics.positive_cosines(q, p[task.gold])
    return Outcome(metrics.gold_ranks(similarities, task.gold, task.own), cosines, similarities)


def hybrid(task: Task, words: Outcome, model: Outcome) -> Outcome:
    """Return what BM25 and a model make of a task together, by reciprocal rank fusion (``lexical.fused``).

    What practitioners deploy, and the honest rival of tuning. The query itself, where it is in the pool, comes last.

    Args:
        task: the task.
        words: BM25's outcome (``floors``).
        model: a model's (``evaluate``).
    """
    both = [np.array(outcome.similarities) for outcome in (words, model)]
    if task.own is not None:
        rows = np.flatnonzero(task.own >= 0)
        for scores in both:
            scores[rows, task.own[rows]] = -np.inf
    scores = lexical.fused(*both)
    nothing = np.full(len(task.queries), np.nan, dtype=np.float32)
    return Outcome(metrics.gold_ranks(scores, task.gold, task.own), nothing, scores)


def dev_mrr(task: Task, encoder: Encoder) -> float:
    """Return the MRR of an encoder on a task: the score by which training picks its best step."""
    return metrics.mrr(evaluate(task, encoder).ranks)


def dev_separation(task: Task, encoder: Encoder) -> float:
    """Return the separation score on a task: mean cosine of a query with its passage, less that with all others.

    The comparative study scores its ablation by it, on ten pairs (section "Ablation").
    """
    outcome = evaluate(task, encoder)
    right = outcome.cosines.astype(np.float64)
    others, own = outcome.similarities.sum(dtype=np.float64) - right.sum(), task.own if task.own is not None else []
    itself = np.flatnonzero(np.asarray(own) >= 0)
    others -= outcome.similarities[itself, np.asarray(own)[itself]].sum(dtype=np.float64) if len(itself) else 0.0
    return float(right.mean() - others / (outcome.similarities.size - len(right) - len(itself)))


def merge_curve(
    task: Task, encoder: Encoder, weights: Sequence[float], known: Mapping[float, float]
) -> dict[float, float]:
    """Return the MRR of base + weight * adapter for each weight (``lora.weighted``).

    Args:
        task: a dev task.
        encoder: base with what was learnt on it.
        weights: shares of what was learnt.
        known: MRR of weights that were measured before.
    """
    found = {}
    for weight in weights:
        with lora.weighted(encoder.model, weight):
            found[weight] = known[weight] if weight in known else dev_mrr(task, encoder)
    return found


def floors(task: Task, seed: int) -> dict[str, Outcome]:
    """Return what no model at all makes of a task: ``random``, ``tfidf``, ``bm25``.

    Args:
        task: the task.
        seed: of the random scores.
    """
    scores = {
        "random": lexical.random_scores(len(task.queries), len(task.passages), seed),
        "tfidf": lexical.tfidf_scores(task.queries, task.passages),
        "bm25": lexical.bm25_scores(task.queries, task.passages),
    }
    nothing = np.full(len(task.queries), np.nan, dtype=np.float32)
    return {name: Outcome(metrics.gold_ranks(s, task.gold, task.own), nothing, s) for name, s in scores.items()}
