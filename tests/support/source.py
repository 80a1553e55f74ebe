"""The source tree as data: its modules, what each imports, and the functions it defines."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("trak_theory", "simulations", "paper_figures")
FORMER = ROOT / "trak_theory" / "_former_names"  # thin re-exports that must import what they re-export


def files(*packages):
    return [path for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    """Dotted name → path, packages included."""
    return {dotted(path): path for path in files() if path.parent != FORMER}


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(name, *, lazily=True):
    """The project's modules that a module imports; `lazily`: also inside functions and under TYPE_CHECKING."""
    nodes = ast.walk(tree(modules()[name])) if lazily else _at_import(tree(modules()[name]))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in modules() else node.module for one in inner}
    return {one for one in found if one in modules()} - {name}


def _at_import(node):
    """The statements that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_import(child)


def functions(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def circles(edges):
    """The strongly connected components of more than one node, each sorted."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for after in edges[node]:
            if after not in index:
                visit(after)
            if after in stack:
                low[node] = min(low[node], low[after])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found.append(sorted(part))

    for node in edges:
        if node not in index:
            visit(node)
    return [part for part in found if len(part) > 1]
