"""How does one notebook become one executed notebook, or nothing at all?

``python -m cardioembed_study.workflow.runner NOTEBOOK OUTPUT`` runs it through papermill. Parameters and kernel are
checked before anything starts; the output is written aside and moved once every cell has run and the privacy gate has
seen it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
import yaml
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from cardioembed_lib import files
from cardioembed_study import paths, privacy, settings
from cardioembed_study.workflow import executed

BAR = re.compile(r"[\r\n]*[^\r\n|%]{0,40}\d{1,3}%\|[^\r\n|]{0,200}\|[^\r\n|]{0,60}[\r\n]*|[\r\n]+")  # of tqdm
REFRESH = re.compile(r"(\x1b\[A|\s)*[\r\n]( +\Z)?|\x1b\[A")  # between two states of a bar, or two lines
BAR_SECONDS = 10  # between two states of a progress bar where nobody sees it move (a log file, CI)
OUTPUT_SECONDS = 60  # what a cell has printed may reach us so much later than its end, on a busy machine


class Guarded:
    """A kernel's stream as others may see it: once a profile's notes are known to the privacy gate, progress bars alone.

    On a terminal a bar moves; elsewhere each of its states is a line, and ``main`` asks tqdm for few of them.
    """

    def __init__(self, stream: TextIO, profile: str) -> None:
        self.stream, self.profile = stream, profile

    def write(self, text: str) -> None:
        """Write everything while nothing restricted was read, and after that what is a bar and gives nothing away."""
        known = privacy.gate(self.profile)
        for piece in [text] if known.empty else BAR.findall(text):
            if known.censor(piece) == piece:
                self.stream.write(piece if self.stream.isatty() else REFRESH.sub("\n", piece))

    def flush(self) -> None:
        """Flush the stream behind."""
        self.stream.flush()


def run(notebook: Path, output: Path, given: Mapping[str, Any], kernel: str, records: Sequence[Path] = ()) -> None:
    """Run a notebook and write it, executed, to ``output``; a failed run leaves ``<output>.failed.ipynb`` and no record.

    Where the profile has restricted texts, the failed notebook lies in its folder ``restricted``, and no message holds them.

    Args:
        notebook: one of ``notebooks/``.
        output: where the executed copy goes; its folder is made.
        given: the parameters that differ from the notebook's defaults.
        kernel: name of a registered Jupyter kernel.
        records: files the notebook writes; removed before it starts and when it fails.

    Raises:
        ValueError: an unknown parameter, a wrong value, an unknown kernel, or a machine's folder in an output.
        RuntimeError: a cell failed, the kernel died, or the privacy gate refused what it made; names notebook and cell.
    """
    profile = settings.check(notebook.stem, given).profile
    if kernel not in (known := KernelSpecManager().find_kernel_specs()):
        raise ValueError(
            f"no Jupyter kernel {kernel!r}; {files.near_miss(kernel, known)}; to register a Python, run with it: "
            f"python -m ipykernel install --user --name {kernel}"
        )
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = _room(profile, output) / f"{output.stem}.partial.ipynb"
    for old in (*(room / f"{output.stem}.failed.ipynb" for room in (partial.parent, output.parent)), *records):
        old.unlink(missing_ok=True)
    try:
        _execute(notebook.absolute(), partial, given, kernel, profile)
        shown = executed.clean(nbformat.read(partial, as_version=4))
        if given.get("run"):
            shown.cells[0].source = shown.cells[0].source.replace("\n", f": {given['run']}\n", 1)  # the book's sidebar
        nbformat.write(shown, partial)
        made = [partial, *(record for record in records if record.is_file())]
        privacy.gate(profile).refuse(made, "neither notebook nor records are kept")
        shutil.move(partial, output)  # artefacts may lie on another disk
    except BaseException as error:
        for record in records:
            record.unlink(missing_ok=True)
        if isinstance(error, (RuntimeError, ValueError)):
            failed = _room(profile, output) / f"{output.stem}.failed.ipynb"
            partial.replace(failed)
            raise RuntimeError(f"{notebook.name} failed: {error}; to read it: {failed}") from None
        raise
    finally:
        partial.unlink(missing_ok=True)


def _room(profile: str, output: Path) -> Path:
    """Return where an unfinished or failed notebook lies: beside the output, or among the restricted texts it may show."""
    return output.parent if privacy.gate(profile).empty else paths.restricted(profile).absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one notebook as the command line says; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.workflow.runner", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--profile", help="take the parameters and the kernel from profiles/PROFILE.yaml")
    parser.add_argument("--run", help="which run of the profile, for 02_train")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter, as YAML"
    )
    parser.add_argument("--kernel", help="name of a Jupyter kernel; default: the profile's, else python3")
    parser.add_argument("--record", type=Path, action="append", default=[], help="file removed when the run fails")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a cluster's kill cleans up too
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", str(BAR_SECONDS))  # tqdm reads it in the kernel
    try:
        given, kernel = _of_profile(chosen.notebook.stem, chosen.profile, chosen.run)
        given |= {name: _value(text) for name, text in chosen.p}
        run(chosen.notebook, chosen.output, given, chosen.kernel or kernel, chosen.record)
    except (KeyError, ValueError, RuntimeError, FileNotFoundError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    return 0


def _of_profile(stem: str, name: str | None, run: str | None) -> tuple[dict[str, Any], str]:
    if name is None:
        return {}, "python3"
    profile = settings.profile(name)
    kernel = profile.kernel.get(stem, profile.kernel.get("default", "python3"))
    if stem != "02_train":
        return dict(profile.notebooks.get(stem, {})), kernel
    if run not in profile.runs:
        raise ValueError(f"profile {name} has no run {run!r}; {files.near_miss(str(run), profile.runs)}")
    return dict(profile.runs[run]), kernel


def _value(text: str) -> Any:
    """Return a parameter typed on the command line: YAML, but 2e-4 is a number as well."""
    try:
        return float(text) if re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", text) else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _execute(notebook: Path, partial: Path, given: Mapping[str, Any], kernel: str, profile: str) -> None:
    """Run a notebook into ``partial``, showing each cell's name and what it may print; a failure names the cell."""
    step = ""

    def announce(cell: NotebookNode, cell_index: int) -> None:
        nonlocal step
        if cell.cell_type == "code":
            step = "given" if "injected-parameters" in cell.metadata.get("tags", []) else cell.id
            print(f"{partial.name.removesuffix('.partial.ipynb')} · {step}", flush=True)

    try:
        papermill.execute_notebook(
            notebook,
            partial,
            dict(given),
            kernel_name=kernel,
            progress_bar=False,
            stdout_file=Guarded(sys.stdout, profile),
            stderr_file=Guarded(sys.stderr, profile),
            cwd=paths.ROOT,
            iopub_timeout=OUTPUT_SECONDS,
            on_cell_start=announce,
            extra_arguments=["--log-level=40"],  # not the kernel's notice that it speaks to this process over TCP
        )
    except PapermillExecutionError as error:
        said = privacy.gate(profile).censor(f"{error.ename}: {error.evalue}")
        raise RuntimeError(f"cell {step!r}: {said}") from None
    except DeadKernelError:
        raise RuntimeError(f"cell {step!r}: the kernel died; out of memory is the usual reason") from None
    except CellTimeoutError:
        raise RuntimeError(
            f"cell {step!r}: the kernel hangs, or answers too late; run it again when less else runs on this machine"
        ) from None


if __name__ == "__main__":
    raise SystemExit(main())
