"""An engine answers as its model does, whoever else asks, and encodes each document once."""

import asyncio
import shutil
import threading

import numpy as np
import pytest

from polyencoders import ArcII, CrossEncoder, OneWayCrossEncoder, PolyEncoder, WarmCrossEncoder
from polyencoders.errors import ModelError
from polyencoders.models import load_model
from polyencoders.serving import loaded
from polyencoders.serving.batching import BusyError
from polyencoders.serving.engine import Engine
from polyencoders.serving.loaded import Current, Served, called
from polyencoders.serving.settings import Settings

QUERIES = ["Any tea?", ["Hello.", "It rains.", "Do you take the train in winter?"], "music " * 60, "x"]


@pytest.fixture(scope="module")
def documents(replies):
    return [reply["text"] for reply in replies] + ["a long one, " * 80]


@pytest.mark.parametrize("name", ["poly", "bi", "cross", "raw", "arc", "warm", "one-way"])
def test_scores_are_the_models(models, documents, name, backbone, tiny_backbone):
    built = {
        "arc": lambda: ArcII(tiny_backbone),
        "warm": lambda: WarmCrossEncoder(backbone, query_length=32),
        "one-way": lambda: OneWayCrossEncoder(tiny_backbone),
    }
    model = built[name]() if name in built else load_model(models / name)
    if name == "warm":  # its backbone is a real one
        documents = documents[::5]
    engine = Engine(model, name, Settings(bf16=False))
    expected = model.score_lists(QUERIES, [documents] * len(QUERIES))

    async def all_at_once():
        return await asyncio.gather(*(engine.scores(query, documents) for query in QUERIES))

    for given, wanted in zip(asyncio.run(all_at_once()), expected, strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)
    pairs = [(query, documents[-place]) for place, query in enumerate(QUERIES, 1)]
    given = asyncio.run(engine.scores_of_pairs([*pairs, pairs[0]]))
    wanted = [expected[place][-1 - place] for place in range(len(QUERIES))]
    np.testing.assert_allclose(given, [*wanted, wanted[0]], rtol=1e-4, atol=1e-5)
    assert asyncio.run(engine.scores_of_pairs([])).shape == (0,)
    assert engine.model.cosine == (name in ("poly", "bi", "warm"))
    assert asyncio.run(engine.scores("Tea?", [])).shape == (0,)
    engine.close()


@pytest.mark.parametrize("name", ["poly", "cross"])
def test_pairs_are_let_in_or_refused_together(models, documents, name, monkeypatch):
    """As jobs of one each, a thousand pairs would be small requests, which go before all others."""
    engine = Engine(load_model(models / name), name, Settings())
    asked, submit = [], engine.worker.submit
    monkeypatch.setattr(
        engine.worker,
        "submit",
        lambda lane, items, costs: asked.append((lane, len(items))) or submit(lane, items, costs),
    )
    asyncio.run(engine.scores_of_pairs([(f"query {number % 3}", text) for number, text in enumerate(documents)]))
    expected = {"poly": [("short", 3), ("long", len(documents))], "cross": [("long", len(documents))]}
    assert sorted(asked) == sorted(expected[name])
    engine.close()


def test_a_document_is_encoded_once_however_many_ask(poly, documents):
    engine = Engine(poly, "poly", Settings())

    async def many():
        return await asyncio.gather(*(engine.scores(f"query {number}", documents) for number in range(20)))

    asyncio.run(many())
    assert engine.cache.misses == len(documents)
    found = engine.cache.hits
    asyncio.run(many())
    assert engine.cache.misses == len(documents)
    assert engine.cache.hits == found + 20 * len(documents), "also those that no work is done for"
    engine.close()


def test_tokens_are_counted_as_the_model_reads_them(poly):
    engine = Engine(poly, "poly", Settings())
    expected = sum(len(poly.tokenizer(text)["input_ids"]) for text in ("Tea?", "It rains in the garden."))
    assert sum(asyncio.run(engine.tokens(["Tea?", "It rains in the garden.", "Tea?"]))[:2]) == expected
    assert asyncio.run(engine.tokens(["tea " * 10_000])) == [poly.max_seq_length]
    engine.close()


def test_what_is_served_is_closed_when_its_last_user_leaves(models):
    current = Current(Settings(model=str(models / "poly")))
    with current.use() as old:
        current.reload()
        with current.use() as new:
            assert new is not old
        assert asyncio.run(old.engine.scores("Tea?", ["bread"])).shape == (1,), "still open for those who use it"
    assert not old.engine.worker._thread.is_alive()
    assert current.generation == 2
    current.close()


def test_a_new_query_side_keeps_the_document_vectors(models, tmp_path, documents):
    path = tmp_path / "model"
    PolyEncoder(str(models / "poly")).save_pretrained(str(path))
    current = Current(Settings(model=str(path)))
    with current.use() as served:
        asyncio.run(served.engine.document_vectors(documents))
    upgraded = PolyEncoder(str(path))
    upgraded.query_codes.codes.data.mul_(2)
    upgraded.save_pretrained(str(path))
    current.reload()
    with current.use() as served:
        assert served.engine.cache.look_up(documents)[1] == []
    CrossEncoder(str(models / "cross")).save_pretrained(str(tmp_path / "cross"))
    current.close()


def test_clients_see_names_and_never_paths(tmp_path):
    assert called(str(tmp_path)) == tmp_path.name
    assert called("/nowhere/at/all") == "all"


def test_what_cannot_be_loaded_leaves_nothing_behind(models, tmp_path):
    (tmp_path / "broken").mkdir()
    for compared in (tmp_path / "broken", tmp_path / "nowhere"):
        before = threading.active_count()
        with pytest.raises(ModelError):
            Current(Settings(model=str(models / "poly"), compare=(str(compared),)))
        assert threading.active_count() == before


def test_an_engine_that_was_made_ends_with_what_could_not_be(models, tmp_path, monkeypatch):
    folder = shutil.copytree(models / "poly", tmp_path / "model")
    settings = Settings(model=str(folder), compare=(str(models / "bi"), str(models / "raw")))
    current = Current(settings)
    before = threading.active_count()
    (folder / "calibration.json").write_text("{")
    with pytest.raises(ModelError, match=r"the old is served still: .*calibration.json is damaged"):
        current.reload()
    assert threading.active_count() == before
    (folder / "calibration.json").unlink()

    def failing(model, name, *more):
        if name == "raw":
            raise MemoryError
        return Engine(model, name, *more)

    monkeypatch.setattr(loaded, "Engine", failing)
    with pytest.raises(ModelError, match="the old is served still"):
        current.reload()
    assert threading.active_count() == before
    current.close()


def test_what_is_added_while_it_is_loaded_again_is_found(index, monkeypatch):
    current = Current(Settings(index=index))
    real = Served.load

    def meanwhile(*arguments, **more):
        made = real(*arguments, **more)
        with current.use() as served:
            served.library.index.add([{"id": "new", "text": "quite new"}])
        return made

    monkeypatch.setattr(Served, "load", meanwhile)
    current.reload()
    with current.use() as served:
        assert current.generation == 2
        assert served.library.index.search("quite new", k=1).hits[0].id == "new"
    current.close()


def test_it_is_loaded_once_at_a_time(models, monkeypatch):
    current = Current(Settings(model=str(models / "poly")))
    go, begun, real = threading.Event(), threading.Event(), Served.load

    def slow(*arguments, **more):
        begun.set()
        assert go.wait(10)
        return real(*arguments, **more)

    monkeypatch.setattr(Served, "load", slow)
    loading = threading.Thread(target=current.reload)
    loading.start()
    assert begun.wait(10)
    with pytest.raises(BusyError):
        current.reload()
    go.set()
    loading.join()
    assert current.generation == 2
    monkeypatch.setattr(Served, "load", lambda *arguments, **more: 1 / 0)
    with pytest.raises(ModelError, match="the old is served still"):
        current.reload()
    assert current.generation == 2
    current.close()
