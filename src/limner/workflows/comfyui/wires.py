"""What travels on the links of a graph, as far as limner understands it.

Plain records: each says how a model, a text, a latent or a picture came about, not what it holds. Sizes are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from limner.domain import CacheSettings, Reference
from limner.workflows.kontext_sizes import KONTEXT_SIZES, kontext_size

Size = tuple[int, int]


class Cannot(Exception):
    """Why a node cannot be run natively: half a sentence that follows the node's name, without a full stop."""


@dataclass(frozen=True)
class Given:
    """A picture that the caller gives for a node that loads one.

    `size` and `transparent` (whether any part of it is) are None where they are not known.
    """

    reference: Reference
    size: Size | None = None
    transparent: bool | None = None


@dataclass(frozen=True)
class Value:
    """A number, a text, or a yes or no."""

    value: object


@dataclass(frozen=True)
class Lora:
    """A LoRA by the name of its file, and how strongly it is applied."""

    file: str
    weight: float
    node: str


@dataclass(frozen=True)
class Model:
    """A denoiser.

    `whole` says that its file holds text encoder and VAE as well, `shifter` is the node that sets the shift.
    """

    file: str
    node: str
    whole: bool
    loras: tuple[Lora, ...] = ()
    shift: float | None = None
    shifter: str = ""
    cache: CacheSettings | None = None


@dataclass(frozen=True)
class Clip:
    """A text encoder, or several; `kind` is what its loader calls the architecture."""

    files: tuple[str, ...]
    node: str
    kind: str = ""
    loras: tuple[Lora, ...] = ()
    skip: int | None = None


@dataclass(frozen=True)
class Vae:
    """What turns pixels into latents and back."""

    file: str
    node: str


@dataclass(frozen=True)
class Loaded:
    """A picture that a node loads; `file` is what the workflow names it by."""

    file: str
    node: str


@dataclass(frozen=True)
class Pixels:
    """A picture: loaded ones side by side, or what a latent was decoded to.

    At most one of `kontext` (in a size that FLUX Kontext was trained on) and `size` (cut to that shape) is set.
    """

    loaded: tuple[Loaded, ...] = ()
    decoded: Latent | None = None
    kontext: bool = False
    size: Size | None = None

    @property
    def untouched(self) -> bool:
        """Whether it is what its file or files hold, in their own size."""
        return self.decoded is None and not self.kontext and self.size is None

    def measured(self, given: dict[str, Size | None]) -> Size | None:
        """Its size, where that is known."""
        if self.decoded is not None or self.size is not None:
            return self.size if self.decoded is None else self.decoded.size
        sizes = [given.get(loaded.node) for loaded in self.loaded]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes) or not known:
            return None
        height = known[0][1]
        own = (sum(round(width * height / tall) for width, tall in known), height)
        return kontext_size(*own) if self.kontext else own

    def trained(self, given: dict[str, Size | None]) -> bool:
        """Whether FLUX Kontext was trained on its size."""
        return self.kontext or self.measured(given) in KONTEXT_SIZES


@dataclass(frozen=True)
class Mask:
    """Which part of a loaded picture is painted anew; `channel` is where in its file that is said."""

    loaded: Loaded
    channel: str


@dataclass(frozen=True)
class Conditioning:
    """A text as the network is told it.

    `context` are the pictures that it looks at; `sizes` the six numbers that SDXL is told explicitly; `zeroed` says
    that everything was replaced by zeros.
    """

    text: str
    clip: Clip
    node: str
    guidance: float | None = None
    context: tuple[Pixels, ...] = ()
    sizes: tuple[int, ...] | None = None
    zeroed: bool = False


@dataclass(frozen=True)
class Pass:
    """One sampler's work: the steps from `begin` to `end` of a schedule; a `noisy` one leaves noise for the next."""

    node: str
    size: Size | None
    steps: int
    cfg: float
    sampler: str
    schedule: str
    denoise: float
    seed: int
    model: Model
    positive: Conditioning
    negative: Conditioning | None
    begin: int = 0
    end: int | None = None
    noisy: bool = False

    @property
    def guided(self) -> bool:
        """Whether the negative is evaluated."""
        return abs(self.cfg - 1) > 1e-9


@dataclass(frozen=True)
class Latent:
    """A latent: what it began as, and the samplers that it went through since.

    `enlarged` says that its size was changed and nothing has painted since.
    """

    size: Size | None
    passes: tuple[Pass, ...] = ()
    start: Pixels | None = None
    mask: Mask | None = None
    batch: int = 1
    enlarged: bool = False

    def painted(self) -> Latent:
        """Itself. Raises `Cannot` where it is not ready to be decoded or enlarged."""
        if self.enlarged:
            raise Cannot("gets a latent that was enlarged and that nothing has painted over since")
        if self.passes and self.passes[-1].noisy:
            raise Cannot("gets a latent that is not denoised to the end, which only a further sampler can take")
        return self

    def after(self, step: Pass) -> Latent:
        """The latent after a further sampler."""
        return replace(self, passes=(*self.passes, step), enlarged=False)


@dataclass(frozen=True)
class Sampler:
    """How steps are made."""

    name: str


@dataclass(frozen=True)
class Sigmas:
    """The noise levels of a run, for a model."""

    steps: int
    schedule: str
    denoise: float
    model: Model


@dataclass(frozen=True)
class NoiseSeed:
    """Where noise comes from."""

    seed: int


@dataclass(frozen=True)
class Guider:
    """A model with what it is told."""

    model: Model
    positive: Conditioning
    negative: Conditioning | None
    cfg: float
