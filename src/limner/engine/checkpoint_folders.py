"""Where things lie in the folders that people have: limner's own, ComfyUI's, A1111's, a Hugging Face cache.

Everything is found in place. This module looks at names of folders and files only and opens none, except the short
text that says which revision of a cached repository is current.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WEIGHT_SUFFIXES = (".safetensors", ".gguf")
# Other formats are listed as well, with the reason why they are refused.
LISTED_SUFFIXES = (*WEIGHT_SUFFIXES, ".ckpt", ".pt", ".pth", ".bin")
DENOISER_FOLDERS = ("diffusion_models", "unet", "checkpoints", "Stable-diffusion")
LORA_FOLDERS = ("loras", "Lora")
FETCHED_FOLDER = "fetched"
"""Below the models folder: what `limner models pull` fetched, by owner and name."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
# The same kind of part under the names that other programs give its folder.
_ALSO = {
    "vae": ("vae", "VAE"),
    "text_encoders": ("text_encoders", "text_encoder", "text_encoder_2", "text_encoder_3"),
    "clip": ("clip", "CLIP"),
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")


@dataclass(frozen=True)
class Root:
    """A folder with things of one origin, which belong together: partners of a file are looked for here first.

    Args:
        path: the folder.
        builtin: whether it came with limner.
        published: the repository that it is a copy of, as `owner/name`; empty for other folders.
        anywhere: whether weights may lie in any folder of it, as they do in repositories.
    """

    path: Path
    builtin: bool = False
    published: str = ""
    anywhere: bool = False

    @property
    def name(self) -> str:
        """What it is called where things of several roots have to be told apart."""
        return self.published or self.path.name


@dataclass(frozen=True)
class Found:
    """Something that is a checkpoint if its tensors say so; `loose` files may as well be a part or a LoRA."""

    name: str
    path: Path
    root: Root
    loose: bool = False


def roots_of(folder: Path, builtin: bool = False) -> Iterator[Root]:
    """The folder itself, and what lies in it of other programs' making; nothing where it is closed or is none."""
    if not is_folder(folder) or why_closed(folder):
        return
    yield Root(folder, builtin)
    for inside in (*sorted(_folders(folder)), *sorted(_folders(folder / "diffusers"))):
        if is_diffusers(inside):
            yield Root(inside, builtin)
    # An installation of ComfyUI or A1111 keeps its models one level deeper.
    if (inside := folder / "models").is_dir() and _is_models_folder(inside):
        yield Root(inside, builtin)
    for owner in sorted(_folders(folder / FETCHED_FOLDER)):
        for repository in sorted(_folders(owner)):
            yield from _repository(repository, f"{owner.name}/{repository.name}")
    for cache in (folder, folder / "hub"):
        for repository in sorted(inside for inside in _folders(cache) if inside.name.startswith("models--")):
            if (snapshot := _current(repository)) is not None:
                yield from _repository(snapshot, repository.name.removeprefix("models--").replace("--", "/", 1))


def checkpoints_in(root: Root) -> Iterator[Found]:
    """Everything in the root that may be a checkpoint, by the name that it gets."""
    for folder in (root.path, *sorted(_folders(root.path)), *sorted(_folders(root.path / "diffusers"))):
        if is_diffusers(folder):
            published = root.published.rpartition("/")[2] if folder == root.path else ""
            yield Found(published or folder.name, folder, root)
            if folder == root.path:
                return
    for folder in (root.path, root.path / "diffusers", root.path / FETCHED_FOLDER):
        for closed in sorted(inside for inside in _all_folders(folder) if why_closed(inside)):
            yield Found(closed.name, closed, root)
    for kind in DENOISER_FOLDERS:
        place = root.path / kind
        for file in sorted(place.rglob("*")) if place.is_dir() else ():
            if file.suffix in LISTED_SUFFIXES:
                yield Found(file.relative_to(place).with_suffix("").as_posix(), file, root)
    for file in loose_files(root):
        yield Found(file.stem, file, root, loose=True)


def loose_files(root: Root) -> list[Path]:
    """Weights that lie in the root itself, or in any unknown folder of a repository; shards are not among them."""
    if not is_folder(root.path) or why_closed(root.path):
        return []
    known = {*DENOISER_FOLDERS, *LORA_FOLDERS, "split_files", *(name for names in _ALSO.values() for name in names)}
    files = sorted(root.path.rglob("*") if root.anywhere else root.path.iterdir())
    return [
        file
        for file in files
        if file.suffix in WEIGHT_SUFFIXES
        and not _SHARD.search(file.name)
        and not known & set(file.relative_to(root.path).parts[:-1])
    ]


def parts_in(root: Root, folders: tuple[str, ...]) -> list[Path]:
    """Files (and folders of shards) of the root that may be a part which is kept in folders of these names."""
    found: list[Path] = []
    diffusers = is_diffusers(root.path)
    for kind in folders:
        for name in dict.fromkeys(_ALSO.get(kind, (kind,))):
            place = root.path / name
            for file in sorted(place.rglob("*")) if place.is_dir() else ():
                if file.suffix in WEIGHT_SUFFIXES and not _SHARD.search(file.name):
                    # There the folder says more than the file: it has the part's configuration.
                    found.append(file.parent if diffusers else file)
                elif file.name.endswith(".safetensors.index.json"):
                    found.append(file.parent)
    found += loose_files(root)
    if root.anywhere and any(root.path.glob("*.safetensors.index.json")):
        found.append(root.path)
    return list(dict.fromkeys(found))


def own_root(path: Path) -> Root:
    """The root that a file named by its path lies in: the folder around `diffusion_models` and the like, else its own.

    A folder of a text encoder in a repository is its own root.
    """
    for folder in path.parents:
        if folder.name in DENOISER_FOLDERS:
            return Root(folder.parent)
    return Root(path.parent)


def lora_folders_in(folder: Path) -> list[Path]:
    """The folders of LoRAs in a folder that the settings name."""
    return [root.path / name for root in roots_of(folder) for name in LORA_FOLDERS if (root.path / name).is_dir()]


def is_diffusers(folder: Path) -> bool:
    """Whether the folder is a checkpoint as diffusers writes it."""
    return not why_closed(folder) and (folder / "model_index.json").is_file()


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies in the folder."""
    return not why_closed(folder) and any((folder / file).is_file() for file in TOKENIZER_FILES)


def why_closed(folder: Path) -> str:
    """Why the folder cannot be looked into; empty where it can, and where there is none."""
    try:
        os.scandir(f"{folder}/.").close()  # the dot takes the permission to go in, not to list alone
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def is_folder(path: Path) -> bool:
    """Whether there is a folder at the path; not, as far as one can tell, where its own folder is closed."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_models_folder(folder: Path) -> bool:
    return any((folder / kind).is_dir() for kind in (*DENOISER_FOLDERS, *LORA_FOLDERS, "diffusers"))


def _repository(folder: Path, published: str) -> Iterator[Root]:
    yield Root(folder, published=published, anywhere=True)
    if (inside := folder / "split_files").is_dir():
        yield Root(inside, published=published)


def _current(repository: Path) -> Path | None:
    """The snapshot that a cached repository's `main` means, else the newest one."""
    snapshots = list(_folders(repository / "snapshots"))
    main = repository / "refs" / "main"
    try:
        named = repository / "snapshots" / main.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):  # the newest one does as well
        named = None
    if named in snapshots:
        return named
    return max(snapshots, key=lambda folder: folder.stat().st_mtime, default=None)


def _folders(folder: Path) -> Iterator[Path]:
    """The folders in a folder that can be looked into."""
    return (inside for inside in _all_folders(folder) if not why_closed(inside))


def _all_folders(folder: Path) -> Iterator[Path]:
    if not is_folder(folder) or why_closed(folder):
        return
    for inside in folder.iterdir():
        # Every disk has its `lost+found`, which is closed and no concern of ours.
        if is_folder(inside) and not inside.name.startswith(".") and inside.name != "lost+found":
            yield inside
