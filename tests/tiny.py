"""A two-layer random model, a toy task, and runs of them in processes of their own that are killed or share a batch.

``python tests/tiny.py FOLDER`` makes those runs; all begin in one fresh process, for none can begin where a model has
been trained before.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as token_models
from torch import distributed
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from cardioembed_lib import checkpoint, lora, models, training
from cardioembed_lib import encoder as encoders
from cardioembed_study import paths
from cardioembed_study.notes import icd9

WORDS = 200
PLAN = training.Plan(
    batch_size=8,
    epochs=4,
    learning_rate=5e-3,
    seed=17,
    precision="float32",
    eval_every=6,
    checkpoint_every=4,
)
SENTENCES = [
    "The ventricle fills while the valve above it stands open.",
    "Filling stretches the wall.",
    "A stretched muscle shortens with more force, within limits that every textbook draws as a curve that rises and flattens.",
    "Rhythm starts in a small node high in the right atrium.",
    "The node is paced by currents that leak inward between two beats.",
    "Beta blockers slow it.",
    "A narrowed artery brings too little blood when the work of the heart grows.",
    "Rest relieves the pain within minutes; pain at rest is a warning.",
]
VOCABULARY = (
    "the heart pumps blood through arteries and veins a valve opens closes atrium ventricle rhythm pulse pressure "
    "failure murmur stent walk in garden is not of to patient had pain after exercise"
)
LONG = replace(PLAN, epochs=8, token_budget=128)  # 64 steps of two chunks: more than all kills at a point let pass


def spec(name: str) -> models.ModelSpec:
    return models.spec(name, paths.MODELS)


def chapters(codes) -> torch.Tensor:
    return torch.from_numpy(icd9.labels(codes, "soft_chapter"))


def levels(codes) -> torch.Tensor:
    return torch.from_numpy(icd9.labels(codes, "himulcon"))


def plan(**given) -> training.Plan:
    """Return the paper's plan, in float32, but for what is given."""
    paper = {"batch_size": 128, "epochs": 2, "learning_rate": 2e-4, "seed": 17, "precision": "float32"}
    return training.Plan(**paper | given)


def encoder(*, adapter: bool = True, dropout: float = 0.05, base_dropout: float = 0.1) -> encoders.Encoder:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=base_dropout,
        attention_probs_dropout_prob=base_dropout,
        initializer_range=0.2,
    )
    model = BertModel(config).eval().requires_grad_(False)
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i for i in range(2, WORDS)}
    words = Tokenizer(token_models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    found = encoders.Encoder("tiny", model, tokenizer, "mean", {"query": "", "document": ""}, 32, "r0")
    return with_adapter(found, dropout=dropout) if adapter else found


def bert(seed: int = 0, pooling: str = "mean", max_length: int = 32) -> encoders.Encoder:
    """Return a two-layer random BERT: ``[CLS]`` and ``[SEP]`` around a text, padded right, mean pooling."""
    tokenizer = words(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", pad_token="[PAD]", unk_token="[UNK]")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.2, **sizes)
    return _random(BertModel, config, tokenizer, seed, pooling, max_length)


def qwen3(seed: int = 0, max_length: int = 32) -> encoders.Encoder:
    """Return a two-layer random Qwen3, padded left; the tokenizer appends an end token that is not ``eos_token``."""
    end, chat_end = "<|endoftext|>", "<|im_end|>"
    special = {"pad_token": end, "eos_token": chat_end, "unk_token": "<unk>", "padding_side": "left"}
    tokenizer = words(["<unk>", chat_end, end], f"$A {end}", **special)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    config = Qwen3Config(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **heads)
    return _random(Qwen3Model, config, tokenizer, seed, "last", max_length)


def causal(folder: Path) -> Path:
    """Write a two-layer random causal model with its tokenizer into a folder and return it: it answers with any words."""
    tokenizer = words(["<unk>", "<end>"], "$A", pad_token="<end>", eos_token="<end>", unk_token="<unk>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen3Config(vocab_size=len(tokenizer), num_key_value_heads=2, head_dim=8, eos_token_id=1, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gemma3(seed: int = 0, max_length: int = 32) -> encoders.Encoder:
    """Return a two-layer random Gemma3 text model that looks both ways, as embeddinggemma does; mean pooling."""
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = words(list(special.values()), "<bos> $A <eos>", **special)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "head_dim": 8, "use_bidirectional_attention": True}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = Gemma3TextConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **heads, **ids)
    return _random(Gemma3TextModel, config, tokenizer, seed, "mean", max_length)


def words(special: list[str], template: str, **options) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, its special tokens first and put around a text as the template says."""
    vocabulary = {word: i for i, word in enumerate([*special, *VOCABULARY.split()])}
    inner = Tokenizer(token_models.WordLevel(vocabulary, unk_token=options["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(token, vocabulary[token]) for token in special if token in template]
    inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **options)


def _random(kind, config, tokenizer, seed: int, pooling: str, max_length: int) -> encoders.Encoder:
    """Return an encoder around a random model, eval mode, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval().requires_grad_(False)
    prompts = {"query": "", "document": ""}
    return encoders.Encoder(f"tiny-{config.model_type}", model, tokenizer, pooling, prompts, max_length, f"seed{seed}")


def with_adapter(base: encoders.Encoder, *, dropout: float = 0.05, rank: int = 8) -> encoders.Encoder:
    model = lora.attach(base.model, rank=rank, alpha=2 * rank, dropout=dropout, targets="all-linear", seed=1)
    return encoders.with_model(base, model)


def minilm(device: str) -> tuple[encoders.Encoder, training.Pairs]:
    """Return all-MiniLM-L6-v2 with a fresh adapter, and pairs of each sentence with the next, the last with the first."""
    found = with_adapter(models.load(spec("all-MiniLM-L6-v2"), device=device))
    ids = encoders.tokenise(found, SENTENCES)
    n = range(len(ids))
    return found, training.Pairs(ids, ids[1:] + ids[:1], [[] for _ in n], list(n), [f"s:{i}" for i in n])


def pairs(n: int = 64, negatives: int = 0) -> training.Pairs:
    """Return pairs in which each word of an anchor has its partner, 90 numbers on, in the positive; two of a group."""
    rng = np.random.default_rng(3)

    def text(low: int) -> list[int]:
        return rng.integers(low, low + 90, rng.integers(3, 12)).tolist()

    anchors = [text(10) for _ in range(n)]
    return training.Pairs(
        anchors=anchors,
        positives=[[t + 90 for t in anchor] for anchor in anchors],
        negatives=[[text(100) for _ in range(negatives)] for _ in range(n)],
        groups=[i // 2 for i in range(n)],
        ids=[f"toy:{i}" for i in range(n)],
    )


def adapter(found: encoders.Encoder) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in found.model.named_parameters() if p.requires_grad}


def dev_score(found: encoders.Encoder) -> float:
    """Return minus the loss on eight toy pairs; draws random numbers too, as an evaluation may."""
    torch.rand(3), np.random.rand(3)
    with torch.inference_mode():
        return -training.batch_loss(found, pairs(), range(8), PLAN).item()


def run(folder: Path, plan: training.Plan = LONG, dropout: float = 0.05) -> None:
    """Train (or go on training) the tiny model and write its adapter's bytes beside the history."""
    found = encoder(dropout=dropout)
    training.train(found, pairs(), plan, folder, dev_score, progress=False)
    save_file(adapter(found), folder / "adapter.safetensors")


# ---- killed


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: object, name: str, *, before: bool = False, after: bool = False, when=lambda *args: True) -> None:
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        if before and when(*args):
            _die()
        out = original(*args, **kwargs)
        if after and when(*args):
            _die()
        return out

    setattr(owner, name, wrapped)


def _half_a_line(*args) -> None:
    with args[0].open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "epo')
    _die()


def _half_a_file(tensors, path, metadata) -> None:
    save_file(tensors, path, metadata)
    os.truncate(path, path.stat().st_size // 2)
    _die()


def _log_half(state, row) -> None:
    _half_a_line(state.history_path)


def _to(name: str):
    return lambda _, target: Path(target).name == name


POINTS = {
    "in an evaluation": lambda: _around(
        training.encoders, "forward", before=True, when=lambda *a: torch.is_inference_mode_enabled()
    ),
    "after an evaluation": lambda: _around(training, "_judge", after=True),
    "before the optimiser's step": lambda: _around(torch.optim.AdamW, "step", before=True),
    "after the optimiser's step": lambda: _around(torch.optim.AdamW, "step", after=True),
    "in a line of the history": lambda: setattr(checkpoint.State, "log", _log_half),
    "in the file aside": lambda: setattr(checkpoint, "save_file", _half_a_file),
    "before the flush": lambda: _around(os, "fsync", before=True),
    "after the flush": lambda: _around(os, "fsync", after=True),
    "before the replacement": lambda: _around(os, "replace", before=True, when=_to("last.safetensors")),
    "after the replacement": lambda: _around(os, "replace", after=True, when=_to("last.safetensors")),
    "in the history's rewriting": lambda: setattr(Path, "write_text", lambda p, *_, **__: _half_a_line(p)),
    "before the history's replacement": lambda: _around(os, "replace", before=True, when=_to("history.jsonl")),
}


def _fork(task, *args) -> int:
    """Return the number of a new process that does a task; all training happens in such (autograd's threads cannot fork)."""
    child = os.fork()
    if child:
        return child
    try:
        task(*args)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _end(child: int) -> int:
    """Return a process's exit status: -9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _life(folder: Path, point: str = "", delay: float | None = None) -> int:
    """Run until done, or killed at a point or after a delay, and return the exit status."""
    child = _fork(lambda: (POINTS[point]() if point else None, run(folder)))
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return _end(child)


def unbroken_and_killed(folder: Path) -> list[tuple[str, int]]:
    """Train once unbroken, once killed at every point, in a random order, and at random moments; return what happened."""
    started = time.perf_counter()
    assert _life(folder / "unbroken") == 0
    whole = time.perf_counter() - started
    draw = random.Random(1)
    points = list(POINTS)
    draw.shuffle(points)
    points.insert(0, "after the replacement")  # so that there is a checkpoint for the points in resume
    ends = [(point, _life(folder / "killed", point)) for point in points]
    for _ in range(5):
        delay = draw.uniform(0.0, 0.2 * whole)
        ends.append((f"after {delay:.2f} s", _life(folder / "killed", delay=delay)))
    ends.append(("unhurt", _life(folder / "killed")))
    return ends


# ---- shared


SHARED = {  # what several processes train: each loss that compares the pairs of a batch, and whole models
    **{
        loss: replace(PLAN, epochs=1, token_budget=64, symmetric=True, loss=loss)
        for loss in ("infonce", "soft_chapter", "himulcon")
    },
    "whole": replace(PLAN, epochs=1, learning_rate=1e-4),
    "straddling": replace(PLAN, epochs=1, token_budget=2),  # some ranks' texts are above KEPT_CHUNKS, some below
}


def shared(name: str) -> encoders.Encoder:
    """Return what ``SHARED`` trains, without dropout; not all of a whole model's weights have a gradient."""
    if name != "whole":
        return encoder(dropout=0.0)
    found = encoder(adapter=False, base_dropout=0.0)
    return encoders.with_model(found, lora.whole(found.model))


def labelled(loss: str) -> training.Pairs:
    """Return the toy pairs with random labels of three chapters, or of two levels."""
    draw = np.random.default_rng(5)
    labels = draw.random((64, 3)) < 0.4 if loss == "soft_chapter" else draw.integers(-1, 3, (64, 2))
    return replace(pairs(), labels=labels if loss in ("soft_chapter", "himulcon") else None)


def ranks(folder: Path) -> None:
    """Train with one process; with two and four that share each batch; with two of which one dies, gone on with by four;
    with two that share the base as well. There is no dropout.
    """
    assert _end(_fork(_alone, folder / "one")) == 0
    for name, world in (("2", 2), ("4", 4)):
        assert _side_by_side(folder / name, world) == [0] * world
    assert _side_by_side(folder / "lost", 2, dies=1) == [0, -signal.SIGKILL]
    (folder / "lost" / "meeting").unlink(missing_ok=True)
    assert _side_by_side(folder / "lost", 4) == [0] * 4
    assert _side_by_side(folder / "sharded", 2, shards=True) == [0, 0]
    (folder / "apart").mkdir()
    assert [_end(child) for child in [_fork(_unlike, folder, rank) for rank in range(2)]] == [0, 0]


def _unlike(folder: Path, rank: int) -> None:
    """Go on with a run that the other rank does not know."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/apart/meeting", rank=rank, world_size=2)
    run = folder / ("apart/other" if rank else "2/infonce")
    try:
        training.train(shared("infonce"), pairs(), SHARED["infonce"], run, dev_score, progress=False)
    except ValueError as error:
        (folder / "apart" / f"refused{rank}.txt").write_text(str(error))


def _alone(folder: Path) -> None:
    for loss, plan in SHARED.items():
        found = shared(loss)
        training.train(found, labelled(loss), plan, folder / loss, dev_score, progress=False)
        save_file(adapter(found), folder / loss / "rank0.safetensors")


def _side_by_side(folder: Path, world: int, dies: int = -1, shards: bool = False) -> list[int]:
    folder.mkdir(exist_ok=True)
    children = [_fork(_rank, folder, rank, world, rank == dies, shards) for rank in range(world)]
    return [_end(child) for child in children]


def _rank(folder: Path, rank: int, world: int, dies: bool, shards: bool) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    if dies:
        _around(training, "_step", before=True, when=lambda *a: a[4].step == 5)
    for loss, plan in SHARED.items():
        found = shared(loss)
        lora.shard(found.model) if shards else None
        evaluate = dev_score if rank == 0 or shards else _not_asked
        try:
            training.train(found, labelled(loss), plan, folder / loss, evaluate, progress=False)
        except RuntimeError as error:
            if "gets no answer" not in str(error):
                raise
            (folder / "lost.txt").write_text(str(error))
            return
        save_file(adapter(found), folder / loss / f"rank{rank}.safetensors")
        try:
            training.train(found, labelled(loss), replace(plan, epochs=2), folder / loss, evaluate, progress=False)
        except ValueError as error:  # all ranks refuse another plan
            (folder / loss / f"refused{rank}.txt").write_text(str(error))
    distributed.destroy_process_group()


def _not_asked(_) -> float:
    raise AssertionError("only rank 0 evaluates")


if __name__ == "__main__":
    torch.set_num_threads(1)  # a forked process may not use OpenMP's threads
    ranks(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(unbroken_and_killed(Path(sys.argv[1]))))
