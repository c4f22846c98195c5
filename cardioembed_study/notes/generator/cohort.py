"""Who are the patients of the generated notes? Invented people, admissions and diagnoses, in MIMIC-III's tables.

The codes follow the open demo's statistics; nothing else does, and nothing here is evidence about medicine.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import islice
from random import Random
from typing import Any

import polars as pl
import polars.selectors as cs

from cardioembed_study import paths
from cardioembed_study.notes.generator import phrases

COLUMNS = {
    "PATIENTS": ("ROW_ID", "SUBJECT_ID", "GENDER", "DOB", "DOD", "DOD_HOSP", "DOD_SSN", "EXPIRE_FLAG"),
    "ADMISSIONS": (
        *("ROW_ID", "SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME", "DEATHTIME", "ADMISSION_TYPE"),
        *("ADMISSION_LOCATION", "DISCHARGE_LOCATION", "INSURANCE", "LANGUAGE", "RELIGION", "MARITAL_STATUS"),
        *("ETHNICITY", "EDREGTIME", "EDOUTTIME", "DIAGNOSIS", "HOSPITAL_EXPIRE_FLAG", "HAS_CHARTEVENTS_DATA"),
    ),
    "DIAGNOSES_ICD": ("ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"),
}
TIMES = ("DOB", "DOD", "DOD_HOSP", "DOD_SSN", "ADMITTIME", "DISCHTIME", "DEATHTIME", "EDREGTIME", "EDOUTTIME")
NUMBERS = ("ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "EXPIRE_FLAG", "HOSPITAL_EXPIRE_FLAG", "HAS_CHARTEVENTS_DATA")
TYPES = dict.fromkeys(TIMES, pl.Datetime("us")) | dict.fromkeys(NUMBERS, pl.Int64)  # the others are text
TIME = "%Y-%m-%d %H:%M:%S"
PEOPLE = {  # ours: a plain mix
    "INSURANCE": ("Medicare", "Medicare", "Medicare", "Private", "Private", "Medicaid", "Government"),
    "LANGUAGE": ("ENGL", "ENGL", "ENGL", "SPAN", "RUSS", None),
    "RELIGION": ("CATHOLIC", "PROTESTANT QUAKER", "JEWISH", "NOT SPECIFIED", None),
    "MARITAL_STATUS": ("MARRIED", "MARRIED", "SINGLE", "WIDOWED", "DIVORCED", None),
    "ETHNICITY": ("WHITE", "WHITE", "WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC OR LATINO", "ASIAN"),
}
Row = dict[str, Any]


def code_counts(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return how many admissions have a code, and how many have two codes together; what occurs only once is left out.

    ``data_manifests/clinical/icd9_counts.csv`` is this table, made of the open demo's diagnoses.

    Args:
        diagnoses: columns ``hadm_id`` and ``icd9_code``, a row for each code of each admission.

    Returns:
        ``code``, ``other``, ``admissions``, sorted; ``other`` is empty for a code's own count, and else sorts after it.

    >>> code_counts(pl.DataFrame({"hadm_id": [1, 1, 2, 2], "icd9_code": ["486", "4019", "4019", "486"]})).rows()
    [('4019', '', 2), ('4019', '486', 2), ('486', '', 2)]
    """
    codes = diagnoses.select("hadm_id", code="icd9_code").drop_nulls().unique()
    pairs = codes.join(codes.rename({"code": "other"}), on="hadm_id").filter(pl.col("code") < pl.col("other"))
    both = pl.concat([codes.with_columns(other=pl.lit("")), pairs])
    counted = both.group_by("code", "other").agg(admissions=pl.len().cast(pl.Int64))
    return counted.filter(pl.col("admissions") >= 2).sort("code", "other")


def population(n: int, seed: int) -> dict[str, pl.DataFrame]:
    """Return invented patients, their one to four admissions and their diagnoses, in MIMIC-III's columns.

    Codes occur, alone and together, about as often as in the open demo: the first by its frequency, the others on a walk from
    code to code by how many admissions had both. Chronic codes stay with a patient.

    Args:
        n: patients, at least 1.
        seed: of everything drawn.

    Raises:
        ValueError: if n is below 1.

    >>> {name: len(table.columns) for name, table in population(2, seed=17).items()}
    {'PATIENTS': 8, 'ADMISSIONS': 19, 'DIAGNOSES_ICD': 5}
    """
    if n < 1:
        raise ValueError(f"n is {n}; a population has at least one patient")
    rng = Random(f"population {seed}")
    stays = rng.choices((1, 2, 3, 4), (80, 13, 5, 2), k=n)
    numbers = iter(rng.sample(range(100_000, 100_000 + max(100_000, 4 * n)), sum(stays)))
    patients, admissions, diagnoses = [], [], []
    for subject, count in enumerate(stays, start=20_001):
        person = {"SUBJECT_ID": subject} | {name: rng.choice(options) for name, options in PEOPLE.items()}
        own, codes = _admissions(rng, person, list(islice(numbers, count)))
        patients.append(_patient(rng, own))
        admissions += own
        diagnoses += codes
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (patients, admissions, diagnoses))
    return from_tables(*(frame.with_row_index("ROW_ID", offset=1) for frame in frames))


def from_tables(patients: pl.DataFrame, admissions: pl.DataFrame, diagnoses: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return somebody's three tables, such as the open demo's, in the form of ``population``.

    Args:
        patients: MIMIC-III's PATIENTS; headers in either case, times as text or as times.
        admissions: ADMISSIONS.
        diagnoses: DIAGNOSES_ICD, codes as text.

    Raises:
        ValueError: a column is missing, or codes were read as numbers, which loses the zeros at their front.
        polars.exceptions.InvalidOperationError: a time is none.
    """
    tables = {}
    for name, given in zip(COLUMNS, (patients, admissions, diagnoses), strict=True):
        table = given.rename(str.upper)
        if missing := [column for column in COLUMNS[name] if column not in table.columns]:
            raise ValueError(f"{name} lacks the column {missing[0]}; it has {', '.join(table.columns)}")
        kind = table.schema.get("ICD9_CODE", pl.String)
        if kind != pl.String:
            raise ValueError(f"{name}: ICD9_CODE is {kind}, not text; read it as text, 0389 is not 389")
        written = cs.by_name(*TIMES, require_all=False) & cs.string()
        types = {column: TYPES.get(column, pl.String) for column in COLUMNS[name]}
        tables[name] = table.with_columns(written.str.to_datetime(TIME)).select(*types).cast(types)
    return tables


def _admissions(rng: Random, person: Row, numbers: Sequence[int]) -> tuple[list[Row], list[Row]]:
    """Return a patient's admissions, in order of time, and their diagnoses."""
    admissions, diagnoses, codes = [], [], []
    start = datetime(rng.randint(2100, 2185), 1, 1) + timedelta(minutes=rng.randrange(525_600))
    for position, number in enumerate(numbers, start=1):
        codes = _codes(rng, codes)
        end = start + timedelta(minutes=round(1440 * min(rng.lognormvariate(1.9, 0.7), 90)))
        died = position == len(numbers) and rng.random() < 0.1
        planned = rng.random() < 0.12
        stay = {
            "HADM_ID": number,
            **{"ADMITTIME": start, "DISCHTIME": end, "DEATHTIME": end if died else None},
            "ADMISSION_TYPE": "ELECTIVE" if planned else rng.choice(("EMERGENCY", "EMERGENCY", "URGENT")),
            "ADMISSION_LOCATION": "PHYS REFERRAL/NORMAL DELI" if planned else "EMERGENCY ROOM ADMIT",
            "DISCHARGE_LOCATION": "DEAD/EXPIRED" if died else rng.choice(("HOME", "HOME HEALTH CARE", "SNF")),
            "EDREGTIME": None if planned else start - timedelta(minutes=rng.randint(60, 600)),
            "EDOUTTIME": None if planned else start - timedelta(minutes=20),
            "DIAGNOSIS": complaint(codes).upper(),
            "HOSPITAL_EXPIRE_FLAG": int(died),
            "HAS_CHARTEVENTS_DATA": 1,
        }
        admissions.append(person | stay)
        keys = {"SUBJECT_ID": person["SUBJECT_ID"], "HADM_ID": number}
        diagnoses += [keys | {"SEQ_NUM": i, "ICD9_CODE": code} for i, code in enumerate(codes, start=1)]
        start = end + timedelta(minutes=round(1440 * rng.lognormvariate(4.5, 1.2)))
    return admissions, diagnoses


def _patient(rng: Random, admissions: Sequence[Row]) -> Row:
    age = min(max(rng.gauss(65, 16), 19), 98)
    first, last = admissions[0], admissions[-1]
    born = first["ADMITTIME"] - timedelta(days=365.25 * (300 if age > 89 else age))  # MIMIC-III hides great age so
    died = last["DEATHTIME"] and last["DEATHTIME"].date()
    keys = {"SUBJECT_ID": first["SUBJECT_ID"], "GENDER": rng.choice("FM"), "DOB": born.date()}
    return keys | {"DOD": died, "DOD_HOSP": died, "DOD_SSN": None, "EXPIRE_FLAG": int(died is not None)}


@cache
def _statistics() -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Return the demo's count of each code, and of each code the counts of those seen with it."""
    file = paths.MANIFESTS / "clinical" / "icd9_counts.csv"
    types = {"code": pl.String, "other": pl.String, "admissions": pl.Int64}
    alone: dict[str, int] = {}
    beside: dict[str, dict[str, int]] = {}
    for code, other, admissions in pl.read_csv(file, comment_prefix="#", schema=types).rows():
        if other:
            beside.setdefault(code, {})[other] = beside.setdefault(other, {})[code] = admissions
        else:
            alone[code] = admissions
    return alone, beside


def _codes(rng: Random, before: Sequence[str]) -> list[str]:
    """Return the codes of an admission: a new reason, then what stayed of the last admission and what goes with it all."""
    alone, beside = _statistics()
    chronic = tuple(phrases.bank("words")["chronic"].split())
    reasons = [code for code in alone if not code.startswith((*chronic, "V", "E", "401"))]
    codes = rng.choices(reasons, [alone[code] for code in reasons])
    codes += [code for code in before if code.startswith(chronic) and code not in codes]
    wanted = min(max(round(rng.lognormvariate(2.3, 0.4)), 3), 30)
    for _ in range(20 * wanted):
        if len(codes) >= wanted:
            break
        near = beside.get(codes[0] if rng.random() < 0.5 else rng.choice(codes), alone)
        code = rng.choices(list(near), [both**2 / alone[other] for other, both in near.items()])[0]
        if code not in codes:
            codes.append(code)
    return codes


def complaint(codes: Sequence[str]) -> str:
    """Return why somebody with these codes comes: the first complaint that any of them is known for."""
    known = (phrases.entry(code).get("complaint") for code in codes)
    return next(filter(None, known), "weakness")
