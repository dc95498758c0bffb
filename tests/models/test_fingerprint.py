"""A fingerprint changes with anything that changes what comes out (that it is the same in another process:
`test_saving`)."""

import pytest
import torch
from torch import nn

from polyencoders.models.fingerprint import fingerprint


def of(model, task="query", **settings):
    return fingerprint(model.route(task), settings)


@pytest.mark.parametrize("name", ["poly-learnt", "bi-attention"])
def test_every_weight_counts(build, name):
    model = build(name)
    before = of(model)
    seen = {before}
    weights = [w for module in model.route("query") for w in module.parameters()]
    assert len(weights) > 30
    for weight in weights:
        place = (-1,) * weight.ndim
        kept = weight.data[place].clone()
        weight.data[place] += 1e-3
        seen.add(of(model))
        weight.data[place] = kept
    assert len(seen) == 1 + len(weights)
    assert of(model) == before


def test_settings_count(built, build):
    assert of(built("poly-learnt"), a=1) == of(built("poly-learnt"), a=1)
    assert len({of(built("poly-learnt")), of(built("poly-learnt"), a=1), of(built("poly-learnt"), a=2)}) == 3
    assert of(built("poly-learnt"), a=1, b=2) == of(built("poly-learnt"), b=2, a=1)
    kinds = {of(build("poly-learnt", codes=kind, maps="none")) for kind in ("first", "last", "last-and-first")}
    assert len(kinds | {of(build("poly-learnt", codes="first", maps="none", m=4))}) == 4
    assert len({of(build("bi", reduction=reduction)) for reduction in ("first", "mean", "max")}) == 3
    firsts = {of(build("bi", reduction="mean-first-n", n=n)) for n in (2, 3)}
    assert len(firsts) == 2


def test_how_much_of_a_text_is_read_counts(build):
    model = build("bi")
    before = of(model)
    model.max_seq_length = 64
    assert of(model) != before
    assert len({of(build("bi")), of(build("bi", query_length=20)), of(build("bi", document_length=20))}) == 3


def test_names_shapes_types_and_order_count():
    with torch.no_grad():
        modules = [nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False), nn.Embedding(3, 2)]
        for module in modules:
            module.weight.copy_(torch.zeros_like(module.weight))
    seen = {fingerprint([module], {}) for module in modules}
    seen.add(fingerprint([modules[0].half()], {}))
    seen.add(fingerprint(modules[1:], {}))
    seen.add(fingerprint(modules[:0:-1], {}))
    assert len(seen) == 6


def test_the_documents_fingerprint_is_not_moved_by_the_query_side(build):
    model = build("poly-first")  # two towers
    before = of(model, "document")
    with torch.no_grad():
        for weights in model.route("query")[0].parameters():
            weights += 1
    assert of(model, "document") == before


def test_it_is_32_hexadecimal_digits(built):
    digits = of(built("bi"))
    assert len(digits) == 32
    int(digits, 16)
