"""Which parameters does a notebook take, which values are allowed, and what does a profile set?

The defaults stand in the notebooks themselves (their cell tagged ``parameters``), the types and ranges here.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import nbformat
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cardioembed_lib import files
from cardioembed_study import paths

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Shares = Annotated[list[Fraction], Field(min_length=3, max_length=3)]  # of documents in train, dev, test
PairKind = Literal["definition", "heading", "adjacent", "question", "temporal"]


class Parameters(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    profile: Name


class Corpus(Parameters):
    """Parameters of ``01_corpus``."""

    sources: Annotated[list[Name], Field(min_length=1)]
    benchmarks: list[Name]
    near_duplicate: Annotated[float, Field(gt=0, le=1)]
    cardiology_split: Shares
    other_split: Shares
    seed: int


class Notes(Parameters):
    """Parameters of ``01_notes``."""

    source: Annotated[str, Field(pattern=r"^[a-z0-9_]*$")]
    patients: Annotated[int, Field(ge=0)]
    split: Shares
    within_admission: bool
    notes_per_admission: Count
    seed: int


class Train(Parameters):
    """Parameters of ``02_train``."""

    run: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")]
    recipe: Name
    grid: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")]
    base: Name
    pairs: Annotated[list[PairKind], Field(min_length=1)]
    max_pairs_per_kind: Annotated[int, Field(ge=0)]
    data_share: Annotated[float, Field(gt=0, le=1)]
    negatives: Literal["none", "random_distant", "mined"]
    tuning: Literal["lora", "full"]
    lora_rank: Annotated[int, Field(ge=1, le=1024)]
    lora_alpha: Annotated[float, Field(gt=0)]
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]
    lora_targets: Literal["all-linear", "attention", "qv"]
    base_bits: Literal[0, 4, 8]
    batch_size: Annotated[int, Field(ge=2)]
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    warmup_fraction: Fraction
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(gt=0)]
    loss: Literal["infonce", "triplet", "soft_chapter", "himulcon"]
    temperature: Annotated[float, Field(gt=0, le=10)]
    margin: Annotated[float, Field(gt=0, le=2)]
    symmetric: bool
    shared_negatives: bool
    mask_groups: bool
    one_of_group: bool
    keep_weight: Annotated[float, Field(ge=0)]
    keep_texts: Count
    keep_each: Count
    max_length: Annotated[int, Field(ge=8)]
    precision: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    token_budget: Annotated[int, Field(ge=64)]
    eval_every: Count
    patience: Annotated[int, Field(ge=0)]
    checkpoint_every: Count
    merge_weights: list[Fraction]
    seed: int


class Retrieval(Parameters):
    """Parameters of ``03_retrieval``."""

    base: Name
    runs: list[Name]
    benchmarks: list[Name]
    merge_weight: Fraction
    seed: int


class Mteb(Parameters):
    """Parameters of ``04_mteb``."""

    base: Name
    runs: list[Name]
    merge_weight: Fraction
    tasks: Annotated[list[Name], Field(min_length=1)]
    largest: Annotated[int, Field(ge=0)]
    curve: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")]
    seed: int


class Mimic(Parameters):
    """Parameters of ``05_mimic``."""

    base: Name
    textbook: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")]
    runs: list[Name]
    models: list[Name]
    service: Annotated[str, Field(pattern=r"^(https?://\S+)?$")]
    service_model: Annotated[str, Field(pattern=r"^[\w.-]*$")]
    service_key: Annotated[str, Field(pattern=r"^\w*$")]
    max_length: Annotated[int, Field(ge=8)]
    codes: Count
    sampled: Annotated[int, Field(ge=10)]
    draws: Annotated[int, Field(ge=10)]
    seed: int

    @property
    def encoders(self) -> list[str]:
        """Return the encoders that all see the same notes: base, textbook run, runs on notes, other models, a service."""
        names = [self.base, self.textbook, *self.runs, *self.models, self.service_model if self.service else ""]
        return list(dict.fromkeys(name for name in names if name))


class Report(Parameters):
    """Parameters of ``06_report``."""


NOTEBOOKS: dict[str, type[Parameters]] = {
    "01_corpus": Corpus,
    "01_notes": Notes,
    "02_train": Train,
    "03_retrieval": Retrieval,
    "04_mteb": Mteb,
    "05_mimic": Mimic,
    "06_report": Report,
}


class Profile(BaseModel):
    """One file of ``profiles/``: what each notebook's parameters are, where they differ from its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    kernel: dict[str, str]
    notebooks: dict[str, dict[str, Any]]
    runs: dict[str, dict[str, Any]]
    grid: tuple[str, ...] = ()  # those of the runs that are cells of a grid


def defaults(stem: str) -> dict[str, Any]:
    """Return the defaults of a notebook, read from its cell tagged ``parameters``.

    Raises:
        KeyError: if there is no such notebook.
    """
    if stem not in NOTEBOOKS:
        raise KeyError(f"no notebook {stem!r}; {files.near_miss(stem, NOTEBOOKS)}")
    notebook = nbformat.read(paths.NOTEBOOKS / f"{stem}.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    return {target: ast.literal_eval(value) for target, value in _assignments(cell.source)}


def check(stem: str, given: Mapping[str, Any]) -> Parameters:
    """Return a notebook's full, checked parameters: its defaults, overridden by ``given``.

    Raises:
        ValueError: naming the notebook, the parameter, the value found and what is wanted; for an unknown parameter the
            nearest known one.
    """
    return _validate(stem, {**defaults(stem), **given})


def read(stem: str, namespace: Mapping[str, Any]) -> Parameters:
    """Return the parameters of the notebook that is running; called first in it, as ``settings.read("02_train", globals())``.

    papermill injects a misspelt parameter as one more variable and only warns; here it is an error.

    Args:
        stem: the notebook.
        namespace: its globals. At the first call a text, number or list that is no parameter is refused; at later ones, when
            the notebook has made variables of its own, only the parameters are looked at.

    Raises:
        ValueError: as for ``check``.
    """
    again = any(isinstance(value, Parameters) for value in namespace.values())
    own = {"In", "Out", *(name for name in namespace if name.startswith("_"))}  # of Python and IPython
    literal = {name for name, value in namespace.items() if isinstance(value, (bool, int, float, str, list, dict))}
    names = NOTEBOOKS[stem].model_fields.keys() | (set() if again else literal - own)
    return _validate(stem, {name: namespace[name] for name in names if name in namespace})


def profile(name: str) -> Profile:
    """Return a profile, every parameter of it checked against its notebook.

    Raises:
        FileNotFoundError: if ``profiles/<name>.yaml`` does not exist.
        ValueError: for an unknown notebook or parameter, or a value of the wrong type or range.
    """
    path = paths.PROFILES / f"{name}.yaml"
    if not path.exists():
        raise FileNotFoundError(
            f"no profile {name!r}: {files.near_miss(name, [p.stem for p in paths.PROFILES.glob('*.yaml')])}"
        )
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    kernel = content.pop("kernel", "python3")
    kernels = {"default": kernel} if isinstance(kernel, str) else kernel
    grids = content.pop("grids", None) or {}
    unknown = [stem for stem in content if stem not in NOTEBOOKS]
    if unknown:
        raise ValueError(f"{path.name}: {unknown[0]!r} is no notebook; {files.near_miss(unknown[0], NOTEBOOKS)}")
    runs, grid = content.pop("02_train", None) or {}, cells(path.name, grids)
    runs |= grid
    notebooks = {stem: {"profile": name, **(content.get(stem) or {})} for stem in NOTEBOOKS if stem != "02_train"}
    runs = {run: {"profile": name, "run": run, **(given or {})} for run, given in runs.items()}
    for stem, given in [*notebooks.items(), *(("02_train", given) for given in runs.values())]:
        try:
            check(stem, given)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
    return Profile(name=name, kernel=kernels, notebooks=notebooks, runs=runs, grid=tuple(grid))


def cells(file: str, grids: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a run for each combination of what a grid varies, named by its values.

    Args:
        file: the profile's name, for messages.
        grids: by name, ``vary`` (parameter to list of values) and ``fixed`` (parameter to value).

    Raises:
        ValueError: if a grid has other fields, or varies something that is not a list.

    >>> cells("p", {"g": {"vary": {"lora_rank": [8, 16], "seed": [1]}}})
    {'g-8-1': {'lora_rank': 8, 'seed': 1, 'grid': 'g'}, 'g-16-1': {'lora_rank': 16, 'seed': 1, 'grid': 'g'}}
    """
    found = {}
    for name, grid in grids.items():
        vary = grid.get("vary") if isinstance(grid, Mapping) else None
        if not vary or set(grid) - {"vary", "fixed"} or not all(isinstance(v, list) for v in vary.values()):
            raise ValueError(
                f"{file}: grid {name!r} needs `vary` (parameter: [values]) and may have `fixed`; found {grid}"
            )
        for values in itertools.product(*vary.values()):
            run = "-".join(map(str, (name, *values)))
            found[run] = {**(grid.get("fixed") or {}), **dict(zip(vary, values, strict=True)), "grid": name}
    return found


def _validate(stem: str, values: dict[str, Any]) -> Parameters:
    model = NOTEBOOKS[stem]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(stem, problem) for problem in error.errors())) from None


def _explain(stem: str, problem: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"{stem} has no parameter {name!r}; {files.near_miss(name, NOTEBOOKS[stem].model_fields)}"
    if problem["type"] == "missing":
        return f"{stem} was not given {name!r}; it stands in the notebook's cell tagged 'parameters'"
    return f"{stem}: {name} is {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _assignments(source: str) -> list[tuple[str, ast.expr]]:
    """Return (name, value) of every assignment of a cell, annotated or not."""
    out = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            out.append((node.target.id, node.value))
        elif isinstance(node, ast.Assign):
            out.extend((target.id, node.value) for target in node.targets)
    return out
