"""A model behind an address: what may be sent, what comes back, what is lost if killed, and what no message may show.

The service is a real server on this machine that answers as a script says.
"""

import base64
import contextlib
import email.utils
import gzip
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cardioembed_study import embeddings, paths, remote

KEY = "sk-Qz7-wXv9-secret"
TEXTS = [
    f"On day {n} the rhythm was {'regular' if n % 3 else 'irregular'}, the rate {60 + n} a minute." for n in range(7)
]
CHILD = """
import sys
from pathlib import Path
from cardioembed_study import remote
folder, url, *texts = sys.argv[1:]
remote.cached(Path(folder), remote.Remote("a-model", url, batch=2), texts, access="open")
"""


def vector(text: str) -> list[float]:
    """Return what the service gives a text: four numbers that hold its letters' count and sum, length not 1."""
    return [float(len(text)), float(sum(map(ord, text)) % 97), -3.0, 0.5]


def unit(texts) -> np.ndarray:
    """Return the expected vectors, normalised here."""
    rows = np.array([vector(text) for text in texts])
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def good(texts, backwards=True) -> dict:
    """Return a good reply, by default with its rows in the wrong order."""
    rows = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]
    return {"object": "list", "data": rows[::-1] if backwards else rows, "model": "a-model", "usage": {}}


@pytest.fixture
def service(monkeypatch):
    """A server on the loopback: ``script`` holds the next answers, each ``(status, headers, body)``; then all is good.

    A body of ``None`` is the good one; a function makes it from the texts; ``"cut"`` breaks off half-way; ``"hold"`` never
    answers until ``go`` is set.
    """
    state = SimpleNamespace(script=[], asked=[], keys=[], paths=[], go=threading.Event(), held=threading.Semaphore(0))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(question)
            state.keys.append(self.headers.get("Authorization"))
            state.paths.append(self.path)
            status, headers, body = state.script.pop(0) if state.script else (200, {}, None)
            if body == "hold":
                state.held.release()
                state.go.wait(300)
            cut = body == "cut"
            body = good(question["input"]) if body in (None, "cut", "hold") else body
            body = body(question["input"]) if callable(body) else body
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the reader was killed or gave up, as the test meant
                self.wfile.write(data[: len(data) // 2] if cut else data)
            self.close_connection = cut

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        state.remote = remote.Remote("a-model", state.url, batch=3, tries=3, timeout=60.0, pause=0.01)
        yield state
        state.go.set()
        server.shutdown()


def ask(service, folder, texts=TEXTS, **options):
    return remote.cached(folder, service.remote, texts, **{"access": "open", **options})


def refused(service, folder, *words, kind=ValueError, texts=TEXTS):
    """Expect an error that holds these words, and neither the key nor any text."""
    with pytest.raises(kind) as caught:
        ask(service, folder, texts)
    message, shown = str(caught.value), "".join(traceback.format_exception(caught.value))
    assert all(word in message for word in words), message
    assert not any(secret in shown for secret in (KEY, "rhythm", *texts) if secret.strip()), shown
    return message


# ---- what is asked, and what comes back


def test_texts_go_in_batches_and_vectors_come_back_in_the_order_of_the_texts(service, tmp_path):
    got = ask(service, tmp_path)
    np.testing.assert_allclose(got, unit(TEXTS), rtol=0, atol=1e-7)
    assert got.shape == (7, 4) and got.dtype == np.float32 and not got.flags.writeable
    assert [question["input"] for question in service.asked] == [TEXTS[:3], TEXTS[3:6], TEXTS[6:]]
    assert all({"model", "input", "encoding_format"} == set(question) for question in service.asked)
    assert {question["model"] for question in service.asked} == {"a-model"}
    assert {question["encoding_format"] for question in service.asked} == {"float"}
    assert set(service.paths) == {"/v1/embeddings"} and set(service.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_the_size_of_a_batch_and_a_slash_behind_the_address_change_no_vector(service, tmp_path, batch):
    other = replace(service.remote, batch=batch, url=service.url + "/")
    got = remote.cached(tmp_path, other, TEXTS, access="registered")
    np.testing.assert_allclose(got, unit(TEXTS), rtol=0, atol=1e-7)
    assert len(service.asked) == -(-7 // batch) and set(service.paths) == {"/v1/embeddings"}


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_vectors_of_any_length_become_unit_vectors(service, tmp_path, size):
    service.script = [(200, {}, changed(lambda rows: [row.update(embedding=[3 * size, 0, -4 * size]) for row in rows]))]
    np.testing.assert_allclose(ask(service, tmp_path, TEXTS[:1]), [[0.6, 0.0, -0.8]], rtol=0, atol=1e-7)


def test_no_texts_need_no_request_and_no_key(service, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert ask(service, tmp_path / "new", []).shape == (0, 0)
    assert service.asked == [] and not (tmp_path / "new").exists()


def test_a_service_without_keys_is_sent_none_not_even_from_a_netrc_file(service, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.remote = replace(service.remote, key_variable=None)
    ask(service, tmp_path / "a")
    assert set(service.keys) == {None}
    service.remote = replace(service.remote, key_variable="OPENAI_API_KEY")
    ask(service, tmp_path / "b")
    assert set(service.keys[3:]) == {f"Bearer {KEY}"}


# ---- what may be sent


@pytest.mark.parametrize("access", ["restricted", "private", "", "Open", None])
def test_restricted_text_is_never_sent(service, tmp_path, access):
    with pytest.raises(ValueError, match="restricted text is never sent to a remote service; only open and registered"):
        ask(service, tmp_path / "new", access=access)
    assert service.asked == [] and not (tmp_path / "new").exists()


def test_restricted_text_is_refused_even_where_its_vectors_are_known(service, tmp_path):
    ask(service, tmp_path)
    with pytest.raises(ValueError, match="access is 'restricted'"):
        ask(service, tmp_path, access="restricted")


def test_an_empty_text_is_named_before_anything_is_sent(service, tmp_path):
    refused(service, tmp_path, "1 of 8 texts are empty, the first at position 7", texts=[*TEXTS, " \n"])
    assert service.asked == []


@pytest.mark.parametrize(("key", "fault"), [(None, "is not set"), ("  ", "is not set"), ("sk one", "holds a blank")])
def test_a_missing_or_broken_key_is_named_by_its_variable_before_anything_is_sent(
    service, tmp_path, monkeypatch, key, fault
):
    monkeypatch.delenv("OPENAI_API_KEY") if key is None else monkeypatch.setenv("OPENAI_API_KEY", key)
    message = refused(
        service, tmp_path, "OPENAI_API_KEY", fault, "leave `service_key` empty if the service wants no key"
    )
    assert service.asked == [] and "sk one" not in message


def test_a_redirect_is_not_followed(service, tmp_path):
    service.script = [(307, {"Location": f"{service.url}/elsewhere"}, {})]
    refused(service, tmp_path, "answered 307", "redirects are not followed", "0 of 7 texts are done")
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://someone:else@models.example.org/v1", "url holds a user"),
        ("https://models.example.org/v1?api-key=else", "put the key into the environment variable"),
        ("models.example.org/v1", "write it as https://host/v1"),
        ("http://models.example.org/v1", "would send the key unencrypted"),
        ("http://127.example.org/v1", "would send the key unencrypted"),
        ("http://10.1.2.3/v1", "would send the key unencrypted"),
        ("https:///v1", "write it as https://host/v1"),
    ],
)
def test_an_address_that_shows_or_spills_a_key_is_refused(url, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        remote.Remote("a-model", url)
    assert "else" not in str(caught.value)
    assert remote.Remote("a-model", "http://gpu.example.org:8000/v1", key_variable=None).batch == 64


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"tries": 0}, {"timeout": 0.0}, {"pause": -1.0}])
def test_a_number_out_of_range_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is .*; it cannot be that low"):
        remote.Remote("a-model", "https://models.example.org/v1", **wrong)


# ---- a service that is busy or broken


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_service_is_asked_again(service, tmp_path, status):
    service.script = [(200, {}, None), (status, {}, {}), (status, {}, b"<html>busy</html>")]
    np.testing.assert_allclose(ask(service, tmp_path), unit(TEXTS), rtol=0, atol=1e-7)
    assert [len(question["input"]) for question in service.asked] == [3, 3, 3, 3, 1]
    assert service.asked[1] == service.asked[2] == service.asked[3]


def test_the_second_try_follows_at_once_and_then_waits_double_without_chance(service, waits, tmp_path):
    service.remote = replace(service.remote, pause=0.5, tries=5)
    service.script = [(500, {}, {}), (200, {}, "cut"), (503, {}, {}), (500, {}, {})]
    ask(service, tmp_path, TEXTS[:1])
    assert waits == [1.0, 2.0, 4.0]


def test_a_wait_asked_for_in_seconds_is_kept(service, waits, tmp_path):
    service.script = [(429, {"Retry-After": "7"}, {})]
    ask(service, tmp_path, TEXTS[:1])
    assert waits == [7.0]


def test_a_wait_asked_for_by_date_is_kept(service, waits, tmp_path):
    service.script = [(503, {"Retry-After": email.utils.formatdate(time.time() + 590, usegmt=True)}, {})]
    ask(service, tmp_path, TEXTS[:1])
    assert 100 < waits[0] <= 590 and len(waits) == 1


@pytest.mark.parametrize(
    "header", ["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT", "soon", "-5", "", "0"]
)
def test_a_wait_that_is_over_or_makes_no_sense_is_the_usual_one(service, waits, tmp_path, header):
    service.script = [(429, {"Retry-After": header}, {})] * 2
    ask(service, tmp_path, TEXTS[:1])
    assert waits == [0.02]


def test_a_wait_of_an_hour_is_the_readers_to_keep(service, tmp_path):
    service.script = [(429, {"Retry-After": "3600"}, {"error": {"message": "Daily quota used up"}})]
    refused(service, tmp_path, "asks for 3600 s of patience (1 tries)", "'Daily quota used up'", kind=OSError)
    assert len(service.asked) == 1


def test_it_gives_up_after_so_many_tries_and_says_what_is_done(service, tmp_path):
    service.script = [(200, {}, None), *[(503, {}, {"error": "loading"})] * 3]
    words = ("/v1/embeddings answered 503 ('loading') (3 tries)", f"3 of 7 texts are done and kept in {tmp_path.name}")
    refused(service, tmp_path, *words, "run again later to go on from there", kind=OSError)
    assert len(service.asked) == 4
    np.testing.assert_allclose(ask(service, tmp_path), unit(TEXTS), rtol=0, atol=1e-7)
    assert [question["input"] for question in service.asked[4:]] == [TEXTS[3:6], TEXTS[6:]]


def test_nobody_there_and_silence_are_tried_again_and_named(service, tmp_path):
    live, service.remote = service.remote, replace(service.remote, url="http://127.0.0.1:9/v1")
    refused(service, tmp_path, "127.0.0.1:9", "gave no answer (NewConnectionError) (3 tries)", "0 of 7", kind=OSError)
    service.remote = replace(live, timeout=0.2, tries=2)
    service.script = [(200, {}, "hold"), (200, {}, "hold")]
    refused(service, tmp_path, "gave no answer (ReadTimeoutError) (2 tries)", kind=OSError)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):  # the server may read a question later than its reader has given up
        assert service.held.acquire(timeout=300)
    assert len(service.asked) == 2


def test_an_answer_that_breaks_off_is_asked_for_again(service, tmp_path):
    service.script = [(200, {}, "cut")]
    np.testing.assert_allclose(ask(service, tmp_path), unit(TEXTS), rtol=0, atol=1e-7)
    assert len(service.asked) == 4


def test_all_kinds_of_failure_count_together(service, tmp_path):
    service.script = [(200, {}, "cut"), (503, {}, {}), (200, {}, "cut")]
    refused(service, tmp_path, "gave no answer (", " (3 tries); 0 of 7 texts are done", kind=OSError)
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "cut the texts or lower `batch`"),
        (401, "correct the environment variable that `service_key` names"),
        (403, "the key may not use this model"),
        (404, "it often ends in /v1"),
        (413, "lower `batch`"),
        (418, "ask who runs the service"),
    ],
)
def test_a_refusal_is_not_asked_again_and_says_what_to_do(service, tmp_path, status, advice):
    service.script = [(status, {"Retry-After": "1"}, {"error": {"message": "No."}})]
    refused(service, tmp_path, f"/v1/embeddings answered {status} ('No.')", advice, "0 of 7 texts are done")
    assert len(service.asked) == 1


# ---- what no message may show


@pytest.mark.parametrize(
    "echo",
    [
        lambda texts: f"cannot embed {texts[1]!r}",
        lambda texts: f"unexpected token near {texts[0][9:24]}",
        lambda texts: "bad words: " + json.dumps(texts[2].upper().split()),
        lambda texts: f"wrong key {KEY}",
        lambda texts: f"wrong key sk-***{KEY[-4:]}",
        lambda texts: f"wrong key {' '.join(KEY.upper())}",
        lambda texts: f"wrong key {KEY[::-1][:8][::-1].replace('-', '_')}",
        lambda texts: "wrong key " + "".join(f"%{ord(letter):02X}" for letter in KEY),
        lambda texts: "wrong key " + urllib.parse.quote("".join(f"%{ord(letter):02x}" for letter in KEY[3:9])),
        lambda texts: f"wrong key {KEY.encode().hex(':')}",
        lambda texts: f"wrong key {base64.b64encode(KEY.encode()).decode()}",
        lambda texts: f"wrong header {base64.urlsafe_b64encode(f'Bearer {KEY}'.encode()).decode()}",
        lambda texts: f"wrong header {base64.b64encode(f'Key: {KEY[4:12]}'.encode()).decode()}",
    ],
)
@pytest.mark.parametrize("shape", ["openai", "ollama", "vllm", "fastapi"])
def test_a_message_that_repeats_text_or_key_is_not_shown(service, tmp_path, echo, shape):
    forms = {
        "openai": lambda texts: {"error": {"message": echo(texts), "type": "bad"}},
        "ollama": lambda texts: {"error": echo(texts)},
        "vllm": lambda texts: {"object": "error", "message": echo(texts)},
        "fastapi": lambda texts: {"detail": echo(texts)},
    }
    service.script = [(400, {}, forms[shape])]
    message = refused(service, tmp_path, "answered 400 (its message is not shown: it repeats what was sent)")
    assert "rhythm" not in message.lower() and KEY[-4:] not in message


def test_a_message_that_repeats_nothing_is_shown_on_one_line_and_cut(service, tmp_path):
    words = "This model's maximum context length is 512 tokens.\x1b[2J\n" + "So be brief. " * 100
    service.script = [(400, {}, {"error": {"message": words}})]
    message = refused(service, tmp_path, "maximum context length is 512 tokens.\\x1b[2J\\nSo be")
    assert len(message) < 600 and message.isprintable()


def test_a_one_word_text_is_hidden_too(service, tmp_path):
    service.script = [(400, {}, {"error": "cannot read 'Syncope'"})]
    refused(service, tmp_path, "its message is not shown", texts=["syncope"])


@pytest.mark.parametrize(
    "body",
    [
        b"<html>On day 1 the rhythm was regular</html>",
        {"detail": [{"input": TEXTS}]},
        b"[1",
        [],
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_body_that_is_no_message_is_not_shown(service, tmp_path, body):
    service.script = [(400, {}, body)]
    refused(service, tmp_path, "/v1/embeddings answered 400; a text longer than the model reads")


def test_nothing_is_shown_unless_asked_for(service, tmp_path, capfd):
    service.script = [(429, {}, {})]
    ask(service, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_key_is_nowhere_but_in_the_header(service, tmp_path, capsys, caplog):
    caplog.set_level("DEBUG")
    service.script = [(429, {}, {"error": f"busy, {KEY}"})]
    ask(service, tmp_path, progress=True)
    shown = capsys.readouterr()
    assert "7/7" in shown.err and "embed a-model" in shown.err and "answered 429" in shown.err
    kept = b"".join(path.name.encode() + path.read_bytes() for path in tmp_path.iterdir())
    everything = shown.out + shown.err + caplog.text + repr(service.remote)
    assert KEY not in everything and KEY.encode() not in kept
    assert "rhythm" not in everything and b"rhythm" not in kept
    ask(service, tmp_path, progress=True)
    assert capsys.readouterr().err == "", "all are known, so there is no bar"


# ---- replies that are none


def changed(change):
    """Return a maker of good replies with one change."""

    def make(texts):
        body = good(texts, backwards=False)
        change(body["data"])
        return body

    return make


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>On day 1 the rhythm</html>", "is not what `/embeddings` answers (Invalid JSON"),
        (b"", "Invalid JSON"),
        ({"object": "list"}, "field data: Field required"),
        ([], "should be an object"),
        (changed(lambda rows: rows.pop()), "holds 2 vectors, 2 of them for the 3 texts"),
        (changed(lambda rows: rows.clear()), "holds 0 vectors, 0 of them for the 3 texts"),
        (changed(lambda rows: rows[2].update(index=1)), "holds 3 vectors, 2 of them for the 3 texts"),
        (changed(lambda rows: rows[2].update(index=3)), "holds 3 vectors, 2 of them for the 3 texts"),
        (changed(lambda rows: rows[1].pop("index")), "field data.1.index: Field required"),
        (changed(lambda rows: rows[1]["embedding"].append(1.0)), "holds vectors of widths [4, 5]"),
        (changed(lambda rows: [row.update(embedding=[]) for row in rows]), "holds vectors of widths [0]"),
        (changed(lambda rows: rows[0].update(embedding="AACAPw==")), "field data.0.embedding: Input should be a valid"),
        (
            changed(lambda rows: rows[0]["embedding"].__setitem__(2, float("nan"))),
            "field data.0.embedding.2: Input should be",
        ),
        (changed(lambda rows: rows[0]["embedding"].__setitem__(2, None)), "field data.0.embedding.2: Input should be"),
        (
            changed(lambda rows: rows[1].update(embedding=["the rhythm was"] * 4)),
            "field data.1.embedding.0: Input should be",
        ),
        (changed(lambda rows: rows[2].update(embedding=[0.0] * 4)), "the vector of text 2 of 3 is all zeros"),
        (changed(lambda rows: rows[0]["embedding"].__setitem__(2, "1.5")), "field data.0.embedding.2: Input should be"),
        (changed(lambda rows: rows[0]["embedding"].__setitem__(2, True)), "field data.0.embedding.2: Input should be"),
        (
            changed(lambda rows: rows[0]["embedding"].__setitem__(2, 10**400)),
            "field data.0.embedding.2: Input should be",
        ),
        (changed(lambda rows: rows[1].update(index="1")), "field data.1.index: Input should be a valid integer"),
        (changed(lambda rows: rows[1].update(index=1.5)), "field data.1.index: Input should be a valid integer"),
        (changed(lambda rows: rows[1].update(index=True)), "field data.1.index: Input should be a valid integer"),
        (b"[" * 100_000, "Invalid JSON: recursion limit"),
    ],
)
def test_a_reply_that_is_not_one_vector_a_text_is_refused(service, tmp_path, body, words):
    service.script = [(200, {}, body)]
    message = refused(
        service, tmp_path / "new", words, f"the reply of {service.url}/embeddings", "0 of 7 texts are done"
    )
    assert "rhythm" not in message and not (tmp_path / "new").exists()


def test_one_vector_for_different_texts_is_refused_before_it_is_kept(service, tmp_path):
    alike = changed(lambda rows: [row.update(embedding=[1.0, 2.0]) for row in rows])
    for script, batch, kept in ([(200, {}, alike)], 3, 0), ([(200, {}, alike)] * 2, 1, 1):
        service.script, service.remote = script, replace(service.remote, batch=batch)
        refused(service, tmp_path / str(batch), "gave different texts one vector; correct `model` or `url`")
        assert len(list((tmp_path / str(batch)).glob("*"))) == kept


@pytest.mark.parametrize("texts", [["Chest pâin.", "chest PAIN"], ["?", "!"], [f"{'pain ' * 60}{n}" for n in range(2)]])
def test_texts_that_a_model_may_read_alike_may_have_one_vector(service, tmp_path, texts):
    service.script = [(200, {}, changed(lambda rows: [row.update(embedding=[1.0, 2.0]) for row in rows]))]
    assert ask(service, tmp_path, texts).shape == (2, 2)


def test_a_reply_larger_than_its_texts_vectors_is_refused_and_not_asked_for_again(service, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "REPLY_BYTES", 10)
    refused(service, tmp_path, "answered with more than 30 bytes for 3 texts, which no vectors need; correct `url`")
    service.script = [(400, {}, {"error": "No. " * 100_000})]
    refused(service, tmp_path, "/v1/embeddings answered 400; a text longer")
    assert len(service.asked) == 2 and not any(tmp_path.iterdir())


def test_a_small_body_that_unpacks_to_a_large_one_is_refused(service, tmp_path):
    packed = gzip.compress(bytes(2**20 * 200))
    service.script = [(200, {"Content-Encoding": "gzip"}, packed)]
    refused(service, tmp_path, f"answered with more than {3 * remote.REPLY_BYTES:,} bytes for 3 texts")


def test_a_reply_that_takes_too_long_in_all_counts_as_a_try(service, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "REPLY_SECONDS", -1.0)
    refused(service, tmp_path, "gave no answer (ReadTimeoutError) (3 tries)", kind=OSError)
    assert len(service.asked) == 3


def test_a_model_that_changes_its_width_is_noticed_within_a_run_and_between_runs(service, tmp_path):
    wide = changed(lambda rows: [row["embedding"].append(1.0) for row in rows])
    words = ("a-model at http://127.0.0.1", "widths 4 and 5", f"into another folder than {tmp_path.name}")
    service.script = [(200, {}, None), (200, {}, wide)]
    refused(service, tmp_path, *words)
    assert len(list(tmp_path.iterdir())) == 1
    service.script = [(200, {}, wide)]
    ask(service, tmp_path, TEXTS[3:6])
    before = len(service.asked)
    refused(service, tmp_path, *words, texts=TEXTS[:6])
    assert len(service.asked) == before


# ---- what is kept


def test_a_second_call_asks_nothing_and_needs_no_key(service, tmp_path, monkeypatch):
    first = ask(service, tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert np.array_equal(ask(service, tmp_path), first)
    assert np.array_equal(ask(service, tmp_path, TEXTS[:3]), first[:3])
    assert len(service.asked) == 3 == len(list(tmp_path.iterdir()))


def test_batches_that_are_alike_are_asked_for_once(service, tmp_path):
    got = ask(service, tmp_path, TEXTS[:3] * 3)
    np.testing.assert_allclose(got, unit(TEXTS[:3] * 3), rtol=0, atol=1e-7)
    assert len(service.asked) == 1


def test_address_model_and_texts_make_the_key_of_a_file(service, tmp_path):
    asked = [
        (service.remote, TEXTS[:2]),
        (service.remote, TEXTS[1::-1]),
        (service.remote, ["".join(TEXTS[:2])]),
        (replace(service.remote, model="another"), TEXTS[:2]),
        (replace(service.remote, url=service.url + "/deeper"), TEXTS[:2]),
    ]
    for i, (one, texts) in enumerate(asked):
        np.testing.assert_allclose(remote.cached(tmp_path, one, texts, access="open"), unit(texts), rtol=0, atol=1e-7)
        assert len(service.asked) == i + 1 == len(list(tmp_path.iterdir()))


@pytest.mark.slow
def test_a_kill_costs_one_batch(service, tmp_path):
    service.script = [(200, {}, None), (200, {}, None), (200, {}, "hold")]
    command = [sys.executable, "-c", CHILD, str(tmp_path / "kept"), service.url, *TEXTS]
    child = subprocess.Popen(command, cwd=paths.ROOT, env=os.environ)
    assert service.held.acquire(timeout=300)
    child.kill()
    child.wait(60)
    assert len(list((tmp_path / "kept").iterdir())) == 2
    service.remote = replace(service.remote, batch=2)
    np.testing.assert_allclose(ask(service, tmp_path / "kept"), unit(TEXTS), rtol=0, atol=1e-7)
    assert [question["input"] for question in service.asked[3:]] == [TEXTS[4:6], TEXTS[6:]]


def test_a_full_disk_leaves_no_half_file(service, tmp_path, monkeypatch):
    def half(tensors, file, metadata):
        file.write_bytes(tensors["vectors"].tobytes()[:10])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(embeddings, "save_file", half)
        ask(service, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert ask(service, tmp_path).shape == (7, 4)
