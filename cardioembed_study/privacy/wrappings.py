"""What is inside bytes or a text that wraps something else: base64, compressed parts, pictures, adapters?"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator

LARGEST = 1 << 28  # bytes a compressed part may unfold to
ARRAYS = (".npy", ".npz", ".parquet", ".arrow", ".feather", ".pt", ".bin", ".pkl", ".h5", ".faiss")
MAGIC = {b"\x93NUMPY": "array", b"PAR1": "array", b"ARROW1": "array", b"\x89PNG": "PNG", b"PK\x03\x04": "zip"}
PACKED = {b"\x1f\x8b\x08": "gzip", b"\x78\x01": "zlib", b"\x78\x5e": "zlib", b"\x78\x9c": "zlib", b"\x78\xda": "zlib"}


MAGIC |= {b"\xff\xd8\xff": "image", b"GIF8": "image", b"RIFF": "image", b"II*\0": "image", b"MM\0*": "image"}


BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{24,}+(?:\\n|\s)*+)++[A-Za-z0-9+/_-]*+={0,2}")
HEX = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}){20,}+(?![0-9A-Za-z])")
Inside = Iterator[tuple[str, str | bytes | None]]  # what it is, and what it says; None where nobody can read it


def kind(data: bytes, name: str) -> str:
    """Return what bytes are: array, adapter, PNG, image, gzip, zlib, zip, or text as far as one can tell.

    >>> kind(b"PAR1...", "x.txt"), kind(b"words", "x.npy"), kind(b"words", "x.txt")
    ('array', 'array', 'text')
    """
    if name.endswith(".safetensors"):
        return "adapter"
    if name.endswith(ARRAYS):
        return "array"
    packed = next((found for magic, found in PACKED.items() if data.startswith(magic)), "text")
    if packed != "text" and _unzipped(data[:4096]) is None:
        packed = "text"
    return next((found for magic, found in MAGIC.items() if data.startswith(magic)), packed)


def inside(data: bytes, found: str) -> Inside:
    """Yield what is inside bytes of a kind other than text."""
    if found == "adapter":
        yield from _adapter(data)
    elif found == "PNG":
        yield from _chunks(data)
    elif found == "image":
        yield "image", legible(data)
    elif found == "zip":
        yield from _members(data)
    elif found in ("gzip", "zlib"):
        yield found, _unzipped(data)
    else:
        yield found, None


def encoded(text: str) -> Iterator[tuple[str, bytes]]:
    r"""Yield the bytes that runs of base64 and of hexadecimal digits in a text stand for, where they are legible.

    >>> list(encoded("x = 'bm8gcGFpbiBhdCByZXN0IHRvZGF5'"))
    [('base64', b'no pain at rest today')]
    """
    plain = text.replace("\\/", "/")
    for run in BASE64.findall(plain):
        pieces = re.split(r"(?:\\n|\s)+", run.strip())
        for piece in dict.fromkeys(["".join(pieces), *pieces]):
            yield from (("base64", data) for data in from_base64(piece))
    for run in HEX.findall(plain):
        if _sensible(bytes.fromhex(run[:96])):
            yield "hexadecimal digits", bytes.fromhex(run)


def from_base64(run: str) -> list[bytes]:
    """Return what a run says, which may begin up to three characters late; nothing where it says nothing legible."""
    run = run.rstrip("=").replace("-", "+").replace("_", "/")
    for offset in range(4):
        if _sensible(_bytes(run[offset : offset + 64])):
            return [_bytes(run[offset:])]
    return []


def decoded(data: bytes) -> str | None:
    """Return bytes as text, or ``None`` where they are none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def legible(data: bytes) -> str:
    """Return the characters among bytes; of two-byte characters the ASCII half is read."""
    return re.sub(r"[\x01-\x1f\x7f-\x9f]+", "\x0b", data.replace(b"\0", b"").decode("utf-8", errors="replace"))


def _adapter(data: bytes) -> Inside:
    """Yield the header of a LoRA adapter; other tensors may be anything, embeddings of notes as well."""
    size = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else len(data)
    try:
        header = json.loads(data[8 : 8 + size]) if size < len(data) else {"": ""}
    except ValueError:
        header = {"": ""}
    lora = all("lora_" in tensor for tensor in header if tensor != "__metadata__")
    yield "header", json.dumps(header, ensure_ascii=False) if lora else None


def _chunks(data: bytes) -> Inside:
    """Yield what a PNG says beside its pixels, also behind its end."""
    at, chunk = 8, b""
    while at + 8 <= len(data) and chunk != b"IEND":
        length, chunk = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        if chunk not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            yield f"PNG {chunk.decode('latin-1') if chunk.isalpha() else 'chunk'}", legible(_inflated(chunk, body))
    if data[at:]:
        yield "PNG, behind its end", legible(data[at:])


def _inflated(chunk: bytes, body: bytes) -> bytes:
    """Return the body of a PNG's text chunk, its compressed part unfolded."""
    word, _, rest = body.partition(b"\0")
    if chunk in (b"zTXt", b"iCCP"):
        return word + b"\n" + (_unzipped(rest[1:]) or rest)
    if chunk == b"iTXt":
        *names, text = rest[2:].split(b"\0", 2)
        return b"\n".join([word, *names, (rest[:1] == b"\1" and _unzipped(text)) or text])
    return body.replace(b"\0", b"\n", 1)  # a tEXt chunk's word, and its text


def _members(data: bytes) -> Inside:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for n, entry in enumerate(archive.infolist(), start=1):
                yield f"zip, name of file {n}", entry.filename
                with archive.open(entry) as file:
                    inner = None if entry.filename.endswith(ARRAYS) else file.read(LARGEST)
                yield f"zip, file {n}", inner
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError):  # damaged, with a password, packed another way
        yield "zip", None


def _unzipped(data: bytes) -> bytes | None:
    """Return what gzip or zlib packed, as far as the bytes go; ``None`` where it is something else."""
    try:
        return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(data, LARGEST)
    except zlib.error:
        return None


def _bytes(run: str) -> bytes:
    run = run[: -1 if len(run) % 4 == 1 else None]
    try:
        return base64.b64decode(run + "=" * (-len(run) % 4))
    except binascii.Error:
        return b""


def _sensible(head: bytes) -> bool:
    """Whether the first bytes of something decoded begin a known kind, or read as words."""
    if kind(head, "") != "text":
        return True
    letters = head.replace(b"\0", b"")
    if not letters or (b"\0" in head and len(letters) > 0.7 * len(head)):  # two-byte characters are half zeros
        return False
    text = letters.decode("utf-8", errors="ignore")
    printable = sum(character.isprintable() or character in "\n\t\r" for character in text)
    return len(text.encode()) >= 0.9 * len(letters) and printable >= 0.9 * len(text) and not text.isalnum()
