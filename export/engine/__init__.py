"""The decode engine that runs inside Triton.

The exporter copies this package into `whisper_<m>/1/whisper_engine/`, so a model repository needs nothing of ours on the
server's side: numpy, onnxruntime and tokenizers are enough. Hence relative imports only, and nothing from `frontend`.
"""
