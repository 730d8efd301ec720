"""`limner presets`: what `--preset` can be."""

from __future__ import annotations

import click

from limner.cli.application import Application, json_option

SAID = {"family", "negative_prompt", "clip_skip", "references_as"}


@click.command(name="presets")
@json_option
@click.pass_obj
def command(application: Application) -> None:
    """List the presets, shipped ones and your own."""
    from limner.cli.inspect import stage_line
    from limner.studio import presets_of
    from limner.workflows.families import FACTS

    settings = application.settings()
    presets = presets_of(settings)
    rows = presets.list()
    if application.as_json:
        answer = [
            {
                "name": row.name,
                "default": row.name == presets.default,
                "description": row.preset.description if row.preset else "",
                "shipped": row.shipped,
                "shadows": row.shadows,
                "path": row.path,
                "problem": row.problem,
                **(row.preset.model_dump(include=SAID) if row.preset else {}),
                "stages": [stage.model_dump(mode="json") for stage in row.preset.stages] if row.preset else [],
            }
            for row in rows
        ]
        application.answer_json({"presets": answer})
        return
    for row in rows:
        remarks = ["default"] if row.name == presets.default else []
        if row.preset and row.preset.family in FACTS:
            remarks.append(f"for {FACTS[row.preset.family].title}")
        remarks += [] if row.shipped else [row.path]
        remarks += ["goes before the shipped one"] if row.shadows else []
        application.answer(row.name + (f" ({', '.join(remarks)})" if remarks else ""))
        if row.preset is None:
            application.answer(f"  cannot be used: {row.problem}")
            continue
        if row.preset.description:
            application.answer(f"  {row.preset.description}")
        for stage in row.preset.stages:
            application.answer(f"  {stage_line(stage)}")
    if presets.default not in {row.name for row in rows}:
        application.warn(f"Preset `{presets.default}`, which the settings name, is not here. Correct it or add it.")
    application.say(f"Presets of your own go into {settings.presets_dir}, as NAME.toml.")
