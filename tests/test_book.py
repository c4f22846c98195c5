"""The book shows the committed evidence and nothing else; its examples run; its pages build for every profile."""

import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import tiny
import torch
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output
from safetensors.torch import load_file
from transformers import Qwen3Config

from cardioembed_lib import lora
from cardioembed_lib import models as lib_models
from cardioembed_study import paths, settings, show
from cardioembed_study.claims import checks, ledger, verdicts
from cardioembed_study.claims import page as claims_page
from cardioembed_study.corpus import manifests
from cardioembed_study.forgetting import tables as forgetting_tables
from cardioembed_study.medembed import tables as medembed_tables
from cardioembed_study.notes import tables as note_tables
from cardioembed_study.report import advice, front_page, published
from cardioembed_study.retrieval import look
from cardioembed_study.retrieval import tables as retrieval_tables
from cardioembed_study.training import tables as training_tables
from cardioembed_study.workflow import publish

BOOK = paths.BOOK
PAGES = sorted(BOOK.glob("*.md"))
CARDS = sorted(paths.ADAPTERS.glob("*/README.md"))
GLUED = re.compile(r"\{glue:text\}`executed/06_report\.ipynb::([\w]+):([^`]+)`")
TOKENS = re.compile(r"\b(?:TIME|LOG)_[A-Z]+\b")
ENDED = [folder.name for folder in sorted((BOOK / "results").glob("*"))]
PROFILES = [
    name for name in ENDED if settings.profile(name).until == "06_report"
]  # others are read by 06, whatever its profile
FEWEST = ("definition_cardiology", "definition_heldout")  # the tasks that every profile has
WITH_NUMBERS = (
    "index",
    "results",
    "look",
    "specialty",
    "forgetting",
    "opposites",
    "notes",
    "training",
    "data",
    "provenance",
)


@pytest.fixture(scope="module")
def evidence():
    """Return the profile whose evidence is committed."""
    if not PROFILES:
        pytest.skip("no evidence in book/results yet; `make publish PROFILE=open` puts it there")
    assert len(PROFILES) == 1, f"the book shows one profile; book/results holds {', '.join(PROFILES)}"
    return PROFILES[0]


def fewest_numbers():
    """Return the numbers that 06_report glues for a profile with the fewest tasks; made up."""
    change = ("base_mrr", "tuned_mrr", "difference", "low", "high", "p", "p_holm", "worst_seed", "best_seed")
    models = ("random", "tfidf", "bm25", "base")
    counts = {task: {"queries": 12, "candidates": 1234} for task in FEWEST}
    comparison = {
        "status": "run",
        "params": {"profile": "fewest", "base": "base", "runs": ["a", "b"]},
        "counts": dict.fromkeys(FEWEST, 12),
        "metrics": {task: dict.fromkeys(change, 0.125) for task in FEWEST},
    }
    lost = {"difference": -0.125, "low": -0.25, "high": 0.0}
    forgetting = {
        "status": "run",
        "metrics": {"CorpusDefinitions": lost},
        "params": {"runs": ["a"]},
        "counts": {"CorpusDefinitions": {"queries": 12}},
    }
    right = {"all": {"accuracy": 0.25}}
    probe = {"metrics": {"probe": right, "choice": right}, "counts": {"all": 300}}
    similarity = dict.fromkeys(("tfidf", "base", "a", "b"), probe)
    retrieval = {model: {"counts": counts, "metrics": {task: {"mrr": 0.25} for task in FEWEST}} for model in models}
    results = {"retrieval": retrieval, "comparison": {"kept": comparison}, "forgetting": {"kept": forgetting}}
    claims = ledger.load()
    return (
        retrieval_tables.numbers(
            {"counts": dict.fromkeys(("passages", "leaks_removed", "exact_duplicates", "near_duplicates"), 5)},
            retrieval,
            comparison,
            similarity,
            {"kept": ["a", "b"]},
        )
        | medembed_tables.numbers({})
        | forgetting_tables.numbers({"kept": ["a", "b"]}, {"kept": (forgetting, comparison)}, {})
        | note_tables.numbers({}, {}, {"status": "not run"}, {}, "base")
        | front_page.answer(results, {}, "base")
        | published.numbers(claims)
        | training_tables.numbers({})
        | advice.numbers({}, FEWEST)
        | claims_page.numbers(verdicts.judge(claims, {}), checks.compute(claims))
    )


def prose(page):
    """Return a page without code, numbers from records, and inline code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`", "", text)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (BOOK / page).read_text(), re.M | re.S)


# ---- the pages


def test_every_page_of_the_table_of_contents_exists():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    chapters = [entry for part in toc["parts"] for entry in part["chapters"]]
    written = [entry["file"] for entry in chapters if not entry.get("file", "executed/").startswith("executed/")]
    assert [toc["root"], *written] == [p for p in [toc["root"], *written] if (BOOK / f"{p}.md").is_file()]
    shown = [
        entry.get("file", entry.get("glob")) for entry in chapters if entry.get("file", "executed/")[:9] == "executed/"
    ]
    wanted = [stem for stem in settings.NOTEBOOKS if stem != "01_queries"]  # shown by no profile of this book
    assert [Path(name).name.rstrip("*") for name in shown] == wanted
    included = {name for page in PAGES for name in re.findall(r"\{include\} ([\w-]+)\.md", page.read_text())}
    assert {page.stem for page in PAGES} == {toc["root"], *written, *included}, "a page that no reader finds"


def test_pages_quote_only_numbers_that_every_profile_has():
    known = fewest_numbers()
    asked = {(name, form) for page in PAGES for name, form in GLUED.findall(page.read_text())}
    assert asked and {name for name, _ in asked} <= set(known)
    for name, form in asked:
        format(known[name], form)  # raises where a text is asked as a number


def test_every_quotation_of_a_number_has_the_same_form():
    for page in PAGES:
        assert page.read_text().count("{glue:") == len(GLUED.findall(page.read_text())), page.name


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_pages_with_numbers_name_their_profile_first_and_type_no_result(name):
    text = (BOOK / f"{name}.md").read_text()
    first = GLUED.search(text)
    assert first[1] == "profile" and "{include} tables" not in text[: first.start()]
    assert not re.findall(
        r"(?<![\d.])[01]\.\d\d+(?![\d.])|\b\d+(?:\.\d+)? %", prose(BOOK / f"{name}.md").replace("95 %", "")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_promises_or_cheers(page):
    found = re.findall(
        r"coming soon|\bsimply\b|state[- ]of[- ]the[- ]art|!(?=\s)|[\U0001F300-\U0001FAFF]|—", prose(page), re.I
    )
    assert not found


@pytest.mark.parametrize("page", [*PAGES, paths.ROOT / "README.md"], ids=lambda page: page.stem)
def test_what_a_page_names_exists(page):
    text = page.read_text()
    for name in re.findall(r"\bcardioembed_(?:lib|study)(?:\.\w+)+", text):
        pkgutil.resolve_name(name)  # raises where there is no such module, or nothing of that name in it
    for name in re.findall(r"(?:tests|notebooks|profiles|cardioembed_\w+)/[\w./]+\.(?:py|ipynb|yaml)", text):
        assert (paths.ROOT / name).is_file() or name == "profiles/mine.yaml", f"{page.name} names {name}"


def test_data_page_has_every_licence_and_revision_of_the_manifests():
    text = (BOOK / "data.md").read_text()
    for name in manifests.names():
        source = manifests.load(name)
        row = next(
            line
            for line in text.splitlines()
            if line.startswith("|") and source.title.split(" medical")[0].removeprefix("A ") in line
        )
        assert source.licence.replace("-", " ", 1).replace("-4.0", " 4.0") in row, name
        assert (source.revision or "with this project")[:12] in row, name


def test_sizes_of_adapters_on_the_page_follow_from_the_configuration():
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    config = Qwen3Config(num_hidden_layers=36, hidden_size=4096, intermediate_size=12288, **heads)
    rows = re.findall(
        r"^\| (\d+) \| ([\w-]+) \| (float32|bfloat16) \| ([\d.]+) \|$", (BOOK / "differences.md").read_text(), re.M
    )
    assert len(rows) >= 5
    for rank, targets, form, wanted in rows:
        count = lora.count_from_config(config, int(rank), targets)
        assert f"{lora.mebibytes(count, getattr(torch, form)):.1f}" == wanted, (rank, targets, form)


# ---- the examples


def run_examples(code, folder):
    """Run a page's Python blocks as one program, in a folder with the adapters and a hub cache that holds the base."""
    entry = tiny.spec("all-MiniLM-L6-v2")
    files, _ = lib_models._source(entry)
    repository = folder / "home" / "hub" / f"models--{entry.hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    (repository / "refs" / "main").write_text(entry.revision)
    (repository / "snapshots" / entry.revision).symlink_to(files, target_is_directory=True)
    (folder / "adapters").symlink_to(paths.ADAPTERS, target_is_directory=True)
    (folder / "data_manifests").symlink_to(paths.MANIFESTS, target_is_directory=True)
    (folder / "page.py").write_text(code)
    hub = {"HF_HOME": str(folder / "home"), "HF_HUB_CACHE": str(folder / "home" / "hub"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "page.py"], cwd=folder, env=os.environ | hub, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_examples_of_use_run_as_they_stand(tmp_path):
    done = run_examples("\n".join(blocks("use.md", "python")), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout
    assert "(1, 384)" in said and "A stent holds" in said.split("(1, 384)")[-1]
    assert float(re.search(r"largest difference from ours: (\S+)", said)[1]) < 1e-5
    assert "64 pairs, 2 steps" in said
    made = load_file(tmp_path / "artifacts/by_hand/adapter/adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for tensor in made.values()), "a part of the adapter was not trained"


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_examples_of_a_card_run_and_folder_and_adapter_on_its_base_give_the_same_vectors(card, tmp_path):
    code = [*blocks(card, "python"), "print('apart:', abs(model.encode('heart') - base.encode('heart')).max())"]
    done = run_examples("\n".join(code), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    near, far = map(float, re.search(r"tensor\(\[\[(\S+), (\S+)\]\]\)", done.stdout).groups())
    assert near > far and "(1, 384)" in done.stdout
    assert float(re.search(r"apart: (\S+)", done.stdout)[1]) < 1e-5


@pytest.mark.slow
def test_example_of_differences_prints_what_the_page_says(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks("differences.md", "python"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "117.0 MiB in float32" in done.stdout, done.stderr[-2000:]


def test_manifest_and_profile_of_use_are_accepted(tmp_path, monkeypatch):
    manifest, *profiles = blocks("use.md", "yaml")
    text = manifest.replace("~/texts/my_textbook", str(tmp_path / "texts"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "heart.epub").touch()
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "my_textbook.yaml").write_text(text)
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path)
    assert manifests.documents(manifests.load("my_textbook")) == ["heart.epub"]
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    runs = {"mine": [f"kept-seed{seed}" for seed in (17, 18, 19)], "mined": ["hard"], "queries": ["queries"]}
    runs |= {"medembed": ["medembed-seed17"], "clinical": ["infonce", "soft_chapter"]}
    for (name, wanted), profile in zip(runs.items(), profiles, strict=True):
        (tmp_path / f"{name}.yaml").write_text(profile)
        assert list(settings.profile(name).runs) == wanted


def test_kernel_example_of_reproduce_is_a_profile(tmp_path, monkeypatch):
    (tmp_path / "gpu.yaml").write_text(blocks("reproduce.md", "yaml")[0])
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    assert settings.profile("gpu").kernel["02_train"] == "cardioembed-gpu"


# ---- the committed evidence


def test_every_notebook_of_the_profile_is_shown_and_no_other(evidence):
    profile = settings.profile(evidence)
    wanted = {name.removesuffix(".ipynb") for name in publish.notebooks(profile)}
    assert {file.stem for file in (BOOK / "executed").glob("*.ipynb")} == wanted


@pytest.fixture(scope="module")
def again(evidence, tmp_path_factory):
    """Return the folder and the names of 06_report, its cells run on the committed records; no history is committed."""
    folder = tmp_path_factory.mktemp("again")
    shutil.copytree(BOOK / "results" / evidence, folder / evidence / "results")
    (folder / evidence / "figures").mkdir()
    shutil.copy(BOOK / "figures" / "fig-notes-map.csv", folder / evidence / "figures")  # of 05_mimic; no record has it
    names = {"profile": evidence}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDIOEMBED_ARTIFACTS", str(folder))
        for cell in nbformat.read(paths.NOTEBOOKS / "06_report.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and cell.id not in ("parameters", "fig-training", "numbers"):
                exec(cell.source, names)
            elif cell.id == "numbers":
                names["known"] = {}
                exec(cell.source.replace("glue(name, value, display=False)", "known[name] = value"), names)
    return folder / evidence, names


@pytest.mark.slow
def test_tables_equal_those_made_anew_from_the_records(again):
    made = {file.name: file.read_bytes() for file in (again[0] / "tables").iterdir()}
    shown = {file.name: file.read_bytes() for file in (BOOK / "tables").iterdir()}
    assert made == {
        name: text for name, text in shown.items() if name != "look.html"
    }  # of 03_retrieval; no record has it


@pytest.mark.slow
def test_figures_draw_the_numbers_of_the_records(again):
    made = {file.name: file.read_bytes() for file in (again[0] / "figures").glob("*.csv")}
    assert len(made) > 15
    assert made == {name: (BOOK / "figures" / name).read_bytes() for name in made}


@pytest.mark.slow
def test_numbers_in_sentences_are_those_of_the_records(again):
    notebook = nbformat.read(BOOK / "executed" / "06_report.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    glued = {
        output.metadata["scrapbook"]["name"]: output.data["application/papermill.record/text/plain"]
        for output in outputs
        if "scrapbook" in output.get("metadata", {})
    }
    assert glued == {name: repr(value) for name, value in again[1]["known"].items()}


def test_readme_shows_the_headline_claims_and_their_profile(evidence):
    shown = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", (paths.ROOT / "README.md").read_text(), re.S)[1]
    table = (BOOK / "tables" / "claims-headline.md").read_text().removeprefix(show.HEAD)
    assert publish.for_readme(table).strip() in shown and f"`{evidence}`" in shown


def test_figures_come_with_the_numbers_drawn(evidence):
    for page in PAGES:
        for name in re.findall(r"\{figure\} figures/([\w-]+)\.svg", page.read_text()):
            assert (BOOK / "figures" / f"{name}.svg").is_file() and (BOOK / "figures" / f"{name}.csv").is_file()


def test_no_place_is_left_to_be_filled(evidence):
    for page in [*PAGES, paths.ROOT / "README.md"]:
        assert not TOKENS.findall(page.read_text()), f"{page.name}: measure and fill in"


def test_reproduction_log_names_a_commit_and_a_verdict(evidence):
    rows = re.findall(
        r"^\| [^|]+ \| (\d{4}-\d\d-\d\d) \| \w+ \| ([0-9a-f]{7,40}) \| [^|]+ \| [^|]+ \|$",
        (BOOK / "reproduce.md").read_text(),
        re.M,
    )
    assert rows, "reproduce.md ends with a log: who, date, profile, commit, machine, verdict"


# ---- the build


def build(folder):
    """Build a copy of the book as CI does; return what it said."""
    done = subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "build", str(folder), "-W", "-n", "--keep-going"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    warnings = "\n".join(line for line in said.splitlines() if re.search("WARNING|ERROR", line))
    assert done.returncode == 0, warnings or said[-3000:]
    return folder / "_build" / "html"


def pages_alone(folder):
    """Lay out the pages without evidence."""
    folder.mkdir()
    for file in [*PAGES, BOOK / "_toc.yml", BOOK / "references.bib", paths.ROOT / "_config.yml"]:
        shutil.copy(file, folder / file.name)
    shutil.copytree(BOOK / "_static", folder / "_static")
    return folder


@pytest.mark.slow
def test_pages_build_for_a_profile_with_the_fewest_tasks(tmp_path, monkeypatch):
    folder = pages_alone(tmp_path / "book")
    text = "\n".join(page.read_text() for page in PAGES)
    for room in ("tables", "figures", "executed/domain", "executed/medembed"):
        (folder / room).mkdir(parents=True)
    for name in re.findall(r"\{include\} tables/([\w-]+)\.md", text):
        (folder / "tables" / f"{name}.md").write_text(f"{show.HEAD}{show.table([{'model': 'a', 'MRR': 0.5}]).data}\n")
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    claims = ledger.load()
    claims_page.write("fewest", claims, verdicts.judge(claims, {}), checks.compute(claims))
    found = {"rank": 1, "places": [{"text": "yes", "right": True}]}
    look.write("fewest", [{"query": "Where?", "right": "yes", "candidates": 1, "models": {"base": found}}])
    shutil.copytree(tmp_path / "fewest" / "tables", folder / "tables", dirs_exist_ok=True)
    for name in re.findall(r"\{figure\} figures/([\w-]+)\.svg", text):
        (folder / "figures" / f"{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
        )
    prefix = "application/papermill.record/"
    glued = [
        new_output(
            "display_data", {f"{prefix}text/plain": repr(v)}, metadata={"scrapbook": {"name": k, "mime_prefix": prefix}}
        )
        for k, v in fewest_numbers().items()
    ]
    for stem in (
        "01_corpus",
        "01_notes",
        "02_train.a",
        "02_train.b",
        "03_retrieval",
        "domain/03_domain",
        "04_mteb",
        "medembed/04_medembed",
        "05_mimic",
        "06_report",
    ):
        source = nbformat.read(paths.NOTEBOOKS / f"{Path(stem).name.split('.')[0]}.ipynb", as_version=4)
        cells = [source.cells[0], new_code_cell("numbers", outputs=glued if stem == "06_report" else [])]
        nbformat.write(new_notebook(cells=cells, metadata=source.metadata), folder / "executed" / f"{stem}.ipynb")
    html = build(folder)
    first = (html / "index.html").read_text()
    assert "fewest" in first and "+0.125" in first and front_page.NONE in first
    assert "not met" in (html / "forgetting.html").read_text()
    results = (html / "results.html").read_text()
    assert "higher" in results and "nothing of this kind" not in results
    assert all((html / "executed" / f"02_train.{run}.html").exists() for run in "ab")


@pytest.mark.slow
def test_committed_book_builds_without_a_warning(evidence, tmp_path):
    folder = pages_alone(tmp_path / "book")
    for room in ("tables", "figures", "executed", "results"):
        shutil.copytree(BOOK / room, folder / room)
    html = build(folder)
    shown = re.sub(r"<[^>]+>", "", (html / "index.html").read_text())
    assert f"Profile: {evidence}" in " ".join(shown.split())
