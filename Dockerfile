# Two images. The last one is the default: it serves, without torch, model/ and export/.
#
#   docker build -t twolayernet .
#   docker run -p 8000:8000 -v "$PWD/artifacts:/artifacts:ro" twolayernet
#
#   docker build -t twolayernet-train --target train .
#   docker run --user "$(id -u):$(id -g)" -v "$PWD/runs:/app/runs" -v "$PWD/artifacts:/app/artifacts" twolayernet-train

ARG BASE=python:3.11-slim-bookworm


# pip searches the folder wheels/ beside this file before the network (pip download --dest wheels ...).
# The pattern matches nothing where there is no such folder.
FROM scratch AS wheels
COPY wheel[s] /


FROM ${BASE} AS train
# tini forwards signals: make as the first process of a container does not end on SIGTERM.
RUN apt-get update && apt-get install -y --no-install-recommends make tini && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# --chmod everywhere: files of a checkout made under umask 077 would be unreadable for the image's user.
COPY --chmod=755 Makefile README.md LICENSE constraints.txt pyproject.toml ./
# For example PyTorch's index of CPU-only packages: the default wheel on Linux holds CUDA.
ARG TORCH_INDEX
# The editable install only points at the sources. They are copied after it, which keeps this layer
# valid when they change.
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip PIP_FIND_LINKS=/wheels make .venv/.train
COPY --chmod=755 model model
COPY --chmod=755 export export
COPY --chmod=755 service service
COPY --chmod=755 tabular tabular
COPY --chmod=755 cli cli
# Writable for everybody: --user runs the container as the owner of the mounted folders.
RUN mkdir --mode=777 runs artifacts
# matplotlib needs a writable home folder.
ENV HOME=/tmp ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["tini", "--", "make"]
CMD ["train", "export"]


FROM ${BASE} AS dependencies
WORKDIR /build
COPY constraints.txt pyproject.toml ./
# The base dependencies of pyproject.toml. The pip of the base image installs them, so the virtual
# environment needs none of its own.
RUN --mount=type=cache,target=/var/cache/pip \
    export PIP_CACHE_DIR=/var/cache/pip \
    && python -c 'import tomllib; \
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > base.txt \
    && python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --constraint constraints.txt --requirement base.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} +


FROM ${BASE} AS serve
COPY --from=dependencies /venv /venv
WORKDIR /app
COPY --chmod=755 service service
COPY --chmod=755 tabular tabular
COPY --chmod=755 cli cli
ENV PATH=/venv/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TWOLAYERNET_ARTIFACTS=/artifacts
# Kubernetes' runAsNonRoot needs a numeric user.
USER 65532:65532
EXPOSE 8000
# This check asks port 8000. To use another port outside, publish it (-p 9000:8000) and keep --port.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
probe = HTTPConnection('127.0.0.1', 8000, timeout=2); \
probe.request('GET', '/readyz'); \
raise SystemExit(probe.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0"]
