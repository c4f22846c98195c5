"""What every test may use: no network, the packaged model, and tiny random models made in memory."""

import os
import signal
import socket

import tiny

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, which reads it once; child processes inherit it

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
)

from cardioembed_lib import encoder as encoders
from cardioembed_lib import models as lib_models

torch.set_num_threads(1)  # tiny models gain nothing from a second thread, and lose much where the cores are shared

LOOPBACK = ("localhost", "127.", "::1")
VOCABULARY = (
    "the heart pumps blood through arteries and veins a valve opens closes atrium ventricle rhythm pulse pressure "
    "failure murmur stent walk in garden is not of to patient had pain after exercise"
)


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection and every look-up of a name that leaves this machine."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host):
        if host is not None and not str(host).startswith(LOOPBACK):
            raise RuntimeError(f"a test tried to reach {host}; tests may use this machine only (tests/conftest.py)")

    def guarded_connect(self, address):
        check(address[0] if self.family in (socket.AF_INET, socket.AF_INET6) else None)
        return connect(self, address)

    def guarded_connect_ex(self, address):
        check(address[0] if self.family in (socket.AF_INET, socket.AF_INET6) else None)
        return connect_ex(self, address)

    def guarded_look_up(host, *args, **kwargs):
        check(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        yield


@pytest.fixture
def no_hang():
    """Stop a test after 5 seconds of processor time, ten times what it needs unless its work grows with the square."""

    def stop(*_):
        raise RuntimeError("still running after 5 s of processor time: the work grows faster than the input")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 5)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.fixture(scope="session")
def minilm():
    """Return the packaged all-MiniLM-L6-v2; no test may change it (lay an adapter on a copy)."""
    return lib_models.load(tiny.spec("all-MiniLM-L6-v2"), device="cpu")


@pytest.fixture(scope="session")
def tiny_bert():
    """Return a maker of two-layer random BERTs: ``[CLS]`` and ``[SEP]`` around a text, padded right, mean pooling."""

    def make(seed: int = 0, pooling: str = "mean", max_length: int = 32) -> encoders.Encoder:
        tokenizer = words(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", pad_token="[PAD]", unk_token="[UNK]")
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.2, **sizes)
        return encoder(BertModel, config, tokenizer, seed, pooling, max_length)

    return make


@pytest.fixture(scope="session")
def tiny_qwen3():
    """Return a maker of two-layer random Qwen3s, padded left; the tokenizer appends an end token that is not ``eos_token``."""

    def make(seed: int = 0, max_length: int = 32) -> encoders.Encoder:
        end, chat_end = "<|endoftext|>", "<|im_end|>"
        special = {"pad_token": end, "eos_token": chat_end, "unk_token": "<unk>", "padding_side": "left"}
        tokenizer = words(["<unk>", chat_end, end], f"$A {end}", **special)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        heads = {"num_key_value_heads": 2, "head_dim": 8}
        config = Qwen3Config(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **heads)
        return encoder(Qwen3Model, config, tokenizer, seed, "last", max_length)

    return make


@pytest.fixture(scope="session")
def tiny_gemma3():
    """Return a maker of two-layer random Gemma3 text models that look both ways, as embeddinggemma does; mean pooling."""

    def make(seed: int = 0, max_length: int = 32) -> encoders.Encoder:
        special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
        tokenizer = words(list(special.values()), "<bos> $A <eos>", **special)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        heads = {"num_key_value_heads": 2, "head_dim": 8, "use_bidirectional_attention": True}
        ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        config = Gemma3TextConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **heads, **ids)
        return encoder(Gemma3TextModel, config, tokenizer, seed, "mean", max_length)

    return make


def words(special: list[str], template: str, **options) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, its special tokens first and put around a text as the template says."""
    vocabulary = {word: i for i, word in enumerate([*special, *VOCABULARY.split()])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=options["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(token, vocabulary[token]) for token in special if token in template]
    inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **options)


def encoder(kind, config, tokenizer, seed: int, pooling: str, max_length: int) -> encoders.Encoder:
    """Return an encoder around a random model, eval mode, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval().requires_grad_(False)
    prompts = {"query": "", "document": ""}
    return encoders.Encoder(f"tiny-{config.model_type}", model, tokenizer, pooling, prompts, max_length, f"seed{seed}")
