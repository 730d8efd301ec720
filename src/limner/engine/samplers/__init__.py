"""Samplers: from a noisy latent to a clean one, a few predictions at a time.

A sampler is a generator function that reads like its paper. It yields `(x, sigma)`, is sent the denoised prediction for
that latent, and returns the final latent. It never calls a network, so one evaluation a step or two, alone or in a
batch, are all the same to the engine; it never changes a latent that it has yielded.
"""

from __future__ import annotations

from collections.abc import Mapping

from limner.engine.samplers.ancestral import ddpm, dpmpp_2s_ancestral, er_sde, euler_ancestral, lcm
from limner.engine.samplers.brownian import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde
from limner.engine.samplers.deterministic import dpmpp_2m, euler, heun, res_multistep
from limner.engine.samplers.port import SamplerFn, Sampling, Sigmas, steps_of

__all__ = ["SAMPLERS", "SamplerFn", "Sampling", "Sigmas", "evaluations", "is_stochastic"]

SAMPLERS: Mapping[str, SamplerFn] = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "dpmpp_3m_sde": dpmpp_3m_sde,
    "dpmpp_sde": dpmpp_sde,
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "lcm": lcm,
    "res_multistep": res_multistep,
    "ddpm": ddpm,
    "er_sde": er_sde,
}
TWICE_A_STEP = frozenset({"heun", "dpmpp_sde", "dpmpp_2s_ancestral"})
DETERMINISTIC = frozenset({"euler", "heun", "dpmpp_2m", "res_multistep"})


def evaluations(name: str, sigmas: Sigmas) -> int:
    """How often a sampler will ask for a prediction over these levels.

    Raises:
        ValueError: an unknown sampler; the message names the known ones.
    """
    _require_known(name)
    return sum(2 if name in TWICE_A_STEP and after > 0 else 1 for _, after in steps_of(sigmas))


def is_stochastic(name: str) -> bool:
    """Whether a sampler draws noise beyond the starting latent's.

    Raises:
        ValueError: an unknown sampler; the message names the known ones.
    """
    _require_known(name)
    return name not in DETERMINISTIC


def _require_known(name: str) -> None:
    if name not in SAMPLERS:
        raise ValueError(f"No sampler is called {name!r}. Choose one of {', '.join(SAMPLERS)}.")
