# The service with the client tools it needs. Build: docker build -t liberu-backup .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends tar zstd age acl attr util-linux mariadb-client postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin liberu \
    && install -d -o liberu -g liberu -m 0700 /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY alembic.ini ./
COPY migrations migrations
COPY app app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LIBERU_DATA=/data \
    LIBERU_SERVER__HOST=0.0.0.0
USER liberu
VOLUME /data
EXPOSE 8000
# Sites of this machine that belong to other users need the container to run as root, or with CAP_DAC_READ_SEARCH,
# CAP_CHOWN, CAP_SETUID and CAP_SETGID, and their folders mounted.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["python", "-m", "app.cli", "serve"]
