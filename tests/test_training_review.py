"""Judged negatives: the sample is what was mined, nothing of its texts is kept, and the rate is right."""

import math
import re
from types import SimpleNamespace

import polars as pl
import pytest

from cardioembed_study.training import mixture, review
from tests.test_corpus_pairs import many


def judged(file, how, verdicts):
    sample = review.draw(many(60), how, len(verdicts), seed=3)
    sample.with_columns(false_negative=pl.Series(verdicts)).write_csv(file)
    return sample


def test_a_sample_holds_what_was_mined_with_the_id_of_each_text():
    made = mixture.mix([many(60)]).with_columns(positive_id=pl.format("p{}", pl.int_range(60)))
    drawn = review.draw(made, "bm25:2-9,num=3", 50, seed=3)
    mined = mixture.with_negatives(made, "bm25:2-9,num=3", seed=3)
    negatives = dict(zip(mined["positive_id"], mined["negatives"].to_list(), strict=True))
    names = dict(zip(made["positive_id"], made["positive"], strict=True))
    assert len(drawn) == 50 and drawn.unique(["positive_id", "negative_id"]).height == 50
    for row in drawn.iter_rows(named=True):
        assert row["negative"] in negatives[row["positive_id"]]
        assert names[row["negative_id"]] == row["negative"]
    assert drawn.equals(review.draw(made, "bm25:2-9,num=3", 50, seed=3))


def test_only_ids_hashes_and_judgements_are_kept_and_a_second_look_replaces_the_first(tmp_path):
    judged(tmp_path / "sample.csv", "mined", ["true", "false"])
    review.keep(tmp_path / "sample.csv", tmp_path / "judged.csv")
    judged(tmp_path / "sample.csv", "mined", ["false", "false"])
    review.keep(tmp_path / "sample.csv", tmp_path / "judged.csv")
    kept = (tmp_path / "judged.csv").read_text()
    assert "item" not in kept and "thing" not in kept
    assert review.rates(tmp_path / "judged.csv").select("n", "false").rows() == [(2, 0)]


def test_the_rate_has_wilsons_interval(tmp_path):
    judged(tmp_path / "sample.csv", "mined", ["true"] * 6 + ["false"] * 54)
    review.keep(tmp_path / "sample.csv", tmp_path / "judged.csv")
    (row,) = review.rates(tmp_path / "judged.csv").rows(named=True)
    n, p, z = 60, 0.1, 1.959964
    centre, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    assert (row["n"], row["false"], row["rate"]) == (60, 6, 0.1)
    assert (row["low"], row["high"]) == pytest.approx(
        [(centre + s * half) / (1 + z * z / n) for s in (-1, 1)], rel=1e-5
    )


def test_a_sample_that_a_spreadsheet_wrote_is_read(tmp_path):
    judged(tmp_path / "sample.csv", "dense:1-9,num=1", ["TRUE", "FALSE"])
    pl.read_csv(tmp_path / "sample.csv").write_csv(tmp_path / "sample.csv", separator=";", include_bom=True)
    review.keep(tmp_path / "sample.csv", tmp_path / "judged.csv")
    assert review.rates(tmp_path / "judged.csv").select("negatives", "n", "false").rows() == [("dense:1-9,num=1", 2, 1)]


def test_a_row_without_a_judgement_is_refused(tmp_path):
    judged(tmp_path / "sample.csv", "mined", ["true", "perhaps", ""])
    with pytest.raises(ValueError, match=r"sample\.csv: 2 of 3 rows have no judgement"):
        review.keep(tmp_path / "sample.csv", tmp_path / "judged.csv")


def test_an_empty_line_is_no_row_and_a_missing_sample_is_named_with_what_makes_it(tmp_path):
    judged(tmp_path / "sample.csv", "mined", ["true", "false"])
    with (tmp_path / "sample.csv").open("a") as file:
        file.write("\n,,,,,,,,,\n")
    review.keep(tmp_path / "sample.csv", tmp_path / "judged.csv")
    assert review.rates(tmp_path / "judged.csv")["n"].to_list() == [2]
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing; make it with `cardioembed negatives`"):
        review.keep(tmp_path / "none.csv", tmp_path / "judged.csv")


def test_judgements_of_texts_that_are_not_open_stay_beside_their_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(review, "JUDGED", tmp_path / "tracked.csv")
    access = {"access": "private"}
    monkeypatch.setattr(review.manifests, "load", lambda name: SimpleNamespace(**access))
    judged(tmp_path / "sample.csv", "mined", ["true", "false"])
    assert review.keep(tmp_path / "sample.csv") == tmp_path / "sample.judged.csv"
    assert not review.JUDGED.exists()
    access["access"] = "open"
    assert review.keep(tmp_path / "sample.csv") == review.JUDGED
    assert review.rates()["n"].to_list() == [2]


def test_the_kept_judgements_are_ids_and_hashes():
    for row in pl.read_csv(review.JUDGED, infer_schema=False).iter_rows(named=True):
        assert all(
            re.fullmatch(r"[a-z0-9_]+:[a-z0-9]+:\d{5}", row[f"{side}_id"])
            for side in ("anchor", "positive", "negative")
        )
        assert re.fullmatch("[0-9a-f]{16}", row["sha256"]) and row["false_negative"] in ("true", "false")
