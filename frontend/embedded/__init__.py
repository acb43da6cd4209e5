"""The real `tritonserver` of the nvidia-pytriton wheel, prepared, started and watched over by the front end."""

from frontend.embedded.supervisor import EmbeddedTriton, TritonStartError

__all__ = ["EmbeddedTriton", "TritonStartError"]
