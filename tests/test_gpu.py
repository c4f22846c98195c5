"""Training on a GPU: the same numbers as on a processor, nothing lost in a kill, and the paper's own shape."""

import importlib.util
from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import load_file

from cardioembed_lib import encoder as encoders
from cardioembed_lib import training
from cardioembed_study import paths

spec = importlib.util.spec_from_file_location("gpu_benchmark", paths.ROOT / "benchmarks" / "gpu.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("bits", [0, 8])
@pytest.mark.slow
def test_the_benchmark_runs_at_a_toy_size(tmp_path, bits):
    if bits:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    record = benchmark.main(["--tiny", "--steps", "12", "--bits", str(bits), "--out", str(tmp_path)])
    metrics = record["metrics"]
    assert metrics["pairs_per_s"] > 0
    assert 0 < metrics["share_of_matrix_rate"] < 1
    assert 20 < metrics["tokens_a_text"] < 36
    assert metrics["loss_last"] < metrics["loss_first"] + 1
    assert record["counts"] == {"pairs": 96, "steps": 12, "steps_timed": 7}


def test_the_benchmark_has_the_shape_of_the_paper():
    shape = benchmark.config(tiny=False)
    with torch.device("meta"):
        model = benchmark.Qwen3Model(shape)
    assert sum(p.numel() for p in model.parameters()) == 7_567_295_488  # data_manifests/models.yaml


@pytest.mark.gpu
def test_a_step_on_the_gpu_is_a_step_on_the_processor():
    plan = tiny.plan(batch_size=8)
    results = []
    for device in ("cpu", "cuda"):
        found, pairs = tiny.minilm(device)
        loss = training.batch_loss(found, pairs, range(8), plan)
        loss.backward()
        results.append((loss.item(), {n: p.grad.cpu() for n, p in found.model.named_parameters() if p.requires_grad}))
    (loss, gradients), (gpu_loss, gpu_gradients) = results
    assert gpu_loss == pytest.approx(loss, abs=2e-3)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gpu_gradients[name], gradient, rtol=2e-2, atol=2e-3, msg=name)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_stopped_on_the_gpu_ends_with_the_very_same_bytes(tmp_path, precision):
    plan = tiny.plan(batch_size=4, epochs=8, eval_every=3, checkpoint_every=2, precision=precision)

    def run(name, stop_at=None):
        found, pairs = tiny.minilm("cuda")
        calls = []

        def evaluate(encoder):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return float(encoders.encode(encoder, tiny.SENTENCES)[0, 0])

        training.train(found, pairs, plan, tmp_path / name, evaluate, progress=False)
        return tiny.adapter(found)

    unbroken = run("unbroken")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop_at=4)
    resumed = run("stopped")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    kept = [load_file(tmp_path / name / "checkpoint" / "last.safetensors") for name in ("unbroken", "stopped")]
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])


@pytest.mark.gpu
def test_bfloat16_on_the_gpu_gives_nearly_the_loss_of_float32():
    found, pairs = tiny.minilm("cuda")
    plan = tiny.plan(batch_size=8)
    with torch.inference_mode():
        exact, rough = (
            training.batch_loss(found, pairs, range(8), replace(plan, precision=p)).item()
            for p in ("float32", "bfloat16")
        )
    assert rough == pytest.approx(exact, abs=0.05)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 8])
def test_the_shape_of_the_paper_trains_on_one_gpu(tmp_path, bits):
    free = torch.cuda.mem_get_info()[0] / 2**30
    if free < 60:
        pytest.skip(f"{free:.0f} GiB of GPU memory are free; the 8B shape wants 60")
    metrics = benchmark.main(["--bits", str(bits), "--out", str(tmp_path)])["metrics"]
    assert metrics["peak_gib"] < 60
    assert metrics["pairs_per_s"] > 10
    assert metrics["share_of_matrix_rate"] > 0.1
