# Two images. The last one is the default: it serves, and holds neither torch nor model/ nor export/.
#
#   docker build -t twolayernet .
#   docker run -p 8000:8000 -v "$PWD/artifacts:/artifacts:ro" twolayernet
#
#   docker build -t twolayernet-train --target train .
#   docker run --user "$(id -u):$(id -g)" -v "$PWD/runs:/app/runs" -v "$PWD/artifacts:/app/artifacts" twolayernet-train

ARG BASE=python:3.11-slim-bookworm


# A folder wheels/ beside this file is looked into before the network (pip download --dest wheels ...).
# As a pattern, it may be absent.
FROM scratch AS wheels
COPY wheel[s] /


FROM ${BASE} AS train
# tini, because make as a container's first process spins for ever on SIGTERM.
RUN apt-get update && apt-get install -y --no-install-recommends make tini && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# Everywhere below, --chmod: a checkout made under umask 077 would be closed to the user who runs this.
COPY --chmod=755 Makefile README.md constraints.txt pyproject.toml ./
# PyTorch's CPU-only package index, say: without it Linux gets the multi-gigabyte CUDA build.
ARG TORCH_INDEX
# The install is editable, and so only points at the sources: they come after it, and a change to them repeats nothing.
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip PIP_FIND_LINKS=/wheels make .venv/.train
COPY --chmod=755 model model
COPY --chmod=755 export export
COPY --chmod=755 service service
# Open to everybody, because --user makes it run as the owner of the mounted folders, whoever that is.
RUN mkdir --mode=777 runs artifacts
# matplotlib wants a home that can be written to.
ENV HOME=/tmp ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["tini", "--", "make"]
CMD ["train", "export"]


FROM ${BASE} AS dependencies
WORKDIR /build
COPY constraints.txt pyproject.toml ./
# What serving needs, from the one list of it. The base's pip installs, so the environment needs none of its own.
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
ENV PATH=/venv/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TWOLAYERNET_ARTIFACTS=/artifacts
# A number, so that Kubernetes can tell it from root (runAsNonRoot).
USER 65532:65532
EXPOSE 8000
# A change of --port leaves this check behind: rather publish 8000 under another number, -p 9000:8000.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
probe = HTTPConnection('127.0.0.1', 8000, timeout=2); \
probe.request('GET', '/readyz'); \
raise SystemExit(probe.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0"]
