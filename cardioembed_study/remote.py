"""What vector does a model behind an OpenAI-compatible address give a text?

Everything given to ``cached`` leaves this machine, so it asks first who may read the texts.

Shapes: B texts, D width.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import json
import os
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

import numpy as np
import requests
from pydantic import BaseModel, ConfigDict, FailFast, FiniteFloat, ValidationError
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from cardioembed_lib import encoder
from cardioembed_study import embeddings

SENDABLE = ("open", "registered")  # a manifest's ``access``; no other text is ever sent
AGAIN = (408, 429, 500, 502, 503, 504)  # answers that another try may change
CONNECT_SECONDS = 10.0
REPLY_SECONDS = 600.0  # for one whole body, however often a piece of it arrives
REPLY_BYTES = 2**19  # of a body for each text asked for: 16,384 numbers of 32 characters
PATIENCE = 600.0  # seconds; where a service asks for a longer wait, the reader starts again: nothing sleeps so long
ECHO = 12  # letters and digits in a row that a service's message may not share with a text, if it is to be shown
KEY_ECHO = 4  # and with the key: services show the ends of a refused one
HEAD = 100  # letters and digits of a text that every model reads: where these differ, vectors do
ADVICE = {
    400: "a text longer than the model reads, or too many a request, is the usual reason; cut the texts or lower `batch`",
    401: "the service does not take the key; correct the environment variable that `service_key` names",
    403: "the key may not use this model; ask its owner, or choose another `model`",
    404: "nothing is there; correct `url` (it often ends in /v1, without /embeddings) or `model`",
    413: "the request is too large; lower `batch`",
    422: "the service cannot use the request; lower `batch`, or choose a `model` that embeds",
}
OTHERWISE = "only 200 is an answer, and redirects are not followed; correct `url`, or ask who runs the service"


@dataclass(frozen=True)
class Remote:
    """A model behind an address, and how to ask it; it never holds the key.

    Args:
        model: the name that the service knows.
        url: where the service begins: ``/embeddings`` is put behind it.
        key_variable: environment variable that holds the key, read at use; ``None`` where the service wants no key.
        batch: texts a request, lost if killed; another size asks for all vectors again.
        tries: requests made for one batch before giving up.
        timeout: seconds that the service may be silent.
        pause: seconds; the second try follows at once, the third after twice the pause, each further one after twice that.

    Raises:
        ValueError: the address is none, or would show a secret in error messages or send the key unencrypted; or a number
            is out of its range.

    >>> Remote("a-model", "https://models.example.org/v1/").address
    'https://models.example.org/v1/embeddings'
    """

    model: str
    url: str
    key_variable: str | None = "OPENAI_API_KEY"
    batch: int = 64
    tries: int = 6
    timeout: float = 60.0
    pause: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        parts = urlsplit(self.url)
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "url holds a user, a query or a fragment, which would show in messages; give only scheme, host and path, and "
                "put the key into the environment variable that `service_key` names"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url is {self.url!r}; write it as https://host/v1")
        if parts.scheme == "http" and self.key_variable is not None and not _own(parts.hostname):
            raise ValueError(
                f"{self.url} would send the key unencrypted; use https, or leave `service_key` empty if it wants none"
            )
        low = [name for name in ("batch", "tries", "timeout") if getattr(self, name) <= 0]
        if low or self.pause < 0:
            name = low[0] if low else "pause"
            raise ValueError(f"{name} is {getattr(self, name)}; it cannot be that low")

    @property
    def address(self) -> str:
        """Where requests go."""
        return f"{self.url.rstrip('/')}/embeddings"


def _own(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Row(BaseModel):
    """One vector of a reply, and which text of the request it belongs to."""

    model_config = ConfigDict(strict=True)  # "1" and true are no numbers
    index: int
    embedding: Annotated[list[FiniteFloat], FailFast()]


class Reply(BaseModel):
    """What a service answers; other fields are not read."""

    data: list[Row]


def cached(folder: Path, remote: Remote, texts: Sequence[str], *, access: str, progress: bool = False) -> np.ndarray:
    """Return unit vectors of texts, from ``folder`` as far as the same model has been asked for the same texts before.

    Each batch is kept when it arrives, so that a job that is killed loses one. No key is needed where all are known. A
    service can put another model behind the same name: only a change of width is noticed.

    Args:
        folder: where ``<key>.safetensors`` files are kept, one a batch; the key covers address, model and the batch's texts.
        remote: the model.
        texts: B texts, none empty, each with its prompt in front if the model has one.
        access: of the texts' manifest.
        progress: show a bar over all texts, unless all are known.

    Returns:
        (B, D) float32, each row of length 1, in the order of ``texts``, read only; (0, 0) for no texts.

    Raises:
        ValueError: before any request: the texts may not be sent, one is empty, or the key is missing; later: the service
            refuses, or its reply is not one finite vector a text, all of one width and different ones for different texts.
        OSError: the service cannot be reached or stays busy; what is done is kept.

    >>> here = Remote("a-model", "http://127.0.0.1:9/v1")
    >>> cached(Path("none"), here, ["a note"], access="restricted")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: access is 'restricted': restricted text is never sent to a remote service; ...
    """
    if access not in SENDABLE:
        raise ValueError(
            f"access is {access!r}: restricted text is never sent to a remote service; only {' and '.join(SENDABLE)} texts "
            "are; embed these on this machine with embeddings.cached"
        )
    encoder.refuse_empty(texts)
    starts = range(0, len(texts), remote.batch)
    places = [folder / f"{_name(remote, texts[start : start + remote.batch])}.safetensors" for start in starts]
    begins = dict(zip(places, starts, strict=True))
    known = {file: embeddings.kept(file, len(texts[start : start + remote.batch])) for file, start in begins.items()}
    missing = {file: start for file, start in begins.items() if known[file] is None}
    widths = {vectors.shape[1] for vectors in known.values() if vectors is not None}
    if missing:
        known |= _fill(remote, missing, texts, widths, progress)
    _check_widths(remote, widths, folder)
    return embeddings.joined([known[file] for file in places])


def _check_widths(remote: Remote, widths: set[int], folder: Path) -> None:
    if len(widths) > 1:
        raise ValueError(
            f"{remote.model} at {remote.url} gave vectors of widths {' and '.join(map(str, sorted(widths)))} for these texts; "
            f"the service changed the model: embed all again into another folder than {folder.name}"
        )


def _check_alike(
    remote: Remote, heads: dict[bytes, str], vectors: np.ndarray, texts: Sequence[str], state: str
) -> None:
    """Refuse a vector that another text has; these are added to ``heads``, each with its text's beginning.

    Texts that differ in case, signs or only far down may have one vector: a model may read neither.
    """
    for vector, text in zip(vectors, texts, strict=True):
        head = _bare(text)[:HEAD]
        if heads.setdefault(vector.tobytes(), head) != head:
            raise ValueError(f"{remote.address} gave different texts one vector; correct `model` or `url`; {state}")


def _bare(words: str) -> str:
    """Return letters and digits alone, without case and accents."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKD", words.casefold()))


def _name(remote: Remote, texts: Sequence[str]) -> str:
    """Return the name under which the vectors of some texts are kept."""
    return hashlib.sha256(json.dumps([remote.address, remote.model, *texts]).encode()).hexdigest()[:24]


def _fill(
    remote: Remote, missing: Mapping[Path, int], texts: Sequence[str], widths: set[int], progress: bool
) -> dict[Path, np.ndarray]:
    """Ask for the missing batches, in order, keep and return each; their widths are added to ``widths``."""
    found: dict[Path, np.ndarray] = {}
    heads: dict[bytes, str] = {}
    batches = {file: texts[start : start + remote.batch] for file, start in missing.items()}
    known = len(texts) - sum(map(len, batches.values()))
    bar = tqdm(total=len(texts), initial=known, unit="text", desc=f"embed {remote.model}", disable=not progress)
    with requests.Session() as session, bar:
        session.auth = functools.partial(_sign, key=secret(remote))
        for file, batch in batches.items():
            state = f"{known} of {len(texts)} texts are done and kept in {file.parent.name}"
            body = _ask(session, remote, batch, state, bar)
            vectors = _vectors(body, len(batch), f"the reply of {remote.address}", state)
            widths.add(vectors.shape[1])
            _check_widths(remote, widths, file.parent)
            _check_alike(remote, heads, vectors, batch, state)
            embeddings.keep(file, vectors)
            found[file] = vectors
            known += len(batch)
            bar.set_postfix_str("", refresh=False)
            bar.update(len(batch))
    return found


def secret(remote: Remote) -> str:
    """Return the key from the environment, "" where the service wants none."""
    if remote.key_variable is None:
        return ""
    key = os.environ.get(remote.key_variable, "").strip()
    if not re.fullmatch(r"[!-~]+", key):
        fault = "holds a blank or a character outside ASCII" if key else "is not set"
        raise ValueError(
            f"the environment variable {remote.key_variable}, which should hold the key of {remote.url}, {fault}; set it, "
            "or leave `service_key` empty if the service wants no key"
        )
    return key


def _sign(request: requests.PreparedRequest, key: str) -> requests.PreparedRequest:
    """Put the key into a request's header; a plain header of the session would give way to a ``.netrc`` file."""
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    return request


class _Retries(Retry):
    """urllib3's retries, which say on a bar what they wait for, and end where a service asks for more than ``PATIENCE``."""

    RETRY_AFTER_STATUS_CODES = frozenset()  # only ``AGAIN`` is asked again, also where a refusal has the header
    bar: tqdm

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):  # "soon"; a year that no clock shows
            return None

    def increment(self, *request: Any, response: BaseHTTPResponse | None = None, **problem: Any) -> Self:
        retries = super().increment(*request, response=response, **problem)
        retries.bar = self.bar
        wait = (response and retries.get_retry_after(response)) or retries.get_backoff_time()
        if wait > PATIENCE:
            raise MaxRetryError(None, "")  # as if no try were left
        said = f"answered {response.status}" if response else f"gave no answer ({type(problem['error']).__name__})"
        self.bar.set_postfix_str(f"{said}; waiting {wait:.0f} s")
        return retries


def _ask(session: requests.Session, remote: Remote, texts: Sequence[str], state: str, bar: tqdm) -> bytes:
    """Return the body of the service's good answer; urllib3 asks again as long as that may help."""
    question = {"model": remote.model, "input": list(texts), "encoding_format": "float"}
    limits, largest = (min(CONNECT_SECONDS, remote.timeout), remote.timeout), REPLY_BYTES * len(texts)
    retries = _Retries(remote.tries - 1, allowed_methods=None, status_forcelist=AGAIN, raise_on_status=False)
    retries.bar, retries.backoff_factor, retries.backoff_max = bar, remote.pause, PATIENCE
    try:
        while True:
            session.get_adapter(remote.address).max_retries = retries
            reply = session.post(remote.address, json=question, timeout=limits, allow_redirects=False, stream=True)
            try:
                body = _body(reply, largest)
                break
            except HTTPError as error:  # what breaks off after the headers counts as a try as well
                retries = reply.raw.retries.increment("POST", error=error)
                retries.sleep()
    except (requests.RequestException, MaxRetryError) as error:
        reason = getattr(error, "reason", getattr(error.args[0], "reason", error))
        problem, tries = f"gave no answer ({type(reason).__name__})", remote.tries
    else:
        if reply.status_code == 200:
            if len(body) > largest:
                raise ValueError(
                    f"{remote.address} answered with more than {largest:,} bytes for {len(texts)} texts, which no vectors need; "
                    f"correct `url` or `model`; {state}"
                )
            return body
        problem = f"answered {reply.status_code}{said(body, texts, secret(remote))}"
        if reply.status_code not in AGAIN:
            advice = ADVICE.get(reply.status_code, OTHERWISE)
            raise ValueError(f"{remote.address} {problem}; {advice}; {state}")
        tries = len(reply.raw.retries.history) + 1
        wait = reply.raw.retries.get_retry_after(reply.raw) or 0.0
        problem += f" and asks for {wait:.0f} s of patience" if wait > PATIENCE else ""
    raise OSError(f"{remote.address} {problem} ({tries} tries); {state}; run again later to go on from there")


def _body(reply: requests.Response, largest: int) -> bytes:
    """Return a reply's body; of one that is larger a beginning that is too, and no more of it is read."""
    body, end = bytearray(), time.monotonic() + REPLY_SECONDS
    with reply:
        while len(body) <= largest and (piece := reply.raw.read1(2**16, decode_content=True)):
            body += piece
            if time.monotonic() > end:
                raise ReadTimeoutError(None, None, "")
    return bytes(body)


def said(body: bytes, texts: Sequence[str], key: str) -> str:
    """Return the beginning of a service's own message in brackets, unless it repeats what was sent."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for field in ("error", "message", "detail"):  # one inside the other, or the message at once
        message = message.get(field, message) if isinstance(message, dict) else message
    if not isinstance(message, str):
        return ""
    hidden = _repeats(message[:1000], texts, key)
    return " (its message is not shown: it repeats what was sent)" if hidden else f" ({message[:200]!r})"


def _repeats(message: str, texts: Sequence[str], key: str) -> bool:
    """Return whether a message shares a run of letters and digits with the key, also encoded, or with a text."""
    said, plain = _bare(message), _bare(unquote(unquote(message)))
    of_key = [(_bare(key), KEY_ECHO), (key.encode().hex(), 2 * KEY_ECHO)]
    for before in range(3):  # base64 of the key looks different with each number of bytes before it
        code = base64.b64encode(bytes(before) + key.encode()).decode().rstrip("=")[(0, 2, 3)[before] : -1]
        of_key.append((_bare(code), KEY_ECHO + 2))
    return any(_shares(plain, run, n) for run, n in of_key) or any(_shares(said, _bare(text), ECHO) for text in texts)


def _shares(message: str, secret: str, length: int) -> bool:
    """Return whether a message holds so many characters in a row of a secret, or the whole of a shorter one."""
    runs = {secret[start : start + length] for start in range(max(1, len(secret) - length + 1))} - {""}
    return any(run in message for run in runs)


def _vectors(body: bytes, n: int, what: str, state: str) -> np.ndarray:
    """Return the unit vectors of a reply, in the order of the ``n`` texts of its request."""
    try:
        rows = sorted(Reply.model_validate_json(body).data, key=lambda row: row.index)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = f"field {'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise ValueError(
            f"{what} is not what `/embeddings` answers ({place}{first['msg']}); correct `url` or `model`; {state}"
        ) from None
    if [row.index for row in rows] != list(range(n)):
        raise ValueError(
            f"{what} holds {len(rows)} vectors, {len({row.index for row in rows} & set(range(n)))} of them for the {n} texts "
            f"asked for; wanted one each; lower `batch`; {state}"
        )
    if len(widths := {len(row.embedding) for row in rows}) > 1 or 0 in widths:
        raise ValueError(
            f"{what} holds vectors of widths {sorted(widths)}; wanted one width above 0; choose another `model`; {state}"
        )
    vectors = np.array([row.embedding for row in rows])  # (n, D) float64
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    if not largest.all():
        raise ValueError(
            f"{what}: the vector of text {int(np.argmin(largest))} of {n} is all zeros, so it has no direction; choose another "
            f"`model`; {state}"
        )
    vectors /= largest  # so that no square is too large or too small for a float64
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
