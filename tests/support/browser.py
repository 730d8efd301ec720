"""A browser with pages of the studio, for tests and for the pictures of the documentation."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 20_000
"""For whatever the page does by itself, on a slow machine with other work."""

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextlib.contextmanager
def chromium() -> Generator[Browser]:
    """The machine's own Chromium, without a window."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise RuntimeError("There is no Chromium. Install it (Debian: apt install chromium), or run `make browser`.")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page_of(browser: Browser, url: str, language: str = "en-GB", **options: Any) -> Generator[Page]:
    """A fresh visitor's page; what goes wrong in its own code, or that of its other tabs, is raised at the end."""
    context = browser.new_context(base_url=url, locale=language, **options)
    page = context.new_page()
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    try:
        yield page
    finally:
        context.close()
    assert not errors, errors


def at_rest(page: Page) -> None:
    """Wait until nothing on the page fades or moves but what never ends, so that it looks as it will stay."""
    page.wait_for_function(
        """() => document.getAnimations().every((animation) =>
            animation.playState !== "running" || animation.effect?.getComputedTiming().iterations === Infinity)"""
    )


def serious_faults(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe finds that keeps people out, as rule and place; of all rules, or of these only."""
    at_rest(page)
    page.evaluate(AXE.read_text("utf-8"))
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
