"""Workflows become requests that paint what ComfyUI paints, or the whole list of what stands in the way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.config import Settings
from limner.domain import CacheSettings, GenerationRequest, Plan, Stage
from limner.engine.noise import Noise
from limner.errors import InvalidRequest, NotFound, Unsupported
from limner.studio import Studio
from limner.workflows.comfyui.names import Shelf
from limner.workflows.plans import make_plans
from limner.workflows.presets import Preset, Presets
from tests.support.graphs import changed, example, node, picture, plain, reasons, sampler, stages, translated

THREE = Shelf({"sketchbook": "zimage"}, ("ink",), {"z_image_turbo_bf16": "sketchbook", "hollyjai.safetensors": "ink"})


def plan_of(request: GenerationRequest, preset: Preset | None = None) -> Plan:
    preset = preset or Preset(name="stages", stages=stages(request))
    return make_plans(request, preset, default_seed_source=lambda: 0)[0]


def seedless(stage: Stage) -> Stage:
    return stage.model_copy(update={"noise_seed": None, "stream_seed": None})


def test_the_three_stage_workflow_is_the_preset_progressive() -> None:
    request = translated(example("zimage-three-stage"), shelf=THREE).complete()
    plan = plan_of(request)
    progressive = plan_of(GenerationRequest(), Presets().get("progressive"))
    assert [seedless(stage) for stage in plan.stages] == [seedless(stage) for stage in progressive.stages]
    assert [stage.noise_seed for stage in plan.stages] == [1234567, 1234568, 1234569]
    assert plan.seed == 1234567
    assert plan.prompt == "a lighthouse on a cliff at dusk, long exposure, film grain"
    assert plan.negative_prompt == "blurry, low quality"
    assert request.model == "sketchbook"
    assert [(a.name, a.weight, a.trigger, a.stages) for a in request.adapters] == [("ink", 0.8, "", None)]


def test_every_stage_draws_the_noise_that_comfyui_draws() -> None:
    stages = plan_of(translated(example("zimage-three-stage"), shelf=THREE).complete()).stages
    for stage in stages:
        assert stage.noise_seed is not None
        ours = Noise(stage.noise_seed, (4, 6, 5), 0.1, 1.0, stream_seed=stage.stream_seed)
        theirs = Noise(stage.noise_seed, (4, 6, 5), 0.1, 1.0)
        assert torch.equal(ours.initial(), theirs.initial())
        if stage.sampler == "dpmpp_sde":
            assert torch.equal(ours.brownian(0.9, 0.4), theirs.brownian(0.9, 0.4))
        else:
            assert torch.equal(ours.ancestral(), theirs.ancestral())


def test_the_kontext_template_looks_at_its_picture() -> None:
    renamed = Shelf({"flux-kontext": "flux"}, (), {"flux1-dev-kontext_fp8_scaled.safetensors": "flux-kontext"})
    found = translated(example("flux-kontext-basic"), {"142": picture(800, 600)}, renamed)
    request = found.complete()
    (stage,) = stages(request)
    assert (stage.width, stage.height, stage.guidance, stage.denoise, stage.cfg) == (1184, 880, 2.5, 1.0, 1.0)
    assert stage.shift == pytest.approx(math.exp(1.15))
    assert (request.references_as, request.model) == ("context", "flux-kontext")
    assert [reference.upload for reference in request.references] == ["cat"]
    assert request.prompt == "make it a winter evening, keep the composition"
    assert plan_of(request).stages[0].noise_seed == 784381637916598


def test_a_picture_that_a_node_loads_must_be_given() -> None:
    renamed = Shelf({"flux-kontext": "flux"}, (), {"flux1-dev-kontext_fp8_scaled": "flux-kontext"})
    found = translated(example("flux-kontext-basic"), shelf=renamed)
    assert [step.node for step in found.passes] == ["31"]
    with pytest.raises(InvalidRequest, match=r"Node 142 loads the picture `reference.webp \[output\]`.*Give it"):
        found.complete()


def test_a_plain_workflow_becomes_one_stage() -> None:
    request = translated(plain()).complete()
    assert request.stages == (
        Stage(
            width=64,
            height=96,
            steps=4,
            cfg=5,
            sampler="euler",
            schedule="normal",
            noise_seed=7,
            stream_seed=8,
        ),
    )
    assert (request.prompt, request.negative_prompt, request.seed, request.model) == ("a red boat", "fog", 7, "dream")


# --- everything that stands in the way is told


def test_all_troubles_are_told_at_once_with_their_nodes() -> None:
    workflow = plain(
        n4=node("EmptyLatentImage", width=64, height=104, batch_size=1),
        n5=sampler(model=["8", 0], sampler_name="uni_pc"),
        n8=node("SomethingNew", model=["9", 0]) | {"_meta": {"title": "my trick"}},
        n9=node("ControlNetLoader"),
        n3=node("ConditioningCombine"),
    )
    with pytest.raises(Unsupported) as caught:
        translated(workflow).complete()
    listed: list[dict[str, str]] = caught.value.details["unsupported"]
    assert [(found["node"], found["kind"], found["title"]) for found in listed] == [
        ("9", "ControlNetLoader", ""),
        ("8", "SomethingNew", "my trick"),
        ("4", "EmptyLatentImage", ""),
        ("3", "ConditioningCombine", ""),
        ("5", "KSampler", ""),
    ]
    assert "Node 8 (`SomethingNew` “my trick”) is of a class that limner does not know." in caught.value.message
    assert "comes to 64x104 pixels" in caught.value.message


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"n5": sampler(sampler_name="uni_pc")}, "5", "wants sampler 'uni_pc', which limner does not have; it has euler,"),
    ({"n5": sampler(scheduler="align_your_steps")}, "5", "wants schedule 'align_your_steps'"),
    ({"n5": sampler(steps=300)}, "5", "`steps` is 300. Give at most 200"),
    ({"n5": sampler(steps="many")}, "5", "has 'many' as `steps`, which is no whole number"),
    ({"n5": sampler(seed=-1)}, "5", "has seed -1; seeds are 0 to"),
    ({"n5": sampler(denoise=0.5)}, "5", "begins at denoise 0.5 with an empty latent"),
    ({"n5": sampler(denoise=0)}, "5", "has denoise 0; a stage has more than 0"),
    ({"n5": sampler(positive=["9", 0])}, "5", "is linked to a node '9' that is not there"),
    ({"n5": sampler(positive=["1", 0])}, "5", "gets at its input `positive` what does not belong there"),
    ({"n5": sampler(positive="a boat")}, "5", "has 'a boat' at its input `positive`, where a link belongs"),
    ({"n5": sampler(model=["1", 7])}, "1", "has no output 7"),
    ({"n5": sampler(latent_image=["5", 0])}, "5", "leads back to itself"),
    ({"n4": node("EmptyLatentImage", width=64, height=104)}, "4", "comes to 64x104 pixels; limner paints sides of 64"),
    ({"n4": node("EmptyLatentImage", width=64)}, "4", "has no `height`"),
    ({"n4": changed(plain()["4"], batch_size=4)}, "5", "paints a batch of 4, whose pictures share their noise"),
    ({"n2": changed(plain()["2"], text="embedding:nice boat")}, "2", "names an embedding"),
    ({"n3": node("ConditioningZeroOut", conditioning=["2", 0])}, "5", "is zeroed out where cfg is 5"),
    ({"n3": node("ConditioningCombine")}, "3", "paints from two texts at once"),
    ({"n6": node("VAEDecode", samples=["5", 0], vae=["8", 0]), "n8": node("VAELoaderNew")}, "8", "is of a class"),
    (
        {"n7": node("SaveImage", images=["8", 0]), "n8": node("ImageScale", image=["6", 0], width=128, height=192)},
        "8",
        "changes the size of the finished picture",
    ),
    (
        {"n6": node("VAEDecode", samples=["8", 0], vae=["1", 2]), "n8": node("VAEEncodeForInpaint")},
        "8",
        "greys out the masked part before it encodes it",
    ),
]


@pytest.mark.parametrize(("changes", "at", "reason"), BAD, ids=[reason[:40] for _, _, reason in BAD])
def test_what_cannot_be_done_is_said_of_the_node(changes: dict[str, Any], at: str, reason: str) -> None:
    assert reason in reasons(plain(**changes))[at]


def test_a_workflow_without_an_end_names_what_may_be_one() -> None:
    assert reasons(plain(n7=node("Image Save", images=["6", 0]))) == {"7": "is of a class that limner does not know"}
    with pytest.raises(InvalidRequest, match="no SaveImage or PreviewImage"):
        translated({"1": node("CheckpointLoaderSimple", ckpt_name="dream")})


def test_two_pictures_are_run_one_at_a_time() -> None:
    workflow = plain(
        n8=sampler(seed=9),
        n9=node("VAEDecode", samples=["8", 0], vae=["1", 2]),
        n10=node("SaveImage", images=["9", 0]),
    )
    assert "say which with `output`" in reasons(workflow)["10"]
    assert translated(workflow, output="10").complete().seed == 9
    found = translated(workflow | {"10": node("PreviewImage", images=["9", 0])})
    assert (found.complete().seed, found.output) == (7, "7")
    assert "shows another picture, which is not kept" in {remark.text for remark in found.remarks}
    with pytest.raises(NotFound, match="does not end with a node `6`"):
        translated(workflow, output="6")


# --- latents between samplers


def second(**inputs: Any) -> dict[str, Any]:
    """A further sampler behind an upscale, and what shows its picture."""
    step = sampler(latent_image=["8", 0], seed=20, denoise=0.5)
    return {
        "n8": node("LatentUpscale", samples=["5", 0], upscale_method="nearest-exact", width=128, height=192),
        "n9": changed(step, **inputs),
        "n6": node("VAEDecode", samples=["9", 0], vae=["1", 2]),
    }


def test_a_sampler_behind_an_upscale_is_another_stage() -> None:
    first, last = stages(translated(plain(**second())).complete())
    assert (first.width, last.width, last.height, last.denoise, last.noise_seed) == (64, 128, 192, 0.5, 20)


def test_a_side_of_nothing_follows_the_other() -> None:
    upscale = changed(second()["n8"], width=0)
    _, last = stages(translated(plain(**(second() | {"n8": upscale}))).complete())
    assert (last.width, last.height) == (128, 192)


@pytest.mark.parametrize(
    ("upscale", "reason"),
    [
        ({"upscale_method": "bislerp"}, "has 'bislerp' as `upscale_method`, where limner can do `nearest-exact` only"),
        ({"width": 100}, "comes to 96x192"),
        ({"width": 128, "height": 128, "crop": "center"}, "has 'center' as `crop`"),
    ],
)
def test_an_upscale_that_a_stage_cannot_express_is_refused(upscale: dict[str, Any], reason: str) -> None:
    found = translated(plain(**(second() | {"n8": changed(second()["n8"], **upscale)})))
    if reason.startswith("comes to 96"):
        assert stages(found.complete())[1].width == 96
        return
    assert [trouble.node for trouble in found.troubles] == ["8"]
    assert reason in found.troubles[0].reason


def test_what_is_enlarged_last_is_not_painted() -> None:
    decode = node("VAEDecode", samples=["8", 0], vae=["1", 2])
    assert "nothing has painted over since" in reasons(plain(**(second() | {"n6": decode})))["6"]


def test_pixels_are_not_handed_on_between_stages() -> None:
    encode = node("VAEEncode", pixels=["10", 0], vae=["1", 2])
    between = {"n8": encode, "n10": node("VAEDecode", samples=["5", 0], vae=["1", 2])}
    assert "takes pixels that were painted before" in reasons(plain(**(second() | between)))["8"]


def test_stages_share_their_texts_and_their_checkpoint() -> None:
    other = {"n11": node("CLIPTextEncode", clip=["1", 1], text="a blue boat"), "n12": node("UNETLoader", unet_name="x")}
    assert reasons(plain(**second(positive=["11", 0]), **other))["9"].startswith("has another positive text")
    assert reasons(plain(**second(model=["12", 0]), **other))["9"].startswith("paints with `x`")
    assert translated(plain(**second(positive=["11", 0]), **other), prompt="a cat").complete().prompt == "a cat"


def test_a_preview_on_the_way_changes_nothing() -> None:
    preview = {
        "n13": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "n14": node("PreviewImage", images=["13", 0]),
    }
    found = translated(plain(**second(), **preview))
    assert len(stages(found.complete())) == 2
    told = {(remark.kind, remark.node, remark.text) for remark in found.remarks}
    assert ("ignored", "14", "shows what stage 1 leaves") in told
    assert any(kind == "ignored" and at == "7" and "filename_prefix" in text for kind, at, text in told)


def test_a_preview_of_what_limner_does_not_make_stands_in_nobodys_way() -> None:
    shown = {"n8": node("SomethingNew"), "n9": node("PreviewImage", images=["8", 0])}
    found = translated(plain(**shown))
    assert found.request is not None
    assert ("9", "shows what limner does not make") in {(remark.node, remark.text) for remark in found.remarks}
    assert reasons(plain(n7=node("PreviewImage", images=["6", 0]), n6=node("SomethingNew"))) == {
        "6": "is of a class that limner does not know"
    }


def test_a_negative_that_nobody_evaluates_may_be_anything() -> None:
    request = translated(plain(n3=node("SomethingNew"), n5=sampler(cfg=1.0))).complete()
    assert request.negative_prompt == ""
    both = plain(n3=node("SomethingNew"), **second(), n5=sampler(cfg=1.0))
    assert reasons(both) == {"3": "is of a class that limner does not know"}


# --- samplers


def advanced(**inputs: Any) -> dict[str, Any]:
    whole = {"add_noise": "enable", "noise_seed": 7, "steps": 20, "cfg": 5.0, "sampler_name": "euler"}
    whole |= {"scheduler": "karras", "start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return node("KSamplerAdvanced", **(whole | links | inputs))


def test_an_advanced_sampler_over_the_whole_schedule_is_a_stage() -> None:
    (stage,) = stages(translated(plain(n5=advanced())).complete())
    assert (stage.steps, stage.denoise, stage.noise_seed) == (20, 1.0, 7)


@pytest.mark.parametrize(("steps", "begin"), [(20, 8), (30, 1), (7, 6), (200, 133)])
def test_the_end_of_a_schedule_is_a_stage_with_less_denoise(steps: int, begin: int) -> None:
    workflow = plain(
        n4=node("VAEEncode", pixels=["8", 0], vae=["1", 2]),
        n8=node("LoadImage", image="cat.png"),
        n5=advanced(steps=steps, start_at_step=begin),
    )
    request = translated(workflow, {"8": picture()}).complete()
    (stage,) = stages(request)
    assert stage.steps == steps - begin
    assert int(stage.steps / stage.denoise) == steps
    assert request.denoise == stage.denoise


def split(**inputs: Any) -> dict[str, Any]:
    return {
        "n5": advanced(end_at_step=8, return_with_leftover_noise="enable"),
        "n9": advanced(add_noise="disable", start_at_step=8, noise_seed=99, latent_image=["5", 0], **inputs),
        "n6": node("VAEDecode", samples=["9", 0], vae=["1", 2]),
    }


def test_two_samplers_that_go_on_from_each_other_are_one_stage() -> None:
    assert translated(plain(**split())).complete().stages == translated(plain(n5=advanced())).complete().stages


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"cfg": 2.0}, "goes on where node 5 stopped, with other numbers"),
        ({"start_at_step": 9}, "adds no noise, and does not go on where"),
        ({"add_noise": "enable"}, "adds noise to a latent that is not denoised to the end"),
        ({"end_at_step": 12}, "stops at step 12 of 20 and throws away the noise"),
    ],
)
def test_a_split_that_is_not_one_stage_is_refused(inputs: dict[str, Any], reason: str) -> None:
    workflow = plain(**split())
    workflow["9"] = changed(workflow["9"], **inputs)
    assert reason in reasons(workflow)["9"]


def test_a_sampler_that_remembers_cannot_be_interrupted() -> None:
    workflow = plain(**split())
    for id in ("5", "9"):
        workflow[id] = changed(workflow[id], sampler_name="dpmpp_2m")
    assert "is not the same in two parts" in reasons(workflow)["9"]
    workflow = plain(n5=advanced(end_at_step=8, return_with_leftover_noise="enable"))
    assert "not denoised to the end" in reasons(workflow)["6"]


def custom(**changes: Any) -> dict[str, Any]:
    nodes = {
        "n5": node(
            "SamplerCustomAdvanced",
            **{"noise": ["10", 0], "guider": ["11", 0], "sampler": ["12", 0], "sigmas": ["13", 0]},
            latent_image=["4", 0],
        ),
        "n10": node("RandomNoise", noise_seed=11),
        "n11": node("CFGGuider", model=["1", 0], positive=["2", 0], negative=["3", 0], cfg=3.0),
        "n12": node("KSamplerSelect", sampler_name="dpmpp_sde_gpu"),
        "n13": node("BasicScheduler", model=["1", 0], scheduler="beta", steps=6, denoise=1.0),
    }
    return nodes | changes


def test_the_parts_of_a_custom_sampler_come_together() -> None:
    found = translated(plain(**custom()))
    (stage,) = stages(found.complete())
    assert (stage.sampler, stage.schedule, stage.steps, stage.cfg) == ("dpmpp_sde", "beta", 6, 3.0)
    assert (stage.noise_seed, stage.stream_seed) == (11, 11)
    assert ("differs", "12") in {(remark.kind, remark.node) for remark in found.remarks}
    unguided = node("BasicGuider", model=["1", 0], conditioning=["2", 0])
    (stage,) = stages(translated(plain(**custom(n11=unguided))).complete())
    assert stage.cfg == 1


@pytest.mark.parametrize(
    ("changes", "at", "reason"),
    [
        ({"n10": node("DisableNoise")}, "10", "adds no noise"),
        ({"n12": node("SamplerEulerAncestral", eta=0.5, s_noise=1.0)}, "12", "has 0.5 as `eta`"),
        (
            {"n13": node("BasicScheduler", model=["14", 0], scheduler="beta", steps=6, denoise=1.0),
             "n14": node("ModelSamplingSD3", model=["1", 0], shift=5.0)},
            "5",
            "takes its noise levels from a model with another shift",
        ),
    ],
)  # fmt: skip
def test_a_custom_sampler_that_is_no_stage_is_refused(changes: dict[str, Any], at: str, reason: str) -> None:
    assert reason in reasons(plain(**custom(**changes)))[at]


def test_a_prediction_is_handed_on_only_where_it_is_the_result() -> None:
    decode = node("VAEDecode", samples=["5", 1], vae=["1", 2])
    assert translated(plain(**custom(n6=decode))).request is not None
    ddpm = node("KSamplerSelect", sampler_name="ddpm")
    assert "`denoised_output`" in reasons(plain(**custom(n6=decode, n12=ddpm)))["5"]


# --- models


def test_what_changes_a_model_becomes_fields_of_the_stage() -> None:
    workflow = plain(
        n5=sampler(model=["10", 0], positive=["12", 0]),
        n8=node("LoraLoader", model=["1", 0], clip=["1", 1], lora_name="pens\\wash.safetensors", strength_model=0.5,
                strength_clip=0.25),
        n1=node("CheckpointLoaderSimple", ckpt_name="flux-kontext"),
        n9=node("ModelSamplingFlux", model=["8", 0], max_shift=1.15, base_shift=0.5, width=1024, height=1024),
        n10=node("EasyCache", model=["9", 0], reuse_threshold=0.3, start_percent=0.1, end_percent=0.9, verbose=False),
        n11=node("CLIPSetLastLayer", clip=["8", 1], stop_at_clip_layer=-2),
        n12=node("FluxGuidance", conditioning=["2", 0], guidance=3.5),
        n2=node("CLIPTextEncode", clip=["11", 0], text="a red boat"),
        n3=node("CLIPTextEncode", clip=["11", 0], text="fog"),
    )  # fmt: skip
    found = translated(workflow)
    request = found.complete()
    (stage,) = stages(request)
    assert stage.shift == pytest.approx(math.exp(1.15))
    assert stage.cache == CacheSettings(reuse_threshold=0.3, start_percent=0.1, end_percent=0.9)
    assert (stage.guidance, request.clip_skip) == (3.5, 2)
    assert [(a.name, a.weight, a.trigger) for a in request.adapters] == [("pens/wash", 0.5, "")]
    told = [remark.text for remark in found.remarks if remark.kind == "differs"]
    assert told == ["has 0.25 for the text encoder; limner takes 0.5 for both"]


def test_loras_of_one_stage_only_say_so() -> None:
    lora = node("LoraLoaderModelOnly", model=["1", 0], lora_name="ink.safetensors", strength_model=0.5)
    request = translated(plain(**second(model=["15", 0]), n15=lora)).complete()
    assert [(a.name, a.stages) for a in request.adapters] == [("ink", (1,))]


def test_a_lora_without_strength_is_left_out_and_told() -> None:
    lora = node("LoraLoaderModelOnly", model=["1", 0], lora_name="gone.safetensors", strength_model=0)
    found = translated(plain(n5=sampler(model=["8", 0]), n8=lora))
    assert found.complete().adapters == ()
    assert "applies `gone.safetensors` at strength 0 to the model" in {remark.text for remark in found.remarks}


def test_names_that_are_not_here_are_told_with_near_ones() -> None:
    lora = node("LoraLoaderModelOnly", model=["1", 0], lora_name="inkk.safetensors", strength_model=1)
    workflow = plain(n1=node("CheckpointLoaderSimple", ckpt_name="dreams.ckpt"), n5=sampler(model=["8", 0]), n8=lora)
    with pytest.raises(NotFound) as caught:
        translated(workflow).complete()
    assert "Node 1 loads `dreams.ckpt`, and there is no checkpoint of that name. Known: dream." in caught.value.message
    assert [(m["node"], m["kind"], m["near"]) for m in caught.value.details["missing"]] == [
        ("1", "model", ("dream",)),
        ("8", "adapter", ("ink",)),
    ]


@pytest.mark.parametrize("file", ["dream.safetensors", "SDXL\\Dream.ckpt", "sub/dream.gguf"])
def test_files_are_found_by_their_stem(file: str) -> None:
    assert translated(plain(n1=node("CheckpointLoaderSimple", ckpt_name=file))).complete().model == "dream"


def test_a_name_that_may_mean_two_is_not_guessed() -> None:
    shelf = Shelf({"a/dream": "", "b/dream": ""})
    assert sorted(translated(plain(), shelf=shelf).missing[0].near) == ["a/dream", "b/dream"]
    assert translated(plain(n1=node("CheckpointLoaderSimple", ckpt_name="b\\dream.ckpt")), shelf=shelf).request


def test_flux_is_shifted_as_comfyui_shifts_it_and_schnell_is_not() -> None:
    def shift_of(name: str) -> float | None:
        workflow = plain(n1=node("CheckpointLoaderSimple", ckpt_name=name))
        shelf = Shelf({"flux-dev": "flux", "flux-schnell": "flux"})
        (stage,) = stages(translated(workflow, shelf=shelf).complete())
        return stage.shift

    assert shift_of("flux-dev.safetensors") == pytest.approx(3.158, abs=1e-3)
    assert shift_of("flux-schnell.safetensors") is None


def test_a_shift_is_taken_from_a_node_of_the_familys_own() -> None:
    def told(checkpoint: str, kind: str) -> str:
        numbers = {"shift": 3.0, "max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024}
        shifted = node(kind, model=["1", 0], **numbers)
        workflow = plain(
            n1=node("CheckpointLoaderSimple", ckpt_name=checkpoint), n5=sampler(model=["8", 0]), n8=shifted
        )
        found = translated(workflow)
        kinds = [remark.kind for remark in found.remarks if remark.node == "8"]
        return found.troubles[0].reason if found.troubles else "".join(kinds)

    assert told("z-image", "ModelSamplingAuraFlow") == told("flux-kontext", "ModelSamplingFlux") == ""
    assert told("flux-kontext", "ModelSamplingAuraFlow") == told("z-image", "ModelSamplingFlux") == "differs"
    assert told("z-image", "ModelSamplingSD3") == (
        "tells the network times as SD3 wants them, and Z-Image wants others"
    )
    assert told("dream", "ModelSamplingAuraFlow") == "makes a flow of the checkpoint, and SDXL is none"


def test_texts_for_two_encoders_must_agree() -> None:
    sizes = {"width": 64, "height": 96, "crop_w": 0, "crop_h": 0, "target_width": 64, "target_height": 96}

    def xl(**inputs: Any) -> dict[str, Any]:
        both = {"text_g": "a boat", "text_l": "a boat", "clip": ["1", 1]}
        return node("CLIPTextEncodeSDXL", **(both | sizes | inputs))

    assert translated(plain(n2=xl())).complete().prompt == "a boat"
    assert "has different texts" in reasons(plain(n2=xl(text_l="a cat")))["2"]
    assert "tells SDXL the sizes 4096, 96, 0, 0, 64, 96" in reasons(plain(n2=xl(width=4096)))["2"]
    flux = node("CLIPTextEncodeFlux", clip=["1", 1], clip_l="a boat", t5xxl="a boat", guidance=3.0)
    assert [s.guidance for s in stages(translated(plain(n2=flux)).complete())] == [3.0]


# --- pictures


def loading(**changes: Any) -> dict[str, Any]:
    nodes = {
        "n8": node("LoadImage", image="cat.png"),
        "n4": node("VAEEncode", pixels=["8", 0], vae=["1", 2]),
        "n5": sampler(denoise=0.6),
    }
    return plain(**(nodes | changes))


def test_a_loaded_picture_is_what_the_request_starts_from() -> None:
    request = translated(loading(), {"8": picture(96, 64)}).complete()
    (stage,) = stages(request)
    assert (request.references_as, request.denoise, stage.width, stage.height) == ("start", 0.6, 96, 64)
    assert plan_of(request).stages[0].denoise == 0.6


def test_a_picture_at_full_denoise_stays_the_start() -> None:
    request = translated(loading(n5=sampler()), {"8": picture()}).complete()
    assert plan_of(request).stages[0].denoise == 1.0 and request.references


def test_a_picture_of_another_size_is_cut_only_where_that_is_asked_for() -> None:
    given = {"8": picture(100, 70)}
    assert "Set width and height to have the picture cut to fit" in reasons(loading(), given)["4"]
    (stage,) = stages(translated(loading(), given, width=64, height=64).complete())
    assert (stage.width, stage.height) == (64, 64)
    scale = node("ImageScale", image=["8", 0], upscale_method="lanczos", width=128, height=96, crop="center")
    encode = node("VAEEncode", pixels=["9", 0], vae=["1", 2])
    (stage,) = stages(translated(loading(n9=scale, n4=encode), given).complete())
    assert (stage.width, stage.height) == (128, 96)
    area = changed(scale, upscale_method="area")
    found = reasons(loading(n9=area, n4=encode), given)
    assert "has 'area' as `upscale_method`" in found["9"]


def test_a_mask_is_painted_within() -> None:
    mask = {"n9": node("LoadImageMask", image="mask.png", channel="red"),
            "n10": node("SetLatentNoiseMask", samples=["4", 0], mask=["9", 0]),
            "n5": sampler(denoise=0.6, latent_image=["10", 0])}  # fmt: skip
    given = {"8": picture(), "9": picture()}
    found = translated(loading(**mask), given)
    assert found.complete().mask == given["9"].reference
    assert "keeps pixels as they were" in next(r.text for r in found.remarks if r.kind == "differs")
    given["9"] = picture(transparent=True)
    assert "takes its mask from the red of a picture that is more than a mask" in reasons(loading(**mask), given)["10"]


def test_a_mask_in_the_transparency_of_the_picture_itself_is_understood() -> None:
    conditioned = node("InpaintModelConditioning", positive=["2", 0], negative=["3", 0], vae=["1", 2],
                       pixels=["8", 0], mask=["8", 1], noise_mask=True)  # fmt: skip
    inner = {"n10": conditioned,
             "n5": sampler(denoise=0.6, positive=["10", 0], negative=["10", 1], latent_image=["10", 2])}  # fmt: skip
    request = translated(loading(**inner), {"8": picture(transparent=True)}).complete()
    assert request.mask == request.references[0]
    assert "of a picture that has none" in reasons(loading(**inner), {"8": picture(transparent=False)})["10"]


def test_several_pictures_are_looked_at_one_by_one_or_stitched() -> None:
    def looking(**changes: Any) -> dict[str, Any]:
        nodes = {
            "n1": node("CheckpointLoaderSimple", ckpt_name="flux-kontext"),
            "n20": node("LoadImage", image="a.png"),
            "n21": node("LoadImage", image="b.png"),
            "n22": node("FluxKontextImageScale", image=["20", 0]),
            "n23": node("FluxKontextImageScale", image=["21", 0]),
            "n24": node("VAEEncode", pixels=["22", 0], vae=["1", 2]),
            "n25": node("VAEEncode", pixels=["23", 0], vae=["1", 2]),
            "n26": node("ReferenceLatent", conditioning=["2", 0], latent=["24", 0]),
            "n27": node("ReferenceLatent", conditioning=["26", 0], latent=["25", 0]),
            "n5": sampler(cfg=1, positive=["27", 0]),
        }
        return plain(**(nodes | changes))

    given = {"20": picture(800, 600), "21": picture(600, 800)}
    request = translated(looking(), given).complete()
    assert (request.references_as, len(request.references)) == ("context", 2)
    assert [(stage.width, stage.height) for stage in stages(request)] == [(64, 96)]
    both = node("ImageStitch", image1=["20", 0], image2=["21", 0], direction="right", match_image_size=True,
                spacing_width=0, spacing_color="white")  # fmt: skip
    one = {"n28": both, "n22": node("FluxKontextImageScale", image=["28", 0]),
           "n5": sampler(cfg=1, positive=["26", 0], latent_image=["24", 0])}  # fmt: skip
    request = translated(looking(**one), given).complete()
    assert request.references_as == "stitched"
    assert [(stage.width, stage.height) for stage in stages(request)] == [(1456, 720)]
    down = changed(both, direction="down")
    assert "has 'down' as `direction`" in reasons(looking(**(one | {"n28": down})), given)["28"]
    assert "looks at other pictures" in reasons(looking(n5=sampler(cfg=4, positive=["27", 0])), given)["5"]
    unscaled = looking(n24=node("VAEEncode", pixels=["20", 0], vae=["1", 2]))
    assert "put a FluxKontextImageScale in front" in reasons(unscaled, {**given, "20": picture(800, 608)})["26"]


# --- what the caller sets


def test_what_is_set_stands_above_the_workflow() -> None:
    request = translated(
        plain(**second()),
        prompt="a cat",
        negative_prompt="rain",
        seed=100,
        steps=3,
        cfg=2.0,
        width=256,
        height=384,
        count=3,
    ).complete()
    first, last = stages(request)
    assert (request.prompt, request.negative_prompt, request.seed, request.count) == ("a cat", "rain", 100, 3)
    assert (first.steps, first.cfg, last.steps, last.cfg) == (3, 2.0, 4, 5.0)
    assert [(s.width, s.height) for s in (first, last)] == [(128, 192), (256, 384)]
    assert (first.noise_seed, last.noise_seed) == (100, 113)


def test_one_input_of_a_node_can_be_set() -> None:
    request = translated(plain(), n5__steps="9", n2__text="a cat").complete()
    assert (stages(request)[0].steps, request.prompt) == (9, "a cat")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("colour", "red", "There is nothing called 'colour' to set. Set prompt, negative_prompt, seed"),
        ("steps", "many", "`steps` is 'many'. Give a whole number."),
        ("width", 65, "Give a multiple of 16"),
        ("n9__steps", 3, "The workflow has no node '9'"),
        ("n5__colour", "red", "There is no input 'colour' at node 5 (`KSampler`). It has: `model`"),
        ("n5__steps", "many", "'many' is not a number, which `steps` of node 5 (`KSampler`) is"),
    ],
)
def test_what_cannot_be_set_is_said(name: str, value: Any, error: str) -> None:
    with pytest.raises((InvalidRequest, NotFound)) as caught:
        translated(plain(), **{name: value})
    assert error in caught.value.message


def test_a_batch_is_asked_for_as_pictures_with_seeds_of_their_own() -> None:
    workflow = plain(n4=changed(plain()["4"], batch_size=4))
    request = translated(workflow, count=4).complete()
    plans = make_plans(request, Preset(name="stages", stages=stages(request)), default_seed_source=lambda: 0)
    assert [plan.stages[0].noise_seed for plan in plans] == [7, 8, 9, 10]


# --- it runs


async def test_the_workflow_paints_the_picture_of_a_request_with_its_stages(tmp_path: Path) -> None:
    request = translated(
        example("zimage-three-stage"), shelf=THREE, width=128, height=160, steps=2, n22__steps=2, n33__steps=2
    ).complete()
    shape: dict[str, Any] = {"schedule": "simple", "shift": 3.0, "steps": 2}
    first = {"width": 64, "height": 64, "cfg": 2.0, "sampler": "euler_ancestral", "noise_seed": 1234567}
    by_hand = GenerationRequest.model_validate(
        {
            "prompt": "a lighthouse on a cliff at dusk, long exposure, film grain",
            "negative_prompt": "blurry, low quality",
            "model": "sketchbook",
            "seed": 1234567,
            "adapters": [{"name": "ink", "weight": 0.8, "trigger": ""}],
            "stages": [
                shape | first | {"stream_seed": 1234568},
                shape
                | {"width": 64, "height": 80, "denoise": 0.7, "sampler": "euler_ancestral"}
                | {"cache": {"reuse_threshold": 0.37, "start_percent": 0.45, "end_percent": 0.95}}
                | {"noise_seed": 1234568, "stream_seed": 1234569},
                shape
                | {"width": 128, "height": 160, "denoise": 0.6, "sampler": "dpmpp_sde", "schedule": "beta"}
                | {"cache": {"reuse_threshold": 0.12, "start_percent": 0.7, "end_percent": 0.95}}
                | {"noise_seed": 1234569, "stream_seed": 1234569},
            ],
        }
    )
    async with Studio(Settings(home=tmp_path)) as studio:
        (translated_one,) = await studio.generate(request)
        (by_hand_one,) = await studio.generate(by_hand)
    assert translated_one.recipe.plan == by_hand_one.recipe.plan
    assert translated_one.image.size == (128, 160)
    assert translated_one.image.tobytes() == by_hand_one.image.tobytes()
    assert [a.status for a in translated_one.recipe.adapters] == ["applied"]
