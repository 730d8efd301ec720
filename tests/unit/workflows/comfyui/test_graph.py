"""Graphs are read in both forms that ComfyUI writes, whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import InvalidRequest, LimnerError
from limner.workflows.comfyui.explain import lines_of, record_of
from limner.workflows.comfyui.graph import Link
from limner.workflows.comfyui.nodes import EDITOR_ONLY, GROUPS, KINDS, REASONS, read_workflow
from tests.support.graphs import changed, drawn, example, node, picture, plain, stages, translated

Json = dict[str, Any]


def test_values_and_links_are_told_apart() -> None:
    found = read_workflow(plain()).nodes["5"]
    assert (found.kind, found.inputs["seed"], found.inputs["model"]) == ("KSampler", 7, Link("1", 0))
    assert str(found) == "node 5 (`KSampler`)"


def test_a_body_for_comfyuis_prompt_is_unwrapped() -> None:
    assert read_workflow({"prompt": plain(), "client_id": "x"}) == read_workflow(plain())


BAD: list[tuple[object, str]] = [
    ([], "A workflow is a JSON object, and this is none"),
    ({}, "The workflow has no nodes"),
    ({"nodes": [], "links": []}, "The workflow has no nodes"),
    ({"1": {"inputs": {}}}, "Entry '1' of the workflow is no node"),
    ({"1": 7}, "Entry '1' of the workflow is no node"),
    ({"nodes": [{"id": 1}]}, "Node '1' of the workflow has no type"),
    ({str(number): node("Note") for number in range(5001)}, "The workflow has 5001 nodes"),
]


@pytest.mark.parametrize(("found", "told"), BAD, ids=[told[:30] for _, told in BAD])
def test_what_is_no_workflow_is_refused(found: object, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read_workflow(found)


# --- the editor's form


@pytest.mark.parametrize("name", ["zimage-three-stage", "flux-kontext-basic"])
def test_both_forms_of_an_example_are_the_same_workflow(name: str) -> None:
    workflow = example(name)
    for entry in workflow.values():
        entry.pop("_meta", None)
    saved, sent = read_workflow(drawn(workflow)), read_workflow(workflow)
    assert saved.nodes.keys() == sent.nodes.keys()
    given = {"142": picture(800, 600)}
    assert translated(drawn(workflow), given).passes == translated(workflow, given).passes


def editor(*extra: Json, links: list[list[Any]] | None = None, **changes: Json) -> Json:
    """The plain workflow as the editor saves it, with further nodes and links."""
    saved = drawn(plain(**changes))
    return saved | {"nodes": [*saved["nodes"], *extra], "links": saved["links"] + (links or [])}


def slot(name: str, type: str = "*") -> Json:
    return {"name": name, "type": type, "link": 1}


def by_id(saved: Json, id: int) -> Json:
    return next(entry for entry in saved["nodes"] if entry["id"] == id)


def test_what_follows_a_seed_is_not_a_value() -> None:
    inputs = read_workflow(editor()).nodes["5"].inputs
    assert [inputs[name] for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")] == [
        *(7, 4, 5.0, "euler", "normal", 1.0)
    ]
    old = editor()
    by_id(old, 5)["widgets_values"][1] = True
    assert read_workflow(old).nodes["5"].inputs == inputs
    without = editor()
    by_id(without, 5)["widgets_values"].remove("randomize")
    assert read_workflow(without).nodes["5"].inputs == inputs


def test_values_may_have_names() -> None:
    saved = editor()
    by_id(saved, 4)["widgets_values"] = {"width": 128, "height": 64, "batch_size": 1}
    assert [(s.width, s.height) for s in stages(translated(saved).complete())] == [(128, 64)]


def test_reroutes_primitives_and_notes_belong_to_the_editor() -> None:
    saved = editor(
        {"id": 20, "type": "Reroute", "inputs": [slot("")]},
        {"id": 21, "type": "Reroute", "inputs": [slot("")]},
        {"id": 22, "type": "PrimitiveNode", "widgets_values": [11, "fixed"]},
        {"id": 23, "type": "Note", "widgets_values": ["do not forget"]},
        links=[[90, 1, 0, 20, 0, "MODEL"], [91, 20, 0, 21, 0, "*"], [93, 22, 0, 5, 4, "INT"]],
    )
    sampler = by_id(saved, 5)
    sampler["inputs"].append(slot("steps", "INT"))
    at = [entry["name"] for entry in sampler["inputs"]].index("model")
    saved["links"] = [link for link in saved["links"] if (link[3], link[4]) != (5, at)] + [[92, 21, 0, 5, at, "MODEL"]]
    found = translated(saved)
    (stage,) = stages(found.complete())
    assert (stage.steps, found.complete().model) == (11, "dream")
    assert ("23", "`Note` is a note") in {(remark.node, remark.text) for remark in found.remarks}


def with_lora(mode: int) -> Json:
    lora = node("LoraLoaderModelOnly", model=["1", 0], lora_name="ink.safetensors", strength_model=0.5)
    saved = editor(n8=lora, n5=changed(plain()["5"], model=["8", 0]))
    by_id(saved, 8)["mode"] = mode
    return saved


def test_a_bypassed_node_passes_on_what_it_gets() -> None:
    assert [adapter.name for adapter in translated(with_lora(0)).complete().adapters] == ["ink"]
    found = translated(with_lora(4))
    assert found.complete().adapters == ()
    assert ("8", "`LoraLoaderModelOnly` is bypassed") in {(remark.node, remark.text) for remark in found.remarks}


def test_a_muted_node_gives_nothing() -> None:
    found = translated(with_lora(2))
    assert [(trouble.node, trouble.reason) for trouble in found.troubles] == [("5", "has nothing at its input `model`")]


def test_links_may_be_objects() -> None:
    saved = editor()
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    objects = saved | {"links": [dict(zip(names, link, strict=True)) for link in saved["links"]]}
    assert read_workflow(objects) == read_workflow(saved)


def test_a_prompt_is_sent_as_the_editor_sends_it() -> None:
    text = "a red boat // not blue\n/* nor green */on \\{the\\} sea"
    assert translated(editor(n2=changed(plain()["2"], text=text))).complete().prompt == "a red boat \non {the} sea"
    with pytest.raises(InvalidRequest, match="prompt of node 2 has alternatives in braces"):
        read_workflow(editor(n2=changed(plain()["2"], text="a {red|blue} boat")))
    kept = translated(plain(n2=changed(plain()["2"], text="a {red|blue} boat"))).complete()
    assert kept.prompt == "a {red|blue} boat"


def test_a_subgraph_is_laid_out_in_place_of_its_node() -> None:
    """The sampler inside gets its links from outside, its steps from the value that the outer node shows."""
    plain_one = editor()
    inner = by_id(plain_one, 5)
    inner["inputs"].append(slot("steps", "INT"))
    outer: Json = {"id": 5, "type": "a-subgraph", "mode": 0, "inputs": list(inner["inputs"]), "widgets_values": [9]}
    outer["inputs"][-1] = slot("steps", "INT") | {"widget": {"name": "steps"}, "link": None}
    places = range(len(inner["inputs"]))
    definition: Json = {
        "id": "a-subgraph",
        "nodes": [inner | {"id": 3}],
        "links": [
            *({"origin_id": -10, "origin_slot": n, "target_id": 3, "target_slot": n} for n in places),
            {"origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    nodes = [outer if entry["id"] == 5 else entry for entry in plain_one["nodes"]]
    saved = plain_one | {"nodes": nodes, "definitions": {"subgraphs": [definition]}}
    found = translated(saved)
    (stage,) = stages(found.complete())
    assert ([step.node for step in found.passes], stage.steps, stage.noise_seed) == (["5:3"], 9, 7)
    outer["mode"] = 2
    assert [trouble.node for trouble in translated(saved).troubles] == ["6"]


def test_values_that_a_subgraph_shows_are_told_by_name() -> None:
    """The outer node lists one of the inputs only; whose values are whose is in its properties."""
    inside = [entry for entry in editor()["nodes"] if entry["id"] != 7]
    by_name = {"2": ("text", "STRING"), "4": ("height", "INT")}
    entries: list[Json] = []
    links = [link for link in editor()["links"] if link[3] != 7]
    for id, (name, type) in by_name.items():
        target = next(entry for entry in inside if entry["id"] == int(id))
        target["inputs"].append(slot(name, type) | {"widget": {"name": name}})
        links.append([90 + len(entries), -10, len(entries), int(id), len(target["inputs"]) - 1, type])
        entries.append({"name": name, "type": type})
    definition: Json = {
        "id": "inner",
        "nodes": inside,
        "inputs": entries,
        "links": [*links, [99, 6, 0, -20, 0, "IMAGE"]],
    }
    outer = {"id": 1, "type": "inner", "inputs": [slot("text", "STRING") | {"widget": {"name": "text"}, "link": None}],
             "properties": {"proxyWidgets": [["5", "seed"], ["-1", "height"], ["-1", "text"]]},
             "widgets_values": [None, 128, "a blue boat"]}  # fmt: skip
    save = {"id": 7, "type": "SaveImage", "inputs": [slot("images", "IMAGE")], "widgets_values": ["boat"]}
    saved: Json = {
        "nodes": [outer, save],
        "links": [[1, 1, 0, 7, 0, "IMAGE"]],
        "definitions": {"subgraphs": [definition]},
    }
    request = translated(saved).complete()
    (stage,) = stages(request)
    assert (request.prompt, stage.width, stage.height, stage.noise_seed) == ("a blue boat", 64, 128, 7)


def test_a_subgraph_that_holds_itself_is_refused() -> None:
    definition = {"id": "a", "nodes": [{"id": 1, "type": "a"}], "links": []}
    with pytest.raises(InvalidRequest, match="hold each other too deeply"):
        read_workflow({"nodes": [{"id": 1, "type": "a"}], "links": [], "definitions": {"subgraphs": [definition]}})


def test_reroutes_in_a_circle_are_refused() -> None:
    saved = editor({"id": 20, "type": "Reroute", "inputs": [slot("")]}, links=[[90, 20, 0, 20, 0, "*"]])
    saved["links"].append([91, 20, 0, 5, 0, "*"])
    with pytest.raises(InvalidRequest, match="goes round in a circle"):
        read_workflow(saved)


def test_values_without_known_names_are_asked_for_in_the_other_form() -> None:
    lora = node("LorapathLoader", model=["1", 0], lora_path="/x", lora_name="ink.safetensors", strength_model=0.5)
    workflow = plain(n8=lora, n5=changed(plain()["5"], model=["8", 0]))
    assert [adapter.name for adapter in translated(workflow).complete().adapters] == ["ink"]
    saved = drawn(workflow)
    by_id(saved, 8)["widgets_values"] = ["/x", "ink.safetensors", 0.5]
    assert "export the workflow in ComfyUI's API format" in translated(saved).troubles[0].reason


# --- whatever comes


def test_a_chain_without_end_is_refused() -> None:
    chain = {str(n): node("ModelSamplingSD3", model=[str(n + 1), 0], shift=3.0) for n in range(100, 1100)}
    found = translated(plain(n5=changed(plain()["5"], model=["100", 0])) | chain)
    assert any("nodes away from the end" in trouble.reason for trouble in found.troubles)


_ids = st.sampled_from(list("123456789"))
_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.tuples(_ids, st.integers(-1, 3)).map(list),
)  # fmt: skip
_names = st.sampled_from(sorted({name for kind in KINDS.values() for name in kind.values or ()} | {
    "model", "clip", "vae", "positive", "negative", "latent_image", "samples", "pixels", "image", "images", "mask",
    "conditioning", "latent", "sampler", "sigmas", "guider", "noise", "image1", "image2",
}))  # fmt: skip


def _any_node(kind: str, inputs: Json) -> Json:
    return node(kind, **inputs)


_nodes = st.builds(_any_node, st.sampled_from([*KINDS, "New"]), st.dictionaries(_names, _values))


@settings(max_examples=150)
@given(st.dictionaries(_ids, _nodes, max_size=4), st.booleans())
def test_whatever_a_graph_holds_only_our_errors_come_of_it(nodes: Json, as_drawn: bool) -> None:
    workflow = json.loads(json.dumps(plain() | nodes))
    try:
        found = translated(drawn(workflow) if as_drawn else workflow)
        assert list(lines_of(found)) and json.dumps(record_of(found))
        assert found.request or found.troubles or found.missing
        found.complete()
    except LimnerError as error:
        assert error.message.endswith(".")


def test_the_table_says_what_becomes_of_every_node() -> None:
    kinds = [kind for group in GROUPS.values() for kind in group]
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert all(kind.name and kind.becomes for kind in kinds)
    assert not REASONS.keys() & ({kind.name for kind in kinds} | EDITOR_ONLY.keys())


def test_a_workflow_is_explained_in_words() -> None:
    workflow = plain(n4=changed(plain()["4"], width=65), n8=node("SomethingNew"))
    lines = list(lines_of(translated(workflow)))
    assert lines[0] == "Runs natively: 64x96 with checkpoint `dream`."
    assert lines[1:4] == [
        "  stage 1 (node 5): 64x96 · 4 steps · cfg 5 · euler, normal · seed 7",
        "  prompt: a red boat",
        "  negative: fog",
    ]
    assert "  node 8: `SomethingNew` leads to no picture that is painted." in lines
    lines = list(lines_of(translated(plain(n5=changed(plain()["5"], scheduler="x")))))
    assert lines[0] == "Cannot be run natively as it stands."
    assert lines[1:3][0] == "Not supported:" and lines[2].startswith("  node 5 (`KSampler`) wants schedule 'x'")
