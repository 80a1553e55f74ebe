"""Every page of the site in a headless Chromium, as plain data: on a desk, in a smaller window and on a phone."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESK, WINDOW, PHONE = {"width": 1280, "height": 900}, {"width": 1100, "height": 900}, {"width": 390, "height": 844}
# Elements that stick out to the right of the window, but for those inside a box that scrolls or hides.
OUTSIDE = """() => [...document.querySelectorAll('article *')].filter(e => {
    for (let box = e.parentElement; box; box = box.parentElement)
        if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX)) return false;
    return e.getBoundingClientRect().right > window.innerWidth + 1;
}).map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40)).slice(0, 5)"""
WIDE = "document.documentElement.scrollWidth > window.innerWidth"
BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
TYPESET = "() => !window.MathJax || (MathJax.startup && MathJax.startup.promise.then(() => true))"
UNTYPESET = """() => [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container'))
    .map(m => m.textContent.slice(0, 60))"""
WRONG = "() => [...document.querySelectorAll('mjx-merror')].map(m => m.textContent.slice(0, 60))"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def visit(page, url, axe=None):
    """What is wrong with one page; every list is empty on a good one."""
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size(DESK)
    page.goto(url)
    page.wait_for_function(TYPESET)
    found = {
        "untypeset": page.evaluate(UNTYPESET),
        "formula errors": page.evaluate(WRONG),
        "formulas": page.evaluate("document.querySelectorAll('mjx-container').length"),
        "broken images": page.evaluate(BROKEN),
    }
    if axe is not None:
        violations = axe.run(page).response["violations"]
        serious = [one for one in violations if one["impact"] in ("serious", "critical")]
        found["axe"] = [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in serious]
    for name, size in (("desk", DESK), ("window", WINDOW), ("phone", PHONE)):
        page.set_viewport_size(size)
        found[f"outside, {name}"] = page.evaluate(OUTSIDE) + (["the page itself"] if page.evaluate(WIDE) else [])
    origin = url.split("/", 3)[2]
    return found | {
        "said": said,
        "foreign": [one for one in asked if origin not in one and not one.startswith("data:")],
    }
