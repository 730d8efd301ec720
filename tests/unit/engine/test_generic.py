"""A checkpoint of an architecture that the engine does not know is painted by its own pipeline, with the same truth."""

from __future__ import annotations

import asyncio
import json
import queue
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3_img2img import StableDiffusion3Img2ImgPipeline
from PIL import Image
from torch import Tensor, nn

from limner.backends.native import NativeBackend, judge_adapters, list_checkpoints
from limner.backends.settings import NativeSettings
from limner.domain import AdapterStatus, GenerationRequest
from limner.engine.checkpoints import find_checkpoint
from limner.engine.engine import Broke, Happening
from limner.engine.families.generic import GenericPipeline, Pictures, require_paintable
from limner.engine.families.generic_weights import common_precision, precision_policy
from limner.engine.pipeline_lane import PipelineLane, PipelinePainting
from limner.engine.pixels import rgb_bytes
from limner.engine.precision import Precision
from limner.errors import AdapterMismatch, BrokenCheckpoint, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Info, Progress, StageUpdate, Warned
from limner.ports import Order
from limner.workflows.plans import make_plans
from limner.workflows.presets import Preset
from tests.contract.backend_contract import images, run
from tests.support.checkpoints import save_folder, tiny_components, write
from tests.support.pipelines import save_pixart, save_sd3
from tests.support.records import gradient

STEPS = 4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_sd3(folder / "sd3")
    save_folder(tiny_components(), folder / "tiny")
    return folder


@pytest.fixture
async def make(models: Path) -> AsyncGenerator[Callable[..., NativeBackend]]:
    made: list[NativeBackend] = []

    def make(**settings: Any) -> NativeBackend:
        fields: dict[str, Any] = {"model": "sd3", "device": "cpu", "models_dir": models} | settings
        made.append(NativeBackend(NativeSettings(**fields)))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


def order(reference: Image.Image | None = None, stages: int = 1, **fields: Any) -> Order:
    request = GenerationRequest.model_validate({"prompt": "a red boat", "seed": 7} | fields)
    stage = {"width": 64, "height": 96, "steps": STEPS, "cfg": 3.0}
    preset = Preset.model_validate({"name": "one", "stages": [stage] * stages})
    plans = make_plans(request, preset, default_seed_source=lambda: 7)
    return Order(request=request, plans=plans, reference=reference)


def own_call(models: Path, kind: Any = StableDiffusion3Pipeline, **fields: Any) -> bytes:
    absent: dict[str, None] = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = kind.from_pretrained(str(models / "sd3"), local_files_only=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(7)
    answer = pipeline(
        "a red boat",
        width=64,
        height=96,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=generator,
        output_type="pt",
        **fields,
    )
    return rgb_bytes(cast(Tensor, answer.images[0]) * 2 - 1)


def told(events: list[Event], kind: type[Info | Warned | Failed]) -> str:
    return " ".join(event.message for event in events if isinstance(event, kind))


def test_such_folders_are_listed_and_found_by_their_class(models: Path) -> None:
    entries = {e.name: e for e in list_checkpoints(NativeSettings(models_dir=models))}
    assert (entries["sd3"].family, entries["sd3"].problem, entries["tiny"].family) == ("generic", "", "zimage")
    files = find_checkpoint("sd3", models, Path("nowhere"))
    assert set(files.parts) == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    assert len(files.sha256()) == 64


async def test_a_picture_is_that_of_the_pipelines_own_call(make: Callable[..., NativeBackend], models: Path) -> None:
    events = await run(make(), order(negative_prompt="tree"))
    (image,) = images(events)
    assert image.rgb == own_call(models, negative_prompt="tree")
    assert (image.width, image.height, image.recipe.family, image.recipe.checkpoint) == (64, 96, "generic", "sd3")
    assert image.recipe.outcome[0].evaluations == STEPS and image.recipe.precision["vae"] == "float32"
    assert [e.status for e in events if isinstance(e, StageUpdate)] == ["processing", "completed"]
    last = events[-1]
    assert isinstance(last, Done) and (last.status, last.images) == ("completed", 1)
    assert "StableDiffusion3Pipeline" in told(events, Info)
    (warned,) = image.recipe.warnings
    assert "has its own sampler (FlowMatchEulerDiscreteScheduler) and schedule: those of the plan" in warned


async def test_every_step_is_told_and_pictures_of_an_order_come_one_after_another(
    make: Callable[..., NativeBackend],
) -> None:
    seen: list[Event] = []
    backend = make()
    async with aclosing(backend.run(order(count=2, steps=20))) as events:
        async for event in events:
            seen.append(event)
    progress = [event for event in seen if isinstance(event, Progress)]
    assert progress[-1].current == progress[-1].total == 40
    assert len(progress) > 4 and [e.current for e in progress] == sorted(e.current for e in progress)
    kinds = [(type(event), event.index) for event in seen if isinstance(event, StageUpdate | ImageGenerated)]
    assert kinds == [(kind, index) for index in (0, 1) for kind in (StageUpdate, StageUpdate, ImageGenerated)]
    first, second = images(seen)
    assert first.rgb != second.rgb
    (alone,) = images(await run(backend, order(seed=8, steps=20)))
    assert alone.rgb == second.rgb


async def test_cancelling_stops_in_the_middle_and_the_backend_goes_on(
    make: Callable[..., NativeBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    backend = make()
    (expected,) = images(await run(backend, order()))
    paint = GenericPipeline.paint

    def noted(self: GenericPipeline, plan: Any, pictures: Pictures, stepped: Any, cancelled: Any) -> Any:
        def counted(step: int, of: int) -> None:
            steps.append(step)
            stepped(step, of)

        return paint(self, plan, pictures, counted, cancelled)

    monkeypatch.setattr(GenericPipeline, "paint", noted)
    async with aclosing(backend.run(order(steps=200, count=2))) as events:
        async for event in events:
            if isinstance(event, Progress):
                break
    steps_then = len(steps)
    (again,) = images(await run(backend, order()))
    assert again.rgb == expected.rgb
    assert 0 < steps_then < 100 and len(steps) < 150


async def test_it_paints_beside_the_engine(make: Callable[..., NativeBackend]) -> None:
    backend = make()
    whole, stepped = await asyncio.gather(run(backend, order(steps=30)), run(backend, order(model="tiny", stages=2)))
    assert images(whole)[0].recipe.family == "generic" and images(stepped)[0].recipe.family == "zimage"
    assert set(backend.loaded()) == {"sd3", "tiny"}
    await backend.unload("sd3")
    assert set(backend.loaded()) == {"tiny"}


async def test_a_reference_is_redrawn_by_the_sibling_of_its_class(
    make: Callable[..., NativeBackend], models: Path
) -> None:
    start = gradient(64, 96)
    events = await run(make(), order(start, references=[{"path": "any.png"}], denoise=0.5))
    assert images(events)[0].rgb == own_call(models, StableDiffusion3Img2ImgPipeline, image=start, strength=0.5)
    assert "denoise as its strength" in told(events, Info)
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[-1].steps, progress[-1].current, progress[-1].total) == (2, STEPS, STEPS)


async def test_what_it_does_not_follow_is_said_and_written_into_the_recipe(
    make: Callable[..., NativeBackend], tmp_path: Path
) -> None:
    file = write({"transformer.x.lora_A.weight": torch.zeros(1, 4)}, tmp_path / "ink.safetensors")
    fields: dict[str, Any] = {"sampler": "heun", "shift": 2.0, "guidance": 3.5, "adapters": [{"name": "ink"}]}
    backend = make()
    wanted = replace(order(**fields), adapter_files=(str(file),))
    (image,) = images(await run(backend, wanted))
    (outcome,) = image.recipe.adapters
    assert (outcome.status, outcome.matched) == (AdapterStatus.SKIPPED, 0) and "takes no adapters" in outcome.reason
    _, own, ignored = image.recipe.warnings
    assert "has its own sampler" in own and "does not follow shift, guidance." in ignored
    strict = order(**fields, on_adapter_mismatch="fail")
    with pytest.raises(AdapterMismatch, match="was skipped"):
        await run(backend, replace(strict, adapter_files=(str(file),)))


async def test_an_older_pipeline_tells_its_steps_too_and_keeps_the_size(
    make: Callable[..., NativeBackend], tmp_path: Path
) -> None:
    folder = save_pixart(tmp_path / "pixart")
    events = await run(make(model="pixart", models_dir=tmp_path), order(negative_prompt="tree"))
    (image,) = images(events)
    assert (image.width, image.height, image.recipe.family) == (64, 96, "generic")
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[-1].current, progress[-1].total) == (STEPS, STEPS)
    pipeline: Any = cast(Any, DiffusionPipeline).from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline(
        "a red boat",
        negative_prompt="tree",
        width=64,
        height=96,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(7),
        clean_caption=False,
        use_resolution_binning=False,
        output_type="pt",
    )
    assert image.rgb == rgb_bytes(own.images[0] * 2 - 1)
    assert not precision_policy(find_checkpoint("pixart", tmp_path, Path("nowhere"))).text_float16


def test_no_adapter_is_judged_to_fit(models: Path, tmp_path: Path) -> None:
    file = write(
        {f"transformer.x.lora_{half}.weight": torch.zeros(2, 2) for half in "AB"}, tmp_path / "ink.safetensors"
    )
    judged = judge_adapters(NativeSettings(models_dir=models), {"ink": file})
    assert judged["ink"]["sd3"].status is AdapterStatus.SKIPPED


async def test_what_it_cannot_paint_is_refused_with_what_to_leave_out(make: Callable[..., NativeBackend]) -> None:
    backend = make()
    with pytest.raises(Unsupported, match="paints in one stage; the plan has 2"):
        await run(backend, order(stages=2))
    masked = replace(order(gradient(64, 96)), mask=Image.new("L", (64, 96), 255), kept=gradient(64, 96))
    with pytest.raises(Unsupported, match="takes no mask"):
        await run(backend, masked)
    context = replace(order(), context=(gradient(64, 64),))
    with pytest.raises(Unsupported, match="takes no pictures"):
        await run(backend, context)
    assert len(images(await run(backend, order()))) == 1


async def test_a_size_that_the_pipeline_refuses_fails_with_its_own_reason(make: Callable[..., NativeBackend]) -> None:
    wanted = order()
    odd = wanted.plans[0].model_copy(update={"stages": (wanted.plans[0].stages[0].model_copy(update={"width": 72}),)})
    events = await run(make(), replace(wanted, plans=(odd,)))
    assert "divisible by 16" in told(events, Failed) and images(events) == []
    last = events[-1]
    assert isinstance(last, Done) and (last.status, last.failed) == ("failed", 1)


async def test_numbers_that_are_not_finite_are_no_picture(
    make: Callable[..., NativeBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = make()
    await backend.load("sd3")
    place = vars(backend)["_residency"].get().loaded.networks()["vae"].decoder.conv_out.bias
    with torch.no_grad():
        place.fill_(float("nan"))
    events = await run(backend, order(count=2))
    assert "not finite" in told(events, Failed) and images(events) == []
    assert isinstance(events[-1], Done) and events[-1].status == "failed"


async def test_bfloat16_is_used_where_it_is_wished(make: Callable[..., NativeBackend]) -> None:
    (image,) = images(await run(make(transformer_dtype="bfloat16"), order()))
    assert set(image.recipe.precision.values()) == {"bfloat16"} and len(set(image.rgb)) > 2


def test_all_parts_use_one_precision_that_each_of_them_bears(models: Path) -> None:
    half, wide = torch.float16, torch.float32
    assert common_precision(Precision(half, half, half)).notes == ()
    raised = common_precision(Precision(half, wide, half))
    assert (raised.transformer, raised.text_encoder, raised.vae) == (wide, wide, wide)
    assert "in one precision: all use float32" in raised.notes[0]
    assert precision_policy(find_checkpoint("sd3", models, Path("nowhere"))).text_float16


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"_class_name": "LTXPipeline"}, Unsupported, "diffusers' LTXPipeline"),
        ({"_class_name": ["mine", "MyPipeline"]}, Unsupported, "code of its own"),
        ({"text_encoder": ["os", "CLIP"]}, Unsupported, "parts of `os`"),
        ({"safety_checker": ["diffusers", "Checker"]}, BrokenCheckpoint, "lacks `safety_checker/`"),
        ({"_class_name": "NoSuchPipeline"}, BrokenCheckpoint, "NoSuchPipeline"),
        ({"_class_name": "FluxPipeline"}, Unsupported, "is Stable Diffusion 3"),
    ],
)
async def test_a_folder_that_cannot_be_painted_with_says_why(
    models: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(models / "sd3", folder)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    (folder / "model_index.json").write_text(json.dumps(index | change), "utf-8")
    backend = NativeBackend(NativeSettings(model=str(folder), device="cpu", models_dir=tmp_path))
    try:
        with pytest.raises(error, match=words):
            await run(backend, order())
    finally:
        await backend.aclose()


def test_a_pipeline_that_wants_more_than_a_request_holds_is_refused(models: Path) -> None:
    class Wants:
        def __call__(
            self, prompt: str, pose: Tensor, num_inference_steps: int, generator: object, output_type: str
        ) -> None: ...

    class Lacks:
        def __call__(self, prompt: str, num_inference_steps: int = 3) -> nn.Module | None: ...

    files = find_checkpoint("sd3", models, Path("nowhere"))
    with pytest.raises(Unsupported, match="wants pose"):
        require_paintable(Wants(), files)
    with pytest.raises(Unsupported, match="takes no generator, output_type"):
        require_paintable(Lacks(), files)


class Asked:
    """What is asked of a pipeline, whatever it takes."""

    def __init__(self) -> None:
        self.components: dict[str, object] = {}
        self.calls: list[dict[str, Any]] = []

    def answer(self, asked: dict[str, Any]) -> Any:
        self.calls.append({name: value for name, value in asked.items() if name != "self"})
        return SimpleNamespace(images=torch.zeros(1, 3, 96, 64))


class Truthful(Asked):
    """As Qwen-Image's pipelines are called: no strength, and guidance under another name."""

    def __call__(
        self,
        prompt: str,
        generator: torch.Generator,
        num_inference_steps: int,
        output_type: str,
        image: Any = None,
        negative_prompt: str | None = None,
        true_cfg_scale: float = 4.0,
        callback_on_step_end: Any = None,
    ) -> Any:
        return self.answer(locals())


class Plain(Asked):
    """A pipeline without guidance."""

    def __call__(
        self,
        prompt: str,
        generator: torch.Generator,
        num_inference_steps: int,
        output_type: str,
        callback_on_step_end: Any = None,
    ) -> Any:
        return self.answer(locals())


def warned(pipeline: Asked, models: Path, wanted: Order, pictures: Pictures) -> tuple[dict[str, Any], str]:
    """What the pipeline was called with, and the warnings."""
    files = find_checkpoint("sd3", models, Path("nowhere"))
    generic = GenericPipeline(pipeline, None, files, torch.device("cpu"), torch.float32)
    remarks = generic.judge(wanted.plans[0], pictures, masked=False)

    def stepped(step: int, steps: int) -> None: ...

    assert generic.paint(wanted.plans[0], pictures, stepped, lambda: False) is not None
    return pipeline.calls[-1], " ".join(remarks.warnings)


def test_a_pipeline_without_guidance_is_said_not_to_follow_cfg(models: Path) -> None:
    assert "takes no cfg: the 3 that was asked for" in warned(Plain(), models, order(), Pictures())[1]
    assert "takes no cfg" not in warned(Plain(), models, order(cfg=1), Pictures())[1]
    assert "takes no cfg" not in warned(Truthful(), models, order(), Pictures())[1]


def test_a_reference_that_is_only_looked_at_is_said_to_be_so(models: Path) -> None:
    start = gradient(64, 96)
    call, words = warned(
        Truthful(), models, order(start, references=[{"path": "any.png"}], denoise=0.5), Pictures(start)
    )
    assert call["image"] is start and "looks at, not one that is painted over" in words
    assert "looks at" not in warned(Truthful(), models, order(), Pictures())[1]


@pytest.mark.parametrize(("cfg", "negative", "told"), [(3.0, "", " "), (1.0, "", None), (3.0, "a tree", "a tree")])
def test_guidance_without_a_negative_prompt_guides_all_the_same(
    models: Path, cfg: float, negative: str, told: str | None
) -> None:
    call, _ = warned(Truthful(), models, order(cfg=cfg, negative_prompt=negative), Pictures())
    assert (call["true_cfg_scale"], call["negative_prompt"]) == (cfg, told)


def test_the_noise_is_of_the_stages_own_seed(models: Path) -> None:
    wanted = order()
    stage = wanted.plans[0].stages[0].model_copy(update={"noise_seed": 99})
    wanted = replace(wanted, plans=(wanted.plans[0].model_copy(update={"stages": (stage,)}),))
    call, _ = warned(Plain(), models, wanted, Pictures())
    assert call["generator"].initial_seed() == 99


def test_the_lane_forgets_what_it_has_painted(models: Path) -> None:
    files = find_checkpoint("sd3", models, Path("nowhere"))
    pipeline = GenericPipeline(Plain(), None, files, torch.device("cpu"), torch.float32)
    posted: queue.Queue[Happening] = queue.Queue()
    lane = PipelineLane(posted.put)
    try:
        for id in (-1, -2, -3):
            lane.add(PipelinePainting(id, pipeline, order().plans[0], Pictures()))
        while (happening := posted.get(timeout=30)).id != -3:
            assert not isinstance(happening, Broke)
        assert not {-1, -2} & vars(lane)["_wanted"]
    finally:
        lane.close()
