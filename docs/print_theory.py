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
h1 { break-before: page; } h1:first-of-type { break-before: auto; }
img { max-width: 100%; } figure, .proof { break-inside: avoid; }
table { border-collapse: collapse; font-size: 9pt; }
td, th { border-bottom: .5pt solid #aaa; padding: 2pt 4pt; text-align: left; }
.proof { border-left: 2pt solid #888; padding-left: 8pt; }
code { font-size: 9pt; overflow-wrap: anywhere; }
"""


def main(page: Path, out: Path) -> None:
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        raise SystemExit(f"error: none of {', '.join(NAMES)} is installed; one is needed to print")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        sheet = browser.new_page()
        sheet.goto(page.resolve().as_uri())
        sheet.wait_for_function(READY, timeout=300_000)
        sheet.add_style_tag(content=STYLE)
        sheet.pdf(path=str(out), format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
