"""What could a folder of MIMIC-III look like that anybody may read? Invented notes on invented patients, or on the open demo's.

They stand in for MIMIC-III's, which only credentialed readers may see: they exercise the same path, and are no evidence about
medicine. Everything follows from a seed. Who the patients are is in ``cohort``, what a note says in ``stays``.
"""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random

import polars as pl

from cardioembed_study.notes import icd9
from cardioembed_study.notes.generator import cohort, phrases, stays

COLUMNS = (
    *("ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY", "DESCRIPTION", "CGID"),
    *("ISERROR", "TEXT"),
)
FILES = (*cohort.COLUMNS, "D_ICD_DIAGNOSES", "NOTEEVENTS")
NO_ADMISSION, ERROR, STUB = 0.02, 0.006, 0.006  # notes without HADM_ID, marked as errors, too short to be kept
SPREAD = 0.6  # standard deviation of the logarithm of the number of notes
AGAIN = 0.4  # the next note is of the same kind as the last; else any kind by its share
AUTHORS, TEAM = 14, 3  # authors of a kind of note in the house, and those who write about one patient


def write(tables: dict[str, pl.DataFrame], folder: Path, seed: int, mean_notes: int = 20) -> Path:
    """Write the tables and notes on them as MIMIC-III's CSV files, and return the folder.

    Written aside and moved when complete. What is written of a patient depends on the seed and the patient's own rows alone;
    notes stand in no order of time, as in MIMIC-III.

    Args:
        tables: PATIENTS, ADMISSIONS and DIAGNOSES_ICD, from ``population`` or ``from_tables``.
        folder: an earlier one of such files is replaced, anything else refused.
        seed: of everything drawn.
        mean_notes: of an admission, its discharge summary included.

    Raises:
        ValueError: if the folder holds another file, or mean_notes is below 1.
    """
    if mean_notes < 1:
        raise ValueError(f"mean_notes is {mean_notes}; an admission has at least its discharge summary")
    if strange := sorted({file.name for file in folder.glob("*")} - {f"{name}.csv" for name in FILES}):
        raise ValueError(f"{folder} holds {strange[0]}, no table of this kind; choose an empty or a new folder")
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for name in cohort.COLUMNS:
            tables[name].write_csv(aside / f"{name}.csv", datetime_format=cohort.TIME)
        _titles(tables["DIAGNOSES_ICD"]).write_csv(aside / "D_ICD_DIAGNOSES.csv")
        with (aside / "NOTEEVENTS.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({"ROW_ID": i, **row} for i, row in enumerate(_notes(tables, seed, mean_notes), start=1))
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _titles(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return D_ICD_DIAGNOSES for the codes in use, with our own short names; empty where we have none."""
    codes = diagnoses["ICD9_CODE"].drop_nulls().unique().sort()
    names = [phrases.entry(icd9.normalise(code)).get("title", "") for code in codes]
    named = {"ICD9_CODE": codes, "SHORT_TITLE": names, "LONG_TITLE": names}
    return pl.DataFrame(named).with_row_index("ROW_ID", offset=1)


def _notes(tables: dict[str, pl.DataFrame], seed: int, mean_notes: int) -> Iterator[cohort.Row]:
    """Yield the rows of NOTEEVENTS but for their ROW_ID, patient by patient."""
    diagnoses = tables["DIAGNOSES_ICD"].drop_nulls("ICD9_CODE").sort("SEQ_NUM", maintain_order=True)
    joined = (
        tables["ADMISSIONS"]
        .join(tables["PATIENTS"].select("SUBJECT_ID", "GENDER", "DOB"), on="SUBJECT_ID", how="left")
        .join(diagnoses.group_by("HADM_ID").agg(codes="ICD9_CODE"), on="HADM_ID", how="left")
        .sort("SUBJECT_ID", "ADMITTIME")
    )
    for subject, admissions in groupby(joined.iter_rows(named=True), key=itemgetter("SUBJECT_ID")):
        rng = Random(f"notes {seed} {subject}")
        traits, levels = stays.patient(rng)
        rows = []
        for admission in admissions:
            codes = [icd9.normalise(code) for code in admission["codes"] or ()]
            stay = stays.begin(rng, traits, levels, codes, _facts(admission, codes), admission["ADMITTIME"])
            rows += _of_stay(stay, admission, seed, mean_notes)
        rng.shuffle(rows)
        yield from rows


def _facts(admission: cohort.Row, codes: Sequence[str]) -> dict[str, str]:
    """Return what the notes of an admission may say of the person and the stay."""
    start, born, woman = admission["ADMITTIME"], admission["DOB"], admission["GENDER"] == "F"
    years = (start - born).days // 365.25
    return {
        "age": f"{years:.0f}" if years < 90 else "[**Age over 90 **]",
        **{"sex": "woman" if woman else "man", "gender": admission["GENDER"]},
        **{"he": "she" if woman else "he", "him": "her" if woman else "him"},
        "complaint": (admission["DIAGNOSIS"] or cohort.complaint(codes)).lower(),
        "insurance": admission["INSURANCE"],
        "disposition": admission["DISCHARGE_LOCATION"].lower(),
        "admitted": f"[**{start.year}-{start.month}-{start.day}**]",
        "born": f"[**{born.year}-{born.month}-{born.day}**]",
    }


def _of_stay(stay: stays.Stay, admission: cohort.Row, seed: int, mean_notes: int) -> Iterator[cohort.Row]:
    """Yield an admission's notes in order of time, the discharge summary last."""
    rng, kinds, stubs = stay.rng, phrases.styles(), phrases.bank("words")["stubs"].splitlines()
    start, end = admission["ADMITTIME"], admission["DISCHTIME"]
    number = max(round(rng.lognormvariate(math.log(mean_notes) - SPREAD**2 / 2, SPREAD)), 1)
    minutes = max(int((end - start).total_seconds() // 60), 1)
    times = [*sorted(start + timedelta(minutes=rng.randrange(minutes)) for _ in range(number - 1)), end]
    chosen = rng.choices(list(kinds), [kind.share for kind in kinds.values()], k=number - 1)
    for i in range(1, len(chosen)):
        chosen[i] = chosen[i - 1] if rng.random() < AGAIN else chosen[i]
    chosen.append("discharge_summary")
    team = {style: rng.sample(range(AUTHORS), TEAM) for style in sorted(set(chosen))}
    for style, when in zip(chosen, times, strict=True):
        stays.advance(stay, when)
        stay.facts["day"] = str((when - start).days + 1)
        author = phrases.author(style, rng.choice(team[style]), seed)
        written = stays.text(stay, style, author)
        row = _row(rng, style, author.number, admission, when)
        yield row | {"TEXT": rng.choice(stubs) if rng.random() < STUB else written}


def _row(rng: Random, style: str, author: int, admission: cohort.Row, when: datetime) -> cohort.Row:
    """Return what a note's row says about the note; a few lack their admission or are marked as errors."""
    kind, position = phrases.styles()[style], list(phrases.styles()).index(style)
    row = {
        "SUBJECT_ID": admission["SUBJECT_ID"],
        "HADM_ID": None if rng.random() < NO_ADMISSION else admission["HADM_ID"],
        "CHARTDATE": f"{when:%Y-%m-%d}",
        "CATEGORY": kind.category,
        "DESCRIPTION": rng.choice(kind.description.split("|")),
        "ISERROR": 1 if rng.random() < ERROR else None,
    }
    if kind.timed:
        stored = when + timedelta(minutes=rng.randint(1, 90))
        row |= {"CHARTTIME": f"{when:{cohort.TIME}}", "STORETIME": f"{stored:{cohort.TIME}}"}
        row["CGID"] = 14_000 + position * AUTHORS + author
    return row
