"""The first page's words follow from the records by rule; its numbers are those of records and ledger."""

import pytest

from cardioembed_study.claims import ledger
from cardioembed_study.report import advice, front_page, published
from cardioembed_study.retrieval import tables
from cardioembed_study.training import tables as training_tables

HIGHER, LOWER, UNSURE = (
    {"difference": middle, "low": middle - 0.01, "high": middle + 0.01, "p_holm": p, "queries": 1084, "documents": 49}
    for middle, p in ((0.05, 0.001), (-0.05, 0.001), (0.005, 0.6))
)
SENTENCES = [
    (UNSURE, HIGHER, HIGHER, "Tuning taught the task, not the specialty"),
    (LOWER, HIGHER, HIGHER, "Tuning taught the task, not the specialty"),
    (HIGHER, HIGHER, HIGHER, "Tuning taught the task more than the specialty"),
    (HIGHER, UNSURE, LOWER, "Tuning taught the specialty, not the task"),
    (HIGHER, HIGHER, LOWER, "Tuning taught the specialty more than the task"),
    (HIGHER, HIGHER, UNSURE, "Tuning taught both the task and the specialty, and which more is undecided"),
    (UNSURE, HIGHER, UNSURE, "Whether tuning taught the specialty or the task is undecided"),
    (HIGHER, UNSURE, UNSURE, "Whether tuning taught the specialty or the task is undecided"),
    (UNSURE, UNSURE, HIGHER, "Whether tuning taught the specialty or the task is undecided"),
]
COUNTS = {"definition_cardiology": {"queries": 1177, "documents": 15}, "medquad_questions": {"queries": 764}}


def change(difference, width=0.01, p=0.001):
    return {"difference": difference, "low": difference - width, "high": difference + width, "p_holm": p}


def records(worst=-0.005, p=0.001):
    """Return the records of a base, of two recipes and of BM25; made up."""
    gains = {"tuned": (0.06, -0.09), "kept": (0.03, 0.001)}
    ranks = {"bm25": (0.6, 0.4), "base": (0.5, 0.7)}
    return {
        "comparison": {
            recipe: {"status": "run", "metrics": {task: change(d) for task, d in zip(COUNTS, both, strict=True)}}
            for recipe, both in gains.items()
        },
        "forgetting": {
            recipe: {
                "status": "run",
                "counts": {"NFCorpus": {"queries": 323, "documents": 3633}, "BIOSSES": {"pairs": 100}},
                "metrics": {"NFCorpus": change(worst, 0.003, p), "BIOSSES": change(-0.02, 0.03, 1.0)},
            }
            for recipe in gains
        },
        "retrieval": {
            model: {"counts": COUNTS, "metrics": {t: {"mrr": r} for t, r in zip(COUNTS, both, strict=True)}}
            for model, both in ranks.items()
        },
    }


@pytest.mark.parametrize(("specialty", "form", "less", "sentence"), SENTENCES)
def test_what_tuning_taught_is_said_only_where_the_contrasts_decide_it(specialty, form, less, sentence):
    contrasts = {"specialty": specialty, "format": form, "whole": HIGHER, "format_less_specialty": less}
    assert front_page.taught(contrasts) == sentence


def test_a_contrast_counts_only_with_interval_and_corrected_p():
    undecided = {"specialty": UNSURE, "format": HIGHER | {"p_holm": 0.05}, "format_less_specialty": HIGHER}
    assert "undecided" in front_page.taught(undecided)


def test_the_answer_tells_gain_cost_and_what_needs_no_tuning():
    said = front_page.answer(records(), {}, "base")
    assert said["answer_inside"] == "better" and said["answer_questions"] == "worse"
    assert said["answer_inside_change"] == "+0.060 (95 % interval +0.050 to +0.070; n = 1,177 from 15 documents)"
    assert said["answer_kept_questions"] == "neither better nor worse" and said["answer_kept_share"] == "50 %"
    assert (said["answer_bm25_inside"], said["answer_bm25_questions"]) == ("+0.100", "-0.300")
    assert said["answer_taught"].endswith("is not measured")
    assert {said[f"answer_{name}"] for name in ("outside", "specialty", "hybrid_inside")} == {front_page.NONE}
    alone = records()
    del alone["comparison"]["tuned"]
    assert (
        front_page.answer(alone, {}, "base")["answer_kept_share"] == front_page.NONE
    )  # of a gain that was not measured
    folds = {
        "folds": {"metrics": {"contrasts": {"specialty": UNSURE, "format": HIGHER, "format_less_specialty": HIGHER}}}
    }
    assert front_page.answer(records(), folds, "base")["answer_taught"] == SENTENCES[0][-1]


def test_a_profile_without_the_papers_recipe_is_told_of_by_its_own():
    alone = records()
    del alone["comparison"]["tuned"]
    said = front_page.answer(alone, {}, "base")
    assert said["answer_inside"] == "better (recipe kept)" and said["answer_kept"] == "better"
    assert said["answer_inside_change"] == said["answer_kept_change"] and "+0.030" in said["answer_inside_change"]
    alone["forgetting"]["kept"]["metrics"] = {"CorpusDefinitions": change(0.02)}
    alone["comparison"]["kept"]["metrics"].pop("medquad_questions")
    assert front_page.cost(alone, "kept") == front_page.NONE  # the book's own definitions are no benchmark of others


@pytest.mark.parametrize(
    ("worst", "p", "sentence"),
    [
        (-0.005, 0.001, "a small and significant loss on NFCorpus, -0.005 (95 % interval -0.008 to -0.002)"),
        (-0.05, 0.001, "a significant loss on NFCorpus, -0.050 (95 % interval -0.053 to -0.047)"),
        (-0.05, 0.2, "no significant loss on any benchmark"),
    ],
)
def test_a_loss_that_counts_is_named_with_its_size(worst, p, sentence):
    assert front_page.cost(records(worst, p), "kept") == sentence


def test_the_forest_takes_every_mark_that_was_measured_and_counts_what_was_asked():
    results = records() | {"hybrid": {"base": {"metrics": {"definition_cardiology": change(0.04)}}}}
    drawn = front_page.gains(results, "base", ["tuned", "kept"])
    heart = drawn.filter(task="definition_cardiology")
    assert heart["mark"].to_list() == ["tuned", "kept", "BM25 and base", "BM25 alone"]
    assert heart["value"].to_list() == pytest.approx([0.06, 0.03, 0.04, 0.1]) and heart["low"][3] is None
    assert heart["row"][0] == "Held-out cardiology definitions, MRR, n = 1,177 from 15 documents"
    assert drawn.filter(task="NFCorpus")["row"][0] == "NFCorpus, nDCG@10, n = 323"  # its documents are candidates
    assert drawn.filter(task="BIOSSES")["row"][0] == "BIOSSES, Spearman, n = 100"
    assert drawn["group"].unique(maintain_order=True).to_list() == list(front_page.GROUPS)


def test_published_numbers_of_the_pages_are_the_ledgers():
    said = published.numbers(ledger.load())
    assert said["published_ceiling"] == f"{100 * 483 / 23657:.1f}"  # patients of pairs
    assert (said["published_recall_1_lowest"], said["published_recall_1_highest"]) == ("0.31", "1.20")
    assert (said["published_gain_text"], said["published_gain"]) == ("6.02", "5.77")


def test_the_ablation_says_how_many_steps_its_cells_ran():
    cell = {"data_share": 1.0, "loss": "infonce", "lora_rank": 8, "seed": 17, "grid": "ablation"}
    runs = {
        f"r{steps}": {"counts": {"steps": steps}, "params": cell, "metrics": {"dev_mrr_best": 0.7}} for steps in (16, 4)
    }
    assert training_tables.numbers(runs) == {"ablation_cells": 2, "ablation_steps": "4 to 16"}
    assert training_tables.numbers({}) == {"ablation_cells": 0, "ablation_steps": "no"}


def test_acc_at_1_is_shown_in_points_beside_bm25():
    entry = {"acc_at_1": {"base": 0.5, "tuned": 0.553, "difference": 0.053, "low": 0.01, "high": 0.1}}
    tuned = {"counts": {"definition_cardiology": 177}, "metrics": {"definition_cardiology": entry}}
    results = {"bm25": {"metrics": {"definition_cardiology": {"acc_at_1": 0.525}}}}
    (row,) = tables.first_rows(results, {"tuned": tuned})
    assert (row["BM25"], row["base"], row["tuned"], row["difference, points"]) == ("52.5 %", "50.0 %", "55.3 %", "+5.3")
    assert tables.first_rows(results, {"tuned": {"metrics": {"definition_cardiology": {}}}}) == []


def advised(low, documents=25):
    """Return records of one recipe whose adapter is above BM25 and base by 0.03, the interval beginning at ``low``; made up."""
    less = {"difference": 0.03, "low": low, "high": 0.06}
    tuned = {way: less | {"base_mrr": mrr, "tuned_mrr": 0.58} for way, mrr in {"base": 0.5, "hybrid": 0.55}.items()}
    both, words = ({"difference": d, "low": 0.01, "high": 0.09, "base_mrr": 0.5} for d in (0.05, 0.04))
    m = {"tuned": tuned, "hybrid": {"base": both | {"tuned_mrr": 0.55}}, "bm25": {"base": words | {"tuned_mrr": 0.54}}}
    return {"kept": {"metrics": m, "counts": {"heading_heldout": {"queries": 300, "documents": documents}}}}


def test_the_page_of_advice_says_what_it_follows_from():
    (row,) = advice.rows(advised(low=0.001))
    assert row["advice"] == "use this adapter" and row["best without tuning"] == "BM25 and base, MRR 0.550"
    assert row["deciding difference"] == "+0.030 (+0.001 to +0.060)" and (row["queries"], row["documents"]) == (300, 25)
    said = advice.numbers(advised(low=-0.001), ["heading_heldout", "question_heldout"])
    assert said["advice_words"] == "kept: use BM25 and the base together, without tuning"
    assert said["advice_task"] == "Held-out headings, n = 300 from 25 documents"
    assert said["advice_not_asked"].startswith(
        "held-out cardiology definitions (no glossary in cardiology chapters), held"
    )
    assert "questions" not in said["advice_not_asked"]
    assert advice.gains(advised(0.001))["mark"].to_list() == ["kept", "BM25", "BM25 and base"]
    assert advice.rows({}) == [] and advice.numbers({}, [])["advice_words"] == front_page.NONE


def test_few_documents_come_before_any_result_and_without_an_adapter_bm25_is_weighed_alone():
    (row,) = advice.rows(advised(low=0.001, documents=19))
    assert row["advice"] == "too few documents to tell"
    untuned = advised(0.001)["kept"]
    untuned["metrics"] = {way: m for way, m in untuned["metrics"].items() if way != "tuned"}
    (row,) = advice.rows({"tuned": untuned})
    assert (row["recipe"], row["adapter's MRR"]) == ("none was tuned", "none") and "BM25 and the base" in row["advice"]
    assert advice.numbers({"tuned": untuned}, [])["advice_words"].startswith("no adapter: use BM25")
