import contextlib
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import leaks
import nbformat
import psutil
import pytest
import toy_tree
from nbclient import NotebookClient

from cardioembed_lib import encoder, models
from cardioembed_study import paths, records
from cardioembed_study.workflow import executed, runner

TESTS = os.path.dirname(__file__)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with four short notebooks and one profile, which the library takes for its own."""
    for name in ("notebooks", "profiles"):
        (tmp_path / name).mkdir()
    for stem in toy_tree.FILES:
        toy_tree.write_notebook(tmp_path, stem)
    toy_tree.write_profile(tmp_path)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "PROFILES", tmp_path / "profiles")
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left():
    """Collect what a kernel that died has left: Python 3.11 logs it in the middle of a later ``ast.parse``, and fails there."""
    yield
    gc.collect()


def start(project, stem, *words):
    return runner.main([str(project / "notebooks" / f"{stem}.ipynb"), str(project / "out" / "x.ipynb"), *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "lora_rnak", "8"], "02_train has no parameter 'lora_rnak'; did you mean 'lora_rank'?"),
        (["-p", "lora_rank", "eight"], "lora_rank is 'eight'"),
        (["-p", "lora_rank", "0"], "lora_rank is 0"),
        (["-p", "pairs", "[definitions]"], "pairs is 'definitions'"),
        (["--profile", "toy", "--run", "c"], "profile toy has no run 'c'; known: a, b"),
        (["--profile", "toi"], "no profile 'toi': did you mean 'toy'?"),
        (["--kernel", "my-gpu"], "python -m ipykernel install --user --name my-gpu"),
        (["--kernel", "pyton3"], "no Jupyter kernel 'pyton3'; did you mean 'python3'?"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(project, capsys, words, message):
    assert start(project, "02_train", *words) == 1
    assert message in capsys.readouterr().err
    assert not (project / "out").exists()


@pytest.mark.slow
def test_a_profile_gives_parameters_and_the_command_line_overrides_them(project):
    assert start(project, "02_train", "--profile", "toy", "--run", "a", "-p", "learning_rate", "2e-3") == 0
    cells = nbformat.read(project / "out" / "x.ipynb", as_version=4).cells
    injected = next(cell for cell in cells if cell.id == "injected-parameters").source
    assert {'profile = "toy"', 'run = "a"', "lora_rank = 4", "learning_rate = 0.002"} <= set(injected.splitlines())
    assert (project / "artifacts" / "toy" / "results" / "train.a.json").exists()


@pytest.mark.slow
def test_a_profile_names_the_kernel_of_one_notebook(project, capsys):
    toy_tree.write_profile(project, kernel={"default": "python3", "02_train": "my-gpu"})
    assert start(project, "02_train", "--profile", "toy", "--run", "a") == 1
    assert "no Jupyter kernel 'my-gpu'" in capsys.readouterr().err
    assert start(project, "06_report", "--profile", "toy") == 0


@pytest.mark.slow
def test_two_runs_give_the_same_file_without_bars_times_or_addresses(project):
    slow = """import sys, time
for n in range(3):
    print(n, flush=True)
    time.sleep(0.05)
    print(n, file=sys.stderr)
object()"""
    toy_tree.write_notebook(project, "06_report", slow)
    made = []
    for _ in range(2):
        assert start(project, "06_report", "--profile", "toy") == 0
        made.append((project / "out" / "x.ipynb").read_bytes())
    assert made[0] == made[1]
    outputs = nbformat.reads(made[0].decode(), as_version=4).cells[-1].outputs
    assert [output.output_type for output in outputs] == ["stream", "execute_result"]
    assert (outputs[0].text, outputs[1].data["text/plain"]) == ("0\n1\n2\n", "<object>")
    assert b"papermill" not in made[0] and b"_time" not in made[0]


def test_a_failed_run_leaves_a_notebook_to_read_but_neither_output_nor_record(project, capsys):
    record = project / "artifacts" / "toy" / "results" / "r.json"
    write = "p = paths.artifacts(profile) / 'results' / 'r.json'\np.parent.mkdir(parents=True)\np.touch()"
    toy_tree.write_notebook(project, "06_report", write, "1 / 0")
    assert start(project, "06_report", "--profile", "toy", "--record", str(record)) == 1
    assert "06_report.ipynb failed: cell 'step-2': ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert [path.name for path in (project / "out").iterdir()] == ["x.failed.ipynb"]
    assert not record.exists()
    toy_tree.write_notebook(project, "06_report", write.replace("parents", "exist_ok"))
    assert start(project, "06_report", "--profile", "toy", "--record", str(record)) == 0
    assert [path.name for path in (project / "out").iterdir()] == ["x.ipynb"] and record.exists()


@pytest.mark.slow
def test_a_failed_run_keeps_the_earlier_output(project):
    assert start(project, "06_report", "--profile", "toy") == 0
    toy_tree.write_notebook(project, "06_report", "1 / 0")
    assert start(project, "06_report", "--profile", "toy") == 1
    assert sorted(path.name for path in (project / "out").iterdir()) == ["x.failed.ipynb", "x.ipynb"]


@pytest.mark.slow
def test_a_folder_of_this_machine_in_an_output_is_refused_by_cell(project, capsys):
    toy_tree.write_notebook(project, "06_report", "print(paths.ROOT.name)", "paths.ROOT / 'x'")
    assert start(project, "06_report", "--profile", "toy") == 1
    assert f"cell 'step-2' shows {paths.ROOT}, a folder of this machine" in capsys.readouterr().err
    assert not (project / "out" / "x.ipynb").exists()


@pytest.mark.slow
def test_a_kernel_that_dies_is_named_with_its_cell(project, capsys):
    toy_tree.write_notebook(project, "06_report", "import os", "os._exit(9)")
    assert start(project, "06_report", "--profile", "toy") == 1
    assert "failed: cell 'step-2': the kernel died" in capsys.readouterr().err


@pytest.mark.slow
def test_a_kernel_that_hangs_is_named_with_its_cell(project, capsys, monkeypatch):
    monkeypatch.setattr(runner, "OUTPUT_SECONDS", 1)
    hang = "get_ipython().kernel.iopub_thread.io_loop.add_callback(time.sleep, 60)"  # nothing it prints gets out
    toy_tree.write_notebook(project, "06_report", "import time", f"{hang}\nprint('a secret')")
    assert start(project, "06_report", "--profile", "toy") == 1
    said = capsys.readouterr().err
    assert "06_report.ipynb failed: cell 'step-2': the kernel hangs, or answers too late; run it again" in said
    assert "secret" not in said and [path.name for path in (project / "out").iterdir()] == ["x.failed.ipynb"]


@pytest.mark.slow
def test_a_terminated_run_leaves_nothing(project):
    toy_tree.write_notebook(project, "06_report", "import time", "print('asleep', flush=True)\ntime.sleep(600)")
    code = (
        "from pathlib import Path; from cardioembed_study import paths; from cardioembed_study.workflow import runner;"
        f"paths.NOTEBOOKS, paths.PROFILES = Path({str(project / 'notebooks')!r}), Path({str(project / 'profiles')!r});"
        f"runner.main([{str(project / 'notebooks' / '06_report.ipynb')!r}, {str(project / 'out' / 'x.ipynb')!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    while process.stdout.readline() != "asleep\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 143
    assert list((project / "out").iterdir()) == []


SAY_ALL = """import logging, os, subprocess, sys
sys.path.append({tests!r})
import leaks
from cardioembed_study import paths, records
room = paths.restricted(profile)
for kind, value in leaks.leaks():
    print(value)
    print(f"{value}: 50%|", file=sys.stderr)
    display(value)
    os.write(2, str(value).encode())
    logging.getLogger("tornado.application").error(value)
subprocess.run([sys.executable, "-c", "import leaks; print(leaks.leaks())"], env=os.environ | {"PYTHONPATH": {tests!r}})
leaks.leaks()"""
READ = "from IPython.display import Markdown\nMarkdown('from records')"
OPEN = "from cardioembed_study import paths\npaths.restricted(profile)"


def write_closed(project, *cells, access="restricted"):
    """Write ``05_mimic`` with these cells, the second tagged as made from records, and the folder of its notes."""
    path = toy_tree.write_notebook(project, "05_mimic", *(cell.replace("{tests!r}", repr(TESTS)) for cell in cells))
    shown = nbformat.read(path, as_version=4)
    for cell in shown.cells[-len(cells) + 1 :]:
        cell.metadata["tags"] = ["from-records"]
    nbformat.write(shown, path)
    room = project / "artifacts" / "toy" / "restricted"
    room.mkdir(parents=True, exist_ok=True)
    (room / "access").write_text(access)
    return room


def outside(project, room):
    """Return the texts of all files outside a room, but the notebooks' own."""
    files = [f for name in ("artifacts", "out") for f in (project / name).rglob("*") if f.is_file()]
    return "".join(f.name + f.read_text() for f in files if not f.is_relative_to(room))


@pytest.mark.slow
def test_of_a_notebook_on_notes_only_what_records_say_leaves(project, capfd):
    room = write_closed(project, SAY_ALL, READ)
    assert start(project, "05_mimic", "--profile", "toy") == 0
    said = capfd.readouterr()
    cells = nbformat.read(project / "out" / "x.ipynb", as_version=4).cells
    assert [cell.outputs for cell in cells[-2:]] == [
        [],
        [{"output_type": "display_data", "data": {"text/markdown": "from records"}, "metadata": {}}],
    ]
    assert re.sub(r"x · [\w-]+", "", said.out).split() == ["50", "%"] and said.err == ""
    source = (project / "notebooks" / "05_mimic.ipynb").read_text()
    seen = said.out + said.err + outside(project, room)
    left = [k for k, v in leaks.leaks() if any(t in seen and t not in source for t in leaks.traces(v))]
    assert left == []
    kept = (room / "executed" / "x.ipynb").read_text() + (room / "executed" / "x.log").read_text()
    assert all(str(value) in kept or json.dumps(str(value))[1:-1] in kept for _, value in leaks.leaks())


@pytest.mark.slow
@pytest.mark.parametrize("access", ["restricted", "open", "unheard of"])
def test_of_a_failed_notebook_on_notes_the_traceback_stays(project, capfd, access):
    room = write_closed(project, "{}[10006 * 3]", READ, access=access)
    record = project / "artifacts" / "toy" / "results" / "r.json"
    assert start(project, "05_mimic", "--profile", "toy", "--record", str(record)) == 1
    said = capfd.readouterr()
    failed = room / "executed" / "x.failed.ipynb"
    message = "KeyError: 30018" if access == "open" else "KeyError"
    assert said.err == f"05_mimic.ipynb failed: cell 'step-1': {message}; to read it: {failed}\n"
    assert (
        "30018" in failed.read_text()
        and "30018" not in outside(project, room)
        and not (project / "out" / "x.ipynb").exists()
    )


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["05_mimic", "06_report", "03_retrieval"])
def test_what_is_published_is_made_where_notes_cannot_be_opened(project, capfd, stem):
    if stem == "05_mimic":
        write_closed(project, "1", OPEN)
    else:
        toy_tree.write_notebook(project, stem, OPEN)
    assert start(project, stem, "--profile", "toy") == 1
    assert "PermissionError: restricted/ is closed to this notebook" in capfd.readouterr().err
    assert not (project / "out" / "x.ipynb").exists() and paths.CLOSED not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("access", ["restricted", "open"])
def test_what_a_notebook_on_notes_writes_by_its_name_stays_and_folders_are_those_of_the_caller(
    project, monkeypatch, access
):
    write = "open('mine.txt', 'w').write('10006')\n(paths.artifacts(profile) / 'here').touch()"
    room = write_closed(project, f"from cardioembed_study import paths\n{write}", READ, access=access)
    monkeypatch.chdir(project)
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", "artifacts")
    assert start(project, "05_mimic", "--profile", "toy") == 0
    assert (room / "executed" / "mine.txt").read_text() == "10006" and (room.parent / "here").exists()


@pytest.mark.slow
def test_an_output_that_no_notebook_can_hold_is_an_error_without_words(project, capfd):
    room = write_closed(project, "display({'text/markdown': 10006}, raw=True)", READ)
    assert start(project, "05_mimic", "--profile", "toy") == 1
    said = capfd.readouterr()
    assert "05_mimic.ipynb failed: cell 'step-1'" in said.err and "10006" not in said.err + said.out + outside(
        project, room
    )


@pytest.mark.slow
def test_a_kernel_on_notes_that_crashes_says_nothing_here(project, capfd):
    room = write_closed(project, "import os\nos.write(2, b'10006')\nos.write(1, b'10006')\nos.abort()", READ)
    assert start(project, "05_mimic", "--profile", "toy") == 1
    said = capfd.readouterr()
    assert "cell 'step-1': the kernel died" in said.err and "10006" not in said.err + said.out + outside(project, room)


@pytest.mark.slow
def test_a_run_on_notes_shows_its_code_alone(project):
    runs = {"a": {"pairs": ["temporal"]}, "b": {}}
    toy_tree.write_profile(project, **{"02_train": runs, "03_retrieval": {}, "04_mteb": {}})
    toy_tree.write_notebook(project, "02_train", "print(10006)")
    assert start(project, "02_train", "--profile", "toy", "--run", "a") == 0
    shown = nbformat.read(project / "out" / "x.ipynb", as_version=4)
    assert shown.cells[-1].source == "print(10006)" and not any(cell.get("outputs") for cell in shown.cells)
    assert "10006" in (project / "artifacts" / "toy" / "restricted" / "executed" / "x.log").read_text()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "seen"),
    [
        (io.StringIO, "first\n  indented\ntrain: 0/3\ntrain: 3/3\nread: 1/1\nlast\n"),
        (Terminal, "first\n  indented\n\rtrain: 0/3\rtrain: 3/3\n\rread: 1/1\x1b[A\r         \rlast\n"),
    ],
)
@pytest.mark.slow
def test_a_bar_moves_on_a_terminal_and_has_a_line_a_state_elsewhere(project, stream, seen):
    guarded = runner.Lines(stream())
    for text in (
        "first\n  indented\n",
        "\rtrain: 0/3",
        "\rtrain: 3/3\n",
        "\rread: 1/1\x1b[A",
        "\r         ",
        "\r",
        "last\n",
    ):
        guarded.write(text)
    assert re.sub("\n+", "\n", guarded.stream.getvalue()) == seen


@pytest.mark.slow
def test_where_no_terminal_is_a_bar_shows_few_states(project, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    bars = "from tqdm import tqdm\nprint([bar := tqdm(range(3), desc='fit'), list(bar), bar.mininterval][-1])"
    toy_tree.write_notebook(project, "06_report", bars)
    assert start(project, "06_report", "--profile", "toy") == 0
    said = capsys.readouterr()
    assert "10.0\n" in said.out and "\r" not in said.err
    assert re.findall(r"fit: +\d+%", said.err) == ["fit:   0%", "fit: 100%"]


def test_sources_are_the_notebook_and_what_it_imports_also_indirectly(project):
    toy_tree.write_notebook(project, "03_retrieval", "from cardioembed_study import lexical as s, records")
    assert {path.name for path in executed.sources("03_retrieval")} == {
        "03_retrieval.ipynb",
        *(
            "__init__.py",
            "clinical.py",
            "files.py",
            "lexical.py",
            "mappings.py",
            "models.yaml",
            "paths.py",
            "records.py",
            "settings.py",
        ),
    }
    toy_tree.write_notebook(project, "02_train", "from cardioembed_lib import models, training\npaths.MODELS")
    found = {path.name for path in executed.sources("02_train")}
    assert {"training.py", "encoder.py", "losses.py", "lora.py", "pooling.py", "models.yaml"} <= found
    assert not {"corpus.py", "metrics.py", "runner.py"} & found


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            ["definition"],
            "have no pairs of 'definition' for training and dev .*; there are adjacent, heading: set its `pairs`",
        ),
        (["definition", "heading"], "no pairs of 'definition'"),  # dev asks the first kind
        (["heading", "adjacent"], None),
    ],
)
def test_a_run_on_pairs_that_a_book_without_glossary_does_not_have_is_refused(tmp_path, monkeypatch, pairs, said):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    runner.refuse_nothing("mine", "first", pairs)  # before 01_corpus nothing is known
    counts = {"pairs": {"definition": {}, "heading": {"other": {"train": 9, "dev": 3}}, "question": {}}}
    counts["pairs"]["adjacent"] = counts["pairs"]["heading"]
    records.write(
        records.path("mine", "corpus", "all"), metrics={}, counts=counts, inputs=[], params={"profile": "mine"}
    )
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext():
        runner.refuse_nothing("mine", "first", pairs)


@pytest.mark.slow
def test_two_processes_train_a_run_and_one_goes_on_when_one_of_them_was_killed(tmp_path):
    """``accelerate launch`` of the real notebook; ``--multi_gpu`` means several processes here, a GPU or not."""
    environment = os.environ | {"CARDIOEMBED_ARTIFACTS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    executed_at = tmp_path / "embedded" / "executed"
    record = tmp_path / "embedded" / "results" / "train.seed17.json"

    def command(stem, name, *words):
        return ["cardioembed_study.workflow.runner", f"notebooks/{stem}.ipynb", str(executed_at / name), *words]

    def call(*words):
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=paths.ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )

    corpus = call(*command("01_corpus", "01_corpus.ipynb", "--profile", "embedded"))
    assert corpus.wait() == 0, corpus.communicate()
    learn = command("02_train", "x.ipynb", "--profile", "embedded", "--run", "seed17", "-p", "checkpoint_every", "2")
    shared = call("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", *learn)
    kept = tmp_path / "embedded" / "runs" / "seed17" / "checkpoint" / "last.safetensors"
    while not kept.exists():
        assert shared.poll() is None, shared.communicate()
        time.sleep(0.2)
    kernels = [p for p in psutil.Process(shared.pid).children(recursive=True) if "ipykernel_launcher" in p.cmdline()]
    next(p for p in kernels if p.environ()["RANK"] == "1").kill()
    said = shared.communicate(timeout=300)[1]
    assert shared.returncode != 0 and not record.exists()
    assert "cell 'train': the kernel died" in said or "rank 0 of 2 gets no answer from another at step" in said
    assert not psutil.wait_procs(kernels, timeout=30)[1], "a kernel outlives the training"
    alone = call(*learn)
    assert alone.wait() == 0, alone.communicate()
    assert json.loads(record.read_text())["counts"]["steps"] == 10


@pytest.mark.slow
def test_the_books_example_trains_in_two_processes_from_a_notebook(tmp_path):
    page = (paths.BOOK / "reproduce.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(import accelerate\n.*?)```", page, re.S)[1].replace(
        "shared-run", str(tmp_path / "run")
    )
    shown = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(example)])
    NotebookClient(
        shown, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(paths.ROOT)}}
    ).execute()
    base = models.spec("all-MiniLM-L6-v2", paths.MODELS)
    moved = encoder.encode(models.load(base, adapter=tmp_path / "run" / "adapter"), ["preload"])
    assert 0 < 1 - float(moved[0] @ encoder.encode(models.load(base), ["preload"])[0]) < 0.1
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 3
