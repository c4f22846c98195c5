"""What is an executed notebook made of, and what may it show?

Two equal runs give equal files: times, progress bars and this machine's folders are not part of the evidence.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from cardioembed_study import paths

PACKAGES = ("cardioembed_lib", "cardioembed_study")


def sources(stem: str) -> list[Path]:
    """Return the files a notebook is made of: itself, the modules it imports, also indirectly, tables and templates they read.

    A table is a file that ``paths`` names (``paths.MODELS``), a template one that lies beside the module (``page.html.j2``).

    Raises:
        ModuleNotFoundError: something imports a module of ours that does not exist.

    >>> [path.name for path in sources("06_report")][0]
    '06_report.ipynb'
    """
    files, tables = [paths.NOTEBOOKS / f"{stem}.ipynb"], set()
    for file in files:  # grows while it is read
        notebook = file.suffix == ".ipynb"
        tree = ast.parse(code(nbformat.read(file, as_version=4)) if notebook else file.read_text(encoding="utf-8"))
        package = None if notebook else ".".join(file.relative_to(paths.ROOT).parts[:-1])
        modules = map(module_file, imports(tree, package))
        files += [path for path in dict.fromkeys(modules) if path not in files]
        named = (getattr(paths, node.attr, None) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        tables |= {value for value in named if isinstance(value, Path)}
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        tables |= {file.with_name(text) for text in texts if isinstance(text, str) and text.endswith(".j2")}
    return files + sorted(table for table in tables if isinstance(table, Path) and table.is_file())


def module_file(name: str) -> Path | None:
    """Return the file of a module of this repository, or a package's ``__init__.py``; ``None`` if there is none.

    >>> module_file("cardioembed_study.notes").name, module_file("cardioembed_lib.gone")
    ('__init__.py', None)
    """
    place = paths.ROOT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def imports(tree: ast.AST, package: str | None = None) -> Iterator[str]:
    """Yield the full names of our modules that code imports, the packages they are in before them.

    Args:
        tree: of the code.
        package: that it is in, for relative imports.

    Raises:
        ModuleNotFoundError: a name is neither a module nor bound in the one it is imported from.

    >>> list(imports(ast.parse("from cardioembed_lib import losses, lora as l; import cardioembed_lib.pooling, numpy")))
    ['cardioembed_lib', 'cardioembed_lib.losses', 'cardioembed_lib.lora', 'cardioembed_lib', 'cardioembed_lib.pooling']
    >>> list(imports(ast.parse("from . import tables"), "cardioembed_study.notes"))[-1]
    'cardioembed_study.notes.tables'
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES]
            for gone in (name for name in names if module_file(name) is None):
                raise ModuleNotFoundError(f"no module {gone}; the import that names it is out of date")
            yield from (".".join(n.split(".")[: i + 1]) for n in names for i in range(n.count(".") + 1))
        elif isinstance(node, ast.ImportFrom):
            try:
                whole = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError as error:
                raise ModuleNotFoundError(f"{ast.unparse(node)}: {error}; it is out of date") from None
            if whole.split(".")[0] in PACKAGES:
                yield from (".".join(whole.split(".")[: i + 1]) for i in range(whole.count(".") + 1))
                yield from _modules(whole, [alias.name for alias in node.names])


def _modules(whole: str, names: Sequence[str]) -> Iterator[str]:
    """Yield those of the names imported from a module that are modules themselves; all others must be bound there."""
    file = module_file(whole)
    if file is None:
        raise ModuleNotFoundError(f"no module {whole}; the import of {', '.join(names)} from it is out of date")
    bound = _bound(ast.parse(file.read_text(encoding="utf-8")))
    for name in names:
        if file.name == "__init__.py" and module_file(f"{whole}.{name}"):
            yield f"{whole}.{name}"
        elif name not in bound | {"*"}:
            raise ModuleNotFoundError(f"no {whole}.{name}; the import that names it is out of date")


def _bound(tree: ast.AST) -> set[str]:
    """Return the names that code defines, assigns or imports."""
    nodes = list(ast.walk(tree))
    names = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {
        (a.asname or a.name).split(".")[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for a in node.names
    }


def code(notebook: NotebookNode) -> str:
    """Return a notebook's code as one text, without the cell of injected parameters."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return "\n\n".join(c.source for c in cells if "injected-parameters" not in c.metadata.get("tags", []))


def machine_paths(text: str) -> list[str]:
    """Return the folders of this machine that a text names, longest first: repository, artefacts, mirror, home."""
    places = [paths.ROOT, paths.artifacts("x").absolute().parent, paths.mirror(), Path.home(), Path(sys.prefix)]
    names = {str(place) for place in [*places, Path(tempfile.gettempdir())] if place and len(place.parts) > 1}
    named = [name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.-])", text)]
    return sorted(named, key=lambda name: (-len(name), name))


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return an executed notebook without what differs between equal runs: times, progress bars, paths, kernel, addresses.

    Raises:
        ValueError: naming the first cell whose output names a folder of this machine.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {key: value for key, value in cell.metadata.items() if key not in ("papermill", "execution")}
        cell.id = "injected-parameters" if "injected-parameters" in tags else cell.id
        outputs: list[NotebookNode] = []
        for output in cell.get("outputs", []):
            if output.output_type != "stream":
                outputs.append(output)
            elif output.name == "stdout" and outputs and outputs[-1].output_type == "stream":
                outputs[-1].text += output.text  # the pieces in which text arrives depend on the clock
            elif output.name == "stdout":
                outputs.append(output)
        for output in outputs:
            texts = output if output.output_type == "stream" else output.get("data", {})
            for kind in texts.keys() & {"text", "text/plain"}:
                texts[kind] = re.sub(r" at 0x[0-9a-f]+", "", texts[kind])
        if shown := machine_paths("\n".join(_strings(outputs))):
            raise ValueError(f"cell {cell.id!r} shows {shown[0]}, a folder of this machine; print its name only")
        if cell.cell_type == "code":
            cell.outputs = outputs
    return notebook


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _strings(inner)
