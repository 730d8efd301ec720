"""`limner models add`, `pull` and `remove`: what changes which checkpoints there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, json_option

if TYPE_CHECKING:
    from limner.backends.catalogue import Catalogue
    from limner.config import Settings
    from limner.engine.checkpoints import CheckpointEntry

NAMED_FILES = 12
"""How many files are named before the rest is only counted."""


@click.command(name="add", short_help="Use a file, a folder, or a repository of the hub.")
@click.argument("what", metavar="PATH|HUB_ID")
@json_option
@click.pass_obj
def add(application: Application, what: str) -> None:
    """Use a checkpoint file, a folder of them, or a repository of the Hugging Face hub.

    A path stays where it is and is remembered: a safetensors or GGUF file, a diffusers folder, a models folder of
    ComfyUI, A1111 or Forge, or a Hugging Face cache. What is no path but of the form owner/name is fetched, as by
    `limner models pull`.
    """
    from limner.engine.hub import looks_like_hub_id

    settings = application.settings()
    path = Path(what).expanduser()
    # What begins with a folder that is there was meant as a path.
    if not path.exists() and looks_like_hub_id(what) and not path.parent.is_dir():
        _pull(application, settings, what, None, (), ())
        return
    catalogue = _catalogue(settings)
    added = catalogue.add(Path(what))
    if not application.as_json:
        if added.known:
            application.say("This is looked through already; nothing had to be remembered.")
        if added.parts:
            application.say(f"Parts of checkpoints: {_listed([str(part) for part in added.parts])}.")
    _answer(application, settings, catalogue, list(added.entries), parts=[str(part) for part in added.parts])


@click.command(name="pull", short_help="Fetch a checkpoint from the Hugging Face hub.")
@click.argument("repository", metavar="HUB_ID")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit; main when absent.")
@click.option("--file", "files", metavar="NAME", multiple=True, help="Only this file; may be repeated.")
@click.option(
    "--include", "include", metavar="PATTERN", multiple=True, help="Only files that match, as *.gguf; may be repeated."
)
@json_option
@click.pass_obj
def pull(
    application: Application, repository: str, revision: str | None, files: tuple[str, ...], include: tuple[str, ...]
) -> None:
    """Fetch a checkpoint from the Hugging Face hub into the models folder.

    Weights as safetensors or GGUF, configurations and tokenizers; no pickles, and no second copy of the same weights.
    Interrupt it at any time: doing it again goes on where it was. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are
    honoured.

    \b
    limner models pull Tongyi-MAI/Z-Image-Turbo
    limner models pull Comfy-Org/z_image_turbo --include 'split_files/*/*bf16*'
    limner models pull unsloth/Qwen3-4B-GGUF --file Qwen3-4B-Q8_0.gguf
    """
    _pull(application, application.settings(), repository, revision, files, include)


@click.command(name="remove", short_help="Forget what was added; delete what was fetched.")
@click.argument("name", metavar="NAME")
@click.option("--delete-files", is_flag=True, help="Delete the files, which only those have that limner fetched.")
@json_option
@click.pass_obj
def remove(application: Application, name: str, delete_files: bool) -> None:
    """Forget a checkpoint, file or folder that was added, or delete a checkpoint that was fetched.

    NAME is a checkpoint's name, a path, or a repository of the hub. Files that limner did not fetch are never touched.
    """
    from limner.cli.models import told_size
    from limner.errors import Refused

    catalogue = _catalogue(application.settings())
    removal = catalogue.removal(name)
    names: list[str] = []
    if removal.fetched is not None:
        names = [str(file) for file in removal.files]
        what = f"{len(names)} files of `{removal.fetched.repository}`, {told_size(removal.size_bytes)}"
        if not delete_files:
            raise Refused(
                f"`{name}` was fetched: {what}, in `{removal.fetched.folder}`. Add --delete-files to delete them.",
                files=names,
            )
        application.say(f"Deleting {what}: {_listed(names)}.")
    elif delete_files:
        raise Refused(
            f"`{removal.forget}` was not fetched by limner, which never deletes other files. "
            "Leave --delete-files out to forget it."
        )
    catalogue.remove(removal)
    if application.as_json:
        application.answer_json({"forgotten": str(removal.forget or ""), "deleted": names})
    elif removal.forget is not None:
        application.answer(f"Forgot {removal.forget}; nothing was deleted.")
    else:
        application.answer(f"Deleted {len(names)} files.")


def _pull(
    application: Application,
    settings: Settings,
    repository: str,
    revision: str | None,
    files: tuple[str, ...],
    include: tuple[str, ...],
) -> None:
    from limner.backends.catalogue import lora_folders
    from limner.cli.fetching import Fetching
    from limner.cli.models import told_size
    from limner.engine.checkpoint_index import Fetched
    from limner.engine.hub import fetch, plan_fetch

    catalogue = _catalogue(settings)
    index = catalogue.index
    plan = plan_fetch(repository, catalogue.models_dir, revision=revision, files=files, include=include)
    for name, why in plan.left_out:
        application.say(f"Left out: {name} ({why}); --file {name} fetches it.")
    application.say(f"Fetching {len(plan.files)} files, {told_size(plan.size_bytes)}, into {plan.folder}")
    # Noted before anything arrives, so that an interrupted one can be removed as well.
    names = tuple(file.name for file in plan.files)
    index.record(Fetched(repository, plan.revision, str(plan.folder), names))
    with Fetching(application, plan.size_bytes) as display:
        paths = fetch(plan, display.tell, index.sha256)
    for file, path in zip(plan.files, paths, strict=True):
        if file.sha256:
            index.learn(path, sha256=file.sha256)
    index.save()
    entries = [entry for entry in catalogue.entries() if entry.path.is_relative_to(plan.folder)]
    if not entries and not application.as_json:
        adapters = plan.folder in lora_folders(settings.native)
        application.say(
            "It holds LoRAs; `limner loras` lists them."
            if adapters
            else "It holds no checkpoint of its own; its files serve as parts of others."
        )
    _answer(application, settings, catalogue, entries, revision=plan.revision, files=[str(path) for path in paths])


def _answer(
    application: Application,
    settings: Settings,
    catalogue: Catalogue,
    entries: list[CheckpointEntry],
    **more: Any,
) -> None:
    from limner.cli.models import entry_record, told_size

    for note in catalogue.notes():
        application.warn(note)
    if application.as_json:
        application.answer_json({"models": [entry_record(entry, settings) for entry in entries], **more})
        return
    for entry in entries:
        facts = [entry.family or "unknown", entry.layout, entry.dtype, told_size(entry.size_bytes)]
        application.answer(f"{entry.name}  {' · '.join(fact for fact in facts if fact)}")
        if entry.problem:
            application.answer(f"  cannot paint yet: {entry.problem}")


def _catalogue(settings: Settings) -> Catalogue:
    from limner.cli.models import catalogue_of

    return catalogue_of(settings)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED_FILES])
    return shown if len(names) <= NAMED_FILES else f"{shown} and {len(names) - NAMED_FILES} more"
