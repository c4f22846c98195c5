"""Do the published numbers agree with each other?

A check takes published values by the ids of their claims, so no published number is typed here; what is typed are ids, words
and the sizes of released models. Each function gives the checks of one subject: what is stated, what is computed, and a row
with the check's name, the claims that it is about and whether they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cardioembed_lib import files, lora
from cardioembed_study.claims import arithmetic
from cardioembed_study.claims.arithmetic import listed, near, shares
from cardioembed_study.claims.ledger import Claim

Values = Mapping[str, float]  # published value by the id of its claim
PARTS = ("train", "validation", "test")
MODELS = (  # of the comparative study, by separation
    *("BioLinkBERT", "Gemma-2-2B", "Qwen3-4B", "MPNet-base", "Qwen2.5-0.5B", "BGE-large-v1.5", "E5-large-v2"),
    *("BGE-small-v1.5", "BGE-M3", "Jina-v2"),
)
DECODERS = ("Gemma-2-2B", "Qwen3-4B", "Qwen2.5-0.5B")  # Jina-v2, which the study lists here, is a bidirectional BERT
TASKS = {  # as MedEmbed's CSV files call them: as its JSON files do
    **{task: task for task in ("ArguAna", "MedicalQARetrieval", "NFCorpus")},
    **{"PublicHealthQA": "PublicHealthQA-en", "TRECCOVID": "TRECCOVID"},
}
MIXES = {  # of MedEmbed, by size: the row of the merged variant that was released
    "small": "medembed.csv_small_v1.medical-bge-small-v1-mix1",
    "base": "medembed.csv_base_v0.medical-bge-base-v0-mix1",
    "large": "medembed.csv_large_v0.medical-bge-large-mix2",
}
TUNED_ONLY = {  # size: the row of the model that is not merged
    "small": "medembed.csv_small_v1.medical-bge-small-v1.5-1",
    "base": "medembed.csv_base_v0.medical-bge-base-v0",
    "large": "medembed.csv_large_v0.medical-bge-large-v0",
}
MIMIC = ("text-embedding-3-small", "text-embedding-3-large", "EmbeddingGemma-300m", "InfoNCE", "hierarchical")
LOSSES = MIMIC[3:]
NEAR = 0.5  # points between two scores of a model on a task that we call the same
PROMPTS = "tuned models and their prompted bases"
ICD9_CHAPTERS_HELD = (2.9, 5.7, 8.6)  # chapters an admission, ours: few, middling and many


@dataclass(frozen=True)
class Check:
    """What a publication states, and what follows from its own numbers.

    ``holds`` is whether the statement follows from the numbers; ``decides`` is whether a check that fails is a fault of
    arithmetic. A comparison of two sources, or one that rests on a reading of ours, informs and does not decide. ``results`` are
    those of its claims that are computed, the others are what they are computed or compared with.
    """

    name: str
    claims: tuple[str, ...]
    holds: bool
    stated: str
    computed: str
    decides: bool = True
    results: tuple[str, ...] = ()


def compute(claims: Mapping[str, Claim]) -> list[Check]:
    """Return every check of the published numbers, in the order of the publications.

    Raises:
        KeyError: a check needs a claim that the ledger lacks, both named.
    """
    values = {key: claim.value for key, claim in claims.items()}
    return [check for subject in SUBJECTS for check in of(subject, values)]


def of(subject: Callable[[Values], Iterator[Check]], values: Values) -> list[Check]:
    """Return the checks of one of ``SUBJECTS``; raises as ``compute``."""
    try:
        return list(subject(values))
    except KeyError as error:
        missing, name = str(error.args[0]), subject.__name__
        near_miss = files.near_miss(missing, values)
        raise KeyError(
            f"a check of {name} needs the claim {missing!r}, which is not in the ledger; {near_miss}"
        ) from None


def each(ids: str, *words: str) -> tuple[str, ...]:
    """Return the ids of a family of claims, one for each word.

    >>> each("study.table1.{}.mrr", "A", "B")
    ('study.table1.A.mrr', 'study.table1.B.mrr')
    """
    return tuple(ids.format(word) for word in words)


def column(v: Values, ids: Sequence[str]) -> np.ndarray:
    """Return several published values, in the order of their ids."""
    return np.array([v[key] for key in ids])


def books(v: Values) -> Iterator[Check]:
    """Some of a corpus's sources cannot exceed the whole."""
    names = ("cardiovascular_medicine", "braunwald", "esc")
    ids, whole = each("cardioembed.share_{}", *names), v["cardioembed.textbooks"]
    parts = column(v, ids)
    stated = f"three of {whole:.0f} books hold {listed(parts, '{:.1f} %')} of the sentences"
    repeats = "which is possible only if a sentence that stands in several books is counted for each; the text does not say so"
    computed = f"together {sum(parts):.1f} %, {repeats}"
    yield Check("shares of three books", ids, bool(sum(parts) <= 100), stated, computed)

    ids, whole = each("cardioembed.sentences_{}", *names), v["cardioembed.sentences"]
    parts = column(v, ids)
    stated = f"three of the books have {listed(parts, '{:,.0f}')} of {whole:,.0f} sentences"
    computed = f"together {sum(parts):,.0f}, {sum(parts) - whole:+,.0f}, {repeats}"
    yield Check("sentences of three books", ids, bool(sum(parts) <= whole), stated, computed)


def splits(v: Values) -> Iterator[Check]:
    """The triplets are split as the script says, the sentences as the text says; the two splits differ."""
    triplet_ids, script_ids = each("cardioembed.{}_triplets", *PARTS), each("cardioembed.script_split_{}", *PARTS)
    triplets, script = column(v, triplet_ids), column(v, script_ids)
    stated = f"{listed(triplets, '{:,.0f}')} triplets; the script splits {listed(script, '{:.0f} %')}"
    computed = f"of {sum(triplets):,.0f} triplets they are {listed(shares(triplets), '{:.2f} %')}"
    holds = near(shares(triplets), script, 0.01)
    yield Check("triplets and the script's split", triplet_ids + script_ids, holds, stated, computed)

    sentence_ids, text_ids = each("cardioembed.{}_sentences", *PARTS[:2]), each("cardioembed.split_{}", *PARTS[:2])
    sentences, text = column(v, sentence_ids), column(v, text_ids)
    stated = "{:,.0f} and {:,.0f} sentences are {:.0f} % and {:.0f} %".format(*sentences, *text)
    computed = "{:.1f} % and {:.1f} % of {:,.0f}".format(*shares(sentences), sum(sentences))
    holds = near(shares(sentences), text, 0.5)
    yield Check("sentences and the text's split", (*sentence_ids, text_ids[1]), holds, stated, computed)

    stated = f"the text splits {listed(text, '{:.0f} %')}, stratified by book"
    split = f"the script splits {listed(script, '{:.0f} %')}"
    computed = f"{split}, at random by pair, and the triplets have those shares"
    ids = (text_ids[0], script_ids[0])
    yield Check("the text's split and the script's", ids, [*text, 0] == [*script], stated, computed, decides=False)


def training(v: Values) -> Iterator[Check]:
    """Pairs, steps, batches and hours: of the card, and by the paper's settings."""
    ids = each("cardioembed.card_{}", "train_pairs", "steps", "batch", "accumulation", "effective_batch")
    pairs, steps, batch, times, effective = (v[key] for key in ids)
    stated = f"{pairs:,.0f} pairs, {steps:,.0f} steps, batches of {batch:.0f}"
    product = f"{steps:,.0f} × {batch:.0f} = {steps * batch:,.0f}"
    computed = f"{product}: the number of pairs corresponds to steps times batch"
    holds = pairs == steps * batch
    yield Check("pairs of the card as steps times batch", ids[:3], holds, stated, computed, decides=False)

    epochs, triplets, at_once = (v[key] for key in each("cardioembed.{}", "epochs", "train_triplets", "batch"))
    paper, epoch = epochs * math.ceil(triplets / at_once), pairs / effective
    stated = f"{steps:,.0f} steps (card)"
    computed = (  # the card's number of epochs is not known
        f"{epochs:.0f} epochs of {triplets:,.0f} triplets in batches of {at_once:.0f} (paper) are {paper:,.0f}; {steps:,.0f} "
        f"correspond to {steps / epoch:g} epochs of the card's pairs, {epoch:,.0f} batches of {effective:.0f} each"
    )
    yield Check("steps of the training", ids[1:2], steps == paper, stated, computed, decides=False)

    stated, computed = f"{effective:.0f} pairs a step", f"{batch:.0f} × {times:.0f} = {batch * times:.0f}"
    yield Check("effective batch of the card", ids[3:], batch * times == effective, stated, computed, results=ids[4:])

    ids = each("cardioembed.{}", "minutes", "hours")
    minutes, hours = (v[key] for key in ids)
    stated = f"{minutes:.1f} minutes, about {hours:.0f} hours"
    computed = f"{minutes:.1f} / 60 = {minutes / 60:.2f} hours"
    yield Check("hours of the training", ids, near(minutes / 60, hours, 0.5), stated, computed, results=ids[1:])


def adapter(v: Values) -> Iterator[Check]:
    """The adapter's size beside the ranks that are stated: of which layers could it be? The base has other layers than stated."""
    ids = each("cardioembed.{}", "card_adapter", "card_lora_rank", "lora_rank")
    size, card, paper, released = (v[key] for key in (*ids, "official.qwen3_layers"))
    whole = sum(arithmetic.projections().values()) * 4 / 1e6
    (layers, fits), *others = arithmetic.adapters_of(size, int(paper)).items()
    attention = lora.mebibytes(32 * arithmetic.lora_numbers("Qwen3-Embedding-8B", "attention"))
    stated = f"{size:.0f} MB, r {card:.0f} (card); r {paper:.0f} on all linear layers (paper)"
    computed = (
        f"in float32, all linear layers are {card * whole:.1f} MB (10^6 bytes) with r {card:.0f} and {paper * whole:.1f} MB with "
        f"r {paper:.0f}; to a percent, no set of them fits with r {card:.0f}, and {1 + len(others)} sets with r {paper:.0f}, "
        f"such as {', '.join(layers)} ({fits:.1f} MB); r 32 on q, k, v and o are {attention:.1f} MiB. With r {card:.0f} the rest "
        "would have to be something else (other layers, other files). The size alone is contradicted by nothing"
    )
    holds = bool(arithmetic.adapters_of(size, int(card)))
    yield Check("size of the adapter and its rank", ids[:2], holds, stated, computed, decides=False)

    ids = ("cardioembed.layers", "official.qwen3_layers")
    stated, computed = f"Qwen3-Embedding-8B has {v[ids[0]]:.0f} layers", f"its configuration has {released:.0f}"
    yield Check("layers of the base", ids, v[ids[0]] == released, stated, computed, decides=False)


def gains(v: Values) -> Iterator[Check]:
    """A gain in Acc@1 is the difference of two values of a table or figure; the waterfall's steps lead to its end."""
    for name, claim, place, table, base, decides in (  # section 3.2 names Table 1's value of the base
        ("the base, section 3.2 and Table 1", "gain_over_base_text", "Table 1", "table1", "Qwen3-8B-Base", True),
        ("the base, section 3.2 and Figure 3", "gain_over_base_text", "Figure 3", "figure3", "Qwen3-8B-Base", False),
        ("the base, section 3.3 and Table 1", "gain_over_base", "Table 1", "table1", "Qwen3-8B-Base", True),
        ("MedTE in points", "gain_over_medte", "Table 1", "table1", "MedTE", True),
    ):
        ids, gain = (f"cardioembed.{claim}",), v[f"cardioembed.{claim}"]
        ours, theirs = column(v, each(f"cardioembed.{table}.{{}}.acc_at_1", "CardioEmbed", base))
        computed = f"{place}: {ours:.2f} - {theirs:.2f} = {ours - theirs:+.2f}"
        if claim == "gain_over_base_text" and decides:
            drawn = np.subtract(*column(v, each("cardioembed.figure3.{}.acc_at_1", "CardioEmbed", base)))
            computed = (
                f"section 3.2 names the base's {theirs:.2f} in the same sentence: {ours:.2f} - {theirs:.2f} = "
                f"{ours - theirs:+.2f}; {drawn:+.2f} is Figure 3's difference"
            )
        stated, holds = f"{gain:+.2f} percentage points", near(ours - theirs, gain, 0.005)
        yield Check(f"gain over {name}", ids, holds, stated, computed, decides, results=ids)

    names = ("CardioEmbed", "MedTE", "GTE-Base", "Qwen3-8B-Base")
    end, start, gte, qwen = column(v, each("cardioembed.table1.{}.acc_at_1", *names))
    ids, gain, percent = ("cardioembed.gain_over_medte_percent",), end - start, 100 * (end / start - 1)
    stated = f"+{v[ids[0]]:.2f} % (a caption; the text says percentage points, which the caption may mean)"
    computed = f"{end:.2f} / {start:.2f} is {percent:+.2f} %; {end:.2f} - {start:.2f} is {gain:+.2f} points"
    yield Check("gain over MedTE in percent", ids, near(percent, v[ids[0]], 0.01), stated, computed, decides=False)

    steps = column(v, each("cardioembed.waterfall_{}", "base", "medical", "cardiology"))
    sums = start + sum(steps), start + steps[0] + steps[2]
    stated = f"{start:.2f} {' '.join(f'{step:+.2f}' for step in steps)} leads to {end:.2f}"
    computed = (
        f"the steps that the text names lead to {sums[1]:.2f}; the drawing has one bar more, {steps[1]:+.2f}, which is GTE-Base "
        f"less Qwen3-8B-Base ({gte - qwen:+.2f}), and with it leads to {sums[0]:.2f}"
    )
    ids, holds = ("cardioembed.waterfall_medical",), near(sums[0], end, 0.05)
    yield Check("sum of the waterfall", ids, holds, stated, computed, decides=False)


def averages(v: Values) -> Iterator[Check]:
    """The card's averages are means of three benchmarks, its gains differences, one of them relative."""
    tasks = ("BIOSSES.spearman", "SciFact.ndcg_at_10", "NFCorpus.ndcg_at_10")
    scores = np.array([column(v, each(f"cardioembed.card_mteb.{m}.{{}}", *tasks)) for m in ("CardioEmbed", "Qwen3-8B")])
    ids = each("cardioembed.card_mrr_average{}", "", "_base")
    ours, base = column(v, ids)
    stated = f"MRR@10 is {ours:.1f} tuned and {base:.1f} base, on average"
    computed = (
        f"the means of BIOSSES, SciFact and NFCorpus, whose metric we could not verify on the card, are "
        f"{listed(scores.mean(axis=1), '{:.2f}')}; BIOSSES has no MRR"
    )
    yield Check(
        "averages of the card and its rows", ids, near(scores.mean(axis=1), [ours, base], 0.05), stated, computed
    )

    ids = each("cardioembed.card_{}", "gain_biosses", "gain_scifact", "gain_nfcorpus", "mrr_average_gain")
    gains = [*(scores[0] - scores[1]), ours - base]
    stated, computed = listed(column(v, ids), "{:+.1f}"), f"differences in points: {listed(gains, '{:+.1f}')}"
    yield Check("gains of the card", ids, near(gains, column(v, ids), 0.05), stated, computed, results=ids)

    ids = ("cardioembed.card_mrr_cardiology_gain",)
    stated, relative = f"+{v[ids[0]]:.1f} % on cardiology queries", 100 * (ours / base - 1)
    computed = f"{ours:.1f} / {base:.1f}, the two averages, is {relative:+.1f} %"
    yield Check("gain of the card on cardiology queries", ids, near(relative, v[ids[0]], 0.05), stated, computed)

    ids = ("cardioembed.card_improvement",)
    shares = [*(100 * (scores[0] / scores[1] - 1)), relative]
    stated, computed = (
        f"{v[ids[0]]:.1f} % over the base",
        f"its rows and their average give {listed(shares, '{:+.1f} %')}",
    )
    holds = any(near(share, v[ids[0]], 0.05) for share in shares)
    yield Check("improvement of the card", ids, holds, stated, computed, decides=False)


def benchmarks(v: Values) -> Iterator[Check]:
    """The paper's benchmark scores beside the official ones of its base, not tuned."""
    tasks = ("BIOSSES.spearman", "SciFact.ndcg_at_10", "NFCorpus.ndcg_at_10")
    ids = each("cardioembed.table2.CardioEmbed.{}", *tasks)
    tuned, base = 100 * column(v, ids), column(v, each("official.qwen3.Qwen3-Embedding-8B.{}", *tasks))
    lost, official = listed(tuned - base, "{:+.1f}"), listed(base, "{:.2f}")
    stated = (
        "BIOSSES {:.2f} and SciFact {:.2f}, called competitive; NFCorpus {:.2f}, called the expected trade-off"
    ).format(*tuned)
    computed = f"official scores of Qwen3-Embedding-8B, by another version of mteb, are {official}: {lost} points"
    holds = bool(min(tuned - base) >= 0)
    yield Check("benchmarks of the tuned model and of its base", ids, holds, stated, computed, decides=False)


def separations(v: Values) -> Iterator[Check]:
    """A separation is the difference of two means, a gain that of two separations; Figure 1 has a digit more."""
    ids, parts = each("comparative.table1.{}.separation", *MODELS), ("cosine_similar", "cosine_different")
    similar, different = (column(v, each(f"comparative.table1.{{}}.{part}", *MODELS)) for part in parts)
    separation = column(v, ids)
    worst = np.argmax(abs(similar - different - separation))
    a, b, c = similar[worst], different[worst], separation[worst]
    stated = "separation is the mean cosine of similar pairs less that of different pairs"
    computed = (
        f"largest departure of {len(ids)} models: {MODELS[worst]}, {a:.3f} - {b:.3f} = {a - b:.3f} against {c:.3f}"
    )
    holds = near(similar - different, separation, 0.001)
    yield Check("separations as differences", ids, holds, stated, computed, results=ids)

    ids = each("comparative.figure1.{}.separation", *MODELS)
    off = max(abs(column(v, ids) - separation))
    stated = "Figure 1 draws the separations of the table"
    computed = f"largest difference {off:.4f}, no more than rounding to three digits makes"
    yield Check("Figure 1 and the table of separations", ids, near(off, 0, 0.0005), stated, computed)

    ids, released = each("comparative.zeroshot.{}.gain", *MODELS), "comparative.zeroshot.{}.separation_zero_shot"
    off = max(abs(separation - column(v, each(released, *MODELS)) - column(v, ids)))
    stated = "the gain is the separation with LoRA less that of the model as released"
    computed = f"largest departure of {len(ids)} models: {off:.3f}"
    yield Check("gains as differences", ids, near(off, 0, 0.0005), stated, computed, results=ids)


def counts(v: Values) -> Iterator[Check]:
    """How many models lie above the threshold, how many of the five highest are encoders, how many gain with LoRA."""
    ids = ("comparative.above_useful",)
    drawn, useful = column(v, each("comparative.figure1.{}.separation", *MODELS)), v["comparative.useful"]
    above = [model for model, separation in zip(MODELS, drawn, strict=True) if separation > useful]
    other = f"{sum(drawn > 0.25)} exceed 0.25, the value that another caption gives"
    stated = f"{v[ids[0]]:.0f} of {len(MODELS)} models exceed {useful:g}"
    computed = f"{len(above)} do: {', '.join(above)}; {other}"
    yield Check("models above the threshold", ids, len(above) == v[ids[0]], stated, computed, results=ids)

    ids = ("comparative.encoders_in_top_five",)
    ranked = sorted(MODELS, key=lambda model: -v[f"comparative.table1.{model}.separation"])[:5]
    kinds = ["decoder" if model in DECODERS else "encoder" for model in ranked]
    stated = f"{v[ids[0]]:.0f} of the top five are encoder-only, and encoders dominate the top 4"
    computed = f"{kinds.count('encoder')} are: {listed(ranked, '{}', kinds)}"
    yield Check("encoders among the top five", ids, kinds.count("encoder") == v[ids[0]], stated, computed)

    ids, gained = ("comparative.improved",), [m for m in MODELS if v[f"comparative.zeroshot.{m}.gain"] > 0]
    stated, computed = f"{v[ids[0]]:.0f} of {len(MODELS)} models improve with LoRA", f"{len(gained)} gains are positive"
    yield Check("models that improve", ids, len(gained) == v[ids[0]], stated, computed, results=ids)


def summaries(v: Values) -> Iterator[Check]:
    """Medians and relative gains; the nearest encoder; intervals and their points; correlations."""
    ids = each("comparative.median_{}", "lora", "zero_shot")
    names = (
        "table1.{}.separation",
        "zeroshot.{}.separation_zero_shot",
        "zeroshot.{}.gain",
        "zeroshot.{}.relative_gain",
    )
    scores = np.array([column(v, each(f"comparative.{name}", *MODELS)) for name in names])
    ten, nine = np.median(scores, axis=1), np.median(scores[:, scores[2] > 0], axis=1)
    stated = "medians {:.3f} with LoRA and {:.3f} without, of successfully adapted models".format(*column(v, ids))
    computed = f"of the nine that improve {nine[0]:.3f} and {nine[1]:.3f}; of all ten {ten[0]:.4f} and {ten[1]:.3f}"
    holds = near(nine[:2], column(v, ids), 0.0005)
    yield Check("medians of the models that improve", ids, holds, stated, computed, results=ids)

    ids = ("comparative.median_relative_gain",)
    stated, computed = (
        f"+{v[ids[0]]:.0f} %, of the models that improve",
        f"{nine[3]:.0f} of the nine, {ten[3]:.0f} of all ten",
    )
    yield Check("median of the relative gains", ids, near(nine[3], v[ids[0]], 0.5), stated, computed, results=ids)

    ids = each("comparative.zeroshot.{}.relative_gain", *MODELS)
    ends = [100 * (scores[2] + a) / (scores[1] + b) for a in (-0.0005, 0.0005) for b in (-0.0005, 0.0005)]
    stated = f"relative gains {listed(scores[3], '{:+.0f} %')}"
    computed = f"gain / zero-shot: {listed(100 * scores[2] / scores[1], '{:+.0f} %')}; both have three digits"
    holds = bool(np.all((np.min(ends, axis=0) - 0.5 <= scores[3]) & (scores[3] <= np.max(ends, axis=0) + 0.5)))
    yield Check("relative gains", ids, holds, stated, computed, results=ids)

    ids, encoders = ("comparative.gain_over_bge_large",), [m for m in MODELS[1:] if m not in DECODERS]
    of = dict(zip(MODELS, scores[0], strict=True))
    nearest, gain = max(encoders, key=of.__getitem__), 100 * (of["BioLinkBERT"] / of["BGE-large-v1.5"] - 1)
    stated = f"BioLinkBERT is {v[ids[0]]:.1f} % above BGE-large-v1.5, called the nearest encoder-only competitor"
    computed = (
        f"{gain:+.1f} % above BGE-large-v1.5; the nearest is {nearest} at {of[nearest]:.3f}, "
        f"{100 * (of['BioLinkBERT'] / of[nearest] - 1):+.0f} %"
    )
    holds = nearest == "BGE-large-v1.5" and near(gain, v[ids[0]], 0.5)
    yield Check("nearest encoder", ids, holds, stated, computed, decides=False)

    low, high = (each(f"comparative.interval.{{}}.separation_{end}", *MODELS[:4]) for end in ("low", "high"))
    ids, points = low + high, scores[0, :4]
    places = 100 * (points - column(v, low)) / (column(v, high) - column(v, low))
    stated = f"BioLinkBERT {points[0]:.3f} in [{v[low[0]]:.3f}, {v[high[0]]:.3f}]"
    shown = listed(places, "{:.0f} %", MODELS[:4])
    computed = f"from the lower end of its interval (0 %) to the upper (100 %) the point stands at {shown}"
    yield Check("points and their intervals", ids, bool(min(places) >= 0 and max(places) <= 100), stated, computed)

    ids = each("comparative.pearson_{}", "dimensions", "dimensions_p", "parameters", "parameters_p")
    names = ("figure1.{}.separation", "speed.{}.width", "table1.{}.parameters")
    drawn, *others = (column(v, each(f"comparative.{name}", *MODELS)) for name in names)
    ours = np.ravel([stats.pearsonr(drawn, other) for other in others])
    form = "r = {:.3f} (p = {:.3f}) and r = {:.3f} (p = {:.3f})"
    stated, computed = form.format(*column(v, ids)), f"{form.format(*ours)}, from ten models"
    holds = near(ours, column(v, ids), 0.001)
    yield Check("correlations with width and parameters", ids, holds, stated, computed, results=ids)


def speed(v: Values) -> Iterator[Check]:
    """The models that no other beats on two counts, embeddings a second and GB, and what the memory says of precision."""
    fast, slow, memory = (
        dict(zip(MODELS, column(v, each(f"comparative.speed.{{}}.{name}", *MODELS)), strict=True))
        for name in ("throughput", "latency_mean", "memory")
    )
    ids, named = ("comparative.pareto",), {"BioLinkBERT", "MPNet-base", "BGE-small-v1.5"}
    fronts = [
        arithmetic.pareto_front({m: (v[f"comparative.table1.{m}.separation"], sign * by[m]) for m in MODELS})
        for by, sign in ((fast, 1), (memory, -1), (slow, -1))
    ]
    models = ", ".join(sorted(named))
    stated = f"{v[ids[0]]:.0f} models are not beaten on both separation and throughput: {models}"
    computed = "with throughput {}; with memory {}; with latency {}".format(*map(", ".join, fronts))
    holds = set(fronts[0]) == named and len(named) == v[ids[0]]
    yield Check("Pareto front", ids, holds, stated, computed, results=ids)

    ids, models = each("comparative.efficiency_{}", "bge_small", "qwen3_4b"), ("BGE-small-v1.5", "Qwen3-4B")
    ours = [fast[model] / memory[model] for model in models]
    stated, computed = listed(column(v, ids), "{:,g}", models), listed(ours, "{:,.1f}", models)
    holds = near(ours, column(v, ids), [0.5, 0.05])
    yield Check("embeddings a second and GB", ids, holds, stated, computed, results=ids)

    for name, by in (("throughput", fast), ("memory", memory)):
        ids, least, most = (f"comparative.{name}_fold",), min(by.values()), max(by.values())
        stated, computed = f"{v[ids[0]]:.0f}-fold variation in {name}", f"{most:g} / {least:g} is {most / least:.1f}"
        yield Check(f"variation in {name}", ids, near(most / least, v[ids[0]], 0.5), stated, computed, results=ids)

    ids, models = ("comparative.precision_bits",), ("Gemma-2-2B", "Qwen3-4B")
    bits, taken = v[ids[0]], np.array([memory[model] for model in models])
    weights = column(v, each("comparative.table1.{}.parameters", *models)) / 1000  # billions: GB for each byte
    stated = f"models were evaluated with {bits:.0f} bits a weight (FP16), {bits / 8:.0f} bytes"
    computed = (
        f"{taken[0]:.2f} GB ({models[0]}) and {taken[1]:.2f} GB ({models[1]}) are {listed(taken / weights, '{:.1f}')} bytes a "
        "parameter; peak memory includes activations, so this does not give the format; float32 weights alone would be "
        f"{listed(4 * weights, '{:.1f} GB')}"
    )
    yield Check("memory and precision", ids, bool(max(taken / weights) < 4), stated, computed, decides=False)


def set_up(v: Values) -> Iterator[Check]:
    """The study's steps follow without any accumulation; its LoRA has other numbers of trained parameters."""
    names = ("train_pairs", "epochs", "batch", "steps", "lora_rank")
    pairs, epochs, batch, steps, rank = (v[key] for key in each("comparative.{}", *names))
    ours = pairs * epochs / batch
    stated = f"about {steps:,.0f} steps, batches of {batch:.0f} with gradient accumulation"
    product = f"{pairs:,.0f} × {epochs:.0f} / {batch:.0f} = {ours:,.0f}"
    computed = f"{product}, which leaves no room for accumulation"
    ids = ("comparative.steps",)
    yield Check("steps of the study", ids, near(ours, steps, 0.5), stated, computed, results=ids)

    ids = each("comparative.trained_{}", "biolinkbert", "biolinkbert_share", "qwen3_4b", "qwen3_4b_share")
    small, large = (rank * arithmetic.lora_numbers(model, "qv") / 1e6 for model in ("BioLinkBERT-large", "Qwen3-4B"))
    stated = "BioLinkBERT {:.1f}M ({:g} %) and Qwen3-4B {:.0f}M ({:g} %)".format(*column(v, ids))
    computed = (
        f"by the configurations of BioLinkBERT-large and Qwen3-4B, r {rank:.0f} on query and value projections has {small:.2f}M "
        f"and {large:.1f}M"
    )
    holds = near([small, large], column(v, ids[::2]), 0.5)
    yield Check("trained parameters of the study", ids[::2], holds, stated, computed)

    whole = column(v, each("comparative.table1.{}.parameters", "BioLinkBERT", "Qwen3-4B"))
    ours, ids = 100 * column(v, ids[::2]) / whole, ids[1::2]
    computed = f"of {listed(whole, '{:,.0f}M')} they are {listed(ours, '{:.2f} %')}"
    holds = near(ours, column(v, ids), [0.05, 0.005])
    yield Check("shares of trained parameters", ids, holds, stated, computed, results=ids)

    ids = ("comparative.adapter_largest", "comparative.trained_qwen3_4b")
    most, trained = column(v, ids)
    stated = (
        f"adapters of {v['comparative.adapter_smallest']:g} to {most:g} MB; up to {trained:.0f}M trained parameters"
    )
    computed = (
        f"{trained:.0f}M take {2 * trained:.0f} MB in 16 bits and {4 * trained:.0f} MB in 32; the {large:.1f}M of r {rank:.0f} "
        f"on query and value take {2 * large:.1f} and {4 * large:.1f} MB"
    )
    yield Check("largest adapter", ids, bool(2 * trained <= most), stated, computed, decides=False)


def ablation(v: Values) -> Iterator[Check]:
    """What more data brings, how many triplet scores are negative, and the study's best score at the same settings."""
    ids, ranks = ("comparative.ablation_gain",), (8, 16, 32)
    cell = "comparative.ablation.{}-percent.separation_r{}".format
    little, whole = (column(v, [cell(f"InfoNCE-{share}", r) for r in ranks]) for share in (25, 100))
    stated = f"{v[ids[0]]:.0f} times from 25 % to 100 % of the data"
    a, b, ratios = listed(little, "{:.3f}"), listed(whole, "{:.3f}"), listed(whole / little, "{:.2f}")
    few, all_of = (listed([v[cell(f"Triplet-{share}", r)] for r in ranks], "{:.3f}") for share in (25, 100))
    computed = (
        f"InfoNCE with r {listed(ranks, '{}')}: {a} at 25 % and {b} at 100 %, {ratios} times; triplets: {few} and {all_of}, "
        "about zero or below, so no ratio"
    )
    holds = any(near(ratio, v[ids[0]], 0.5) for ratio in whole / little)
    yield Check("gain from more data", ids, holds, stated, computed)

    ids = ("comparative.ablation_negative",)
    triplets = [cell(f"Triplet-{share}", r) for share in (25, 50, 100) for r in ranks]
    below, n = sum(v[key] < 0 for key in triplets), len(triplets)
    stated, computed = f"{v[ids[0]]:.0f} of {n} configurations are negative", f"{below} of {n} are"
    yield Check("negative scores of the triplet loss", ids, below == v[ids[0]], stated, computed)

    ids = ("comparative.table1.BioLinkBERT.separation", cell("InfoNCE-100", 16))
    best, same = (v[key] for key in ids)
    stated = f"BioLinkBERT, r 16, all data, InfoNCE: {best:.3f} (table of separations)"
    computed = (
        f"the ablation has {same:.3f} for r 16, all data and InfoNCE, a ratio of {best / same:.1f}; it names other pairs, "
        "batches and epochs"
    )
    yield Check("best score and its ablation", ids, near(best, same, 0.001), stated, computed, decides=False)


def merges(v: Values) -> Iterator[Check]:
    """MedEmbed's averages are means of five tasks; its released models are merged variants, which score above the others."""
    ids = tuple(key for key in v if key.startswith("medembed.csv_") and key.endswith(".avg.ndcg_at_10"))
    means = np.mean([column(v, [key.replace(".avg.", f".{task}.") for key in ids]) for task in TASKS], axis=0)
    off = max(abs(means - column(v, ids)))
    stated = f"{len(ids)} rows give an average over {len(TASKS)} tasks"
    computed = f"largest departure from the mean of the five: {off:.6f}"
    yield Check("averages of five tasks", ids, bool(off <= 1.01e-5), stated, computed, results=ids)

    sizes = ("small", "base")
    ids = tuple(f"medembed.json.MedEmbed-{size}-v0.1.{task}.ndcg_at_10" for size in sizes for task in TASKS.values())
    off = max(abs(column(v, ids) - [100 * v[f"{MIXES[size]}.{task}.ndcg_at_10"] for size in sizes for task in TASKS]))
    stated = f"MedEmbed-small and MedEmbed-base v0.1, {len(ids)} stored scores"
    mixes = " and ".join(MIXES[size].rpartition(".")[2] for size in sizes)
    computed = f"they equal {mixes} in every score (largest difference {off:.3f} points, which is rounding)"
    yield Check("released models and merged variants", ids, near(off, 0, 0.0051), stated, computed, decides=False)

    ids, only = each("{}.avg.ndcg_at_10", *MIXES.values()), column(v, each("{}.avg.ndcg_at_10", *TUNED_ONLY.values()))
    tables = [key.rpartition(".")[0] for key in MIXES.values()]
    mixed = [max(v[key] for key in v if key.startswith(f"{t}.") and "-mix" in key and ".avg." in key) for t in tables]
    stated = "the released models are merged variants, compared on these five tasks"
    rows = zip(MIXES, mixed, only, strict=True)
    computed = "; ".join(f"{size}: {best:.5f} merged, {alone:.5f} tuned only" for size, best, alone in rows)
    yield Check("merged and tuned only", ids, all(mixed > only), stated, computed, decides=False)


def pictures(v: Values) -> Iterator[Check]:
    """What MedEmbed's picture shows beside the stored results."""
    cells = ("all-MiniLM-L12-v2.ArguAna", "MedEmbed-base-v0.1.TRECCOVID", "MedEmbed-small-v0.1.NFCorpus")
    ids, stored = (each(f"medembed.{place}.{{}}.ndcg_at_10", *cells) for place in ("picture", "json"))
    swapped = v["medembed.picture.all-MiniLM-L12-v2.ArguAna.map_at_5"]
    stated = f"nDCG@10 in the picture: {listed(column(v, ids), '{:.2f}')}"
    kept = listed(column(v, stored), "{:.2f}")
    computed = f"stored: {kept}; the first is drawn as another metric ({swapped:.2f})"
    holds = near(column(v, ids), column(v, stored), 0.01)
    yield Check("picture and stored results", ids, holds, stated, computed, decides=False)


def prompted_gains(v: Values) -> dict[str, float]:
    """Return what MedEmbed's released models gain, in points, over the official scores of their bases with their instruction."""
    official = "official.prompted.bge-{}-en-v1.5.{}.ndcg_at_10"  # there is none of ArguAna
    cells = [(size, mix, task, called) for size, mix in MIXES.items() for task, called in [*TASKS.items()][1:]]
    return {
        f"{s} {task}": 100 * v[f"{mix}.{task}.ndcg_at_10"] - v[official.format(s, called)]
        for s, mix, task, called in cells
    }


def by_size(gained: Mapping[str, float]) -> list[dict[str, str]]:
    """Return the gains above, within and below ``NEAR`` points, each by its name and as text.

    >>> by_size({"a": 2.9, "b": -0.06, "c": -5.1})
    [{'a': '+2.90'}, {'b': '-0.06'}, {'c': '-5.10'}]
    """
    sides = {name: (gain > NEAR) - (gain < -NEAR) for name, gain in gained.items()}
    return [{name: f"{gained[name]:+.2f}" for name in gained if sides[name] == side} for side in (1, 0, -1)]


def prompts(v: Values) -> Iterator[Check]:
    """MedEmbed's released models beside the official scores of their bases, queries with the instruction of the card."""
    gained = prompted_gains(v)
    ids = [f"{MIXES[size]}.{task}.ndcg_at_10" for size, task in map(str.split, gained)]
    ids += [
        key for s, t in map(str.split, gained) if (key := f"medembed.json.MedEmbed-{s}-v0.1.{TASKS[t]}.ndcg_at_10") in v
    ]
    above, level, below = by_size(gained)
    n = len(gained)
    stated = f"the tuned models score above bases that are measured without their query instruction, {n} comparisons"
    computed = (
        f"with it {len(above)} are above, {max(gained.values()):+.2f} points at most; {len(level)} within {NEAR:g} points: "
        f"{listed(level, '{}', [*level.values()])}; {len(below)} below: {listed(below, '{}', [*below.values()])}"
    )
    yield Check(PROMPTS, tuple(ids), not (level or below), stated, computed, decides=False)


def notes(v: Values) -> Iterator[Check]:
    """Every note but a patient's first closes a pair; steps follow from pairs, the last incomplete batch dropped."""
    ids = tuple(f"mimic.{part}.{name}" for part in ("preprocess", "subset") for name in ("notes", "patients", "pairs"))
    rows = column(v, ids).reshape(2, 3)
    stated = "; ".join(f"{pairs:,.0f} pairs" for *_, pairs in rows)
    computed = "; ".join(f"{n:,.0f} notes - {p:,.0f} patients = {n - p:,.0f}" for n, p, _ in rows)
    holds = all(rows[:, 0] - rows[:, 1] == rows[:, 2])
    yield Check("notes, patients and pairs", ids, holds, stated, computed, results=ids[2::3])

    ids = ("mimic.log.steps",)
    steps, pairs, batch = (v[key] for key in (*ids, "mimic.subset.pairs", "mimic.train.batch_size"))
    computed = f"{pairs:,.0f} pairs in whole batches of {batch:.0f} are {pairs // batch:.0f}"
    yield Check("steps per epoch", ids, pairs // batch == steps, f"{steps:.0f} steps", computed, results=ids)

    ids = each("mimic.log.{}", "minutes", "hours")
    seconds, epochs = v["mimic.log.seconds"], v["mimic.train.hierarchical_epochs"]
    minutes, hours = steps * seconds / 60, steps * seconds * epochs / 3600
    stated = "{:.0f} minutes an epoch, about {:.1f} hours".format(*column(v, ids))
    computed = f"{steps:.0f} × {seconds:.2f} s are {minutes:.1f} minutes, {epochs:.0f} epochs {hours:.2f} hours"
    holds = near([minutes, hours], column(v, ids), [0.5, 0.05])
    yield Check("time of the training", ids, holds, stated, computed, results=ids)


def recalls(v: Values) -> Iterator[Check]:
    """A query in its own pool takes the first place, save for a patient's first note and exact copies. Recalls are hits."""
    ids = each("mimic.recall.{}.top1_recall", *MIMIC)
    pairs, first = v["mimic.subset.pairs"], v["mimic.subset.patients_with_pairs"]
    top, ceiling = column(v, ids), 100 * first / pairs
    computed = (
        f"with the query left in the pool, itself at cosine 1 for {100 - ceiling:.0f} % of the pairs, {first:.0f} of "
        f"{pairs:,.0f} can have their next note first, exact repeats of a note aside: {ceiling:.2f} % at most"
    )
    stated = f"top-1 recall {listed(top, '{:.2f} %')}"
    yield Check("ceiling of the top-1 recall", ids, bool(max(top) <= ceiling + 0.01), stated, computed)

    ids = tuple(f"mimic.recall.{model}.top{k}_recall" for model in MIMIC for k in (1, 5, 10))
    off = max(abs(100 * column(v, [key.replace("recall", "hits") for key in ids]) / pairs - column(v, ids)))
    stated = f"{len(ids)} recalls and the hits of {pairs:,.0f} pairs"
    computed = f"largest departure {off:.3f} points, which is rounding"
    yield Check("recalls and hits", ids, bool(off <= 0.0051), stated, computed, results=ids)


def silhouettes(v: Values) -> Iterator[Check]:
    """A difference of silhouettes is that of the two, to a unit of the last digit."""
    names = ("category_less_chapter", "category", "chapter")
    ids, *parts = (each(f"mimic.silhouette.{{}}.{name}.silhouette", *MIMIC) for name in names)
    ours = column(v, parts[0]) - column(v, parts[1])
    stated, computed = f"category less chapter: {listed(column(v, ids), '{:+.3f}')}", listed(ours, "{:+.3f}")
    holds = near(ours, column(v, ids), 0.001)
    yield Check("differences of silhouettes", ids, holds, stated, computed, results=ids)


def losses(v: Values) -> Iterator[Check]:
    """The logged loss against the least that the described loss can be."""
    ids, weight = ("mimic.epoch_loss.epoch-10.training_loss",), v["mimic.loss.chapter_weight"]
    last, batch, total = v[ids[0]], int(v["mimic.train.batch_size"]), int(v["mimic.loss.chapters"])
    floors = [arithmetic.entropy_floor(chapters, batch, weight, total) for chapters in ICD9_CHAPTERS_HELD]
    stated = f"pairs that share chapters have targets above 0 (weight {weight:g}); the loss falls to {last:.4f}"
    computed = (
        f"the entropy of such targets, below which the loss cannot fall, is {listed(floors, '{:.1f}')} nats for "
        f"{listed(ICD9_CHAPTERS_HELD, '{:g}')} chapters an admission (simulated, batches of {batch}). Inference (ours): "
        "a loss near 0 corresponds to targets of one pair each, as in plain InfoNCE"
    )
    yield Check("loss of soft targets", ids, last >= min(floors), stated, computed, decides=False)


def evaluation(v: Values) -> Iterator[Check]:
    """The notes of the AUROC's two sides; the two losses on patients that were not trained on; the post's ratio."""
    ids = each("mimic.auroc_setup.{}", "train", "test", "notes", "train_share")
    train, test, both, share = (v[key] for key in ids)
    ours = 100 * train / (train + test)
    stated = f"{train:,.0f} and {test:,.0f} of {both:,.0f} notes, {share:.0f} % for training"
    computed = f"{train:,.0f} + {test:,.0f} = {train + test:,.0f}; {ours:.2f} %"
    holds = train + test == both and near(ours, share, 0.01)
    yield Check("notes of the AUROC", ids, holds, stated, computed, results=ids[2:3])

    unseen, seen = each("mimic.readme_heldout.{}.top5_recall", *LOSSES), each("mimic.recall.{}.top5_recall", *LOSSES)
    plain, soft = ([v[key], v[f"{key}_low"], v[f"{key}_high"]] for key in unseen)
    apart, diagnostic = soft[1] > plain[2], column(v, each("mimic.readme_diagnostic.{}.top5_recall", *LOSSES))
    stated = "top-5 recall {:.2f} % (InfoNCE) and {:.2f} % (hierarchical) on the training pairs".format(*diagnostic)
    ranges = "{:.2f} % [{:.2f}, {:.2f}] and {:.2f} % [{:.2f}, {:.2f}]".format(*plain, *soft)
    computed = f"on held-out patients {ranges}: the intervals {'are apart' if apart else 'overlap'}"
    yield Check("two losses on held-out patients", unseen + seen, apart, stated, computed, decides=False)

    ids, recall = ("mimic.card.times_base",), "mimic.recall.{}.top5_recall"
    ours, base, small = column(v, each(recall, "InfoNCE", "EmbeddingGemma-300m", "text-embedding-3-small"))
    stated = f"about {v[ids[0]]:.0f} times the vanilla EmbeddingGemma"
    computed = f"{ours:.2f} / {base:.2f} = {ours / base:.1f}; {ours / small:.1f} times text-embedding-3-small"
    yield Check("times better than the base", ids, near(ours / base, v[ids[0]], 0.5), stated, computed)

    ids = each("mimic.auroc.{}.macro_auroc", *MIMIC)
    off = max(abs(column(v, ids) - column(v, each("mimic.auroc_evaluation.{}.macro_auroc", *MIMIC))))
    stated, computed = (
        "the card prints three decimals of five AUROCs",
        f"largest difference {off:.5f}, which is rounding",
    )
    yield Check("AUROC of the card and of the evaluation", ids, near(off, 0, 0.0005), stated, computed)

    ids, models = ("mimic.radical.ratio",), ("Radical-Health-EmbeddingGemma", "OpenAI")
    ours, theirs = column(v, each("mimic.radical.recall.{}.top5_recall", *models))
    stated, computed = f"{v[ids[0]]:.0f} times", f"{ours:.0f} / {theirs:.0f} = {ours / theirs:.1f}"
    yield Check("times better than OpenAI", ids, near(ours / theirs, v[ids[0]], 0.5), stated, computed, results=ids)


SUBJECTS: tuple[Callable[[Values], Iterator[Check]], ...] = (
    *(books, splits, training, adapter, gains, averages, benchmarks),  # CardioEmbed
    *(separations, counts, summaries, speed, set_up, ablation),  # its comparative study
    *(merges, pictures, prompts),  # MedEmbed
    *(notes, recalls, silhouettes, losses, evaluation),  # EmbeddingGemma on MIMIC-III, and a post
)
