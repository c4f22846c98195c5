"""Which clinical notes does a profile study, who is held out, and which pairs do they make?

Three kinds of source (``data_manifests/clinical``), one path: a folder of MIMIC-III's tables, read by ``mimic``. Everything made
here lies below ``paths.restricted``, and what it says is known to the privacy gate before anybody else reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cardioembed_lib import files
from cardioembed_study import paths, privacy, records
from cardioembed_study.corpus import manifests
from cardioembed_study.notes import icd9, mimic
from cardioembed_study.notes.generator import cohort
from cardioembed_study.notes.generator import notes as generator_notes
from cardioembed_study.settings import Notes

NO_SOURCE = "no clinical source is named (parameter `source` of 01_notes), so the study of notes was not run"
IDS = ("note_id", "subject_id", "hadm_id")


@dataclass(frozen=True)
class Study:
    """Notes of a profile, patient by patient in temporal order, and the pairs of each note with the next."""

    source: manifests.Source
    notes: pl.DataFrame  # of mimic.notes, and split
    pairs: pl.DataFrame  # of mimic.temporal
    counts: dict[str, int | str]  # of mimic.prepare


def make(p: Notes) -> Study | None:
    """Return the study that the parameters describe, written to ``restricted/``; ``None`` where they name no source.

    Raises:
        FileNotFoundError: the source's tables are missing, with what to do.
        ValueError: they are not MIMIC-III's, or there are fewer patients than wanted.
    """
    if not p.source:
        return None
    source, room = manifests.load(p.source), paths.restricted(p.profile)
    counts = mimic.prepare(_tables(source, room, p), room)
    manifests.check_counts(source, counts)
    drawn = 0 if source.format == "generated" else p.patients  # as many were generated as are wanted
    subjects = mimic.sample(room, drawn, p.seed)
    splits = mimic.split(subjects, p.split, p.seed)
    notes = mimic.notes(room, subjects)
    ids = pl.concat([notes[name].rename("id") for name in IDS]).drop_nulls().unique()
    privacy.remember(p.profile, notes["text"], ids)
    notes = notes.with_columns(split=pl.col("subject_id").replace_strict(splits, return_dtype=pl.String))
    study = Study(source, notes, mimic.temporal(notes, splits, p.source, p.within_admission), counts)
    for frame, file in ((study.notes, room / "study.parquet"), (study.pairs, paths.pairs(p.profile, "temporal"))):
        with files.replacing(file) as aside:
            frame.write_parquet(aside)
    return study


def write(p: Notes, study: Study | None) -> dict[str, Any]:
    """Write the record ``notes.all`` and return it: counts alone, those under 10 as "<10"."""
    where = records.path(p.profile, "notes", "all")
    if study is None:
        return not_run(where, p.model_dump() | {"read": {}})
    facts = study.source.model_dump(include={"title", "role", "licence", "revision", "source", "access"})
    texts = sorted((paths.MANIFESTS / "clinical" / "notes").glob("*.yaml")) if generated(study.source) else []
    return records.write(
        where,
        metrics={},
        counts=shown({"tables": study.counts, "splits": _by_split(study), "categories": _by_category(study.notes)}),
        inputs=[*sorted(manifests.names()[p.source].parent.glob(f"{p.source}.*")), *texts],
        params=p.model_dump() | {"read": {p.source: facts}, "generated_notes": generated(study.source)},
    )


def not_run(where: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record that says that no clinical source is named, and return it."""
    return records.write(where, metrics={}, counts={}, inputs=[], params=params, status="not run", reason=NO_SOURCE)


def shown(measured: Mapping[str, Any], counted: Collection[str] | None = None) -> dict[str, Any]:
    """Return what a record may hold: every count of notes or patients under 10 as "<10", and no array.

    Args:
        measured: numbers, or mappings of them to any depth.
        counted: names of the numbers that are such counts; by default all are.

    >>> shown({"mean": 7.5, "code": {"notes": 7, "drawn": np.ones(3)}}, ["notes"])
    {'mean': 7.5, 'code': {'notes': '<10'}}
    """
    kept: dict[str, Any] = {}
    for name, value in measured.items():
        if isinstance(value, Mapping):
            kept[name] = shown(value, counted)
        elif not isinstance(value, np.ndarray):
            kept[name] = privacy.shown(value) if counted is None or name in counted else value
    return kept


def load(profile: str) -> Study | None:
    """Return the study that ``01_notes`` made for a profile, ``None`` where it was told to make none.

    Raises:
        FileNotFoundError: ``01_notes`` was not run.
    """
    record = records.read(paths.need(records.path(profile, "notes", "all"), "01_notes"))
    if record["status"] == "not run":
        return None
    kept = (paths.restricted(profile) / "study.parquet", paths.pairs(profile, "temporal"))
    notes, pairs = (pl.read_parquet(paths.need(file, "01_notes")) for file in kept)
    return Study(manifests.load(record["params"]["source"]), notes, pairs, record["counts"]["tables"])


def chapters(notes: pl.DataFrame) -> list[str]:
    """Return the ICD-9 chapter of the first code of each note's admission, "none" where there is none, as published."""
    return [icd9.chapter(codes[0]) if codes else "none" for codes in notes["codes"].to_list()]


def generated(source: manifests.Source) -> bool:
    """Return whether a source's notes are generated: it has none of its own.

    >>> generated(manifests.load("generated")), generated(manifests.load("mimic3_demo"))
    (True, True)
    """
    return source.format == "generated" or bool(source.files and "NOTEEVENTS.csv" not in manifests.documents(source))


def _tables(source: manifests.Source, room: Path, p: Notes) -> Path:
    """Return the folder of MIMIC-III's tables, notes included."""
    if not generated(source):
        return manifests.clinical_folder(source)
    if source.format == "generated":
        tables = cohort.population(p.patients, p.seed)
    else:
        folder, text = manifests.fetch(source), {"icd9_code": pl.String}
        given = (pl.read_csv(folder / f"{name}.csv", schema_overrides=text) for name in cohort.COLUMNS)
        tables = cohort.from_tables(*given)
    return generator_notes.write(tables, room / "tables", p.seed, p.notes_per_admission)


def _by_split(study: Study) -> dict[str, dict[str, int]]:
    counted = study.notes.group_by("split").agg(
        patients=pl.col("subject_id").n_unique(),
        admissions=pl.col("hadm_id").drop_nulls().n_unique(),
        notes=pl.len(),
    )
    counted = counted.join(study.pairs.group_by("split").agg(pairs=pl.len()), on="split", how="left").fill_null(0)
    rows = {row.pop("split"): row for row in counted.iter_rows(named=True)}
    return {name: rows[name] for name in mimic.SPLITS if name in rows}


def _by_category(notes: pl.DataFrame) -> dict[str, int]:
    counted = notes.group_by("category").agg(notes=pl.len()).sort("notes", "category", descending=[True, False])
    return dict(counted.iter_rows())
