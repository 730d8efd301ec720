"""Workflow templates: what is read, what is refused, and the graphs that plans become."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from limner.backends.comfyui.choosing import choose, file_of
from limner.backends.comfyui.graphs import Wanted, fill, shortcomings, stage_of_nodes
from limner.backends.comfyui.templates import Graph, Template, Templates, load, shipped_folder
from limner.domain import GenerationRequest, Plan
from limner.errors import ConfigError, Unsupported
from limner.ports import Order
from limner.workflows.plans import make_plans
from limner.workflows.presets import Presets
from tests.contract.backend_contract import images, run
from tests.support.comfyui_server import ComfyUIServer
from tests.unit.backends.test_comfyui import painting

SHIPPED = sorted(path.stem for path in shipped_folder().glob("*.toml"))
MADE_FOR = [(name, preset) for name in SHIPPED for preset in load(shipped_folder() / f"{name}.toml").fields.presets]


def shipped(name: str) -> Template:
    return load(shipped_folder() / f"{name}.toml")


def planned(preset: str, **fields: Any) -> tuple[GenerationRequest, Plan]:
    request = GenerationRequest.model_validate({"prompt": "a boat", "seed": 7, "preset": preset} | fields)
    return request, make_plans(request, Presets().get(preset), default_seed_source=lambda: 7)[0]


def ordered(preset: str, **fields: Any) -> Order:
    request, plan = planned(preset, **fields)
    return Order(request, (plan,))


def links(graph: Graph) -> set[str]:
    """Every node that some other one takes something from."""
    values = [value for node in graph.values() for value in node["inputs"].values()]
    return {value[0] for value in values if isinstance(value, list)}


def inputs(graph: Graph, node: str) -> dict[str, Any]:
    return graph[node]["inputs"]


@pytest.mark.parametrize(("name", "preset"), MADE_FOR)
def test_a_shipped_template_can_do_all_that_its_presets_say(name: str, preset: str) -> None:
    template = shipped(name)
    request, plan = planned(preset)
    graph = fill(template, plan, Wanted("limner/x"))
    assert links(graph) <= graph.keys()
    assert shortcomings(template, request, plan) == []
    for number, node in enumerate(stage_of_nodes(template)):
        assert graph[node]["class_type"] in ("KSampler", "SamplerCustom"), number
    assert [*Templates().names()] == SHIPPED
    assert choose(Order(request, (plan,)), Templates(), "zimage-three-stage").name == name


def test_three_stages_are_painted_with_the_numbers_of_the_known_workflow() -> None:
    _, plan = planned("progressive")
    graph = fill(shipped("zimage-three-stage"), plan, Wanted("limner/x", model="mine.safetensors"))
    assert inputs(graph, "1")["unet_name"] == "mine.safetensors"
    assert (inputs(graph, "8")["width"], inputs(graph, "8")["height"]) == (176, 224)
    first, second, third = (inputs(graph, node) for node in ("10", "22", "34"))
    assert [first[n] for n in ("steps", "cfg", "sampler_name", "scheduler", "denoise", "seed")] == [
        9, 2.0, "euler_ancestral", "simple", 1.0, 7,
    ]  # fmt: skip
    assert [second[n] for n in ("steps", "cfg", "sampler_name", "scheduler", "denoise", "seed")] == [
        16, 1.0, "euler_ancestral", "simple", 0.7, plan.stages[1].noise_seed,
    ]  # fmt: skip
    assert (third["noise_seed"], third["cfg"]) == (plan.stages[2].noise_seed, 1.0)
    assert inputs(graph, "32") == {"sampler_name": "dpmpp_sde"}
    assert (inputs(graph, "33")["scheduler"], inputs(graph, "33")["denoise"]) == ("beta", 0.6)
    assert "9" not in graph and first["model"] == ["5", 0]  # no cache in the first stage
    cached = inputs(graph, "21"), inputs(graph, "31")
    assert [[c[n] for n in ("reuse_threshold", "start_percent", "end_percent")] for c in cached] == [
        [0.37, 0.45, 0.95],
        [0.12, 0.7, 0.95],
    ]
    assert (inputs(graph, "5")["model"], first["latent_image"]) == (["1", 0], ["8", 0])
    assert (inputs(graph, "5")["shift"], inputs(graph, "41")["filename_prefix"]) == (3.0, "limner/x")


def test_a_picture_to_start_from_takes_the_place_of_the_empty_one() -> None:
    _, plan = planned("single")
    graph = fill(shipped("zimage-single"), plan, Wanted("x", start="mine.png"))
    assert inputs(graph, "10")["latent_image"] == ["51", 0]
    assert inputs(graph, "50") == {"image": "mine.png"}
    masked = fill(shipped("zimage-single"), plan, Wanted("x", start="mine.png", mask="mask.png"))
    assert inputs(masked, "10")["latent_image"] == ["53", 0]
    assert inputs(masked, "53") == {"samples": ["51", 0], "mask": ["52", 0]}


def test_several_pictures_to_look_at_are_looked_at_one_after_the_other() -> None:
    _, plan = planned("kontext-edit")
    graph = fill(shipped("flux-kontext"), plan, Wanted("x", context=["a.png", "b.png"]))
    assert inputs(graph, "35")["conditioning"] == ["177_1", 0]
    assert inputs(graph, "177_1") == {"conditioning": ["177", 0], "latent": ["124_1", 0]}
    assert inputs(graph, "177")["conditioning"] == ["6", 0]
    assert (inputs(graph, "142")["image"], inputs(graph, "142_1")["image"]) == ("a.png", "b.png")
    assert inputs(fill(shipped("flux-kontext"), plan, Wanted("x")), "35")["conditioning"] == ["6", 0]


def test_a_lora_that_changes_two_networks_is_chained_in_both() -> None:
    _, plan = planned("sdxl", clip_skip=1)
    graph = fill(shipped("sdxl"), plan, Wanted("x", adapters=[("a", 1.0), ("b", 0.5)]))
    assert inputs(graph, "4_1")["model"] == ["4", 0] and inputs(graph, "4_1")["clip"] == ["4", 1]
    assert inputs(graph, "11") == {"clip": ["4_1", 1], "stop_at_clip_layer": -1}
    assert inputs(graph, "10")["model"] == ["4_1", 0]
    bare = fill(shipped("sdxl"), plan, Wanted("x"))
    assert (inputs(bare, "11")["clip"], inputs(bare, "40")["vae"]) == (["1", 1], ["1", 2])


def test_what_a_template_has_no_field_for_is_told() -> None:
    request, plan = planned("kontext-edit", negative_prompt="rain", shift=2.0)
    told = shortcomings(shipped("flux-kontext"), request, plan)
    assert [text.split("`")[3] for text in told] == ["negative_prompt", "stages.0.shift"]
    stages = [{"width": 64, "height": 64} | more for more in ({"shift": 1.0}, {"shift": 2.0}, {})]
    request, plan = planned("progressive", stages=stages)
    (told,) = shortcomings(shipped("zimage-three-stage"), request, plan)
    assert "one input 5.shift for stages that want different values" in told


# --- choosing


def test_pictures_to_look_at_and_to_start_from_find_their_templates() -> None:
    picture = Image.new("RGB", (64, 64))
    looks = ordered("kontext-edit")
    assert choose(Order(looks.request, looks.plans, context=(picture,)), Templates(), "sdxl").name == "flux-kontext"
    starts = ordered("sketch")
    assert choose(Order(starts.request, starts.plans, reference=picture), Templates(), "sdxl").name == "zimage-single"
    named = starts.request.model_copy(update={"model": "flux-kontext"})
    with pytest.raises(Unsupported, match="Template `flux-kontext` has no field `start`"):
        choose(Order(named, starts.plans, reference=picture), Templates(), "sdxl")


def test_a_checkpoint_leads_to_the_template_that_is_made_for_it() -> None:
    assert choose(ordered("generic", model="sd_xl_base_1.0"), Templates(), "zimage-single").name == "sdxl"
    assert choose(ordered("generic", model="somebody-elses"), Templates(), "zimage-single").name == "zimage-single"


def test_a_file_is_found_under_its_plain_name() -> None:
    files = ["a/ink.safetensors", "ink-two.safetensors", "win\\pen.gguf"]
    assert file_of("ink", files) == "a/ink.safetensors"
    assert file_of("pen.gguf", files) == "win\\pen.gguf"
    assert file_of("in", files) is None


async def test_a_context_picture_is_uploaded_and_painted_with() -> None:
    order = ordered("kontext-edit", width=64, height=64)
    order = Order(order.request, order.plans, context=(Image.new("RGB", (32, 32), "red"),))
    server = ComfyUIServer()
    async with painting(server) as backend:
        (image,) = images(await run(backend, order))
    assert (image.width, image.height) == (64, 64)
    assert image.recipe.checkpoint == "flux1-dev-kontext_fp8_scaled.safetensors"
    assert inputs(server.graphs[0], "142")["image"] in server.uploads


# --- files


def test_a_template_of_ones_own_goes_before_a_shipped_one_and_a_broken_one_harms_nobody(tmp_path: Path) -> None:
    for kind in ("toml", "json"):
        (tmp_path / f"sdxl.{kind}").write_text((shipped_folder() / f"sdxl.{kind}").read_text().replace("28", "5"))
    (tmp_path / "broken.toml").write_text("prompt = ")
    known = Templates(tmp_path)
    assert known.names() == sorted([*SHIPPED, "broken"])
    assert [template.name for template in known.sound()] == SHIPPED
    found = known.find("sdxl")
    assert found and inputs(found.graph, "10")["steps"] == 5
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        known.find("broken")


@pytest.mark.parametrize(
    ("toml", "graph", "told"),
    [
        ('prompt = "6.text"', None, "`output` is missing"),
        ('prompt = "6"', None, "`prompt.0` is '6'"),
        ('prompts = "6.text"', None, "`prompts` is unknown"),
        (None, {"6": {"class_type": "X", "inputs": {}}}, "names node 41, which is not in"),
        (None, {"41": {"class_type": "Save", "inputs": {}}}, r"the input filename_prefix of node 41 \(Save\)"),
        (None, [], "not in ComfyUI's API format"),
        (None, {"nodes": []}, "not in ComfyUI's API format"),
        (None, None, "cannot be read"),
    ],
)
def test_a_mistake_in_a_template_is_named(tmp_path: Path, toml: str | None, graph: object, told: str) -> None:
    good = (shipped_folder() / "zimage-single.toml").read_text()
    (tmp_path / "mine.toml").write_text(good if toml is None else toml)
    if graph is not None:
        (tmp_path / "mine.json").write_text(json.dumps(graph))
    with pytest.raises(ConfigError, match=told):
        load(tmp_path / "mine.toml")


def test_capabilities_name_templates_first_and_then_checkpoints() -> None:
    async def look() -> tuple[str, ...]:
        async with painting(ComfyUIServer()) as backend:
            return backend.capabilities().models

    models = asyncio.run(look())
    assert models[0] == "two-stages"
    assert set(SHIPPED) < set(models)
    assert "sd_xl_base_1.0.safetensors" in models


def test_the_example_in_the_documents_is_a_template(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "12-backends.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (tmp_path / "mine.toml").write_text(example)
    (tmp_path / "mine.json").write_text((shipped_folder() / "zimage-single.json").read_text())
    template = load(tmp_path / "mine.toml")
    _, plan = planned("single")
    assert links(fill(template, plan, Wanted("x"))) <= template.graph.keys()
