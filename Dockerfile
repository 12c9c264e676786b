# synapseclr with its dependencies, for GPUs and CPUs; docs/install.md has the commands to build and use it.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# Index with another build of torch than pip's default, such as one without CUDA. Its versions carry a suffix
# (2.13.0+cpu), which pip prefers to the same version without one.
ARG TORCH_INDEX=""
ARG EXTRAS=gpu,cave,notebooks
WORKDIR /source
RUN python -m venv /opt/synapseclr
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY src src
COPY conf conf
COPY notebooks notebooks
COPY scripts/viz.py scripts/viz.py
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" /opt/synapseclr/bin/pip install --disable-pip-version-check \
        -c requirements.lock ".[${EXTRAS}]"

FROM python:${PYTHON}-slim-bookworm
# OpenGL without a display, for renders. Debian removes superseded versions, so that none can be named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri libgl1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/synapseclr /opt/synapseclr
# The home is writable for every user, since `--user` may give one whom the image does not know.
RUN useradd --create-home --uid 1000 synapseclr \
    && chmod 1777 /home/synapseclr \
    && install -d -o synapseclr /project
ENV PATH=/opt/synapseclr/bin:$PATH \
    HOME=/home/synapseclr \
    USER=synapseclr \
    GIT_PYTHON_REFRESH=quiet \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /project
CMD ["synapseclr", "--help"]
