"""How are the numbers, names and links of the ledger written on a page?"""

from __future__ import annotations

import re
from html import escape

WORDS = {"acc": "Acc", "auroc": "AUROC", "map": "MAP", "mrr": "MRR", "ndcg": "nDCG", "p95": "P95"} | {
    f"top{k}": f"top-{k}" for k in (1, 5, 10)
}
BARE = ("fraction", "count")  # units that are not written after the number
CHECKS = "claims-arithmetic#"  # how a verdict links to a check
DOTTED = re.compile(r"`[^`]+`|(?:https?://)?[\w./-]*[A-Za-z_]\w*\.[A-Za-z]{2,}[\w/-]*(?:[.:][\w/-]+)*")


def anchor(check: str) -> str:
    """Return the id of a check on the page.

    >>> anchor("sum of shares")
    'check-sum-of-shares'
    """
    return f"check-{re.sub(r'[^A-Za-z0-9.]+', '-', check).strip('-')}"


def href(link: str) -> str:
    """Return a verdict's link as an address relative to the page of claims: a check's anchor, a page, or nothing.

    >>> href("executed/03_retrieval"), href("claims-arithmetic#sum"), href("differences#tried"), href("")
    ('executed/03_retrieval.html', '#check-sum', 'differences.html#tried', '')
    """
    if link.startswith(CHECKS):
        return f"#{anchor(link.removeprefix(CHECKS))}"
    page, mark, place = link.partition("#")
    return f"{page}.html{mark}{place}" if page else ""


def title(link: str) -> str:
    """Return how a link is called: a notebook by number and name, a page by its name.

    >>> title("executed/03_retrieval"), title("executed/02_train.seed17"), title("claims-arithmetic#sum"), title("data")
    ('3 · Retrieval', '2 · Train seed17', 'Arithmetic', 'Data')
    """
    if link.startswith(CHECKS):
        return "Arithmetic"
    page = link.partition("#")[0].rpartition("/")[2]
    number, _, name = page.partition("_")
    name = {"mteb": "MTEB", "mimic": "MIMIC"}.get(name, name.replace(".", " ").capitalize())
    return f"{int(number)} · {name}" if number.isdigit() else page.capitalize()


def published(value: float, unit: str) -> str:
    """Return a number with its unit as text, no digit lost; from 10,000 on in groups of three.

    >>> published(99.6, "percent"), published(106386.0, "triplets"), published(8.0, "layers"), published(2e-05, "fraction")
    ('99.6 %', '106,386 triplets', '8 layers', '2e-05')
    """
    number = repr(float(value)).removesuffix(".0")
    if value.is_integer() and abs(value) >= 10_000:
        number = f"{int(value):,}"
    return number if unit in BARE else f"{number} {re.sub('^percent', '%', unit)}"


def metric(name: str) -> str:
    """Return how the page calls a metric.

    >>> metric("ndcg_at_10"), metric("acc_at_1"), metric("learning_rate")
    ('nDCG@10', 'Acc@1', 'learning rate')
    """
    words = re.sub(r"_at_(?=\d)", "@", name).replace("_", " ")
    return re.sub(r"[a-z0-9]+", lambda word: WORDS.get(word[0], word[0]), words)


def code(text: str) -> str:
    """Return text for HTML, escaped; what stands between backticks becomes code.

    >>> code("a < b in `x.py`")
    'a &lt; b in <code>x.py</code>'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def markdown(text: str) -> str:
    r"""Return text so that Markdown shows it as it is; what looks like a file or an address becomes code.

    >>> markdown("a_b < 2 * c, see run.py")
    'a_b \\< 2 \\* c, see `run.py`'
    """
    parts, end = [], 0
    for found in DOTTED.finditer(text):
        parts += [escaped(text[end : found.start()]), f"`{found[0].strip('`')}`"]
        end = found.end()
    return "".join([*parts, escaped(text[end:])])


def escaped(text: str) -> str:
    """Return text with a backslash before what Markdown would read as a sign."""
    return re.sub(r"([\\`*<>$\[\]~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
