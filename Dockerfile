# The server, without PyTorch: it searches an index, reranks and embeds with a model that `polyencoders export` wrote.
#
#   docker build -t polyencoders .
#   docker run --rm -p 127.0.0.1:8080:8080 -e POLYENCODERS_API_KEY=... -v "$PWD/models/mine-onnx:/model:ro" polyencoders
#   docker run ... -v "$PWD/answers:/index" polyencoders serve /model --index /index --host 0.0.0.0
#
# The folder of an index belongs to the user that writes to it: `chown -R 10001 answers`, or `--user "$(id -u)"`.

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
RUN python -m venv /app \
    && /app/bin/pip install --no-cache-dir ".[serve]" \
    && /app/bin/python -c "from polyencoders.scoring import _kernel" \
    && /app/bin/pip uninstall --yes pip \
    && find /app -type d -name tests -prune -exec rm -r {} +

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home polyencoders && install --directory --owner polyencoders /index
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /home/polyencoders
EXPOSE 8080
# /health and /ready need no key; any other address than its own would be refused by the check of `Host`.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8080/ready', timeout=2)"]
ENTRYPOINT ["polyencoders"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
