"""What a server withstands: the short form of `serving_attacks.py`. Each part starts a server."""

import pytest

pytest.importorskip("fastapi", reason="needs polyencoders[serve]")
pytest.importorskip("lancedb", reason="needs polyencoders[index]")
pytest.importorskip("psutil")
pytest.importorskip("resource", reason="kills and forks are those of POSIX")

import hostile_clients
import mutated_bodies
import server_kills
from hostile_requests import problem_of
from stage import Stage


@pytest.fixture
def stage(tiny_model, tmp_path):
    return Stage(tmp_path, tiny_model)


def test_malformed_requests(stage):
    counts = hostile_clients.malformed(stage, seed=11, quick=True, number=600)
    assert counts["problems"] == []
    assert counts["statuses"]["422"] > 100, "most requests fail where their content is checked"
    assert counts["statuses"]["400"] > 50


def test_changed_bodies_for_every_route(stage):
    counts = mutated_bodies.mutated(stage, seed=1, quick=True)
    assert counts["problems"] == []
    assert counts["routes"] > 20
    assert counts["statuses"]["200"] > 20
    assert counts["statuses"]["422"] > 100


def test_what_a_server_must_not_say_is_seen():
    assert problem_of(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    assert problem_of(b'HTTP/1.1 422 x\r\n\r\n{"error": "/home/me/index: no"}')
    assert problem_of(b"HTTP/1.1 200 OK\r\n\r\nTraceback (most recent call last)")
    assert problem_of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n")
    assert not problem_of(b'HTTP/1.1 422 x\r\n\r\n{"error": "no"}')


def test_requests_made_from_the_openapi_document(stage):
    pytest.importorskip("schemathesis")
    counts = hostile_clients.documented(stage, seed=1, quick=True)
    assert counts["problems"] == []
    assert counts["cases"] > 100


def test_large_bodies(stage):
    counts = hostile_clients.large(stage, seed=1, quick=True, size=100_000_000)
    assert counts["problems"] == []


def test_reloaded_and_stopped_under_load(stage):
    counts = server_kills.stops(stage, seed=1, quick=True, rounds=2)
    assert counts["problems"] == []
    assert counts["answered while it was loaded again"] > 20
    assert counts["told twice"] == 1


def test_kills_lose_nothing(stage):
    counts = server_kills.kills(stage, seed=1, quick=True, rounds=3)
    assert counts["problems"] == []
    assert counts["acknowledged changes"] >= 6
    assert counts["documents looked at"] > 20


def test_more_requests_than_can_be_answered(stage):
    counts = hostile_clients.crowd(stage, seed=1, quick=True, number=80)
    # A tiny model may be quick enough to answer everything.
    assert counts["problems"] in ([], ["the load was too small, or everything was refused"])
    assert counts["answered 200"] + counts["answered 429"] == 80
