"""Statements that a name reaches: through calls, classes, constants, imports and re-exports, within the project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from simulations.engine.syntax import Module, Symbol, imported, module_of, used_nodes

Place = tuple[Module, int]  # a statement, by its number


class Reach:
    """Grows with `enter` and `follow`; then `texts`, `files`, and `packages`: the imports from outside the project."""

    def __init__(self) -> None:
        self.packages: set[str] = set()
        self._places: set[Place] = set()
        self._modules: dict[str, Module] = {}
        self._links: set[str] = set()
        self._followed: set[Symbol] = set()
        self._left: list[Place] = []

    def enter(self, module: Module, name: str) -> None:
        """Start from a name of a module, or from all of it where it binds no such name."""
        self._touch(module)
        self._add_name(module, name)
        self._exhaust()

    def follow(self, symbol: Symbol) -> None:
        """Add what a symbol stands for, and all that it needs."""
        self._open(symbol)
        self._exhaust()

    def texts(self) -> Iterator[str]:
        """One line a statement or import; their set is what the numbers rest on."""
        yield from (f"{module.name}: {module.text(place)}" for module, place in self._places)
        yield from self._links

    def statements(self) -> Iterator[tuple[Path, ast.stmt]]:
        yield from ((module.path, module.statements[place]) for module, place in self._places)

    def files(self) -> Iterator[tuple[Path, int]]:
        yield from ((module.path, module.modified) for module in self._modules.values())

    def _exhaust(self) -> None:
        while self._left:
            module, place = self._left.pop()
            for symbol in _needs(module, place):
                self._open(symbol)

    def _open(self, symbol: Symbol) -> None:
        if symbol in self._followed:
            return
        self._followed.add(symbol)
        module = self._modules.get(symbol.module) or module_of(symbol.module)
        if module is None:
            self.packages.add(symbol.module.split(".")[0])
            return
        self._touch(module)
        below = _as_module(symbol)
        if symbol.name and below:
            self._open(Symbol(below))
        else:
            self._add_name(module, symbol.name)

    def _touch(self, module: Module) -> None:
        """The module is imported, after the packages around it: their side effects count."""
        if module.name in self._modules:
            return
        self._modules[module.name] = module
        for place in module.effects:
            self._add(module, place)
        around = module_of(module.name.rpartition(".")[0])
        if around is not None:
            self._touch(around)

    def _add_name(self, module: Module, name: str) -> None:
        """The statements that bind a name, what it was imported from; the whole module where it binds no such name."""
        if name not in module.bindings and name not in module.imports:
            for place in range(len(module.statements)):
                self._add(module, place)
            for origin in module.imports.values():
                self._open(origin)
            return
        for place in module.bindings.get(name, []):
            self._add(module, place)
        if name in module.imports:
            origin = module.imports[name]
            self._links.add(f"{module.name}: {name} is {origin.module}:{origin.name}")
            self._open(origin)

    def _add(self, module: Module, place: int) -> None:
        if (module, place) not in self._places:
            self._places.add((module, place))
            self._left.append((module, place))


@cache
def _needs(module: Module, place: int) -> frozenset[Symbol]:
    """The symbols that a statement mentions: names of its module, what it imports itself, modules named in texts."""
    return frozenset(_mentioned(module, list(used_nodes(module.statements[place]))))


def _mentioned(module: Module, nodes: list[ast.AST]) -> Iterator[Symbol]:
    local = {name: origin for node in nodes for name, origin in imported(node, module.package)}
    above = {id(node.value): node for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Name):
            yield from _meanings(module, local, node.id, _attributes(node, above))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _names_module(node.value):
            yield Symbol(node.value)


def _meanings(module: Module, local: dict[str, Symbol], name: str, attributes: list[str]) -> Iterator[Symbol]:
    if name in module.bindings:
        yield Symbol(module.name, name)
    for origin in filter(None, (local.get(name), module.imports.get(name))):
        inside = _as_module(origin)
        if inside is not None:
            yield _attribute(inside, attributes)
        elif name in module.imports:
            yield Symbol(module.name, name)
        else:
            yield origin


def _as_module(origin: Symbol) -> str | None:
    """The module of the project that an import stands for; None where it is anything else."""
    if not origin.name:
        return origin.module if module_of(origin.module) else None
    parent, below = module_of(origin.module), f"{origin.module}.{origin.name}"
    is_bound = parent is not None and origin.name in {*parent.bindings, *parent.imports}
    return below if not is_bound and module_of(below) else None


def _attribute(module: str, attributes: list[str]) -> Symbol:
    """Meaning of `module.a.b`: the longest module, and the name of it that follows."""
    while attributes and _as_module(Symbol(module, attributes[0])):
        module, attributes = f"{module}.{attributes[0]}", attributes[1:]
    return Symbol(module, attributes[0] if attributes else "")


def _attributes(name: ast.Name, above: dict[int, ast.Attribute]) -> list[str]:
    """["linalg", "norm"] for the name np of np.linalg.norm."""
    found, node = [], above.get(id(name))
    while node is not None:
        found.append(node.attr)
        node = above.get(id(node))
    return found


def _names_module(text: str) -> bool:
    return "." in text and module_of(text) is not None
