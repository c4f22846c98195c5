"""The tables of MIMIC-III: however they are spelt and packed they are read, and no message shows what stands in them."""

import csv
import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from cardioembed_study import paths
from cardioembed_study.notes import source

NOTE = "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT"
SECRET = "Mrs Appleby of Quarry Lane"


def put(folder, rows, header=NOTE, name="NOTEEVENTS.csv"):
    """Write a table, zipped if its name says so; ``rows`` is text or bytes, as it stands in the file."""
    data = f"{header}\n".encode() + (rows.encode() if isinstance(rows, str) else rows)
    (folder / name).write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return folder


def read(folder, name="NOTEEVENTS"):
    return pl.concat(source.batches(source.find(folder, name)))


def refused(call, *words, error=ValueError):
    """The message has the words, and neither it nor what it came from has a word of the note."""
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    shown = caught.value
    while shown is not None:
        assert not any(part in str(shown) for part in SECRET.split() if len(part) > 2)
        shown = shown.__cause__ or shown.__context__


def test_the_columns_are_those_of_mimic():
    file = Path(os.environ.get("CARDIOEMBED_MIRROR", paths.ROOT.parent / "shared" / "data"), "mimic3_schema")
    if not file.is_dir():
        pytest.skip(f"no mimic3_schema in {file.parent}; set CARDIOEMBED_MIRROR to a folder that has it")
    schema = json.loads((file / "mimic3_tables.json").read_text())
    types = {"number": {"INT", "CHAR(1)"}, "date": {"TIMESTAMP(0)"}, "time": {"TIMESTAMP(0)"}}
    for table, columns in source.TABLES.items():
        published = {column["name"]: column for column in schema[table]}
        for column, kinds in columns.items():
            kind, _, or_empty = kinds.partition(" or ")
            assert published[column]["type"] in types.get(kind, {"TEXT", "VARCHAR(50)", "VARCHAR(10)"}), column
            assert or_empty or kind == "text" or published[column]["not_null"] or column == "CHARTDATE", column


@pytest.mark.parametrize("name", ["NOTEEVENTS.csv", "noteevents.csv", "NOTEEVENTS.csv.gz", "NoteEvents.CSV.GZ"])
@pytest.mark.parametrize("header", [NOTE, NOTE.lower(), ",".join(f'"{c}"' for c in NOTE.split(",")), "\ufeff" + NOTE])
def test_capitals_packing_and_quoted_headers_do_not_matter(tmp_path, name, header):
    frame = read(
        put(tmp_path, '7,2,145834,2151-08-04,2151-08-04 12:30:00,,ECG,Report,,,"Sinus rhythm"\n', header, name)
    )
    (row,) = frame.rows(named=True)
    assert (row["row_id"], row["hadm_id"], row["text"], row["iserror"]) == (7, 145834, "Sinus rhythm", None)
    assert (str(row["chartdate"]), str(row["charttime"])) == ("2151-08-04", "2151-08-04 12:30:00")
    assert frame.schema["hadm_id"] == pl.Int64 and frame.schema["charttime"] == pl.Datetime("us")


def test_a_plain_file_is_read_before_a_zipped_one(tmp_path):
    put(tmp_path, "", name="NOTEEVENTS.csv.gz")
    put(tmp_path, "1,2,,2151-08-04,,,ECG,,,,x\n")
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_any_text_comes_back_as_it_was_written(tmp_path, zipped):
    texts = [
        'a, b\nc "d" e',
        '""',
        "",
        "\r\n\r\n",
        "back\\slash",
        "  spaces  ",
        "é µ",
        'ends with "',
        "NA",
        "x" * 100_000,
    ]
    with (tmp_path / "t").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [n, 2, "", "2151-08-04", "", "", "Echo", "", "", "", t] for n, t in enumerate(texts)
        )
    frame = read(put(tmp_path, (tmp_path / "t").read_bytes(), name=f"NOTEEVENTS.csv{zipped}"))
    assert frame["text"].to_list() == texts
    assert frame["row_id"].to_list() == list(range(len(texts)))


def test_the_size_of_a_block_does_not_matter(tmp_path, monkeypatch):
    rows = "".join(f'{n},2,{n or ""},2151-08-04,,,ECG,,,,"line\nof ""{n}"""\n' for n in range(2_000))
    whole = read(put(tmp_path, rows))
    monkeypatch.setattr(source, "BLOCK", 4_096)
    blocks = list(source.batches(source.find(tmp_path, "NOTEEVENTS")))
    assert len(blocks) > 5 and pl.concat(blocks).equals(whole)


def test_a_table_without_rows_has_its_types(tmp_path):
    frame = read(put(tmp_path, ""))
    assert len(frame) == 0 and frame.schema["hadm_id"] == pl.Int64 and frame.schema["text"] == pl.String


def test_a_date_may_carry_midnight(tmp_path):
    frame = read(put(tmp_path, "1,2,,2151-08-04 00:00:00,,,ECG,,,,x\n"))
    assert str(frame["chartdate"][0]) == "2151-08-04"


def test_codes_are_normalised_and_may_be_missing(tmp_path):
    put(
        tmp_path,
        '1,2,3,1,"0389"\n2,2,3,2,v45.81\n3,2,3,,\n',
        "row_id,subject_id,hadm_id,seq_num,icd9_code",
        "diagnoses_icd.csv",
    )
    assert read(tmp_path, "DIAGNOSES_ICD")["icd9_code"].to_list() == ["0389", "V4581", None]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("HADM_ID", SECRET, [f"{len(SECRET)} characters that are none", "a whole number such as"]),
        ("HADM_ID", "145834.0", ["decimal point", "made floats of the ids"]),
        ("HADM_ID", "1e5", ["3 characters that are none"]),
        ("SUBJECT_ID", "", ["empty, wanted a whole number"]),
        ("ROW_ID", "99999999999999999999", ["20 characters"]),
        ("ISERROR", "yes", ["3 characters"]),
        ("CHARTDATE", "", ["empty, wanted a date such as 2151-08-04"]),
        ("CHARTDATE", "2151-13-04", ["10 characters"]),
        ("CHARTDATE", "2151-08-04 07:00:00", ["19 characters"]),
        ("CHARTTIME", "12:30", ["5 characters that are none, wanted a time such as"]),
    ],
)
def test_a_value_that_does_not_parse_is_named_by_table_row_and_column_and_not_shown(
    tmp_path, monkeypatch, column, value, words
):
    monkeypatch.setattr(source, "BLOCK", 4_096)
    good = ["1", "2", "3", "2151-08-04", "", "", "ECG", "", "", "", '"two\nlines"']
    bad = list(good)
    bad[NOTE.split(",").index(column)] = value
    put(tmp_path, "".join(",".join(row) + "\n" for row in [good] * 300 + [bad] + [good] * 3))
    refused(lambda: read(tmp_path), f"NOTEEVENTS (NOTEEVENTS.csv), row 302, column {column}: ", *words, "original file")


def test_a_code_that_is_none_is_named_by_its_row(tmp_path):
    put(tmp_path, f'1,"486"\n2,"{SECRET}"\n', "ROW_ID,ICD9_CODE", "D_ICD_DIAGNOSES.csv")
    refused(lambda: read(tmp_path, "D_ICD_DIAGNOSES"), "row 3, column ICD9_CODE", "an ICD-9-CM code such as 42731")


def test_a_missing_or_misspelt_column_is_named_with_the_nearest(tmp_path):
    put(tmp_path, "", NOTE.replace("CHARTTIME", "CHART_TIME"), "noteevents.csv.gz")
    refused(lambda: read(tmp_path), "NOTEEVENTS (noteevents.csv.gz) has no column CHARTTIME", "nearest is 'CHART_TIME'")
    put(tmp_path, "", "one;two", "PATIENTS.csv")
    refused(
        lambda: read(tmp_path, "PATIENTS"), "PATIENTS (PATIENTS.csv) has no column SUBJECT_ID", "none of its 1 is near"
    )
    put(tmp_path, "", "SUBJECT_ID,subject_id", "PATIENTS.csv")
    refused(lambda: read(tmp_path, "PATIENTS"), "column SUBJECT_ID twice")


def test_a_missing_table_or_folder_is_named_with_the_nearest(tmp_path):
    put(tmp_path, "", name="NOTE_EVENTS.csv")
    refused(lambda: read(tmp_path), "NOTEEVENTS.csv or NOTEEVENTS.csv.gz", "NOTE_EVENTS.csv?", error=FileNotFoundError)
    refused(lambda: read(tmp_path / "no"), "no is not a folder", error=FileNotFoundError)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            f"1,2,,2151-08-04,,,ECG,,,,x\n2,2,,2151-08-04,,,ECG,,,,{SECRET},\n",
            ["has 12 columns in row 3 and 11 in its header"],
        ),
        (f"1,2,,2151-08-04,,,ECG,,,,x\n{SECRET}\n", ["has 1 columns in row 3"]),
        (f'1,2,,2151-08-04,,,ECG,,,,"{SECRET}', ["never closed", "cut off"]),
        (f'1,2,,2151-08-04,,,ECG,,,,"{SECRET}' + f"\n{SECRET}" * 4_000, ["quoted field"]),
        (b"1,2,,2151-08-04,,,ECG,,,,Appleby \xe9\n", ["is not UTF-8 in row 2"]),
    ],
)
def test_a_damaged_file_is_named_and_its_text_is_not_shown(tmp_path, monkeypatch, rows, words):
    monkeypatch.setattr(source, "BLOCK", 32_768)
    refused(lambda: read(put(tmp_path, rows)), "NOTEEVENTS (NOTEEVENTS.csv) ", *words)


@pytest.mark.parametrize("name", ["NOTEEVENTS.csv", "NOTEEVENTS.csv.gz"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, name):
    put(tmp_path, "", "a" * 3_000_000, name)
    refused(lambda: read(tmp_path), f"NOTEEVENTS ({name}) has no end of a line within its first 65,536 characters")


@pytest.mark.parametrize(
    "harm", [lambda z: z[:-200], lambda z: z[:900] + b"\xff" * 60 + z[960:], lambda z: b"text" + z]
)
def test_a_damaged_archive_is_named(tmp_path, harm):
    rows = "".join(f'{n},2,,2151-08-04,,,ECG,,,,"{os.urandom(20).hex()}"\n' for n in range(2_000))
    file = put(tmp_path, rows, name="NOTEEVENTS.csv.gz") / "NOTEEVENTS.csv.gz"
    file.write_bytes(harm(file.read_bytes()))
    refused(lambda: read(tmp_path), "NOTEEVENTS (NOTEEVENTS.csv.gz) is damaged", "original file")
