"""Annotations of the library: a real type wherever there is one."""

import ast

from support.source import files, tree

MOST = 40  # occurrences of the name Any, aliases and assignments included
UNTYPED = {  # public signatures with a bare Any, and why no type says it
    "budget.total": "None exactly where `mean` is, which no annotation can tie together",
    "on_train_begin.found": "transformers passes model, optimiser and more by name, in a type of its own for each",
    "project.projection": "dense, or any of scipy's sparse classes, which share no typed base",
    "projection_interval.projection": "the same",
    "read_json.return": "the kind of object is an argument with a default, which a type variable cannot have",
}


def is_any(node):
    return isinstance(node, ast.Name) and node.id == "Any"


def public_signatures(module):
    """name.argument ↦ annotation of every function without an underscore, the result as name.return."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = (
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            )
            yield from ((f"{node.name}.{one.arg}", one.annotation) for one in arguments if one is not None)
            yield f"{node.name}.return", node.returns


def trees():
    return map(tree, files("trak_theory"))


def test_the_library_names_any_rarely():
    found = sum(is_any(node) for module in trees() for node in ast.walk(module))
    assert found < MOST


def test_no_public_signature_has_a_bare_any_without_a_reason():
    bare = {name for module in trees() for name, annotation in public_signatures(module) if is_any(annotation)}
    assert bare == set(UNTYPED)


def test_a_bare_any_would_be_seen():
    module = ast.parse("def f(a: int, *b: Any, c: Any = 1) -> list[Any]: ...\ndef _g(a: Any): ...\nx: Any = 1")
    assert {name for name, annotation in public_signatures(module) if is_any(annotation)} == {"f.b", "f.c"}
