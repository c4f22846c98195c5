"""What does a language model answer: one behind an OpenAI-compatible address, to which texts are sent, or one of this machine?

Answers are kept as they arrive, a file each, so a job that is killed loses those under way.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import from_json

from cardioembed_lib import files
from cardioembed_study import paths
from cardioembed_study.settings import Queries

ADVICE = {
    401: "the service does not take the key; correct the environment variable that `service_key` names",
    403: "the key may not use this model; ask its owner, or choose another `model`",
    404: "nothing is there; correct `service` (it often ends in /v1) or `model`",
}
OTHERWISE = "correct `service`, `model` or `most_tokens`, or ask who runs the service; redirects are not followed"
LATER = "what is done is kept: run again later to go on from there"
TEMPLATE = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}"  # where a model has none of its own
UNUSABLE, REFUSED = "unusable", "refused"  # ends of answers that are not kept
ENDS = ("stop", "length", "content_filter", "tool_calls", "function_call", UNUSABLE, REFUSED)  # others: "other"
REPLY_BYTES = 2**24  # of a body that are read: more than 65,536 tokens need

End = Annotated[str, BeforeValidator(lambda end: end if end in ENDS else "other")]
Tokens = Annotated[int, BeforeValidator(lambda n: n or 0), Field(ge=0, le=10**7)]


class Reply(BaseModel):
    """What a model answered: its text, why it ended (``stop``, ``length``, ...), and tokens read and written."""

    text: str
    finish: End
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0


Messages = list[dict[str, str]]
Ask = Callable[[Messages], Reply]


def need_key(p: Queries) -> None:
    """Refuse a service whose key is missing (``remote.secret``), before anything is asked."""
    from cardioembed_study import remote  # here, since torch comes with it

    remote.secret(remote.Remote(p.model, p.service, p.service_key or None))


def service(p: Queries) -> Ask:
    """Return what asks a service through the package ``openai``; the key is read when something is asked.

    It asks again after 408, 409, 429 and 5xx, a silence, or a reply that breaks off, and waits as long as the service says,
    up to two minutes. A reply without a text that can be read is ``unusable``; one refused question among others ``refused``.

    Raises:
        ModuleNotFoundError: the extra ``llm`` is not installed.
        ValueError: the address cannot be used (``remote.Remote``); when asking: the service refuses, or the key is missing.
        OSError: when asking: the service cannot be reached or stays busy.
    """
    try:
        import openai
    except ModuleNotFoundError:
        raise ModuleNotFoundError("no package openai; install the extra: pip install -e '.[llm]'") from None
    from cardioembed_study import remote  # here, since torch comes with it

    place = remote.Remote(p.model, p.service, p.service_key or None)
    client = openai.OpenAI(
        api_key=lambda: remote.secret(place) or "none",
        base_url=place.url,
        timeout=place.timeout,
        max_retries=place.tries - 1,
        http_client=openai.DefaultHttpxClient(follow_redirects=False),
    )
    client.organization = client.project = None  # of another service's variables in the environment
    form = {"model": p.model, "max_tokens": p.most_tokens, "temperature": 0, "response_format": {"type": "json_object"}}
    answered, where = threading.Event(), f"{p.service.rstrip('/')}/chat/completions"

    def ask(messages: Messages) -> Reply:
        try:
            raw = client.chat.completions.with_raw_response.create(messages=messages, **form)
        except openai.APIStatusError as error:
            status, sent = error.status_code, [message["content"] for message in messages]
            if status == 400 and answered.is_set():  # a filter may refuse one passage, a service refuses all
                return Reply(text="", finish=REFUSED)
            problem = f"{where} answered {status}{remote.said(error.response.content, sent, remote.secret(place))}"
            if status in (408, 409, 429) or status >= 500:
                wait = error.response.headers.get("retry-after", "")
                asks = f" and asks for {wait} s of patience" if wait.isdigit() else ""
                raise OSError(f"{problem}{asks}; {LATER}") from None
            raise ValueError(f"{problem}; {ADVICE.get(status, OTHERWISE)}; what is done is kept") from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            raise OSError(f"{where} gave no answer ({cause}, {place.tries} tries); {LATER}") from None
        reply = _read(raw.content, remote.secret(place))
        if reply.finish != UNUSABLE:
            answered.set()
        return reply

    return ask


def _read(body: bytes, key: str) -> Reply:
    """Return what ``/chat/completions`` answered; never with the key in it."""
    try:
        got = from_json(body[:REPLY_BYTES])
        choice, usage = got["choices"][0], got.get("usage") or {}
        text, finish = choice["message"].get("content") or "", choice.get("finish_reason") or "stop"
        reply = Reply(text=text, finish=finish, **usage)
    except (ValueError, LookupError, TypeError, AttributeError):
        return Reply(text="", finish=UNUSABLE)
    return Reply(text="", finish=UNUSABLE) if key and key in reply.text else reply


def local(p: Queries) -> Ask:
    """Return what asks a causal model of this machine for its likeliest answer, word by word (greedy).

    The model is a folder, or a name in the hub's cache: safetensors alone, no code of its own.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = str(Path(p.model).expanduser())
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=False, use_safetensors=True, dtype="auto")
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    tokenizer.chat_template = tokenizer.chat_template or TEMPLATE

    def ask(messages: Messages) -> Reply:
        given = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        n, pad = given["input_ids"].shape[1], tokenizer.pad_token_id
        made = model.generate(**given, max_new_tokens=p.most_tokens, do_sample=False, pad_token_id=pad)[0, n:]
        finish = "length" if len(made) >= p.most_tokens else "stop"
        text = tokenizer.decode(made, skip_special_tokens=True)
        return Reply(text=text, finish=finish, prompt_tokens=n, completion_tokens=len(made))

    return ask


def kept(p: Queries, messages: Messages) -> Path:
    """Return the file of an answer; its name covers address, model, weights that are here, and what was asked."""
    weights = sorted(Path(p.model).expanduser().glob("*.safetensors")) if p.writer == "local" else []
    seen = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weights]
    asked = json.dumps([p.service.rstrip("/"), p.model, seen, p.most_tokens, messages])
    return paths.artifacts(p.profile) / "queries" / "replies" / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"


def answer(p: Queries, ask: Ask, messages: Messages) -> Reply:
    """Return the answer that is kept, or else ask and keep it, unless it is unusable or refused."""
    if (file := kept(p, messages)).is_file():
        return Reply.model_validate_json(file.read_bytes())
    reply = ask(messages)
    if reply.finish not in (UNUSABLE, REFUSED):
        files.write(file, reply.model_dump_json())
    return reply
