"""What do merges of tuned models give, and how much of the best one's score comes from choosing it where it is measured?

A change is a tuned model's weights less its base's. ``sum``, ``cat`` and ``ties_svd`` merge changes. peft's
``linear`` merges the factors A and B of adapters one by one, and the product of two sums is not the sum of the
products: the ``linear`` mean of an adapter and its copy is twice the adapter.

Shapes: C candidates, Q queries, T tasks, G units (documents, or queries), N random halves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from peft import PeftModel
from torch import nn

from cardioembed_lib import files, models
from cardioembed_lib.encoder import Encoder
from cardioembed_study import mappings, paths
from cardioembed_study.medembed import asked
from cardioembed_study.retrieval import contrasts, evaluation

SUM = "sum"
METHODS = (SUM, "cat", "linear", TIES := "ties_svd")  # all but the first are named as by peft's add_weighted_adapter
DENSITY = 0.2  # share of each change's numbers that TIES keeps (Yadav et al. 2023, arXiv 2306.01708)
RESAMPLED = 200  # weightings of the units, and halvings of each
PLAIN = "none"
MERGES = {  # what is merged, and how: recipes to their weights, the simplest first; for TIES weights are 1 and no shares
    PLAIN: (SUM, {"none": 1.0}),
    "0.5 of none": (SUM, {"none": 0.5}),
    "0.75 of none": (SUM, {"none": 0.75}),
    "1.25 of none": (SUM, {"none": 1.25}),
    "1.5 of none": (SUM, {"none": 1.5}),
    "query": (SUM, {"query": 1.0}),
    "mean of none and query": ("cat", {"none": 0.5, "query": 0.5}),
    "sum of none and query": (SUM, {"none": 1.0, "query": 1.0}),
    "linear, none and query": ("linear", {"none": 0.5, "query": 0.5}),
    "TIES, none and query": (TIES, {"none": 1.0, "query": 1.0}),
    "medembed": (SUM, {"medembed": 1.0}),
    "mean of medembed and base": (SUM, {"medembed": 0.5}),
}
SEEDS = "mean of the seeds of none"
ORDER = (*MERGES, SEEDS)  # the simplest first
TRAININGS = (PLAIN, "query", "medembed")  # candidates that are no merges
LEDGER = paths.MANIFESTS / "claims" / "medembed.yaml"
CSV, MIX, AVERAGE = "medembed.csv_", "mix", "avg"  # the ledger's tables of variants, what its merged rows hold, no task
BASES = "bge-"  # how the names of untuned rows begin


def merged(base: models.ModelSpec, parts: Mapping[Path, float], method: str = SUM, density: float = DENSITY) -> Encoder:
    """Return a base model with several trained ones merged into it, under a name of its own for ``embeddings.cached``.

    ``sum``: base + sum of weight * change, of adapters and of models trained as a whole alike (task arithmetic; Ilharco et
    al. 2023, arXiv 2212.04089); one part alone is ``models.load``'s, by its name too. ``cat``: the same of adapters, by
    laying their factors side by side. ``linear`` merges the factors. ``ties_svd`` trims each change to its
    largest numbers, elects a sign for each, and takes the mean of those that have it, so weights are 1 and not shares; it
    keeps every singular value: the merge is not cut to a rank.

    Args:
        base: what all of them were trained on.
        parts: folder to its weight, any number.
        method: one of ``METHODS``.
        density: share of the numbers kept by ``ties_svd``, 0..1.

    Raises:
        KeyError: for another method.
        ValueError: nothing to merge; one adapter where a method needs two; a part that was trained on another base, as a
            whole where adapters are needed, or whose rank differs where factors are merged.
        FileNotFoundError: if there is no such folder, or no list of its hashes.
    """
    if method not in METHODS:
        raise KeyError(f"no way to merge {method!r}; {files.near_miss(method, METHODS)}")
    if not parts:
        raise ValueError("there is nothing to merge; give at least one folder and its weight")
    if method == SUM and len(parts) == 1:
        ((folder, weight),) = parts.items()
        return models.load(base, adapter=folder, weight=weight)
    learnt = ",".join(f"{models.checked(base, folder, None)}*{weight}" for folder, weight in parts.items())
    how = f"{method}:{density}" if method == TIES else method
    with torch.random.fork_rng(devices=[]):  # peft draws an adapter before it reads it
        plain = models.load(base)
        mixed = _added(plain.model, base, parts) if method == SUM else _combined(plain.model, parts, method, density)
    return replace(plain, model=mixed.eval().requires_grad_(False), revision=f"{plain.revision}+{how}({learnt})")


def _added(model: nn.Module, base: models.ModelSpec, parts: Mapping[Path, float]) -> nn.Module:
    """Return the base with all changes on it; one tuned model is held at a time."""
    start = {name: p.clone() for name, p in model.named_parameters()}
    for folder, weight in parts.items():
        tuned = dict(models.load(base, adapter=folder, weight=weight).model.named_parameters())
        for name, parameter in model.named_parameters():
            parameter += tuned[name] - start[name]
    return model


def _combined(model: nn.Module, parts: Mapping[Path, float], method: str, density: float) -> nn.Module:
    """Return the base with peft's merge of some adapters in its weights."""
    if len(parts) < 2:
        raise ValueError(f"{method} merges two adapters or more, one was given; scale a single one with {SUM!r}")
    for folder in parts:
        if models.weights(folder).name == models.WHOLE:
            raise ValueError(f"{folder.name} was trained as a whole; {method} merges adapters, use {SUM!r}")
    names = [str(n) for n in range(len(parts))]
    sizes = {"svd_rank": model.config.hidden_size, "svd_full_matrices": False} if method == TIES else {}
    with torch.no_grad():
        for name, folder in zip(names, parts, strict=True):
            if isinstance(model, PeftModel):
                model.load_adapter(folder, name)
            else:
                model = PeftModel.from_pretrained(model, folder, name)
        given = list(parts.values())
        model.add_weighted_adapter(names, given, "merged", combination_type=method, density=density, **sizes)
    model.set_adapter("merged")
    return model.merge_and_unload()


def candidates(
    adapters: Mapping[str, Path], members: Mapping[str, Sequence[str]]
) -> dict[str, list[tuple[str, dict[Path, float]]]]:
    """Return the merges to choose from, the simplest first: a method and its parts for each seed, but one of all seeds.

    Args:
        adapters: run to its folder.
        members: recipe to its runs, in one order of seeds; what a missing recipe would be part of is left out.
    """
    found = {}
    for name, (method, shares) in MERGES.items():
        if shares.keys() <= members.keys():
            together = zip(*(members[recipe] for recipe in shares), strict=True)
            found[name] = [
                (method, dict(zip((adapters[run] for run in runs), shares.values(), strict=True))) for runs in together
            ]
    plain = members[PLAIN]
    return found | {SEEDS: [(SUM, {adapters[run]: 1 / len(plain) for run in plain})]}


def measured(
    dev: asked.Asked,
    on_dev: Mapping[str, Sequence[NDArray]],
    tasks: Mapping[str, asked.Asked],
    on_test: Mapping[str, Sequence[Mapping[str, NDArray]]],
    chosen: str,
    seed: int,
) -> dict[str, Any]:
    """Return what each merge scores on dev, what the chosen one gains on test, and what choosing on test would add.

    Args:
        dev: what the choice was made on.
        on_dev: candidate to the scores of each of its seeds (``asked.score``).
        tasks: of the test, by name, all those of ``asked.JOINED``.
        on_test: candidate to the scores by task of each seed; of those that were not chosen the first alone is used.
        chosen: the candidate chosen on dev.
        seed: of draws and sign flips.

    Returns:
        ``dev``: candidate to ``score`` and ``evaluation.of_seeds`` of it less ``PLAIN``. ``test``: candidate, then key of
        ``asked.JOINED``, to the first seed's score. ``chosen_less_none``: key to ``contrasts.measured``, means of seeds; nothing
        where what was chosen is no merge (``TRAININGS``).
        ``selection``: ``selection_bias`` of the first seed's candidates. ``left_out``: by task, of ``left_out``.
    """
    plain = np.mean(on_dev[PLAIN], axis=0)
    found = {
        name: {"score": float(np.mean(each)), **evaluation.of_seeds(np.array(each), plain, dev.clusters, seed)}
        for name, each in on_dev.items()
    }
    joined = {name: [asked.joined(scores) for scores in each] for name, each in on_test.items()}
    units, names = asked.units(tasks), [*joined]
    scores = {key: np.array([joined[name][0][key] for name in names]) for key in units}
    less = {
        key: contrasts.measured(
            np.subtract(*(np.mean([one[key] for one in joined[name]], axis=0) for name in (chosen, PLAIN))),
            units[key],
            seed,
        )
        for key in units
        if chosen not in TRAININGS
    }
    means = {key: each.mean(axis=1).tolist() for key, each in scores.items()}
    return {
        "dev": found,
        "test": {name: {key: means[key][n] for key in means} for n, name in enumerate(names)},
        "chosen_less_none": less,
        "selection": selection_bias(scores, seed, clusters=units),
        "left_out": {
            row["task"]: {key: row[key] for key in ("score_by_all", "score_by_others", "difference")}
            for row in left_out(means, names).to_dicts()
        },
    }


def selection_bias(
    scores: Mapping[str, ArrayLike], seed: int, draws: int = 1000, clusters: Mapping[str, Sequence[str]] | None = None
) -> dict[str, float]:
    """Return by how much the best of some candidates looks better where it was chosen than on queries left out of the choice.

    Units are halved at random; the candidate with the best mean over tasks on one half is measured on both, and the other
    way round. Where both halves choose the same the difference is zero, else it is positive whatever the truth: read its size.
    A half is noisier than the whole, so that a choice on all queries is biased by less, by a factor of 0.7 where candidates
    are equal in truth. That the tasks themselves were chosen is not in it (``left_out``).

    Args:
        scores: task to (C, Q), what each candidate scores on each query, candidates in one order (``asked.score``).
        seed: of halves and resampling.
        draws: random halves.
        clusters: task to Q units that are not divided (``Asked.clusters``), one name being one unit in all tasks; by default
            each query is its own.

    Returns:
        ``apparent``: the chosen one's score where it was chosen; ``honest``: on the other half; ``optimism``: the difference;
        each a mean over tasks and halves; ``<key>_low`` and ``<key>_high`` of the last two: 95 % intervals from the spread under
        random weights of the units (Bayesian bootstrap; Rubin 1981), halved alike, in simulations rather too wide than too
        narrow; ``agreed``: share of the halvings whose two halves choose the same.

    Raises:
        ValueError: no task, fewer than two candidates, tasks that differ in them, NaN, or too few units to halve a task.
    """
    sums, sizes = _by_unit(scores, clusters or {})
    rng = np.random.default_rng(seed)
    halves = _halves(sizes, draws, rng)
    for task, size in zip(scores, sizes, strict=True):
        if min((halves @ size).min(), ((1 - halves) @ size).min()) == 0:
            raise ValueError(f"{task}: {np.count_nonzero(size)} units cannot be halved; give a task with more")
    found = _chosen(sums, sizes, halves)
    weights = rng.exponential(size=(RESAMPLED, sizes.shape[1]))
    again = [_chosen(sums * w, sizes * w, halves[:RESAMPLED]) for w in weights]
    for key in ("optimism", "honest"):
        spread = 1.96 * float(np.std([one[key] for one in again]))
        found |= {f"{key}_low": found[key] - spread, f"{key}_high": found[key] + spread}
    return found


def left_out(means: Mapping[str, Sequence[float]], names: Sequence[str]) -> pl.DataFrame:
    """Return what the candidate chosen by all tasks scores on each task, beside the one chosen by the other tasks.

    The difference is never negative, whatever the truth: a task that had a vote is served at least as well.

    Args:
        means: task to C scores, a candidate each.
        names: of the C candidates; of equal ones the first is chosen.

    Returns:
        A row a task: ``task``, ``by_all``, ``by_others`` (names), ``score_by_all``, ``score_by_others``, ``difference``.

    Raises:
        ValueError: fewer than two tasks or candidates, or another number of scores than of names.

    >>> left_out({"a": [0.5, 0.25], "b": [0.25, 0.375]}, ["x", "y"])["by_others"].to_list()
    ['y', 'x']
    """
    table = np.array([list(values) for values in means.values()], dtype=float)  # (T, C)
    if table.shape != (len(means), len(names)) or min(table.shape) < 2:
        raise ValueError(
            f"scores have shape {table.shape} for {len(names)} names; give two tasks and candidates or more"
        )
    best, others, rows = table.mean(axis=0).argmax(), (table.sum(axis=0) - table).argmax(axis=1), np.arange(len(table))
    with_it, without = table[:, best], table[rows, others]
    found = {"task": list(means), "by_all": [names[best]] * len(rows), "by_others": [names[other] for other in others]}
    return pl.DataFrame(found | {"score_by_all": with_it, "score_by_others": without, "difference": with_it - without})


def published_mixes(ledger: Path = LEDGER) -> pl.DataFrame:
    """Return how much MedEmbed's choice of a merge by the five reported tasks is worth on a task that had no vote.

    It can show whether the released merge depends on the task looked at, and by how much a reported mean is above that of
    merges chosen without the task. It cannot show the noise: no score of a query is published, so no interval is possible;
    nor what was tried and not reported; nor choices made before, of data, steps and runs. The rows are the only candidates.

    Args:
        ledger: the file of published numbers.

    Returns:
        A row a table of variants, three of them with a released model: ``table``, ``mixes`` (candidates), ``chosen`` (by all
        tasks), ``changed`` (tasks without which another is chosen), ``reported`` (mean over tasks of the one chosen by all),
        ``left_out`` (of those chosen without the task), ``difference``, ``largest`` (on one task), ``over_plain`` (``reported``
        less the mean of plain tuning): fractions of nDCG@10.
    """

    def tuned(row: str) -> bool:
        return MIX not in row and not row.startswith(BASES)

    rows = []
    for table in (table for table in mappings.read(ledger)["tables"] if table["id"].startswith(CSV)):
        mixes = {row: values for row, values in table["rows"].items() if MIX in row}
        tasks = [column.partition("/")[0] for column in table["columns"]]
        scores = dict(zip(tasks, zip(*mixes.values(), strict=True), strict=True))
        found = left_out({task: scores[task] for task in tasks if task != AVERAGE}, list(mixes))
        changed = int((found["by_all"] != found["by_others"]).sum())
        means = [found[key].mean() for key in ("score_by_all", "score_by_others", "difference")]
        (plain,) = (dict(zip(tasks, table["rows"][row], strict=True)) for row in table["rows"] if tuned(row))
        gain = means[0] - float(np.mean([value for task, value in plain.items() if task != AVERAGE]))
        rows.append((table["id"], len(mixes), found["by_all"][0], changed, *means, found["difference"].max(), gain))
    columns = ["table", "mixes", "chosen", "changed", "reported", "left_out", "difference", "largest", "over_plain"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def _by_unit(scores: Mapping[str, ArrayLike], clusters: Mapping[str, Sequence[str]]) -> tuple[NDArray, NDArray]:
    """Return each unit's sum of scores, (T, C, G), and number of queries, (T, G)."""
    values = [np.asarray(each, dtype=np.float64) for each in scores.values()]
    shapes = {task: each.shape for task, each in zip(scores, values, strict=True)}
    if any(len(shape) != 2 or shape[0] < 2 for shape in shapes.values()) or len({n for n, *_ in shapes.values()}) != 1:
        raise ValueError(
            f"scores have shapes {shapes}; give (candidates, queries) a task, the same two candidates or more"
        )
    if holes := [task for task, each in zip(scores, values, strict=True) if np.isnan(each).any()]:
        raise ValueError(f"scores of {holes[0]} hold NaN; every candidate must have a score for every query")
    names = [list(clusters.get(task, [f"{task} {n}" for n in range(shape[1])])) for task, shape in shapes.items()]
    if wrong := [task for own, (task, shape) in zip(names, shapes.items(), strict=True) if len(own) != shape[1]]:
        raise ValueError(f"{wrong[0]} has {shapes[wrong[0]][1]} queries and another number of clusters; give one each")
    units, member = np.unique(np.concatenate(names), return_inverse=True)
    members = np.split(member, np.cumsum([len(own) for own in names])[:-1])
    sums = np.zeros((len(values), len(values[0]), len(units)))
    for into, each, own in zip(sums, values, members, strict=True):
        np.add.at(into.T, own, each.T)
    return sums, np.array([np.bincount(own, minlength=len(units)) for own in members], dtype=float)


def _halves(sizes: NDArray, draws: int, rng: np.random.Generator) -> NDArray:
    """Return (N, G) 1 for the units of one half, 0 for the other: of those in the same tasks half each, to one."""
    _, kind = np.unique((sizes > 0).T, axis=0, return_inverse=True)
    order = np.argsort(kind.ravel() + rng.random((draws, sizes.shape[1])), axis=1)
    side = (np.arange(sizes.shape[1]) + rng.integers(0, 2, (draws, 1))) % 2
    halves = np.empty(order.shape)
    np.put_along_axis(halves, order, side, axis=1)
    return halves


def _chosen(sums: NDArray, sizes: NDArray, halves: NDArray) -> dict[str, float]:
    """Return what the best of each half scores there and on the other half, means over tasks, halves and draws."""
    sides = [
        np.mean([(side @ s.T) / (side @ n)[:, None] for s, n in zip(sums, sizes, strict=True)], axis=0)  # (N, C)
        for side in (halves, 1 - halves)
    ]
    first, second = (side.argmax(axis=1) for side in sides)
    rows = np.arange(len(halves))
    apparent = (sides[0][rows, first] + sides[1][rows, second]).mean() / 2
    honest = (sides[1][rows, first] + sides[0][rows, second]).mean() / 2
    found = {"apparent": apparent, "honest": honest, "optimism": apparent - honest, "agreed": (first == second).mean()}
    return {key: float(value) for key, value in found.items()}
