"""Does tuning teach the specialty, or the format?

The arms are those of ``corpus.arms``. Every difference is paired by query on the mean of an arm's seeds; intervals draw
documents, the units that are independent.

Shapes: Q queries, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cardioembed_lib import statistics
from cardioembed_study.retrieval import evaluation, pools
from cardioembed_study.retrieval.pools import Outcome, Task

DETECTED = 2.8  # standard errors that a two-sided test at 0.05 finds with a power of 0.80: 1.96 + 0.84
DRAWS = 2000
BASE = "base"  # arm of the untuned model
# contrast: task, arms added, arms taken away
ON_FOLDS = {
    "specialty": (["fold"], ["without"]),
    "format": (["without"], [BASE]),
    "whole": (["fold"], [BASE]),
    "format_less_specialty": (["without", "without"], [BASE, "fold"]),
}
IN_SMALL = {
    "small_specialty": (["cardiology"], ["other"]),
    "small_format": (["other"], [BASE]),
    "small_topic": (["heading"], [BASE]),
}
INTERACTION = (["swapped"], ["without"])  # on cardiology definitions, less the same on other definitions


def asked(made: Mapping[str, pl.DataFrame], benchmark: str, questions: int, seed: int) -> dict[str, Task]:
    """Return what every arm is asked: held-out definitions, headings and a benchmark's questions, of cardiology and not.

    Definitions have all introducing sentences of the corpus as their pool, headings the first sentences of held-out sections,
    questions the answers of the questions drawn.

    Args:
        made: pairs by kind: ``definition``, ``heading`` and the benchmark.
        benchmark: its name.
        questions: drawn of each topic, at most.
        seed: of the draw.
    """
    found = {}
    held = made["heading"].filter(pl.col("split") != "train")
    for topic in ("cardiology", "other"):
        parts = {kind: frame.filter(topic=topic, split="test") for kind, frame in made.items() if kind != benchmark}
        drawn = made[benchmark].filter(topic=topic)
        drawn = drawn.sample(min(questions, len(drawn)), seed=seed)
        choices = (("definition", parts["definition"], made["definition"]), ("heading", parts["heading"], held))
        for kind, part, pool in (*choices, (benchmark, drawn, drawn)):
            name = f"{kind}_{topic}"
            found[name] = pools.from_pairs(name, part, pool)
    return found


def development(definitions: pl.DataFrame) -> Task:
    """Return the dev documents' definitions among all introducing sentences: what the power is reckoned from."""
    return pools.from_pairs("dev", definitions.filter(split="dev"), definitions)


def of_each_fold(folds: Mapping[str, pl.DataFrame], definitions: pl.DataFrame) -> dict[str, Task]:
    """Return the definitions that each fold holds out, among all introducing sentences of the corpus, by the fold's arm."""
    return {arm: pools.from_pairs(arm, frame.filter(split="test"), definitions) for arm, frame in folds.items()}


def seen(folds: Mapping[str, pl.DataFrame]) -> NDArray[np.bool_]:
    """Return for each held-out pair, fold after fold, whether its term is among the terms that the fold's arm learnt from.

    >>> rows = {"group": ["term:a", "term:a", "term:b"], "split": ["train", "test", "test"]}
    >>> seen({"fold1": pl.DataFrame(rows)}).tolist()
    [True, False]
    """
    parts = [
        frame.filter(split="test")["group"].is_in(frame.filter(split="train")["group"].unique().implode())
        for frame in folds.values()
    ]
    return pl.concat(parts).to_numpy()


def questions(
    arm: str, held_out: Mapping[str, Task], test: Mapping[str, Task], development: Mapping[str, Task]
) -> dict[str, Task]:
    """Return what an arm is asked: a fold its own held-out definitions alone, the arms that know no fold all of them too."""
    if arm in held_out:
        return {arm: held_out[arm]}
    return {**development, **test, **(held_out if arm in (BASE, "without") else {})}


def reciprocal(outcomes: Mapping[str, Mapping[str, Outcome]], members: Mapping[str, Sequence[str]]) -> dict[str, dict]:
    """Return the reciprocal ranks of each arm on each task, (Q,), the mean of its runs.

    Args:
        outcomes: by model, then by task.
        members: arm to the names of its runs.
    """
    return {
        arm: {task: np.mean([1 / outcomes[run][task].ranks for run in runs], axis=0) for task in outcomes[runs[0]]}
        for arm, runs in members.items()
    }


def of_folds(ranks: Mapping[str, Mapping[str, NDArray]], folds: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return the reciprocal ranks of all folds as one task: ``fold`` asks each definition of the fold that held it out.

    Args:
        ranks: of ``reciprocal``.
        folds: in the order wanted.
    """
    known = (arm for arm in (BASE, "without") if arm in ranks)
    joined = {arm: np.concatenate([ranks[arm][f] for f in folds]) for arm in known}
    return joined | {"fold": np.concatenate([ranks[f][f] for f in folds])}


def difference(ranks: Mapping[str, NDArray], plus: Sequence[str], minus: Sequence[str]) -> NDArray[np.float64]:
    """Return the sum of some arms less that of others, (Q,).

    >>> difference({"a": np.array([1.0, 0.5]), "base": np.array([0.5, 0.5])}, ["a"], ["base"]).tolist()
    [0.5, 0.0]
    """
    return sum(ranks[arm] for arm in plus) - sum(ranks[arm] for arm in minus)


def measured(change: NDArray[np.float64], documents: Sequence[str], seed: int) -> dict[str, Any]:
    """Return a contrast: its mean over queries and over documents, each with a 95 % interval over documents, and p.

    Args:
        change: (Q,) differences of reciprocal ranks.
        documents: (Q,) where the queries come from.
        seed: of draws and sign flips.
    """
    found = statistics.paired_difference(change, np.zeros_like(change), seed, groups=documents)
    whole = {"queries": len(change), "documents": len(set(documents))}
    return found | whole | {"by_document": evaluation.by_document(change, documents, seed)}


def interaction(
    first: NDArray[np.float64], one: Sequence[str], second: NDArray[np.float64], two: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return by how much a difference is larger on one set of queries than on another, documents of both drawn anew.

    Args:
        first: (Q,) differences on the first set.
        one: (Q,) their documents.
        second: as ``first``, of other queries.
        two: their documents.
        seed: of the draws.

    Returns:
        ``difference``, ``low``, ``high`` (95 %), ``p`` (two-sided, from the draws), ``queries`` and ``documents`` of both.

    >>> interaction(np.ones(4), list("abcd"), np.zeros(4), list("abcd"), seed=17)["difference"]
    1.0
    """
    rng, means = np.random.default_rng(seed), []
    for change, documents in ((first, one), (second, two)):
        sums, sizes = statistics.group_sums(change, documents)
        drawn = rng.integers(0, len(sums), (DRAWS, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    draws = means[0] - means[1]
    low, high = np.quantile(draws, [0.025, 0.975])
    other_side = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return {
        "difference": float(first.mean() - second.mean()),
        "low": float(low),
        "high": float(high),
        "p": min(1.0, 2 * (1 + other_side) / (1 + DRAWS)),
        "queries": len(first) + len(second),
        "documents": len(set(one)) + len(set(two)),
    }


def powers(
    ranks: Mapping[str, NDArray], documents: Sequence[str], folds: int, matrix: int, seed: int
) -> dict[str, Any]:
    """Return which true difference a test would find four times in five, for contrasts of arms, reckoned from dev.

    Args:
        ranks: reciprocal ranks of each arm on dev, (Q,).
        documents: (Q,) of dev.
        folds: documents of the test over the folds; its contrasts are reckoned from the like ones of the arm ``swapped``.
        matrix: documents of the held-out test.
        seed: of the draws.

    Returns:
        For each contrast ``standard_error`` on dev, ``documents`` of dev, ``wanted`` of the test, and ``detectable``:
        ``DETECTED`` standard errors of the test, the standard error shrinking with the root of the number of documents.
    """
    likely = {"fold": ranks["swapped"], **ranks}
    choices = {name: (arms, folds) for name, arms in ON_FOLDS.items()} | {n: (a, matrix) for n, a in IN_SMALL.items()}
    found = {}
    for name, ((plus, minus), wanted) in (choices | {"interaction": (INTERACTION, matrix)}).items():
        change, n = difference(likely, plus, minus), len(set(documents))
        low, high = statistics.bootstrap(change, seed, groups=documents, n=DRAWS)
        error = (high - low) / (2 * 1.96)
        detectable = DETECTED * error * (n / wanted) ** 0.5
        found[name] = {"standard_error": error, "documents": n, "wanted": wanted, "detectable": detectable}
    return found


def of_matrix(ranks: Mapping[str, Mapping[str, NDArray]], test: Mapping[str, Task], seed: int) -> dict[str, dict]:
    """Return the contrasts on held-out documents: the interaction, and those in small on cardiology definitions.

    Args:
        ranks: of ``reciprocal``.
        test: of ``asked``.
        seed: of draws and sign flips.
    """
    tasks = [test[f"definition_{topic}"] for topic in ("cardiology", "other")]
    asked = [{arm: of[task.name] for arm, of in ranks.items() if task.name in of} for task in tasks]
    heart, other = (difference(of, *INTERACTION) for of in asked)
    found = {"interaction": interaction(heart, tasks[0].clusters, other, tasks[1].clusters, seed)}
    small = {name: measured(difference(asked[0], *arms), tasks[0].clusters, seed) for name, arms in IN_SMALL.items()}
    return found | {"swapped_on_cardiology": measured(heart, tasks[0].clusters, seed)} | small


def across(
    ranks: Mapping[str, Mapping[str, NDArray]], held: Mapping[str, Task], known: NDArray[np.bool_], seed: int
) -> dict[str, Any]:
    """Return the contrasts over all folds: of all definitions, of terms learnt from, and of terms that are new.

    Args:
        ranks: of ``reciprocal``.
        held: of ``of_each_fold``.
        known: of ``seen``.
        seed: of draws and sign flips.

    Returns:
        ``mrr`` of each arm, by query and by document; ``contrasts``, ``seen`` and ``unseen``, each of ``measured``.
    """
    joined = of_folds(ranks, list(held))
    documents = np.array([document for task in held.values() for document in task.clusters])
    levels = {}
    for arm, values in joined.items():
        sums, sizes = statistics.group_sums(values, documents)
        levels[arm] = {"by_query": float(values.mean()), "by_document": float((sums / sizes).mean())}
    whole = np.ones_like(known)
    parts = {
        part: {
            name: measured(difference(joined, *arms)[chosen], documents[chosen].tolist(), seed)
            for name, arms in ON_FOLDS.items()
        }
        for part, chosen in (("contrasts", whole), ("seen", known), ("unseen", ~known))
        if chosen.any()
    }
    return {"mrr": levels, **parts}


def corrected(contrasts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the contrasts with ``p_holm``: their family is all of those given, and no other."""
    adjusted = statistics.holm([c["p"] for c in contrasts.values()])
    return {name: {**c, "p_holm": float(p)} for (name, c), p in zip(contrasts.items(), adjusted, strict=True)}
