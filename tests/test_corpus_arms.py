"""The arms of the experiment on specialty and format: equal numbers, no document on both sides of a fold."""

import polars as pl
import pytest

from cardioembed_study.corpus import arms, pairs

WORDS = [
    "aorta",
    "bundle",
    "chordae",
    "dome",
    "ectopy",
    "fibre",
    "groove",
    "hilum",
    "infarct",
    "jet",
    "knot",
    "lumen",
    "murmur",
    "node",
    "ostium",
    "pulse",
]


def books():
    """Return passages and pairs of 24 documents, a third of them cardiology, all texts different."""
    rows, passages = [], []
    for d in range(24):
        topic, split = ("cardiology" if d % 3 == 0 else "other"), ("train", "train", "dev", "test")[d // 3 % 4]
        for i in range(3 + d % 4):
            ids = [f"s:{d}:{2 * i + side}" for side in (0, 1)]
            said = [
                " ".join(WORDS[(d + k * (3 + i) + side) % 16] + str(d * 40 + i) for k in range(8)) for side in (0, 1)
            ]
            rows.append((*said, [], *ids, f"term:{d}-{i}", "s", f"d{d}", topic, split))
            passages += [(n, t, "sentence") for n, t in zip(ids, said, strict=True)]
    made = pl.DataFrame(rows, schema=pairs.SCHEMA, orient="row")
    return pl.DataFrame(passages, schema=["passage_id", "text", "kind"], orient="row"), made


@pytest.fixture(scope="module")
def made():
    passages, definitions = books()
    return definitions, arms.make(passages, {"definition": definitions, "heading": definitions}, 0.9, 17)


def test_the_arms_of_a_comparison_have_as_many_training_pairs(made):
    definitions, found = made
    sizes = {arm: len(frame.filter(split="train")) for arm, frame in found.items()}
    assert sizes["arm_all"] == sizes["arm_without"] == sizes["arm_swapped"] == len(definitions.filter(split="train"))
    assert sizes["arm_cardiology"] == sizes["arm_other"] == sizes["arm_heading"]


def test_topics_are_those_of_the_arms(made):
    definitions, found = made
    heart = set(definitions.filter(split="train", topic="cardiology")["anchor_id"])
    learnt = {arm: set(frame.filter(split="train")["anchor_id"]) for arm, frame in found.items()}
    assert learnt["arm_without"].isdisjoint(heart) and learnt["arm_other"].isdisjoint(heart)
    assert heart <= learnt["arm_swapped"] and heart == learnt["arm_cardiology"] and heart <= learnt["arm_all"]


def test_every_cardiology_definition_is_held_out_once_with_its_document(made):
    definitions, found = made
    held = pl.concat([found[f"arm_fold{k}"].filter(split="test") for k in range(1, arms.FOLDS + 1)])
    assert sorted(held["anchor_id"]) == sorted(definitions.filter(topic="cardiology")["anchor_id"])
    for k in range(1, arms.FOLDS + 1):
        sides = found[f"arm_fold{k}"].group_by("split").agg(pl.col("document").unique())
        parts = {split: set(documents) for split, documents in sides.iter_rows()}
        assert parts["test"].isdisjoint(parts["train"] | parts["dev"])


def test_a_near_repeat_of_what_a_fold_holds_out_is_not_learnt_from():
    passages, definitions = books()
    copied = definitions.row(0, named=True)  # cardiology, document d0
    victim = definitions.filter(pl.col("topic") == "cardiology", pl.col("document") != "d0").row(0, named=True)
    passages = passages.with_columns(
        text=pl.when(passage_id=victim["positive_id"]).then(pl.lit(copied["positive"])).otherwise("text")
    )
    found = arms.make(passages, {"definition": definitions, "heading": definitions}, 0.9, 17)
    (fold,) = [
        f
        for name, f in found.items()
        if "fold" in name and copied["anchor_id"] in set(f.filter(split="test")["anchor_id"])
    ]
    assert victim["anchor_id"] not in set(fold.filter(split="train")["anchor_id"])


def test_a_corpus_of_one_topic_is_refused():
    passages, definitions = books()
    with pytest.raises(ValueError, match=r"0 are cardiology and \d+ are not; wanted some of each"):
        arms.make(passages, {"definition": definitions.filter(topic="other"), "heading": definitions}, 0.9, 17)


def test_the_same_seed_gives_the_same_arms(made):
    passages, definitions = books()
    again = arms.make(passages, {"definition": definitions, "heading": definitions}, 0.9, 17)
    assert all(again[arm].equals(frame) for arm, frame in made[1].items())
