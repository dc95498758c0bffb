"""Tiny models of every architecture, and an index whose fast search leaves documents out."""

import random

import pytest
import torch

WORDS = ["tea", "bread", "rain", "train", "music", "garden", "winter", "letter", "kitchen", "river", "doctor", "paint"]
TURNS = ["Hello!", "Hi, what are you looking for?", "a letter in winter"]
QUERIES = ["Is there any tea in the garden?", "a doctor on the train", "music"]


@pytest.fixture(scope="session")
def documents():
    """Four hundred documents with metadata; some have the same text."""
    chance = random.Random(0)
    return [
        {
            "id": f"r{number:03}",
            "text": " ".join(chance.choices(WORDS, k=4)) if number % 50 else "rain and rain",
            "lang": ("en", "de")[number % 3 == 0],
            "year": 1990 + number % 40,
        }
        for number in range(400)
    ]


@pytest.fixture(scope="session")
def models(tiny_backbone, tmp_path_factory):
    """Directories of a tiny model of each architecture."""
    import polyencoders

    folder = tmp_path_factory.mktemp("models")
    for name, settings in {"PolyEncoder": {"m": 3}, "BiEncoder": {}, "CrossEncoder": {}, "ArcII": {}}.items():
        torch.manual_seed(0)
        getattr(polyencoders, name)(tiny_backbone, **settings).save(folder / name)
    return folder


@pytest.fixture(scope="session", params=["PolyEncoder", "BiEncoder", "CrossEncoder", "ArcII"])
def model(request, models):
    """Each model in turn."""
    from polyencoders.models import load_model

    return load_model(models / request.param)


@pytest.fixture(scope="session")
def poly(models):
    """The poly-encoder."""
    from polyencoders import PolyEncoder

    return PolyEncoder(str(models / "PolyEncoder"))


@pytest.fixture(scope="session")
def index(models, documents, tmp_path_factory):
    """An index of the documents, laid out and skipped through as a large one is."""
    from polyencoders.index import Index

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", 200)
        monkeypatch.setattr("polyencoders.index.searching.LEAST", 32)
        monkeypatch.setattr("polyencoders.index.neighbourhoods.DOCUMENTS_IN_A_CLUSTER", 20)
        made = Index.create(tmp_path_factory.mktemp("index") / "replies", str(models / "PolyEncoder"))
        made.add(documents)
        yield made


@pytest.fixture(scope="session", params=[*QUERIES, TURNS], ids=lambda query: str(query)[:12])
def query(request):
    """Texts and a conversation in turn."""
    return request.param


@pytest.fixture(scope="session")
def turns():
    """A conversation."""
    return TURNS


@pytest.fixture(scope="session")
def queries():
    """Texts."""
    return QUERIES
