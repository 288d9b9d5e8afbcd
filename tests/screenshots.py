"""make screenshots: every page in both sizes and themes into data/screenshots, from an installation of its own.

`python -m tests.screenshots [--url URL] [--readme] [FOLDER]` takes them of a running one.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

from tests import browser
from tests.installation import ROOT, Installation
from tests.waiting import allowed

WORK = "/papers/flashattention/"
PAGES = {
    "list": "/", "list-searched": "/?q=attention&year=2023", "list-nothing": "/?q=zzzz", "claims": "/claims/",
    "paper": WORK, "paper-not-run": "/papers/vllm/", "claim": f"{WORK}claims/exactness/", "runs": "/runs/",
    "run": "/runs/1/", "compare": "/runs/compare", "stale": "/runs/?stale=yes", "kernels": "/kernels/",
    "kernel": "/kernels/attention/flash/", "nodes": "/nodes/", "health": "/health/", "failures": "/failures/",
    "collections": "/collections/", "bundles": "/bundles/", "help": "/help/", "tokens": "/accounts/tokens/",
    "import": "/import/", "add": "/arxiv/", "history": f"{WORK}history/", "edit": f"{WORK}edit/facts/",
    "sign-in": "/accounts/login/", "operator": "/operator/", "not-found": "/nowhere/",
}  # fmt: skip
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}


@contextlib.contextmanager
def running(url: str) -> Iterator[str]:
    """The address to look at: the one given, or that of an installation that lives as long as this."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Installation(Path(folder))
        try:
            made.up()
            yield made.address
        finally:
            made.stop()


def settle(page: Page) -> None:
    """Until plots that are in view are drawn, and the others have been scrolled to once."""
    for figure in page.locator(".plot").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".drawn svg").wait_for(timeout=allowed(60) * 1000)
    page.evaluate("scrollTo(0, 0)")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--readme", action="store_true", help="write docs/images/list.png and paper.png too")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "data" / "screenshots")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with running(options.url) as way_in, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.find(), args=browser.arguments())
        for size, viewport in SIZES.items():
            for theme in ("light", "dark"):
                page = chromium.new_context(viewport=viewport, color_scheme=theme).new_page()
                page.goto(way_in)  # an address with a key makes it the local operator's
                url = page.url.rstrip("/")
                for name, address in PAGES.items():
                    page.goto(url + address)
                    settle(page)
                    page.screenshot(path=options.folder / f"{name}-{size}-{theme}.png", full_page=True)
                page.context.close()
        if options.readme:
            page = chromium.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light").new_page()
            page.goto(way_in)
            for name, address in (("list", "/?sort=result"), ("paper", WORK)):
                page.goto(url + address)
                page.screenshot(path=ROOT / "docs" / "images" / f"{name}.png")
        chromium.close()
    print(f"{4 * len(PAGES)} pictures in {options.folder}")


if __name__ == "__main__":
    main()
