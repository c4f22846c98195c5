"""Merged weights are what the formulas say; a choice looks better where it was made by as much as chance explains."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file, save_file

from cardioembed_lib import encoder as encoders
from cardioembed_lib import export, files, lora, models
from cardioembed_study.claims import checks
from cardioembed_study.medembed import asked, merging

LAYER = "encoder.layer.1.intermediate.dense.weight"
LARGEST_OF_FOUR = 1.02938  # expected maximum of four standard normals (tables of order statistics)


def trained(base, folder, seed, rank=4):
    """Write an adapter whose B holds numbers, as training would leave it."""
    model = lora.attach(tiny.bert().model, rank=rank, alpha=2 * rank, dropout=0.0, targets="all-linear", seed=seed)
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=draw)
    return export.save(encoders.with_model(tiny.bert(), model), base, folder, {})


def trained_whole(base, folder, seed):
    model, draw = lora.whole(tiny.bert().model), torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    return export.save(encoders.with_model(tiny.bert(), model), base, folder, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a base on disk and folders that were trained on it."""
    root = tmp_path_factory.mktemp("merging")
    plain = tiny.bert()
    plain.model.save_pretrained(root / "base")
    plain.tokenizer.save_pretrained(root / "base")
    sizes = {"pooling": "mean", "prompts": {"query": "", "document": ""}, "width": 32, "max_length": 32}
    base = models.ModelSpec(name="tiny", hub_id=str(root / "base"), revision=None, **sizes)
    found = {name: trained(base, root / name, seed) for seed, name in enumerate(("one", "two", "three"), start=1)}
    found["wide"] = trained(base, root / "wide", 4, rank=8)
    return base, found | {"whole": trained_whole(base, root / "whole", 5)}


def changes(folder):
    """Return by how much a trained folder changes each weight, from its files alone."""
    plain = dict(tiny.bert().model.named_parameters())
    if (folder / models.WHOLE).exists():
        return {name: tensor - plain[name] for name, tensor in load_file(folder / models.WHOLE).items()}
    stored = load_file(folder / models.ADAPTER)
    found = {name: torch.zeros_like(p) for name, p in plain.items()}
    for key in (key for key in stored if "lora_A" in key):
        name = key.removeprefix("base_model.model.").replace("lora_A.", "")
        found[name] = 2 * stored[key.replace("lora_A", "lora_B")] @ stored[key]  # alpha / r is 2
    return found


def change(encoder):
    plain = dict(tiny.bert().model.named_parameters())
    found = dict(encoder.model.named_parameters())
    assert found.keys() == plain.keys() and not any(p.requires_grad for p in found.values())
    return {name: found[name] - p for name, p in plain.items()}


def weighted(parts):
    each = [{name: weight * tensor for name, tensor in changes(folder).items()} for folder, weight in parts.items()]
    return {name: sum(one[name] for one in each) for name in each[0]}


def same(encoder, wanted):
    for name, tensor in change(encoder).items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-6, msg=name)


def test_one_part_is_what_loading_it_gives_and_without_weight_the_base(made):
    base, found = made
    for weight in (0.0, 0.5, 1.0, 1.5):
        encoder = merging.merged(base, {found["one"]: weight})
        same(encoder, weighted({found["one"]: weight}))
        assert encoder.revision == models.load(base, adapter=found["one"], weight=weight).revision
    assert not any(tensor.any() for tensor in change(merging.merged(base, {found["whole"]: 0.0})).values())
    zero = {found["one"]: 0.0, found["two"]: 0.0}
    assert not any(t.any() for how in ("sum", "cat") for t in change(merging.merged(base, zero, how)).values())


@pytest.mark.parametrize("method", ["sum", "cat"])
@pytest.mark.parametrize("weights", [(1 / 3, 1 / 3, 1 / 3), (1.5, -0.5, 0.25)])
def test_changes_of_adapters_add_up_whatever_their_rank(made, method, weights):
    base, found = made
    parts = dict(zip((found["one"], found["two"], found["wide"]), weights, strict=True))
    same(merging.merged(base, parts, method), weighted(parts))


@pytest.mark.parametrize("method", merging.METHODS)
def test_a_merge_leaves_the_global_generator_as_it_was(made, method):
    base, found = made
    state = torch.get_rng_state()
    merging.merged(base, {found["one"]: 1.0, found["two"]: 1.0}, method)
    assert torch.equal(torch.get_rng_state(), state)


def test_models_trained_as_a_whole_and_adapters_add_up(made):
    base, found = made
    parts = {found["whole"]: 0.5, found["one"]: 0.75}
    same(merging.merged(base, parts), weighted(parts))


def test_the_linear_mean_of_an_adapter_and_its_copy_is_twice_the_adapter(made, tmp_path):
    """Which is why no mean is taken of factors: ((A + A) / 2^0.5) and ((B + B) / 2^0.5) have the product 2 B A."""
    base, found = made
    copy = shutil.copytree(found["one"], tmp_path / "copy")
    halves = {found["one"]: 0.5, copy: 0.5}
    same(merging.merged(base, halves, "cat"), weighted({found["one"]: 1.0}))
    same(merging.merged(base, halves, "linear"), weighted({found["one"]: 2.0}))


def test_cat_sees_the_change_and_linear_the_factors_it_is_written_in(made, tmp_path):
    base, found = made
    other = shutil.copytree(found["one"], tmp_path / "other")
    stored = load_file(other / models.ADAPTER)
    save_file({k: -t for k, t in stored.items()}, other / models.ADAPTER)  # (-B) (-A) is B A
    files.write_sums(other / models.SUMS, other.glob("adapter*"))
    halves = {found["one"]: 0.5, other: 0.5}
    same(merging.merged(base, halves, "cat"), weighted({found["one"]: 1.0}))
    same(merging.merged(base, halves, "linear"), weighted({found["one"]: 0.0}))


def ties(each, density):
    """Trim to the largest numbers, elect the sign with more weight, take the mean of those that have it."""
    kept = []
    for numbers in each:
        order = np.argsort(-np.abs(numbers), axis=None)[: int(density * numbers.size)]
        kept.append(np.zeros(numbers.size))
        kept[-1][order] = numbers.ravel()[order]
    kept = np.array(kept)
    agrees = (np.sign(kept) == np.where(kept.sum(axis=0) >= 0, 1, -1)) & (kept != 0)
    return ((kept * agrees).sum(axis=0) / np.maximum(agrees.sum(axis=0), 1)).reshape(each[0].shape)


def test_ties_trims_elects_and_takes_the_mean_of_those_that_agree(made):
    by_hand = ties([np.array([3.0, -1.0, 0.5, 2.0]), np.array([1.0, 2.0, -0.4, -3.0])], 0.5)
    assert by_hand.tolist() == [3.0, 2.0, 0.0, -3.0]  # 3 alone; 2 alone; none; 2 against -3
    base, found = made
    parts = [found["one"], found["two"], found["wide"]]
    for density in (0.2, 0.7):
        encoder = merging.merged(base, dict.fromkeys(parts, 1.0), "ties_svd", density=density)
        each = [{name: tensor.numpy() for name, tensor in changes(folder).items()} for folder in parts]
        wanted = {name: torch.tensor(ties([one[name] for one in each], density)).float() for name in each[0]}
        for name, tensor in change(encoder).items():
            torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-5, msg=name)
    assert 0.2 < (change(encoder)[LAYER].abs() > 1e-4).float().mean() < 1


def test_every_merge_has_a_name_of_its_own_without_a_path(made, tmp_path):
    base, found = made
    shares = ((0.5, 0.5), (1.0, 1.0))
    asked = [({found["one"]: a, found["two"]: b}, how) for a, b in shares for how in merging.METHODS]
    names = [merging.merged(base, parts, how).revision for parts, how in asked]
    names += [merging.merged(base, asked[0][0], "ties_svd", density=0.5).revision, models.load(base).revision]
    assert len(set(names)) == len(names) == 2 * len(merging.METHODS) + 2
    assert not any(str(found["one"]) in name for name in names)
    moved = shutil.copytree(found["one"], tmp_path / "moved")
    assert merging.merged(base, {moved: 0.5, found["two"]: 0.5}).revision == names[0]


def test_what_cannot_be_merged_is_refused_with_what_to_do(made):
    base, found = made
    pair = {found["one"]: 0.5, found["two"]: 0.5}
    with pytest.raises(KeyError, match=r"no way to merge 'ties_sv'; did you mean 'ties_svd'\?"):
        merging.merged(base, pair, "ties_sv")
    with pytest.raises(ValueError, match="nothing to merge; give at least one folder and its weight"):
        merging.merged(base, {})
    with pytest.raises(ValueError, match=r"ties_svd merges two adapters or more, one was given; .* with 'sum'"):
        merging.merged(base, {found["one"]: 1.0}, "ties_svd")
    with pytest.raises(ValueError, match="whole was trained as a whole; cat merges adapters, use 'sum'"):
        merging.merged(base, {found["one"]: 0.5, found["whole"]: 0.5}, "cat")
    with pytest.raises(ValueError, match="must have the same r value when using combination_type linear"):
        merging.merged(base, {found["one"]: 0.5, found["wide"]: 0.5}, "linear")
    with pytest.raises(ValueError, match=r"one was trained on .*base, not on all-MiniLM-L6-v2"):
        merging.merged(tiny.spec("all-MiniLM-L6-v2"), pair)
    with pytest.raises(FileNotFoundError, match="none/SHA256SUMS, which says what was written, is missing"):
        merging.merged(base, pair | {found["one"].with_name("none"): 1.0})


def noisy(seed, gaps=(0.0, 0.0, 0.0, 0.0), tasks=2, queries=60):
    """Return scores with noise of deviation 1 a candidate, on queries that are harder or easier for all."""
    rng = np.random.default_rng(seed)
    shape = len(gaps), queries
    return {
        f"task{n}": rng.normal(size=shape) + 3 * rng.normal(size=queries) + np.array(gaps)[:, None]
        for n in range(tasks)
    }


def test_optimism_is_the_expected_largest_noise_where_candidates_are_equal():
    """Means of 30 queries of two tasks have deviation (1 / 60)^0.5; so has the largest of four in mean over studies."""
    found = [merging.selection_bias(noisy(seed), seed, draws=100) for seed in range(24)]
    wanted = LARGEST_OF_FOUR / math.sqrt(60)
    assert np.mean([one["optimism"] for one in found]) == pytest.approx(wanted, rel=0.15)
    assert np.mean([one["optimism_low"] <= wanted <= one["optimism_high"] for one in found]) >= 0.9
    assert all(one["optimism"] == pytest.approx(one["apparent"] - one["honest"]) for one in found)


def test_nothing_is_too_good_where_one_candidate_is_the_best():
    scores = noisy(1, gaps=(0.0, 2.0, 0.0, 0.0))
    found = merging.selection_bias(scores, 1, draws=100)
    assert found["agreed"] == 1 and found["optimism"] == 0 and found["optimism_high"] < 0.02
    assert found["honest"] == pytest.approx(np.mean([values[1].mean() for values in scores.values()]))
    assert found["honest_low"] < found["honest"] < found["honest_high"]


def test_merges_are_offered_for_each_seed_and_only_of_what_was_trained():
    adapters = {run: Path(run) for run in ("none-1", "none-2", "query-1", "query-2")}
    found = merging.candidates(adapters, {"none": ["none-1", "none-2"], "query": ["query-1", "query-2"]})
    names = [*found]
    assert (names[0], names[-1]) == (merging.PLAIN, merging.SEEDS) and "medembed" not in names
    assert found["TIES, none and query"][1] == ("ties_svd", {Path("none-2"): 1.0, Path("query-2"): 1.0})
    assert found[merging.SEEDS] == [("sum", {Path("none-1"): 0.5, Path("none-2"): 0.5})]


def test_the_chosen_merge_is_set_against_plain_tuning_and_the_choice_against_halves():
    rng = np.random.default_rng(0)
    grades, clusters = np.eye(8, dtype=np.int8), [*"aabbccdd"]
    tasks = {
        name: asked.Asked(name, ["q"] * 8, ["p"] * 8, grades, clusters, asked.MRR)
        for names in asked.JOINED.values()
        for name in names
    }
    on_test = {
        name: [{task: rng.uniform(size=8) + n for task in tasks}] for n, name in enumerate(("none", "1.5 of none"))
    }
    on_dev = {"none": [np.zeros(8), np.ones(8)], "1.5 of none": [np.ones(8), np.ones(8)]}
    found = merging.measured(tasks["SciFact_part"], on_dev, tasks, on_test, "1.5 of none", 17)
    assert found["dev"]["1.5 of none"]["score"] == 1 and found["dev"]["1.5 of none"]["difference"] == 0.5
    less = np.mean(on_test["1.5 of none"][0]["NFCorpus_part"] - on_test["none"][0]["NFCorpus_part"])
    assert found["chosen_less_none"]["NFCorpus_part"]["difference"] == pytest.approx(less)
    assert merging.measured(tasks["SciFact_part"], on_dev, tasks, on_test, "none", 17)["chosen_less_none"] == {}
    assert found["test"]["1.5 of none"]["NFCorpus_part"] == pytest.approx(
        on_test["1.5 of none"][0]["NFCorpus_part"].mean()
    )
    assert (
        found["selection"]["optimism"] == 0 and found["left_out"]["medquad"]["difference"] == 0
    )  # one is best everywhere


def test_sentences_of_a_document_are_not_divided():
    """Four copies of each query say no more than one; taken one by one they hide three quarters of the variance."""
    once = noisy(3, tasks=1, queries=40)
    names = {"task0": [f"document {n:02}" for n in range(40)]}
    copied = {"task0": np.repeat(once["task0"], 4, axis=1)}
    alone = merging.selection_bias(once, 5, draws=200, clusters=names)
    assert merging.selection_bias(copied, 5, draws=200, clusters={"task0": np.repeat(names["task0"], 4)}) == alone
    assert merging.selection_bias(copied, 5, draws=200)["optimism"] < 0.8 * alone["optimism"]


def test_a_document_that_is_asked_in_two_tasks_is_in_the_same_half_of_both():
    once = noisy(4, tasks=1, queries=40)
    names = [f"document {n:02}" for n in range(40)]
    alone = merging.selection_bias(once, 6, draws=50, clusters={"task0": names})
    twice = {"task0": once["task0"], "task1": once["task0"]}
    assert merging.selection_bias(twice, 6, draws=50, clusters=dict.fromkeys(twice, names)) == pytest.approx(alone)


@pytest.mark.parametrize(
    ("scores", "clusters", "message"),
    [
        ({}, {}, "scores have shapes {}; give"),
        ({"a": [[1.0, 2.0]]}, {}, r"scores have shapes {'a': \(1, 2\)}; give \(candidates, queries\) a task"),
        ({"a": np.ones((2, 4)), "b": np.ones((3, 4))}, {}, "the same two candidates or more"),
        ({"a": [[1.0, math.nan], [1.0, 2.0]]}, {}, "scores of a hold NaN"),
        ({"a": np.ones((2, 4))}, {"a": ["x"] * 3}, "a has 4 queries and another number of clusters"),
        ({"a": np.ones((2, 4))}, {"a": ["x"] * 4}, "a: 1 units cannot be halved"),
    ],
)
def test_scores_that_leave_no_choice_or_no_halves_are_refused(scores, clusters, message):
    with pytest.raises(ValueError, match=message):
        merging.selection_bias(scores, 1, draws=2, clusters=clusters)


def test_a_task_left_out_is_served_by_what_the_others_choose():
    means = {"a": [0.5, 0.25, 0.375], "b": [0.25, 0.5, 0.375], "c": [0.25, 0.25, 0.375]}
    found = merging.left_out(means, ["x", "y", "z"])
    assert found["by_all"].to_list() == ["z"] * 3  # 1, 1, 1.125
    assert found["by_others"].to_list() == ["y", "x", "x"]  # 0.5 0.75 0.75; 0.75 0.5 0.75; 0.75 0.75 0.75
    assert found["difference"].to_list() == [0.125, 0.125, 0.125]
    drawn = {str(n): np.random.default_rng(n).integers(0, 99, 6) for n in range(5)}
    assert merging.left_out(drawn, list("abcdef"))["difference"].min() >= 0
    with pytest.raises(ValueError, match=r"scores have shape \(3, 3\) for 2 names; give two tasks"):
        merging.left_out(means, ["x", "y"])
    with pytest.raises(ValueError, match=r"scores have shape \(1, 2\) for 2 names"):
        merging.left_out({"a": [1, 2]}, ["x", "y"])


def test_published_mixes_by_hand(tmp_path):
    columns = dict.fromkeys(["A/ndcg_at_10", "B/ndcg_at_10", "C/ndcg_at_10", "avg/ndcg_at_10"], "fraction")
    rows = {"x-mix0": [0.5, 0.25, 0.25, 9], "x-mix1": [0.25, 0.5, 0.25, 0], "x-mix2": [0.375] * 4, "x": [1, 1, 1, 9]}
    tables = [{"id": "medembed.csv_x", "columns": columns, "rows": rows}, {"id": "medembed.json", "rows": {}}]
    (tmp_path / "ledger.yaml").write_text(yaml.safe_dump({"tables": tables}))
    (row,) = merging.published_mixes(tmp_path / "ledger.yaml").to_dicts()
    assert row == {"table": "medembed.csv_x", "mixes": 3, "chosen": "x-mix2", "changed": 3} | {
        "reported": 0.375,
        "left_out": 0.25,
        "difference": 0.125,
        "largest": 0.125,
        "over_plain": -0.625,
    }


def test_the_mix_that_all_five_tasks_choose_is_the_one_that_medembed_released():
    rows = {f"{row['table']}.{row['chosen']}": row for row in merging.published_mixes().to_dicts()}
    assert set(checks.MIXES.values()) <= set(rows)
    assert all(row["difference"] == pytest.approx(row["reported"] - row["left_out"]) for row in rows.values())
    assert all(row["mixes"] == 4 and 0 <= row["difference"] <= row["largest"] for row in rows.values())
