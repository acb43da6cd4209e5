# NVIDIA's Triton with what the decode engine (a Python model) imports. 26.07 or newer: fixes of 2025 and 2026.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3
FROM ${TRITON_IMAGE}
RUN pip install --no-cache-dir "onnxruntime-gpu>=1.20" "tokenizers>=0.21" "numpy>=1.26" "grpcio-health-checking>=1.64"
COPY deploy/grpc_health.py /opt/voiceforge/grpc_health.py
