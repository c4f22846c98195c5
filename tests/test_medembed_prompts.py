"""What a prompt does is the difference of two ways to ask the same weights."""

import numpy as np
import pytest
import tiny

from cardioembed_lib import encoder
from cardioembed_study.medembed import asked, prompts

PASSAGES = [f"{a} {b}" for a in ("heart", "valve", "pulse", "murmur") for b in ("blood", "walk", "failure")]
QUERIES = [f"the {text}" for text in PASSAGES]
TOY = asked.Asked("toy", QUERIES, PASSAGES, np.eye(12, dtype=np.int8), [f"d{n // 2}" for n in range(12)], asked.MRR)
PROMPTS = {"query": "a patient had pain after exercise in the garden: ", "document": ""}


def test_effect_is_without_less_with_on_the_same_queries(tmp_path):
    found = tiny.bert()
    passages = encoder.encode(found, PASSAGES)
    mrr = {}
    for prompt in PROMPTS["query"], "":
        similarities = encoder.encode(found, QUERIES, prompt=prompt) @ passages.T
        mrr[prompt] = (1 / (similarities >= similarities.diagonal()[:, None]).sum(axis=1)).mean()
    effect = prompts.effect({"toy": TOY}, found, PROMPTS, tmp_path, seed=17)["toy"]
    assert (effect["base"], effect["tuned"]) == pytest.approx((mrr[PROMPTS["query"]], mrr[""]))
    assert effect["difference"] == pytest.approx(mrr[""] - mrr[PROMPTS["query"]]) != 0
    assert effect["low"] <= effect["difference"] <= effect["high"]


def test_no_prompt_has_no_effect(tmp_path):
    assert prompts.effect({"toy": TOY}, tiny.bert(), prompts.NONE, tmp_path, seed=17)["toy"]["difference"] == 0
