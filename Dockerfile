# syntax=docker/dockerfile:1
# VARIANT says which build of torch the image holds: `cpu` or `cuda`. TORCH_INDEX overrides the index it comes from.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG VARIANT=cpu
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src
RUN python -m venv /opt/switchyard
ENV PATH=/opt/switchyard/bin:$PATH
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$VARIANT" in \
        cpu) index="${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" ;; \
        cuda) index="$TORCH_INDEX" ;; \
        *) echo "VARIANT is '$VARIANT': use cpu or cuda" >&2; exit 2 ;; \
    esac \
    && pip install --upgrade --constraint constraints.txt pip \
    && pip install ${index:+--index-url "$index"} "$(sed -n '/^torch==/p' constraints.txt)"
# The native kernels are compiled at installation.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml setup.py README.md LICENSE ./
COPY adapters_store adapters_store
COPY loadtest loadtest
COPY server server
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt .

FROM python:${PYTHON_VERSION}-slim-bookworm
# bitsandbytes and the native kernels link the system's OpenMP runtime.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --home-dir /var/lib/switchyard --no-create-home --shell /usr/sbin/nologin switchyard \
    && install -d -o switchyard -g switchyard /var/lib/switchyard/adapters /var/cache/switchyard
COPY --from=build /opt/switchyard /opt/switchyard
ENV PATH=/opt/switchyard/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/cache/switchyard \
    HF_HOME=/var/cache/switchyard/huggingface \
    SWITCHYARD_CACHE_DIR=/var/cache/switchyard \
    SWITCHYARD_HOST=0.0.0.0 \
    SWITCHYARD_PORT=8000 \
    SWITCHYARD_STORE=/var/lib/switchyard/adapters
USER 10001:10001
WORKDIR /var/lib/switchyard
VOLUME ["/var/lib/switchyard", "/var/cache/switchyard"]
EXPOSE 8000
# The first start fetches and quantises the base, which a probe must not mistake for a failure.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['SWITCHYARD_PORT']}/ready\", timeout=4)"]
# The server refuses to bind beyond loopback without SWITCHYARD_API_KEY: pass it with `docker run --env`.
ENTRYPOINT ["switchyard"]
CMD ["serve"]
