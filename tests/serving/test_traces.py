"""Traces of requests, and answers by HTTPS."""

import shutil
import socket
import ssl
import subprocess
import sys
import time

import httpx
import pytest

from polyencoders.errors import DataError, MissingExtraError
from polyencoders.serving import connections, traces
from polyencoders.serving.run import check_tls
from polyencoders.serving.settings import Settings

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch):
    """The spans that have ended."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(memory))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    return memory.get_finished_spans


def test_a_request_is_a_span_in_the_clients_trace(shared_searching, spans):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert (
        shared_searching.client.post("/search", json={"query": "a private matter"}, headers=headers).status_code == 200
    )
    deadline = time.monotonic() + 30
    while len(spans()) < 3 and time.monotonic() < deadline:  # The request's span ends after its answer has been sent
        time.sleep(0.01)
    found = {one.name: one for one in spans()}
    assert list(found) == ["encode", "search", "POST /search"]
    whole = found["POST /search"]
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(whole.attributes) == {
        "http.request.method": "POST",
        "http.route": "/search",
        "http.response.status_code": 200,
    }
    assert {found[name].parent.span_id for name in ("encode", "search")} == {whole.context.span_id}
    assert not any("private" in one.to_json() for one in found.values())


def test_without_opentelemetry_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError, match=r"polyencoders\[traces\]"):
        traces.start()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of this machine, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    return made, key


def test_who_never_shakes_hands_is_not_waited_for(serve, certificate, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    server = serve(tls_certificate=certificate[0], tls_key=certificate[1])
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        assert silent.recv(100) == b"", "it is closed"


def test_a_key_with_a_password_is_not_asked_for_at_the_terminal(certificate, tmp_path):
    made, key = certificate
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:word", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(DataError, match="without a password"):
        check_tls(Settings(tls_certificate=made, tls_key=locked))


def test_a_certificate_makes_it_https(serve, certificate, tmp_path):
    made, key = certificate
    server = serve(tls_certificate=made, tls_key=key)
    ask = {"query": "tea?", "texts": ["tea", "rain"]}
    with httpx.Client(
        base_url=f"https://127.0.0.1:{server.port}", verify=ssl.create_default_context(cafile=made)
    ) as client:
        for _ in range(2):
            assert client.post("/rerank", json=ask).status_code == 200
    with pytest.raises(httpx.TransportError):
        server.client.get("/health")
    with pytest.raises(DataError, match="expected a certificate and its private key"):
        check_tls(Settings(tls_certificate=key, tls_key=made))
    with pytest.raises(DataError, match="expected a certificate"):
        check_tls(Settings(tls_certificate=tmp_path / "nothing", tls_key=key))
