"""Print a page to PDF once its formulas stand: python docs/print_theory.py PAGE.html OUT.pdf."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
READY = "() => window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => true)"
STYLE = """
body { font: 10.5pt/1.4 serif; max-width: none; }
div.sphinxsidebar, div.related, div.footer, a.headerlink { display: none; }
div.bodywrapper, div.body, div.document { margin: 0; padding: 0; max-width: none; }
.kept:has(> h2) { break-before: page; }
.rubric, p:has(+ div.math), .kept:has(+ div.math), p:has(+ ul), p:has(+ figure), figure:has(+ p) { break-after: avoid; }
img { max-width: 100%; } figure, .proof, .kept, div.math, tr { break-inside: avoid; }
figure { margin: 1em 0; } figcaption { font-size: 9pt; }
p, li { orphans: 3; widows: 3; }
a { color: inherit; text-decoration-color: #999; }
table { border-collapse: collapse; font-size: 9pt; }
td, th { border-bottom: .5pt solid #aaa; padding: 2pt 4pt; text-align: left; }
.proof { border-left: 2pt solid #888; padding-left: 8pt; }
code { font-size: 9pt; overflow-wrap: anywhere; }
"""
# `break-after: avoid` of a heading does not hold in Chromium: a box around it and what follows does.
KEEP = """() => [...document.querySelectorAll('h2, h3, h4, p:has(> strong:only-child)')].reverse().forEach(heading => {
    if (heading.tagName === 'P' && heading.textContent !== heading.firstChild.textContent) return;
    let next = heading.nextElementSibling;
    while (next?.tagName === 'SECTION') next = next.firstElementChild;
    const box = document.createElement('div');
    box.className = 'kept';
    if (next) { next.before(box); box.append(heading, next); }
})"""
FOOT = (
    '<div style="font: 8pt serif; width: 100%; margin: 0 18mm; display: flex; justify-content: space-between">'
    '<span class="title"></span><span class="pageNumber"></span></div>'
)


def main(page: Path, out: Path) -> None:
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        raise SystemExit(f"error: none of {', '.join(NAMES)} is installed; one is needed to print")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        sheet = browser.new_page()
        missing: list[str] = []
        sheet.on("requestfailed", lambda request: missing.append(request.url))
        sheet.goto(page.resolve().as_uri(), wait_until="load")
        if missing:
            raise SystemExit(f"error: {page} needs {len(missing)} files that are not there, {missing[0]} among them")
        sheet.wait_for_function(READY, timeout=120_000)
        sheet.add_style_tag(content=STYLE)
        sheet.evaluate(KEEP)
        margin = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
        foot = {"display_header_footer": True, "header_template": "<span></span>", "footer_template": FOOT}
        sheet.pdf(path=str(out), format="A4", margin=margin, **foot)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
