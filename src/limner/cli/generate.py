"""`limner generate`: paint."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, json_option, server_option

if TYPE_CHECKING:
    from limner.cli.running import Place
    from limner.domain import GenerationRequest

SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


class Size(click.ParamType[Any]):
    """Width and height, as `672x864`."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", str(value))
        if not found:
            self.fail(f"{value!r} is not of the form 672x864.", param, ctx)
        return int(found[1]), int(found[2])


class Lora(click.ParamType[Any]):
    """A name or path, with or without a weight behind a colon."""

    name = "NAME[:WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float | None]:
        name, colon, weight = str(value).rpartition(":")
        if not colon:
            return weight, None
        if not name.strip():
            self.fail(f"{value!r} has no name in front of the weight.", param, ctx)
        try:
            return name, float(weight)
        except ValueError:
            return str(value), None  # a colon inside a path


@click.command(name="generate")
@click.argument("prompt", required=False)
@click.option("--prompts", type=click.File(encoding="utf-8-sig"), help="A file with one prompt a line; - for stdin.")
@click.option("--negative", help="What to keep out of the picture; works where cfg is not 1.")
@click.option("--count", type=int, help="Pictures of each prompt; each has the next seed.  [default: 1]")
@click.option("--preset", help="A preset by name; see `limner presets`.")
@click.option("--size", type=Size(), metavar="WxH", help="Width and height in pixels, multiples of 16.")
@click.option("--aspect", metavar="W:H", help="The shape, such as 16:9, at the preset's area.")
@click.option("--seed", type=int, help="The same seed gives the same picture; random when absent.")
@click.option("--steps", type=int, help="Steps of the first stage.")
@click.option("--cfg", type=float, help="How closely the first stage follows the prompt.")
@click.option("--guidance", type=float, help="The guidance that FLUX.1-dev and its kin are told.")
@click.option("--clip-skip", type=int, help="CLIP's layer that is read, counted from its end (SDXL, SD 1.5).")
@click.option("--sampler", help="Sampler of every stage, such as euler or dpmpp_2m.")
@click.option("--schedule", help="Schedule of every stage, such as simple or karras.")
@click.option("--lora", "loras", type=Lora(), multiple=True, help="An adapter and its weight; may be repeated.")
@click.option(
    "--on-adapter-mismatch",
    type=click.Choice(["degrade", "fail"]),
    help="Paint without an adapter that does not fit, or fail.  [default: degrade]",
)
@click.option(
    "--image",
    "--reference",
    "images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A picture to start from; several where the checkpoint looks at them.",
)
@click.option(
    "--image-as",
    type=click.Choice(["start", "context", "stitched"]),
    help="Paint over the picture, look at each (FLUX Kontext), or at all side by side.  [default: the preset's]",
)
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    help="Which part of that picture to paint anew: white, or transparent where the file has transparency.",
)
@click.option("--denoise", type=float, help="How far to leave that picture: near 0 hardly, 1 entirely.")
@click.option("--model", help="A checkpoint by name or path; see `limner models`.")
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--backend", help="Where to paint, or auto; see `limner doctor`.")
@click.option("--fallback", multiple=True, metavar="NAME", help="A backend to try next; may be repeated.")
@click.option(
    "--format", "picture_format", type=click.Choice(["png", "jpeg", "webp"]), help="Of the files.  [default: png]"
)
@click.option("--quality", type=int, help="Quality of JPEG and WebP, 1 to 100.  [default: 92]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="here",
    help="A folder, or a file name ending in .png, .jpg or .webp. Nothing is overwritten.",
)
@server_option
@click.option("--like", type=click.Path(path_type=Path), help="Make this picture again; other flags change it.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Paint PROMPT, or every prompt of a file.

    \b
    limner generate "a red boat on the sea"
    limner generate "two yellow birds" --count 4 --preset sketch --out pictures
    limner generate "一只猫" --lora ink:0.8 --seed 7
    limner generate --like pictures/boat.png --seed 8
    limner generate "a red cup" --image table.png --mask cup.png --denoise 0.9
    limner generate "make it winter" --image garden.png --preset kontext-edit
    limner generate "a green apple" --server http://127.0.0.1:9000
    """
    application: Application = ctx.obj
    if flags["server"] and flags["device"]:
        raise click.UsageError("The server decides on its devices. Leave --device out, or --server.")
    lines = _prompts(flags)
    settings = application.settings({"native": {"device": flags["device"]}})
    changes = _changes(flags, settings.lora.default_strength)
    original = None
    if flags["like"]:
        from limner.cli.like import Original

        original = Original(flags["like"])
        for note in original.notes:
            application.say(f"note: {note}")
    on_server = bool(flags["server"])
    requests = [_request(original, changes | ({} if line is None else {"prompt": line}), on_server) for line in lines]
    if flags["quality"] and requests[0].output.format == "png":
        raise click.UsageError("--quality is for JPEG and WebP. Add --format jpeg or --format webp.")
    place = _place(flags["out"])
    if on_server:
        from limner.cli.sending import Sending

        ctx.exit(Sending(application, flags["server"], original, place).run(requests))
    from limner.cli.painting import Painting

    if original is not None:
        settings = original.repeating(settings)
    ctx.exit(Painting(application, settings, original, place).run(requests))


def _prompts(flags: dict[str, Any]) -> list[str | None]:
    prompt, file = flags["prompt"], flags["prompts"]
    if prompt is not None and file is not None:
        raise click.UsageError("Give either a prompt or --prompts, not both.")
    if file is None:
        return [prompt]
    try:
        lines = [line.strip() for line in file]
    except UnicodeDecodeError as error:
        raise click.UsageError(f"The file of prompts is not UTF-8 text ({error}).") from error
    prompts: list[str | None] = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise click.UsageError("The file of prompts holds no prompt.")
    return prompts


def _changes(flags: dict[str, Any], default_strength: float) -> dict[str, Any]:
    names = ("count", "preset", "seed", "steps", "cfg", "sampler", "schedule", "denoise", "model", "backend",
             "guidance", "clip_skip")  # fmt: skip
    changes = {name: flags[name] for name in (*names, "on_adapter_mismatch")}
    changes |= {"negative_prompt": flags["negative"], "aspect_ratio": flags["aspect"]}
    if flags["size"]:
        changes["width"], changes["height"] = flags["size"]
    if flags["loras"]:
        changes["adapters"] = [
            {"name": name, "weight": default_strength if weight is None else weight} for name, weight in flags["loras"]
        ]
    if flags["images"]:
        changes["references"] = [{"path": str(image)} for image in flags["images"]]
    changes["references_as"] = flags["image_as"]
    changes["fallback"] = list(flags["fallback"]) or None
    if flags["mask"]:
        changes["mask"] = {"path": str(flags["mask"])}
    suffix_format = SUFFIXES.get(flags["out"].suffix.lower())
    picture_format = flags["picture_format"] or suffix_format
    if suffix_format and picture_format != suffix_format:
        raise click.UsageError(f"--format {picture_format} and the name {flags['out'].name} contradict each other.")
    output = {"format": picture_format, "quality": flags["quality"]}
    changes["output"] = {name: value for name, value in output.items() if value is not None} or None
    return {name: value for name, value in changes.items() if value is not None}


def _request(original: Any, changes: dict[str, Any], on_server: bool) -> GenerationRequest:
    from limner.domain import GenerationRequest
    from limner.validation import checked

    return original.request(changes, on_server) if original else checked(GenerationRequest, changes)


def _place(out: Path) -> Place:
    from limner.cli.running import Place

    if out.suffix.lower() in SUFFIXES:
        return Place(out.parent, out.stem, out.suffix)
    kind, _ = mimetypes.guess_type(out.name)
    if kind and kind.startswith("image/") and not out.is_dir():
        raise click.UsageError(f"Pictures of the form {out.suffix} are not written. Choose .png, .jpg or .webp.")
    return Place(out)
