# The front end alone: no Triton, no torch.
FROM python:3.12-slim
RUN useradd --create-home voiceforge
WORKDIR /app
COPY requirements/serve.txt requirements/serve.txt
RUN grep -v '^nvidia-pytriton' requirements/serve.txt > /tmp/serve.txt && pip install --no-cache-dir -r /tmp/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY frontend frontend
COPY export export
RUN pip install --no-cache-dir --no-deps .
USER voiceforge
EXPOSE 8080
CMD ["voiceforge", "serve", "--json-logs"]
