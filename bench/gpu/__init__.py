"""VoiceForge measured on an NVIDIA GPU, on a machine without a network: see docs/gpu.md."""
