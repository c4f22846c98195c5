"""Every check of the published numbers: what it finds, by hand, and that it would find the opposite."""

import math

import pytest
import tiny
import torch
import transformers

from cardioembed_lib import lora
from cardioembed_study.claims import arithmetic, checks, ledger

# check: does it hold, what its computed sentence says, published values that would turn it round
BY_HAND = {
    # 69.2 + 34.8 + 15.9
    "shares of three books": (False, ["119.9 %"], {"cardioembed.share_braunwald": 14.8}),
    # 103,881 + 52,341 + 23,881, less 150,237
    "sentences of three books": (
        False,
        ["180,103, +29,866, which is possible only if a sentence"],
        {"cardioembed.sentences": 180_104},
    ),
    # 106,386 / 125,161 = 0.85, 12,516 / 125,161 = 0.1, 6,259 / 125,161 = 0.05
    "triplets and the script's split": (
        True,
        ["125,161", "85.00 %, 10.00 %, 5.00 %"],
        {"cardioembed.test_triplets": 12_516},
    ),
    "sentences and the text's split": (True, ["90.0 % and 10.0 % of 150,000"], {"cardioembed.train_sentences": 85_000}),
    "the text's split and the script's": (
        False,
        ["85 %, 10 %, 5 %"],
        {"cardioembed.script_split_train": 90, "cardioembed.script_split_test": 0},
    ),
    "pairs of the card as steps times batch": (
        True,
        ["6,652 × 16 = 106,432"],
        {"cardioembed.card_train_pairs": 106_386},
    ),
    # 2 * ceil(106,386 / 128) = 2 * 832; 106,432 / 64 = 1,663 and 6,652 / 1,663 = 4
    "steps of the training": (False, ["1,664", "4 epochs", "1,663 batches"], {"cardioembed.card_steps": 1664}),
    "effective batch of the card": (True, ["16 × 4 = 64"], {"cardioembed.card_accumulation": 8}),
    "hours of the training": (True, ["10.98 hours"], {"cardioembed.hours": 12}),
    # q, k, v, gate, up of 36 layers: 36 * 16 * (8,192 + 2 * 5,120 + 2 * 16,384) * 4 = 117,964,800 bytes
    "size of the adapter and its rank": (
        False,
        ["87.3 MB (10^6 bytes) with r 8 and 174.6 MB with r 16", "6 sets", "q, k, v, gate, up (118.0 MB)", "117.0 MiB"],
        {"cardioembed.card_lora_rank": 16},
    ),
    "layers of the base": (False, ["36"], {"cardioembed.layers": 36}),
    "gain over the base, section 3.2 and Table 1": (
        False,
        ["names the base's 93.83 in the same sentence: 99.60 - 93.83 = +5.77; +6.02 is Figure 3's difference"],
        {"cardioembed.gain_over_base_text": 5.77},
    ),
    "gain over the base, section 3.2 and Figure 3": (
        True,
        ["99.60 - 93.58 = +6.02"],
        {"cardioembed.gain_over_base_text": 5.77},
    ),
    "gain over the base, section 3.3 and Table 1": (
        True,
        ["99.60 - 93.83 = +5.77"],
        {"cardioembed.gain_over_base": 6.02},
    ),
    "gain over MedTE in points": (True, ["99.60 - 83.66 = +15.94"], {"cardioembed.gain_over_medte": 15.9}),
    # 99.60 / 83.66 = 1.1905
    "gain over MedTE in percent": (
        False,
        ["+19.05 %", "+15.94 points"],
        {"cardioembed.gain_over_medte_percent": 19.05},
    ),
    # 83.66 + 10.17 - 1.55 + 5.77
    "sum of the waterfall": (
        False,
        ["lead to 99.60; the drawing has one bar more", "98.05", "(-1.55)"],
        {"cardioembed.waterfall_medical": 0},
    ),
    # (89.3 + 72.4 + 38.7) / 3 and (82.1 + 68.9 + 34.2) / 3
    "averages of the card and its rows": (True, ["66.80, 61.73"], {"cardioembed.card_mrr_average": 67.8}),
    "gains of the card": (True, ["+7.2, +3.5, +4.5, +5.1"], {"cardioembed.card_gain_scifact": 3.7}),
    # 66.8 / 61.7 = 1.0827
    "gain of the card on cardiology queries": (True, ["is +8.3 %"], {"cardioembed.card_mrr_cardiology_gain": 5.1}),
    # 89.3 / 82.1, 72.4 / 68.9, 38.7 / 34.2
    "improvement of the card": (False, ["+8.8 %, +5.1 %, +13.2 %, +8.3 %"], {"cardioembed.card_improvement": 13.2}),
    "benchmarks of the tuned model and of its base": (
        False,
        ["-4.1, -17.5, -21.2"],
        {
            "official.qwen3.Qwen3-Embedding-8B.BIOSSES.spearman": 77,
            "official.qwen3.Qwen3-Embedding-8B.SciFact.ndcg_at_10": 60,
            "official.qwen3.Qwen3-Embedding-8B.NFCorpus.ndcg_at_10": 20,
        },
    ),
    "separations as differences": (True, ["-0.176 against -0.175"], {"comparative.table1.BGE-M3.separation": 0.211}),
    "Figure 1 and the table of separations": (True, ["0.0005"], {"comparative.figure1.BGE-M3.separation": 0.2097}),
    "gains as differences": (True, ["0.000"], {"comparative.zeroshot.BGE-M3.gain": 0.152}),
    "models above the threshold": (False, ["6 do:", "8 exceed 0.25"], {"comparative.above_useful": 6}),
    "encoders among the top five": (False, ["2 are:"], {"comparative.encoders_in_top_five": 2}),
    "models that improve": (True, ["9 gains"], {"comparative.zeroshot.Jina-v2.gain": 0.1}),
    # of nine the fifth; of ten (0.327 + 0.314) / 2 and (0.057 + 0.059) / 2
    "medians of the models that improve": (
        True,
        ["nine that improve 0.327 and 0.057", "all ten 0.3205 and 0.058"],
        {"comparative.median_lora": 0.3205},
    ),
    "median of the relative gains": (
        True,
        ["700 of the nine, 478 of all ten"],
        {"comparative.median_relative_gain": 478},
    ),
    # 0.211 / 0.175 = 1.206 and, with three digits each, from 1.199 to 1.212
    "relative gains": (True, ["+121 %"], {"comparative.zeroshot.MPNet-base.relative_gain": 123}),
    # 0.510 / 0.386 = 1.321
    "nearest encoder": (False, ["MPNet-base at 0.386, +32 %"], {"comparative.table1.MPNet-base.separation": 0.3}),
    # (0.510 - 0.502) / (0.561 - 0.502) = 8 / 59
    "points and their intervals": (
        True,
        ["14 % (BioLinkBERT)"],
        {"comparative.interval.BioLinkBERT.separation_low": 0.511},
    ),
    "correlations with width and parameters": (
        True,
        ["r = 0.458 (p = 0.183)"],
        {"comparative.pearson_dimensions": 0.5},
    ),
    "Pareto front": (True, ["with latency BioLinkBERT, MPNet-base"], {"comparative.speed.Qwen3-4B.throughput": 500}),
    # 467.26 / 0.24 and 27.37 / 17.99
    "embeddings a second and GB": (True, ["1,946.9", "1.5 (Qwen3-4B)"], {"comparative.efficiency_qwen3_4b": 2.5}),
    # 467.26 / 27.37 and 17.99 / 0.24
    "variation in throughput": (False, ["is 17.1"], {"comparative.throughput_fold": 17}),
    "variation in memory": (True, ["is 75.0"], {"comparative.memory_fold": 50}),
    # 12.02 / 2.5 and 17.99 / 4
    "memory and precision": (
        False,
        ["4.8, 4.5 bytes", "includes activations", "alone would be 10.0 GB, 16.0 GB"],
        {"comparative.speed.Gemma-2-2B.memory": 5.5, "comparative.speed.Qwen3-4B.memory": 8.5},
    ),
    "steps of the study": (True, ["150,000 × 2 / 8 = 37,500"], {"comparative.batch": 16}),
    # 16 * 24 * 2 * 2,048 and 16 * 36 * (2,560 + 4,096 + 2,560 + 1,024)
    "trained parameters of the study": (
        False,
        ["1.57M", "5.9M"],
        {"comparative.trained_biolinkbert": 1.57, "comparative.trained_qwen3_4b": 5.9},
    ),
    # 16.8 / 340 and 42 / 4,000
    "shares of trained parameters": (
        True,
        ["of 340M, 4,000M they are 4.94 %, 1.05 %"],
        {"comparative.trained_qwen3_4b_share": 1.06},
    ),
    # 42 million numbers of 2 bytes; 5.9 million of 4
    "largest adapter": (False, ["84 MB", "23.6 MB"], {"comparative.adapter_largest": 84}),
    # 0.134 / 0.168, 0.137 / 0.162, 0.111 / 0.153
    "gain from more data": (
        False,
        ["0.80, 0.85, 0.73", "-0.066, -0.099, 0.009 and 0.011, 0.001, -0.024"],
        {"comparative.ablation_gain": 0.8},
    ),
    "negative scores of the triplet loss": (False, ["6 of 9"], {"comparative.ablation_negative": 6}),
    # 0.510 / 0.137
    "best score and its ablation": (False, ["3.7"], {"comparative.table1.BioLinkBERT.separation": 0.137}),
    "averages of five tasks": (True, [], {"medembed.csv_base_v0.medical-bge-base-v0.avg.ndcg_at_10": 0.65502}),
    "released models and merged variants": (
        True,
        ["mix1"],
        {"medembed.json.MedEmbed-base-v0.1.NFCorpus.ndcg_at_10": 37.48},
    ),
    "merged and tuned only": (
        True,
        ["large: 0.66879 merged, 0.65927"],
        {"medembed.csv_large_v0.medical-bge-large-v0.avg.ndcg_at_10": 0.67},
    ),
    "picture and stored results": (
        False,
        ["47.13, 72.93, 34.78"],
        {
            "medembed.picture.all-MiniLM-L12-v2.ArguAna.ndcg_at_10": 47.12,
            "medembed.picture.MedEmbed-base-v0.1.TRECCOVID.ndcg_at_10": 72.93,
            "medembed.picture.MedEmbed-small-v0.1.NFCorpus.ndcg_at_10": 34.77,
        },
    ),
    # 72.93 - 78.03, 37.31 - 37.37, 37.07 - 38.06; within half a point is neither above nor below
    "tuned models and their prompted bases": (
        False,
        [
            "with it 9 are above",
            "1 within 0.5 points: base NFCorpus (-0.06)",
            "2 below: base TRECCOVID (-5.10), large NFCorpus (-0.99)",
        ],
        {
            "official.prompted.bge-base-en-v1.5.TRECCOVID.ndcg_at_10": 67.18,
            "official.prompted.bge-base-en-v1.5.NFCorpus.ndcg_at_10": 36.80,
            "official.prompted.bge-large-en-v1.5.NFCorpus.ndcg_at_10": 36.50,
        },
    ),
    # 483 / 23,657
    "ceiling of the top-1 recall": (True, ["2.04 %", "98 %"], {"mimic.recall.InfoNCE.top1_recall": 2.1}),
    "recalls and hits": (True, ["15 recalls"], {"mimic.hits.InfoNCE.top5_hits": 11_150}, "stated"),
    "differences of silhouettes": (True, ["+0.088"], {"mimic.silhouette.InfoNCE.chapter.silhouette": 0.057}),
    "loss of soft targets": (False, ["2.1, 3.0, 3.2 nats"], {"mimic.epoch_loss.epoch-10.training_loss": 2.5}),
    # 23,657 / 32 = 739.3
    "steps per epoch": (True, ["739"], {"mimic.train.batch_size": 64}),
    # 739 * 1.87 / 60 = 23.03, times 10 / 60 = 3.84
    "time of the training": (True, ["23.0 minutes", "3.84 hours"], {"mimic.log.hours": 1.9}),
    "notes, patients and pairs": (True, ["= 470,471", "= 23,657"], {"mimic.subset.patients": 500}),
    "notes of the AUROC": (True, ["16,588 + 4,147 = 20,735"], {"mimic.auroc_setup.notes": 24_141}),
    "two losses on held-out patients": (
        False,
        ["28.30 % [26.31, 30.46]", "27.86 % [25.92, 29.96]", "overlap"],
        {"mimic.readme_heldout.hierarchical.top5_recall_low": 30.47},
    ),
    # 47.17 / 5.99 and 47.17 / 5.14
    "times better than the base": (False, ["= 7.9; 9.2 times"], {"mimic.card.times_base": 8}),
    "AUROC of the card and of the evaluation": (True, ["0.00050"], {"mimic.auroc.InfoNCE.macro_auroc": 0.943}),
    # 65 / 9
    "times better than OpenAI": (True, ["65 / 9 = 7.2"], {"mimic.radical.ratio": 6}),
}


@pytest.fixture(scope="module")
def values():
    return {key: claim.value for key, claim in ledger.load().items()}


@pytest.fixture(scope="module")
def subjects(values):
    """Return the subject of every check, by the check's name."""
    return {check.name: subject for subject in checks.SUBJECTS for check in checks.of(subject, values)}


def done(subjects, values, name):
    (found,) = (check for check in checks.of(subjects[name], values) if check.name == name)
    return found


def test_every_check_has_been_done_by_hand(subjects):
    assert set(subjects) == set(BY_HAND)
    assert all(subject.__doc__ for subject in checks.SUBJECTS)


@pytest.mark.parametrize("name", BY_HAND)
def test_check_finds_what_paper_and_pencil_find(name, subjects, values):
    holds, said, _, *where = BY_HAND[name]
    found = done(subjects, values, name)
    assert found.holds is holds
    assert all(part in getattr(found, where[0] if where else "computed") for part in said), found


@pytest.mark.parametrize("name", BY_HAND)
def test_other_numbers_would_turn_the_check_round(name, subjects, values):
    holds, _, other, *_ = BY_HAND[name]
    assert set(other) <= set(values)
    assert done(subjects, values | other, name).holds is not holds


def test_names_of_checks_are_different_and_their_claims_exist(values):
    found = [check for subject in checks.SUBJECTS for check in checks.of(subject, values)]
    assert len({check.name for check in found}) == len(found)
    assert {claim for check in found for claim in check.claims} <= set(values)
    assert all(set(check.results) <= set(check.claims) for check in found)
    about = [claim for check in found if not check.holds and check.decides for claim in check.claims]
    assert {"cardioembed.sentences", "comparative.trained_biolinkbert_share"}.isdisjoint(
        about
    )  # nothing says they are wrong
    assert all(check.claims and check.stated and check.computed for check in found)


@pytest.mark.parametrize(("targets", "ends"), [("qv", 2), ("attention", 4), ("all-linear", 7)])
def test_an_adapter_has_rank_times_the_ends_of_its_layers(targets, ends):
    """By the formula: rank * (in + out), for q, v, k, o, gate, up and down of each of 36 layers."""
    width, keys, inner = 4096, 1024, 12288
    sizes = [width + width, width + keys, width + keys, width + width, *3 * [width + inner]][:ends]
    assert arithmetic.lora_numbers("Qwen3-Embedding-8B", targets) == 36 * sum(sizes)
    assert [*arithmetic.projections().values()] == [36 * (width + x) for x in (width, keys, keys, width, *3 * [inner])]


def test_sets_of_layers_that_fit_a_size_are_found_for_the_rank_that_allows_them():
    assert arithmetic.adapters_of(117, 8) == {}
    assert set(map(len, arithmetic.adapters_of(117, 16))) == {5}
    assert arithmetic.adapters_of(174.6, 16).keys() == {("q", "k", "v", "o", "gate", "up", "down")}


def test_what_another_protocol_a_reading_or_rounding_answers_does_not_decide(subjects, values):
    """Their authors could answer with the paper in hand."""
    deciding = {name for name in subjects if done(subjects, values, name).decides}
    assert not deciding & {
        "size of the adapter and its rank",
        "gain over MedTE in percent",
        "gain over the base, section 3.2 and Figure 3",
        "sum of the waterfall",
        "nearest encoder",
        "benchmarks of the tuned model and of its base",
        "best score and its ablation",
        "tuned models and their prompted bases",
        "loss of soft targets",
    }


def test_one_layer_times_the_layers_is_the_whole_model():
    kind, sizes = arithmetic.SIZES["BioLinkBERT-large"]
    whole = lora.count_from_config(kind(**sizes), 1, "all-linear")
    assert arithmetic.lora_numbers("BioLinkBERT-large", "all-linear") == whole


def test_sizes_of_the_papers_base_are_those_of_the_manifest():
    a = tiny.spec("Qwen3-Embedding-8B").architecture
    sizes = arithmetic.SIZES["Qwen3-Embedding-8B"][1]
    assert (a["layers"], a["width"], a["feed_forward"]) == tuple(
        sizes[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size")
    )
    assert issubclass(arithmetic.SIZES["Qwen3-4B"][0], transformers.Qwen3Config)
    assert lora.mebibytes(1, torch.float32) * 2**20 == 4


def test_entropy_of_two_pairs_that_share_their_only_chapter():
    """Targets 1 / 1.3 and 0.3 / 1.3."""
    by_hand = -(1 / 1.3) * math.log(1 / 1.3) - (0.3 / 1.3) * math.log(0.3 / 1.3)
    assert math.isclose(arithmetic.entropy_floor(1, batch=2, weight=0.3, total=1), by_hand)


def test_targets_of_one_pair_each_have_no_entropy_and_many_chapters_more_than_few():
    assert arithmetic.entropy_floor(3, batch=8, weight=0, total=19) == 0
    few, many = (arithmetic.entropy_floor(n, batch=32, weight=0.3, total=19) for n in (2, 9))
    assert 0 < few < many < math.log(32)


def test_a_point_that_another_equals_on_one_count_and_loses_to_on_the_other_is_not_on_the_front():
    points = {"a": (1.0, 3.0), "b": (1.0, 2.0), "c": (2.0, 1.0), "a again": (1.0, 3.0)}
    assert arithmetic.pareto_front(points) == ["a", "c", "a again"]
