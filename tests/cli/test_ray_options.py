"""The options for a cluster, where there is none."""

import sys

import pytest

pytest.importorskip("fastapi", reason="needs polyencoders[serve]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--shards", "2", "--index", "x"], "--shards goes with --ray"),
        (["serve", "--partial", "--index", "x"], "--partial goes with --ray"),
        (["serve", "--ray", "auto", "models/mine"], "--ray goes with --index"),
        (["serve", "--ray", "auto", "--index", "x", "--port", "0"], "name one for Ray Serve"),
        (["search", "x", "--query", "a", "--shards", "2"], "--shards goes with --ray"),
    ],
)
def test_what_does_not_fit_is_refused(run, arguments, said):
    code, _, error = run(*arguments)
    assert (code, said in error) == (1, True), error


@pytest.mark.parametrize("arguments", [["serve", "--index", "x"], ["search", "x", "--query", "a"]])
def test_without_ray_the_extra_is_named(run, monkeypatch, arguments):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, error = run(*arguments, "--ray", "auto")
    assert (code, 'pip install "polyencoders[ray]"' in error) == (1, True), error
