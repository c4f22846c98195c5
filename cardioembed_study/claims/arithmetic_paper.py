"""Do the numbers of CardioEmbed's paper, card, figures and scripts agree with each other? One function a check."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from cardioembed_lib import lora
from cardioembed_study.claims.arithmetic import Check, Values, listed, lora_numbers, near

TARGETS = {"all-linear": "all linear layers", "attention": "q, k, v, o", "qv": "q, v"}
MEGABYTE, MEBIBYTE = 10**6, 2**20


def source_shares(v: Values) -> Check:
    """The shares of some of the sources of a corpus cannot exceed the whole."""
    ids = tuple(f"cardioembed.share_{book}" for book in ("cardiovascular_medicine", "braunwald", "esc"))
    shares = [v[i] for i in ids]
    return Check(
        "shares of three books",
        ids,
        sum(shares) <= 100,
        f"three of {v['cardioembed.textbooks']:.0f} books hold {listed(shares, '{:.1f} %')} of the sentences",
        f"together {sum(shares):.1f} %",
    )


def source_sentences(v: Values) -> Check:
    """Nor can their sentences exceed the corpus's."""
    books = tuple(f"cardioembed.sentences_{book}" for book in ("cardiovascular_medicine", "braunwald", "esc"))
    total, whole = sum(v[i] for i in books), v["cardioembed.sentences"]
    return Check(
        "sentences of three books",
        (*books, "cardioembed.sentences"),
        total <= whole,
        f"three of the books have {listed([v[i] for i in books], '{:,.0f}')} of {whole:,.0f} sentences",
        f"together {total:,.0f}, which is {total - whole:+,.0f}",
    )


def triplet_shares(v: Values) -> Check:
    """The triplets are split as the script splits: 85, 10 and 5 percent."""
    parts = ("train", "validation", "test")
    counts = [v[f"cardioembed.{p}_triplets"] for p in parts]
    shares = [v[f"cardioembed.script_split_{p}"] for p in parts]
    ids = tuple(f"cardioembed.{p}_triplets" for p in parts) + tuple(f"cardioembed.script_split_{p}" for p in parts)
    whole = sum(counts)
    return Check(
        "triplets and the script's split",
        ids,
        all(near(100 * n / whole, share, 0.01) for n, share in zip(counts, shares, strict=True)),
        f"{listed(counts, '{:,.0f}')} triplets; the script splits {listed(shares, '{:.0f} %')}",
        f"of {whole:,.0f} triplets they are {listed([100 * n / whole for n in counts], '{:.2f} %')}",
    )


def sentence_split(v: Values) -> Check:
    """The sentences of the text's split have its shares."""
    train, held = v["cardioembed.train_sentences"], v["cardioembed.validation_sentences"]
    ids = ("cardioembed.train_sentences", "cardioembed.validation_sentences", "cardioembed.split_validation")
    return Check(
        "sentences and the text's split",
        ids,
        near(100 * train / (train + held), v["cardioembed.split_train"], 0.5),
        f"{train:,.0f} and {held:,.0f} sentences are {v['cardioembed.split_train']:.0f} % and "
        f"{v['cardioembed.split_validation']:.0f} %",
        f"{100 * train / (train + held):.1f} % and {100 * held / (train + held):.1f} % of {train + held:,.0f}",
    )


def text_against_script(v: Values) -> Check:
    """The text's split of sentences is not the split of the triplets."""
    text = (v["cardioembed.split_train"], v["cardioembed.split_validation"])
    script = [v[f"cardioembed.script_split_{p}"] for p in ("train", "validation", "test")]
    return Check(
        "the text's split and the script's",
        ("cardioembed.split_train", "cardioembed.script_split_train"),
        [*text, 0] == script,
        f"the text splits {listed(text, '{:.0f} %')}, stratified by book",
        f"the script splits {listed(script, '{:.0f} %')}, at random by pair, and the triplets have those shares",
        decides=False,
    )


def card_pairs(v: Values) -> Check:
    """The card's number of training pairs is its steps times its batch."""
    pairs, steps, batch = (v[f"cardioembed.card_{name}"] for name in ("train_pairs", "steps", "batch"))
    return Check(
        "pairs of the card as steps times batch",
        ("cardioembed.card_train_pairs", "cardioembed.card_steps", "cardioembed.card_batch"),
        pairs == steps * batch,
        f"{pairs:,.0f} pairs, {steps:,.0f} steps, batches of {batch:.0f}",
        f"{steps:,.0f} × {batch:.0f} = {steps * batch:,.0f}: the number of pairs corresponds to steps times batch",
        decides=False,
    )


def card_steps(v: Values) -> Check:
    """The card's steps are not those of the paper's settings; the card's number of epochs is not known."""
    epochs, triplets, steps = v["cardioembed.epochs"], v["cardioembed.train_triplets"], v["cardioembed.card_steps"]
    paper = epochs * math.ceil(triplets / v["cardioembed.batch"])
    once = v["cardioembed.card_train_pairs"] / v["cardioembed.card_effective_batch"]
    return Check(
        "steps of the training",
        ("cardioembed.card_steps",),
        steps == paper,
        f"{steps:,.0f} steps (card)",
        f"{epochs:.0f} epochs of {triplets:,.0f} triplets in batches of {v['cardioembed.batch']:.0f} (paper) are "
        f"{paper:,.0f}; {steps:,.0f} correspond to {steps / once:g} epochs of the card's pairs, {once:,.0f} batches of "
        f"{v['cardioembed.card_effective_batch']:.0f} each",
        decides=False,
    )


def card_batch(v: Values) -> Check:
    """The card's effective batch is its batch times the accumulation."""
    batch, times, effective = (v[f"cardioembed.card_{name}"] for name in ("batch", "accumulation", "effective_batch"))
    return Check(
        "effective batch of the card",
        ("cardioembed.card_accumulation", "cardioembed.card_effective_batch"),
        batch * times == effective,
        f"{effective:.0f} pairs a step",
        f"{batch:.0f} × {times:.0f} = {batch * times:.0f}",
    )


def training_hours(v: Values) -> Check:
    """Minutes and hours of the training agree."""
    hours = v["cardioembed.minutes"] / 60
    return Check(
        "hours of the training",
        ("cardioembed.minutes", "cardioembed.hours"),
        near(hours, v["cardioembed.hours"], 0.5),
        f"{v['cardioembed.minutes']:.1f} minutes, about {v['cardioembed.hours']:.0f} hours",
        f"{v['cardioembed.minutes']:.1f} / 60 = {hours:.2f} hours",
    )


@cache
def adapter_sizes(layers: int = 36) -> dict[tuple[str, int], float]:
    """Return the MiB of a float32 LoRA adapter of Qwen3-Embedding-8B, by targets and rank (half of it in bfloat16)."""
    each = {targets: lora_numbers("Qwen3-Embedding-8B", targets, layers) for targets in TARGETS}
    return {(targets, rank): lora.mebibytes(rank * n) for targets, n in each.items() for rank in (8, 16, 32, 64)}


def adapter_size(v: Values) -> Check:
    """The adapter's size says which configuration it has; neither of the two stated ones has it."""
    stated, depth = v["cardioembed.card_adapter"], int(v["cardioembed.layers"])
    paper, card = int(v["cardioembed.lora_rank"]), int(v["cardioembed.card_lora_rank"])
    sizes, fewer = adapter_sizes(), adapter_sizes(depth)
    fits = [f"r {r} on {TARGETS[t]}" for (t, r), size in sizes.items() if _fits(size, stated)]
    halved = [f"r {r} on {TARGETS[t]}" for (t, r), size in sizes.items() if _fits(size / 2, stated)]
    whole = [s["all-linear", r] for s in (sizes, fewer) for r in (paper, card)]
    return Check(
        "size of the adapter",
        ("cardioembed.card_adapter",),
        any(_fits(size * share, stated) for size in whole for share in (1, 0.5)),
        f"{stated:.0f} MB; adapted are all linear layers with r {paper} (paper) or r {card} (card)",
        f"those have {whole[0]:.1f} and {whole[1]:.1f} MiB in float32, half of it in bfloat16, and with {depth} layers "
        f"{whole[2]:.1f} and {whole[3]:.1f}; {stated:.0f} MiB corresponds to {' or '.join(fits)} in float32, "
        f"{' or '.join(halved)} in bfloat16",
    )


def layers(v: Values) -> Check:
    """The number of layers that the paper gives is not the released model's."""
    ours, theirs = v["cardioembed.layers"], v["official.qwen3_layers"]
    return Check(
        "layers of the base",
        ("cardioembed.layers", "official.qwen3_layers"),
        ours == theirs,
        f"Qwen3-Embedding-8B has {ours:.0f} layers",
        f"its configuration has {theirs:.0f}",
        decides=False,
    )


def gain_over_base(v: Values) -> Check:
    """The gain over the base that the text gives first, against Table 1."""
    return _difference(
        v,
        "gain over the base, section 3.2 and Table 1",
        "cardioembed.gain_over_base_text",
        "cardioembed.table1",
        "Table 1",
    )


def gain_over_base_figure3(v: Values) -> Check:
    """The same gain against the value that Figure 3 draws for the base."""
    return _difference(
        v,
        "gain over the base, section 3.2 and Figure 3",
        "cardioembed.gain_over_base_text",
        "cardioembed.figure3",
        "Figure 3",
    )


def gain_over_base_later(v: Values) -> Check:
    """The gain over the base that the text gives later, against Table 1."""
    return _difference(
        v, "gain over the base, section 3.3 and Table 1", "cardioembed.gain_over_base", "cardioembed.table1", "Table 1"
    )


def gain_over_medte(v: Values) -> Check:
    """The gain over MedTE, in points."""
    return _difference(
        v, "gain over MedTE in points", "cardioembed.gain_over_medte", "cardioembed.table1", "Table 1", "MedTE"
    )


def gain_over_medte_percent(v: Values) -> Check:
    """The same gain in percent, as one caption has it, is another number."""
    ours, theirs = v["cardioembed.table1.CardioEmbed.acc_at_1"], v["cardioembed.table1.MedTE.acc_at_1"]
    stated, computed = v["cardioembed.gain_over_medte_percent"], 100 * (ours / theirs - 1)
    return Check(
        "gain over MedTE in percent",
        ("cardioembed.gain_over_medte_percent",),
        near(computed, stated, 0.01),
        f"+{stated:.2f} % (a caption; the text has percentage points)",
        f"{ours:.2f} / {theirs:.2f} is {computed:+.2f} %; {ours:.2f} - {theirs:.2f} is {ours - theirs:+.2f} points",
    )


def waterfall(v: Values) -> Check:
    """The steps of the waterfall, as drawn, do not lead from its start to its end."""
    start, end = v["cardioembed.table1.MedTE.acc_at_1"], v["cardioembed.table1.CardioEmbed.acc_at_1"]
    steps = [v[f"cardioembed.waterfall_{name}"] for name in ("base", "medical", "cardiology")]
    between = v["cardioembed.table1.GTE-Base.acc_at_1"] - v["cardioembed.table1.Qwen3-8B-Base.acc_at_1"]
    return Check(
        "sum of the waterfall",
        ("cardioembed.waterfall_medical",),
        near(start + sum(steps), end, 0.05),
        f"{start:.2f} {' '.join(f'{s:+.2f}' for s in steps)} leads to {end:.2f}",
        f"it leads to {start + sum(steps):.2f}; without the bar of {steps[1]:+.2f}, which corresponds to GTE-Base less "
        f"Qwen3-8B-Base ({between:+.2f}) and which the text does not name, to {start + steps[0] + steps[2]:.2f}",
    )


def card_average(v: Values) -> Check:
    """The card's average gain is the difference of its averages."""
    ours, base, gain = (v[f"cardioembed.card_mrr_average{end}"] for end in ("", "_base", "_gain"))
    return Check(
        "average gain of the card",
        tuple(f"cardioembed.card_mrr_average{end}" for end in ("", "_base", "_gain")),
        near(ours - base, gain, 0.05),
        f"{ours:.1f} against {base:.1f}, {gain:+.1f}",
        f"{ours:.1f} - {base:.1f} = {ours - base:.1f}",
    )


def card_parts(v: Values) -> Check:
    """An average lies between its parts, if the two groups of queries are its parts."""
    groups = ("cardiology", "general")
    tuned = [v[f"cardioembed.card_mrr_{g}"] for g in groups]
    base = [v[f"cardioembed.card_mrr_{g}"] - v[f"cardioembed.card_mrr_{g}_gain"] for g in groups]
    averages = (v["cardioembed.card_mrr_average"], v["cardioembed.card_mrr_average_base"])
    between = [min(p) < a < max(p) for p, a in zip((tuned, base), averages, strict=True)]
    return Check(
        "averages of the card and their parts",
        ("cardioembed.card_mrr_average", "cardioembed.card_mrr_average_base"),
        all(between),
        f"the averages are {averages[0]:.1f} tuned and {averages[1]:.1f} base",
        f"cardiology and general queries have {listed(tuned, '{:.1f}')} tuned, and by the stated gains {listed(base, '{:.1f}')} "
        "base; an average of the two groups alone would lie between them",
        decides=False,
    )


def benchmark_losses(v: Values) -> Check:
    """The paper's benchmark scores beside the official ones of its base, not tuned."""
    tasks = {"BIOSSES": "spearman", "SciFact": "ndcg_at_10", "NFCorpus": "ndcg_at_10"}
    ids = tuple(f"cardioembed.table2.CardioEmbed.{task}.{metric}" for task, metric in tasks.items())
    tuned = [100 * v[i] for i in ids]
    base = [v[f"official.qwen3.Qwen3-Embedding-8B.{task}.{metric}"] for task, metric in tasks.items()]
    lost = [t - b for t, b in zip(tuned, base, strict=True)]
    return Check(
        "benchmarks of the tuned model and of its base",
        ids,
        min(lost) >= 0,
        f"{', '.join(tasks)}: {listed(tuned, '{:.2f}')}, called competitive",
        f"the official scores of the base are {listed(base, '{:.2f}')}: {listed(lost, '{:+.1f}')} points",
        decides=False,
    )


CHECKS: tuple[Callable[[Values], Check], ...] = (
    *(source_shares, source_sentences, triplet_shares, sentence_split, text_against_script),
    *(card_pairs, card_steps, card_batch, training_hours, adapter_size, layers),
    *(
        gain_over_base,
        gain_over_base_figure3,
        gain_over_base_later,
        gain_over_medte,
        gain_over_medte_percent,
        waterfall,
    ),
    *(card_average, card_parts, benchmark_losses),
)


def _difference(v: Values, name: str, claim: str, table: str, called: str, base: str = "Qwen3-8B-Base") -> Check:
    """Return the check of a stated gain in Acc@1 against a table's two values."""
    ours, theirs = (v[f"{table}.{model}.acc_at_1"] for model in ("CardioEmbed", base))
    return Check(
        name,
        (claim,),
        near(ours - theirs, v[claim], 0.005),
        f"{v[claim]:+.2f} percentage points",
        f"{called}: {ours:.2f} - {theirs:.2f} = {ours - theirs:+.2f}",
    )


def _fits(mebibytes: float, stated: float) -> bool:
    """Return whether a size is the stated one to a percent, read as MiB or as MB."""
    return any(near(mebibytes * MEBIBYTE / unit / stated, 1, 0.01) for unit in (MEBIBYTE, MEGABYTE))
