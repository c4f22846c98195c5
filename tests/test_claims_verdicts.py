"""Verdicts: which one, in which order, from which records, and that a missing record is no fault."""

import json

import pytest

from cardioembed_study import paths, records
from cardioembed_study.claims import checks, evidence, ledger, verdicts

HEADLINE = "cardioembed.table1.CardioEmbed.acc_at_1"
MERGED = "medembed.csv_base_v0.medical-bge-base-v0-mix1.avg.ndcg_at_10"
SCIFACT = "official.minilm.all-MiniLM-L6-v2.SciFact.ndcg_at_10"
DOMAIN = {"base_mrr": 0.5, "tuned_mrr": 0.6, "difference": 0.1, "low": 0.04, "high": 0.16}


def record(metrics, counts=(), **params):
    return {"metrics": metrics, "counts": dict(counts), "params": params, "inputs": {}, "status": "run"}


def compared(**changes):
    counts = {"definition_cardiology": 177}
    runs = {"base": "MiniLM", "runs": ["a", "b", "c"]}
    return {"comparison": {"tuned": record({"definition_cardiology": DOMAIN | changes}, counts, **runs)}}


@pytest.fixture(scope="module")
def known():
    return ledger.load()


@pytest.fixture(scope="module")
def judged(known):
    """Return the verdicts without any record, by claim."""
    return {verdict.claim: verdict for verdict in verdicts.judge(known, {})}


def one(known, claim, results):
    return next(verdict for verdict in verdicts.judge(known, results) if verdict.claim == claim)


def test_every_claim_has_one_of_six_verdicts_and_a_reason_even_without_records(known, judged):
    assert list(judged) == list(known)
    assert {verdict.verdict for verdict in judged.values()} == set(verdicts.VERDICTS) - {
        "reproduced on substitute",
        "not reproduced on substitute",
    }
    assert [key for key, verdict in judged.items() if not verdict.why.strip()] == []
    assert all(verdict.ours == "" for verdict in judged.values())


def test_headlines_are_claims(known):
    assert set(verdicts.HEADLINES) <= set(known) and len(set(verdicts.HEADLINES)) == len(verdicts.HEADLINES)


def test_a_claim_whose_records_are_missing_cannot_be_checked_and_says_what_it_awaits(judged):
    found = judged[HEADLINE]
    assert (found.verdict, found.ours, found.link) == ("cannot be checked here", "", "")
    assert "awaits a record: Tuning on pairs of the domain raises retrieval" in found.why


def test_a_record_that_was_not_run_counts_as_missing(known):
    results = compared()
    results["comparison"]["tuned"] |= {"status": "not run", "metrics": {}, "reason": "no run"}
    assert one(known, HEADLINE, results).verdict == "cannot be checked here"


def test_a_gain_with_its_whole_interval_above_zero_reproduces_and_any_other_does_not(known):
    found = one(known, HEADLINE, compared())
    assert found.verdict == "reproduced on substitute" and found.link == "executed/03_retrieval"
    assert found.ours.startswith("+0.100 MRR") and "n = 177; 3 seeds" in found.ours
    assert one(known, HEADLINE, compared(low=-0.01)).verdict == "not reproduced on substitute"


def test_arithmetic_comes_before_official_before_own_before_ours(known, judged):
    gain = one(known, "cardioembed.gain_over_base_text", compared())
    assert gain.verdict == "arithmetic does not hold" and gain.ours.startswith("+0.100")
    assert gain.link.startswith("claims-arithmetic#") and gain.link.partition("#")[2] in {
        check.name for check in checks.compute(known)
    }
    order = [gain.why.index(word) for word in ("Stated: +6.02", "Elsewhere: 5.77 points", "Holds on open texts")]
    assert order == sorted(order)
    base = judged["cardioembed.figure10.Qwen3-8B-Base.SciFact.ndcg_at_10"]
    assert base.verdict == "contradicted by an official measurement"
    assert "Officially: 78.46 %" in base.why and "Elsewhere: 0.61 fraction" in base.why


def test_an_official_number_is_not_contradicted_by_those_it_contradicts(judged):
    found = judged["official.qwen3.Qwen3-Embedding-8B.SciFact.ndcg_at_10"]
    assert found.verdict == "cannot be checked here" and "Elsewhere" not in found.why


def test_a_comparison_informs_and_does_not_decide(judged):
    found = judged["comparative.table1.BioLinkBERT.separation"]
    assert found.verdict == "contradicted by its own sources"
    assert "Elsewhere: 0.137 cosine" in found.why and "Compare: " in found.why
    assert judged["mimic.recall.hierarchical.top5_recall"].link == "claims-arithmetic#two losses on held-out patients"


def test_a_check_whose_claim_is_gone_names_both(known):
    less = {key: claim for key, claim in known.items() if key != "cardioembed.share_esc"}
    with pytest.raises(KeyError, match=r"a check of books needs the claim 'cardioembed\.share_esc'.*did you mean"):
        checks.compute(less)


def test_benchmarks_are_kept_unless_one_lies_below_with_its_whole_interval(known):
    lower = {"difference": -0.05, "low": -0.07, "high": -0.03}
    unclear = {"difference": -0.01, "low": -0.03, "high": 0.01}
    counts = {"SciFact": {"queries": 300, "documents": 5183}, "BIOSSES": {"pairs": 100}}
    holds, ours, link = evidence.benchmarks_kept(
        {"forgetting": {"tuned": record({"SciFact": lower, "BIOSSES": unclear}, counts)}}
    )
    assert not holds and link == "executed/04_mteb"
    assert ours.startswith("SciFact -0.050 (95 % -0.070 to -0.030; n = 300); BIOSSES -0.010") and "n = 100" in ours
    kept = {"forgetting": {"tuned": record({"SciFact": unclear}, counts)}}
    assert evidence.benchmarks_kept(kept)[0]
    claim = "cardioembed.scifact_recall"
    assert one(known, claim, kept).verdict == "reproduced on substitute"


def similar(similar, negated, separation):
    ends = {"separation_low": separation - 0.05, "separation_high": separation + 0.05}
    means = {"similar": similar, "negated": negated, "separation": separation}
    return record({"separation": means | ends}, {"all": 200})


def test_separation_and_negation_are_read_from_base_and_runs():
    runs = {"a": similar(0.8, 0.9, 0.6), "b": similar(0.8, 0.92, 0.6), "c": similar(0.8, 0.88, 0.6)}
    results = compared() | {"similarity": {"MiniLM": similar(0.7, 0.8, 0.5)} | runs}
    holds, ours, _ = evidence.separation_gain(results)
    assert holds and ours.startswith("+0.100 separation: base 0.500 (95 % 0.450 to 0.550)") and "n = 200" in ours
    holds, ours, _ = evidence.negation_insensitive(results)
    assert holds and ours.startswith("0.900 mean cosine of contradictions, 0.800 of paraphrases")
    results["similarity"]["a"] = similar(0.8, 0.3, 0.1)
    assert not evidence.separation_gain(results)[0] and not evidence.negation_insensitive(results)[0]
    del results["similarity"]["b"]
    assert evidence.separation_gain(results) is None and evidence.negation_insensitive(results) is None


@pytest.mark.parametrize(
    ("whole", "verdict"), [(0.5, "reproduced on substitute"), (0.8, "not reproduced on substitute")]
)
def test_merging_is_judged_by_the_mean_over_the_curves_tasks(known, whole, verdict):
    curve = {"weight": [0, 0.5, 1], "corpus_dev_mrr": [0.4, 0.6, whole], "SciFact_train": [0.6, 0.62, 0.5]}
    found = one(known, MERGED, {"curve": {"a": record(curve)}})
    assert found.verdict == verdict and found.link == "executed/04_mteb"
    assert found.ours.startswith(f"{0.61 - (whole + 0.5) / 2:+.3f} mean score of 2 development tasks: best merge 0.610")


def test_a_curve_without_a_merge_between_its_ends_says_nothing():
    assert evidence.merging_better({"curve": {"a": record({"weight": [0, 1], "corpus_dev_mrr": [0.4, 0.6]})}}) is None


def test_mined_negatives_are_compared_with_the_run_that_differs_in_nothing_else():
    runs = {
        "tried": record({"dev_mrr_best": 0.8}, run="tried", negatives="mined", seed=1),
        "other": record({"dev_mrr_best": 0.9}, run="other", negatives="none", seed=2),
        "twin": record({"dev_mrr_best": 0.75}, run="twin", negatives="none", seed=1),
    }
    holds, ours, _ = evidence.mined_negatives_better({"train": runs})
    assert holds and ours.startswith("+0.050 MRR") and "one run each" in ours
    del runs["twin"]
    assert evidence.mined_negatives_better({"train": runs}) is None


def test_the_ablation_is_read_cell_by_cell():
    scores = {(0.25, "infonce"): 0.2, (0.25, "triplet"): 0.1, (1.0, "infonce"): 0.3, (1.0, "triplet"): 0.25}
    runs = {
        f"ablation-{s}-{loss}-8-{seed}": record(
            {"dev_separation": x + seed / 1000}, grid="ablation", data_share=s, loss=loss, lora_rank=8
        )
        for (s, loss), x in scores.items()
        for seed in (1, 3)
    }
    holds, ours, _ = evidence.infonce_above_triplet({"train": runs})
    assert holds and ours == "2 of 2 pairs of cells; mean separation 0.252 with InfoNCE, 0.177 with triplets"
    holds, ours, _ = evidence.more_data_better({"train": runs})
    assert holds and ours == "1.50 times at rank 8 (0.202 to 0.302)"
    del runs["ablation-0.25-infonce-8-1"], runs["ablation-0.25-infonce-8-3"]
    assert evidence.more_data_better({"train": runs}) is None


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.6449, "reproduced on substitute"), (0.63, "not reproduced on substitute")]
)
def test_our_score_of_the_packaged_model_agrees_with_the_official_one_within_half_a_point(known, score, verdict):
    found = one(
        known,
        SCIFACT,
        {"mteb": {"all-MiniLM-L6-v2": record({"SciFact": {"main_score": score, "low": 0.6, "high": 0.7}})}},
    )
    assert found.verdict == verdict
    assert (
        found.ours
        == f"{100 * score:.2f} (95 % 60.00 to 70.00), {100 * score - 64.51:+.2f} points from the official score"
    )


def test_every_property_is_a_sentence():
    for name, tested in evidence.PROPERTIES.items():
        assert tested.sentence.endswith(".") and len(tested.sentence) > 20, name


def test_committed_records_give_a_verdict_for_every_claim(known):
    folder = paths.BOOK / "results" / "open"
    found = verdicts.judge(known, verdicts.load(folder))
    assert [verdict.claim for verdict in found] == list(known)
    assert {verdict.verdict for verdict in found} <= set(verdicts.VERDICTS)


def test_records_are_loaded_by_measurement_and_model(tmp_path):
    (tmp_path / "mteb.all-MiniLM-L6-v2.json").write_text(
        json.dumps(records.signed(record({"SciFact": {"main_score": 0.6}}), "mteb.all-MiniLM-L6-v2.json"))
    )
    assert verdicts.load(tmp_path) == {
        "mteb": {"all-MiniLM-L6-v2": records.read(tmp_path / "mteb.all-MiniLM-L6-v2.json")}
    }
    assert verdicts.load(tmp_path / "none") == {}


def test_the_command_counts_verdicts_by_source_and_in_all(known, tmp_path, capsys):
    assert verdicts.main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"all: {len(known)}\n" in shown and "cardioembed.card: 33\n" in shown
    total = shown.partition(f"all: {len(known)}\n")[2].splitlines()
    assert sum(int(line.split()[0]) for line in total) == len(known)
    assert [line.split(maxsplit=1)[1] for line in total] == list(verdicts.VERDICTS)
