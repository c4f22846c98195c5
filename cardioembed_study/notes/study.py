"""Which clinical notes does a profile study, who is held out, and which pairs do they make?

Three kinds of source (``data_manifests/clinical``), one path: a folder of MIMIC-III's tables, read by ``mimic``. Everything made
here lies below ``paths.restricted``; what leaves goes through ``records.write``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cardioembed_lib import files
from cardioembed_study import clinical, paths, records
from cardioembed_study.clinical import NO_SOURCE, Count, people
from cardioembed_study.corpus import manifests
from cardioembed_study.notes import icd9, mimic
from cardioembed_study.notes.generator import cohort
from cardioembed_study.notes.generator import notes as generator_notes
from cardioembed_study.settings import Notes


@dataclass(frozen=True)
class Study:
    """Notes of a profile, patient by patient in temporal order, and the pairs of each note with the next."""

    source: manifests.Source
    notes: pl.DataFrame  # of mimic.notes, and split
    pairs: pl.DataFrame  # of mimic.temporal
    counts: Mapping[str, int | str]  # of mimic.prepare; as the record shows them where the study was loaded


def make(p: Notes) -> Study | None:
    """Return the study that the parameters describe, written to ``restricted/``; ``None`` where they name no source.

    Raises:
        FileNotFoundError: the source's tables are missing, with what to do.
        ValueError: they are not MIMIC-III's; there are fewer patients than wanted, or, of a restricted source, than can be
            shown; the folder has held restricted notes before, and these are not.
    """
    if not p.source:
        return None
    source, room = manifests.load(p.source), paths.restricted(p.profile)
    clinical.mark(p.profile, source.access)
    clinical.refuse_strange(p)
    counts = mimic.prepare(_tables(source, room, p), room)
    manifests.check_counts(source, counts)
    drawn = 0 if source.format == "generated" else p.patients  # as many were generated as are wanted
    subjects = mimic.sample(room, drawn, p.seed)
    splits = mimic.split(subjects, p.split, p.seed)
    least = min(list(splits.values()).count(split) for split in ("train", "test"))
    if source.access != clinical.OPEN and least < clinical.FEW:
        raise ValueError(
            f"of a restricted source train and test need {clinical.FEW} patients each, and one would have {least}: nothing of it "
            "could be shown; take more `patients`, or other shares in `split`"
        )
    notes = mimic.notes(room, subjects)
    notes = notes.with_columns(split=pl.col("subject_id").replace_strict(splits, return_dtype=pl.String))
    study = Study(source, notes, mimic.temporal(notes, splits, p.source, p.within_admission), counts)
    for frame, file in ((study.notes, room / "study.parquet"), (study.pairs, paths.pairs(p.profile, "temporal"))):
        with files.replacing(file) as aside:
            frame.write_parquet(aside)
    return study


def write(p: Notes, study: Study | None) -> dict[str, Any]:
    """Write the record ``notes.all`` and return it: counts alone."""
    where = records.path(p.profile, "notes", "all")
    if study is None:
        return not_run(where, p.model_dump() | {"read": {}})
    facts = study.source.model_dump(include={"title", "role", "licence", "revision", "source", "access"})
    texts = sorted((paths.MANIFESTS / "clinical" / "notes").glob("*.yaml")) if generated(study.source) else []
    return records.write(
        where,
        metrics={},
        counts={"tables": study.counts, "splits": _by_split(study), "categories": _by_category(study.notes)},
        inputs=[*sorted(manifests.names()[p.source].parent.glob(f"{p.source}.*")), *texts],
        params=p.model_dump() | {"read": {p.source: facts}, "generated_notes": generated(study.source)},
    )


def not_run(where: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record that says that no clinical source is named, and return it."""
    return records.write(where, metrics={}, counts={}, inputs=[], params=params, status="not run", reason=NO_SOURCE)


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


def _by_split(study: Study) -> dict[str, dict[str, Count]]:
    """Return patients, admissions, notes and pairs of each split."""
    counted = {}
    for split in mimic.SPLITS:
        notes, pairs = study.notes.filter(split=split), study.pairs.filter(split=split)
        if len(notes):
            stays = notes.drop_nulls("hadm_id").unique("hadm_id")
            owners = {"admissions": stays["subject_id"], "notes": notes["subject_id"], "pairs": pairs["group"]}
            counted[split] = {"patients": people(notes["subject_id"])} | {k: Count(v) for k, v in owners.items()}
    return counted


def _by_category(notes: pl.DataFrame) -> dict[str, Count]:
    """Return the notes of each of MIMIC-III's categories; those of others as "other"."""
    known = pl.when(pl.col("category").is_in(clinical.CATEGORIES)).then("category").otherwise(pl.lit("other"))
    named = notes.select("subject_id", category=known)
    return {str(name): Count(part["subject_id"]) for (name,), part in named.group_by("category")}
