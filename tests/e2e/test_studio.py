"""The studio in a browser, against a real server with the real engine and the built-in checkpoint."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from safetensors import numpy as safetensors_numpy

from tests.support.browser import at_rest, chromium, page_of, serious_faults
from tests.support.processes import Server, alive, environment, eventually, serving
from tests.support.studio import PAGES, PAINTED_WITHIN_MS, Studio

LIMNER = (sys.executable, "-m", "limner", "serve")
TINY = {"preset": "sketch", "width": 96, "height": 96, "steps": 4}
LONGEST = 200
"""Steps of a job that is stopped by somebody, however fast the machine is."""
WIDEST = "Math.max(...['html', 'body', '#content'].map((name) => document.querySelector(name).scrollWidth))"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a LoRA of another architecture."""
    home = tmp_path_factory.mktemp("studio") / "home"
    (home / "adapters").mkdir(parents=True)
    layer = "diffusion_model.blocks.0.attn.to_q"
    weights = {f"{layer}.lora_A.weight": np.ones((4, 32)), f"{layer}.lora_B.weight": np.ones((32, 4))}
    write: Any = cast(Any, safetensors_numpy).save_file
    write({key: value.astype(np.float32) for key, value in weights.items()}, home / "adapters/misfit.safetensors")
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(environment(home), home.parent, LIMNER) as server:
        eventually(lambda: _is_ready(server), 120, server.log)
        yield server


def _is_ready(server: Server) -> bool:
    adapters = server.request("GET", "/api/adapters")["adapters"]
    return any("sketchbook" in adapter["fits"] for adapter in adapters)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with page_of(browser, server.url, reduced_motion="reduce") as page:
        yield page


@pytest.fixture
def studio(page: Page) -> Studio:
    return Studio(page).open()


@pytest.fixture(scope="module")
def pictures(server: Server) -> dict[str, str]:
    """Three small pictures: their prompts and ids, oldest first."""
    return {prompt: _painted(server, prompt) for prompt in ("a blue house", "a yellow bird", "a yellow boat")}


def _painted(server: Server, prompt: str, **fields: Any) -> str:
    body = TINY | {"prompt": prompt, "seed": 3} | fields
    job_id = httpx.post(f"{server.url}/api/jobs", json=body, timeout=30).json()["id"]
    eventually(lambda: server.request("GET", f"/api/jobs/{job_id}")["finished_at"], 150, server.log)
    return server.request("GET", f"/api/images?job_id={job_id}")["images"][0]["id"]


def _recipe(server: Server, job_id: str) -> dict[str, Any]:
    (image,) = server.request("GET", f"/api/images?job_id={job_id}")["images"]
    return server.request("GET", f"/api/images/{image['id']}/metadata")["recipe"]


def test_a_picture_is_painted_from_text_and_kept_in_the_gallery(studio: Studio) -> None:
    studio.write("a red boat on the sea", size=None, steps=30).paint()
    studio.under_way("a red boat on the sea")
    expect(studio.page.locator("img[data-stage]").first).to_be_visible(timeout=PAINTED_WITHIN_MS)
    job = studio.done("a red boat on the sea")
    expect(job).to_contain_text(re.compile(r"took \d+"))
    expect(job.get_by_role("button", name=re.compile(r"^Copy: Seed \d+$"))).to_be_visible()
    studio.go("Gallery")
    expect(studio.page.get_by_role("link", name="a red boat on the sea")).to_be_visible()


def test_a_lora_a_reference_and_a_mask_make_a_picture_that_names_them(
    studio: Studio, server: Server, tmp_path: Path
) -> None:
    page = studio.page
    Image.new("RGB", (176, 224), (40, 90, 200)).save(tmp_path / "blue.png")
    studio.write("a green tree", steps=6)
    page.get_by_role("button", name="Add a LoRA").click()
    picker = page.get_by_role("dialog", name="LoRAs")
    expect(picker.get_by_role("button", name="misfit")).to_have_attribute("aria-disabled", "true")
    picker.get_by_role("button", name=re.compile("^ink")).click()
    picker.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="LoRA ink, weight 1: change")).to_be_visible()

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(tmp_path / "blue.png")
    strength = page.get_by_role("slider", name="How far to leave the picture")
    strength.press("End")
    strength.press("ArrowLeft")
    expect(strength).to_have_attribute("aria-valuenow", "0.95")
    _paint_mask(page)

    sent = studio.paint()
    assert [*sent["references"][0], *sent["mask"]] == ["upload", "upload"]
    assert (sent["denoise"], sent["adapters"][0]["name"]) == (0.95, "ink")
    prompt = page.get_by_role("textbox", name="Prompt", exact=True).input_value()
    job = studio.done(prompt)
    expect(job).to_contain_text("ink × 1 was applied")
    expect(job).to_contain_text("from a part of a picture")
    recipe = _recipe(server, sent["id"])
    assert recipe["request"]["references"][0]["upload"] == sent["references"][0]["upload"]
    assert recipe["request"]["mask"]["upload"] == sent["mask"]["upload"]
    assert recipe["adapters"][0]["status"] == "applied"

    job.get_by_role("link", name=re.compile("^Open picture 1")).click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer).to_contain_text(re.compile(r"Fully applied \((\d+) of \1 parts\)"))


def _paint_mask(page: Page) -> None:
    page.get_by_role("button", name="Mask a part").click()
    dialog = page.get_by_role("dialog", name="Paint the mask")
    canvas = dialog.get_by_label(re.compile("^Mask over the picture"))
    expect(canvas).to_be_visible()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.7, steps=5)
    page.mouse.up()
    dialog.get_by_role("button", name="Use this mask").click()
    expect(page.get_by_role("button", name="Change the mask")).to_be_visible()


def test_painting_is_cancelled_by_key_and_by_button(studio: Studio) -> None:
    studio.write("a slow castle", size=None, steps=LONGEST)
    studio.paint()
    studio.under_way("a slow castle")
    studio.prompt.blur()
    studio.page.keyboard.press("Shift+X")
    cancelled = studio.job("Cancelled", "a slow castle")
    expect(cancelled).to_be_visible(timeout=PAINTED_WITHIN_MS)
    expect(cancelled).to_contain_text("You stopped it before a picture was finished.")

    studio.write("a slow tower", size=None, steps=LONGEST)
    studio.paint()
    studio.under_way("a slow tower").get_by_role("button", name="Cancel").click()
    cancelled = studio.job("Cancelled", "a slow tower")
    expect(cancelled).to_contain_text("You stopped it before a picture was finished.", timeout=PAINTED_WITHIN_MS)


def test_a_reload_and_a_second_tab_show_the_job_that_runs(studio: Studio) -> None:
    studio.write("a slow river", size=None, steps=LONGEST)
    studio.paint()
    studio.under_way("a slow river")
    studio.page.reload()
    studio.under_way("a slow river")
    second = Studio(studio.page.context.new_page()).open()
    expect(second.page).to_have_title(re.compile(r"^\(1\)"))
    second.under_way("a slow river").get_by_role("button", name="Cancel").click()
    for tab in (second, studio):
        expect(tab.job("Cancelled", "a slow river")).to_be_visible(timeout=PAINTED_WITHIN_MS)


def test_a_job_whose_worker_is_killed_is_run_again_and_says_so(studio: Studio, server: Server) -> None:
    studio.write("a tough turtle", size=None, steps=30)
    studio.paint()
    studio.under_way("a tough turtle")
    workers = server.request("GET", "/api/backends")["workers"]
    (pid,) = (worker["pid"] for worker in workers if worker["lane"] == "native" and alive(worker["pid"]))
    os.kill(pid, signal.SIGKILL)
    expect(studio.done("a tough turtle")).to_contain_text(re.compile("It was begun [2-9] times"))


def test_a_lost_connection_is_told_and_healed_and_the_job_is_finished(studio: Studio, server: Server) -> None:
    studio.write("a patient snail", size=None, steps=30)
    studio.paint()
    studio.under_way("a patient snail")
    server.kill()
    lost = studio.page.get_by_text("The connection to the server is lost.")
    expect(lost).to_be_visible(timeout=30_000)
    server.start(patience_s=120)
    expect(lost).to_be_hidden(timeout=60_000)
    studio.done("a patient snail")


def test_the_gallery_finds_and_keeps_pictures(page: Page, pictures: dict[str, str]) -> None:
    Studio(page).open("/gallery")
    page.get_by_role("searchbox", name="Search the prompts").fill("yellow")
    expect(page.get_by_text("2 pictures found")).to_be_visible()
    expect(page.get_by_role("link", name="a blue house")).to_be_hidden()
    expect(page).to_have_url(re.compile("q=yellow"))

    page.get_by_role("link", name="a yellow bird").hover()
    page.get_by_role("button", name="Favourite: a yellow bird").click()
    page.get_by_role("button", name="Only favourites").click()
    expect(page.get_by_text("1 picture found")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Favourite: a yellow bird")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.get_by_role("link", name="a blue house")).to_be_visible()


def test_two_pictures_are_compared_zipped_deleted_and_brought_back(
    page: Page, pictures: dict[str, str], tmp_path: Path
) -> None:
    Studio(page).open("/gallery?q=yellow")
    bird, boat = (page.get_by_role("link", name=re.compile(name)) for name in ("a yellow bird", "a yellow boat"))
    for tile in (bird, boat):
        tile.click(modifiers=["Control"])
    tools = page.get_by_role("toolbar", name="Selected pictures")
    expect(tools).to_contain_text("2 selected")

    with page.expect_download() as saved:
        tools.get_by_role("button", name="Download as zip").click()
    saved.value.save_as(tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "two.zip") as archive:
        assert archive.testzip() is None
        assert [_size(archive.read(name)) for name in archive.namelist()] == [(96, 96), (96, 96)]
    expect(page.get_by_text("Your zip is ready")).to_be_visible()

    tools.get_by_role("button", name="Compare").click()
    compared = page.get_by_role("dialog", name="Compare")
    for name in ("a yellow bird", "a yellow boat"):
        expect(compared.get_by_role("img", name=name)).to_be_visible()
    expect(compared.get_by_role("row", name=re.compile("Prompt"))).to_contain_text("a yellow bird")
    page.keyboard.press("Escape")
    expect(compared).to_be_hidden()

    tools.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 pictures deleted.")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(bird).to_be_visible()
    page.reload()
    expect(boat).to_be_visible()


def _size(file: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(file)) as picture:
        return picture.size


def test_the_viewer_is_ruled_by_keys(page: Page, pictures: dict[str, str]) -> None:
    Studio(page).open("/gallery?q=yellow")
    page.get_by_role("link", name="a yellow boat").click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.get_by_role("img", name="a yellow boat")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_role("img", name="a yellow bird")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    favourite = viewer.get_by_role("button", name="Favourite")
    expect(favourite).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("f")
    expect(favourite).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as saved:
        page.keyboard.press("d")
    assert _size(saved.value.path().read_bytes()) == (96, 96)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.get_by_role("link", name="a yellow boat")).to_be_focused()


def test_a_dropped_picture_brings_its_settings_into_the_form(
    studio: Studio, server: Server, pictures: dict[str, str]
) -> None:
    page = studio.page
    file = httpx.get(f"{server.url}/api/images/{pictures['a blue house']}", timeout=30).content
    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "house.png", { type: "image/png" }));
            return transfer;
        }""",
        list(file),
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": transfer})
    dialog = page.get_by_role("dialog", name="How this picture was made")
    expect(dialog).to_contain_text("Painted with limner.")
    dialog.get_by_role("button", name="Use its settings").click()
    expect(studio.prompt).to_have_value("a blue house")
    studio.unfold("Advanced")
    expect(page.get_by_role("textbox", name="Seed number")).to_have_value("3")


def test_the_page_speaks_chinese_and_stays_with_it(page: Page) -> None:
    Studio(page).open("/settings")
    page.get_by_text("简体中文", exact=True).click()
    expect(page.get_by_role("heading", name="设置", level=1)).to_be_visible()
    page.goto("/")
    for _ in range(2):
        expect(page.get_by_role("heading", name="创作", level=1)).to_be_visible()
        expect(page.get_by_role("textbox", name="提示词", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="绘制 1 张图片")).to_be_visible()
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        page.reload()


def test_a_phone_paints_and_shows_every_page_without_sideways_scrolling(
    browser: Browser, server: Server, pictures: dict[str, str]
) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with page_of(browser, server.url, reduced_motion="reduce", **phone) as page:
        studio = Studio(page).open()
        studio.unfold("Settings")
        studio.write("a pocket moon", size=(96, 96), steps=4)
        page.get_by_role("button", name="Paint 1 picture").tap()
        studio.done("a pocket moon")
        for path in PAGES:
            studio.open(path)
            expect(page.locator("#content")).not_to_be_empty()
            at_rest(page)
            assert page.evaluate(WIDEST) <= 390, path
        page.goto(f"/gallery?image={pictures['a blue house']}")
        expect(page.get_by_role("dialog", name="Picture").get_by_role("img", name="a blue house")).to_be_visible()
        assert page.evaluate(WIDEST) <= 390


def test_axe_finds_no_serious_fault_on_any_page(page: Page, pictures: dict[str, str]) -> None:
    bird, boat = pictures["a yellow bird"], pictures["a yellow boat"]
    faults: dict[str, list[str]] = {}
    for path in (*PAGES, f"/gallery?image={bird}", f"/gallery?compare={bird},{boat}"):
        page.goto(path)
        expect(page.locator("h1, h2").first).to_be_visible(timeout=30_000)
        expect(page.locator(".mantine-Skeleton-root")).to_have_count(0)
        if path.startswith(("/gallery", "/?")) or path == "/":
            expect(page.locator("#content img, dialog img, [role=dialog] img").first).to_be_visible()
        page.emulate_media(color_scheme="light")
        expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "light")
        faults[path] = serious_faults(page)
        page.emulate_media(color_scheme="dark")
        expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")
        faults[f"{path} in the dark"] = serious_faults(page, ["color-contrast"])
    assert not {path: found for path, found in faults.items() if found}


def test_a_refused_request_says_why_and_keeps_what_was_typed(page: Page, server: Server) -> None:
    request = TINY | {"prompt": "a grey wolf", "adapters": [{"name": "lost"}]}
    httpx.post(f"{server.url}/api/templates", json={"name": "night scenes", "request": request}).raise_for_status()
    studio = Studio(page).open()
    page.get_by_role("button", name="Templates").click()
    page.get_by_role("menuitem", name="night scenes").click()
    expect(studio.prompt).to_have_value("a grey wolf")
    studio.prompt.press("Control+End")
    studio.prompt.press_sequentially(" at night")
    studio.prompt.press("Control+Enter")
    alert = page.get_by_role("alert").filter(has_text="There is no adapter `lost`.")
    expect(alert).to_contain_text("not_found")
    expect(studio.prompt).to_have_value("a grey wolf at night")
    expect(page.get_by_role("button", name="LoRA lost, weight 1: change")).to_be_visible()
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")
    assert not serious_faults(page, ["color-contrast"])


def test_a_failed_job_says_what_happened_and_never_success(studio: Studio, server: Server) -> None:
    page = studio.page
    body = TINY | {"prompt": "a sad clown", "adapters": [{"name": "misfit"}], "on_adapter_mismatch": "fail"}
    httpx.post(f"{server.url}/api/jobs", json=body, timeout=30).raise_for_status()
    job = studio.job("Failed", "a sad clown")
    fault = job.get_by_role("region", name="A LoRA does not fit this model")
    expect(fault).to_contain_text("Code: adapter_mismatch", timeout=PAINTED_WITHIN_MS)
    expect(fault).to_contain_text("misfit")
    expect(fault.get_by_role("button", name="Change the settings")).to_be_visible()
    expect(job).not_to_contain_text(re.compile("success|0 pictures|0 images|Done", re.IGNORECASE))
    Studio(page).open("/queue")
    row = page.get_by_role("listitem").filter(has_text="a sad clown")
    expect(row).to_contain_text("Failed")
    expect(row).to_contain_text("adapter_mismatch")


def test_the_first_load_is_light(browser: Browser, server: Server) -> None:
    with page_of(browser, server.url) as page:
        scripts: dict[str, int] = {}

        def weigh(request: Any) -> None:
            if request.resource_type == "script" or ".js" in request.url:
                scripts[request.url] = request.sizes()["responseBodySize"]

        page.on("requestfinished", weigh)
        Studio(page).open()
        page.wait_for_load_state("load")
        expect(page.get_by_role("button", name="Paint 1 picture")).to_be_visible()
        assert scripts
        assert sum(scripts.values()) < 300_000, scripts
