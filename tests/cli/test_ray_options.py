"""Options for a cluster, where there is none, and for a server."""

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
        (
            ["serve", "--ray", "auto", "--index", "x", "--tls-cert", "a", "--tls-key", "b"],
            "put a proxy before Ray Serve",
        ),
        (["serve", "models/mine", "--words"], "--words goes with --index"),
        (["serve", "models/mine", "--tls-cert", "a"], "--tls-cert and --tls-key go together"),
        (["serve", "models/mine", "--keys", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["serve", "models/mine", "--allow-origin", "localhost"], "--allow-origin: expected scheme, name and port"),
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
