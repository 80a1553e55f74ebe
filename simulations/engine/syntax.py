"""Modules of the project as top-level statements: what each binds, what it uses, and its text without comments.

Sources are parsed, never run. A file is parsed once a process.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PROJECT = ("simulations", "trak_theory")
WITHOUT_EFFECT = {"dataclass", "cache", "lru_cache", "contextmanager"}  # decorators that register nothing elsewhere
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Symbol:
    """A name of a module: `name` empty for the module itself, with all that it holds."""

    module: str
    name: str = ""


@dataclass(frozen=True, eq=False)
class Module:
    """A parsed module of the project.

    bindings  name → its top-level statements, by number
    imports   name → what an import at top level bound it to
    effects   the statements that do more than bind a name: they count as soon as the module is imported
    """

    name: str
    path: Path
    modified: int
    statements: list[ast.stmt]
    bindings: dict[str, list[int]]
    imports: dict[str, Symbol]
    effects: list[int]

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @cache  # noqa: B019 - modules live as long as the process
    def text(self, place: int) -> str:
        return canonical_text(self.statements[place])


@cache
def module_of(name: str) -> Module | None:
    """The module of that dotted name; None where it is no module of the project, nor one that this process loaded."""
    path = _path(name)
    return None if path is None else _parsed(name, path)


def _path(name: str) -> Path | None:
    top, *rest = name.split(".")
    if top not in PROJECT or not all(part.isidentifier() for part in rest):
        return None
    bases = [root.joinpath(*rest) for root in _roots(top)]
    candidates = [path for base in bases for path in (base / "__init__.py", base.with_suffix(".py"))]
    return next(filter(Path.is_file, candidates), None)


@cache
def _roots(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []


def forget_sources() -> None:
    """Read every file anew from now on."""
    module_of.cache_clear()
    entry_module.cache_clear()


@cache
def entry_module(name: str) -> Module | None:
    """As `module_of`, for a module that declares a study: outside the project it has the last part of its name."""
    found = module_of(name)
    file = getattr(sys.modules.get(name), "__file__", None)
    return _parsed(name.rpartition(".")[2], Path(file)) if found is None and file else found


def _parsed(name: str, path: Path) -> Module:
    modified, tree = path.stat().st_mtime_ns, ast.parse(path.read_bytes())
    module = Module(name, path, modified, [node for node in tree.body if not _is_text(node)], {}, {}, [])
    for place, node in enumerate(module.statements):
        for part in _walk(node, at_top=True):
            module.imports.update(imported(part, module.package))
        for bound in _bound(node):
            module.bindings.setdefault(bound, []).append(place)
        if _has_effect(node):
            module.effects.append(place)
    return module


def imported(node: ast.AST, package: str) -> Iterator[tuple[str, Symbol]]:
    """(local name, what it stands for) of an import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.split(".")[0]
            yield alias.asname or top, Symbol(alias.name if alias.asname else top)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        origin = ".".join([*parents, *filter(None, [node.module])])
        for alias in node.names:
            yield alias.asname or alias.name, Symbol(origin, alias.name)


def _walk(node: ast.AST, at_top: bool = False) -> Iterator[ast.AST]:
    """All nodes below; with at_top those that run when the module is imported."""
    yield node
    if at_top and isinstance(node, Definition | ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, at_top)


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, Definition):
        return {node.name}
    parts = list(_walk(node, at_top=True))
    stored = [part for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
    within = {id(name) for part in parts if isinstance(part, ast.comprehension) for name in ast.walk(part.target)}
    definitions = {part.name for part in parts if isinstance(part, Definition)}
    return definitions | {name.id for name in stored if id(name) not in within}  # a comprehension keeps its variables


def _has_effect(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, Definition):
        return not {_last_name(decorator) for decorator in node.decorator_list} <= WITHOUT_EFFECT
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(part, ast.Attribute | ast.Subscript) for target in targets for part in ast.walk(target))
    return not (isinstance(node, ast.If) and _last_name(node.test) in ("__name__", "TYPE_CHECKING"))


def _last_name(node: ast.AST) -> str:
    """`dataclass` of dataclasses.dataclass(frozen=True); `__name__` of __name__ == "__main__"."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Compare):
        return _last_name(node.left)
    return getattr(node, "attr", getattr(node, "id", ""))


def _is_text(node: ast.AST) -> bool:
    """A docstring, or another constant that nothing uses."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def canonical_text(node: ast.AST) -> str:
    """The syntax without comments, docstrings, layout and the annotations of functions; one text on every Python."""
    fields = []
    for name, value in ast.iter_fields(node):
        if name in SILENT or (name in ("annotation", "returns") and not isinstance(node, ast.AnnAssign)):
            continue
        if text := _field_text(value):
            fields.append(f"{name}={text}")
    return f"{type(node).__name__}({','.join(fields)})"


SILENT = {"ctx", "kind", "type_comment", "type_params"}


def _field_text(value: object) -> str:
    if isinstance(value, ast.AST):
        return canonical_text(value)
    if isinstance(value, list):
        return ";".join("None" if part is None else _field_text(part) for part in value if not _is_text_of(part))
    return "" if value is None else f"{type(value).__name__}:{value!r}"


def _is_text_of(part: object) -> bool:
    return isinstance(part, ast.AST) and _is_text(part)


def used_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that can have an influence on what a statement computes: annotations of functions left out."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") and not isinstance(node, ast.AnnAssign):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_text(child):
                yield from used_nodes(child)
