"""Hard negatives: those of sentence-transformers where it has the same rule, checked by hand where the rule is ours."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from cardioembed_lib import training
from cardioembed_study import settings
from cardioembed_study.corpus import pairs
from cardioembed_study.training import mixture
from tests import tiny

N, WIDTH = 60, 5


class Fixed:
    """A model of sentence-transformers whose vectors stand in a table."""

    device = torch.device("cpu")

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_query(self, texts, **_):
        return np.stack([self.vectors[text] for text in texts])

    encode_document = encode_query

    def similarity(self, a, b):
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a, b):
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def table(anchors, positives, groups=None):
    row = dict.fromkeys(pairs.SCHEMA, "x") | {"negatives": []}
    groups = groups or [f"g{i}" for i in range(len(anchors))]
    rows = [row | {"anchor": a, "positive": p, "group": g} for a, p, g in zip(anchors, positives, groups, strict=True)]
    documents = [f"d{i % 3}" for i in range(len(rows))]
    return pl.DataFrame(rows, schema=pairs.SCHEMA).with_columns(document=pl.Series(documents))


@pytest.fixture
def vectors():
    drawn = np.random.default_rng(3).normal(size=(2 * N, WIDTH)).astype(np.float32)
    drawn[N:] += drawn[:N]  # a positive is near its anchor
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    names = [f"{side}{i}" for side in ("anchor", "positive") for i in range(N)]
    return dict(zip(names, drawn, strict=True))


def mined(made, vectors, how, seed=0):
    asked, kept = (np.stack([vectors[text] for text in made[side]]) for side in ("anchor", "positive"))
    return mixture.mine(made, lambda start, stop: asked[start:stop] @ kept.T, settings.mining(f"dense:{how}"), seed)


@pytest.mark.parametrize(
    "how",
    [
        *(
            "num=1",
            "num=5",
            "0-4,num=4",
            "10-50,num=4",
            "3-9,num=6",
            "10-50,relative_margin=0.05,num=4",
            "5-20,margin=0.1",
        ),
        *(
            "relative_margin=0.3,num=3",
            "margin=0.4,num=2",
            "2-40,margin=0.2,relative_margin=0.1,num=7",
            "margin=0,num=3",
        ),
        *("0-12,margin=0.3,num=3", "0-60,relative_margin=1,num=10"),
    ],
)
def test_negatives_are_those_of_sentence_transformers(vectors, how):
    made = table([f"anchor{i}" for i in range(N)], [f"positive{i}" for i in range(N)])
    wanted = settings.mining(f"dense:{how}")
    theirs = mine_hard_negatives(
        Dataset.from_dict({"anchor": made["anchor"].to_list(), "positive": made["positive"].to_list()}),
        Fixed(vectors),
        **{k: v for k, v in wanted._asdict().items() if k not in ("by", "base")},
        output_format="n-tuple",
        verbose=False,
    )
    theirs = {row["anchor"]: [row[f"negative_{k + 1}"] for k in range(wanted.num_negatives)] for row in theirs}
    ours = dict(zip(made["anchor"], mined(made, vectors, how), strict=True))
    assert theirs  # they drop a pair that has too few, we fill it up
    assert {anchor: ours[anchor] for anchor in theirs} == theirs
    assert {len(negatives) for negatives in ours.values()} == {wanted.num_negatives}


LINE = {
    "a": 1.0,
    "p": 0.9,
    **{f"n{i}": 0.8 - i / 10 for i in range(6)},
}  # similarity to the anchor: n0 0.8, n1 0.7, ...


def on_a_line(how, groups=None, seed=0):
    """Return the negatives of the anchor ``a``, beside six other pairs whose positives lie at known places."""
    texts = [name for name in LINE if name.startswith("n")]
    made = table(["a", *(f"anchor of {t}" for t in texts)], ["p", *texts], groups)
    scores = np.tile(np.array([LINE[t] for t in ["p", *texts]], dtype=np.float32), (len(made), 1))
    return mixture.mine(made, lambda start, stop: scores[start:stop], settings.mining(f"dense:{how}"), seed)[0]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("num=2", ["n0", "n1"]),
        ("2-4,num=2", ["n2", "n3"]),
        ("margin=0.35", ["n3"]),  # 0.9 - 0.35 = 0.55: the first at most that is 0.5
        ("relative_margin=0.3", ["n2"]),  # 0.9 - 0.27 = 0.63: 0.6
        ("1-3,relative_margin=0.3,num=2", ["n3", "n4"]),  # ranks are of those that fit the margin
        ("margin=0.55,num=3", ["n5", "n4", "n3"]),  # n5 alone fits; then the farthest first
    ],
)
def test_window_and_margins_by_hand(how, wanted):
    assert on_a_line(how) == wanted


def test_no_text_of_the_group_is_a_negative():
    assert on_a_line("num=2", groups=["g", "g", "h", "g", "i", "j", "k"]) == ["n1", "n3"]


def test_the_anchor_itself_is_no_negative(vectors):
    made = table(["anchor0", "anchor1", "anchor2"], ["anchor1", "positive1", "positive2"], ["g", "h", "i"])
    assert "anchor1" not in mined(made, vectors, "num=1")[1]


def test_a_text_that_stands_twice_is_one_candidate(vectors):
    made = table([f"anchor{i}" for i in range(4)], ["positive0", "positive1", "positive1", "positive3"])
    assert sorted(mined(made, vectors, "num=2")[0]) == ["positive1", "positive3"]


def test_random_draws_are_of_the_window_and_repeat_with_their_seed():
    drawn = [tuple(on_a_line("1-5,num=2,sampling=random", seed=seed)) for seed in range(60)]
    assert set(drawn) == set(itertools.combinations(["n1", "n2", "n3", "n4"], 2))
    assert drawn[:5] == [tuple(on_a_line("1-5,num=2,sampling=random", seed=seed)) for seed in range(5)]


def test_dense_negatives_are_near_in_meaning_where_bm25_sees_no_common_word():
    made = table(
        ["What is a heart attack?", "What is asthma?", "What is a bridge?"],
        ["Myocardial infarction: death of cardiac muscle", "A disease of the airways", "A road over a river"],
    )
    assert mixture.with_negatives(made, "dense:num=1", seed=0)["negatives"][0].to_list() == ["A disease of the airways"]
    both = mixture.with_negatives(made, "bm25:num=2", seed=0)["negatives"]
    assert both.list.len().to_list() == [2, 2, 2]


def test_too_few_texts_for_the_wanted_number_are_refused():
    with pytest.raises(ValueError, match=r"too few pairs of another group .* than 'g0'.*or fewer"):
        mixture.with_negatives(table(["a", "b"], ["one word", "two words"]), "bm25:num=2", seed=0)


def test_training_learns_from_every_negative_and_refuses_rows_of_different_length():
    found = tiny.encoder()
    made = table(["heart", "lung"], ["pump", "gas"]).with_columns(negatives=pl.Series([["a", "b"], ["c", "d"]]))
    tokens = training.tokenise(found, made)
    assert [len(row) for row in tokens.negatives] == [2, 2]
    ragged = made.with_columns(negatives=pl.Series([["a"], ["b", "c", "d"]]))
    with pytest.raises(ValueError, match="pairs have 1 to 3 negatives; wanted as many for each"):
        training.tokenise(found, ragged)
