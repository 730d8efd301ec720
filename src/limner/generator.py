"""One call, one picture: for plain scripts that know nothing of events and event loops.

    from limner import create_image_generator

    with create_image_generator("native", device="cpu") as generator:
        generator.generate("a red boat on the sea", seed=7).save("boat.png")

The work runs on a thread with an event loop of its own, so that it can be called from anywhere, a running event loop
included. Several threads may call at the same time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from limner.backends.settings import NativeSettings
from limner.config import Settings, load_settings
from limner.domain import GenerationRequest
from limner.errors import ConfigError, NotFound
from limner.studio import Studio, backend_names
from limner.validation import checked

CONNECTION_NAMES = {"clip_path": "text_encoder_path", "torch_dtype": "dtype"}
"""Other names of the engine's settings."""


def create_image_generator(backend: str = "native", **connection: Any) -> ImageGenerator:
    """A generator that paints with this backend.

    Args:
        backend: a name such as `native`.
        connection: settings of the backend that go before environment and file. For `native`: `model`, `model_path`,
            `vae_path`, `clip_path` (or `text_encoder_path`), `device`, `torch_dtype` (or `dtype`, as a name or torch's
            own) and the others of `NativeSettings`.

    Raises `NotFound` for an unknown backend, with the known names, and `ConfigError` for an unknown or wrong setting.
    """
    if backend not in backend_names():
        raise NotFound(f"There is no backend `{backend}`. Choose one of: {', '.join(backend_names())}.", name=backend)
    if backend != "native" and connection:
        raise ConfigError(f"Backend `{backend}` takes no settings here. Leave out: {', '.join(sorted(connection))}.")
    given = {CONNECTION_NAMES.get(name, name): value for name, value in connection.items()}
    unknown = sorted(given.keys() - NativeSettings.model_fields.keys())
    if unknown:
        known = ", ".join(NativeSettings.model_fields)
        raise ConfigError(f"Backend `native` has no setting {', '.join(unknown)}. Choose from: {known}.")
    # torch.bfloat16 is told by its name, so that torch need not be imported here.
    if given.get("dtype") is not None:
        given["dtype"] = str(given["dtype"])
    return ImageGenerator(load_settings({"backend": backend, "native": given}))


class ImageGenerator:
    """Paints one picture a call. Close it, or use it in a `with` block, to give the device back.

    Args:
        settings: the settings; `create_image_generator` makes them from keywords.
    """

    def __init__(self, settings: Settings) -> None:
        self._studio = Studio(settings)
        self._default_strength = settings.lora.default_strength
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="limner-generator", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self._studio.backend(settings.backend)
        except BaseException:
            self.close()
            raise

    def generate(
        self,
        prompt: str | None,
        negative_prompt: str | None = None,
        lora_path: str | Path | None = None,
        lora_strength: float | None = None,
        trigger_word: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        progressive: bool | None = None,
    ) -> Image.Image:
        """Paint a picture, 672x864 unless the settings say otherwise.

        What is absent comes from the settings and the preset, as it does on the command line.

        Args:
            prompt: what to paint; empty or `None` means: whatever comes.
            negative_prompt: what to keep out.
            lora_path: an adapter: a file or a name.
            lora_strength: its weight; 0.8 by default.
            trigger_word: words put in front of the prompt; those that the adapter's file names by default.
            num_inference_steps: steps, of the first stage when progressive; 9 by default, 20 in one stage.
            guidance_scale: cfg, of the first stage when progressive; 2 by default.
            seed: drawn at random when absent.
            progressive: in three stages (preset `progressive`, the default) or in one (preset `single`).

        Raises `InvalidRequest` and the other errors of `limner.errors`.
        """
        strength = self._default_strength if lora_strength is None else lora_strength
        adapters = [{"name": str(lora_path), "weight": strength, "trigger": trigger_word or ""}] if lora_path else []
        if trigger_word and not lora_path:
            prompt = f"{trigger_word}, {prompt or ''}".strip(", ")
        request = checked(
            GenerationRequest,
            {
                "prompt": prompt,
                "negative_prompt": negative_prompt,
                "adapters": adapters,
                "steps": num_inference_steps,
                "cfg": guidance_scale,
                "seed": seed,
                "preset": None if progressive is None else "progressive" if progressive else "single",
            },
        )
        if self._closed:
            raise ConfigError("The generator is closed. Make a new one.")
        future = asyncio.run_coroutine_threadsafe(self._studio.generate(request), self._loop)
        try:
            return future.result()[0].image
        except (KeyboardInterrupt, concurrent.futures.CancelledError):
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the backend and give its device back. May be called twice."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._studio.aclose()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
