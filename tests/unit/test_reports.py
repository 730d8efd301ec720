"""What a worker says of itself, with the checkpoint and the adapter that come with limner."""

from __future__ import annotations

import shutil
from pathlib import Path

from limner.backends import native
from limner.config import Settings, load_settings
from limner.domain import GenerationRequest
from limner.engine.adapters import judge_adapter
from limner.engine.checkpoints import find_checkpoint
from limner.engine.families.zimage_weights import header_targets
from limner.engine.residency import Residency
from limner.reports import WorkerReport
from limner.studio import Studio
from limner.workflows.adapters import shipped_adapters


def settings_of(home: Path) -> Settings:
    return load_settings({"home": str(home), "native": {"device": "cpu"}}, environ={}, folder=home)


def test_headers_tell_the_layers_that_the_loaded_networks_have(tmp_path: Path) -> None:
    places = native.places_of(settings_of(tmp_path).native)
    files = find_checkpoint("sketchbook", places.models_dir, places.builtin_dir)
    family = Residency(places).get().family
    assert header_targets(files) == family.adapter_targets()


def test_a_judged_adapter_has_the_outcome_of_a_loaded_one(tmp_path: Path) -> None:
    places = native.places_of(settings_of(tmp_path).native)
    residency = Residency(places)
    checkpoint = residency.get()
    file = shipped_adapters() / "ink.safetensors"
    loaded = residency.adapter(file, checkpoint)
    judged = judge_adapter(file, checkpoint.family.adapter_targets(), "zimage", checkpoint="sketchbook")
    assert (judged.status, judged.matched, judged.total) == (loaded.status, loaded.matched, loaded.total)
    assert judged.adapter is None


async def test_the_report_tells_models_adapters_and_figures(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "broken.safetensors").write_bytes(b"nothing")
    async with Studio(settings) as studio:
        report = WorkerReport(settings, studio)
        assert report()["models"] == []
        report.look()
        told = report()
        (model,) = told["models"]
        assert (model["name"], model["problem"], len(model["sha256"])) == ("sketchbook", "", 64)
        fits = {row["name"]: row["fits"]["sketchbook"] for row in told["adapters"]}
        assert fits["ink"]["status"] == "applied" and fits["ink"]["matched"] == fits["ink"]["total"] > 0
        assert fits["broken"]["status"] == "skipped" and "broken.safetensors" in fits["broken"]["reason"]
        assert told["statistics"]["memory_resident_bytes"] > 1e6 and told["loaded"] == []

        shutil.copy(shipped_adapters() / "ink.safetensors", adapters / "later.safetensors")
        report.look()
        assert "later" in {row["name"] for row in report()["adapters"]}

        request = GenerationRequest(prompt="a red cat", preset="single", width=64, height=64, steps=2, count=2)
        (picture, _) = await studio.generate(request)
        told = report()
        figures = told["statistics"]
        assert told["loaded"] == ["sketchbook"]
        assert picture.recipe.checkpoint_sha256 == model["sha256"]
        assert figures["engine_steps_total"] >= 2
        assert figures["engine_step_pictures_total"] == 4
        assert figures["stage_0_runs_total"] == 2 and figures["stage_0_seconds_total"] > 0
