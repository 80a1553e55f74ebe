"""The site: it holds every public name, figure and source, builds without a warning, and reads well in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support import visits
from support.source import ROOT

from paper_figures.__main__ import figure_modules

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not path.is_relative_to(DOCS / "_figures"))
TEXT = {page: page.read_text() for page in PAGES}
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
ROOMS = ["trak_theory", "trak_theory.retraining", "trak_theory.trajectory", "trak_theory.shallow", "trak_theory.claims"]
BUILDS = pytest.mark.skipif(find_spec("furo") is None, reason="the extra `docs` is not installed")
BROWSES = pytest.mark.skipif(visits.CHROMIUM is None, reason="no Chromium is installed")
ALLOWED = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def listed():
    """Module → the names that the API pages list."""
    found = {}
    for module, names in re.findall(r"```\{public\} (\S+)\n(.*?)```", "\n".join(TEXT.values()), re.DOTALL):
        found.setdefault(module, set()).update(names.split() or import_module(module).__all__)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_an_entry(room):
    elsewhere = {"Estimate", "DeadNetworkError", "IndefiniteHessianError"}  # on the page of errors, or of nobody
    assert set(import_module(room).__all__) - elsewhere <= listed()[room]


def test_every_public_name_of_torch_has_an_entry():
    room = pytest.importorskip("trak_theory.torch_bridge")
    assert set(room.__all__) - {"UnsupportedError"} <= listed()["trak_theory.torch_bridge"]


def test_every_figure_is_in_the_gallery():
    shown = set(re.findall(r"```\{gallery\} (\w+)", TEXT[DOCS / "gallery.md"]))
    assert {module.split(".")[1] for module in figure_modules().values()} - {"overview"} == shown


def test_every_numbered_source_is_in_the_bibliography():
    named = set()
    for folder in ("trak_theory", "simulations", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md"):
                named |= set(re.findall(r"arXiv[ :](\d{4}\.\d{4,5})", path.read_text()))
    missing = {number for number in named if f"arxiv.org/abs/{number}" not in TEXT[DOCS / "bibliography.md"]}
    assert missing == set()


def test_every_author_with_a_year_is_in_the_bibliography():
    text = "\n".join(path.read_text() for path in (ROOT / "trak_theory").rglob("*.py"))
    named = re.findall(r"([A-Z][a-zéè]+)(?: (?:& [A-Z][a-zéè]+|et al\.))? \(?((?:19|20)\d\d)\b", text)
    entries = TEXT[DOCS / "bibliography.md"]
    assert {(name, year) for name, year in named if not re.search(rf"{name}[^\n]*(\n[^\n-]*)?{year}", entries)} == set()


def test_every_statement_of_the_theory_says_what_it_is_and_who_checks_it():
    for page in DOCS.glob("theory/*.md"):
        for kind, label in re.findall(r":::\{prf:(theorem|property)\}.*?:label: ([\w-]+)", TEXT[page], re.DOTALL):
            after = TEXT[page].split(f":label: {label}\n")[1].split(":::{prf:theorem}")[0].split(":::{prf:property}")[0]
            assert re.search(r"[Pp]roved|[Dd]erived|[Hh]euristic|[Aa]pproximat|jackknife|equivalence", after), (
                kind,
                label,
            )


def test_tests_that_the_theory_names_exist():
    for page in DOCS.glob("theory/*.md"):
        for path in re.findall(r"`(tests/[\w/]+\.py)`", TEXT[page]):
            assert (ROOT / path).is_file(), f"{page.name} names {path}"
        for name in re.findall(r"`(test_\w+)`", TEXT[page]):
            assert any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob("test_*.py")), name


def test_notebooks_hold_no_outputs():
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells), path.name


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """The drawn figures; for those that are not drawn, a picture of that size and a caption."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("figures")
    for name in figure_modules():
        for ending in ("png", "txt"):
            if (drawn := ROOT / "build" / "figures" / f"{name}.{ending}").is_file():
                shutil.copy(drawn, folder)
        if not (folder / f"{name}.png").is_file():
            Image.new("L", (2000, 900), 230).save(folder / f"{name}.png")
        if not (folder / f"{name}.txt").is_file():
            (folder / f"{name}.txt").write_text("Not drawn.")
    return folder


def shared(name, make, tmp_path_factory):
    """A folder that one worker of xdist makes and all of them read."""
    from filelock import FileLock

    alone = "PYTEST_XDIST_WORKER" not in os.environ
    home = tmp_path_factory.mktemp("shared") if alone else tmp_path_factory.getbasetemp().parent
    folder = home / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="module")
def site(figures, tmp_path_factory):
    def build(folder):
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", f"{folder}-trees"]
        done = subprocess.run(
            [*command, str(DOCS), str(folder)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TRAK_FIGURES": str(figures)},
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return shared("site", build, tmp_path_factory)


class Anchors(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            if name in ("href", "src") and tag in ("a", "img", "script"):
                self.links.append(value or "")


@pytest.mark.slow
@BUILDS
def test_it_builds_without_a_warning_and_every_link_leads_somewhere(site):
    pages = {path: Anchors(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 40
    broken = []
    for path, anchors in pages.items():
        for link in anchors.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            held = pages.get(target)
            fragment = unquote(parts.fragment)
            if not target.exists() or (fragment and held is not None and fragment not in held.ids):
                broken.append(f"{path.name}: {link}")
    assert broken == []


@pytest.mark.slow
@BUILDS
def test_every_study_of_the_claims_leads_to_its_data_and_every_row_to_its_study(site):
    page = (site / "evidence.html").read_text()
    studies = set(re.findall(r"^### (\w+)$", (ROOT / "CLAIMS.md").read_text(), re.MULTILINE))
    drawn = studies & set(figure_modules())
    assert len(drawn) > 35
    assert {name for name in drawn if f"gallery.html#figure-{name.replace('_', '-')}" not in page} == set()
    assert page.count('href="#claims-') > 70


@pytest.fixture(scope="module")
def visited(site, tmp_path_factory):
    """Page → what is wrong with it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe comes with the extra `dev`")

    def see(folder):
        folder.mkdir()
        pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
        with visits.served(site) as address, visits.browser() as chromium:
            found = {}
            for name in pages:
                page = chromium.new_page()
                found[name] = visits.visit(page, f"{address}/{name}", axe.Axe())
                page.close()
        (folder / "found.json").write_text(json.dumps(found))

    return json.loads((shared("visited", see, tmp_path_factory) / "found.json").read_text())


@pytest.mark.slow
@BUILDS
@BROWSES
@pytest.mark.filterwarnings(*ALLOWED)
@pytest.mark.parametrize(
    "what",
    [
        "untypeset",
        "formula errors",
        "broken images",
        "axe",
        "outside, desk",
        "outside, window",
        "outside, phone",
        "said",
        "foreign",
    ],
)
def test_no_page_has(what, visited):
    assert {name: found[what] for name, found in visited.items() if found[what]} == {}


@pytest.mark.slow
@BUILDS
@BROWSES
@pytest.mark.filterwarnings(*ALLOWED)
def test_the_theory_has_formulas(visited):
    assert all(
        visited[f"theory/{name}.html"]["formulas"] > 20 for name in ("ladder", "ranks", "projection", "retraining")
    )


@pytest.mark.slow
@BUILDS
@BROWSES
@pytest.mark.filterwarnings(*ALLOWED)
def test_search_finds_what_pages_say(site):
    with visits.served(site) as address, visits.browser() as chromium:
        page = chromium.new_page()
        page.goto(f"{address}/search.html?q=leverage")
        page.wait_for_selector("#search-results li a")
        assert "Glossary" in page.inner_text("#search-results")
        page.close()


@pytest.mark.filterwarnings(*ALLOWED)
def test_a_page_that_is_too_wide_and_says_an_error_would_be_seen(tmp_path):
    if visits.CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("no browser")
    text = "<article><p style='width: 500px'>wide</p></article><script>console.error('no')</script><img src='none.png'>"
    Path(tmp_path, "bad.html").write_text(text)
    with visits.served(tmp_path) as address, visits.browser() as chromium:
        found = visits.visit(chromium.new_page(), f"{address}/bad.html")
    assert found["outside, phone"]
    assert found["outside, desk"] == []
    assert "no" in found["said"]
    assert len(found["broken images"]) == 1
