"""Plans: sizes keep their proportion, seeds never meet, and what overrides what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.domain import (
    MAX_SEED,
    MAX_SIDE,
    MIN_SIDE,
    SAMPLERS,
    SCHEDULES,
    AdapterRequest,
    CacheSettings,
    GenerationRequest,
    Plan,
    Recipe,
    Reference,
    Stage,
)
from limner.errors import InvalidRequest
from limner.workflows.plans import derived_seed, make_plans, replayed, size_of_aspect, with_triggers
from limner.workflows.presets import Preset, Presets

LETTERS = st.characters(exclude_categories=["Cc", "Cs"], include_characters="\t\n")

PRESETS = {name: Presets().get(name) for name in Presets().names()}
PICTURE = (Reference(path="cat.png"),)

sides = st.integers(MIN_SIDE // 16, MAX_SIDE // 16).map(lambda n: n * 16)
seeds = st.integers(0, MAX_SEED)
presets = st.sampled_from(list(PRESETS.values()))
requests = st.builds(
    GenerationRequest,
    prompt=st.text(LETTERS, max_size=20),
    negative_prompt=st.text(LETTERS, max_size=20),
    count=st.integers(1, 8),
    seed=seeds,
    steps=st.none() | st.integers(1, 200),
    cfg=st.none() | st.floats(0, 30),
    sampler=st.none() | st.sampled_from(SAMPLERS),
    schedule=st.none() | st.sampled_from(SCHEDULES),
    shift=st.none() | st.floats(0.1, 100),
    cache=st.none() | st.just(CacheSettings()),
    references=st.sampled_from([(), PICTURE]),
    adapters=st.lists(
        st.builds(AdapterRequest, name=st.just("ink"), trigger=st.text(LETTERS, max_size=5)), max_size=2
    ).map(tuple),
)


def _plans(request: GenerationRequest, preset: str | Preset = "progressive") -> tuple[Plan, ...]:
    chosen = PRESETS[preset] if isinstance(preset, str) else preset
    return make_plans(request, chosen, default_seed_source=lambda: 99)


def _plan(preset: str = "progressive", **fields: object) -> Plan:
    (plan,) = _plans(GenerationRequest.model_validate(fields), preset)
    return plan


def _recipe(request: GenerationRequest, plan: Plan) -> Recipe:
    return Recipe(
        request=request, plan=plan, checkpoint="c", checkpoint_sha256="0", family="f", device="cpu", precision={}
    )


# --- sizes


@given(preset=presets, width=sides, height=sides)
def test_every_size_is_paintable_and_the_last_one_is_exact(preset: Preset, width: int, height: int) -> None:
    (plan,) = _plans(GenerationRequest(width=width, height=height), preset)
    assert (plan.width, plan.height) == (width, height)
    for stage in plan.stages:
        assert Stage.model_validate(stage.model_dump()) == stage


@given(width=sides, height=sides)
def test_stages_keep_their_proportion_to_the_last(width: int, height: int) -> None:
    (plan,) = _plans(GenerationRequest(width=width, height=height))
    for stage, own in zip(plan.stages, PRESETS["progressive"].stages, strict=True):
        for side, exact in ((stage.width, own.width * width / 672), (stage.height, own.height * height / 864)):
            assert side == MIN_SIDE or abs(side - exact) <= 8


@given(across=st.integers(1, 40), down=st.integers(1, 40))
def test_an_aspect_keeps_the_area_or_is_refused(across: int, down: int) -> None:
    try:
        width, height = size_of_aspect(f"{across}:{down}", 672, 864)
    except InvalidRequest as error:
        assert max(across / down, down / across) > 28
        assert error.message.endswith("Choose a shape between 1:28 and 28:1.")
        return
    assert abs(width * height / (672 * 864) - 1) < 0.15
    assert abs(width - height * across / down) <= 8 + 8 * across / down


def test_known_aspects_give_these_sizes() -> None:
    sizes = [(plan.width, plan.height) for plan in (_plan(aspect_ratio=a) for a in ("1:1", "16:9", "9:16", "7:9"))]
    assert sizes == [(768, 768), (1008, 576), (576, 1008), (672, 864)]


def test_without_a_size_the_preset_stays_as_it_is() -> None:
    sizes = [(stage.width, stage.height) for stage in _plan().stages]
    assert sizes == [(176, 224), (336, 432), (672, 864)]


# --- seeds


@given(request=requests, preset=presets)
def test_no_two_noise_streams_of_a_plan_are_the_same(request: GenerationRequest, preset: Preset) -> None:
    for plan in _plans(request, preset):
        streams = [seed for stage in plan.stages for seed in (stage.noise_seed, stage.stream_seed)]
        assert len({*streams, None}) == len(streams) + 1


@given(seed=seeds, count=st.integers(1, 64))
def test_picture_i_has_seed_plus_i(seed: int, count: int) -> None:
    plans = _plans(GenerationRequest(seed=seed, count=count))
    assert [plan.seed for plan in plans] == [(seed + i) % 2**64 for i in range(count)]
    assert [plan.stages[0].noise_seed for plan in plans] == [plan.seed for plan in plans]


@given(seed=seeds, index=st.integers(0, 7))
def test_a_picture_of_several_is_the_picture_of_its_own_seed(seed: int, index: int) -> None:
    several = _plans(GenerationRequest(seed=seed, count=8))
    assert several[index] == _plans(GenerationRequest(seed=(seed + index) % 2**64))[0]


def test_an_absent_seed_is_drawn_once() -> None:
    assert [plan.seed for plan in _plans(GenerationRequest(count=3))] == [99, 100, 101]


def test_derived_seeds_never_change() -> None:
    assert derived_seed(0, 0, "stream") == 14882987382063924718
    assert derived_seed(MAX_SEED, 2, "noise") == 13741872060987885308


def test_seeds_of_explicit_stages_are_kept_and_counted_on() -> None:
    stages = [
        {"width": 64, "height": 64, "noise_seed": 5, "stream_seed": 6},
        {"width": 128, "height": 128, "noise_seed": MAX_SEED},
    ]
    first, second = _plans(GenerationRequest.model_validate({"stages": stages, "seed": 1, "count": 2}))
    assert [(stage.noise_seed, stage.stream_seed) for stage in first.stages] == [
        (5, 6),
        (MAX_SEED, derived_seed(1, 1, "stream")),
    ]
    assert [(stage.noise_seed, stage.stream_seed) for stage in second.stages] == [
        (6, 7),
        (0, derived_seed(2, 1, "stream")),
    ]


# --- what overrides what


def test_steps_and_cfg_reach_the_first_stage_only() -> None:
    assert [(stage.steps, stage.cfg) for stage in _plan(steps=3, cfg=5).stages] == [(3, 5), (16, 1), (16, 1)]


def test_their_names_in_wide_use_mean_the_same() -> None:
    assert _plan(num_inference_steps=3, guidance_scale=5) == _plan(steps=3, cfg=5)


def test_sampler_schedule_shift_and_cache_reach_every_stage() -> None:
    cache = CacheSettings(reuse_threshold=1)
    plan = _plan(sampler="heun", schedule="karras", shift=1.5, cache=cache)
    assert {(s.sampler, s.schedule, s.shift, s.cache) for s in plan.stages} == {("heun", "karras", 1.5, cache)}


def test_a_one_stage_plan_takes_everything() -> None:
    (stage,) = _plan("single", steps=3, cfg=5, sampler="lcm", width=128, height=64).stages
    assert (stage.steps, stage.cfg, stage.sampler, stage.width, stage.height) == (3, 5, "lcm", 128, 64)


@pytest.mark.parametrize(("preset", "expected"), [("single", [0.6]), ("progressive", [0.7, 0.7, 0.6])])
def test_a_reference_picture_starts_the_first_stage(preset: str, expected: list[float]) -> None:
    assert [stage.denoise for stage in _plan(preset, references=PICTURE).stages] == expected
    assert _plan(preset, references=PICTURE, denoise=0.3).stages[0].denoise == 0.3


def test_a_first_stage_with_its_own_denoise_keeps_it() -> None:
    stages = [{"width": 64, "height": 64, "denoise": 0.2}]
    assert _plan(stages=stages, references=PICTURE).stages[0].denoise == 0.2


def test_denoise_without_a_reference_picture_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"there is none\. Add a picture or leave denoise out"):
        _plan(denoise=0.5)


def test_a_first_stage_with_nothing_to_start_from_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"denoise 0\.5 and nothing to start from"):
        _plan(stages=[{"width": 64, "height": 64, "denoise": 0.5}])


# --- prompts


@pytest.mark.parametrize(
    ("trigger", "prompt", "expected"),
    [("ink style", "a cat", "ink style, a cat"), ("ink style", "", "ink style"), ("", "a cat, ", "a cat, ")],
)
def test_trigger_words_go_in_front(trigger: str, prompt: str, expected: str) -> None:
    assert with_triggers(prompt, [AdapterRequest(name="ink", trigger=trigger)]) == expected


def test_the_first_adapters_words_come_first() -> None:
    adapters = [AdapterRequest(name="a", trigger="one"), AdapterRequest(name="b", trigger="two")]
    assert with_triggers("a cat", adapters) == "one, two, a cat"


# --- again


@given(request=requests, preset=presets)
def test_a_replayed_recipe_gives_the_same_plan(request: GenerationRequest, preset: Preset) -> None:
    for plan in _plans(request, preset):
        again = replayed(_recipe(request, plan))
        assert _plans(again, PRESETS["sketch"]) == (plan,)
        assert GenerationRequest.model_validate_json(again.model_dump_json()) == again


def test_an_adapter_for_a_stage_that_is_not_there_is_an_error() -> None:
    request = GenerationRequest.model_validate({"adapters": [{"name": "ink", "stages": [0, 3]}]})
    with pytest.raises(InvalidRequest, match="Adapter `ink` is for stage 3, and the picture has 3"):
        make_plans(request, Presets().get("progressive"), default_seed_source=lambda: 1)


def test_pictures_that_are_looked_at_give_the_size_where_the_request_tells_none() -> None:
    preset = Presets().get("kontext-edit")

    def size(**fields: object) -> tuple[int, int]:
        request = GenerationRequest.model_validate({"references_as": "context"} | fields)
        (plan,) = make_plans(request, preset, default_seed_source=lambda: 1, context_size=(832, 1248))
        return plan.width, plan.height

    assert size() == (832, 1248)
    assert size(width=512, height=768) == (512, 768)
    assert size(aspect_ratio="1:1") == (1024, 1024)
