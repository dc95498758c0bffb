"""Exported models, each written once: every architecture, on a tiny random encoder."""

import pytest

from polyencoders.export import export_model
from polyencoders.scoring import set_threads

NAMES = ["bi", "bi-attention", "poly-learnt", "poly-first", "poly-last", "poly-last-and-first"]
NAMES += ["cross", "cross-warm", "cross-one-way", "arc-ii"]


@pytest.fixture(scope="session")
def exports(built, tmp_path_factory):
    """The directory of the export of a model of a name above, written when first asked for."""
    folder, written = tmp_path_factory.mktemp("exports"), {}

    def get(name):
        if name not in written:
            written[name] = export_model(built(name), folder / name).path
        return written[name]

    return get


@pytest.fixture(params=NAMES)
def pair(request, built, exports):
    """A model, and its export, of each architecture in turn."""
    from polyencoders import load

    return built(request.param), load(exports(request.param))


@pytest.fixture
def on_threads():
    """Sets the number of threads; afterwards it is as before."""
    yield set_threads
    set_threads(None)
