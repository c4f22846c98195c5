"""The speed benchmark: shapes of the size they stand for, and numbers that mean what they are called."""

import importlib.util
import sys
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch

from cardioembed_study import paths

spec = importlib.util.spec_from_file_location("encode_benchmark", paths.ROOT / "benchmarks" / "encode.py")
benchmark = importlib.util.module_from_spec(spec)
sys.modules["encode_benchmark"] = benchmark  # its dataclasses look themselves up there
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("name", benchmark.SHAPES)
def test_a_shape_has_as_many_parameters_as_the_models_it_stands_for(name):
    with torch.device("meta"):
        built = benchmark.SHAPES[name].build()
    millions = sum(p.numel() for p in built.parameters()) / 1e6
    for published in benchmark.SHAPES[name].published:
        entry = tiny.spec(published)
        assert millions == pytest.approx(entry.parameters, rel=0.005)
        assert built.config.hidden_size == entry.width


def test_large_models_are_left_out_with_the_reason_and_shapes_run_once():
    arms, skipped = benchmark.candidates(("float32", "bfloat16"), Path("adapters/minilm-definitions"))
    names = [arm.name for arm in arms]
    assert "more than 1,000 million parameters" in skipped["Qwen3-Embedding-8B"]
    assert {"all-MiniLM-L6-v2, float32", "all-MiniLM-L6-v2, bfloat16"} <= set(names)
    assert "all-MiniLM-L6-v2 + minilm-definitions, bfloat16" in names
    assert [name for name in names if name.startswith("BERT of 24")] == ["BERT of 24 x 1024, float32"]
    assert len(names) == len(set(names)) and not {arm.model for arm in arms} & set(skipped)


@pytest.mark.parametrize(("kv_heads", "bytes_each", "dtype"), [(None, 4, "float32"), (2, 2, "bfloat16")])
def test_a_small_shape_is_measured(monkeypatch, kv_heads, bytes_each, dtype):
    monkeypatch.setitem(benchmark.SHAPES, "small", benchmark.Shape(1, 32, 4, 64, (), kv_heads))
    monkeypatch.setattr(benchmark, "SECONDS", 1e-9)
    arm = benchmark.Arm("small", dtype)
    found = benchmark.measure(arm, ["The heart beats.", "A valve leaks a little."])
    assert len(found["latencies_ms"]) == 2 and min(found["latencies_ms"]) > 0
    assert found["width"] == 32 and found["texts_per_s"] > 0 and found["peak_gb"] >= 0
    assert found["weights_gb"] * 1e9 == pytest.approx(bytes_each * found["parameters"])
    assert (
        benchmark.describe(arm)["random_weights"]
        and not benchmark.describe(benchmark.Arm("m", dtype))["random_weights"]
    )


def test_the_middle_repeat_counts_and_the_95th_percentile_is_over_all_calls():
    def one(latencies, speed, peak):
        sizes = {"width": 4, "parameters": 8, "weights_gb": 0.1}
        return {"latencies_ms": latencies, "texts_per_s": speed, "peak_gb": peak} | sizes

    found = benchmark.middle([one([1.0, 3.0], 5.0, 0.2), one([100.0, 0.0], 1.0, 0.3), one([3.0, 4.0], 6.0, 0.9)])
    assert (found["latency_ms"], found["texts_per_s"], found["peak_gb"]) == (3.5, 5.0, 0.3)
    assert found["latency_p95_ms"] == pytest.approx(76)  # of 0 1 3 3 4 100, three quarters of the way from 4 to 100
    assert found["latency_all_ms"] == [2.0, 50.0, 3.5]


def test_each_reason_is_one_line():
    assert "lack of memory" in benchmark.reason(BrokenProcessPool("gone"))
    assert "hub's cache" in benchmark.reason(OSError("no such\nfolder"))
    assert benchmark.reason(ValueError("needs\n  code")) == "needs code"


def test_a_share_of_a_core_is_processor_time_over_time_passed(monkeypatch):
    clocks = {"perf_counter": count(0, 0.5).__next__, "process_time": count(0, 0.75).__next__}
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(**clocks))
    assert benchmark.spin(1.0) == 0.5  # 1.5 s have passed when it stops, and in half of them a core was ours
