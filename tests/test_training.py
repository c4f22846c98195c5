"""Training: the loss does not depend on chunks, everything is drawn from the seed, and a kill loses nothing."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import cardioembed_lib
from cardioembed_lib import checkpoint, encoder, fused, hierarchical, lora, training
from cardioembed_lib import losses as lib_losses
from cardioembed_study.notes import icd9


def train(folder, plan=tiny.PLAN, evaluate=None, pairs=None, found=None):
    found = found or tiny.encoder()
    history = training.train(found, pairs or tiny.pairs(), plan, folder, evaluate, progress=False)
    return found, history


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def gradients(found, pairs, rows, plan):
    found.model.zero_grad()
    loss = training.batch_loss(found, pairs, rows, plan)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in found.model.named_parameters() if p.requires_grad}


def stir(found):
    """Move B away from zero, so that A has gradients too."""
    torch.manual_seed(5)
    for name, parameter in found.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.05)
    return found


@pytest.fixture(scope="module")
def minilm():
    """Return all-MiniLM-L6-v2 with a stirred adapter, in eval mode, and its pairs."""
    found, pairs = tiny.minilm("cpu")
    found.model.eval()
    return stir(found), pairs


@pytest.fixture
def scripted():
    """Return an evaluation that gives the next of some scores, and the adapters it was shown."""

    def make(*scores):
        seen, left = [], list(scores)

        def evaluate(found):
            seen.append(tiny.adapter(found))
            return left.pop(0)

        return evaluate, seen

    return make


# ---- the loss


@pytest.mark.parametrize("negatives", [0, 2])
@pytest.mark.parametrize("budget", [1, 23, 64])
def test_chunks_change_neither_loss_nor_gradients(negatives, budget):
    pairs, rows = tiny.pairs(16, negatives), range(3, 14)
    found = stir(tiny.encoder(dropout=0.0))
    plan = replace(tiny.PLAN, symmetric=True)
    whole, whole_gradients = gradients(found, pairs, rows, replace(plan, token_budget=10**6))
    assert len(encoder.chunks([len(pairs.anchors[r]) for r in rows], 23)[-1]) not in (0, len(rows))
    loss, chunked = gradients(found, pairs, rows, replace(plan, token_budget=budget))
    assert math.isclose(loss, whole, rel_tol=1e-5)
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(chunked[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_chunks_change_neither_loss_nor_gradients_of_a_real_model(minilm):
    found, pairs = minilm
    whole, whole_gradients = gradients(found, pairs, range(7), tiny.plan(token_budget=10**6))
    loss, chunked = gradients(found, pairs, range(7), tiny.plan(token_budget=40))
    assert math.isclose(loss, whole, rel_tol=1e-5)
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(chunked[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_bfloat16_gives_nearly_the_loss_of_float32(minilm):
    found, pairs = minilm
    with torch.inference_mode():
        exact, rough = (
            training.batch_loss(found, pairs, range(7), tiny.plan(precision=p)).item() for p in ("float32", "bfloat16")
        )
    assert exact != rough
    assert math.isclose(exact, rough, abs_tol=0.03)


def test_automatic_precision_is_a_name_that_can_be_recorded():
    assert training.precision("auto") in {"bfloat16", "float32"}
    assert training.precision("float32") == "float32"


# ---- the other loss, and texts that are to keep their vectors


def test_the_plan_chooses_the_loss():
    found, pairs = stir(tiny.encoder(dropout=0.0)), tiny.pairs(16, negatives=2)
    plan = replace(tiny.PLAN, loss="triplet", margin=0.4)
    vectors = [encoder.forward(found, part) for part in (pairs.anchors[:8], pairs.positives[:8])]
    wrong = encoder.forward(found, [n for row in pairs.negatives[:8] for n in row]).view(8, 2, -1)
    wanted = lib_losses.triplet(*vectors, wrong, margin=0.4)
    torch.testing.assert_close(training.batch_loss(found, pairs, range(8), plan), wanted)


@pytest.mark.parametrize("mask_groups", [False, True])
def test_matryoshka_passes_negatives_and_masks_of_groups_on(mask_groups, monkeypatch):
    monkeypatch.setattr(lib_losses, "widths", lambda width: [width, 9, 4])  # the tiny model is 32 numbers wide
    found, pairs = stir(tiny.encoder(dropout=0.0)), replace(tiny.pairs(16, negatives=2), groups=[0, 0, 1, 2] * 4)
    plan = replace(tiny.PLAN, loss="matryoshka", mask_groups=mask_groups, temperature=0.3)
    vectors = [encoder.forward(found, part) for part in (pairs.anchors[:8], pairs.positives[:8])]
    vectors.append(encoder.forward(found, [n for row in pairs.negatives[:8] for n in row]).view(8, 2, -1))
    options = {"temperature": 0.3, "groups": pairs.groups[:8] if mask_groups else None}
    each = [lib_losses.info_nce(*(x[..., :cut] for x in vectors), **options) for cut in (32, 9, 4)]
    torch.testing.assert_close(training.batch_loss(found, pairs, range(8), plan), sum(each) / len(each))


def kept(n: int = 20) -> training.Kept:
    """Return toy texts with the vectors of the untouched tiny model."""
    ids = [[10 + i, 50 + i, 120] for i in range(n)]
    return training.Kept(ids, encoder.forward(tiny.encoder(), ids).detach().numpy())


def test_kept_texts_add_their_weighted_distance_from_the_base_and_nothing_else():
    found, pairs, plan = stir(tiny.encoder(dropout=0.0)), tiny.pairs(), replace(tiny.PLAN, keep_weight=3.0)
    alone = training.batch_loss(found, pairs, range(8), plan)
    moved = lib_losses.distillation(encoder.forward(found, kept().ids[4:9]), torch.from_numpy(kept().vectors[4:9]))
    assert moved > 1e-4
    both = training.batch_loss(found, pairs, range(8), plan, kept=kept(), kept_rows=range(4, 9))
    torch.testing.assert_close(both, alone + 3 * moved)
    untouched = training.batch_loss(tiny.encoder(dropout=0.0), pairs, range(8), plan, kept=kept(), kept_rows=[1, 2])
    torch.testing.assert_close(untouched, training.batch_loss(tiny.encoder(dropout=0.0), pairs, range(8), plan))


@pytest.mark.slow
def test_kept_texts_stay_nearer_to_the_base_than_without_and_a_resumed_run_is_the_same(tmp_path):
    plan = replace(tiny.PLAN, keep_texts=8, keep_weight=20.0)
    distances = []
    for weight in (0.0, plan.keep_weight):
        found = tiny.encoder()
        weighted = replace(plan, keep_weight=weight)
        training.train(found, tiny.pairs(), weighted, tmp_path / str(weight), None, False, kept())
        distances.append(lib_losses.distillation(encoder.forward(found, kept().ids), torch.from_numpy(kept().vectors)))
    assert distances[1] < 0.3 * distances[0]
    again = tiny.encoder()
    training.train(again, tiny.pairs(), plan, tmp_path / "20.0", None, False, kept())  # finished: only read back
    assert same(tiny.adapter(found), tiny.adapter(again))
    with pytest.raises(ValueError, match="another plan"):
        training.train(again, tiny.pairs(), plan, tmp_path / "20.0", None, False, kept(19))


def test_fewer_kept_texts_than_a_step_takes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="5 kept texts are fewer than the 8 of a step; lower keep_texts"):
        plan = replace(tiny.PLAN, keep_texts=8, keep_weight=1.0)
        training.train(tiny.encoder(), tiny.pairs(), plan, tmp_path, None, False, kept(5))


def test_kept_vectors_are_those_of_the_base_or_the_given_ones():
    found = tiny.encoder(adapter=False)
    texts = ["w3 w4", "w9"]
    aim = training.keep(found, texts)
    np.testing.assert_array_equal(aim.vectors, encoder.encode(found, texts))
    np.testing.assert_array_equal(training.keep(found, texts, 2 * aim.vectors).vectors, 2 * aim.vectors)
    assert aim.ids == encoder.tokenise(found, texts)
    assert training.keep(found, []).ids == []


# ---- what is random, and what is not


def test_only_the_adapter_drops_out():
    found = stir(tiny.encoder(dropout=0.5, base_dropout=0.5))
    training.train_mode(found.model)
    active = {n for n, m in found.model.named_modules() if m.training}
    assert active
    assert all("lora_dropout" in name for name in active)

    def loss(found):
        with torch.no_grad():
            return training.batch_loss(found, tiny.pairs(), range(8), tiny.PLAN).item()

    assert loss(found) != loss(found)
    found = stir(tiny.encoder(dropout=0.0, base_dropout=0.5))
    training.train_mode(found.model)
    assert loss(found) == loss(found)


@pytest.mark.parametrize("context", [fused.fused, nullcontext])
def test_gradient_checkpointing_recomputes_and_changes_nothing(context):
    found = stir(tiny.encoder(dropout=0.3))
    passes = []
    block = found.model.base_model.model.encoder.layer[1].intermediate.dense
    block.register_forward_hook(lambda *_: passes.append(1))
    results = []
    for checkpointing in (False, True):
        if checkpointing:
            found.model.gradient_checkpointing_enable()
        training.train_mode(found.model)
        torch.manual_seed(9)
        with context(found.model):
            results.append(gradients(found, tiny.pairs(), range(8), replace(tiny.PLAN, token_budget=10**6)))
    assert len(passes) == 1 + 2
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])


def test_same_seed_same_adapter_other_seed_another(tmp_path):
    plan = replace(tiny.PLAN, epochs=1)
    first, again, other = (
        tiny.adapter(train(tmp_path / str(i), replace(plan, seed=seed))[0]) for i, seed in enumerate((17, 17, 18))
    )
    assert same(first, again)
    assert not same(first, other)


def test_dropout_is_drawn_from_the_seed_and_not_from_what_an_evaluation_drew(tmp_path):
    plan = replace(tiny.PLAN, epochs=1, eval_every=2, batch_size=64)
    found, _ = train(tmp_path / "a", plan)

    def greedy(_):
        torch.rand(100)
        greedy.calls += 1
        return greedy.calls  # each better than the last: the last state is kept

    greedy.calls = 0
    assert same(tiny.adapter(found), tiny.adapter(train(tmp_path / "b", plan, greedy)[0]))


def test_an_epoch_shows_each_pair_at_most_once_and_the_next_in_another_order():
    plan = replace(tiny.PLAN, batch_size=7)
    first, second = (np.stack(list(training.batches(64, plan, epoch))) for epoch in (0, 1))
    assert first.shape == second.shape == (9, 7)
    assert len(set(first.flat)) == len(set(second.flat)) == 63
    assert first.tolist() != second.tolist()
    assert first.tolist() == [b.tolist() for b in training.batches(64, plan, 0)]
    assert first.tolist() != [b.tolist() for b in training.batches(64, replace(plan, seed=1), 0)]


def test_no_patient_is_twice_in_a_batch_where_that_is_asked():
    plan, groups = replace(tiny.PLAN, batch_size=4, one_of_group=True), [0] * 5 + [1] * 3 + list(range(2, 10))
    found = list(training.batches(16, plan, 0, groups))
    assert all(len({groups[row] for row in rows}) == len(rows) == 4 for rows in found)
    seen = [row for rows in found for row in rows]
    assert len(seen) == len(set(seen)) >= 12
    assert not np.array_equal(found[0], next(training.batches(16, plan, 1, groups)))


def labelled(codes, loss="soft_chapter"):
    return replace(tiny.pairs(), labels=icd9.labels(codes, loss) if codes else None)


def test_the_floor_of_the_labels_is_the_mean_over_the_first_epochs_batches():
    plan, codes = replace(tiny.PLAN, loss="soft_chapter"), [["42731"], ["486"]] * 32
    drawn = [[codes[r] for r in rows] for rows in training.batches(64, plan, 0)]
    floors = [hierarchical.soft_chapter_floor(tiny.chapters(batch)) for batch in drawn]
    assert training.label_floor(labelled(codes), plan) == pytest.approx(np.mean(floors))
    assert training.label_floor(tiny.pairs(), tiny.PLAN) == 0.0


@pytest.mark.parametrize("loss", ["soft_chapter", "himulcon"])
def test_lookups_that_missed_stop_the_run_before_its_first_step(tmp_path, loss):
    plan = replace(tiny.PLAN, loss=loss)
    for codes, missed in (([[]] * 64, 64), ([["42731"]] * 20 + [[]] * 44, 44), ([], 64)):
        with pytest.raises(ValueError, match=rf"{missed} of 64 label lookups missed.* the loss is InfoNCE"):
            train(tmp_path, plan, pairs=labelled(codes, loss))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", ["soft_chapter", "himulcon"])
def test_hierarchical_losses_train_and_resume(tmp_path, loss):
    plan = replace(tiny.PLAN, loss=loss, temperature=0.07, epochs=2)
    pairs = labelled([["42731"], ["4271"], ["486"], []] * 16, loss)
    _, history = train(tmp_path / "a", plan, pairs=pairs)
    values = [row["loss"] for row in history if "loss" in row]
    assert values[-1] < values[0] and min(values) > training.label_floor(pairs, plan)


def test_full_fine_tuning_moves_every_weight_and_the_base_can_be_had_back(tmp_path):
    found = tiny.encoder(adapter=False, base_dropout=0.0)
    before = {n: p.detach().clone() for n, p in found.model.named_parameters()}
    whole = encoder.with_model(found, lora.whole(found.model))
    history = training.train(whole, tiny.pairs(), replace(tiny.PLAN, learning_rate=1e-3), tmp_path, progress=False)
    losses = [row["loss"] for row in history]
    assert losses[-1] < losses[0]
    tuned = {n: p.detach().clone() for n, p in found.model.named_parameters()}
    still = [n for n, p in tuned.items() if torch.equal(p, before[n])]
    assert set(still) <= {"pooler.dense.weight", "pooler.dense.bias"}  # no gradient reaches what pooling leaves out
    for weight in (0.0, 0.25, 1.0):
        with lora.weighted(found.model, weight):
            for name, parameter in found.model.named_parameters():
                torch.testing.assert_close(parameter, before[name] + weight * (tuned[name] - before[name]))
    assert all(torch.equal(p, tuned[n]) for n, p in found.model.named_parameters())


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    plan = tiny.plan(learning_rate=2e-4, warmup_fraction=0.25)
    found = [training.learning_rate_at(step, 12, plan.learning_rate, plan.warmup_fraction) * 1e4 for step in range(12)]
    by_hand = [2 / 3, 4 / 3, 2] + [1 + math.cos(math.pi * k / 9) for k in range(9)]
    assert found == pytest.approx(by_hand)
    assert training.learning_rate_at(0, 1, 2e-4, 0.1) == 2e-4


# ---- a whole run


def test_forty_steps_halve_the_loss_and_leave_the_base_as_it_was(tmp_path):
    found = tiny.encoder()
    base = {n: p.clone() for n, p in found.model.named_parameters() if not p.requires_grad}
    _, history = train(tmp_path, replace(tiny.PLAN, epochs=5), found=found)
    loss = [row["loss"] for row in history]
    assert len(loss) == 40
    assert np.mean(loss[-5:]) < 0.5 * np.mean(loss[:2])
    assert same(base, {n: p for n, p in found.model.named_parameters() if not p.requires_grad})
    assert not any(m.training for m in found.model.modules())


def test_the_history_tells_every_step_and_score(tmp_path):
    plan = replace(tiny.PLAN, epochs=2)
    _, history = train(tmp_path, plan, tiny.dev_score)
    assert history == [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    steps = [row for row in history if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 17))
    assert [row["epoch"] for row in steps] == [0] * 8 + [1] * 8
    assert [row["learning_rate"] for row in steps] == [
        training.learning_rate_at(s, 16, plan.learning_rate, plan.warmup_fraction) for s in range(16)
    ]
    assert all(row["gradient_norm"] > 0 for row in steps)
    assert [row["step"] for row in history if "dev_score" in row] == [0, 6, 12, 16]


def test_the_best_adapter_remains(tmp_path, scripted):
    evaluate, seen = scripted(0.1, 0.5, 0.9, 0.8, 0.9, 0.2)
    found, _ = train(tmp_path, replace(tiny.PLAN, eval_every=7), evaluate)
    assert len(seen) == 6
    assert same(tiny.adapter(found), seen[2])
    again, _ = train(tmp_path, replace(tiny.PLAN, eval_every=7), evaluate)  # finished: nothing is evaluated again
    assert same(tiny.adapter(again), seen[2])


def test_a_base_that_is_best_stays_as_it_was(tmp_path, scripted):
    evaluate, seen = scripted(1.0, *[0.5] * 6)
    found, _ = train(tmp_path, tiny.PLAN, evaluate)
    assert same(tiny.adapter(found), seen[0])
    assert all((p == 0).all() for n, p in tiny.adapter(found).items() if "lora_B" in n)


def test_patience_ends_a_run_that_no_longer_improves(tmp_path, scripted):
    evaluate, seen = scripted(0.1, 0.3, 0.2, 0.25)
    plan = replace(tiny.PLAN, eval_every=5, patience=2)
    found, history = train(tmp_path, plan, evaluate)
    assert history[-1] == {"step": 15, "dev_score": 0.25}
    assert same(tiny.adapter(found), seen[1])
    assert train(tmp_path, plan, evaluate)[1] == history  # and stays ended


def test_progress_is_shown_only_when_asked_for(tmp_path, capfd):
    training.train(tiny.encoder(), tiny.pairs(), replace(tiny.PLAN, epochs=1), tmp_path / "a", progress=False)
    assert "step" not in capfd.readouterr().err
    training.train(tiny.encoder(), tiny.pairs(), replace(tiny.PLAN, epochs=1), tmp_path / "b", progress=True)
    shown = capfd.readouterr().err
    assert "8/8" in shown
    assert "loss=" in shown
    assert "pairs_per_s=" in shown


# ---- what is refused


def test_fewer_pairs_than_a_batch_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^5 training pairs are fewer than one batch of 8; lower batch_size$"):
        train(tmp_path, pairs=tiny.pairs(5))


def test_another_plan_or_other_pairs_under_the_same_name_are_refused(tmp_path):
    train(tmp_path, replace(tiny.PLAN, epochs=1))
    with pytest.raises(
        ValueError, match=r"another plan \(kept, wanted\): \{'epochs': \(1, 2\)\}; choose another run name"
    ):
        train(tmp_path, replace(tiny.PLAN, epochs=2))
    with pytest.raises(ValueError, match=r"\{'pairs': .*choose another run name"):
        train(tmp_path, replace(tiny.PLAN, epochs=1), pairs=tiny.pairs(65))


def rewritten(change, metadata=lambda kept: kept):
    """Return a damage: what the checkpoint holds, changed by a hand that knows safetensors."""

    def harm(file):
        with safe_open(file, "pt") as opened:
            kept, tensors = opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        change(tensors)
        save_file(tensors, file, metadata(kept))

    return harm


def flipped(place):
    def harm(file):
        content = bytearray(file.read_bytes())
        content[place(content)] ^= 1
        file.write_bytes(content)

    return harm


def first(tensors):
    return next(key for key in sorted(tensors) if key.startswith("adapter/"))


UNREAD, OTHER, BARE = "cannot be read", "does not hold what was written", "has no sha256 of its content"
DAMAGE = {
    "empty": (lambda f: f.write_bytes(b""), UNREAD),
    "cut": (lambda f: f.write_bytes(f.read_bytes()[:-7]), UNREAD),
    "cut in the header": (lambda f: f.write_bytes(f.read_bytes()[:20]), UNREAD),
    "longer": (lambda f: f.write_bytes(f.read_bytes() + b"x"), UNREAD),
    "zeros": (lambda f: f.write_bytes(bytes(f.stat().st_size)), UNREAD),
    "text": (lambda f: f.write_text("weights"), UNREAD),
    "a bit of the header's length": (flipped(lambda _: 0), UNREAD),
    "a bit of a number": (flipped(lambda _: -3), OTHER),
    "a bit of the digest": (flipped(lambda c: c.index(b"sha256") + 14), OTHER),
    "a bit of the digest's name": (flipped(lambda c: c.index(b"sha256") + 3), BARE),
    "a bit of the position's form": (flipped(lambda c: c.index(b"step") + 6), UNREAD),
    "a bit of the position": (flipped(lambda c: c.index(b'step\\": ') + 8), OTHER),
    "all tensors zero": (rewritten(lambda t: [tensor.zero_() for tensor in t.values()]), OTHER),
    "a missing tensor": (rewritten(lambda t: t.pop(first(t))), OTHER),
    "an extra tensor": (rewritten(lambda t: t.update({"adapter/more": torch.ones(2)})), OTHER),
    "a misnamed tensor": (rewritten(lambda t: t.update({"adapter/more": t.pop(first(t))})), OTHER),
    "another shape": (rewritten(lambda t: t.update({first(t): t[first(t)].T.contiguous()})), OTHER),
    "another precision": (rewritten(lambda t: t.update({first(t): t[first(t)].bfloat16()})), OTHER),
    "of before, without a digest": (rewritten(lambda t: None, lambda kept: {"position": '{"step": 8}'}), BARE),
    "no metadata": (rewritten(lambda t: None, lambda kept: None), BARE),
}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halfway")
    train(folder, replace(tiny.PLAN, epochs=1), tiny.dev_score)
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_that_is_not_what_was_written_is_refused_and_nothing_of_it_is_used(tmp_path, halfway, damage):
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    file, found = tmp_path / "checkpoint" / "last.safetensors", tiny.encoder()
    harm, problem = DAMAGE[damage]
    harm(file)
    harmed, before = file.read_bytes(), tiny.adapter(found)
    message = rf"checkpoint/last.safetensors {problem}.*; delete the folder checkpoint/ to start anew$"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, replace(tiny.PLAN, epochs=1), tiny.dev_score, found=found)
    assert same(before, tiny.adapter(found)) and file.read_bytes() == harmed
    shutil.rmtree(file.parent)
    assert len(train(tmp_path, replace(tiny.PLAN, epochs=1), tiny.dev_score)[1]) == 11


@pytest.mark.slow
def test_any_flipped_bit_of_a_checkpoint_is_refused(tmp_path, halfway):
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    file, draw = tmp_path / "checkpoint" / "last.safetensors", np.random.default_rng(0)
    right = file.read_bytes()
    for place in (*draw.integers(0, len(right), 60), *draw.integers(0, 4000, 20)):
        content = bytearray(right)
        content[place] ^= 1 << draw.integers(8)
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"delete the folder checkpoint/"):
            checkpoint.State(tiny.encoder().model, None, {}, tmp_path).resume()


def test_a_checkpoint_of_another_model_is_refused(tmp_path, halfway):
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    found = tiny.with_adapter(tiny.encoder(adapter=False), rank=4)
    with pytest.raises(ValueError, match=r"last.safetensors is of a model with other tensors; choose another run name"):
        train(tmp_path, replace(tiny.PLAN, epochs=1), found=found)


SHORT = replace(tiny.PLAN, epochs=2)  # 16 steps


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return tiny.adapter(train(tmp_path_factory.mktemp("unbroken"), SHORT)[0])


@pytest.mark.parametrize("broken", ["loss", "gradient"])
@pytest.mark.parametrize("at", [2, 15])
def test_numbers_that_are_not_finite_stop_the_run_and_the_checkpoint_is_good(
    tmp_path, monkeypatch, unbroken, broken, at
):
    calls, info_nce = [], lib_losses.info_nce

    def faulty(*args, **kwargs):
        calls.append(1)
        loss = info_nce(*args, **kwargs)
        if len(calls) < at:
            return loss
        return loss * math.nan if broken == "loss" else loss + (loss - loss.detach()) * math.inf

    with monkeypatch.context() as patch:
        patch.setattr(lib_losses, "info_nce", faulty)
        found = tiny.encoder()
        kept = "the last checkpoint is kept in checkpoint/last.safetensors" if at > 4 else "no checkpoint was due yet"
        with pytest.raises(FloatingPointError, match=rf"at step {at}, batch of pairs toy:\d+, .*; {kept}; lower"):
            train(tmp_path / "run", SHORT, found=found)
    assert all(torch.isfinite(t).all() for t in tiny.adapter(found).values())
    path = tmp_path / "run" / "checkpoint" / "last.safetensors"
    assert path.exists() == (at > 4)
    if path.exists():
        with safe_open(path, "pt") as file:
            assert all(torch.isfinite(file.get_tensor(key)).all() for key in file.keys())  # noqa: SIM118
            assert json.loads(file.metadata()["position"])["step"] == (at - 1) // 4 * 4
    assert same(unbroken, tiny.adapter(train(tmp_path / "run", SHORT)[0]))


def test_a_dev_score_that_is_not_a_number_stops_the_run(tmp_path, scripted):
    with pytest.raises(FloatingPointError, match=r"dev score is nan at step 6; the last checkpoint is kept"):
        train(tmp_path, evaluate=scripted(0.1, math.nan)[0])


# ---- killed, and shared


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Return a folder of runs by processes of their own, and how each process ended that was to be killed."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-W", "ignore", tiny.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.slow
def test_a_run_killed_anywhere_ends_with_the_very_same_bytes(processes):
    folder, ends = processes
    assert {point for point, _ in ends} >= set(tiny.POINTS)
    assert [point for point, end in ends if point in tiny.POINTS and end != -9] == []
    assert ends[-1] == ["unhurt", 0]
    for name in ("adapter.safetensors", "history.jsonl"):
        assert (folder / "killed" / name).read_bytes() == (folder / "unbroken" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("loss", tiny.SHARED)
@pytest.mark.parametrize(("name", "world"), [("2", 2), ("4", 4), ("lost", 4), ("sharded", 2)])
def test_processes_that_share_each_batch_train_the_adapter_of_one(processes, loss, name, world):
    """Also where two began, one of them died, and four went on; and where two share the base as well."""
    one, shared = processes[0] / "one" / loss, processes[0] / name / loss
    first, *others = (read(shared / f"rank{rank}.safetensors") for rank in range(world))
    assert all(same(first, other) for other in others)
    for key, tensor in read(one / "rank0.safetensors").items():
        if key.endswith("self.key.bias"):  # attention does not depend on it: its gradient is rounding
            continue
        torch.testing.assert_close(first[key], tensor, rtol=1e-3, atol=1e-5, msg=key)
    alone, together = (
        [json.loads(line) for line in (place / "history.jsonl").read_text().splitlines()] for place in (one, shared)
    )
    assert len(alone) == len(together)
    for ours, theirs in zip(alone, together, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert all("another plan" in (shared / f"refused{rank}.txt").read_text() for rank in range(world))


@pytest.mark.slow
def test_ranks_that_do_not_begin_alike_are_refused_by_all(processes):
    """One disk for the run's folder is missing, so that one rank alone has the checkpoint."""
    for rank in range(2):
        said = (processes[0] / "apart" / f"refused{rank}.txt").read_text()
        assert (
            "rank 1 begins at step 0, rank 0 at 8, or their plans, pairs or evaluate differ; give all the same, and one"
            in said
        )


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_in_words(processes):
    said = (processes[0] / "lost" / "lost.txt").read_text()
    assert "rank 0 of 2 gets no answer from another at step 6: one has died" in said
    assert "the last checkpoint is kept in checkpoint/last.safetensors; start all again" in said


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"LOCAL_RANK": "1", "RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        ({"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "1"}, (0, 1)),
        ({"LOCAL_RANK": "0"}, (0, 1)),
        ({"LOCAL_RANK": "", "RANK": "", "WORLD_SIZE": ""}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),
    ],
)
def test_a_process_was_launched_beside_others_only_if_all_says_so(monkeypatch, given, wanted):
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cardioembed_lib.launched() == wanted


def test_processes_that_do_not_divide_a_batch_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ranks", lambda: (0, 3))
    with pytest.raises(ValueError, match="batch_size is 8; it must be a multiple of the 3 processes"):
        train(tmp_path)


def read(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


MINILM = """
import sys
from pathlib import Path
import tiny
from cardioembed_lib import encoder as encoders, training
from safetensors.torch import save_file
found, pairs = tiny.minilm("cpu")
plan = training.Plan(batch_size=4, epochs=6, learning_rate=2e-4, seed=17, eval_every=5, checkpoint_every=2)
folder = Path(sys.argv[1])
print("ready", flush=True)
training.train(found, pairs, plan, folder, lambda e: float(encoders.encode(e, tiny.SENTENCES)[0, 0]), False)
save_file(tiny.adapter(found), folder / "adapter.safetensors")
"""


@pytest.mark.slow
def test_a_real_model_killed_in_processes_of_its_own_ends_with_the_very_same_bytes(tmp_path):
    def start(name):
        command = [sys.executable, "-W", "ignore", "-c", MINILM, str(tmp_path / name)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        )
        assert process.stdout.readline() == "ready\n"
        return process

    started = start("unbroken")
    begun = time.perf_counter()
    assert started.wait() == 0
    whole = time.perf_counter() - begun
    killed = 0
    for delay in np.random.default_rng(7).uniform(0.1, 0.5, 1) * whole:
        process = start("killed")
        time.sleep(delay)
        process.kill()
        killed += process.wait() == -9
    assert killed >= 1
    assert start("killed").wait() == 0
    for name in ("adapter.safetensors", "history.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
