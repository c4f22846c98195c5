"""Notes that nobody wrote, and files that give a piece of them away: what the privacy gate is attacked with."""

import base64
import gzip
import html
import io
import json
import random
import urllib.parse
import zlib

import numpy as np
import polars as pl
from harmless import book, code, filler, path, plain, png, stream, svg_file
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from safetensors.numpy import save

SLOTS = {
    name: words.split("/")
    for name, words in {
        "who": "patient/pt/mother/he/she/infant/gentleman/lady",
        "verb": "remains/appears/is/continues/was/seems",
        "state": "stable/lethargic/alert and oriented/intubated/comfortable/agitated overnight/afebrile",
        "side": "left/right/bilateral/bibasilar/medial/posterior",
        "site": "lung/arm/flank/groin/chest/abdomen/calf/hip/shoulder/forearm/foot/neck",
        "find": "effusion/oedema/crackles/swelling/rash/opacity/wheeze/pain/erythema/bruise/tenderness/ooze",
        "size": "small/moderate/trace/large/worsening/new/resolving/unchanged",
        "drug": "lasix/heparin/vanco/fentanyl/propofol/lopressor/insulin/amio/levophed/zosyn/morphine/ativan",
        "how": "gtt/iv push/po bid/sc q8h/prn with good effect/held this am/titrated to effect/weaned",
        "lab": "na/k/cl/hco3/bun/cr/hct/wbc/plt/inr/glucose/lactate",
        "plan": "cont to monitor/follow cultures/wean as tolerated/family meeting/repeat film/check labs",
        "when": "overnight/this morning/since admission/at 0400/after dialysis/during rounds/on arrival",
    }.items()
}
SENTENCES = (
    "The {who} {verb} {state} {when}, with {size} {side} {find} of the {site}.",
    "{size} {find} noted over {side} {site} {when}; {drug} {how}.",
    "CV: HR {n} BP {m}/{n} on {drug} {how}, {side} pulses dopplerable {when}.",
    "RESP: LS coarse {side}, {size} {find}, sats {n}% on {d}L {when}.",
    "{lab} {m} {lab} {d}.{d} {lab} {n} {lab} {d}.{d} drawn {when}, MD aware.",
    "Denies {find} or {find} in the {side} {site} {when}.",
    "No {find}; {drug} {how} and {plan}.",
    "Plan: {plan}, {plan}, {drug} {how} if {lab} above {m}.",
    "[**Last Name (un) {m}**] called {when} re {size} {find}; {who} to {plan}.",
    "IMPRESSION: {size} {side} {site} {find}, {size} since [**{y}-{d}-{n}**].",
)


def notes(n: int, seed: int) -> list[str]:
    """Return n notes of 3 to 14 sentences, lines broken as on a ward."""
    draw = random.Random(seed)
    return [draw.choice(("\n", " ", "\n\n")).join(sentence(draw) for _ in range(draw.randint(3, 14))) for _ in range(n)]


def sentence(draw: random.Random) -> str:
    """Return one sentence with every gap filled anew."""
    text = draw.choice(SENTENCES)
    for slot, words in SLOTS.items():
        while f"{{{slot}}}" in text:
            text = text.replace(f"{{{slot}}}", draw.choice(words), 1)
    for slot, (low, high) in {"n": (10, 99), "m": (100, 180), "d": (1, 9), "y": (2101, 2199)}.items():
        while f"{{{slot}}}" in text:
            text = text.replace(f"{{{slot}}}", str(draw.randint(low, high)), 1)
    return text


def snippet(texts: list[str], draw: random.Random, least: int = 8, most: int = 30) -> str:
    """Return a run of words of one note: at least eight, with 20 letters and digits, of which 10 are letters."""
    while True:
        words = draw.choice(texts).split()
        words = [word for word in words if any(map(str.isalnum, word))]
        length = draw.randint(least, min(most, len(words)))
        start = draw.randint(0, len(words) - length)
        piece = " ".join(words[start : start + length])
        if sum(map(str.isalnum, piece)) >= 20 and sum(map(str.isalpha, piece)) >= 10:
            return piece


def short_lines() -> list[str]:
    """Return 300 lines of six words each, which stand in notes by themselves."""
    draw, names = random.Random(0), ("size", "side", "site", "find", "drug")
    words = [[draw.choice(SLOTS[name]).split()[0] for name in names] for _ in range(300)]
    return [f"{' '.join(four)} despite {drug}" for *four, drug in words]


def ids(n: int, seed: int) -> dict[str, list[int]]:
    """Return ids of patients, admissions and notes, spread as those of a sample of MIMIC-III."""
    draw = random.Random(seed)
    ranges = {"subject": range(1000, 99_999), "admission": range(100_001, 199_999), "note": range(1, 2_083_181)}
    return {kind: sorted(draw.sample(numbers, n)) for kind, numbers in ranges.items()}


def cut(text: str, draw: random.Random) -> list[str]:
    """Return a text in two to four pieces."""
    words = text.split(" ")
    marks = sorted(draw.sample(range(1, len(words)), min(draw.randint(1, 3), len(words) - 1)))
    return [" ".join(words[a:b]) for a, b in zip([0, *marks], [*marks, len(words)], strict=True)]


def coloured(text: str, draw: random.Random) -> str:
    return "".join(f"\x1b[0;3{draw.randint(1, 7)}m{word}\x1b[39m " for word in text.split())


def text_file(text: str, draw: random.Random) -> dict[str, str]:
    return draw.choice(({"a.txt": text}, {"page.md": text}, {"run.ipynb": book(code("x", stream(text)))}))


def hidden_twice(text: str) -> bytes:
    return json.dumps({"z": base64.b64encode(text.encode()).decode()}).encode()


# ---- how a text can stand in a file: each returns what is written, by the name of the file


def in_stream(text, draw):
    return {"run.ipynb": book(code("print(note)", stream(f"{filler(draw)}\n{text}\n{filler(draw)}\n")))}


def in_other_case_and_spaces(text, draw):
    words = [draw.choice((str.upper, str.lower, str.title, str.swapcase))(word) for word in text.split()]
    gaps = [draw.choice((" ", "\n", "\t", " \u00a0 ", "  ", " \u200b", ", ", " - ", "-\n", "\r\n")) for _ in words]
    said = "".join(word + gap for word, gap in zip(words, gaps, strict=True))
    if draw.random() < 0.3:
        said = said.replace("ff", "\ufb00").replace("e", "e\u0301")
    return {"table.md": f"| {filler(draw)} |\n\n{said}\n\n{filler(draw)}"}


def split_over_outputs(text, draw):
    pieces = cut(text, draw)
    kinds = [stream(pieces[0]), *(plain(piece) for piece in pieces[1:])]
    return {"run.ipynb": book(code("for part in parts: display(part)", *kinds))}


def split_over_streams(text, draw):
    size = draw.choice((1, 2, 3))
    words = text.split()
    pieces = [" ".join(words[at : at + size]) + draw.choice(("\n", " ")) for at in range(0, len(words), size)]
    return {"run.ipynb": book(code("for word in note.split(): print(word)", *map(stream, pieces)))}


def split_over_cells(text, draw):
    cells = [code(f"parts[{n}]", plain(repr(piece))) for n, piece in enumerate(cut(text, draw))]
    return {"run.ipynb": book(*cells)}


def in_svg_text(text, draw):
    words, n = text.split(), draw.randint(1, 5)
    lines = [" ".join(words[at : at + n]) for at in range(0, len(words), n)]
    tag = draw.choice(("text", "tspan", "desc"))
    inner = "\n".join(
        f'<{tag} x="{draw.random():.3f}" y="{12 * k}">{html.escape(line)}</{tag}>{path(draw)}'
        for k, line in enumerate(lines)
    )
    return svg_file(inner, draw)


def in_svg_comment(text, draw):
    said = html.escape(text)
    forms = (
        "".join(f"<!-- {line} -->\n<g>{path(draw)}</g>" for line in cut(said, draw)),
        f"<title>{said}</title>",
        f"<metadata><rdf:RDF><dc:title>{said}</dc:title></rdf:RDF></metadata>",
        f'<g id="{urllib.parse.quote(text)}">{path(draw)}</g>',
        f'<path aria-label="{said}" d="M 0 1 L 2 3"/>',
        f"<style><![CDATA[ /* {text} */ ]]></style>",
        f'<image href="data:image/png;base64,{base64.b64encode(png(text, draw)).decode()}"/>',
    )
    return svg_file(draw.choice(forms), draw)


def in_json(text, draw):
    value = draw.choice(({"why": text}, [[text]], {text: 1}, {"a": {"b": [0, {"c": f"it said: {text}"}]}}))
    for _ in range(draw.randint(0, 3)):
        value = {"metrics": {"acc_at_1": 0.5}, "inner": json.dumps(value)}
    if draw.random() < 0.3:
        value = dict(enumerate(text.split())) | {"n": 3}
    said = json.dumps(value, indent=draw.choice((None, 2)))
    if draw.random() < 0.3:
        said = "".join(f"\\u{ord(c):04x}" if c.isalpha() and draw.random() < 0.3 else c for c in json.dumps(text))
    return {draw.choice(("results/train.a.json", "history.jsonl", "results/x.json")): said.replace("\n", "\n")}


def in_png(text, draw):
    return {"fig.png": png(text, draw)}


def in_png_output(text, draw):
    image = base64.b64encode(png(text, draw)).decode()
    image = "\n".join(image[at : at + 76] for at in range(0, len(image), 76)) if draw.random() < 0.5 else image
    return {"run.ipynb": book(code("fig", new_output("display_data", data={"image/png": image})))}


def in_base64(text, draw):
    data = draw.choice(
        (str.encode, lambda t: gzip.compress(t.encode()), lambda t: zlib.compress(t.encode()), hidden_twice)
    )(text)
    said = draw.choice((base64.b64encode, base64.urlsafe_b64encode, lambda d: d.hex().encode()))(data).decode()
    forms = (
        code("blob", plain(repr(said))),
        code("blob", new_output("display_data", data={"text/html": f'<a href="data:text/plain;base64,{said}">a</a>'})),
        code(f"blob = {said!r}"),
        code("blob", stream(f"blob={said}\n")),
        code("blob", new_output("display_data", data={"application/json": {"blob": said}})),
    )
    return {"run.ipynb": book(draw.choice(forms))}


def in_traceback(text, draw):
    lines = [
        "\x1b[0;31m---------------------------------------------------------------------------\x1b[0m",
        "\x1b[0;31mValueError\x1b[0m                                Traceback (most recent call last)",
        "\x1b[0;32m<ipython-input-3>\x1b[0m in \x1b[0;36m<module>\x1b[0;34m\x1b[0m",
        f"\x1b[0;32m----> 1\x1b[0m f({coloured(text, draw)})" if draw.random() < 0.5 else "----> 1 f(note)",
        f"\x1b[0;31mValueError\x1b[0m: {coloured(text, draw)}",
    ]
    where = draw.randint(0, 1)
    error = new_output("error", ename="ValueError", evalue=text if where else "", traceback=lines if not where else [])
    return {"run.failed.ipynb": book(code("f(note)", error))}


def in_parameters(text, draw):
    source = f'profile = "open"\nprompt = {text!r}\nseed = 17'
    cell = new_code_cell(source, id="given", metadata={"tags": ["injected-parameters"]})
    metadata = {"papermill": {"parameters": {"prompt": text}}}
    tagged = new_code_cell("1", id="x", metadata={"caption": {"text": [text]}})
    forms = (book(cell), book(code("1"), metadata=metadata), book(tagged), book(new_markdown_cell(f"> {text}", id="m")))
    return {"run.ipynb": draw.choice(forms)}


def in_names(text, draw):
    words = "".join(c if c.isalnum() else draw.choice("_- ") for c in text.replace("/", " "))[:180]
    name = urllib.parse.quote(words) if draw.random() < 0.3 else words
    return {draw.choice((f"{name}/a.csv", f"fig-{name}.csv", f"tables/{name}.md")): "k,accuracy\n1,0.5\n"}


def in_table_cells(text, draw):
    words = text.split()
    rows = "".join(f"<tr><th>{n}</th><td>{html.escape(word)}</td></tr>\n" for n, word in enumerate(words))
    wide = "".join(f"<td><b>{html.escape(word)}</b></td>" for word in words)
    tagged = "".join(
        f"<span class='w{n}'>{html.escape(word[:2])}</span>{html.escape(word[2:])} " for n, word in enumerate(words)
    )
    said = draw.choice((f"<table>{rows}</table>", f"<table><tr>{wide}</tr></table>", f"<p>{tagged}</p>"))
    return {"run.ipynb": book(code("frame", new_output("display_data", data={"text/html": said}))), "page.html": said}


def in_table_rows(text, draw):
    words = [word.strip("|,\"'") or "x" for word in text.split()]
    forms = {
        "run.ipynb": book(code("frame", plain("".join(f"{n}    {word}\n" for n, word in enumerate(words))))),
        "table.md": "| word | n |\n|---|---|\n" + "".join(f"| {word} | {draw.randint(1, 9)} |\n" for word in words),
        "fig.csv": "n,word,share\n" + "".join(f'{n},"{word}",{draw.random():.6f}\n' for n, word in enumerate(words)),
    }
    name = draw.choice(sorted(forms))
    return {name: forms[name]}


def in_address(text, draw):
    said = draw.choice((urllib.parse.quote, urllib.parse.quote_plus))(text, safe="")
    return {draw.choice(("page.md", "run.log", "claims.html")): f"see [this](page.html?q={said}&n=3)\n"}


def in_record_or_log(text, draw):
    forms = {
        "results/train.a.json": json.dumps({"status": "not run", "reason": f"note {text}", "seconds": 3}),
        "history.jsonl": "".join(json.dumps({"step": n, "loss": 1 / (n + 1), "text": text}) + "\n" for n in range(3)),
        "run.log": f"[12:00:01] 03_retrieval · load\nwarning: row 3 holds {text}\n",
        "README.md": f"---\nlicense: apache-2.0\nwidget:\n- text: >\n    {text}\n---\n# Adapter\n",
        "adapter_model.safetensors": save({"x.lora_A.weight": np.zeros(3, np.float32)}, {"note": text}),
        "table.md": f"| model | note |\n|---|---|\n| a | {text} |\n",
        "report.txt.gz": gzip.compress(f"{filler(draw)} {text}".encode()),
        "report.txt": f"{filler(draw)} {text}".encode("utf-16"),
    }
    name = draw.choice(sorted(forms))
    return {name: forms[name]}


def as_a_short_line(text, draw):
    """A whole line of a note, too short for a run of words; stands in for the text."""
    line = draw.choice(short_lines())
    forms = {
        "table.md": f"| model | said |\n|---|---|\n| a | {line} |\n",
        "x.json": json.dumps({"said": line, "n": 3}),
        "fig.csv": f"n,said\n3,{line}\n",
        "a.txt": f"{filler(draw)}\n{line.upper()}\n",
        "run.ipynb": book(code("said", plain(repr(line)))),
        "fig.svg": f"<svg><text x='3'>{html.escape(line)}</text></svg>",
    }
    name = draw.choice(sorted(forms))
    return {name: forms[name]}


TEXT_LEAKS = [
    *(in_stream, in_other_case_and_spaces, split_over_outputs, split_over_streams, split_over_cells, in_svg_text),
    *(in_svg_comment, in_json),
    *(in_png, in_png_output, in_base64, in_traceback, in_parameters, in_names, in_table_cells, in_table_rows),
    *(in_address, in_record_or_log, as_a_short_line),
]


# ---- how ids can stand in a file


def in_index(numbers, draw):
    chosen = draw.sample(numbers, draw.randint(3, 9))
    said = [f"{number}.0" if draw.random() < 0.2 else str(number) for number in chosen]
    rows = [(one, f"{draw.random():.4f}", draw.choice(("ECG", "Echo", "Nursing"))) for one in said]
    table = "".join(f"<tr><th>{a}</th><td>{b}</td><td>{c}</td></tr>\n" for a, b, c in rows)
    head = "<tr><th></th><th>score</th><th>category</th></tr>\n"
    spaced = [f"<tr>\n  <th>{a}</th>\n  <td>{b}</td>\n  <td>{c}</td>\n</tr>\n" for a, b, c in rows]
    printed = "          score category\n" + "".join(f"{a:<8}  {b}  {c}\n" for a, b, c in rows)
    frames = {
        "fig.csv": ",score,category\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows),
        "page.html": f"<table><thead>{head}</thead><tbody>{table}</tbody></table>",
        "page2.html": f"<table>{head}{''.join(spaced)}</table>",
        "run.ipynb": book(code("frame", plain(printed))),
        "series.ipynb": book(code("frame", plain("".join(f"{a}    {b}\n" for a, b, _ in rows) + "dtype: float64"))),
        "x.json": json.dumps({"score": {a: float(b) for a, b, _ in rows}}),
        "table.md": "| | score |\n|---|---|\n" + "".join(f"| {a} | {b} |\n" for a, b, _ in rows),
    }
    name = draw.choice(sorted(frames))
    return {name: frames[name]}


def in_named_column(numbers, draw):
    chosen = draw.sample(numbers, draw.randint(2, 9))
    head = draw.choice(("subject_id", "HADM_ID", "row_id", "note_id", "Note ID", "patient id", "SUBJECT_ID"))
    frame = pl.DataFrame({"n": range(len(chosen)), head: chosen})
    with pl.Config(tbl_formatting="ASCII_MARKDOWN" if draw.random() < 0.5 else "UTF8_FULL"):
        printed = str(frame)
    forms = {
        "run.ipynb": book(code("frame", new_output("execute_result", data={"text/plain": printed}))),
        "html.ipynb": book(code("frame", new_output("display_data", data={"text/html": frame._repr_html_()}))),
        "fig.csv": frame.write_csv(),
        "x.json": json.dumps(frame.to_dicts()),
        "y.json": json.dumps({head: chosen}),
        "z.jsonl": "".join(json.dumps(row) + "\n" for row in frame.to_dicts()),
    }
    name = draw.choice(sorted(forms))
    return {name: forms[name]}


def beside_a_word(numbers, draw):
    number = draw.choice([number for number in numbers if number >= 1000])
    words = (
        *(
            "subject_id {}",
            "hadm_id={}",
            "HADM_ID: {}.0",
            '"note_id": {}',
            "note id {}",
            "patient {} was",
            "Admission #{}",
        ),
        *("patient: {}", "subject {} has", "patient no. {}", "note {}:", "ROW_ID = '{}'", "subject_ids: [{}]"),
    )
    return text_file(f"{filler(draw)} {draw.choice(words).format(number)} {filler(draw)}", draw)


def as_our_own_ids(numbers, draw):
    said = draw.choice(("note{}", "patient{}", "subject_{}", "hadm-{}", "Note{}")).format(draw.choice(numbers))
    if draw.random() < 0.3:
        return {draw.choice((f"figures/fig-{said}.csv", f"{said}/a.csv")): "k,v\n1,0.5\n"}
    return text_file(
        draw.choice((f"{filler(draw)} {said} {filler(draw)}", f'"anchor_id": "{said}"', f'<g id="{said}">')), draw
    )


def in_a_list(numbers, draw):
    chosen = [number for number in draw.sample(numbers, draw.randint(6, 12)) if number >= 1000]
    forms = (
        str(chosen),
        str(np.array(chosen)),
        json.dumps({"worst": chosen}),
        "\n".join(map(str, chosen)),
        str([float(number) for number in chosen]),
        "{" + ", ".join(map(str, chosen)) + "}",
    )
    said = draw.choice(forms)
    return draw.choice(
        (
            {"run.ipynb": book(code("worst", plain(said)))},
            {"x.json" if said[0] == "{" and ":" in said else "a.txt": said},
        )
    )


def in_metadata(numbers, draw):
    number = draw.choice([number for number in numbers if number >= 1000])
    value = draw.choice((number, str(number)))
    given = {draw.choice(("hadm_id", "subject_id", "note_id")): value}
    cell = new_code_cell("1", id="x", metadata={"about": given})
    forms = (book(code("1"), metadata={"papermill": {"parameters": given}}), book(cell))
    return {"run.ipynb": draw.choice(forms)}


def in_code_or_a_traceback(numbers, draw):
    number = draw.choice([number for number in numbers if number >= 1000])
    said = draw.choice(("hadm_id == {}", "subject_id <> {}", "hadm == {}", "hadm_id=np.int64({})", "note_id: int({})"))
    return text_file(f"{filler(draw)} {said.format(number)} {filler(draw)}", draw)


ID_LEAKS = [in_index, in_named_column, beside_a_word, as_our_own_ids, in_a_list, in_metadata, in_code_or_a_traceback]


def arrays(draw: random.Random) -> dict[str, bytes]:
    """Return one array of random numbers in a form that nobody can read."""
    vectors = np.random.default_rng(draw.randint(0, 9999)).normal(size=(draw.randint(1, 9), 8)).astype(np.float32)
    npy, npz, parquet = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, vectors)
    np.savez(npz, a=vectors)
    pl.DataFrame(vectors).write_parquet(parquet)
    said = base64.b64encode(npy.getvalue()).decode()
    forms = {
        "e.npy": npy.getvalue(),
        "e.npz": npz.getvalue(),
        "e.parquet": parquet.getvalue(),
        "renamed.json": npy.getvalue(),
        "e.safetensors": save({"embeddings": vectors}),
        "e.npy.gz": gzip.compress(npy.getvalue()),
        "e.ipynb": book(code("blob", plain(said))).encode(),
        "e.dat": vectors.tobytes(),
    }
    name = draw.choice(sorted(forms))
    return {name: forms[name]}
