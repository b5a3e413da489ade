# Two images. The default image, the last one, serves; it contains no torch, model/ or export/.
#
#   docker build -t twolayernet .
#   docker run -p 8000:8000 -v "$PWD/artifacts:/artifacts:ro" twolayernet
#
#   docker build -t twolayernet-train --target train .
#   docker run --user "$(id -u):$(id -g)" -v "$PWD/runs:/app/runs" -v "$PWD/artifacts:/app/artifacts" twolayernet-train

ARG BASE=python:3.11-slim-bookworm


# pip searches the folder wheels/ next to this file before the network (pip download --dest wheels).
# The pattern wheel[s] lets the build continue without this folder.
FROM scratch AS wheels
COPY wheel[s] /


FROM ${BASE} AS train
# tini forwards signals, because make does not stop on SIGTERM when it runs as process 1.
RUN apt-get update && apt-get install -y --no-install-recommends make tini && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# Every COPY sets --chmod, because the image's user could not read files checked out under umask 077.
COPY --chmod=755 Makefile README.md LICENSE constraints.txt pyproject.toml ./
# URL of PyTorch's package index, for example the CPU-only one; the default Linux wheel has CUDA.
ARG TORCH_INDEX
# The editable install only points at the sources. They are copied after it, which keeps this layer
# cached when they change.
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip PIP_FIND_LINKS=/wheels make .venv/.train
COPY --chmod=755 model model
COPY --chmod=755 export export
COPY --chmod=755 service service
COPY --chmod=755 tabular tabular
COPY --chmod=755 cli cli
# The folders are writable for everybody, because --user may name any user.
RUN mkdir --mode=777 runs artifacts
# matplotlib needs a writable home folder.
ENV HOME=/tmp ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["tini", "--", "make"]
CMD ["train", "export"]


FROM ${BASE} AS dependencies
WORKDIR /build
COPY constraints.txt pyproject.toml ./
# The base image's pip installs the base dependencies of pyproject.toml, so the virtual environment
# needs no pip.
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
# The health check connects to port 8000, so do not change --port. To use another port of the host:
# docker run -p 9000:8000.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
probe = HTTPConnection('127.0.0.1', 8000, timeout=2); \
probe.request('GET', '/readyz'); \
raise SystemExit(probe.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0"]
