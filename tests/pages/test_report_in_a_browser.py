"""The report of an audit in a headless Chromium: layout, errors, network, light and dark, and on paper."""

import shutil

import numpy as np
import pytest
from support import digits_features

from trak_theory import trak
from trak_theory.auditing.audit import audit
from trak_theory.auditing.reporting.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
# Elements that stick out to the right of the window, but for those inside a box that scrolls.
OUTSIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
    for (let box = e.parentElement; box; box = box.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false;
    return e.getBoundingClientRect().right > window.innerWidth + 1;
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    lin = digits_features.network_gradients()
    scores = trak(lin, k=60, ridge=5.0, rng=np.random.default_rng(0))
    found = audit(
        lin.features, lin.queries, lin.residual, curvature=lin.curvature, scores=scores, recipe=0.5, k=60, ridge=5.0
    )
    out = tmp_path_factory.mktemp("report")
    write_report(found, out)
    return out / "report.html"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra `dev`")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_sticks_out_fails_or_is_fetched(browser, report, size, scheme):
    page = browser.new_page(viewport=size, color_scheme=scheme)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()


def test_dark_is_dark_and_light_is_light(browser, report):
    brightness = r"getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number)"
    found = {}
    for name in ("light", "dark"):
        page = browser.new_page(color_scheme=name)
        page.goto(report.as_uri())
        found[name] = np.mean(page.evaluate(brightness))
        page.close()
    assert found["dark"] < 80
    assert found["light"] > 200


def test_it_prints_on_paper(browser, report):
    page = browser.new_page()
    page.goto(report.as_uri())
    paper = page.pdf(format="A4")
    page.close()
    assert paper.startswith(b"%PDF")
    assert 1 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page>") + paper.count(b"/Type /Page ") <= 12


def test_a_table_too_wide_for_a_phone_would_be_seen(browser, report, tmp_path):
    text = report.read_text().replace("</body>", "<table><tr><td>" + "x" * 400 + "</td></tr></table></body>")
    assert "x" * 400 in text
    (tmp_path / "wide.html").write_text(text)
    page = browser.new_page(viewport=PHONE)
    page.goto((tmp_path / "wide.html").as_uri())
    assert page.evaluate(OUTSIDE)
    page.close()
