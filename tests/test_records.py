"""Records: what they hold, and what they refuse."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from cardioembed_study import paths, records


@pytest.fixture
def inputs(tmp_path):
    file = tmp_path / "pairs.test.parquet"
    file.write_bytes(b"abc")
    return [file]


@pytest.fixture
def write(tmp_path, inputs):
    def go(name="retrieval.m.json", **changes):
        given = {"metrics": {"mrr": 0.5}, "counts": {"queries": 6}, "inputs": inputs, "params": {"seed": 17}}
        return records.write(tmp_path / "results" / name, **given | changes)

    return go


# writing


def test_what_is_written_is_what_is_read(write, tmp_path):
    returned = write(seconds=1.26)
    assert records.read(tmp_path / "results" / "retrieval.m.json") == returned
    assert returned["seconds"] == 1.3
    assert returned["status"] == "run"
    assert "reason" not in returned
    assert returned["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_inputs_are_known_by_name_and_hash(write):
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert write()["inputs"] == {"pairs.test.parquet": f"sha256:{abc}"}


def test_inputs_of_one_name_are_told_apart_by_their_folders(write, tmp_path):
    files = [tmp_path / run / "adapter.safetensors" for run in ("r8", "r16")]
    for file in files:
        file.parent.mkdir()
        file.write_text(file.parent.name)
    assert set(write(inputs=files)["inputs"]) == {"r8/adapter.safetensors", "r16/adapter.safetensors"}
    with pytest.raises(ValueError, match=r"two inputs are called r8/adapter\.safetensors"):
        write(inputs=[files[0], files[0]])


def test_a_folders_hash_changes_with_content_and_with_names(write, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "weights").write_text("1")
    first = write(inputs=[adapter])["inputs"]["adapter"]
    (adapter / "weights").rename(adapter / "other")
    second = write(inputs=[adapter])["inputs"]["adapter"]
    (adapter / "other").write_text("2")
    third = write(inputs=[adapter])["inputs"]["adapter"]
    assert len({first, second, third}) == 3
    (adapter / "SHA256SUMS").write_text("of a later version")
    assert write(inputs=[adapter])["inputs"]["adapter"] == third


def test_keys_are_sorted_and_floats_rounded(write, tmp_path):
    write(metrics={"z": 1 / 3, "a": [np.float32(0.1), np.int64(3)], "m": {"10": -1e-9}})
    text = (tmp_path / "results" / "retrieval.m.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["metrics"] == {"a": [0.1, 3], "m": {"10": 0.0}, "z": 0.333333}
    assert "-0.0" not in text


def test_no_folder_of_this_machine_is_in_a_record(write, tmp_path):
    params = {"corpus": tmp_path / "my books", "pairs": str(paths.ROOT / "artifacts" / "x"), "relative": "runs/r8"}
    assert write(params=params)["params"] == {"corpus": "my books", "pairs": "artifacts/x", "relative": "runs/r8"}
    assert str(tmp_path) not in (tmp_path / "results" / "retrieval.m.json").read_text()


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float32("nan")])
def test_a_refused_record_names_the_key_and_leaves_nothing_behind(write, tmp_path, bad):
    with pytest.raises(ValueError, match=r"metrics\.by_pool\.10\.mrr is (nan|inf)"):
        write(metrics={"by_pool": {"10": {"mrr": bad}}})
    assert not (tmp_path / "results").exists()


def test_a_move_that_fails_leaves_the_old_record_and_nothing_aside(write, tmp_path, monkeypatch):
    before = write()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(metrics={"mrr": 0.9})
    assert [f.name for f in (tmp_path / "results").iterdir()] == ["retrieval.m.json"]
    assert records.read(tmp_path / "results" / "retrieval.m.json") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "failed"}, "status is 'failed'"),
        ({"status": "not run", "metrics": {}}, "'not run' needs a reason"),
        ({"reason": "no data"}, "'run' has none"),
        ({"status": "not run", "reason": "no data"}, "has no metrics; found mrr"),
        ({"metrics": {"mrr": object()}}, r"metrics\.mrr is a object"),
        ({"params": {"seeds": {1, 2}}}, r"params\.seeds is a set"),
    ],
)
def test_bad_records_are_refused_by_name(write, changes, message):
    with pytest.raises(ValueError, match=message):
        write(**changes)


def test_a_missing_input_is_named(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet is missing"):
        write(inputs=[tmp_path / "gone.parquet"])


def test_not_run_says_why(write):
    written = write(status="not run", reason="MIMIC-III needs credentials.", metrics={}, inputs=[])
    assert (written["status"], written["reason"]) == ("not run", "MIMIC-III needs credentials.")


def test_commit_is_the_repositorys_with_its_changes(write, tmp_path, monkeypatch):
    root = tmp_path / "repository"
    root.mkdir()
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    monkeypatch.setattr(paths, "ROOT", root)
    assert write()["commit"] == "unknown"
    subprocess.run([*git, "init", "-q"], check=True)
    assert write()["commit"] == "unknown"
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert re.fullmatch(r"[0-9a-f]{7,}", write()["commit"])
    (root / "new.py").write_text("1")
    assert re.fullmatch(r"[0-9a-f]{7,}\+changes", write()["commit"])
    inside = root / "site-packages"
    inside.mkdir()
    monkeypatch.setattr(paths, "ROOT", inside)
    assert write()["commit"] == "unknown"


def test_device_is_a_model_and_not_a_host(write):
    import platform

    assert write(device="cpu")["device"]
    assert write(device="NVIDIA H200")["device"] == "NVIDIA H200"
    assert platform.node() not in write()["device"]


def test_path_names_the_measurement_and_the_model(monkeypatch, tmp_path):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    expected = tmp_path / "open" / "results" / "retrieval.bge-small-en-v1.5.json"
    assert records.path("open", "retrieval", "bge-small-en-v1.5") == expected


@pytest.mark.parametrize(("measurement", "model"), [("retrieval", "BAAI/bge"), ("a.b", "m"), ("r", "../m"), ("r", "")])
def test_a_path_cannot_leave_its_folder(measurement, model):
    with pytest.raises(ValueError, match="cannot be part of a record's name"):
        records.path("open", measurement, model)


# reading


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "is no record"), ('{"metrics": {}}', "lacks counts, inputs, params, status")],
)
def test_what_is_no_record_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        records.read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5", "0.6", "was changed or renamed after"),
        ('"run"', '"not run"', "was changed or renamed after"),
        ("0.5", '"0.5"', "was changed or renamed after"),
        ("0.5", "NaN", "NaN is no number"),
        ("0.5", "Infinity", "Infinity is no number"),
        ("0.5", '0.5, "mrr": 0.9', "a key stands twice"),
        ('"digest"', '"digested"', "has no digest, as records of before"),
        ("}", "", "is not JSON"),
        ('{"', "\0", "is not JSON"),
    ],
)
def test_a_record_is_read_only_as_it_was_written(tmp_path, old, new, message):
    whole = {key: {} for key in ("counts", "inputs", "params")} | {"metrics": {"mrr": 0.5}, "status": "run"}
    file = tmp_path / "x.json"
    file.write_text(json.dumps(records.signed(whole, "x.json")))
    assert records.read(file)["metrics"] == {"mrr": 0.5}
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        records.read(file)


def test_a_metric_is_no_text(write, tmp_path):
    with pytest.raises(ValueError, match=r"metrics.retrieval.0 is a text; a metric is a number"):
        write("retrieval.m.json", metrics={"retrieval": ["0.5"]}, params={"profile": "p"})
    assert not (tmp_path / "results").exists()


def test_a_missing_record_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the notebook that writes it"):
        records.read(tmp_path / "x.json")
