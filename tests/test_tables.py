"""Tables of forgetting, similarity and the grid, from records small enough to check by eye."""

import pytest

from cardioembed_study.claims import ledger
from cardioembed_study.forgetting import tables as forgetting_tables
from cardioembed_study.forgetting import target
from cardioembed_study.report import speed
from cardioembed_study.training import tables as training_tables

CHANGE = {"low": 0.01, "high": 0.09, "worst_seed": 0.03, "best_seed": 0.06}
BENCHMARKS = ("BIOSSES", "SciFact", "NFCorpus")


def comparison(gain=0.05, p=0.004, medquad=-0.001, runs=("a", "b", "c")):
    tasks = {"definition_cardiology": gain, "definition_other": 0.9, "medquad_questions": medquad}
    metrics = {
        t: {"base_mrr": 0.5, "tuned_mrr": 0.5 + d, "difference": d, "p_holm": p, **CHANGE} for t, d in tasks.items()
    }
    for m in metrics.values() if len(runs) > 1 else ():
        m["over_seeds"] = {"high": 0.1, "low": 0.0}  # as a record has them, sorted
    params = {"runs": list(runs), "base": "base"}
    return {"status": "run", "params": params, "counts": dict.fromkeys(tasks, 7), "metrics": metrics}


def forgetting(runs=("a", "b", "c"), **changes):
    found = dict.fromkeys(BENCHMARKS, 0.0) | changes
    metrics = {t: {"base": 0.6, "tuned": 0.6 + d, "difference": d, "p_holm": 0.5, **CHANGE} for t, d in found.items()}
    counts = {t: {"queries": 300, "documents": 9} for t in found}
    return {"status": "run", "params": {"runs": list(runs)}, "counts": counts, "metrics": metrics}


def verdict(compared, forgotten):
    return target.judge(forgotten, compared)["verdict"]


def test_the_target_asks_for_gain_certainty_seeds_and_every_benchmark():
    assert verdict(comparison(), forgetting()) == "met"
    assert verdict(comparison(gain=0.049), forgetting()) == "not met"
    assert verdict(comparison(p=0.05), forgetting()) == "not met"
    assert verdict(comparison(runs=("a", "b")), forgetting()) == "not met"
    assert verdict(comparison(), forgetting(["a"])) == "not met"
    lacking = forgetting()
    del lacking["metrics"]["BIOSSES"]
    assert verdict(comparison(), lacking) == "not met"


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (-0.005, 0.9, "yes"),
        (-0.0051, 0.0049, "no"),  # half-width 0.005: it could have been shown
        (-0.0081, -0.0021, "no"),
        (-0.3, -0.006, "no"),  # a loss, however wide the interval
        (-0.03, 0.01, "cannot be decided"),
    ],
)
def test_a_loss_is_ruled_out_by_the_interval_or_cannot_be_decided(low, high, answer):
    forgotten = forgetting()
    forgotten["metrics"]["NFCorpus"] |= {"low": low, "high": high}
    judged = target.judge(forgotten, comparison())
    assert judged["decisions"]["NFCorpus"][0] == answer
    assert judged["verdict"] == {"yes": "met", "no": "not met"}.get(answer, answer)


def test_the_texts_that_would_decide_grow_with_the_square_of_the_half_width():
    assert target.decision({"low": -0.02, "high": 0.02}, 100) == ("cannot be decided", 1600)


def test_the_target_shows_both_intervals_of_each_benchmark():
    rows = forgetting_tables.target_rows({"tuned": (forgetting(["a"], SciFact=-0.04), comparison(medquad=0.02))})
    assert [row["task"] for row in rows] == ["MedQuAD cardiology questions (unseen domain)", *BENCHMARKS]
    assert rows[0] == {
        "recipe": "tuned",
        "task": "MedQuAD cardiology questions (unseen domain)",
        "n": 7,
        "seeds": 3,
        "difference": "+0.0200",
        "95 % over texts": "+0.0100 to +0.0900",
        "95 % over seeds": "+0.0000 to +0.1000",
        "loss above 0.005 ruled out": "yes",
        "n that would decide": "decided",
    }
    assert rows[1]["95 % over seeds"] == "none recorded" and rows[2]["difference"] == "-0.0400"


def test_a_profile_without_the_benchmarks_is_judged_by_what_it_has():
    own = {"metrics": {"CorpusDefinitions": {"difference": 0.25}}}
    plain = comparison()
    del plain["metrics"]["medquad_questions"]
    assert target.losses(own, plain) == {"CorpusDefinitions": -0.25}


def test_every_run_and_every_mean_is_a_point():
    results = {
        "comparison": {"tuned": comparison(runs=["a", "not on benchmarks"])},
        "forgetting": {"tuned": forgetting(["a"], SciFact=-0.02)},
        "retrieval": {
            m: {"metrics": {"definition_cardiology": {"mrr": x}, "medquad_questions": {"mrr": y}}}
            for m, x, y in (("base", 0.5, 0.4), ("a", 0.6, 0.3))
        },
        "mteb": {m: {"metrics": {t: {"main_score": s} for t in BENCHMARKS}} for m, s in (("base", 0.7), ("a", 0.65))},
    }
    pairs = target.compared(results, forgetting_tables.measured(results["comparison"]))
    found = target.points(results, pairs, "base")
    assert found["name"].to_list() == ["tuned, mean", "a"]
    assert found["gain"].to_list() == pytest.approx([0.05, 0.1])
    assert found["loss"].to_list() == pytest.approx([0.02, 0.1])
    ends = found.select("gain_low", "gain_high", "loss_low", "loss_high").rows()
    gained, fell = (
        pair["metrics"][t] for pair, t in zip(pairs["tuned"][::-1], ("definition_cardiology", "SciFact"), strict=True)
    )
    assert ends == [(gained["low"], gained["high"], -fell["high"], -fell["low"]), (None,) * 4]


def test_every_task_says_how_many_seeds_it_has():
    found = {r["task"]: r["seeds"] for r in forgetting_tables.forgetting_rows("tuned", forgetting(["a"]), comparison())}
    assert found == {"definition_cardiology": 3, "medquad_questions": 3, "BIOSSES": 1, "SciFact": 1, "NFCorpus": 1}


def test_a_recipe_without_benchmarks_has_no_point():
    results = {"comparison": {"tuned": comparison()}, "forgetting": {"tuned": {"status": "not run"}}}
    assert target.compared(results, ["tuned"]) == {}
    assert target.points(results, {}, "base").is_empty()


def test_recipes_that_were_not_run_are_no_recipes_and_tuned_comes_first():
    found = {"kept": comparison(runs=["k"]), "none": {"status": "not run"}, "tuned": comparison(runs=["a"])}
    assert list(forgetting_tables.measured(found).items()) == [("tuned", ["a"]), ("kept", ["k"])]


def grid(values):
    return {
        f"ablation-{share}-{loss}-{rank}-{seed}": {
            "params": {"grid": "ablation", "data_share": share, "loss": loss, "lora_rank": rank, "seed": seed},
            "metrics": {"dev_mrr_best": value, "dev_separation": value / 2},
        }
        for (share, loss, rank, seed), value in values.items()
    }


def test_the_ablation_shows_mean_and_spread_of_the_seeds_and_leaves_other_runs_out():
    cells = grid({(0.5, "triplet", 8, 1): 0.2, (0.5, "triplet", 8, 2): 0.4, (0.25, "infonce", 8, 1): 0.6})
    other = {"seed17": {"params": {"grid": "", "pairs": ["definition"]}}}
    training = cells | other
    shown = training_tables.grid_rows(training)
    assert shown[0] == {"data": "25%", "loss": "infonce", "MRR, r = 8": "0.600", "separation, r = 8": "0.300"}
    assert shown[1]["MRR, r = 8"] == "0.300 ± 0.141"
    assert list(training_tables.on_books(training)) == ["seed17"]
    assert training_tables.grid_rows(other) == []


def test_official_scores_are_those_of_the_ledger_and_stand_beside_ours():
    official = forgetting_tables.official(ledger.load(), "all-MiniLM-L6-v2")
    assert official == {"BIOSSES": 0.8164, "SciFact": 0.6451, "NFCorpus": 0.3159}
    mteb = {"b": {"metrics": {"SciFact": {"main_score": 0.645}}, "counts": {"SciFact": {"queries": 300}}}}
    (row,) = forgetting_tables.truth_rows(mteb, "b", official)
    assert row == {
        "task": "SciFact",
        "n": 300,
        "official": "0.6451",
        "measured here": "0.6450",
        "difference": "-0.0001",
    }


def test_published_points_are_the_ten_models_of_the_study():
    found = speed.published(ledger.load())
    assert len(found) == 10 and found.null_count().sum_horizontal().item() == 0
    assert found.filter(model="BioLinkBERT").row(0)[1:] == (340, 0.510, 31.24, 1.51)


def test_changes_and_scores_are_shown_as_the_records_have_them():
    m = {"base": 0.5, "tuned": 0.6, "difference": 0.1, "low": 0.05, "high": 0.15, "p_holm": 0.01}
    m |= {"worst_seed": 0.08, "best_seed": 0.12}
    record = {
        "metrics": {"SciFact": m},
        "counts": {"SciFact": {"queries": 300}},
        "params": {"runs": ["seed17", "seed18"]},
    }
    (row,) = forgetting_tables.change_rows("tuned", record)
    assert (row["n"], row["seeds"], row["base"], row["tuned"]) == (300, 2, "0.5000", "0.6000")
    assert row["worst and best seed"] == "+0.0800, +0.1200" and row["p (Holm)"] == "0.010"
    assert forgetting_tables.change_rows("other", {"metrics": {}, "counts": {}, "params": {"runs": []}}) == []
    (score,) = forgetting_tables.mteb_rows(
        {"m": {"metrics": {"C": {"main_score": 0.25}}, "counts": {"C": {"queries": 3}}, "params": {"base": "m"}}}
    )
    assert (score["main score"], score["95 %"]) == (0.25, "none")


def test_what_was_chosen_on_dev_is_said_in_words():
    curve = {"weight": [0, 1, 1.5], "corpus_dev_mrr": [0.6, 0.65, 0.7], "SciFact_train": [0.5, 0.496, 0.48]}
    said = forgetting_tables.numbers({}, {}, {"kept-seed17": {"metrics": curve}})["chosen_merge"]
    assert said == "1 of kept-seed17, +0.050 MRR on dev, +0.0040 lost"
    lost = {"kept-seed17": {"metrics": curve | {"SciFact_train": [0.5, 0.4, 0.4]}}}
    assert forgetting_tables.numbers({}, {}, lost)["chosen_merge"].startswith("the base itself")
    assert forgetting_tables.numbers({}, {}, {})["chosen_merge"] == "not measured"
