"""What every test may use: no network, the packaged model, and tiny random models made in memory."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, which reads it once; child processes inherit it

import pytest
from lxml import html

from cardioembed_study import paths

LOOPBACK = ("localhost", "127.", "::1")


def pytest_collection_modifyitems(items):
    """Begin with the graph's run, the longest: the rest runs beside it."""
    items.sort(key=lambda item: ("end_to_end" not in item.nodeid, "test_pipeline" not in item.nodeid))


def pytest_collection_finish():
    """Give torch one thread: tiny models gain nothing from a second one, and lose much where the cores are shared."""
    if "torch" in sys.modules:  # not in the process that only shares out work: this file imports it nowhere
        sys.modules["torch"].set_num_threads(1)


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not sys.modules["torch"].cuda.is_available():
        pytest.skip("no CUDA device on this machine")


@pytest.fixture
def waits(monkeypatch):
    """Return every wait between two tries in seconds; none of them is waited for."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


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


@pytest.fixture(autouse=True)
def nothing_restricted_was_opened():
    """Let each test begin as a process that has not seen a clinical note."""
    paths.OPENED.clear()
    yield
    paths.OPENED.clear()


@pytest.fixture
def browse(tmp_path):
    """Return a function: name of style and script, body, address after # -> the page as a browser shows it, from a file."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        pytest.skip("no Chromium is installed; it would run the page's script")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    page = tmp_path / "page.html"

    def show(name, body, state):
        style, script = ((paths.BOOK / "_static" / f"{name}.{kind}").read_text() for kind in ("css", "js"))
        page.write_text(f'<!DOCTYPE html><meta charset="utf-8"><style>{style}</style><script>{script}</script>{body}')
        words = [program, *options, f"file://{page}#{state}"]
        return html.fromstring(subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout)

    return show


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
    import tiny

    return tiny.models.load(tiny.spec("all-MiniLM-L6-v2"), device="cpu")


@pytest.fixture(scope="session")
def tiny_bert():
    """Return a maker of two-layer random BERTs."""
    import tiny

    return tiny.bert


@pytest.fixture(scope="session")
def tiny_qwen3():
    """Return a maker of two-layer random Qwen3s."""
    import tiny

    return tiny.qwen3


@pytest.fixture(scope="session")
def tiny_gemma3():
    """Return a maker of two-layer random Gemma3 text models."""
    import tiny

    return tiny.gemma3
