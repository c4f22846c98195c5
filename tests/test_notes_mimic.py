"""From a folder of MIMIC-III's tables to notes, patients and pairs: whole numbers stay whole, and nothing half-made is read."""

import csv
import importlib.util
import math
import os
import stat
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import pandas
import polars as pl
import pytest

from cardioembed_study import paths
from cardioembed_study.corpus import pairs
from cardioembed_study.notes import mimic
from cardioembed_study.training import mixture

LONG = "The heart rate is steady and the patient slept well until the morning. "
NOTES = [  # ROW_ID, SUBJECT_ID, HADM_ID, CHARTDATE, CHARTTIME, CATEGORY, ISERROR, TEXT
    (901, 10, 500, "2150-01-02", "2150-01-02 09:00:00", "Nursing/other", "", f"{LONG}nine o'clock"),
    (902, 10, 500, "2150-01-02", "2150-01-02 08:00:00", "Physician ", "", f"{LONG}eight,\nand a quote"),
    (903, 10, 500, "2150-01-02", "", "ECG", "", f"{LONG}no time"),
    (904, 10, "", "2150-03-01", "", "Radiology", "", f"{LONG}between the stays"),
    (905, 10, 501, "2150-05-05", "2150-05-05 01:00:00", "Nursing", "", f"{LONG}second stay"),
    (906, 10, 501, "2150-05-05", "2150-05-05 01:00:00", "Nursing", "1", f"{LONG}an error"),
    (907, 10, 501, "2150-05-05", "2150-05-05 01:00:00", "Nursing", "", "x" * 50),
    (898, 10, 501, "2150-05-05", "2150-05-05 01:00:00", "Nursing", "", "y" * 51),
    (908, 11, 502, "2149-12-31", "", "Echo", "", f"{LONG}one"),
    (899, 11, 502, "2149-12-31", "", "Echo", "", f"{LONG}two"),
    (909, 12, 503, "2148-01-01", "", "Echo", "", f"{LONG}alone"),
    (910, 13, 599, "2148-01-01", "", "Echo", "0", f"{LONG}of nobody"),
]
CODES = [(10, 500, 2, "4280"), (10, 500, 1, "42731"), (10, 501, 1, "486"), (10, 501, 2, ""), (11, 502, 1, "0389")]
TABLES = {
    "NOTEEVENTS": ("ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME CATEGORY ISERROR TEXT", NOTES),
    "DIAGNOSES_ICD": ("SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE", CODES),
    "ADMISSIONS": ("SUBJECT_ID HADM_ID", [(10, 500), (10, 501), (11, 502), (12, 503)]),
    "PATIENTS": ("SUBJECT_ID", [(10,), (11,), (12,)]),
    "D_ICD_DIAGNOSES": ("ICD9_CODE", [("42731",), ("486",), ("0389",)]),
}


def put(folder, **tables):
    """Write the five tables, some of them with other rows."""
    folder.mkdir(exist_ok=True)
    for name, (header, rows) in TABLES.items():
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([header.split(), *tables.get(name, rows)])
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mimic")
    return folder / "out", mimic.prepare(put(folder / "in"), folder / "out")


def ids(frame):
    return frame["note_id"].to_list()


# What is prepared


def test_the_counts_are_those_one_can_count_by_hand(prepared):
    assert prepared[1] == {
        "notes_read": 12,
        "dropped_error": 1,
        "dropped_short": 1,
        "notes": 10,
        "patients": 3,
        "admissions": 4,
        "patients_with_notes": 4,
        "admissions_with_notes": 5,
        "without_admission": 1,
        "without_time": 6,
        "diagnoses": 4,
        "dropped_codes": 1,
        "pairs_across": 6,
        "pairs_within": 4,
        "orphan_patients": 1,
        "orphan_admissions": 1,
        "orphan_codes": 1,
    }


def test_order_is_patient_date_time_and_note_with_missing_times_first(prepared):
    order = pl.read_parquet(prepared[0] / "order.parquet")
    assert ids(order) == [903, 902, 901, 904, 898, 905, 899, 908, 909, 910]
    assert order.columns == ["note_id", "subject_id", "hadm_id"]


def test_notes_keep_the_files_order_their_text_and_whole_numbers(prepared):
    notes = pl.read_parquet(prepared[0] / "notes.parquet")
    assert dict(notes.schema) == mimic.NOTES
    assert ids(notes) == [901, 902, 903, 904, 905, 898, 908, 899, 909, 910]
    assert notes["text"][1] == NOTES[1][-1] and notes["category"][1] == "Physician"
    assert notes["hadm_id"].to_list()[:5] == [500, 500, 500, None, 501]


def test_diagnoses_are_normalised_and_empty_ones_gone(prepared):
    diagnoses = pl.read_parquet(prepared[0] / "diagnoses.parquet")
    assert diagnoses.rows() == [(10, 500, 2, "4280"), (10, 500, 1, "42731"), (10, 501, 1, "486"), (11, 502, 1, "0389")]
    assert diagnoses.columns == ["subject_id", "hadm_id", "seq_num", "code"]


@pytest.mark.parametrize(("minimum", "short"), [(0, 0), (49, 0), (50, 1), (51, 2), (10_000, 11)])
def test_a_note_needs_more_characters_than_the_minimum(tmp_path, minimum, short):
    counts = mimic.prepare(put(tmp_path / "in"), tmp_path / "out", minimum)
    assert (counts["dropped_short"], counts["notes"]) == (short, 11 - short)


def test_rows_in_another_order_give_the_same_order_and_counts(tmp_path, prepared):
    counts = mimic.prepare(put(tmp_path / "in", NOTEEVENTS=NOTES[::-1]), tmp_path / "out")
    assert counts == prepared[1]
    both = [pl.read_parquet(folder / "order.parquet") for folder in (tmp_path / "out", prepared[0])]
    assert both[0].equals(both[1])


def test_the_ids_that_pandas_turns_into_floats_stay_whole_and_find_their_diagnoses(tmp_path):
    put(tmp_path / "in", NOTEEVENTS=[(1, 10, 145834, *NOTES[0][3:]), (2, 10, "", *NOTES[3][3:])],
        DIAGNOSES_ICD=[(10, 145834, 1, "42731")])  # fmt: skip
    published = pandas.read_csv(tmp_path / "in" / "NOTEEVENTS.csv")
    codes = dict(pandas.read_csv(tmp_path / "in" / "DIAGNOSES_ICD.csv", dtype=str)[["HADM_ID", "ICD9_CODE"]].to_numpy())
    assert [str(stay) for stay in published["HADM_ID"]] == ["145834.0", "nan"]
    assert [codes.get(str(stay)) for stay in published["HADM_ID"]] == [None, None]  # every label lost, and no error
    mimic.prepare(tmp_path / "in", tmp_path / "out")
    ours = mimic.notes(tmp_path / "out", [10])
    assert [str(stay) for stay in ours["hadm_id"]] == ["145834", "None"]
    assert ours["codes"].to_list() == [["42731"], []]


def test_ids_that_are_floats_in_the_file_are_refused(tmp_path):
    put(tmp_path / "in", NOTEEVENTS=[(1, 10, "145834.0", *NOTES[0][3:])])
    with pytest.raises(
        ValueError, match=r"NOTEEVENTS \(NOTEEVENTS.csv\), row 2, column HADM_ID: a number with a decimal"
    ):
        mimic.prepare(tmp_path / "in", tmp_path / "out")


def test_a_note_id_that_stands_twice_is_refused(tmp_path):
    put(tmp_path / "in", NOTEEVENTS=[*NOTES, NOTES[0]])
    with pytest.raises(ValueError, match="1 rows repeat the ROW_ID of another"):
        mimic.prepare(tmp_path / "in", tmp_path / "out")


def test_the_open_demo_has_the_published_numbers(tmp_path):
    mirror = Path(os.environ.get("CARDIOEMBED_MIRROR", paths.ROOT.parent / "shared" / "data"))
    if not (demo := mirror / "mimic3_demo_v1.4").is_dir():
        pytest.skip(f"no mimic3_demo_v1.4 in {mirror}; set CARDIOEMBED_MIRROR to a folder that has it")
    counts = mimic.prepare(demo, tmp_path / "out")
    assert (counts["patients"], counts["admissions"], counts["diagnoses"]) == (100, 129, 1761)
    assert (counts["notes"], counts["orphan_patients"], counts["orphan_admissions"]) == (0, 0, 0)
    assert mimic.patients(tmp_path / "out") == []


# Nothing half-made


def test_the_folder_is_its_owners_alone_and_holds_three_files_and_their_sums(prepared):
    assert stat.S_IMODE(prepared[0].stat().st_mode) == 0o700
    names = {path.name for path in prepared[0].iterdir()} - {".lock"}
    assert names == {"notes.parquet", "order.parquet", "diagnoses.parquet", "SHA256SUMS"}


def test_a_failure_leaves_what_was_there(tmp_path):
    mimic.prepare(put(tmp_path / "in"), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    (tmp_path / "out" / "other.txt").write_text("not ours")
    put(tmp_path / "in", NOTEEVENTS=[*NOTES, ("abc", *NOTES[0][1:])])
    with pytest.raises(ValueError, match="column ROW_ID"):
        mimic.prepare(tmp_path / "in", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")} == before
    assert (tmp_path / "out" / "other.txt").exists() and not list((tmp_path / "out").glob(".partial-*"))


KILLED = """
import sys, time
from pathlib import Path
from cardioembed_study.notes import mimic, source

def first_block_then_wait(table, batches=source.batches):
    yield from batches(table)
    if table.name == "NOTEEVENTS":
        print("waiting", flush=True)
        time.sleep(60)

source.batches = first_block_then_wait
mimic.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_run_leaves_nothing_to_read_and_the_next_clears_it_away(tmp_path):
    command = [sys.executable, "-c", KILLED, str(put(tmp_path / "in")), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.kill()
    assert len(list((tmp_path / "out").glob(".partial-*/notes.parquet"))) == 1
    assert not list((tmp_path / "out").glob("*.parquet"))
    with pytest.raises(FileNotFoundError, match=r"order\.parquet is missing .*01_notes"):
        mimic.patients(tmp_path / "out")
    mimic.prepare(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").glob(".partial-*")) and mimic.patients(tmp_path / "out") == [10, 11]


def test_a_run_stopped_between_two_moves_leaves_a_mixture_that_is_not_read(tmp_path, monkeypatch):
    mimic.prepare(put(tmp_path / "in"), tmp_path / "out")

    def stopped(old, new, move=os.replace):
        if new.name == "diagnoses.parquet":
            raise KeyboardInterrupt
        move(old, new)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        mimic.prepare(tmp_path / "in", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"order\.parquet is missing"):
        mimic.notes(tmp_path / "out", [10])


# Patients


def test_patients_have_at_least_two_notes_and_are_sorted(prepared):
    assert mimic.patients(prepared[0]) == [10, 11]


def test_a_sample_is_without_replacement_and_by_seed(prepared):
    assert mimic.sample(prepared[0], 2, seed=1) == mimic.sample(prepared[0], 0, seed=2) == [10, 11]
    drawn = [mimic.sample(prepared[0], 1, seed=seed) for seed in range(20)]
    assert [10] in drawn and [11] in drawn and drawn[3] == mimic.sample(prepared[0], 1, seed=3)


@pytest.mark.parametrize("n", [3, -1])
def test_a_sample_of_more_than_there_are_names_both_numbers(prepared, n):
    with pytest.raises(ValueError, match=f"{n} patients are wanted, 2 have at least two notes"):
        mimic.sample(prepared[0], n, seed=1)


def test_every_patient_is_in_one_split_and_every_split_with_a_share_has_one():
    for n, shares in product(
        range(3, 40), [(0.8, 0.1, 0.1), (0.98, 0.01, 0.01), (0.5, 0.5, 0), (0, 0, 1), (1 / 3,) * 3]
    ):
        found = mimic.split(range(n), shares, seed=5)
        assert sorted(found) == list(range(n))
        assert set(found.values()) == {name for name, share in zip(mimic.SPLITS, shares, strict=True) if share}
        for name, share in zip(mimic.SPLITS, shares, strict=True):
            assert abs(list(found.values()).count(name) - share * n) < 2.5


def test_a_split_is_by_seed_and_not_by_the_order_of_patients():
    shares = (0.6, 0.2, 0.2)
    assert mimic.split([5, 3, 9, 1, 7], shares, 1) == mimic.split([1, 3, 5, 7, 9, 9], shares, 1)
    assert len({tuple(mimic.split(range(30), shares, seed).values()) for seed in range(10)}) == 10


@pytest.mark.parametrize(
    ("n", "shares", "words"),
    [
        (9, (0.8, 0.1), r"\(0\.8, 0\.1\); wanted three"),
        (9, (0.8, 0.1, 0.2), "sum to 1"),
        (9, (1.1, -0.1, 0), "sum to 1"),
        (2, (0.8, 0.1, 0.1), "2 patients cannot fill 3 splits"),
    ],
)
def test_a_split_that_cannot_be_is_refused(n, shares, words):
    with pytest.raises(ValueError, match=words):
        mimic.split(range(n), shares, seed=1)


# Notes and pairs


def test_notes_come_in_temporal_order_with_the_codes_of_their_admission_by_number(prepared):
    notes = mimic.notes(prepared[0], [11, 10])
    assert ids(notes) == [903, 902, 901, 904, 898, 905, 899, 908]
    assert notes["codes"].to_list() == [["42731", "4280"]] * 3 + [[]] + [["486"]] * 2 + [["0389"]] * 2
    assert notes.schema == pl.Schema(mimic.NOTES | {"codes": pl.List(pl.String)})
    assert notes.filter(subject_id=11).equals(mimic.notes(prepared[0], [11, 11]))
    assert mimic.notes(prepared[0], [12])["codes"].to_list() == [[]]


def test_patients_without_notes_are_counted_and_not_named(prepared):
    with pytest.raises(ValueError, match="2 of 3 patients have no notes") as caught:
        mimic.notes(prepared[0], [10, 77_777, 88_888])
    assert "77" not in str(caught.value)


def test_a_pair_is_a_note_and_the_next_of_the_same_patient(prepared):
    notes = mimic.notes(prepared[0], [10, 11])
    made = mimic.temporal(notes, {10: "train", 11: "test"}, "mine")
    assert made.schema == pl.Schema(pairs.SCHEMA | {"codes": pl.List(pl.String)})
    wanted = [*pairwise([903, 902, 901, 904, 898, 905]), (899, 908)]
    assert made.select("anchor_id", "positive_id").rows() == [(f"note{a}", f"note{b}") for a, b in wanted]
    text = dict(notes.select("note_id", "text").rows())
    assert made.select("anchor", "positive").rows() == [(text[a], text[b]) for a, b in wanted]
    assert made.row(0, named=True) | {"anchor": "", "positive": ""} == {
        **{"anchor": "", "positive": "", "negatives": [], "anchor_id": "note903", "positive_id": "note902"},
        **{"group": "patient10", "document": "patient10", "source": "mine", "topic": "clinical", "split": "train"},
        "codes": ["42731", "4280"],
    }
    assert made["split"].to_list() == ["train"] * 5 + ["test"] and made["codes"][3].to_list() == []


def test_pairs_within_an_admission_leave_out_other_notes_between(prepared):
    rows = mimic.notes(prepared[0], [10])
    again = pl.concat([rows, rows.tail(1).with_columns(note_id=999, hadm_id=500)], how="vertical_relaxed")
    made = mimic.temporal(again, {10: "dev"}, "mine", within=True)
    wanted = [(903, 902), (902, 901), (901, 999), (898, 905)]
    assert sorted(made.select("anchor_id", "positive_id").rows()) == sorted((f"note{a}", f"note{b}") for a, b in wanted)


def test_as_many_pairs_are_made_as_were_counted(prepared):
    notes = mimic.notes(prepared[0], [10, 11, 12, 13])
    splits = dict.fromkeys([10, 11, 12, 13], "test")
    assert len(mimic.temporal(notes, splits, "mine")) == prepared[1]["pairs_across"]
    assert len(mimic.temporal(notes, splits, "mine", within=True)) == prepared[1]["pairs_within"]


def test_a_note_copied_forward_makes_a_pair_as_published():
    rows = {"note_id": [1, 2], "subject_id": [3, 3], "text": ["same", "same"], "codes": [[], []]}
    made = mimic.temporal(pl.DataFrame(rows, schema_overrides={"codes": pl.List(pl.String)}), {3: "train"}, "mine")
    assert made.select("anchor", "positive").rows() == [("same", "same")]


def test_a_patient_without_a_split_is_counted_and_not_named(prepared):
    with pytest.raises(ValueError, match="1 patients of the notes have no split") as caught:
        mimic.temporal(mimic.notes(prepared[0], [10, 11]), {10: "train"}, "mine")
    assert "11" not in str(caught.value)


def test_pairs_go_through_the_makers_of_negatives_and_mixtures(prepared):
    made = mimic.temporal(mimic.notes(prepared[0], [10, 11]), {10: "train", 11: "train"}, "mine")
    assert mixture.with_negatives(made, "random_distant", seed=1)["negatives"].list.len().to_list() == [1] * 6
    assert mixture.mix([made])["codes"].to_list() == made["codes"].to_list()


# The benchmark


@pytest.mark.parametrize("zipped", [False, True])
def test_the_benchmarks_tables_are_like_mimic(tmp_path, zipped):
    spec = importlib.util.spec_from_file_location("mimic_benchmark", paths.ROOT / "benchmarks" / "mimic.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.generate(tmp_path / "in", 3_000, zipped)
    counts = mimic.prepare(tmp_path / "in", tmp_path / "out")
    assert counts["notes_read"] == 3_000 and counts["dropped_short"] < 30
    assert counts["patients"] == round(3_000 / 2_083_180 * 46_146)
    assert counts["orphan_patients"] == counts["orphan_admissions"] == counts["orphan_codes"] == 0
    assert math.isclose(counts["without_admission"] / counts["notes"], benchmark.WITHOUT_STAY, abs_tol=0.02)
    texts = pl.read_parquet(tmp_path / "out" / "notes.parquet")["text"]
    assert 1_300 < texts.str.len_chars().mean() < 2_300
    assert texts.str.contains("\n").mean() > 0.9 and texts.str.contains('"').mean() > 0.2
