# sparekey in a container: not root, any UID, a read-only root file system, no HOME.
#   docker build -t sparekey .
#   docker run --rm --read-only -e AWS_PROFILE -v "$HOME/.aws:/aws:ro" -e AWS_CONFIG_FILE=/aws/config sparekey audit
# State and policy are in /state: mount a volume there to keep runs.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/sparekey
COPY requirements/run.txt /build/requirements.txt
RUN /opt/sparekey/bin/pip install -qq --require-hashes -r /build/requirements.txt
COPY pyproject.toml README.md LICENSE /build/
COPY man /build/man
COPY src /build/src
RUN /opt/sparekey/bin/pip install -qq --no-deps --no-build-isolation --no-index /build

FROM python:3.13-slim
COPY --from=build /opt/sparekey /opt/sparekey
RUN install -d -m 1777 /state
ENV PATH=/opt/sparekey/bin:$PATH PYTHONDONTWRITEBYTECODE=1 SPAREKEY_HOME=/state/home
VOLUME /state
USER 65532:65532
ENTRYPOINT ["sparekey"]
CMD ["--help"]
