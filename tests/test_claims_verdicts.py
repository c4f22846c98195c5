"""Classes of claims and outcomes of properties: which one, by which rule, from which records; a missing record is no fault."""

import json

import pytest

from cardioembed_study import paths, records
from cardioembed_study.claims import checks, evidence, headline, ledger, properties, verdicts

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
def rules(known):
    return properties.load(known)


@pytest.fixture(scope="module")
def judged(known):
    """Return what is said without any record."""
    return verdicts.judge(known, {})


@pytest.fixture(scope="module")
def said(judged):
    return {verdict.claim: verdict for verdict in judged.claims}


def one(known, claim, results):
    return next(verdict for verdict in verdicts.judge(known, results).claims if verdict.claim == claim)


def test_every_claim_has_one_class_and_a_reason_even_without_records(known, said):
    assert list(said) == list(known)
    kinds = {verdict.kind for verdict in said.values()}
    assert kinds == set(verdicts.CLASSES) - {"agrees with our measurement", "differs from our measurement"}
    assert [key for key, verdict in said.items() if not verdict.why.strip()] == []
    assert all(verdict.ours == "" for verdict in said.values())


def test_a_property_is_judged_once_and_gives_no_claim_a_class(known, judged):
    """The same classes with records that make it hold, fail or leave it open."""
    assert {one.outcome for one in judged.outcomes} == {"not run"}
    for changes in ({}, {"low": -0.2, "high": -0.1}, {"low": -0.1, "high": 0.1}):
        found = verdicts.judge(known, compared(**changes))
        assert found.claims == judged.claims
    assert judged.rules == properties.digest() and len(judged.rules) == 64


@pytest.mark.parametrize(
    ("ends", "seeds", "outcome"),
    [
        ((0.001, 0.3), 3, "holds"),
        ((-0.1, 0.019), 3, "does not hold"),
        ((-0.1, 0.02), 3, "tested, inconclusive"),
        ((0.001, 0.019), 3, "holds"),  # holds is read first
        ((0.001, 0.3), 2, "tested, inconclusive"),
        ((None, None), 5, "tested, inconclusive"),
    ],
)
def test_the_outcome_follows_from_interval_seeds_and_rule(rules, ends, seeds, outcome):
    measured = evidence.Measured(0.1, *ends, seeds, 177, "definitions")
    assert rules["specialty_helps"].outcome(measured) == outcome
    assert rules["specialty_helps"].outcome(None) == "not run"


def test_an_interval_around_zero_refutes_no_gain_of_separation(rules):
    measured = evidence.Measured(-0.025, -0.066, 0.017, 3, 338, "pairs of each kind")
    assert rules["separation_gain"].outcome(measured) == "tested, inconclusive"
    said = verdicts.Outcome(rules["specialty_helps"], rules["specialty_helps"].outcome(measured), measured)
    assert said.words == "does not hold: no gain of 0.02 or more"
    opposite = verdicts.Outcome(rules["held_out_below_training"], "does not hold", measured)
    assert opposite.words == "does not hold"


def test_what_follows_from_a_definition_holds_whatever_the_seeds(rules):
    measured = evidence.Measured(-0.04, None, None, 1, 903, "queries")
    assert rules["recall_at_1_capped"].outcome(measured) == "holds"
    assert str(rules["recall_at_1_capped"].rule).startswith("Follows from the definition")
    assert str(rules["specialty_helps"].rule) == (
        "Holds if the lower end of the interval lies above 0; does not hold if the upper end of the interval lies below +0.02; "
        "else inconclusive."
    )


def test_contrasts_of_the_experiment_are_read_from_the_record_of_domains(known, rules):
    found = {"difference": 0.03, "low": 0.01, "high": 0.05, "documents": 60, "queries": 517}
    members = {"base": ["b"], "without": ["w1", "w2", "w3"], "fold1": ["f1", "f2", "f3", "f4"]}
    folds = record({"contrasts": {"specialty": found, "format": found | {"low": -0.01, "high": 0.01}}})
    folds["params"] = {"members": members}
    judged = verdicts.judge(known, {"domain": {"folds": folds}})
    outcomes = {one.property.id: one for one in judged.outcomes}
    names = ("specialty_helps", "format_helps", "format_more_than_specialty", "specialty_interaction")
    assert [outcomes[name].outcome for name in names] == ["holds", "does not hold", "not run", "not run"]
    measured = outcomes["specialty_helps"].measured
    assert (measured.n, measured.groups, measured.seeds) == (517, 60, 3)
    (row,) = [row for row in headline.rows(known, judged) if "specialty" in row.words]
    assert row.ours.startswith("specialty +0.030 MRR (+0.010 to +0.050)") and "format helps: does not hold" in row.plain


def test_a_record_that_was_not_run_counts_as_missing():
    results = compared()
    results["comparison"]["tuned"] |= {"status": "not run", "metrics": {}, "reason": "no run"}
    assert evidence.in_domain_gain(results) is None


def test_a_gain_says_how_many_documents_its_queries_come_from(rules):
    counts = {"definition_cardiology": {"queries": 177, "documents": 16}}
    results = compared() | {"retrieval": {"MiniLM": record({}, counts)}}
    found = evidence.in_domain_gain(results)
    assert (found.difference, found.low, found.high, found.n, found.groups, found.seeds) == (
        0.1,
        0.04,
        0.16,
        177,
        16,
        3,
    )
    assert evidence.in_domain_gain(compared()).groups is None
    assert rules["in_domain_gain"].outcome(found) == "holds"


def test_a_class_is_the_first_that_applies_and_why_names_the_others(known, said):
    gain = said["cardioembed.gain_over_base_text"]
    assert gain.kind == "arithmetic does not hold" and gain.link.endswith("section 3.2 and Table 1")
    assert "Compare: +6.02 percentage points; Figure 3" in gain.why
    readme = said["cardioembed.readme.GTE-Base.acc_at_1"]
    assert (readme.kind, readme.why) == (
        "its sources differ",
        "Elsewhere: 92.28 % (paper, Table 1; Figure 1 draws its Acc@1, Figure 11 its MRR).",
    )
    assert {v.link.partition("#")[2] for v in said.values() if "#" in v.link} <= {c.name for c in checks.compute(known)}


def test_what_was_computed_and_agrees_is_said_with_its_check(said):
    """Of a difference that holds, the result gets the class; what is only compared keeps its own and names the check."""
    separation = said["comparative.table1.BioLinkBERT.separation"]
    assert separation.why.startswith("The number follows from other published numbers, as stated")
    assert separation.link == "claims-arithmetic#separations as differences"
    drawn = said["comparative.figure1.BioLinkBERT.separation"]
    assert drawn.kind == "never published" and drawn.link == "claims-arithmetic#Figure 1 and the table of separations"
    assert "Agrees with published numbers: Figure 1 draws the separations of the table; largest difference" in drawn.why


def test_a_setting_that_stands_elsewhere_with_another_value_asserts_nothing_still(known, said):
    assert "Elsewhere: 8 LoRA rank r (card, model card, training)." in said["cardioembed.lora_rank"].why
    settings = [key for key, one in known.items() if one.conflicts and one.kind == "reported setting"]
    assert settings and "its sources differ" not in {said[key].kind for key in settings}


def test_a_mislabelled_bar_casts_no_doubt_on_the_stored_result(known, said):
    stored = known["medembed.picture.MedEmbed-base-v0.1.TRECCOVID.ndcg_at_10"].conflicts
    assert stored and {said[key].kind for key in stored} <= {"not tested", "another protocol"}
    assert said["medembed.picture.MedEmbed-base-v0.1.TRECCOVID.ndcg_at_10"].kind == "its sources differ"


@pytest.mark.parametrize(
    ("claim", "kind"),
    [
        (
            "cardioembed.card_mteb.Qwen3-8B.SciFact.ndcg_at_10",
            "model out of reach",
        ),  # perhaps another model than Embedding
        (
            "comparative.table1.BioLinkBERT.separation",
            "follows from published numbers",
        ),  # the ablation has other pairs and epochs
        ("comparative.median_lora", "follows from published numbers"),
        ("comparative.gain_over_bge_large", "never published"),  # the ratio is right, the word "nearest" is not
        ("cardioembed.waterfall_medical", "closed data"),
        ("cardioembed.sentences", "reported setting"),
        ("cardioembed.figure10.MedTE.cardiology.acc_at_1", "closed data"),
        ("cardioembed.figure10.MedTE.efficiency.score", "never published"),
        ("cardioembed.card_mrr_average", "never published"),
        ("comparative.textbooks", "reported setting"),  # of another paper than the seven
        ("cardioembed.textbooks", "reported setting"),
        ("cardioembed.card_adapter", "reported setting"),
        ("cardioembed.abstract_scifact", "model out of reach"),  # 0.609 beside 0.6098
        ("mimic.loss.chapter_weight", "reported setting"),
        ("mimic.epoch_loss.epoch-10.training_loss", "reported setting"),
        ("mimic.auroc.InfoNCE.macro_auroc", "closed data"),
        ("medembed.json.bge-base-en-v1.5.TRECCOVID.ndcg_at_10", "another protocol"),
        ("medembed.json.MedEmbed-base-v0.1.ArguAna.ndcg_at_10", "not tested"),
        ("medembed.csv_base.medical-bge-base-v1.avg.ndcg_at_10", "follows from published numbers"),
        ("official.qwen3.Qwen3-Embedding-8B.SciFact.ndcg_at_10", "model out of reach"),
        ("official.minilm.all-MiniLM-L6-v2.SciFact.ndcg_at_10", "not tested"),
        ("official.qwen3_layers", "reported setting"),
        ("cardioembed.layers", "reported setting"),
    ],
)
def test_a_class_is_one_that_the_authors_could_not_answer(said, claim, kind):
    assert said[claim].kind == kind


def test_numbers_of_another_protocol_stand_beside_each_other(said):
    found = said["medembed.json.bge-base-en-v1.5.TRECCOVID.ndcg_at_10"]
    assert found.why.startswith("By another protocol: 78.03 % (results, main_score of each task, queries with")


def test_what_a_loss_near_zero_means_is_marked_as_our_inference(said):
    assert (
        "Inference (ours): a loss near 0 corresponds to targets of one pair"
        in said["mimic.epoch_loss.epoch-10.training_loss"].why
    )


def test_a_check_whose_claim_is_gone_names_both(known):
    less = {key: claim for key, claim in known.items() if key != "cardioembed.share_esc"}
    with pytest.raises(KeyError, match=r"a check of books needs the claim 'cardioembed\.share_esc'.*did you mean"):
        checks.compute(less)


def test_benchmarks_are_judged_by_the_one_that_falls_most_and_the_others_are_named(rules):
    lower = {"base": 0.6, "tuned": 0.55, "difference": -0.05, "low": -0.07, "high": -0.03}
    unclear = {"base": 0.8, "tuned": 0.79, "difference": -0.01, "low": -0.03, "high": 0.01}
    own = lower | {"difference": -0.9}
    counts = {
        "SciFact": {"queries": 300, "documents": 5183},
        "BIOSSES": {"pairs": 100},
        "CorpusDefinitions": {"queries": 9},
    }
    tasks = {"SciFact": lower, "BIOSSES": unclear, "CorpusDefinitions": own}
    found = evidence.benchmarks_kept({"forgetting": {"tuned": record(tasks, counts, runs=["a", "b", "c"])}})
    assert (found.difference, found.n, found.of) == (
        -0.05,
        300,
        "queries of SciFact",
    ) and "BIOSSES -0.010" in found.said
    assert rules["benchmarks_kept"].outcome(found) == "does not hold"
    kept = evidence.benchmarks_kept(
        {"forgetting": {"tuned": record({"BIOSSES": unclear}, counts, runs=["a", "b", "c"])}}
    )
    assert kept.n == 100 and rules["benchmarks_kept"].outcome(kept) == "tested, inconclusive"
    single = evidence.benchmarks_kept({"forgetting": {"tuned": record(tasks, counts, runs=["a"])}})
    assert rules["benchmarks_kept"].outcome(single) == "tested, inconclusive"


def test_an_interval_over_seeds_is_students(rules):
    """Of 0.1, 0.2 and 0.3 the standard error is 0.1 / √3, and t with two degrees of freedom 4.303."""
    mean, low, high = evidence._over_seeds([0.1, 0.2, 0.3])
    assert (mean, low, high) == pytest.approx((0.2, 0.2 - 4.303 * 0.1 / 3**0.5, 0.2 + 4.303 * 0.1 / 3**0.5), abs=1e-4)
    assert evidence._over_seeds([0.1]) == (0.1, None, None)


@pytest.mark.parametrize(("gains", "outcome"), [((0.1, 0.11, 0.12), "holds"), ((-0.1, -0.11, -0.12), "does not hold")])
def test_seeds_that_agree_decide_about_merging(rules, gains, outcome):
    curve = {str(i): record({"weight": [0, 0.5, 1], "dev": [0.4, 0.5 + gain, 0.5]}) for i, gain in enumerate(gains)}
    trained = {run: record({}, recipe="kept") for run in curve}
    found = evidence.merging_better({"curve": curve, "train": trained})
    assert found.seeds == 3 and rules["merging_better"].outcome(found) == outcome
    assert evidence.merging_better({"curve": curve, "train": trained | {"0": record({}, recipe="tried")}}).seeds == 2


def similar(similar, negated, separation):
    ends = {"separation_low": separation - 0.05, "separation_high": separation + 0.05}
    gap = {"negated_gap_low": similar - negated - 0.01, "negated_gap_high": similar - negated + 0.01}
    means = {"similar": similar, "negated": negated, "separation": separation}
    return record({"separation": means | ends | gap}, {"all": 200})


def test_separation_and_negation_are_read_from_base_and_runs(rules):
    runs = {"a": similar(0.8, 0.9, 0.7), "b": similar(0.8, 0.92, 0.7), "c": similar(0.8, 0.88, 0.7)}
    results = compared() | {"similarity": {"MiniLM": similar(0.7, 0.8, 0.5)} | runs}
    found = evidence.separation_gain(results)
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.1, 0.3))  # 0.65 - 0.55, 0.75 - 0.45
    assert (found.n, found.seeds) == (200, 3) and rules["separation_gain"].outcome(found) == "holds"
    found = evidence.negation_insensitive(results)
    assert (found.difference, found.low, found.high) == pytest.approx((0.1, 0.07, 0.13))
    assert rules["negation_insensitive"].outcome(found) == "holds" and "TF-IDF" not in found.said
    words = {"tfidf": similar(0.02, 0.85, 0.01)}
    found = evidence.negation_insensitive(compared() | {"similarity": results["similarity"] | words})
    assert found.said.endswith("TF-IDF, words alone, 0.850 and 0.020")
    results["similarity"]["MiniLM"] = similar(0.8, 0.7, 0.5)  # the base's interval, -0.11 to -0.09, counts too
    assert rules["negation_insensitive"].outcome(evidence.negation_insensitive(results)) == "tested, inconclusive"
    del results["similarity"]["b"]
    assert evidence.separation_gain(results) is None and evidence.negation_insensitive(results) is None


def test_merging_is_measured_by_the_mean_over_the_curves_tasks_and_a_run_decides_nothing(rules):
    curve = {"weight": [0, 0.5, 1], "corpus_dev_mrr": [0.4, 0.6, 0.5], "SciFact_train": [0.6, 0.62, 0.5]}
    trained = {"a": record({}, recipe="kept")}
    found = evidence.merging_better({"curve": {"a": record(curve)}, "train": trained})
    assert found.difference == pytest.approx(0.11) and (found.seeds, found.n, found.low) == (1, 2, None)
    assert rules["merging_better"].outcome(found) == "tested, inconclusive"
    ends = {"a": record({"weight": [0, 1], "corpus_dev_mrr": [0.4, 0.6]})}
    assert evidence.merging_better({"curve": ends, "train": trained}) is None


def test_the_ablation_is_read_cell_by_cell_and_says_how_many_seeds_a_cell_has(rules):
    scores = {(0.25, "infonce"): 0.2, (0.25, "triplet"): 0.1, (1.0, "infonce"): 0.3, (1.0, "triplet"): 0.25}
    runs = {
        f"ablation-{s}-{loss}-8-{seed}": record(
            {"dev_separation": x + seed / 1000}, grid="ablation", data_share=s, loss=loss, lora_rank=8, seed=seed
        )
        for (s, loss), x in scores.items()
        for seed in (1, 3)
    }
    found = evidence.infonce_above_triplet({"train": runs})
    assert found.difference == pytest.approx(0.075) and (found.n, found.seeds) == (2, 2)
    assert rules["infonce_above_triplet"].outcome(found) == "tested, inconclusive"
    assert evidence.more_data_better({"train": runs}).difference == pytest.approx(0.1)
    del runs["ablation-0.25-infonce-8-1"], runs["ablation-0.25-infonce-8-3"]
    assert evidence.more_data_better({"train": runs}) is None


@pytest.mark.parametrize(
    ("score", "kind"), [(0.6449, "agrees with our measurement"), (0.63, "differs from our measurement")]
)
def test_our_score_of_the_packaged_model_agrees_with_the_official_one_within_half_a_point(known, score, kind):
    found = one(known, SCIFACT, {"mteb": {"all-MiniLM-L6-v2": record({"SciFact": {"main_score": score}})}})
    assert (found.kind, found.ours) == (kind, f"{100 * score:.2f}")
    assert f"{100 * score - 64.51:+.2f} points from the official score" in found.why


def test_the_first_page_says_not_run_where_a_record_is_missing_and_has_six_rows_of_claims(known, judged):
    rows = headline.rows(known, judged)
    assert len(rows) == 6 and {row.claim for row in rows} <= set(known)
    assert [row.ours for row in rows[:5]] == ["not run"] * 5
    assert rows[0].published == "93.83 → 99.60 % (paraphrases, 8 B parameters, n = 6,259)"
    assert rows[2].published == (
        "SciFact 0.61 (base 0.61), NFCorpus 0.26 (base 0.27) in the README; 0.6098 and 0.2026 in the paper, which calls NFCorpus "
        "the expected trade-off. Official score of the base, another version of mteb: 0.7846 and 0.4145"
    )
    assert (rows[5].published[:8], rows[5].ours.partition("with it: ")[2]) == (
        "12 gains",
        "9 of 12 above, 1 the same, 2 below; questions and answers +2.9 to +5.6",
    )


@pytest.mark.parametrize(
    ("runs", "plain"),
    [
        (["a"], "kept here? tested, inconclusive"),
        (["a", "b", "c"], "NFCorpus: falls; kept here? does not hold"),
    ],
)
def test_the_first_page_says_that_a_benchmark_falls_only_of_enough_runs(known, runs, plain):
    lower = {"base": 0.32, "tuned": 0.28, "difference": -0.04, "low": -0.05, "high": -0.03}
    counts = {"NFCorpus": {"queries": 323, "documents": 3633}}
    results = {"forgetting": {"tuned": record({"NFCorpus": lower}, counts, runs=runs)}}
    row = headline.rows(known, verdicts.judge(known, results))[2]
    assert row.plain == plain and row.ours.startswith("NFCorpus 0.3200 → 0.2800")


def test_the_first_page_does_not_blame_tuning_for_what_the_base_does_too(known):
    runs = dict.fromkeys("abc", similar(0.43, 0.92, 0.25))
    results = compared() | {"similarity": {"MiniLM": similar(0.43, 0.9, 0.27)} | runs}
    row = headline.rows(known, verdicts.judge(known, results))[3]
    assert row.plain == (
        "Raised here? inconclusive. Opposites scored closer than paraphrases here? yes, by the base too"
    )
    assert "the study: names of related diseases" in row.ours and row.published.endswith("(read from a figure)")


def test_the_first_page_sets_our_gain_beside_the_published_one(known):
    acc = {"base": 0.469, "tuned": 0.531, "difference": 0.062, "low": 0.01, "high": 0.1}
    results = compared(acc_at_1=acc)
    counts = {"definition_cardiology": {"queries": 177, "documents": 16}}
    results["retrieval"] = {
        "MiniLM": record({}, counts),
        "bm25": record({"definition_cardiology": {"acc_at_1": 0.525, "mrr": 0.6}}),
    }
    results["train"] = {
        "whole": record({}, {"trained_parameters": 22_713_216}, tuning="full", base="MiniLM", loss="", pairs=[])
    }
    row = headline.rows(known, verdicts.judge(known, results))[0]
    assert row.ours == "46.9 → 53.1 % (definitions, 23 M parameters, n = 177, 16 documents); BM25, words alone, 52.5 %"
    assert row.plain == "same direction, another task"


def test_the_first_page_tells_of_the_recipe_that_a_profile_has(known):
    acc = {"base": 0.469, "tuned": 0.531, "difference": 0.062, "low": 0.01, "high": 0.1}
    runs = dict.fromkeys("abc", similar(0.43, 0.92, 0.25))
    results = {"comparison": {"kept": compared(acc_at_1=acc)["comparison"]["tuned"]}}
    results |= {"similarity": {"MiniLM": similar(0.43, 0.9, 0.27)} | runs}
    results |= {"forgetting": {"kept": record({"CorpusDefinitions": acc}, runs=["a"])}}
    rows = headline.rows(known, verdicts.judge(known, results))
    assert rows[0].ours == "46.9 → 53.1 % (definitions, n = 177); recipe kept" and rows[2].ours == "not run"
    assert rows[3].ours.endswith("; recipe kept") and "not run" not in rows[3].plain


def test_committed_records_give_every_claim_a_class_and_every_property_an_outcome(known, rules):
    found = verdicts.judge(known, verdicts.load(paths.BOOK / "results" / "open"))
    assert [verdict.claim for verdict in found.claims] == list(known)
    assert {verdict.kind for verdict in found.claims} <= set(verdicts.CLASSES)
    assert [one.property.id for one in found.outcomes] == list(rules)
    assert {one.outcome for one in found.outcomes} <= set(properties.OUTCOMES)


def test_records_are_loaded_by_measurement_and_model(tmp_path):
    (tmp_path / "mteb.all-MiniLM-L6-v2.json").write_text(
        json.dumps(records.signed(record({"SciFact": {"main_score": 0.6}}), "mteb.all-MiniLM-L6-v2.json"))
    )
    assert verdicts.load(tmp_path) == {
        "mteb": {"all-MiniLM-L6-v2": records.read(tmp_path / "mteb.all-MiniLM-L6-v2.json")}
    }
    assert verdicts.load(tmp_path / "none") == {}


def test_the_command_counts_outcomes_and_classes(known, rules, tmp_path, capsys):
    assert verdicts.main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("specialty_helps: not run\n") and f"all: {len(known)}\n" in shown
    total = shown.partition(f"all: {len(known)}\n")[2].splitlines()
    assert sum(int(line.split()[0]) for line in total) == len(known)
    assert [line.split(maxsplit=1)[1] for line in total] == list(verdicts.CLASSES)


def test_a_merge_that_dev_did_not_choose_is_judged_neither_way(rules):
    counts = {f"definition_{topic}": {"queries": 10, "documents": 3} for topic in ("cardiology", "other")}
    members = {"none": ["a", "b", "c"]}
    plain = {"medembed": {"merges": record({"chosen_less_none": {}}, counts, chosen="none", members=members)}}
    found = evidence.of_merges(plain)
    assert (found.n, found.groups, found.low) == (20, 6, None) and "no merge" in found.said
    assert rules["merging_helps"].outcome(found) == "tested, inconclusive"
    less = {"definitions": {"difference": 0.1, "low": 0.05, "high": 0.15, "queries": 20, "documents": 6}}
    merged = {"medembed": {"merges": record({"chosen_less_none": less}, counts, chosen="TIES", members=members)}}
    assert rules["merging_helps"].outcome(evidence.of_merges(merged)) == "holds"
