"""Which parameters does a notebook take, which values are allowed, and what does a profile set?

The defaults stand in the notebooks themselves (their cell tagged ``parameters``), the types and ranges here.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import nbformat
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cardioembed_lib import files
from cardioembed_study import mappings, paths

CELLS = 1000  # of a profile's grids
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"  # of folders and files too: no "..", no "." at the end
NAMED = "letters, digits, '_', '-' and single '.' between them, at most 100 characters"
OTHER_PAIRS = (
    "01_corpus counts the pairs of each kind and split. A book without a glossary has no definition to ask: name another kind "
    "first in 'pairs' of 02_train, such as heading"
)
SPLITS = "shares of train, dev and test, each above 0 and together 1"


def _like(pattern: str, wanted: str, most: int = 100) -> AfterValidator:
    """Return the check that a text is of a form, which the message puts into words."""

    def check(text: str) -> str:
        if len(text) > most or not re.fullmatch(pattern, text):
            raise ValueError(f"wanted {wanted}")
        return text

    return AfterValidator(check)


def _lies_in(room: str) -> AfterValidator:
    """Return the check that a manifest lies in no other room than this; one that is nowhere is not yet written."""

    def check(name: str) -> str:
        rooms = [r for r in ("sources", "benchmarks", "clinical") if (paths.MANIFESTS / r / f"{name}.yaml").exists()]
        if rooms and room not in rooms:
            raise ValueError(f"it is a manifest of data_manifests/{rooms[0]}, wanted one of data_manifests/{room}")
        return name

    return AfterValidator(check)


def _each_once(values: list) -> list:
    if repeated := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ValueError(f"{repeated[0]!r} stands twice, wanted each once")
    return values


def _whole(shares: list[float]) -> list[float]:
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"wanted {SPLITS}")
    return shares


class Mining(NamedTuple):
    """How hard negatives are mined: the parameters of sentence-transformers' ``mine_hard_negatives``, in its meaning."""

    by: str  # bm25 or dense
    range_min: int = 0  # so many of the nearest wrong texts that fit the margins are passed over
    range_max: int | None = None  # the ranks end here; None: they do not
    num_negatives: int = 1  # of each pair
    absolute_margin: float | None = None  # by which a negative is less similar than the positive
    relative_margin: float | None = None  # the same, as a share of the positive's similarity
    sampling_strategy: str = "top"  # the nearest of the window, or random: drawn from it by the seed
    base: str = "all-MiniLM-L6-v2"  # of dense, key in data_manifests/models.yaml


DETAILS = {  # of mining, as they are written: the field, its type, its least and greatest value
    "num": ("num_negatives", int, 1, 100),
    "margin": ("absolute_margin", float, 0, 1000),
    "relative_margin": ("relative_margin", float, 0, 1),
    "sampling": ("sampling_strategy", ("top", "random")),
    "base": ("base", str),
}


def mining(negatives: str) -> Mining | None:
    """Return how the parameter ``negatives`` of ``02_train`` wants them mined; ``None`` for ``none`` and ``random_distant``.

    ``bm25`` and ``dense`` may be followed by a window of ranks and details (``DETAILS``); what is not written is off. Alone they
    mean the nearest with ``relative_margin=0.05``, as sentence-transformers recommends; ``mined`` is ``bm25`` alone.

    Raises:
        ValueError: for anything else, with what is wanted.

    >>> mining("dense:10-50,num=4")[:4], mining("mined") == mining("bm25:relative_margin=0.05")
    (('dense', 10, 50, 4), True)
    """
    if negatives in ("none", "random_distant"):
        return None
    by, _, details = (negatives if negatives != "mined" else "bm25").partition(":")
    if by not in ("bm25", "dense"):
        raise ValueError(
            "wanted 'none', 'random_distant' or 'mined', or 'bm25' or 'dense', which may go on as in "
            "'dense:10-50,relative_margin=0.05,num=4'"
        )
    given: dict[str, Any] = {}
    for detail in (details or "relative_margin=0.05").split(","):
        if window := re.fullmatch(r"(\d{1,6})-(\d{1,6})", detail):
            found = {"range_min": int(window[1]), "range_max": int(window[2])}
        else:
            found = dict([_detail(*detail.partition("=")[::2])])
        if given.keys() & found.keys():
            raise ValueError(f"{detail!r:.100} says again what was said before it; wanted each once")
        given |= found
    wanted = Mining(by, **given)
    size = math.inf if wanted.range_max is None else wanted.range_max - wanted.range_min
    if size < wanted.num_negatives:
        raise ValueError(f"a window of {max(size, 0)} ranks cannot give {wanted.num_negatives}; wanted one as large")
    if wanted.sampling_strategy == "random" and wanted.range_max is None:
        raise ValueError("sampling=random wants a window to draw from, such as 10-50")
    return wanted


def _detail(name: str, text: str) -> tuple[str, Any]:
    """Return field and value of one detail of mining."""
    if name not in DETAILS:
        raise ValueError(f"{name!r:.100} is no detail of mining; {files.near_miss(name, DETAILS)}")
    field, kind, *ends = DETAILS[name]
    if not ends:
        allowed = text in kind if isinstance(kind, tuple) else re.fullmatch(NAME, text)
        value, words = text, NAMED if kind is str else " or ".join(kind)
    else:
        words = f"a {'whole ' * (kind is int)}number from {ends[0]} to {ends[1]}"
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        allowed = ends[0] <= value <= ends[1]
    if not allowed:
        raise ValueError(f"{name} is {text!r:.100}; wanted {words}")
    return field, value


def _minable(negatives: str) -> str:
    mining(negatives)
    return negatives


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Length = Annotated[int, Field(ge=8, le=131_072)]  # tokens
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what numpy and torch both take
Name = Annotated[str, _like(NAME, NAMED)]
NameOrNone = Annotated[str, _like(f"({NAME})?", NAMED)]
Variable = Annotated[
    str, _like("([A-Z][A-Z0-9_]*)?", "the name of an environment variable: capital letters, digits and '_'")
]
Few = [Field(max_length=1000), AfterValidator(_each_once)]
Names = Annotated[list[Name], *Few]
Sources = Annotated[list[Annotated[Name, _lies_in("sources")]], Field(min_length=1), *Few]
Benchmarks = Annotated[list[Annotated[Name, _lies_in("benchmarks")]], *Few]
Shares = Annotated[list[Fraction], Field(min_length=3, max_length=3), AfterValidator(_whole)]
PairKind = Literal[
    *("definition", "heading", "adjacent", "question", "temporal"),
    *("arm_all", "arm_without", "arm_swapped", "arm_cardiology", "arm_other", "arm_heading"),  # corpus.arms
    *("arm_fold1", "arm_fold2", "arm_fold3", "arm_fold4"),
    *("query", "paraphrase"),  # of 01_queries
]


class Parameters(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    profile: Name


class Corpus(Parameters):
    """Parameters of ``01_corpus``."""

    sources: Sources
    benchmarks: Benchmarks
    near_duplicate: Annotated[float, Field(ge=0.2, le=1)]  # below, texts of one subject are one, and LSH misses many
    cardiology_split: Shares
    other_split: Shares
    with_arms: bool
    seed: Seed


class Notes(Parameters):
    """Parameters of ``01_notes``."""

    source: Annotated[str, _like("[a-z0-9_]*", "small letters, digits and '_'"), _lies_in("clinical")]
    patients: Annotated[int, Field(ge=0, le=1_000_000)]
    split: Shares
    within_admission: bool
    notes_per_admission: Annotated[int, Field(ge=1, le=1000)]
    seed: Seed


class Queries(Parameters):
    """Parameters of ``01_queries``."""

    writer: Literal["rule", "service", "local"]
    service: Annotated[str, _like(r"(https?://\S+)?", "an address, http://… or https://…", 2000)]
    service_key: Variable
    model: Annotated[str, _like(r"[\w.:/~-]*", "letters, digits and '.', ':', '/', '~', '_', '-'", 500)]
    kinds: Annotated[list[Literal["keyword", "natural_language", "procedure", "paraphrase"]], Field(min_length=1), *Few]
    sentences: Annotated[int, Field(ge=1, le=100)]
    each: Annotated[int, Field(ge=1, le=20)]
    limit: Annotated[int, Field(ge=0, le=10**9)]
    cardiology_only: bool
    most_tokens: Annotated[int, Field(ge=16, le=65_536)]
    at_a_time: Annotated[int, Field(ge=1, le=64)]
    price_in: Annotated[float, Field(ge=0, le=10_000)]
    price_out: Annotated[float, Field(ge=0, le=10_000)]
    send_private: bool
    dry_run: bool
    seed: Seed

    @model_validator(mode="after")
    def _fit(self) -> Queries:
        """Refuse a writer without what it needs, or with what it would ignore."""
        wanted = {"service": self.writer == "service", "model": self.writer != "rule"}
        for name, needed in wanted.items():
            if bool(found := getattr(self, name)) != needed:
                raise ValueError(
                    f"writer {self.writer!r} wants {name} {'given' if needed else 'empty'}, found {found!r:.100}"
                )
        return self


class Train(Parameters):
    """Parameters of ``02_train``."""

    run: NameOrNone
    recipe: Name
    grid: NameOrNone
    base: Name
    pairs: Annotated[list[PairKind], Field(min_length=1), *Few]
    max_pairs_per_kind: Annotated[int, Field(ge=0, le=10**9)]
    data_share: Annotated[float, Field(ge=0.001, le=1)]
    negatives: Annotated[str, AfterValidator(_minable)]  # none, random_distant, or what ``mining`` reads
    tuning: Literal["lora", "full"]
    lora_rank: Annotated[int, Field(ge=1, le=1024)]
    lora_alpha: Annotated[float, Field(ge=0.001, le=100_000)]
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]
    lora_targets: Literal["all-linear", "attention", "qv"]
    base_bits: Literal[0, 4, 8]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    learning_rate: Annotated[float, Field(ge=1e-9, le=1)]
    warmup_fraction: Fraction
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6)]
    loss: Literal["infonce", "matryoshka", "triplet", "soft_chapter", "himulcon"]
    temperature: Annotated[float, Field(ge=0.001, le=10)]
    margin: Annotated[float, Field(ge=0.001, le=2)]
    symmetric: bool
    shared_negatives: bool
    mask_groups: bool
    one_of_group: bool
    keep_weight: Annotated[float, Field(ge=0, le=1e6)]
    keep_texts: Annotated[int, Field(ge=1, le=65_536)]
    keep_each: Count
    max_length: Length
    precision: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    token_budget: Annotated[int, Field(ge=64, le=2**24)]
    eval_every: Count
    patience: Annotated[int, Field(ge=0, le=1_000_000)]
    checkpoint_every: Count
    merge_weights: Annotated[list[Fraction], *Few]
    seed: Seed

    @model_validator(mode="after")
    def _fit(self) -> Train:
        """Refuse what would fail, or be ignored, only once texts and model are loaded."""
        loss, taken, bits = f"loss {self.loss!r}", self.negatives, self.base_bits
        labelled = self.loss in ("soft_chapter", "himulcon")
        for wrong, why in (
            ("temporal" in self.pairs and len(self.pairs) > 1, f"pairs is {self.pairs}; wanted 'temporal' by itself"),
            (self.loss == "triplet" and taken == "none", f"{loss} wants negatives other than 'none'"),
            (labelled and self.pairs != ["temporal"], f"{loss} wants pairs ['temporal'], found {self.pairs}"),
            (labelled and taken != "none", f"{loss} wants negatives 'none', found {taken!r}"),
            (self.tuning == "full" and bits, f"tuning 'full' wants base_bits 0, found {bits}; or choose tuning 'lora'"),
        ):
            if wrong:
                raise ValueError(why)
        return self


class Retrieval(Parameters):
    """Parameters of ``03_retrieval``."""

    base: Name
    runs: Names
    benchmarks: Benchmarks
    merge_weight: Fraction
    seed: Seed


class Domain(Parameters):
    """Parameters of ``03_domain``."""

    base: Name
    runs: Names
    benchmark: Annotated[Name, _lies_in("benchmarks")]
    questions: Count
    seed: Seed


class MedEmbed(Domain):
    """Parameters of ``04_medembed``."""


class Mteb(Parameters):
    """Parameters of ``04_mteb``."""

    base: Name
    runs: Names
    merge_weight: Fraction
    tasks: Annotated[list[Name], Field(min_length=1), *Few]
    largest: Annotated[int, Field(ge=0, le=10**9)]
    curves: Names
    seed: Seed


class Mimic(Parameters):
    """Parameters of ``05_mimic``."""

    base: Name
    textbook: NameOrNone
    runs: Names
    models: Names
    service: Annotated[str, _like(r"(https?://\S+)?", "an address, http://… or https://…", 2000)]
    service_model: Annotated[str, _like(r"[\w.-]*", "letters, digits, '.', '_' and '-'")]
    service_key: Variable
    max_length: Length
    codes: Annotated[int, Field(ge=1, le=20_000)]
    sampled: Annotated[int, Field(ge=10, le=1_000_000)]
    draws: Annotated[int, Field(ge=10, le=100_000)]
    seed: Seed

    @model_validator(mode="after")
    def _fit(self) -> Mimic:
        if bool(self.service) != bool(self.service_model):
            raise ValueError(
                f"service is {self.service!r}, service_model {self.service_model!r}; wanted both or neither"
            )
        return self

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
    "01_queries": Queries,
    "02_train": Train,
    "03_retrieval": Retrieval,
    "03_domain": Domain,
    "04_mteb": Mteb,
    "04_medembed": MedEmbed,
    "05_mimic": Mimic,
    "06_report": Report,
}


ENDS = {  # the notebooks of a profile, by the one that it ends with; 01_queries is run where a run needs it
    "03_domain": ("01_corpus", "02_train", "03_domain"),
    "04_medembed": ("01_corpus", "02_train", "04_medembed"),
    "06_report": tuple(stem for stem in NOTEBOOKS if stem not in ("01_queries", "03_domain", "04_medembed")),
}


class Profile(BaseModel):
    """One file of ``profiles/``: what each notebook's parameters are, where they differ from its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    kernel: dict[str, str]
    notebooks: dict[str, dict[str, Any]]
    runs: dict[str, dict[str, Any]]
    until: str = "06_report"  # the notebook that it ends with, a key of ENDS
    grid: tuple[str, ...] = ()  # those of the runs that are cells of a grid
    adapters: dict[str, str] = {}  # folders of adapters/ that the profile publishes, and whose adapter each holds


def on_notes(run: Mapping[str, Any]) -> bool:
    """Return whether a run of ``02_train`` with these parameters learns from clinical notes.

    >>> on_notes({"pairs": ["temporal"]}), on_notes({"lora_rank": 8})
    (True, False)
    """
    return "temporal" in run.get("pairs", [])


def on_queries(run: Mapping[str, Any]) -> set[str]:
    """Return which pairs of ``01_queries`` a run of ``02_train`` with these parameters learns from.

    >>> on_queries({"pairs": ["query", "definition"]}), on_queries({"lora_rank": 8})
    ({'query'}, set())
    """
    return {"query", "paraphrase"}.intersection(run.get("pairs", []))


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
        ValueError: for what is no YAML mapping, an unknown notebook, parameter, run or benchmark, a value of the wrong type or
            range, or too large a grid.
    """
    known = {path.stem: path for path in paths.PROFILES.glob("*.yaml")}
    if name not in known:
        raise FileNotFoundError(f"no profile {name!r}: {files.near_miss(name, known)}")
    content = mappings.read(known[name])
    try:
        return _profile(name, content)
    except ValueError as error:
        raise ValueError(f"{name}.yaml: {error}") from None


def _profile(name: str, content: dict[str, Any]) -> Profile:
    kernel, grids = content.pop("kernel", "python3"), _section("grids", content.pop("grids", None))
    if (until := content.pop("until", "06_report")) not in ENDS:
        raise ValueError(
            f"until is {until!r:.100}; wanted the notebook that the profile ends with, {' or '.join(ENDS)}"
        )
    adapters = _section("adapters", content.pop("adapters", None))
    for pair in adapters.items():
        if not all(isinstance(text, str) and re.fullmatch(NAME, text) for text in pair):
            raise ValueError(f"adapters: {': '.join(map(str, pair)):.100}; wanted folder and run, each of {NAMED}")
    kernels = {"default": kernel} if isinstance(kernel, str) else _section("kernel", kernel)
    for stem in map(str, [*content, *(kernels.keys() - {"default"})]):
        if stem not in NOTEBOOKS:
            raise ValueError(f"{stem!r} is no notebook; {files.near_miss(stem, NOTEBOOKS)}")
    if not all(isinstance(named, str) for named in kernels.values()):
        raise ValueError(f"kernel is {kernel!r:.100}; wanted the names of Jupyter kernels")
    own = {stem: defaults(stem) for stem in NOTEBOOKS}
    notebooks = {stem: {"profile": name, **_section(stem, content.get(stem), "profile")} for stem in NOTEBOOKS}
    del notebooks["02_train"]
    named, grid = _section("02_train", content.get("02_train")), cells(grids)
    if both := sorted(named.keys() & grid.keys()):
        raise ValueError(f"run {both[0]!r} is in 02_train and a cell of a grid; rename one")
    runs = {run: _section(f"02_train: {run}", given, "profile", "run", "grid") for run, given in named.items()}
    runs = {run: {"profile": name, "run": run, **given} for run, given in (runs | grid).items()}
    for given in runs.values():
        _validate("02_train", {**own["02_train"], **given})
    checked = {stem: _validate(stem, {**own[stem], **given}) for stem, given in notebooks.items()}
    wanted = [("adapters", run) for run in adapters.values()]
    for stem, p in checked.items():
        runs_of = [*getattr(p, "runs", []), *getattr(p, "curves", []), getattr(p, "textbook", "")]
        wanted += [(stem, run) for run in runs_of if run]
    for where, run in wanted:
        if run not in runs:
            raise ValueError(f"{where}: 02_train has no run {run!r}; {files.near_miss(run, runs)}")
        if where != "05_mimic" and on_notes(runs[run]):
            raise ValueError(f"{where}: run {run!r} learnt from clinical notes, wanted none; 05_mimic measures it")
    writes = {"paraphrase" if kind == "paraphrase" else "query" for kind in checked["01_queries"].kinds}
    for run, given in runs.items():
        if lacking := sorted(on_queries(given) - writes):
            raise ValueError(
                f"02_train: run {run!r} learns from {lacking[0]!r}, which 01_queries does not write; see its `kinds`"
            )
    made = checked["01_corpus"].benchmarks
    for asked in checked["03_retrieval"].benchmarks:
        if asked not in made:
            raise ValueError(f"03_retrieval: 01_corpus has no benchmark {asked!r}; {files.near_miss(asked, made)}")
    return Profile(
        name=name,
        kernel=kernels,
        notebooks=notebooks,
        runs=runs,
        until=until,
        grid=tuple(grid),
        adapters=adapters,
    )


def _section(where: str, given: Any, *taken: str) -> dict[str, Any]:
    """Return a part of a profile, empty where nothing stands; it may not set what the profile itself says."""
    if not isinstance(given, dict | None):
        raise ValueError(f"{where} is {given!r:.100}; wanted a mapping, lines of `name: value`")
    for parameter in taken:
        if parameter in (given or {}):
            raise ValueError(f"{where} sets {parameter!r}, which follows from where it stands; take it out")
    return given or {}


def cells(grids: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a run for each combination of what a grid varies, named by its values.

    Args:
        grids: by name, ``vary`` (parameter to list of values) and ``fixed`` (parameter to value).

    Raises:
        ValueError: if a grid has other fields, varies something that is not a list of different values, or they have more
            than ``CELLS`` cells.

    >>> cells({"g": {"vary": {"lora_rank": [8, 16], "seed": [1]}}})
    {'g-8-1': {'lora_rank': 8, 'seed': 1, 'grid': 'g'}, 'g-16-1': {'lora_rank': 16, 'seed': 1, 'grid': 'g'}}
    """
    found = {}
    for name, grid in grids.items():
        vary = grid.get("vary") if isinstance(grid, dict) else None
        lists = isinstance(vary, dict) and vary and all(isinstance(values, list) and values for values in vary.values())
        if not lists or set(grid) - {"vary", "fixed"}:
            raise ValueError(
                f"grid {name!r} needs `vary` (parameter: [values]) and may have `fixed`; found {grid!r:.100}"
            )
        if (n_cells := len(found) + math.prod(map(len, vary.values()))) > CELLS:
            raise ValueError(f"grid {name!r} makes it {n_cells:,} cells, wanted at most {CELLS:,}; vary less")
        for parameter, values in _section(f"grid {name}", vary, "profile", "run", "grid").items():
            try:
                _each_once(values)
            except ValueError as error:
                raise ValueError(f"grid {name!r} varies {parameter}: {error}") from None
        fixed = _section(f"grid {name}", grid.get("fixed"), "profile", "run", "grid")
        for values in itertools.product(*vary.values()):
            run = "-".join(map(str, (name, *values)))
            found[run] = {**fixed, **dict(zip(vary, values, strict=True)), "grid": name}
    return found


def _validate(stem: str, values: dict[str, Any]) -> Parameters:
    model = NOTEBOOKS[stem]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(stem, problem) for problem in error.errors()[:5])) from None


def _explain(stem: str, problem: Mapping[str, Any]) -> str:
    said = problem["msg"].removeprefix("Value error, ")
    said = f"{said[0].lower()}{said[1:]}"
    if not problem["loc"]:
        return f"{stem}: {said}"
    name, found = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"{stem} has no parameter {name!r}; {files.near_miss(name, NOTEBOOKS[stem].model_fields)}"
    if problem["type"] == "missing":
        return f"{stem} was not given {name!r}; it stands in the notebook's cell tagged 'parameters'"
    if problem["type"] == "list_type" and isinstance(found, str):
        said += f', to papermill as -y "{name}: [{re.sub("[^A-Za-z0-9._, -]", "", found[:100])}]"'
    if problem["type"] == "float_type" and re.fullmatch(r"\d+e-?\d{1,2}", str(found)):
        said += f"; YAML takes it for a word: write {found.replace('e', '.0e')}"
    shown = "not shown here" if name == "service_key" else f"{found!r:.100}"  # it may be the key itself
    return f"{stem}: {name} is {shown}; {said}"


def _assignments(source: str) -> list[tuple[str, ast.expr]]:
    """Return (name, value) of every assignment of a cell, annotated or not."""
    out = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            out.append((node.target.id, node.value))
        elif isinstance(node, ast.Assign):
            out.extend((target.id, node.value) for target in node.targets)
    return out
