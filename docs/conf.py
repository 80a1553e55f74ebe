"""The site: `make docs`. Warnings are errors; nothing on a page is fetched from elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME = Path(__file__).parents[1]
sys.path[:0] = [str(HOME), str(Path(__file__).with_name("_extensions"))]

import trak_theory  # noqa: E402

project = "trak-theory"
author = "The trak-theory developers"
copyright = "2026, the trak-theory developers"
version = release = trak_theory.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_proof",
    "docstrings",
    "public_names",
    "derivations",
    "evidence",
    "gallery",
    "help_texts",
]
exclude_patterns = ["_build", "_extensions"]
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"version": version}
nb_execution_mode = os.environ.get("TRAK_NOTEBOOKS", "cache")
nb_execution_cache_path = str(HOME / "build" / "notebooks")
nb_execution_timeout = 300
nb_execution_raise_on_error = True

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"ArrayLike": "ArrayLike", "Tensor": "Tensor", "DTypeLike": "DTypeLike"}
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "trak-theory"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/icon.svg"
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": False}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_domain_indices = False
html_use_index = True


def setup(app):  # type: ignore[no-untyped-def]
    """Captions of the navigation are headings without a level, which screen readers need."""

    def levelled(app, page, template, context, doctree):  # type: ignore[no-untyped-def]
        tree = context.get("furo_navigation_tree")
        if tree:
            context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')

    app.connect("html-page-context", levelled, priority=900)


# `make theory`: the chapters alone, on one page, to be printed.
if tags.has("theory"):  # type: ignore[name-defined]  # noqa: F821
    html_theme = "basic"
    html_theme_options = {}
    html_title = "Theory of data attribution errors"
    root_doc = "theory/index"
    include_patterns = ["theory/**"]
    suppress_warnings = [*suppress_warnings, "myst.xref_missing", "ref.doc", "ref.ref", "ref.term"]
