"""What does a language model answer, and which of its answers are known already?

Two kinds of model: one behind an OpenAI-compatible address, to which texts are sent, and one of this machine. Answers are
kept as they arrive, so a job that is killed loses those under way.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, Field, ValidationError

from cardioembed_study import remote
from cardioembed_study.queries.asking import Messages

ADVICE = {
    401: "the service does not take the key; correct the environment variable that `service_key` names",
    403: "the key may not use this model; ask its owner, or choose another `model`",
    404: "nothing is there; correct `service` (it often ends in /v1) or `model`",
}
OTHERWISE = "correct `service`, `model` or `most_tokens`, or ask who runs the service; redirects are not followed"
UNUSABLE = "unusable"


class Reply(BaseModel):
    """What a model answered: its text, why it ended (``stop``, ``length``, ...), and tokens read and written."""

    text: str
    finish: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Writer(Protocol):
    """A language model.

    Args:
        name: in tables and records.
        identity: what tells its answers from another's.
        workers: how many questions it takes at a time.
    """

    name: str
    identity: list[Any]
    workers: int

    def ask(self, messages: Messages) -> Reply:
        """Return the answer to one conversation."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """What ``/chat/completions`` answers; other fields are not read."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class Service:
    """A model behind an OpenAI-compatible address, asked through the package ``openai``.

    It asks again after 408, 409, 429 and 5xx, a silence, or a reply that breaks off, and waits as long as the service says,
    up to two minutes.

    Args:
        place: address, model, name of the key's variable, tries and patience.
        most_tokens: of one answer.
        workers: questions at a time.

    Raises:
        ModuleNotFoundError: the extra ``llm`` is not installed.
    """

    def __init__(self, place: remote.Remote, most_tokens: int, workers: int) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise ModuleNotFoundError("no package openai; install the extra: pip install -e '.[llm]'") from None
        self.name, self.workers = Path(place.model).name, workers
        self.identity = identity(place.url, place.model, most_tokens)
        self._openai, self._place, self._most, self._answered = openai, place, most_tokens, False

    @functools.cached_property
    def _client(self) -> Any:
        """Return the client; made when something is asked, so that no key is needed where all is known."""
        client = self._openai.OpenAI(
            api_key=remote.secret(self._place) or "none",
            base_url=self._place.url,
            timeout=self._place.timeout,
            max_retries=self._place.tries - 1,
            http_client=self._openai.DefaultHttpxClient(follow_redirects=False),
        )
        client.organization = client.project = None  # of another service's variables in the environment
        return client

    def ask(self, messages: Messages) -> Reply:
        """Return the answer; one without a text that can be read is ``unusable``, and a single refused question ``refused``.

        Raises:
            ValueError: the service refuses, or the key is missing (``remote.secret``).
            OSError: it cannot be reached or stays busy.
        """
        where = f"{self._place.url.rstrip('/')}/chat/completions"
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._place.model,
                messages=messages,
                max_tokens=self._most,
                temperature=0,
                response_format={"type": "json_object"},
            )
        except self._openai.APIStatusError as error:
            status, key = error.status_code, remote.secret(self._place)
            if status == 400 and self._answered:  # a filter may refuse one passage, a service refuses all
                return Reply(text="", finish="refused")
            problem = (
                f"{where} answered {status}{remote.said(error.response.content, [m['content'] for m in messages], key)}"
            )
            if status in (*remote.AGAIN, 409) or status >= 500:
                wait = error.response.headers.get("retry-after", "")
                asks = f" and asks for {wait} s of patience" if wait.isdigit() else ""
                raise OSError(f"{problem}{asks}; what is done is kept: run again later to go on from there") from None
            raise ValueError(f"{problem}; {ADVICE.get(status, OTHERWISE)}; what is done is kept") from None
        except self._openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            raise OSError(
                f"{where} gave no answer ({cause}, {self._place.tries} tries); what is done is kept: run again later"
            ) from None
        return self._read(raw.content)

    def _read(self, body: bytes) -> Reply:
        key = remote.secret(self._place)
        try:
            got = _Completion.model_validate_json(body)
        except ValidationError:
            return Reply(text="", finish=UNUSABLE)
        text, usage = got.choices[0].message.content or "", got.usage or _Usage()
        if key and key in text:
            return Reply(text="", finish=UNUSABLE)
        self._answered = True
        return Reply(text=text, finish=got.choices[0].finish_reason or "stop", **usage.model_dump())


class Local:
    """A causal model of this machine: a folder, or a name in the hub's cache; safetensors alone, no code of its own.

    Args:
        model: folder or name.
        most_tokens: of one answer.
    """

    workers = 1

    def __init__(self, model: str, most_tokens: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = str(Path(model).expanduser())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        loaded = AutoModelForCausalLM.from_pretrained(
            place, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
        self._model, self._most = loaded.to(device).eval(), most_tokens
        self.name, self.identity = Path(model).name, identity("", model, most_tokens)

    def ask(self, messages: Messages) -> Reply:
        """Return the likeliest answer, word by word (greedy)."""
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n\n".join(message["content"] for message in messages) + "\n\n"
        given = self._tokenizer(text, return_tensors="pt", add_special_tokens=not self._tokenizer.chat_template)
        given = given["input_ids"].to(self._model.device)
        made = self._model.generate(
            given, max_new_tokens=self._most, do_sample=False, pad_token_id=self._tokenizer.pad_token_id
        )
        new = made[0, given.shape[1] :]
        finish = "length" if len(new) >= self._most else "stop"
        answer = self._tokenizer.decode(new, skip_special_tokens=True)
        return Reply(text=answer, finish=finish, prompt_tokens=given.shape[1], completion_tokens=len(new))


def identity(address: str, model: str, most_tokens: int) -> list[Any]:
    """Return what tells a model's answers from another's; of a local one size and time of its weights too.

    Args:
        address: of the service; empty for a local model.
        model: its name, or folder.
        most_tokens: of one answer.
    """
    folder = Path(model).expanduser()
    weights = sorted(folder.glob("*.safetensors")) if not address and folder.is_dir() else []
    return [
        address.rstrip("/"),
        model,
        most_tokens,
        *[[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in weights],
    ]


class Known:
    """Answers by what was asked, and of which model: a SQLite file, complete up to the last answer whenever it is killed.

    Args:
        file: where; its folder is made.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock, self._base = threading.Lock(), sqlite3.connect(file, check_same_thread=False, timeout=60)
        self._base.execute("CREATE TABLE IF NOT EXISTS replies (question TEXT PRIMARY KEY, reply TEXT NOT NULL)")

    def get(self, identity: list[Any], messages: Messages) -> Reply | None:
        """Return the answer to a question that was asked before."""
        with self._lock:
            row = self._base.execute(
                "SELECT reply FROM replies WHERE question = ?", [_key(identity, messages)]
            ).fetchone()
        return Reply.model_validate_json(row[0]) if row else None

    def ask(self, writer: Writer, messages: Messages) -> tuple[Reply, bool]:
        """Return the answer, and whether it was known; a new one is kept, unless it was unusable or refused."""
        if known := self.get(writer.identity, messages):
            return known, True
        reply = writer.ask(messages)
        if reply.finish not in (UNUSABLE, "refused"):
            with self._lock, self._base:
                row = [_key(writer.identity, messages), reply.model_dump_json()]
                self._base.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", row)
        return reply, False

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def _key(identity: list[Any], messages: Messages) -> str:
    return hashlib.sha256(json.dumps([identity, messages]).encode()).hexdigest()
