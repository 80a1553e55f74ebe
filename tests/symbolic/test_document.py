"""The document of derivations: complete, well formed, and compiled where LaTeX is installed."""

import re
import shutil
import subprocess
from importlib import import_module

import pytest

from trak_theory.symbolic import derivations
from trak_theory.symbolic.document import latex_document
from trak_theory.symbolic.notation import LETTERS, letters_of

DERIVATIONS = derivations()


@pytest.fixture(scope="module")
def document():
    return latex_document(DERIVATIONS)


@pytest.mark.parametrize("name", DERIVATIONS)
def test_every_derivation_is_complete(name):
    derivation = DERIVATIONS[name]
    assert derivation.title
    assert derivation.statement
    assert derivation.assumptions
    assert derivation.expressions
    assert all(step.prose and step.formula for step in derivation.steps)


@pytest.mark.parametrize("name", DERIVATIONS)
def test_numeric_twins_exist(name):
    for twin in DERIVATIONS[name].twins:
        module, attribute = twin.rsplit(".", 1)
        assert callable(getattr(import_module(module), attribute)), twin


@pytest.mark.parametrize("name", ["losses", "chain", "isotropic", "adamw"])
def test_derivations_speak_in_the_letters_of_the_table(name):
    for expression in DERIVATIONS[name].expressions.values():
        assert set(letters_of(expression)) <= set(LETTERS.values())


def test_every_step_is_printed(document):
    for derivation in DERIVATIONS.values():
        assert derivation.title in document
        for step in derivation.steps:
            assert all(formula in document for formula in step.formula.split("\n"))


def test_environments_braces_and_dollars_are_balanced(document):
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", document):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    bare = document.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert document.count("$") % 2 == 0


def test_text_outside_formulas_has_no_bare_specials(document):
    body = document.split(r"\maketitle")[1]
    text = re.sub(r"\\begin\{gather\*\}.*?\\end\{gather\*\}", "", body, flags=re.DOTALL)
    text = re.sub(r"\$[^$]*\$", "", text)
    assert not re.search(r"(?<!\\)[_^#%]", text)


def test_it_compiles_where_latex_is_installed(document, tmp_path):
    """Plain LaTeX with amsmath and geometry. Elsewhere the checks above stand for it."""
    compiler = shutil.which("pdflatex")
    if compiler is None:
        return
    (tmp_path / "derivations.tex").write_text(document)
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "derivations.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
