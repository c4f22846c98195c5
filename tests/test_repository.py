"""The repository itself: layers, notebooks, profiles, and what may not stand in a committed file."""

import ast
import dataclasses
import re
import subprocess
import tomllib
from functools import cache
from graphlib import TopologicalSorter

import nbformat
import papermill
import pytest
import yaml

from cardioembed_lib import training
from cardioembed_study import paths, settings
from cardioembed_study.workflow import executed

ROOT = paths.ROOT
ROOMS = (  # each imports those before it only; where several stand together, none imports another
    ("cardioembed_lib",),
    ("cardioembed_study",),  # the ground: what several rooms use
    ("corpus",),
    ("training",),
    ("retrieval",),
    ("forgetting", "notes", "queries"),
    ("medembed",),
    ("claims",),
    ("report",),
    ("workflow",),
)
SOURCES = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
EVIDENCE = sorted((paths.BOOK / "executed").rglob("*.ipynb"))
TEXT = (
    "",
    ".py",
    ".md",
    ".yml",
    ".yaml",
    ".toml",
    ".ipynb",
    ".json",
    ".csv",
    ".svg",
    ".cff",
    ".lock",
    ".jsonl",
    ".html",
    ".js",
    ".css",
    ".j2",
    ".bib",
)
AS_STEM = {"ids": lambda path: path.stem}


@cache
def tracked():
    """Return every file of the repository that git has, or would take."""
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def found(pattern, *, suffixes=TEXT, but=()):
    """Return "file:line" of every match in the repository's texts."""
    wanted = re.compile(pattern)
    texts = [path for path in tracked() if path.suffix in suffixes and path.relative_to(ROOT).as_posix() not in but]
    lines = ((path, n, line) for path in texts for n, line in enumerate(path.read_text("utf-8").splitlines(), start=1))
    return [f"{path.relative_to(ROOT)}:{n}" for path, n, line in lines if wanted.search(line)]


def imported():
    """Return the modules that each module of the two packages imports, by their full names, without those it lies in."""
    graph = {}
    for package in executed.PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            own, inside = ".".join(p for p in parts if p != "__init__"), ".".join(parts[:-1])
            names = executed.imports(ast.parse(file.read_text(encoding="utf-8")), inside)
            graph[own] = {name for name in names if not f"{own}.".startswith(f"{name}.")}
    return graph


def room(module):
    """Return the room of a module: ``notes`` for ``cardioembed_study.notes.generator.stays``, a package for its ground."""
    parts = module.split(".")
    inner = len(parts) > 1 and ROOT.joinpath(*parts[:2]).is_dir()
    return parts[1] if inner else parts[0]


def test_imports_go_one_way_between_modules_and_between_rooms():
    graph = imported()
    assert len(graph) > 60
    list(TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle
    place = {name: n for n, names in enumerate(ROOMS) for name in names}
    assert {room(module) for module in graph} == set(place)
    uphill = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if room(module) != room(other) and place[room(other)] >= place[room(module)]
    ]
    assert uphill == []


def test_the_library_is_thin_and_knows_nothing_of_the_study():
    files = sorted((ROOT / "cardioembed_lib").rglob("*.py"))
    assert len(files) - 1 <= 15
    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) <= 3060
    graph = imported()
    assert not [
        f"{m}: {o}" for m, names in graph.items() for o in names if m.startswith("cardioembed_lib") and "study" in o
    ]
    text = "\n".join(file.read_text("utf-8") for file in files)
    assert not re.search(r"artifacts|profiles/|MIMIC-III's tables|NOTEEVENTS|ledger", text)


@pytest.mark.parametrize(
    "line",
    [
        "from cardioembed_study.notes import gone",
        "from cardioembed_study.paths import gone",
        "from cardioembed_lib import Compute",  # a word of its docstring
        "from cardioembed_lib.gone import thing",
        "import cardioembed_lib.gone as here",
        "from . import gone",
        "from .... import gone",
    ],
)
def test_an_import_that_leads_nowhere_is_an_error(line):
    with pytest.raises(ModuleNotFoundError, match=r"out of date|relative"):
        list(executed.imports(ast.parse(line)))


def test_imports_of_all_names_and_of_what_a_package_imports_are_followed():
    star, own = (
        list(executed.imports(ast.parse(line)))
        for line in ("from cardioembed_study.notes import *", "from cardioembed_study import cardioembed_lib")
    )
    assert star == ["cardioembed_study", "cardioembed_study.notes"] and own == ["cardioembed_study"]


@pytest.mark.parametrize("path", SOURCES, **AS_STEM)
def test_a_notebook_is_stripped_and_its_cells_are_named_by_words(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell.id) and not re.fullmatch(r"[0-9a-f]{8}", cell.id), (
            cell.id
        )
        assert set(cell.metadata) <= {"tags"}, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id


@pytest.mark.parametrize("path", SOURCES, **AS_STEM)
def test_a_notebook_only_calls_the_library(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        parameters = "parameters" in cell.metadata.get("tags", [])
        record = "records.write(" in cell.source
        assert parameters or record or len(cell.source.splitlines()) <= 15, cell.id
        tree = ast.parse(cell.source)
        banned = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try)
        assert not any(isinstance(node, banned) for node in ast.walk(tree)), cell.id
        assert not re.search(r"os\.environ|getenv|warnings\.|^\s*[%!]", cell.source, re.M), cell.id


@pytest.mark.parametrize("path", SOURCES, **AS_STEM)
def test_every_parameter_is_a_literal_with_type_and_comment(path):
    (cell,) = (c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", []))
    for line, node in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(node, ast.AnnAssign), line
        ast.literal_eval(node.value)
        assert re.search(r"  # \S", line), line
    assert set(settings.defaults(path.stem)) == set(settings.NOTEBOOKS[path.stem].model_fields)
    settings.check(path.stem, {})


@pytest.mark.parametrize("path", SOURCES, **AS_STEM)
def test_papermill_documents_every_parameter(path):
    shown = papermill.inspect_notebook(str(path))
    assert set(shown) == set(settings.NOTEBOOKS[path.stem].model_fields)
    assert all(entry["help"] and entry["inferred_type_name"] != "None" for entry in shown.values())


@pytest.mark.parametrize("path", SOURCES, **AS_STEM)
def test_a_notebook_checks_its_parameters_itself(path):
    assert f'settings.read("{path.stem}", globals())' in executed.code(nbformat.read(path, as_version=4))


def test_there_is_a_notebook_for_every_set_of_parameters():
    assert {path.stem for path in SOURCES} == set(settings.NOTEBOOKS)


@pytest.mark.parametrize(
    "grid", [{"fixed": {"seed": 1}}, {"vary": {"seed": 17}}, {"vary": {"seed": [17]}, "sead": 1}, [17]]
)
def test_a_grid_that_is_no_grid_is_refused(grid):
    with pytest.raises(ValueError, match=r"grid 'g' needs `vary`"):
        settings.cells({"g": grid})


@pytest.mark.parametrize("path", sorted(paths.PROFILES.glob("*.yaml")), **AS_STEM)
def test_every_profile_fits_its_notebooks(path):
    profile = settings.profile(path.stem)
    assert set(profile.notebooks["03_retrieval"].get("runs", [])) <= set(profile.runs)


@pytest.mark.parametrize("path", EVIDENCE, **AS_STEM)
def test_the_book_shows_this_very_source(path):
    source = paths.NOTEBOOKS / f"{path.name.split('.')[0]}.ipynb"
    shown = nbformat.read(path, as_version=4)
    assert executed.code(shown) == executed.code(nbformat.read(source, as_version=4)), f"{path.name}: run it again"
    assert executed.clean(nbformat.from_dict(shown)) == shown


def test_no_file_names_a_folder_of_a_machine():
    rooms = "|".join(["work", "farm", "root", "home/[a-z]+", "Users/[A-Za-z]+"])
    assert found(rf"(^|[^A-Za-z0-9_.*?:)\]])/({rooms})/", but=["tests/test_repository.py"]) == []


def test_no_file_names_a_package_registry():
    hosts = ["py" + "pi.org", "python" + "hosted", "registry.npm" + "js", "download.py" + "torch"]
    assert found("|".join(re.escape(host) for host in hosts)) == []


def test_no_remote_code_and_no_pickles():
    library = [path for path in tracked() if path.suffix in (".py", ".ipynb") and "tests" not in path.parts]
    text = "\n".join(path.read_text(encoding="utf-8") for path in library)
    assert not re.search(r"trust_remote_code\s*=\s*True|import pickle|torch\.load\(|allow_pickle\s*=\s*True", text)


def test_the_lock_holds_exact_versions_and_nothing_else():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = dict(line.split("==") for line in lines)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    assert not [name for name in locked if name.startswith(("nvidia", "triton", "cuda"))]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {re.match(r"[A-Za-z0-9-]+", name)[0] for name in direct} <= {
        name.lower().replace("_", "-") for name in locked
    }


def test_conda_users_get_the_same_versions():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict))
    assert "--requirement requirements.lock" in pip


def test_every_make_target_that_is_written_about_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    texts = [path for path in tracked() if path.suffix in (".md", ".yml", ".py") or path.name in ("run", "Makefile")]
    named = {name for path in texts for name in re.findall(r"[`$] ?make ([a-z]+)", path.read_text("utf-8"))}
    assert named <= targets
    assert {"book", "test", "verify", "publish", "bench", "help"} <= targets


def test_the_books_configuration_is_a_link_to_the_one_at_the_top():
    link = paths.BOOK / "_config.yml"
    assert link.is_symlink() and link.resolve() == ROOT / "_config.yml"
    assert yaml.safe_load(link.read_text())["execute"]["execute_notebooks"] == "off"


def test_a_misspelt_parameter_is_refused_before_anything_else_runs_and_later_variables_are_none():
    fresh = {"In": [""], "Out": {}, "_": "", "settings": settings, **settings.defaults("02_train")}
    p = settings.read("02_train", fresh | {"lora_rank": 8})
    assert p.lora_rank == 8
    with pytest.raises(ValueError, match=r"02_train has no parameter 'lora_rnak'; did you mean 'lora_rank'\?"):
        settings.read("02_train", fresh | {"lora_rnak": 8})
    assert settings.read("02_train", fresh | {"p": p, "seconds": 1.5, "names": []}) == settings.read("02_train", fresh)


def test_a_plan_has_the_notebooks_defaults_where_it_has_any():
    defaults = settings.defaults("02_train")
    own = {f.name: f.default for f in dataclasses.fields(training.Plan) if f.default is not dataclasses.MISSING}
    assert len(own) > 15
    assert own == {name: defaults[name] for name in own}
