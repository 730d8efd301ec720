"""The studio as somebody uses it: what can be asked for on the create page, found by the words that are seen there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

PAINTED_WITHIN_MS = 150_000
"""For whatever waits for the engine, on a slow machine with other work."""

PAGES = (
    *("/", "/gallery", "/queue", "/help", "/settings", "/library/models", "/library/loras"),
    *("/library/backends", "/library/presets", "/library/templates"),
)


@dataclass(frozen=True)
class Studio:
    """One visitor's page, in English."""

    page: Page

    def open(self, path: str = "/") -> Studio:
        """Go to an address, and wait until the page there is drawn."""
        self.page.goto(path)
        expect(self.page.get_by_role("heading", level=1)).to_be_visible(timeout=30_000)
        return self

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_role("textbox", name="Prompt", exact=True)

    def write(self, prompt: str, size: tuple[int, int] | None = (176, 224), **numbers: int) -> Studio:
        """Fill the form: the preset `Sketch`, this size, and numbers such as `steps` and `seed`."""
        page = self.page
        self.prompt.fill(prompt)
        sketch = page.get_by_role("radio", name=re.compile("^Sketch"))
        page.locator("label").filter(has=sketch).click()
        expect(sketch).to_be_checked()
        self.unfold("Advanced")
        if size is not None:
            for name, side in zip(("Width", "Height"), size, strict=True):
                field = page.get_by_role("textbox", name=name, exact=True)
                field.fill(str(side))
                field.press("Enter")
                expect(page.get_by_role("textbox", name=name, exact=True)).to_have_value(f"{side} px")
        if "steps" in numbers:
            page.get_by_role("textbox", name="Steps", exact=True).fill(str(numbers["steps"]))
        if "seed" in numbers:
            page.get_by_text("Fixed", exact=True).click()
            page.get_by_role("textbox", name="Seed number").fill(str(numbers["seed"]))
        if "count" in numbers:
            page.get_by_role("button", name=re.compile(rf"^{numbers['count']} pictures?$")).click()
        return self

    def unfold(self, name: str) -> None:
        """Open a folded part of the form."""
        fold = self.page.get_by_role("button", name=re.compile(f"^{name}"))
        if fold.get_attribute("aria-expanded") == "false":
            fold.click()
        expect(fold).to_have_attribute("aria-expanded", "true")

    def paint(self) -> dict[str, Any]:
        """Send the form with Ctrl+Enter from the prompt; what was sent, and the `id` of the job."""
        with self.page.expect_response(_is_submit) as answered:
            self.prompt.press("Control+Enter")
        answer = answered.value
        assert answer.status == 202, answer.text()
        sent: dict[str, Any] = json.loads(answer.request.post_data or "{}")
        return sent | {"id": answer.json()["id"]}

    def job(self, status: str, prompt: str) -> Locator:
        """A job among the results, in this state."""
        return self.page.get_by_role("article", name=f"{status}: {prompt}", exact=True)

    def done(self, prompt: str) -> Locator:
        """A finished job, as soon as its first picture is seen."""
        job = self.job("Done", prompt)
        expect(job).to_be_visible(timeout=PAINTED_WITHIN_MS)
        picture = job.get_by_role("img", name=re.compile(f"^Picture 1 of .*{prompt}")).first
        expect(picture).to_have_js_property("complete", True)
        expect(picture).not_to_have_js_property("naturalWidth", 0)
        return job

    def under_way(self, prompt: str) -> Locator:
        """A job that is being painted, as soon as it is known how far it is."""
        job = self.job("Painting", prompt)
        progress = job.get_by_role("progressbar", name="How far it is")
        expect(progress).to_have_attribute("aria-valuenow", re.compile(r"[1-9]"), timeout=PAINTED_WITHIN_MS)
        return job

    def go(self, name: str) -> None:
        """Follow a link of the navigation."""
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()


def _is_submit(response: Any) -> bool:
    return response.request.method == "POST" and response.url.endswith("/api/jobs")
