"""What the MedEmbed study asks and reports: tasks of both sorts in one form, choices on dev, differences by hand."""

import numpy as np
import pytest

from cardioembed_lib import metrics
from cardioembed_study.forgetting import changes, mteb_tasks
from cardioembed_study.medembed import asked, figures, merging, negatives, sizes, tables, vectors
from cardioembed_study.retrieval import pools

RNG = np.random.default_rng(3)
DOCUMENTS = [{"id": f"d{n}", "title": f"T{n}", "text": f"text {n}"} for n in range(4)]
RIGHT = {"q1": {"d0": 2, "d1": 1}, "q2": {"d3": 1}}
BENCHMARK = mteb_tasks.filled(
    mteb_tasks.CorpusDefinitions(), "test", DOCUMENTS, {"q1": "one", "q2": "two"}, RIGHT, "toy", "1"
)
NAMES = [task for tasks in asked.JOINED.values() for task in tasks]


def toy(name):
    grades = np.eye(6, dtype=np.int8)
    return asked.Asked(name, ["q"] * 6, ["p"] * 6, grades, ["a", "a", "b", "c", "c", "d"], asked.MRR)


TASKS = {name: toy(name) for name in [*NAMES, "dev"]}


def scored(level):
    return {name: RNG.uniform(0, 0.2, 6) + level for name in TASKS}


OUTCOMES = {"base": scored(0.1), "a-1": scored(0.5), "a-2": scored(0.6), "b-1": scored(0.3), "b-2": scored(0.3)}


def test_a_benchmark_keeps_its_grades_and_is_scored_as_mteb_scores_it():
    task = asked.from_benchmark("toy", BENCHMARK)
    assert task.passages[1] == "T1 text 1" and task.queries == ["one", "two"] and task.clusters == ["q1", "q2"]
    assert task.grades.tolist() == [[2, 1, 0, 0], [0, 0, 0, 1]]
    first_wrong = asked.score(task, [[0.8, 0.7, 0.9, 0.1], [0.1, 0.2, 0.3, 0.9]])
    ideal, found = 2 + 1 / np.log2(3), 2 / np.log2(3) + 1 / 2
    assert first_wrong.tolist() == pytest.approx([found / ideal, 1.0])


def test_a_task_of_ours_is_scored_by_the_rank_of_its_one_passage_and_never_finds_itself():
    task = pools.Task("toy", ["q"], ["q", "p", "x"], np.array([1]), ["d"], np.array([0]))
    similarities = np.array([[1.0, 0.5, 0.6]])
    assert asked.score(asked.from_task(task), similarities).tolist() == [0.5]
    assert 1 / metrics.gold_ranks(similarities, [1], [0])[0] == 0.5


def test_what_a_first_pass_left_out_ranks_behind_everything():
    task = asked.from_task(pools.Task("toy", ["q"], ["p", "x", "y"], np.array([0]), ["d"]))
    assert asked.score(task, [[-np.inf, 0.2, -np.inf]]).tolist() == [1 / 3]  # ties count against us


def test_a_recipe_is_compared_by_the_mean_of_its_runs_query_by_query():
    found = asked.compare({"dev": TASKS["dev"]}, OUTCOMES, "base", ["a-1", "a-2"], 17)["dev"]
    each = [(OUTCOMES[run]["dev"] - OUTCOMES["base"]["dev"]).mean() for run in ("a-1", "a-2")]
    assert found["difference"] == pytest.approx(np.mean(each)) and found["low"] > 0
    assert (found["worst_seed"], found["best_seed"]) == pytest.approx((min(each), max(each)))
    assert found["p_holm"] == found["p"]


def test_a_contrast_joins_tasks_and_draws_their_documents():
    found = asked.contrast(TASKS, OUTCOMES, ["a-1", "a-2"], ["b-1"], 17)
    assert list(found) == list(asked.JOINED)
    by_hand = [(OUTCOMES["a-1"][n] + OUTCOMES["a-2"][n]) / 2 - OUTCOMES["b-1"][n] for n in asked.JOINED["definitions"]]
    assert found["definitions"]["difference"] == pytest.approx(np.concatenate(by_hand).mean())
    assert (found["definitions"]["queries"], found["SciFact_part"]["queries"]) == (12, 6)


@pytest.mark.parametrize(
    ("dev", "chosen"),
    [
        ({"none": 0.700, "bm25": 0.7049, "several": 0.7049}, "none"),
        ({"none": 0.700, "bm25": 0.7051, "dense": 0.7099}, "bm25"),
        ({"window": 0.75, "dense": 0.70}, "window"),
    ],
)
def test_of_negatives_that_are_as_good_the_simplest_is_taken(dev, chosen):
    assert negatives.choice(dev) == chosen


def negatives_record():
    members = {"none": ["b-1", "b-2"], "bm25": ["a-1", "a-2"], "other": ["base"]}
    found = negatives.measured(TASKS["dev"], OUTCOMES, "base", members, 17)
    counts = {"dev": asked.counts(TASKS["dev"]), "texts": {"none": 2, "bm25": 3}}
    return {"metrics": found, "counts": counts, "params": {"chosen": "bm25"}}


def test_each_choice_of_negatives_is_set_against_the_base_and_against_none():
    found = negatives_record()["metrics"]
    assert list(found) == ["none", "bm25"] and "less_none" not in found["none"]
    less = found["bm25"]["difference"] - found["none"]["difference"]
    assert found["bm25"]["less_none"]["difference"] == pytest.approx(less)


def sizes_record():
    members, bases = {"layers1": ["a-1", "a-2"], "none": ["b-1", "b-2"]}, {"layers1": "base", "none": "base"}
    found = sizes.measured(TASKS, OUTCOMES, members, bases, 17)
    counts = {"layers": {"layers1": 1, "none": 6}, "parameters": {"layers1": 13.8e6, "none": 22.7e6}}
    return {"metrics": found, "counts": counts, "params": {"texts_per_second": {"layers1": 600.0, "none": 150.0}}}


def test_the_smallest_is_compared_with_the_largest_by_their_gains():
    found = sizes_record()["metrics"]
    gains = [found["sizes"][name]["definitions"]["difference"] for name in ("layers1", "none")]
    less = found["smallest_less_largest"]["definitions"]
    assert less["difference"] == pytest.approx(gains[0] - gains[1]) and less["low"] > 0
    assert "yes" in tables.numbers({"sizes": {"metrics": found}})["medembed_sizes"]


def test_the_records_become_tables_and_figures_with_the_numbers_drawn():
    made = {"base": ["base"], "none": ["b"], "matryoshka": ["a"]}
    draw = RNG.normal(size=(2, 6, 16)).astype(np.float32)
    unit = tuple(draw / np.linalg.norm(draw, axis=2, keepdims=True))
    kept = vectors.measured(TASKS, lambda model: dict.fromkeys(TASKS, unit), made, 17, (16, 8))
    records = {"negatives": negatives_record(), "sizes": sizes_record()}
    records["widths"] = {"metrics": kept, "counts": {"bytes": vectors.sizes((16, 8))}}
    found = tables.sections(records)
    assert [row["texts a pair"] for row in found["negatives"]] == [2, 3] and "chosen" in found["negatives"][1][
        "hard negatives"
    ]
    assert len(found["sizes"]) == 8 and found["sizes"][0]["parameters, million"] == 13.8
    assert len(found["widths"]) == 3 * 4 * 6 * 2 and found["recipes"] == found["prompts"] == []
    assert figures.of_negatives(records["negatives"])[1]["value"].to_list() == pytest.approx(
        [m["difference"] for m in records["negatives"]["metrics"].values()]
    )
    assert len(figures.of_sizes(records["sizes"])[1]) == 8
    assert len(figures.of_widths(records["widths"])[1]) == 3 * 4 * 6 * 2
    assert figures.of_sizes(None)[1]["why"].to_list() == [tables.NOT_RUN]


def test_recipes_merges_and_token_vectors_become_rows_words_and_figures():
    members = {"none": ["b-1", "b-2"], "query": ["a-1", "a-2"]}
    counts = {name: asked.counts(task) for name, task in TASKS.items()}
    less = asked.contrast(TASKS, OUTCOMES, members["query"], members["none"], 17)
    recipes = {name: asked.compare(TASKS, OUTCOMES, "base", runs, 17) for name, runs in members.items()}
    found = {"recipes": recipes} | {f"{name}_less_{of}": less for name, of in (("chosen", "none"), ("query", "none"))}
    found["medembed_less_kept"] = less
    merges = merging.measured(
        TASKS["dev"],
        {"none": [OUTCOMES["b-1"]["dev"]], "query": [OUTCOMES["a-1"]["dev"]]},
        TASKS,
        {"none": [OUTCOMES["b-1"]], "query": [OUTCOMES["a-1"]]},
        "query",
        17,
    )
    kept = {form: {"score": 0.5, **less["definitions"]} for form in tables.FORMS}
    for form in ("all", "all_int8", "tenth", "tenth_int8"):
        kept[form]["bytes"] = 1000.0
    forms = {recipe: dict.fromkeys(asked.JOINED, kept) for recipe in ("base", "tuned")}
    taken = dict.fromkeys(tables.TIMED, 1.5)
    records = {
        "recipes": {"metrics": found, "counts": counts, "params": {}},
        "merges": {"metrics": merges, "counts": counts, "params": {"chosen": "query"}},
        "late": {"metrics": {"kept": forms}, "counts": counts, "params": {"rate": 1e-3, "milliseconds": taken}},
    }
    rows, words = tables.sections(records), tables.numbers(records)
    assert len(rows["recipes-contrasts"]) == 12 and len(rows["late"]) == 2 * 4 * 8 and len(rows["selection"]) == 5
    assert [row["merge, or training"] for row in rows["merges"]] == ["none", "query, chosen"] and rows[
        "negatives"
    ] == []
    assert words["medembed_query"].startswith("yes") and words["medembed_late_ms"].startswith(
        "one vector a text 1.5 ms"
    )
    assert words["medembed_late_base"].count(";") == 3
    assert words["medembed_nested"] == tables.NOT_RUN and words["medembed_selection"].startswith("+0.000")
    assert len(figures.of_recipes(records["recipes"])[1]) == 2 * len(tables.TASKS)
    assert figures.of_merges(records["merges"])[1]["mark"].to_list() == ["training"]
    drawn = figures.of_late(records["late"])[1]
    assert len(drawn) == 2 * 4 * 5 and drawn.filter(kept="one vector, 16 bits")["bytes"].unique().to_list() == [768]


def test_a_part_of_a_benchmark_has_every_query_and_no_more_documents_than_said():
    part = changes.subset(BENCHMARK, 3, 2, 17)
    task = asked.from_benchmark("part", part)
    assert len(task.queries) == 2 and len(task.passages) == 3 and (task.grades.max(axis=1) > 0).all()
