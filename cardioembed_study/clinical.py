"""What may leave of clinical notes? A closed schema of their records, and what becomes of counts of few patients.

``records.write`` is the only door. Behind it everything lies below ``paths.restricted``; through it go keys that are named here,
numbers in range, and names that a profile has written down. Of a restricted source a count of fewer than ``FEW`` patients is
"<11", and every other count is rounded to the nearest ``STEP``: whatever is added or subtracted, a hidden count keeps all its
values from 1 to 10. Counts are made of the patients counted (``Count``), so that nobody can forget whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    create_model,
)

from cardioembed_lib import files
from cardioembed_study import mappings, paths, settings

FEW, STEP, DIGITS = 11, 20, 3
HIDDEN = f"<{FEW}"
OPEN = "open"
NO_SOURCE = "no clinical source is named (parameter `source` of 01_notes), so the study of notes was not run"
NOTEBOOKS = {"notes": "01_notes", "train": "02_train", "mimic": "05_mimic", "effects": "05_mimic"}
KS = (1, 5, 10, 20)  # of recall: the cards' and one more
CATEGORIES = (
    *("Case Management", "Consult", "Discharge summary", "ECG", "Echo", "General", "Nursing", "Nursing/other"),
    *("Nutrition", "Pharmacy", "Physician", "Radiology", "Rehab Services", "Respiratory", "Social Work"),
)


class Count(int):
    """How many rows there are, and of how many patients: made of the rows' patients, one each.

    >>> n = Count([7, 7, 9])
    >>> n, n.patients, n.shown
    (3, 2, '<11')
    """

    patients: int

    def __new__(cls, owners: ArrayLike) -> Count:
        """Count rows by their patients, (N,) names or numbers."""
        each = np.asarray(owners)
        made = super().__new__(cls, each.size)
        made.patients = len(np.unique(each))
        return made

    @property
    def shown(self) -> int | str:
        """What a record of a restricted source holds.

        >>> [Count(range(n)).shown for n in (0, 1, 10, 11, 29, 31)]
        [0, '<11', '<11', 20, 20, 40]
        """
        return HIDDEN if 0 < self.patients < FEW else max(STEP, int(self / STEP + 0.5) * STEP) if self else 0


def people(owners: ArrayLike) -> Count:
    """Return how many patients some rows have.

    >>> people([7, 7, 9])
    2
    """
    return Count(np.unique(np.asarray(owners)))


def access(profile: str) -> str:
    """Return the access of the notes that a profile has read: "open" if it is written down, else "restricted"."""
    mark = paths.artifacts(profile) / "restricted" / "access"
    return OPEN if mark.is_file() and mark.read_text(encoding="utf-8").strip() == OPEN else "restricted"


def mark(profile: str, given: str) -> None:
    """Write down the access of the notes that a profile is about to read; once restricted, it stays so.

    Raises:
        ValueError: the folder has held notes of another access, and these are open.
    """
    room = paths.restricted(profile)
    held = {file.name for file in room.iterdir()} - {"access", "executed", ".gitignore"}
    if given == OPEN and access(profile) != OPEN and (held or (room / "access").exists()):
        raise ValueError(
            f"{profile}/restricted has held notes whose access is restricted or unknown; delete that folder, or give the "
            "profile of open notes another name"
        )
    files.write(room / "access", f"{given}\n")


def sealed(measurement: str, params: Mapping[str, Any]) -> bool:
    """Return whether a record is of a profile's clinical notes: of their study, or of a training on them."""
    return "profile" in params and measurement in NOTEBOOKS and (measurement != "train" or settings.on_notes(params))


def none_restricted() -> bool:
    """Return whether no profile's folder of notes, beside each other in one place, holds restricted ones."""
    return all(access(folder.parent.name) == OPEN for folder in paths.artifacts("x").parent.glob("*/restricted"))


def refuse_open_door(what: str) -> None:
    """Refuse what is about to be written outside ``restricted`` by a process that has read restricted notes.

    Raises:
        PermissionError: naming it; tables and figures are made of records, in another process.
    """
    if closed := [profile for profile in paths.OPENED if access(profile) != OPEN]:
        raise PermissionError(
            f"{what} cannot be written by a process that has opened the restricted notes of profile {closed[0]!r}; "
            "show what records.write lets through, in another notebook"
        )


def refuse_strange(p: settings.Parameters, run: str = "") -> None:
    """Refuse parameters of a notebook on restricted notes that are not those of the profile's file, as no record could hold them.

    Args:
        p: of ``01_notes``, ``02_train`` or ``05_mimic``.
        run: its name, of ``02_train``.

    Raises:
        ValueError: naming those that differ, never what they are.
    """
    if access(p.profile) == OPEN:
        return
    stem = next(stem for stem, kind in settings.NOTEBOOKS.items() if type(p) is kind)
    written, run = settings.profile(p.profile), getattr(p, "run", "") or run
    given = (written.runs if stem == "02_train" else written.notebooks).get(run or stem, {})
    wanted = settings.check(stem, {"profile": p.profile} | given).model_dump()
    if strange := [name for name, value in p.model_dump().items() if value != wanted[name]]:
        raise ValueError(
            f"{stem}: {', '.join(strange)} of a study of restricted notes must stand in profiles/{p.profile}.yaml; write it there"
        )


def through(
    record: Mapping[str, Any], profile: str, measurement: str, model: str, inputs: Sequence[Path | str]
) -> dict[str, Any]:
    """Return the parts of a record of clinical notes as they may leave: metrics, counts, parameters and seconds.

    Args:
        record: ``metrics``, ``counts``, ``params``, ``status`` and perhaps ``reason`` and ``seconds``.
        profile: whose notes; their access says whether counts are hidden.
        measurement: notes, train, mimic or effects.
        model: the second part of the record's name.
        inputs: the files that the record names.

    Raises:
        ValueError: a key that the schema does not name, a value of another type or out of range, a count that is not made of
            its patients, a name or text that the profile does not have. Says where, and never what.
    """
    held = record["status"] == "run" or (paths.artifacts(profile) / "restricted" / "access").exists()
    opened = {profile, *paths.OPENED} if held else set()
    restricted, params = any(access(one) != OPEN for one in opened), record["params"]
    context = {"restricted": restricted, "names": _names(profile) if restricted else None}
    if restricted and measurement == "mimic":
        context["codes"] = _frequent(paths.artifacts(profile) / "restricted" / "diagnoses.parquet")
    if model != "all":
        _check(Named, {"name": model}, context, "its name")
    if restricted and (strange := [file for file in inputs if Path(file).name not in _files()]):
        raise ValueError(f"{len(strange)} inputs of a record of clinical notes are none that this project knows")
    extras = params.keys() & Extras.model_fields.keys() - settings.NOTEBOOKS[NOTEBOOKS[measurement]].model_fields.keys()
    try:
        given = settings.check(NOTEBOOKS[measurement], {k: v for k, v in params.items() if k not in extras})
    except ValueError:
        raise ValueError(f"parameters: they are not those of {NOTEBOOKS[measurement]}; see its first cell") from None
    kept = _check(Extras, {k: params[k] for k in extras}, context, "parameters")
    if restricted:
        refuse_strange(given)
    whole = given.model_dump() | kept
    if record["status"] != "run":
        if record["metrics"] or record["counts"] or record.get("reason") != NO_SOURCE:
            raise ValueError("a record of clinical notes that was not run holds the one known reason, and no number")
        return {"metrics": {}, "counts": {}, "params": whole}
    counts = _of_training(record | {"params": whole}, inputs) if measurement == "train" else record["counts"]
    parts = {"metrics": record["metrics"], "counts": counts}
    seconds = {"seconds": round(record["seconds"], -1)} if restricted and "seconds" in record else {}
    return _check(SCHEMA[measurement], parts, context, measurement) | {"params": whole} | seconds


def _names(profile: str) -> set[str]:
    """Return the names that the records of a profile may hold: of its runs, and ``_listed``."""
    return _listed() | set(settings.profile(profile).runs)


def _listed() -> set[str]:
    """Return the models' names, and the texts of clinical manifests."""
    files = [*(paths.MANIFESTS / "clinical").glob("*.yaml"), paths.MODELS]
    *manifests, models = map(mappings.read, files)
    return {*_texts(manifests), *models, "bm25"}


def _files() -> set[str]:
    """Return the names of the files that a record of clinical notes may depend on."""
    return {"temporal.parquet", "passages.parquet", "notes.all.json"} | {
        file.name for file in (paths.MANIFESTS / "clinical").rglob("*") if file.is_file()
    }


def _frequent(file: Path) -> set[str]:
    """Return the codes that at least ``FEW`` patients have."""
    patients = pl.scan_parquet(file).group_by("code").agg(pl.col("subject_id").n_unique())
    return set(patients.filter(pl.col("subject_id") >= FEW).collect()["code"])


def _of_training(record: Mapping[str, Any], inputs: Sequence[Path | str]) -> dict[str, Any]:
    """Return the counts of a training, those of its pairs made of their patients, whom the file of pairs names."""
    found, p = dict(record["counts"]), record["params"]
    pairs = pl.read_parquet(next(Path(file) for file in inputs if Path(file).name == "temporal.parquet"))
    for name, split in (("pairs", "train"), ("dev_queries", "dev")):
        owners, n = pairs.filter(split=split)["group"].to_numpy(), found.get(name, 0)
        if type(n) is not int or not 0 <= n <= len(owners):
            raise ValueError(f"{name}: a training on notes has no more than 01_notes made; run 02_train again")
        found[name] = Count(owners[:n])
    most = p["epochs"] * -(-int(found["pairs"]) // p["batch_size"])
    if any(type(found.get(name, 0)) is not int or found.get(name, 0) > most for name in ("steps", "best_step")):
        raise ValueError("steps: a training on notes has no more than its pairs and epochs give; run 02_train again")
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _texts(inner)


def _check(model: type[BaseModel], value: Mapping[str, Any], context: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        return model.model_validate(value, context=dict(context)).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        known = [str(step) for step in first["loc"] if step in _fields(Closed)]  # a key may be what must not leave
        raise ValueError(
            f"{what}: what stands at {'.'.join(known) or 'its top'} may not leave ({first['type']}); "
            "the schema of cardioembed_study/clinical.py names what may"
        ) from None


def _fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields).union(*map(_fields, model.__subclasses__()))


def _counted(value: Any, info: ValidationInfo) -> int | str:
    if not isinstance(value, Count):
        raise ValueError("no count of patients")
    return value.shown if info.context["restricted"] else int(value)


def _number(value: float, info: ValidationInfo) -> float:
    digits = DIGITS - (abs(value) > 3) - (abs(value) > 10)
    return round(value, digits) + 0.0 if info.context["restricted"] else value


def _code(value: str, info: ValidationInfo) -> str:
    if value.replace(".", "") not in info.context.get("codes", [value.replace(".", "")]):
        raise ValueError("no diagnosis that enough patients have")
    return value


def _told(value: float, info: ValidationInfo) -> float | None:
    """Return a number that is no score; none of a restricted source: chance, ceilings and sizes are functions of counts."""
    return None if info.context["restricted"] else value


def _enough(block: Any) -> Any:
    """Refuse the scores of too few patients."""
    if block.patients == HIDDEN:
        raise ValueError("of too few patients")
    return block


def _without_few(rows: Any, info: ValidationInfo) -> Any:
    """Return rows by code without those of too few patients, where counts are hidden."""
    if not info.context["restricted"] or not isinstance(rows, Mapping):
        return rows
    counts = {code: row.get("patients") if isinstance(row, Mapping) else None for code, row in rows.items()}
    return {code: row for code, row in rows.items() if getattr(counts[code], "shown", "") != HIDDEN}


def _name(value: str, info: ValidationInfo) -> str:
    if info.context["names"] is not None and value not in info.context["names"]:
        raise ValueError("no name of the profile")
    return value


Counted = Annotated[Any, PlainValidator(_counted)]
Share = Annotated[float, Field(ge=0, le=1), AfterValidator(_number)]
Change = Annotated[float, Field(ge=-3, le=3), AfterValidator(_number)]  # an interval reaches beyond its difference
Loss = Annotated[float, Field(ge=-1, le=100), AfterValidator(_number)]
Few = Annotated[int, Field(ge=0, le=200)]  # codes, classes
Steps = Annotated[int, Field(ge=0, le=10**7)]
Told = Annotated[float, AfterValidator(_told)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_name)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_name)]
Code = Annotated[str, Field(pattern=r"^(\d{3}|V\d\d|E\d{3})(\.\d{1,2})?$"), AfterValidator(_code)]
Weight = Annotated[str, Field(pattern=r"^[01]\.\d{1,2}$")]
Group = Literal["seen", "unseen"]


class Closed(BaseModel):
    """A mapping with these keys and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _closed(title: str, base: type[BaseModel] = Closed, /, **fields: Any) -> type[BaseModel]:
    """Return a model; a field may be left out where its type says so."""
    return create_model(title, __base__=base, **{k: v if isinstance(v, tuple) else (v, ...) for k, v in fields.items()})


def _all(names: Sequence[str], kind: Any, optional: bool = False) -> dict[str, Any]:
    return dict.fromkeys(names, (kind | None, None) if optional else kind)


Interval = _closed("Interval", low=Change, high=Change)
Difference = _closed("Difference", Interval, difference=Change, on=(Share | None, None), off=(Share | None, None))
Form = _closed(
    "Form",
    **_all([f"recall_at_{k}{end}" for k in KS for end in ("", "_low", "_high")], Share),
    **_all([f"random_at_{k}" for k in KS], Told),
    **_all([f"ceiling_at_{k}" for k in KS], Told, optional=True),
)
Recall = _closed(
    "Recall",
    **_all(("published", "corrected", "other_patients"), Form),
    **_all(("effective_k", "same_patient_before"), Told),
    same_patient_candidates=Told,
)
Macro = _closed("Macro", Interval, macro=Share, notes=Counted, patients=Counted)


class Codes(Macro):
    """AUROC of one split; a code of too few patients is left out, its name as well."""

    class Row(Closed):
        """One code."""

        auroc: Share
        notes: Counted
        patients: Counted

    per_code: Annotated[dict[Code, Row], BeforeValidator(_without_few)]
    dropped: Counted
    scored: Counted
    skipped: Few
    unseen: Annotated[_closed("Unseen", Macro, codes=Few), AfterValidator(_enough)] | None = None


Silhouette = _closed("Silhouette", Interval, silhouette=Change)
Labels = _closed("Labels", Silhouette, n=Counted, classes=Annotated[int, AfterValidator(_told)])
MEASURES = [f"{form}_at_10_{group}" for form in ("corrected", "other_patients") for group in ("seen", "unseen")]
LossName = Literal["infonce", "matryoshka", "triplet", "soft_chapter", "himulcon"]
Losses = dict[LossName, _closed("Measures", **_all([*MEASURES, "auroc_unseen"], Difference, optional=True))]
PATIENTS = _closed("Patients", **_all(("queries", "candidates", "patients"), Counted))
TABLES = (
    *("notes_read", "dropped_error", "dropped_short", "notes", "without_admission", "without_time"),
    *("patients_with_notes", "admissions_with_notes", "pairs_across", "pairs_within", "patients", "admissions"),
    *("diagnoses", "dropped_codes", "orphan_patients", "orphan_admissions", "orphan_codes"),
)
SCHEMA = {
    "notes": _closed(
        "Notes",
        metrics=_closed("NoMetrics"),
        counts=_closed(
            "NotesCounts",
            tables=_closed("Tables", **_all(TABLES, Counted)),
            splits=dict[
                Literal["train", "dev", "test"],
                _closed("Split", **_all(("patients", "admissions", "notes", "pairs"), Counted)),
            ],
            categories=dict[Literal[(*CATEGORIES, "other")], Counted],
        ),
    ),
    "train": _closed(
        "Train",
        metrics=_closed(
            "TrainMetrics",
            **_all(("dev_mrr_base", "dev_mrr_best"), Share),
            dev_mrr_merged=dict[Weight, Share],
            dev_separation=Change,
            **_all(("loss_first", "loss_last", "loss_floor"), Loss),
            adapter_mebibytes=Told,
        ),
        counts=_closed(
            "TrainCounts",
            **_all(("pairs", "dev_queries"), Counted),
            **_all(("steps", "best_step"), Steps),
            trained_parameters=Annotated[int, AfterValidator(_told)],
        ),
    ),
    "mimic": _closed(
        "Mimic",
        metrics=_closed(
            "MimicMetrics",
            recall=dict[Group, Recall],
            auroc=(
                _closed("Splits", **_all(("rows", "patients"), Annotated[Codes, AfterValidator(_enough)])) | None,
                None,
            ),
            silhouette=(
                _closed("Silhouettes", **_all(("chapter", "category"), Labels), delta=Silhouette) | None,
                None,
            ),
        ),
        counts=dict[Group, Annotated[PATIENTS, AfterValidator(_enough)]],
    ),
    "effects": _closed(
        "Effects",
        metrics=_closed(
            "EffectsMetrics",
            query_in_pool=dict[Name, dict[Group, _closed("AtK", **_all([f"at_{k}" for k in KS], Difference))]],
            row_split=dict[Name, _closed("RowSplit", Interval, difference=Change, **_all(("rows", "patients"), Share))],
            one_hot_targets=Losses,
            other_loss=Losses,
        ),
        counts=_closed("EffectsCounts", **_all(("patients", "notes"), Counted), runs=dict[LossName, list[Name]]),
    ),
}
Named = _closed("Named", name=Name)
Facts = _closed("Facts", **_all(("title", "role", "licence", "revision", "source", "access"), Text | None))
Extras = _closed(
    "Extras",
    read=(dict[Name, Facts] | None, None),
    generated_notes=(bool | None, None),
    source=(Name | None, None),
    order=(list[Name] | None, None),
    precision_used=(Literal["float32", "bfloat16"] | None, None),
)
