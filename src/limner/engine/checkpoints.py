"""Find checkpoints on the disk; never over a network.

A checkpoint is a diffusers folder, ComfyUI's split files, or one file that holds all parts. It is recognised by its
tensors, never by its name. Invariant: headers alone are read, and torch is not needed for that.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limner.engine.needs import FAMILIES, Need
from limner.engine.signatures import recognise, title
from limner.engine.tensor_files import TensorSource, files_sha256, open_tensors, some
from limner.errors import BrokenCheckpoint, LimnerError, NotFound, Unsupported

TRANSFORMER_FOLDERS = ("diffusion_models", "unet")
WHOLE_FOLDERS = ("checkpoints",)
WHOLE_PREFIX = "model.diffusion_model."
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")

Layout = Literal["diffusers", "split", "whole"]


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the parts of a checkpoint lie: folders (diffusers) or files; one file may hold several parts.

    `parts` are called as diffusers calls them: `transformer` (the denoiser, whatever it is), `text_encoder`,
    `text_encoder_2`, `tokenizer`, `tokenizer_2`, `vae`.
    """

    name: str
    family: str
    layout: Layout
    path: Path
    parts: Mapping[str, Path]
    builtin: bool = False

    @property
    def transformer(self) -> Path:
        """The denoiser."""
        return self.parts["transformer"]

    @property
    def text_encoder(self) -> Path:
        """The first text encoder."""
        return self.parts["text_encoder"]

    @property
    def tokenizer(self) -> Path:
        """The folder of the first text encoder's tokenizer."""
        return self.parts["tokenizer"]

    @property
    def vae(self) -> Path:
        """The autoencoder."""
        return self.parts["vae"]

    def sha256(self) -> str:
        """The hash of the denoiser's weights, remembered until a file changes."""
        return files_sha256(open_tensors(self.transformer).files)


@dataclass(frozen=True)
class CheckpointEntry:
    """One line of the list of checkpoints; `problem` says why it cannot be painted with, and is empty otherwise."""

    name: str
    family: str
    path: Path
    size_bytes: int
    problem: str = ""
    builtin: bool = False


@dataclass(frozen=True)
class Given:
    """Parts that a setting names explicitly, where they are not where limner would look."""

    text_encoder: Path | None = None
    vae: Path | None = None
    tokenizer: Path | None = None

    def part(self, name: str) -> Path | None:
        """The part of that name, None where it is not given."""
        return vars(self).get(name)


def find_checkpoint(
    name_or_path: str, models_dir: Path, builtin_dir: Path, given: Given | None = None
) -> CheckpointFiles:
    """The files of a checkpoint.

    Args:
        name_or_path: a name from `list_checkpoints`, a diffusers folder, or a transformer's safetensors file.
        models_dir: ComfyUI's kind of folder: diffusers folders, `diffusion_models/`, `text_encoders/`, `vae/`.
        builtin_dir: the folder that holds the built-in checkpoints.
        given: parts to use instead of those found beside it.

    Raises:
        NotFound: there is nothing of that name; the message lists the nearest ones.
        BrokenCheckpoint: a part is missing; the message says which and where it belongs.
        Unsupported: it belongs to an architecture that this version does not paint.
    """
    given = given or Given()
    places = _places(models_dir, builtin_dir)
    wanted = name_or_path if name_or_path in places else name_or_path.removesuffix(".safetensors")
    if wanted in places:
        path, builtin = places[wanted]
    else:
        wanted, path, builtin = "", Path(name_or_path).expanduser(), False
        if not path.exists():
            near = difflib.get_close_matches(name_or_path, places, n=3, cutoff=0.4) or sorted(places)
            hint = f"Known: {some(near)}." if near else f"Put checkpoints into `{models_dir}`."
            raise NotFound(f"There is no checkpoint `{name_or_path}`. {hint}", name=name_or_path, near=near[:3])
    name = wanted or (path.name if path.is_dir() else path.stem)
    if path.is_dir():
        return _folder(name, path, given, builtin)
    return _files(name, path, models_dir, given)


def list_checkpoints(models_dir: Path, builtin_dir: Path, given: Given | None = None) -> list[CheckpointEntry]:
    """Every checkpoint that lies in the two folders, the built-in ones first; broken ones with their problem."""
    entries: list[CheckpointEntry] = []
    for name, (path, builtin) in _places(models_dir, builtin_dir).items():
        family, size, problem = "", 0, ""
        try:
            source = _transformer_source(path)
            family, size = recognise(source.shapes) or "", source.size_bytes
            files = find_checkpoint(name, models_dir, builtin_dir, given)
            parts = [open_tensors(part).files for name, part in files.parts.items() if "tokenizer" not in name]
            size = sum(file.stat().st_size for file in {file for part in parts for file in part})
        except LimnerError as error:
            problem = error.message
        entries.append(CheckpointEntry(name, family, path, size, problem, builtin))
    return entries


def require_family(source: TensorSource) -> str:
    """The family of a transformer's tensors.

    Raises:
        Unsupported: an architecture that this version knows but does not paint, or numbers that it does not read.
        BrokenCheckpoint: nothing that looks like a denoiser.
    """
    family = recognise(source.shapes)
    if family is None:
        raise BrokenCheckpoint(
            f"`{source.path}` is of no architecture that limner knows (its first tensors: {some(source.tensors)}). "
            f"Choose a {_painted()} checkpoint.",
            file=str(source.path),
        )
    if family not in FAMILIES:
        raise Unsupported(
            f"`{source.path}` is {title(family)}; this version paints {_painted()}. Choose a {_painted()} checkpoint.",
            file=str(source.path),
            family=family,
        )
    require_plain_numbers(source)
    return family


def require_plain_numbers(source: TensorSource) -> None:
    """Refuse quantised weights, which need more than a cast.

    Raises:
        Unsupported: the file holds fp8 or integer weights.
    """
    matrices = {name: facts for name, facts in source.tensors.items() if len(facts.shape) > 1}
    if quantised := {n: f for n, f in matrices.items() if f.dtype not in ("F64", "F32", "F16", "BF16")}:
        kinds = ", ".join(sorted({facts.dtype for facts in quantised.values()}))
        raise Unsupported(
            f"`{source.path}` holds quantised weights ({kinds}: {some(quantised)}), which this version does not read. "
            "Choose the bf16, fp16 or fp32 file of the same checkpoint.",
            file=str(source.path),
        )


def _painted() -> str:
    return " and ".join(title(family) for family in FAMILIES)


def _places(models_dir: Path, builtin_dir: Path) -> dict[str, tuple[Path, bool]]:
    """Name to (folder or file, whether it is built in); the first of a name wins."""
    found: dict[str, tuple[Path, bool]] = {}
    for root, builtin in ((builtin_dir, True), (models_dir, False), (models_dir / "diffusers", False)):
        for folder in (root, *sorted(root.iterdir())) if root.is_dir() else ():
            if (folder / "model_index.json").is_file():
                found.setdefault(folder.name, (folder, builtin))
    for kind in (*TRANSFORMER_FOLDERS, *WHOLE_FOLDERS):
        root = models_dir / kind
        for file in sorted(root.rglob("*")) if root.is_dir() else ():
            # Other formats are listed as well, with the reason why they are refused.
            if file.suffix in (".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin"):
                found.setdefault(file.relative_to(root).with_suffix("").as_posix(), (file, False))
    return found


def _transformer_source(path: Path) -> TensorSource:
    if path.is_dir():
        inside = next((path / part for part in ("transformer", "unet") if (path / part).is_dir()), None)
        if inside is None:
            raise BrokenCheckpoint(f"`{path}` lacks its transformer/ folder. Fetch it again.", file=str(path))
        path = inside
    return open_tensors(path)


def _folder(name: str, path: Path, given: Given, builtin: bool) -> CheckpointFiles:
    if not (path / "model_index.json").is_file():
        raise BrokenCheckpoint(
            f"`{path}` is not a checkpoint: it has no model_index.json. Name a diffusers folder or a safetensors file.",
            file=str(path),
        )
    source = _transformer_source(path)
    family = require_family(source)
    about = FAMILIES[family]
    beside = [need.part for need in about.needs(source.shapes) or ()] or ["text_encoder", "vae"]
    wanted = {part: given.part(part) or path / part for part in (*beside, *about.tokenizers)}
    if absent := [part.name + "/" for part in wanted.values() if not part.exists()]:
        raise BrokenCheckpoint(f"`{path}` lacks {some(absent)}. Fetch the whole folder again.", file=str(path))
    for part in about.tokenizers:
        _require_tokenizer(wanted[part])
    return CheckpointFiles(name, family, "diffusers", path, {"transformer": path / about.denoiser} | wanted, builtin)


def _files(name: str, path: Path, models_dir: Path, given: Given) -> CheckpointFiles:
    source = open_tensors(path)
    family = require_family(source)
    about = FAMILIES[family]
    needs = about.needs(source.shapes)
    if needs is None:
        raise BrokenCheckpoint(
            f"`{path}` lacks {about.landmarks}, which every {title(family)} denoiser has. Fetch it again.",
            file=str(path),
        )
    whole = any(not tensor.startswith(WHOLE_PREFIX) for tensor in source.tensors) and any(
        tensor.startswith(WHOLE_PREFIX) for tensor in source.tensors
    )
    parts = {"transformer": path}
    for need in needs:
        inside = path if whole and need.fits(source.shapes) else None
        parts[need.part] = given.part(need.part) or inside or _partner(path, models_dir, need)
    for part, (kind, encoder) in about.tokenizers.items():
        parts[part] = given.part(part) or _find_tokenizer(path, part, parts[encoder], models_dir / "tokenizers" / kind)
        _require_tokenizer(parts[part])
    return CheckpointFiles(name, family, "whole" if whole else "split", path, parts)


def _partner(path: Path, models_dir: Path, need: Need) -> Path:
    """The first file in the need's folders whose tensors fit; plain numbers before quantised ones."""
    fitting: list[tuple[bool, Path]] = []
    others: list[str] = []
    for folder in need.folders:
        root = models_dir / folder
        for file in sorted(root.rglob("*.safetensors")) if root.is_dir() else ():
            try:
                source = open_tensors(file)
            except LimnerError:
                others.append(file.name)
                continue
            if not need.fits(source.shapes):
                others.append(file.name)
                continue
            fitting.append((source.dtype not in ("F64", "F32", "F16", "BF16"), file))
    if fitting:
        return min(fitting)[1]
    seen = f" (none of {some(others)} is one)" if others else ""
    where = " or ".join(f"`{models_dir / folder}`" for folder in need.folders)
    raise BrokenCheckpoint(
        f"`{path.name}` needs {need.what}; there is none in {where}{seen}. Put the file there, or name it in the "
        "settings.",
        file=str(path),
        expected=need.what,
    )


def _find_tokenizer(path: Path, part: str, text_encoder: Path, home: Path) -> Path:
    beside = text_encoder.parent
    candidates = (
        text_encoder.with_suffix("") / part,
        text_encoder.with_suffix(""),
        beside / part,
        beside,
        home,
    )
    for folder in candidates:
        if any((folder / file).is_file() for file in TOKENIZER_FILES):
            return folder
    raise BrokenCheckpoint(
        f"`{path.name}` needs the {home.name} tokenizer, which single files do not carry. Put tokenizer.json and "
        f"tokenizer_config.json (from the `{part}/` folder of the model's page) into `{home}`, or name their folder "
        "in the settings.",
        file=str(path),
        expected=str(home),
    )


def _require_tokenizer(folder: Path) -> None:
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise BrokenCheckpoint(f"`{folder}` holds no tokenizer. Expected a tokenizer.json in it.", file=str(folder))
