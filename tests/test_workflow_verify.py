"""A second run: when is it the same as the committed evidence, and what is said where it is not?"""

import json
import subprocess
import sys

import pytest

from cardioembed_study import paths, records
from cardioembed_study.workflow import verify


def folder(tmp_path, name, content):
    place = tmp_path / name
    place.mkdir()
    for stem, record in content.items():
        (place / f"{stem}.json").write_text(json.dumps(records.signed(record, f"{stem}.json")))
    return place


def record(mrr=0.5, acc=0.5, queries=100, status="run", **inputs):
    metrics = {"mrr": mrr, "acc_at_1": acc} if status == "run" else {}
    return {"metrics": metrics, "counts": {"queries": queries}, "inputs": inputs, "params": {}, "status": status}


def verdicts(ours, committed):
    return {row.key: row.verdict for row in verify.compare({"r": ours}, {"r": committed})}


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (0.5, "same"),
        (0.500001, "same"),
        (0.500002, "close"),
        (0.5005, "close"),
        (0.499501, "close"),
        (0.500501, "differs"),
        (0.9, "differs"),
        (0.4, "differs"),
    ],
)
def test_verdict_depends_on_the_distance_and_not_on_the_direction(ours, verdict):
    assert verdicts(record(mrr=ours), record(mrr=0.5))["metrics.mrr"] == verdict


def test_one_query_more_is_another_count():
    assert verdicts(record(queries=101), record(queries=100))["counts.queries"] == "differs"
    assert verdicts(record(queries="<10"), record(queries="<10"))["counts.queries"] == "same"
    assert verdicts(record(queries=9), record(queries="<10"))["counts.queries"] == "differs"


def test_accuracy_is_also_told_in_queries():
    rows = verify.compare({"r": record(acc=0.52)}, {"r": record(acc=0.5)})
    assert {row.key: row.items for row in rows} == {"metrics.acc_at_1": 2, "metrics.mrr": None, "counts.queries": None}


def test_other_inputs_explain_but_do_not_judge(tmp_path):
    ours, theirs = record(), record()
    ours["inputs"], theirs["inputs"] = {"a": "sha256:1", "b": "sha256:1"}, {"a": "sha256:2", "b": "sha256:1"}
    rows, worst = verify.compare_folders(folder(tmp_path, "o", {"r": ours}), folder(tmp_path, "c", {"r": theirs}))
    assert [row.key for row in rows if row.verdict == "note"] == ["inputs.a"]
    assert worst == "note"


def test_nested_values_are_compared_one_by_one():
    ours, theirs = record(), record()
    ours["metrics"]["curve"], theirs["metrics"]["curve"] = {"10": [0.1, 0.2]}, {"10": [0.1, 0.3]}
    found = verdicts(ours, theirs)
    assert (found["metrics.curve.10.0"], found["metrics.curve.10.1"]) == ("same", "differs")


def test_missing_and_extra_are_told_apart():
    rows = verify.compare({"a": record(), "b": record()}, {"b": record(), "c": record()})
    found = {(row.record, row.verdict) for row in rows}
    assert {("a", "extra"), ("c", "missing")} <= found
    ours, theirs = record(), record()
    del ours["metrics"]["mrr"], theirs["metrics"]["acc_at_1"]
    assert verdicts(ours, theirs)["metrics.mrr"] == "missing"
    assert verdicts(ours, theirs)["metrics.acc_at_1"] == "extra"


def test_not_run_twice_is_the_same_and_once_is_missing():
    idle = record(status="not run")
    assert set(verdicts(idle, idle).values()) == {"same"}
    assert verdicts(idle, record()) == {"status": "missing"}
    assert verdicts(record(), idle) == {"status": "extra"}


@pytest.mark.parametrize(
    ("ours", "code", "said"),
    [
        ({"r": record()}, 0, "1 records: 3 same"),
        ({"r": record(mrr=0.5003)}, 0, "2 same, 1 close"),
        ({"r": record(mrr=0.6)}, 1, "metrics.mrr"),
        ({"r": record(acc=0.53)}, 1, "differs"),
        ({"other": record()}, 1, "1 extra, 1 missing"),
    ],
)
def test_verify_prints_what_changed_and_fails_when_a_number_did(tmp_path, capsys, ours, code, said):
    places = [folder(tmp_path, "fresh", ours), folder(tmp_path, "book", {"r": record()})]
    assert verify.main([str(place) for place in places]) == code
    assert said in capsys.readouterr().out


def test_verify_of_an_empty_folder_is_no_success(tmp_path, capsys):
    full = folder(tmp_path, "book", {"r": record()})
    assert verify.main([str(tmp_path / "nowhere"), str(full)]) == 1
    assert "nowhere holds no records" in capsys.readouterr().err


def test_verify_runs_as_a_command(tmp_path):
    places = [str(folder(tmp_path, name, {"r": record()})) for name in ("fresh", "book")]
    command = [sys.executable, "-m", "cardioembed_study.workflow.verify", *places]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "1 records: 3 same\n")
