"""The door: what a record of clinical notes may hold, and 852 pieces of notes that try to leave by every exit."""

import functools
import io
import itertools
import json
import re
from types import SimpleNamespace

import leaks
import numpy as np
import polars as pl
import pytest
import toy_tree
from matplotlib import pyplot as plt
from papermill.exceptions import PapermillExecutionError
from scipy.optimize import linprog

from cardioembed_study import clinical, paths, records, settings, show
from cardioembed_study.clinical import Count, people
from cardioembed_study.workflow import runner

ALL = leaks.leaks()
MANY, FEW = np.arange(200) % 40, np.arange(200) % 7  # patients of 200 rows: 40, and 7
LEARNT = {"pairs": ["temporal"], "epochs": 9, "recipe": "notes"}
REFUSED = (ValueError, TypeError, PermissionError, FileNotFoundError)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """Return the folder of a profile whose notes are restricted."""
    (tmp_path / "profiles").mkdir()
    own = {"01_notes": {"source": "mimic3"}, "05_mimic": {"runs": ["b"]}, "03_retrieval": {}, "04_mteb": {}}
    toy_tree.write_profile(tmp_path, **own, **{"02_train": {"b": LEARNT}})
    monkeypatch.setattr(paths, "PROFILES", tmp_path / "profiles")
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setattr(records, "_commit", lambda: "0000000")
    for module, name in (
        (settings, "profile"),
        (settings, "defaults"),
        (records, "versions"),
        (clinical, "_files"),
        (clinical, "_listed"),
    ):
        monkeypatch.setattr(module, name, functools.cache(getattr(module, name)))
    folder = paths.restricted("toy")
    (folder / "access").write_text("restricted\n")
    pairs = {"split": ["train"] * 150 + ["dev"] * 50, "group": [f"patient{n}" for n in MANY]}
    pl.DataFrame(pairs).write_parquet(folder / "temporal.parquet")
    codes = {"code": ["4019", "42731"] * 200 + ["27739"] * 7, "subject_id": [*np.repeat(MANY, 2), *range(7)]}
    pl.DataFrame(codes).write_parquet(folder / "diagnoses.parquet")
    return folder.parent


def form():
    shares = {f"{name}_at_{k}": 0.25 for k in clinical.KS for name in ("recall", "random")}
    return shares | {f"recall_at_{k}_{end}": 0.125 for k in clinical.KS for end in ("low", "high")}


def given(measurement):
    """Return what a notebook gives to ``records.write`` for a measurement of restricted notes."""
    change = {"difference": 0.1, "low": -0.123456, "high": 0.2}
    row = {"auroc": 0.712345, "notes": Count(MANY), "patients": people(MANY)}
    codes = {"low": 0.5, "high": 0.9, "macro": 0.7, "skipped": 0, "per_code": {"401.9": row}}
    codes |= {"notes": Count(MANY), "patients": people(MANY), "dropped": Count(FEW), "scored": Count(MANY)}
    labels = {"silhouette": -0.1, "low": -0.2, "high": 0.0}
    counts = dict.fromkeys(("queries", "candidates"), Count(MANY)) | {"patients": people(MANY)}
    p = {"profile": "toy"}
    recall = dict.fromkeys(("published", "corrected", "other_patients"), form())
    recall |= {"effective_k": 0.9, "same_patient_before": 0.1, "same_patient_candidates": 4.5}
    steps = {f"at_{k}": change for k in clinical.KS}
    return {
        "notes": {
            "metrics": {},
            "counts": {
                "tables": dict.fromkeys(clinical.TABLES, Count(MANY)) | {"dropped_error": Count(FEW)},
                "splits": {"train": dict.fromkeys(("patients", "admissions", "notes", "pairs"), Count(MANY))},
                "categories": {"ECG": Count(MANY), "Consult": Count(FEW), "other": Count([])},
            },
            "params": p | {"source": "mimic3"},
        },
        "train": {
            "metrics": dict.fromkeys(("dev_mrr_base", "dev_mrr_best"), 0.25)
            | {"dev_mrr_merged": {"0.5": 0.25}, "dev_separation": 0.1, "adapter_mebibytes": 86.6}
            | dict.fromkeys(("loss_first", "loss_last", "loss_floor"), 2.5),
            "counts": {"pairs": 150, "dev_queries": 50, "steps": 9, "best_step": 9, "trained_parameters": 22_713_216},
            "params": p | LEARNT | {"run": "b", "precision_used": "float32"},
        },
        "mimic": {
            "metrics": {
                "recall": {"unseen": recall},
                "auroc": {"rows": codes, "patients": codes},
                "silhouette": dict.fromkeys(("chapter", "category"), labels | {"n": Count(MANY), "classes": 9})
                | {"delta": labels},
            },
            "counts": {"unseen": counts},
            "params": p | {"runs": ["b"], "source": "mimic3", "generated_notes": False, "order": ["bm25", "b"]},
        },
        "effects": {
            "metrics": {
                "query_in_pool": {"b": {"unseen": steps}},
                "row_split": {"b": change | {"rows": 0.8, "patients": 0.7}},
                "one_hot_targets": {"soft_chapter": {"auroc_unseen": change | {"on": 0.7, "off": 0.6}}},
                "other_loss": {},
            },
            "counts": {"patients": people(MANY), "notes": Count(MANY), "runs": {"infonce": ["b"]}},
            "params": p | {"runs": ["b"], "source": "mimic3", "generated_notes": False, "order": ["bm25", "b"]},
        },
    }[measurement]


def write(measurement, model="all", **changes):
    name = {"train": "b", "mimic": "b"}.get(measurement, "all") if model == "all" else model
    inputs = [paths.artifacts("toy") / "restricted" / "temporal.parquet"] if measurement == "train" else []
    return records.write(records.path("toy", measurement, name), **given(measurement) | {"inputs": inputs} | changes)


@pytest.mark.parametrize("measurement", clinical.SCHEMA)
def test_what_the_schema_names_goes_through_rounded_and_counted(room, measurement):
    record = write(measurement)
    assert records.read(next((room / "results").glob("*.json"))) == record
    numbers = [value for part in ("metrics", "counts") for value in leaves(record[part])]
    assert all(value == round(value, 3) for value in numbers if isinstance(value, float))
    assert all(value % clinical.STEP == 0 for value in leaves(record["counts"]) if isinstance(value, int) and value > 9)


def leaves(value):
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def test_counts_of_few_patients_are_hidden_codes_of_few_left_out_and_generated_notes_counted_truly(room):
    row = {"auroc": 0.9, "notes": Count(FEW), "patients": people(FEW)}
    metrics = given("mimic")["metrics"]
    metrics["auroc"]["rows"]["per_code"] |= {"277.39": row}
    hidden = write("mimic", metrics=metrics)
    assert hidden["metrics"]["auroc"]["rows"]["per_code"].keys() == {"401.9"}
    assert hidden["metrics"]["auroc"]["rows"]["dropped"] == "<11" and hidden["counts"]["unseen"]["patients"] == 40
    counts = write("notes")["counts"]
    assert (
        counts["categories"] == {"ECG": 200, "Consult": "<11", "other": 0}
        and counts["tables"]["dropped_error"] == "<11"
    )
    assert write("train")["counts"] == {
        "best_step": 9,
        "dev_queries": 60,
        "pairs": 160,
        "steps": 9,
        "trained_parameters": None,
    }
    (room / "restricted" / "access").write_text("open\n")
    shown = write("mimic", metrics=metrics)
    assert shown["metrics"]["auroc"]["rows"]["per_code"]["277.39"] == {"auroc": 0.9, "notes": 200, "patients": 7}
    assert shown["metrics"]["auroc"]["rows"]["low"] == 0.5 and shown["metrics"]["auroc"]["rows"]["dropped"] == 200


def test_scores_of_too_few_patients_and_numbers_that_tell_counts_are_withheld(room):
    m = write("mimic")["metrics"]
    assert m["recall"]["unseen"]["effective_k"] is m["recall"]["unseen"]["published"]["random_at_1"] is None
    assert m["silhouette"]["chapter"]["classes"] is None
    few = dict.fromkeys(("queries", "candidates"), Count(FEW)) | {"patients": people(FEW)}
    with pytest.raises(ValueError, match=r"mimic: what stands at counts.* may not leave"):
        write("mimic", counts={"unseen": few})
    metrics = given("mimic")["metrics"]
    metrics["auroc"]["rows"] |= {"patients": people(FEW)}
    with pytest.raises(ValueError, match=r"mimic: what stands at metrics.auroc.* may not leave"):
        write("mimic", metrics=metrics)


def test_what_an_open_profile_writes_after_restricted_notes_were_opened_is_hidden_too(room):
    (room.parent / "other" / "restricted").mkdir(parents=True)
    (room / "restricted" / "access").write_text("open")
    assert write("notes")["counts"]["categories"]["Consult"] == 200
    paths.restricted("other")
    assert write("notes")["counts"]["categories"]["Consult"] == "<11"
    assert clinical.none_restricted() is False


@pytest.mark.slow
def test_no_sum_of_shown_counts_gives_a_hidden_one_away():
    """Every value from 1 to 10 stays possible for what is hidden, whatever linear relation ties it to what is shown."""
    draw = np.random.default_rng(17)
    for _ in range(300):
        parts = [int(draw.integers(1, 11)), *draw.integers(11, 400, size=draw.integers(1, 5)).tolist()]
        cells = [*parts, sum(parts)]
        shown = [Count(range(n)).shown for n in cells]
        half = clinical.STEP / 2
        bounds = [(1, 10) if s == clinical.HIDDEN else (max(0, s - half), s + half) for s in shown]
        total = [[*[1] * len(parts), -1]]
        reach = [linprog([sign, *[0] * len(parts)], A_eq=total, b_eq=[0], bounds=bounds).x[0] for sign in (1, -1)]
        assert reach == pytest.approx([1, 10])


def test_a_number_that_is_not_made_of_its_patients_is_no_count(room):
    for bad in (200, 7, 7.0, "<11", "7", True, None, np.int64(7)):
        counts = given("notes")["counts"]
        counts["tables"] = counts["tables"] | {"dropped_short": bad}
        with pytest.raises(ValueError, match=r"notes: what stands at counts.tables.dropped_short may not leave"):
            write("notes", counts=counts)
    assert type(Count(MANY) - Count(FEW)) is int  # so a difference of two counts is none


def of_codes(given):
    return given["metrics"]["auroc"]["rows"]["per_code"]


PLACES = {  # where a piece is put into what a notebook gives
    "a metric": lambda m, x: (m["metrics"]["recall"]["unseen"]["corrected"], "recall_at_1", x),
    "a difference": lambda m, x: (m["metrics"]["silhouette"]["delta"], "low", x),
    "a mean": lambda m, x: (m["metrics"]["recall"]["unseen"], "same_patient_candidates", x),
    "a number of the parameters": lambda m, x: (m["params"], "seed", x),
    "a count": lambda m, x: (m["counts"]["unseen"], "queries", x),
    "classes": lambda m, x: (m["metrics"]["silhouette"]["chapter"], "classes", x),
    "a metric's name": lambda m, x: (m["metrics"], str(x), 0.5),
    "a code's name": lambda m, x: (of_codes(m), str(x), of_codes(m)["401.9"]),
    "a code's score": lambda m, x: (of_codes(m), "427.31", of_codes(m)["401.9"] | {"auroc": x}),
    "a group's name": lambda m, x: (m["counts"], str(x), m["counts"]["unseen"]),
    "a count's name": lambda m, x: (m["counts"]["unseen"], str(x), Count(MANY)),
    "a further metric": lambda m, x: (m["metrics"], "note", x),
    "a list": lambda m, x: (m["metrics"]["recall"]["unseen"]["corrected"], "recall_at_1", [0.5, x]),
    "a parameter": lambda m, x: (m["params"], "base", str(x)),
    "a further parameter": lambda m, x: (m["params"], "note", x),
    "a run": lambda m, x: (m["params"], "order", ["b", str(x)]),
    "the source": lambda m, x: (m["params"], "source", str(x)),
    "facts": lambda m, x: (m["params"], "read", {"mimic3": {"title": str(x), "access": "restricted"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_no_piece_of_a_note_leaves_in_a_record(room, place):
    left = []
    for kind, value in ALL:
        made = given("mimic")
        target, key, planted = PLACES[place](made, value)
        target[key] = planted
        left += attempt(room, kind, value, lambda made=made: write("mimic", **made))
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("exit_of", ["model", "input", "reason", "device", "steps", "effects", "other record"])
def test_no_piece_of_a_note_leaves_beside_the_numbers(room, exit_of, tmp_path):
    left = []
    for kind, value in ALL:
        name = str(value).replace("/", "_").replace("\0", "")[:60]
        attempts = {
            "model": lambda x: write("mimic", model="r" + re.sub(r"[^\w.+-]", "-", str(x))),
            "input": lambda x, name=name: write("mimic", inputs=[tmp_path / name]),
            "reason": lambda x: write("mimic", metrics={}, counts={}, status="not run", reason=str(x)),
            "device": lambda x: write("mimic", device=str(x)),
            "steps": lambda x: write("train", counts=given("train")["counts"] | {"steps": x}),
            "effects": lambda x: write(
                "effects", metrics=given("effects")["metrics"] | {"query_in_pool": {str(x): {}}}
            ),
            "other record": lambda x: records.write(
                records.path("toy", "retrieval", "b"),
                metrics={"mrr": x},
                counts={},
                inputs=[],
                params={"profile": "toy"},
            ),
        }
        if exit_of == "input":
            (tmp_path / name).touch()
        left += attempt(room, kind, value, lambda value=value, do=attempts[exit_of]: do(value))
    assert left == []


def attempt(room, kind, value, action):
    """Return the kind of a leak if it left, in a record or in the message that refuses it."""
    said = ""
    try:
        action()
    except REFUSED as error:
        said = str(error)
    files = [file for file in room.rglob("*") if file.is_file() and "restricted" not in file.parts]
    written = said + "".join(file.name + file.read_text() for file in files)
    counts = [json.loads(file.read_text())["counts"] for file in files]
    cells = [one | {"steps": None, "best_step": None} for one in counts]  # a small number of steps is a number of steps
    few = [kind] if kind.startswith("small cell") and str(value) in map(str, leaves(cells)) else []
    for file in files:
        file.unlink()
    return few or [kind for trace in leaks.traces(value) if trace in written or json.dumps(trace)[1:-1] in written][:1]


@pytest.mark.parametrize("what", ["table", "sections", "figure", "numbers drawn"])
def test_a_process_that_has_opened_restricted_notes_writes_no_table_and_no_figure(room, what):
    fig, _ = plt.subplots()
    plt.close(fig)
    for _, value in ALL[:: len(ALL) // 60]:
        drawn = pl.DataFrame({"x": [str(value)]})
        with pytest.raises(PermissionError, match="has opened the restricted notes of profile 'toy'"):
            {
                "table": lambda v=value: show.write_table("toy", "t", [{"x": v}]),
                "sections": lambda v=value: show.write_sections("toy", "t", {str(v): [{"x": 1}]}),
                "figure": lambda v=value: show.save("toy", str(v), fig, pl.DataFrame({"x": [1]})),
                "numbers drawn": lambda d=drawn: show.save("toy", "f", fig, d),
            }[what]()
    assert {file.name for file in room.iterdir()} == {"restricted"}


def test_only_tens_of_per_cent_of_what_a_kernel_prints_reach_the_terminal():
    log, terminal = io.StringIO(), io.StringIO()
    stream = runner.Behind(log, terminal)
    for _, value in ALL:
        stream.write(f"{value}\r{value!r}: 4{len(str(value)) % 10}%|####\n")
        stream.write(f"{value}%|")
    assert set(terminal.getvalue().split("\n")) <= {"", *(f"  {n} %" for n in range(10, 101, 10))}
    assert all(str(value) in log.getvalue() for _, value in ALL)


def test_of_a_failure_only_the_class_and_the_cell_leave(monkeypatch, tmp_path):
    for (_, value), quiet in itertools.product(ALL, (True, False)):
        failure = PapermillExecutionError(1, 1, "x", str(value) if quiet else "KeyError", str(value), [str(value)])

        def fail(*args, on_cell_start, failure=failure, **options):
            on_cell_start(SimpleNamespace(cell_type="code", id="measure", metadata={}), 0)
            raise failure

        monkeypatch.setattr(runner.papermill, "execute_notebook", fail)
        with pytest.raises(RuntimeError) as raised:
            runner._execute(tmp_path / "05.ipynb", tmp_path / "o.ipynb", {}, "python3", (None, None), quiet)
        said = f"cell 'measure': {'an error' if quiet else f'KeyError: {value}'}"
        assert str(raised.value) == said and raised.value.__cause__ is None
    assert runner._class("KeyError") == "KeyError" and runner._class("print") == runner._class("Pt10006") == "an error"


def test_a_closed_process_opens_nothing(room, monkeypatch):
    monkeypatch.setenv(paths.CLOSED, "1")
    paths.OPENED.clear()
    (room / "restricted" / "runs" / "b").mkdir(parents=True)
    for call in (paths.restricted, lambda p: paths.pairs(p, "temporal"), lambda p: paths.run(p, "b")):
        with pytest.raises(PermissionError, match="restricted/ is closed to this notebook"):
            call("toy")
    assert not paths.OPENED


def test_a_record_of_notes_lies_in_its_own_place(room, tmp_path):
    with pytest.raises(ValueError, match=r"lies where records.path says"):
        records.write(tmp_path / "mimic.b.json", **given("mimic"), inputs=[])
