"""Do the numbers of the ten-model comparative study agree with each other? One function a check."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping

from scipy import stats

from cardioembed_study.claims.arithmetic import Check, Values, cells, listed, lora_numbers, near

MODELS = (  # by separation
    *("BioLinkBERT", "Gemma-2-2B", "Qwen3-4B", "MPNet-base", "Qwen2.5-0.5B", "BGE-large-v1.5", "E5-large-v2"),
    *("BGE-small-v1.5", "BGE-M3", "Jina-v2"),
)
DECODERS = ("Gemma-2-2B", "Qwen3-4B", "Qwen2.5-0.5B")  # Jina-v2, which the study lists here, is a bidirectional BERT


def pairs_of(v: Values, left: str, right: str) -> list[tuple[str, float, float]]:
    """Return (model, left, right) of the study's ten models; a side is ``<table>:<column>`` below ``comparative``."""
    (lt, lc), (rt, rc) = left.split(":"), right.split(":")
    return [(m, v[f"comparative.{lt}.{m}.{lc}"], v[f"comparative.{rt}.{m}.{rc}"]) for m in MODELS]


def separations(v: Values) -> Check:
    """Each separation is the difference of its two means, to a unit of the last digit."""
    off = [
        (m, a, b, v[f"comparative.table1.{m}.separation"])
        for m, a, b in pairs_of(v, "table1:cosine_similar", "table1:cosine_different")
    ]
    worst = max(off, key=lambda row: abs(row[1] - row[2] - row[3]))
    return Check(
        "separations as differences",
        cells("comparative.table1", MODELS, "separation"),
        all(near(a - b, s, 0.001) for _, a, b, s in off),
        "separation is the mean cosine of similar pairs less that of different pairs",
        f"largest departure of {len(off)} models: {worst[0]}, {worst[1]:.3f} - {worst[2]:.3f} = {worst[1] - worst[2]:.3f} "
        f"against {worst[3]:.3f}",
    )


def figure_rounds_to_table(v: Values) -> Check:
    """Figure 1 draws the table's separations, with a digit more."""
    rows = pairs_of(v, "figure1:separation", "table1:separation")
    worst = max(abs(a - b) for _, a, b in rows)
    return Check(
        "Figure 1 and the table of separations",
        cells("comparative.figure1", MODELS, "separation"),
        all(near(a, b, 0.0005) for _, a, b in rows),
        "Figure 1 draws the separations of the table",
        f"largest difference {worst:.4f}, no more than rounding to three digits makes",
    )


def gains(v: Values) -> Check:
    """Each gain is the separation with LoRA less that without."""
    rows = pairs_of(v, "table1:separation", "zeroshot:separation_zero_shot")
    worst = max(abs(a - b - v[f"comparative.zeroshot.{m}.gain"]) for m, a, b in rows)
    return Check(
        "gains as differences",
        cells("comparative.zeroshot", MODELS, "gain"),
        near(worst, 0, 0.0005),
        "the gain is the separation with LoRA less that of the model as released",
        f"largest departure of {len(rows)} models: {worst:.3f}",
    )


def above_useful(v: Values) -> Check:
    """How many models lie above the threshold of usefulness."""
    at, stated = v["comparative.useful"], v["comparative.above_useful"]
    found = [m for m, s, _ in pairs_of(v, "figure1:separation", "table1:separation") if s > at]
    lower = sum(s > 0.25 for _, s, _ in pairs_of(v, "figure1:separation", "table1:separation"))
    return Check(
        "models above the threshold",
        ("comparative.above_useful",),
        len(found) == stated,
        f"{stated:.0f} of {len(MODELS)} models exceed {at:g}",
        f"{len(found)} do: {', '.join(found)}; {lower} exceed 0.25, the value that another caption gives",
    )


def top_five(v: Values) -> Check:
    """How many of the five highest separations belong to encoders."""
    ranked = sorted(MODELS, key=lambda m: -v[f"comparative.table1.{m}.separation"])[:5]
    kinds = ["decoder" if m in DECODERS else "encoder" for m in ranked]
    stated = v["comparative.encoders_in_top_five"]
    return Check(
        "encoders among the top five",
        ("comparative.encoders_in_top_five",),
        kinds.count("encoder") == stated,
        f"{stated:.0f} of the top five are encoder-only, and encoders dominate the top 4",
        f"{kinds.count('encoder')} are: {', '.join(f'{m} ({k})' for m, k in zip(ranked, kinds, strict=True))}",
    )


def improved(v: Values) -> Check:
    """How many models gain with LoRA."""
    found, stated = sum(v[f"comparative.zeroshot.{m}.gain"] > 0 for m in MODELS), v["comparative.improved"]
    return Check(
        "models that improve",
        ("comparative.improved",),
        found == stated,
        f"{stated:.0f} of {len(MODELS)} models improve with LoRA",
        f"{found} gains are positive",
    )


def medians(v: Values) -> Check:
    """The medians that the abstract gives are those of nine models, not of ten."""
    tuned = {m: s for m, s, _ in pairs_of(v, "table1:separation", "table1:separation")}
    plain = {m: s for m, s, _ in pairs_of(v, "zeroshot:separation_zero_shot", "table1:separation")}
    ten = [statistics.median(scores.values()) for scores in (tuned, plain)]
    nine = [statistics.median(s for m, s in scores.items() if m != "Jina-v2") for scores in (tuned, plain)]
    stated = [v["comparative.median_lora"], v["comparative.median_zero_shot"]]
    return Check(
        "medians of ten models",
        ("comparative.median_lora", "comparative.median_zero_shot"),
        all(near(a, b, 0.0005) for a, b in zip(ten, stated, strict=True)),
        f"medians {stated[0]:.3f} with LoRA and {stated[1]:.3f} without",
        f"over the ten models {ten[0]:.4f} and {ten[1]:.3f}; the stated ones correspond to the nine models without Jina-v2 "
        f"({nine[0]:.3f} and {nine[1]:.3f})",
    )


def intervals(v: Values) -> Check:
    """Each point lies inside its interval; BioLinkBERT's near the lower end."""
    models = ("BioLinkBERT", "Gemma-2-2B", "Qwen3-4B", "MPNet-base")
    low, high = (cells("comparative.interval", models, f"separation_{end}") for end in ("low", "high"))
    places = {
        m: (v[f"comparative.table1.{m}.separation"] - v[a]) / (v[b] - v[a])
        for m, a, b in zip(models, low, high, strict=True)
    }
    return Check(
        "points and their intervals",
        (*low, *high),
        all(0 <= place <= 1 for place in places.values()),
        f"BioLinkBERT {v['comparative.table1.BioLinkBERT.separation']:.3f} in [{v[low[0]]:.3f}, {v[high[0]]:.3f}]",
        "from the lower end of its interval (0 %) to the upper (100 %) the point stands at "
        f"{', '.join(f'{100 * place:.0f} % ({m})' for m, place in places.items())}",
    )


def correlations(v: Values) -> Check:
    """Pearson's correlations of separation with width and with parameters, from the tables."""
    separation = [v[i] for i in cells("comparative.figure1", MODELS, "separation")]
    names, others = ("dimensions", "parameters"), (("speed", "width"), ("table1", "parameters"))
    found = [stats.pearsonr(separation, [v[f"comparative.{t}.{m}.{c}"] for m in MODELS]) for t, c in others]
    ids = tuple(f"comparative.pearson_{name}{end}" for name in names for end in ("", "_p"))
    ours = [x for r in found for x in (r.statistic, r.pvalue)]
    return Check(
        "correlations with width and parameters",
        ids,
        all(near(a, v[i], 0.001) for a, i in zip(ours, ids, strict=True)),
        f"r = {v[ids[0]]:.3f} (p = {v[ids[1]]:.3f}) and r = {v[ids[2]]:.3f} (p = {v[ids[3]]:.3f})",
        f"r = {ours[0]:.3f} (p = {ours[1]:.3f}) and r = {ours[2]:.3f} (p = {ours[3]:.3f}), from ten models",
    )


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names that no other point beats or equals on both counts and beats on one; more is better.

    >>> pareto_front({"a": (1, 3), "b": (2, 2), "c": (1, 2)})
    ['a', 'b']
    """
    return [
        m for m, (x, y) in points.items() if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]


def pareto(v: Values) -> Check:
    """The models that no other beats on both counts."""
    fronts = {
        column: pareto_front(
            {m: (v[f"comparative.table1.{m}.separation"], sign * v[f"comparative.speed.{m}.{column}"]) for m in MODELS}
        )
        for column, sign in (("throughput", 1), ("latency_mean", -1), ("memory", -1))
    }
    stated = {"BioLinkBERT", "MPNet-base", "BGE-small-v1.5"}
    return Check(
        "Pareto front",
        ("comparative.pareto",),
        set(fronts["throughput"]) == stated and len(stated) == v["comparative.pareto"],
        f"{v['comparative.pareto']:.0f} models are not beaten on both separation and throughput: {', '.join(sorted(stated))}",
        f"with throughput {', '.join(fronts['throughput'])}; with memory {', '.join(fronts['memory'])}; with latency "
        f"{', '.join(fronts['latency_mean'])}",
    )


def efficiency(v: Values) -> Check:
    """Embeddings a second and GB, from the table of speed."""
    ids = {"BGE-small-v1.5": "comparative.efficiency_bge_small", "Qwen3-4B": "comparative.efficiency_qwen3_4b"}
    ours = {m: v[f"comparative.speed.{m}.throughput"] / v[f"comparative.speed.{m}.memory"] for m in ids}
    return Check(
        "embeddings a second and GB",
        tuple(ids.values()),
        near(ours["BGE-small-v1.5"], v[ids["BGE-small-v1.5"]], 0.5)
        and near(ours["Qwen3-4B"], v[ids["Qwen3-4B"]], 0.05),
        ", ".join(f"{v[i]:,g} ({m})" for m, i in ids.items()),
        ", ".join(f"{x:,.1f} ({m})" for m, x in ours.items()),
    )


def precision(v: Values) -> Check:
    """The memory of the two largest models is more than FP16 weights take, and near what float32 weights take."""
    models, bits = ("Gemma-2-2B", "Qwen3-4B"), v["comparative.precision_bits"]
    memory = [v[f"comparative.speed.{m}.memory"] for m in models]
    weights = [v[f"comparative.table1.{m}.parameters"] / 1000 for m in models]  # billions: GB for each byte
    bytes_each = [m / w for m, w in zip(memory, weights, strict=True)]
    return Check(
        "memory and precision",
        ("comparative.precision_bits",),
        all(b < 4 for b in bytes_each),
        f"models were evaluated with {bits:.0f} bits a weight (FP16), {bits / 8:.0f} bytes",
        f"{' and '.join(f'{g:.2f} GB ({m})' for m, g in zip(models, memory, strict=True))} are {listed(bytes_each, '{:.1f}')} "
        f"bytes a parameter, which corresponds to float32 weights ({listed([4 * w for w in weights], '{:.1f} GB')})",
        decides=False,
    )


def study_steps(v: Values) -> Check:
    """The steps of the study follow from pairs, epochs and batch without any accumulation."""
    steps = v["comparative.train_pairs"] * v["comparative.epochs"] / v["comparative.batch"]
    return Check(
        "steps of the study",
        ("comparative.steps",),
        near(steps, v["comparative.steps"], 0.5),
        f"about {v['comparative.steps']:,.0f} steps, batches of {v['comparative.batch']:.0f} with gradient accumulation",
        f"{v['comparative.train_pairs']:,.0f} × {v['comparative.epochs']:.0f} / {v['comparative.batch']:.0f} = {steps:,.0f}, "
        "which leaves no room for accumulation",
    )


def trained_parameters(v: Values) -> Check:
    """The trained parameters of the stated set-up, for the two models whose numbers are given."""
    rank = int(v["comparative.lora_rank"])
    ours = [rank * lora_numbers(model, "qv") / 1e6 for model in ("BioLinkBERT-large", "Qwen3-4B")]
    ids = ("comparative.trained_biolinkbert", "comparative.trained_qwen3_4b")
    return Check(
        "trained parameters of the study",
        tuple(itertools.chain(*((i, f"{i}_share") for i in ids))),
        all(near(a, v[i], 0.5) for a, i in zip(ours, ids, strict=True)),
        f"BioLinkBERT {v[ids[0]]:.1f}M ({v[ids[0] + '_share']:g} %) and Qwen3-4B {v[ids[1]]:.0f}M ({v[ids[1] + '_share']:g} %)",
        f"r {rank} on query and value projections has {ours[0]:.2f}M (BioLinkBERT-large) and {ours[1]:.1f}M (Qwen3-4B)",
    )


def ablation_gain(v: Values) -> Check:
    """What more data brings, by the ablation's own table."""
    ranks = (8, 16, 32)
    little, all_of_it = (
        [v[f"comparative.ablation.InfoNCE-{share}-percent.separation_r{r}"] for r in ranks] for share in (25, 100)
    )
    ratios = [b / a for a, b in zip(little, all_of_it, strict=True)]
    stated = v["comparative.ablation_gain"]
    return Check(
        "gain from more data",
        ("comparative.ablation_gain",),
        any(near(r, stated, 0.5) for r in ratios),
        f"{stated:.0f} times from 25 % to 100 % of the data",
        f"InfoNCE with r {', '.join(map(str, ranks))}: {listed(little, '{:.3f}')} at 25 % and {listed(all_of_it, '{:.3f}')} "
        f"at 100 %, {listed(ratios, '{:.2f}')} times",
    )


def ablation_negative(v: Values) -> Check:
    """How many configurations of the triplet loss lie below zero."""
    scores = [
        v[f"comparative.ablation.Triplet-{s}-percent.separation_r{r}"] for s in (25, 50, 100) for r in (8, 16, 32)
    ]
    below, stated = sum(s < 0 for s in scores), v["comparative.ablation_negative"]
    return Check(
        "negative scores of the triplet loss",
        ("comparative.ablation_negative",),
        below == stated,
        f"{stated:.0f} of {len(scores)} configurations are negative",
        f"{below} of {len(scores)} are",
    )


def headline_and_ablation(v: Values) -> Check:
    """The study's best score beside its ablation's at the same settings."""
    ids = ("comparative.table1.BioLinkBERT.separation", "comparative.ablation.InfoNCE-100-percent.separation_r16")
    return Check(
        "best score and its ablation",
        ids,
        near(v[ids[0]], v[ids[1]], 0.001),
        f"BioLinkBERT, r 16, all data, InfoNCE: {v[ids[0]]:.3f} (table of separations)",
        f"the ablation has {v[ids[1]]:.3f} for r 16, all data and InfoNCE, a ratio of {v[ids[0]] / v[ids[1]]:.1f}; it names "
        "other pairs, batches and epochs",
        decides=False,
    )


CHECKS: tuple[Callable[[Values], Check], ...] = (
    *(separations, figure_rounds_to_table, gains, above_useful, top_five, improved, medians, intervals, correlations),
    *(pareto, efficiency, precision, study_steps, trained_parameters, ablation_gain, ablation_negative),
    headline_and_ablation,
)
