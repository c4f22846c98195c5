"""Which notes does a patient have, in which order, and with which diagnoses? A folder of MIMIC-III's tables in, pairs out.

``prepare`` reads the CSV files once, in bounded memory; everything after it reads the three Parquet files that it wrote. What
they hold is as restricted as the tables: no message names a patient, a note, or a word of one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from cardioembed_lib import files
from cardioembed_study.clinical import Count, people
from cardioembed_study.corpus import pairs
from cardioembed_study.notes import source as note_source

ORDER = ("subject_id", "chartdate", "charttime", "note_id")  # of notes in time; a missing time comes first
NOTES = {
    "note_id": pl.Int64,
    "subject_id": pl.Int64,
    "hadm_id": pl.Int64,
    "chartdate": pl.Date,
    "charttime": pl.Datetime("us"),
    "category": pl.String,
    "text": pl.String,
}
SPLITS = ("train", "dev", "test")
STAY = ["subject_id", "hadm_id"]  # both: an admission is of one patient


def prepare(source: Path, target: Path, minimum: int = 50) -> dict[str, Count]:
    """Read MIMIC-III's tables and write ``notes.parquet``, ``diagnoses.parquet`` and ``order.parquet``, all or nothing.

    As published, notes marked as errors and notes of at most 50 characters are left out. Texts pass through a block at a time;
    of the notes only ids and times are held. The files are made aside and moved when all three are whole, the order last:
    without it nothing is read.

    Args:
        source: folder with the tables that ``source.TABLES`` names, as ``.csv`` or ``.csv.gz``.
        target: folder to write to; made where it is missing, and closed to everybody but its owner.
        minimum: characters; a note needs more.

    Returns:
        Of the notes ``notes_read``, ``dropped_error``, ``dropped_short``, ``notes`` (that stay), ``without_admission``,
        ``without_time``, ``patients_with_notes``, ``admissions_with_notes``, ``pairs_across`` (consecutive notes of a patient),
        ``pairs_within`` (of an admission). Of the other tables ``patients``, ``admissions``, ``diagnoses``, and
        ``dropped_codes`` (rows of diagnoses without a code). ``orphan_patients`` and ``orphan_admissions`` of notes and
        diagnoses, and ``orphan_codes``, are missing in the tables that should list them.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: a column is missing, a value does not parse, a note's id stands twice, or a file is damaged; names table,
            file, row and column.
    """
    tables = {name: note_source.find(source, name) for name in note_source.TABLES}
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o700)
    with FileLock(target / ".lock"):
        for left_behind in target.glob(".partial-*"):
            shutil.rmtree(left_behind)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target) as partial:
            made = Path(partial)
            counts = _write(tables, made, minimum)
            files.write_sums(made / "SHA256SUMS", made.glob("*.parquet"))
            (target / "order.parquet").unlink(missing_ok=True)
            for name in ("notes.parquet", "diagnoses.parquet", "SHA256SUMS", "order.parquet"):
                os.replace(made / name, target / name)
    return counts


def patients(target: Path) -> list[int]:
    """Return the patients with at least two notes, sorted.

    Args:
        target: the folder that ``prepare`` wrote.
    """
    order = pl.scan_parquet(_prepared(target, "order"))
    n_notes = order.group_by("subject_id").len().filter(pl.col("len") >= 2)
    return n_notes.select(pl.col("subject_id").sort()).collect()["subject_id"].to_list()


def sample(target: Path, n: int, seed: int) -> list[int]:
    """Return n different patients with at least two notes, drawn by the seed, sorted.

    Args:
        target: the folder that ``prepare`` wrote.
        n: number of patients; 0 for all.
        seed: of the draw.

    Raises:
        ValueError: if there are fewer; names both numbers.
    """
    known = patients(target)
    if not 0 <= n <= len(known):
        raise ValueError(
            f"{n:,} patients are wanted, {len(known):,} have at least two notes; ask for fewer, or 0 for all"
        )
    drawn = np.random.default_rng(seed).choice(len(known), n or len(known), replace=False)
    return [known[i] for i in np.sort(drawn)]


def split(subjects: Iterable[int], shares: Sequence[float], seed: int) -> dict[int, str]:
    """Return the split of each patient; every split with a share gets at least one.

    Args:
        subjects: patients, in any order.
        shares: of train, dev and test; sum 1.
        seed: of the shuffle.

    Raises:
        ValueError: shares that are not three, are negative or do not sum to 1; fewer patients than splits.

    >>> sorted(split(range(10), (0.8, 0.1, 0.1), seed=17).values())
    ['dev', 'test', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'train']
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"split shares are {tuple(shares)}; wanted three (train, dev, test) that sum to 1")
    ordered = sorted(set(subjects))
    used = sum(share > 0 for share in shares)
    if len(ordered) < used:
        raise ValueError(f"{len(ordered)} patients cannot fill {used} splits; give more patients, or set a share to 0")
    sizes = [max(1, round(share * len(ordered))) if share > 0 else 0 for share in shares]
    sizes[int(np.argmax(sizes))] += len(ordered) - sum(sizes)
    names = [name for name, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    return {ordered[i]: name for i, name in sorted(zip(shuffled.tolist(), names, strict=True))}


def notes(target: Path, subjects: Iterable[int]) -> pl.DataFrame:
    """Return these patients' notes with their texts, patient by patient in temporal order.

    Args:
        target: the folder that ``prepare`` wrote.
        subjects: patients; nobody else's text is kept in memory.

    Returns:
        The columns of ``NOTES``, and ``codes``: the admission's diagnoses, the first first; an empty list where there is no
        admission, or no diagnosis.

    Raises:
        ValueError: if a patient has no note; says how many, not who.
    """
    wanted = sorted(set(subjects))
    mine = pl.col("subject_id").is_in(wanted)
    chosen = pl.scan_parquet(_prepared(target, "notes")).filter(mine).collect(engine="streaming")
    if without := len(wanted) - chosen["subject_id"].n_unique():
        raise ValueError(
            f"{without:,} of {len(wanted):,} patients have no notes in {target.name}; take them from `patients`"
        )
    diagnoses = pl.scan_parquet(_prepared(target, "diagnoses")).filter(mine).sort("seq_num", nulls_last=True).collect()
    codes = diagnoses.group_by(STAY, maintain_order=True).agg(codes="code")
    joined = chosen.sort(ORDER).join(codes, on=STAY, how="left", maintain_order="left")
    return joined.with_columns(pl.col("codes").fill_null(pl.lit([], dtype=pl.List(pl.String))))


def temporal(notes: pl.DataFrame, splits: dict[int, str], source: str, within: bool = False) -> pl.DataFrame:
    """Return a pair for each note of a patient and the next.

    As published, a note that only repeats the one before it (copied forward) makes a pair like any other, and neighbours may
    belong to two admissions.

    Args:
        notes: as ``notes`` returns them.
        splits: the split of each patient.
        source: name of the manifest.
        within: only pairs of one admission: each of its notes and the next of the same one; notes without an admission have
            none.

    Returns:
        The columns of ``pairs.SCHEMA``, and ``codes`` of the anchor's admission; group and document are the patient.

    Raises:
        ValueError: if a patient has no split; says how many, not who.

    >>> rows = {"note_id": [4, 7, 9], "subject_id": [1, 1, 2], "text": ["a", "b", "c"], "codes": [["486"], [], []]}
    >>> temporal(pl.DataFrame(rows), {1: "train", 2: "test"}, "mine").select("anchor", "positive_id", "split").rows()
    [('a', 'note7', 'train')]
    """
    if without := notes.filter(~pl.col("subject_id").is_in(list(splits)))["subject_id"].n_unique():
        raise ValueError(f"{without:,} patients of the notes have no split; make `splits` from the same patients")
    same = STAY if within else ["subject_id"]
    kept = notes.drop_nulls("hadm_id") if within else notes
    patient, note = pl.format("patient{}", "subject_id"), pl.format("note{}", "note_id")
    return (
        kept.with_columns(positive=pl.col("text").shift(-1).over(same), anchor_id=note)
        .with_columns(positive_id=pl.col("anchor_id").shift(-1).over(same))
        .filter(pl.col("positive_id").is_not_null())
        .with_columns(
            anchor="text",
            negatives=pl.lit([], dtype=pl.List(pl.String)),
            group=patient,
            document=patient,
            source=pl.lit(source),
            topic=pl.lit("clinical"),
            split=pl.col("subject_id").replace_strict(splits, return_dtype=pl.String),
        )
        .select(*pairs.SCHEMA, "codes")
    )


def _write(tables: dict[str, note_source.Table], folder: Path, minimum: int) -> dict[str, Count]:
    """Write the three files and return all counts; the long table is read last."""
    read = {name: pl.concat(note_source.batches(table)) for name, table in tables.items() if name != "NOTEEVENTS"}
    diagnoses = read["DIAGNOSES_ICD"].drop_nulls("icd9_code").rename({"icd9_code": "code"})
    diagnoses.write_parquet(folder / "diagnoses.parquet")
    counts, order = _write_notes(tables["NOTEEVENTS"], folder / "notes.parquet", minimum)
    order.select("note_id", *STAY).write_parquet(folder / "order.parquet")
    uncoded = read["DIAGNOSES_ICD"].filter(pl.col("icd9_code").is_null())
    counts |= {"diagnoses": Count(diagnoses["subject_id"]), "dropped_codes": Count(uncoded["subject_id"])}
    return counts | _counted(order, diagnoses, read)


def _write_notes(table: note_source.Table, file: Path, minimum: int) -> tuple[dict[str, Count], pl.DataFrame]:
    """Write the notes that stay; return how many did not, and ids and times of those that did, in temporal order."""
    owners: dict[str, list[pl.Series]] = {"notes_read": [], "dropped_error": [], "dropped_short": []}
    kept = []
    with pq.ParquetWriter(file, _arrow(pl.DataFrame(schema=NOTES)).schema, compression="zstd") as writer:
        for read in note_source.batches(table):
            wrong, short = pl.col("iserror").eq_missing(1), pl.col("text").str.len_chars() <= minimum
            right = read.filter(~wrong)
            long = right.filter(~short).rename({"row_id": "note_id"})
            long = long.with_columns(pl.col("category").str.strip_chars()).select(*NOTES)
            writer.write_table(_arrow(long))
            kept.append(long.select("hadm_id", *ORDER))
            for name, rows in zip(owners, (read, read.filter(wrong), right.filter(short)), strict=True):
                owners[name].append(rows["subject_id"])
    order = pl.concat(kept).sort(ORDER)
    if repeated := len(order) - order["note_id"].n_unique():
        raise ValueError(f"{table}: {repeated:,} rows repeat the ROW_ID of another; {note_source.REMEDY}")
    return {name: Count(pl.concat(each)) for name, each in owners.items()}, order


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _counted(order: pl.DataFrame, diagnoses: pl.DataFrame, read: dict[str, pl.DataFrame]) -> dict[str, Count]:
    """Return how many notes, patients and admissions there are, and how many ids and codes the tables lack."""
    admitted = order.drop_nulls("hadm_id")
    named = pl.concat([order.select(STAY), diagnoses.select(STAY)])
    lost = {
        "orphan_patients": named.unique("subject_id").join(read["PATIENTS"], on="subject_id", how="anti"),
        "orphan_admissions": named.drop_nulls().unique("hadm_id").join(read["ADMISSIONS"], on="hadm_id", how="anti"),
        "orphan_codes": diagnoses.unique("code").join(
            read["D_ICD_DIAGNOSES"], left_on="code", right_on="icd9_code", how="anti"
        ),
    }
    rows = {
        "notes": order,
        "admissions_with_notes": admitted.unique(STAY),
        "without_admission": order.filter(pl.col("hadm_id").is_null()),
        "without_time": order.filter(pl.col("charttime").is_null()),
        "pairs_across": order.filter(~pl.col("subject_id").is_first_distinct()),
        "pairs_within": admitted.filter(~pl.struct(STAY).is_first_distinct()),
        "admissions": read["ADMISSIONS"],
    }
    people_of = {"patients_with_notes": people(order["subject_id"]), "patients": people(read["PATIENTS"]["subject_id"])}
    return {name: Count(part["subject_id"]) for name, part in (rows | lost).items()} | people_of


def _prepared(target: Path, name: str) -> Path:
    for needed in ("order", name):  # the order is written last: without it the others may not be whole
        if not (target / f"{needed}.parquet").is_file():
            raise FileNotFoundError(
                f"{needed}.parquet is missing in {target}; run notebooks/01_notes.ipynb, which prepares it"
            )
    files.verify(target / "SHA256SUMS", [f"{name}.parquet"], "run notebooks/01_notes.ipynb again, which prepares it")
    return target / f"{name}.parquet"
