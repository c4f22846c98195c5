"""The graph: what runs again, what is published; notebooks that write empty files stand for the real ones."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import toy_tree
from nbformat.v4 import new_code_cell, new_output

from cardioembed_study import paths
from cardioembed_study.workflow import publish

COMMITTED = paths.BOOK / "results" / "open"
EXECUTED = ["01_corpus", "01_notes", "02_train.a", "02_train.b", "03_retrieval", "04_mteb", "05_mimic", "06_report"]
OF_AN_ADAPTER = {  # records that its card is made of, and whose committed ones stand for them
    **{f"{kind}.a": f"{kind}.seed17" for kind in ("train", "retrieval", "mteb")},
    **{name: name for name in ("corpus.all", "comparison.tuned", "forgetting.tuned", "retrieval.all-MiniLM-L6-v2")},
}
RULE = re.compile(r"^(?:local)?rule (\w+):", re.M)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Return a project whose profile is finished, its files written by hand, which the library takes for its own."""
    folder = toy_tree.make(tmp_path, code=False)
    for name in ("NOTEBOOKS", "PROFILES", "BOOK", "ADAPTERS", "ROOT"):
        monkeypatch.setattr(paths, name, folder / getattr(paths, name).relative_to(paths.ROOT))
    monkeypatch.delenv("CARDIOEMBED_ARTIFACTS", raising=False)
    made = folder / "artifacts" / "toy"
    records = ["corpus.all", "train.a", "train.b", "comparison.tuned", "advice.tuned", "forgetting.tuned"]
    records += ["mteb.tiny", "mteb.a"]
    records += ["notes.all", "mimic.bm25", "mimic.tiny", "effects.all"]
    records += [f"{kind}.{model}" for kind in ("retrieval", "similarity") for model in ("tiny", "a", "b")]
    records += ["hybrid.tiny", "hybrid.tuned", *(f"retrieval.bm25+{model}" for model in ("tiny", "a", "b"))]
    files = {f"results/{name}.json": toy_tree.record(name) for name in records}
    files["results/notes.all.json"] = toy_tree.record("notes.all", toy_tree.NOT_RUN)
    files |= {
        f"runs/{run}/adapter/{name}": "{}" for run in "ab" for name in ("adapter_model.safetensors", "config.json")
    }
    empty = hashlib.sha256(b"{}").hexdigest()
    files |= {f"runs/{run}/adapter/SHA256SUMS": f"{empty}  adapter_model.safetensors\n" for run in "ab"}
    files |= {"tables/claims-headline.md": "<!-- made -->\n| a |", "figures/fig.svg": "<svg/>", "figures/fig.csv": "a"}
    for name, text in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "executed").mkdir()
    for name in EXECUTED:
        shown = toy_tree.notebook(name.split(".")[0])
        shown.cells.insert(1, new_code_cell('profile = "toy"', metadata={"tags": ["injected-parameters"]}))
        nbformat.write(shown, made / "executed" / f"{name}.ipynb")
    return folder


def name_an_adapter(folder):
    """Let the profile publish the adapter of run a, with the records of a committed one."""
    toy_tree.write_profile(folder, adapters={"tiny-a": "a"})
    for name, committed in OF_AN_ADAPTER.items():
        text = (COMMITTED / f"{committed}.json").read_text().replace('"seed17"', '"a"')
        (folder / "artifacts/toy/results" / f"{name}.json").write_text(toy_tree.record(name, text))


def listing(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_published_evidence_is_the_finished_profile_and_nothing_older(finished, capsys):
    old = ["book/executed/02_train.z.ipynb", "book/results/toy/x.json", "book/tables/t.md", "adapters/tiny-z/a.json"]
    kept = ["book/results/other/x.json"]
    name_an_adapter(finished)
    for name in [*old, *kept]:
        (finished / name).parent.mkdir(parents=True, exist_ok=True)
        (finished / name).write_text("")
    (finished / "artifacts/toy/executed/06_report.failed.ipynb").write_text("")
    assert publish.main(["evidence", "toy"]) == 0
    assert "wrote book/results/toy" in capsys.readouterr().out
    assert listing(finished / "book" / "executed") == {f"{name}.ipynb" for name in EXECUTED}
    assert len(listing(finished / "book" / "results" / "toy")) == 23
    assert not any((finished / name).exists() for name in old)
    assert all((finished / name).exists() for name in kept)
    readme = (finished / "README.md").read_text()
    assert "`toy`; " in readme and ":\n\n| a |\n<!-- /table -->\n\nWords." in readme and "old" not in readme
    rooms = {path.name for room in ("book", "adapters") for path in (finished / room).iterdir()}
    assert "tiny-a" in rooms and not any(name.endswith((".aside", ".old")) for name in rooms)
    assert listing(finished / "adapters") == {
        f"tiny-a/{n}" for n in ("README.md", "SHA256SUMS", "adapter_model.safetensors")
    }
    assert (finished / "adapters/tiny-a/README.md").read_text().count("adapters/tiny-a") == 3
    toy_tree.write_profile(finished)
    assert publish.main(["evidence", "toy"]) == 0 and (finished / "adapters/tiny-a").is_dir(), "it names none"


def test_the_adapter_of_a_book_that_is_not_published_lies_beside_its_pages_with_its_card(finished):
    name_an_adapter(finished)
    assert publish.main(["assemble", "toy"]) == 0
    folder = finished / "artifacts" / "toy" / "adapters" / "tiny-a"
    assert listing(folder) == {"README.md", "SHA256SUMS", "adapter_model.safetensors"}
    assert (folder / "README.md").read_text().count('"artifacts/toy/adapters/tiny-a"') == 3
    assert not any((finished / "adapters").iterdir())


def test_an_adapter_without_the_records_of_its_recipe_is_not_published(finished, capsys):
    name_an_adapter(finished)
    (finished / "artifacts/toy/results/retrieval.all-MiniLM-L6-v2.json").unlink()
    assert publish.main(["evidence", "toy"]) == 1
    said = capsys.readouterr().err
    assert (
        "retrieval.all-MiniLM-L6-v2.json is missing; run notebooks/03_retrieval.ipynb with this profile first" in said
    )
    assert not (finished / "book/results").exists() and not any((finished / "adapters").iterdir())


@pytest.mark.parametrize(
    "name", ["executed/02_train.b.ipynb", "results/retrieval.a.json", "runs/a/adapter/adapter_model.safetensors"]
)
def test_an_unfinished_profile_is_not_published(finished, capsys, name):
    toy_tree.write_profile(finished, adapters={"mine": "a"})
    (finished / "artifacts" / "toy" / name).unlink()
    assert publish.main(["evidence", "toy"]) == 1
    assert f"profile toy is not finished: {name}; run `make book PROFILE=toy`" in capsys.readouterr().err
    assert not (finished / "book" / "results").exists()


def test_a_profile_that_ends_early_publishes_its_records_and_last_notebook_beside_the_others(finished, capsys):
    assert publish.main(["evidence", "toy"]) == 0
    before = listing(finished / "book")
    toy_tree.write_profile(finished, until="03_domain")
    made = finished / "artifacts" / "toy"
    nbformat.write(toy_tree.notebook("03_domain"), made / "executed" / "03_domain.ipynb")
    for part in ("power", "matrix", "folds"):
        (made / "results" / f"domain.{part}.json").write_text(toy_tree.record(f"domain.{part}"))
    assert publish.main(["evidence", "toy"]) == 0
    assert listing(finished / "book" / "results" / "toy") == {
        *(f"domain.{part}.json" for part in ("power", "matrix", "folds")),
        *("corpus.all.json", "train.a.json", "train.b.json"),
    }
    assert listing(finished / "book") - before == {
        "executed/toy/03_domain.ipynb",
        *(f"results/toy/domain.{part}.json" for part in ("power", "matrix", "folds")),
    }
    toy_tree.write_profile(finished)
    assert publish.main(["evidence", "toy"]) == 0
    assert (finished / "book" / "executed" / "toy" / "03_domain.ipynb").exists()
    toy_tree.write_profile(finished, until="02_train")
    assert publish.main(["evidence", "toy"]) == 1
    assert "until is '02_train'; wanted the notebook that the profile ends with" in capsys.readouterr().err


def test_an_adapter_that_learnt_from_clinical_notes_is_not_published(finished, capsys):
    runs = {"02_train": {"a": {"pairs": ["temporal"]}, "b": {"seed": 18}}, "03_retrieval": {}, "04_mteb": {}}
    toy_tree.write_profile(finished, **runs, adapters={"tiny-a": "a"})
    assert publish.main(["evidence", "toy"]) == 1
    assert "adapters: run 'a' learnt from clinical notes, wanted none; 05_mimic measures it" in capsys.readouterr().err
    assert not any((finished / "adapters").iterdir())


def test_evidence_of_older_code_is_not_published_but_prose_may_change(finished, capsys):
    notebook = nbformat.read(finished / "notebooks" / "02_train.ipynb", as_version=4)
    notebook.cells[0].source += "\n\nOne more sentence."
    nbformat.write(notebook, finished / "notebooks" / "02_train.ipynb")
    assert publish.main(["evidence", "toy"]) == 0
    notebook.cells[-1].source += "\nprint(1)"
    nbformat.write(notebook, finished / "notebooks" / "02_train.ipynb")
    assert publish.main(["evidence", "toy"]) == 1
    assert "02_train.a.ipynb, 02_train.b.ipynb: executed from older code" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tables/claims-headline.md", "results/train.a.json"])
def test_a_folder_of_this_machine_is_not_published(finished, capsys, name):
    file, said = finished / "artifacts" / "toy" / name, {"base": str(finished / "models")}
    file.write_text(toy_tree.record("train.a", params=said))
    assert publish.main(["evidence", "toy"]) == 1
    assert f"artifacts/toy/{name}, line 1, names a folder of this machine" in capsys.readouterr().err
    assert not (finished / "book" / "results").exists() and not any((finished / "adapters").iterdir())


def test_an_adapter_that_is_not_what_was_trained_is_not_published(finished, capsys):
    name_an_adapter(finished)
    (finished / "artifacts" / "toy" / "runs" / "a" / "adapter" / "adapter_model.safetensors").write_text("[]")
    assert publish.main(["evidence", "toy"]) == 1
    assert "adapter/adapter_model.safetensors: sha256 is" in capsys.readouterr().err
    assert not any((finished / "adapters").iterdir())


@pytest.mark.parametrize("what", ["assemble", "evidence"])
def test_a_full_disk_leaves_what_was_published(finished, monkeypatch, capsys, what):
    assert publish.main([what, "toy"]) == 0
    before, copied = listing(finished), []

    def full(source, target):
        copied.append(target)
        if len(copied) == 12:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", full)
    assert publish.main([what, "toy"]) == 1 and "No space left on device" in capsys.readouterr().err
    assert {name for name in listing(finished) if ".aside/" not in name} == before


def test_a_kill_between_two_folders_leaves_the_old_or_the_new(finished, monkeypatch):
    assert publish.main(["evidence", "toy"]) == 0
    before, rename = listing(finished / "book"), Path.rename

    def killed(self, target):
        if self.name.endswith(".aside"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        publish.main(["evidence", "toy"])
    monkeypatch.setattr(Path, "rename", rename)
    (finished / "artifacts" / "toy" / "executed" / "06_report.ipynb").rename(finished / "away.ipynb")
    assert publish.main(["evidence", "toy"]) == 1  # and what it needs to go on is not lost by then
    (finished / "away.ipynb").rename(finished / "artifacts" / "toy" / "executed" / "06_report.ipynb")
    assert publish.main(["evidence", "toy"]) == 0 and listing(finished / "book") == before


def test_only_named_files_and_records_as_they_were_written_are_published(finished, capsys):
    made = finished / "artifacts" / "toy"
    name_an_adapter(finished)
    (finished / "book" / "index.md").write_text("# A book\n\nfigures/fig.svg tables/t.md\n")
    (made / "tables" / "t.md").write_text("**one**\n")
    strays = ["results/ids.json", "tables/ids.csv", "figures/note.png", "mteb/results/m/x/vectors.json", "notes.txt"]
    strays += ["tables/t.txt", "tables/t-2.csv", "tables/t.parquet", "figures/fig-1.svg", "figures/fig.png"]
    for stray in [*strays, "runs/a/adapter/examples.txt"]:
        (made / stray).parent.mkdir(parents=True, exist_ok=True)
        (made / stray).write_text("10006")
    (finished / "book" / "ids.csv").write_text("10006")
    assert publish.main(["assemble", "toy"]) == publish.main(["evidence", "toy"]) == 0
    for shown in (made / "book", finished / "book" / "executed", finished / "book" / "results", finished / "adapters"):
        assert not [name for name in listing(shown) if "10006" in (shown / name).read_text()]
    capsys.readouterr()
    changed = json.loads(toy_tree.RECORD) | {"metrics": {"mrr": 1.0}}
    unknown, other = toy_tree.record("notes.all"), toy_tree.record("retrieval.b")
    for name, text, message in (
        ("results/retrieval.a.json", json.dumps(changed), "retrieval.a.json has no digest"),
        ("results/retrieval.a.json", other, "retrieval.a.json was changed or renamed after it was written"),
        ("results/notes.all.json", unknown, "notes.all.json does not say how its notes may be used"),
    ):
        before = (made / name).read_text()
        (made / name).write_text(text)
        for what in ("assemble", "evidence"):
            assert publish.main([what, "toy"]) == 1 and message in capsys.readouterr().err
        (made / name).write_text(before)


@pytest.mark.parametrize("name", ["results/train.a.json", "figures/fig.svg", "executed/06_report.ipynb"])
def test_a_link_is_not_published(finished, capsys, name):
    (finished / "book" / "index.md").write_text("# A book\n\nfigures/fig.svg\n")
    file = finished / "artifacts" / "toy" / name
    file.rename(finished / "elsewhere")
    file.symlink_to(finished / "elsewhere")
    for what in ("assemble", "evidence"):
        assert publish.main([what, "toy"]) == 1
        assert f"artifacts/toy/{name} is a link to another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tags", "output"),
    [
        ([], new_output("display_data", {"text/markdown": "| 7 |"})),
        (["from-records"], new_output("stream", text="10006")),
        (["from-records"], new_output("display_data", {"text/markdown": "| 7 |", "image/png": "aGVyZQ=="})),
        (["from-records"], new_output("error", ename="KeyError", evalue="10006", traceback=["10006"])),
    ],
)
def test_a_notebook_on_notes_that_shows_more_than_tables_of_records_is_not_published(finished, capsys, tags, output):
    file = finished / "artifacts" / "toy" / "executed" / "05_mimic.ipynb"
    shown = nbformat.read(file, as_version=4)
    shown.cells[-1].metadata["tags"], shown.cells[-1].outputs = tags, [output]
    nbformat.write(shown, file)
    for what in ("assemble", "evidence"):
        assert publish.main([what, "toy"]) == 1
        assert "05_mimic.ipynb, cell 'step-1', shows what was not made of records" in capsys.readouterr().err


def test_a_run_left_over_from_an_earlier_profile_is_not_published(finished, capsys):
    (finished / "artifacts/toy/results/train.old.json").write_text(toy_tree.RECORD)
    assert publish.main(["evidence", "toy"]) == 1
    assert "has records of 'old', no run of profile toy; delete *.old.json" in capsys.readouterr().err


def rules(folder):
    """Return the rules that would run now."""
    return RULE.findall(toy_tree.snakemake(folder, "book", "-n").stdout)


@pytest.mark.slow
def test_the_graph_has_one_training_a_run_and_ends_in_the_book(tmp_path):
    folder = toy_tree.make(tmp_path / "a project")
    assert sorted(rules(folder)) == [
        "book",
        "corpus",
        "mimic",
        "mteb",
        "notes",
        "report",
        "retrieval",
        "train",
        "train",
    ]


@pytest.mark.slow
def test_only_what_depends_on_a_change_runs_again(tmp_path):
    folder = toy_tree.make(tmp_path / "a project")
    toy_tree.snakemake(folder, "book")
    assert listing(folder / "artifacts/toy/book/executed") == {f"{name}.ipynb" for name in EXECUTED}
    assert (folder / "artifacts/toy/book/_build/html/executed/02_train.a.html").exists()
    assert rules(folder) == []
    assert "Nothing to be done" in toy_tree.snakemake(folder, "book").stderr

    toy_tree.write_profile(folder, **{"02_train": {"a": {"lora_rank": 4}, "b": {"seed": 19}}})
    assert rules(folder) == ["train", "retrieval", "report", "book"]  # 04 does not measure run b
    toy_tree.write_profile(folder)
    assert rules(folder) == []

    chain = ["book", "corpus", "mimic", "mteb", "notes", "report", "retrieval", "train", "train"]
    for file, spared in [
        ("book/index.md", chain[1:]),
        ("notebooks/06_report.ipynb", ["corpus", "mimic", "mteb", "notes", "retrieval", "train", "train"]),
        ("notebooks/04_mteb.ipynb", ["corpus", "mimic", "notes", "retrieval", "train", "train"]),
        ("cardioembed_study/retrieval/probe.py", ["corpus", "mimic", "notes", "retrieval", "train", "train"]),
        ("cardioembed_lib/losses.py", ["corpus", "mimic", "notes"]),
        ("data_manifests/primer/04_heart_failure.md", ["mimic", "notes"]),
        ("data_manifests/clinical/notes/styles.yaml", ["corpus", "mteb", "retrieval", "train", "train"]),
    ]:
        then = (folder / file).stat().st_mtime
        (folder / file).touch()
        assert sorted([*rules(folder), *spared]) == chain, file
        os.utime(folder / file, (then, then))
    assert rules(folder) == []


@pytest.mark.slow
def test_a_failing_notebook_stops_the_graph_and_leaves_no_record(tmp_path):
    folder = toy_tree.make(tmp_path)
    toy_tree.write_notebook(folder, "02_train", toy_tree.WRITE.replace("{files}", toy_tree.FILES["02_train"]), "1 / 0")
    with pytest.raises(RuntimeError, match=r"02_train.ipynb failed: cell 'step-2': ZeroDivisionError"):
        toy_tree.snakemake(folder)
    made = listing(folder / "artifacts" / "toy")
    assert {"results/corpus.all.json", "executed/01_corpus.ipynb"} <= made
    assert not any(name.startswith("results/train.") for name in made)
    assert "runs/a/adapter/adapter_model.safetensors" in made or "runs/b/adapter/adapter_model.safetensors" in made


@pytest.mark.slow
def test_the_embedded_profile_runs_from_end_to_end():
    """What `make book` does, in its place: four minutes on two quiet cores, or seconds where that has been done."""

    def graph(*words):
        options = ["--cores", "all", "--nolock", "--max-checksum-file-size", "0", "--config", "profile=embedded"]
        return toy_tree.call(toy_tree.ROOT, "snakemake", *words, *options, seconds=3600)

    first = graph("book", "--rerun-incomplete")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    made = toy_tree.ROOT / "artifacts" / "embedded"
    assert (made / "book/_build/html/index.html").exists()
    assert not [name for name in listing(made) if "failed" in name or "partial" in name]
    again = graph("book", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    indexed = graph("index", "--forcerun", "embed")
    assert indexed.returncode == 0, indexed.stdout[-3000:] + indexed.stderr[-3000:]
    assert (made / "index/base/index.faiss").exists()
