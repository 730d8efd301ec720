"""Take the pictures of the studio in `docs/images/`: a real server in a home of its own, and a browser before it.

`make shots` runs it. It takes some minutes, since every picture that is seen is painted first. It also paints the
README's picture of `sketchbook` and the studio's pictures of the presets.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import at_rest, chromium, page_of
from tests.support.processes import Server, environment, eventually, serving
from tests.support.studio import PAINTED_WITHIN_MS, Studio

FOLDER = Path(__file__).parent / "images"
LARGEST_BYTES = 400_000
DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

# What is seen in the gallery, oldest first: the prompt, its seed, its size, and whatever else is asked for.
INK = {"adapters": [{"name": "ink", "trigger": "ink style"}]}
TALL, FLAT, SQUARE, LONG = (176, 224), (224, 176), (192, 192), (256, 160)
PAINTED: tuple[tuple[str, int, tuple[int, int], dict[str, Any]], ...] = (
    ("a brown house on a green hill", 3, FLAT, {}),
    ("three pink butterflies in the sky", 5, TALL, {}),
    ("a purple apple on a yellow background", 2, SQUARE, {}),
    ("two white rabbits in the snow", 4, FLAT, {}),
    ("a large red cat, a pink background", 1, SQUARE, INK),
    ("a blue fish above a yellow fish in the sea", 6, TALL, {}),
    ("夜空下的一枚白色火箭", 7, TALL, {}),
    ("two yellow birds in the sky", 8, LONG, {}),
    ("a green tree on a hill", 3, SQUARE, {}),
    ("an orange snail on a green hill", 9, FLAT, {}),
    ("a large violet rocket in the sky", 5, TALL, {}),
    ("a pink heart on a yellow background", 10, SQUARE, {}),
    ("a black cat beside a red mushroom on a hill", 2, LONG, {}),
    ("一朵黄色的花", 4, TALL, {}),
    ("a green turtle on the sea", 12, FLAT, {}),
    ("a purple boat on the sea", 11, TALL, {}),
)
SHEET = (
    "two blue cups on a yellow background", "a red boat on the sea", "a brown house on a green hill",
    "a green apple on a pink background", "a pink fish in the sea", "three yellow stars at night",
    "an orange cat on a blue background", "a red flower on a green background",
)  # fmt: skip
GAP_PX = 8
PRESETS, PRESET_PX = ("progressive", "single", "sketch"), 176
SEEN_IMAGES_ARE_THERE = """() => [...document.images].every((image) => {
    const { top, bottom, left, right, width } = image.getBoundingClientRect();
    const isAway = bottom < 0 || top > innerHeight || right < 0 || left > innerWidth;
    return image.complete || isAway || width === 0;
})"""
SHOWN = "a red boat on the sea"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as server, chromium() as browser:
        for prompt, seed, (width, height), fields in PAINTED:
            _paint(server, prompt, seed, preset="sketch", width=width, height=height, **fields)
        _paint(server, SHOWN, 7, preset="progressive", count=2)
        _desk(browser, server)
        _phone(browser, server)
        _sheet(server)
        _presets(server)


@contextmanager
def _server(folder: Path) -> Generator[Server]:
    with serving(environment(folder), folder, (sys.executable, "-m", "limner", "serve")) as server:
        yield server


def _paint(server: Server, prompt: str, seed: int, **fields: Any) -> str:
    """Paint, and wait for it; the job's id."""
    print(f"Painting {prompt}", flush=True)
    job_id = _submit(server, prompt, seed=seed, **fields)
    eventually(lambda: server.request("GET", f"/api/jobs/{job_id}")["finished_at"], 600, server.log)
    return job_id


def _painted(server: Server, prompt: str, seed: int, **fields: Any) -> Image.Image:
    (picture,) = server.request("GET", f"/api/jobs/{_paint(server, prompt, seed, **fields)}")["pictures"]
    file = httpx.get(httpx.URL(server.url).join(picture["url"]), timeout=30).raise_for_status().content
    return Image.open(io.BytesIO(file)).convert("RGB")


def _sheet(server: Server) -> None:
    width, height = TALL
    sheet = Image.new("RGB", (4 * width + 3 * GAP_PX, 2 * height + GAP_PX), "white")
    for place, prompt in enumerate(SHEET):
        picture = _painted(server, prompt, 7, preset="sketch", width=width, height=height)
        sheet.paste(picture, (place % 4 * (width + GAP_PX), place // 4 * (height + GAP_PX)))
    sheet.save(FOLDER / "sketchbook.png", optimize=True)


def _presets(server: Server) -> None:
    folder = Path(__file__).parent.parent / "web" / "public" / "presets"
    for preset in PRESETS:
        picture = _painted(server, SHOWN, 5, preset=preset)
        ImageOps.fit(picture, (PRESET_PX, PRESET_PX)).save(folder / f"{preset}.webp", quality=80, method=6)


def _submit(server: Server, prompt: str, **fields: Any) -> str:
    answer = httpx.post(f"{server.url}/api/jobs", json={"prompt": prompt} | fields, timeout=30)
    return answer.raise_for_status().json()["id"]


def _desk(browser: Browser, server: Server) -> None:
    with page_of(browser, server.url, reduced_motion="reduce", **DESK) as page:
        studio = Studio(page).open("/gallery")
        expect(page.get_by_role("link", name=SHOWN).first).to_be_visible()
        _take(page, "gallery")
        page.get_by_role("link", name=SHOWN).nth(1).click()
        expect(page.get_by_role("button", name="Use again")).to_be_visible()
        _take(page, "viewer")
        studio.open("/library/models")
        expect(page.get_by_role("heading", name="sketchbook")).to_be_visible()
        _take(page, "library")

        studio.open()
        studio.prompt.fill("a large blue snail on a green hill")
        page.get_by_role("button", name="2 pictures", exact=True).click()
        sent = studio.paint()
        job = studio.under_way(str(sent["prompt"]))
        expect(job).to_contain_text("Stage 2 of 3", timeout=PAINTED_WITHIN_MS)
        expect(page.locator("img[data-stage='1']").first).to_be_visible(timeout=PAINTED_WITHIN_MS)
        studio.prompt.blur()
        _take(page, "create")
        others = [
            _submit(server, prompt, seed=1) for prompt in ("a pink heart on a yellow background", "three orange cats")
        ]
        studio.open("/queue")
        expect(page.get_by_role("progressbar").first).to_have_attribute("aria-valuenow", re.compile("[1-9]"))
        _take(page, "queue")
        for job_id in (*others, str(sent["id"])):
            server.request("POST", f"/api/jobs/{job_id}/cancel")


def _phone(browser: Browser, server: Server) -> None:
    _paint(server, "海上的一艘红船", 7, preset="sketch")
    with page_of(browser, server.url, "zh-CN", reduced_motion="reduce", **PHONE) as page:
        Studio(page).open()
        page.get_by_role("textbox", name="提示词", exact=True).fill("天空中的两只黄色小鸟")
        expect(page.get_by_role("article").first).to_be_visible()
        _take(page, "phone")


def _take(page: Page, name: str) -> None:
    """Write what the window shows, with as many colours as the file may have room for."""
    page.mouse.move(0, 0)
    page.wait_for_function(SEEN_IMAGES_ARE_THERE)
    page.evaluate("() => document.fonts.ready.then(() => null)")
    at_rest(page)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    file = FOLDER / f"studio-{name}.png"
    shot.save(file, optimize=True)
    if file.stat().st_size > LARGEST_BYTES:
        shot.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB", flush=True)
    if file.stat().st_size > LARGEST_BYTES:
        raise RuntimeError(f"{file} has more than {LARGEST_BYTES} bytes. Show less in it.")


if __name__ == "__main__":
    main()
