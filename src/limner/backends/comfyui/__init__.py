"""Pictures from ComfyUI servers, through workflow templates."""

from limner.backends.comfyui.backend import ComfyUIBackend

__all__ = ["ComfyUIBackend"]
