"""Requests as clients send them, recorded from the real ones, and what each of them reads of the answer."""

import json
from pathlib import Path

import pytest

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))


def test_many_clients_were_recorded():
    assert len({one["client"].partition(" ")[0] for one in RECORDED}) > 15


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one['client']} {one['path']}")
def test_the_client_finds_what_it_reads(one_vector, one):
    answer = one_vector[0].client.post(one["path"], json=one["body"])
    assert answer.status_code == 200, answer.text
    for path in one["reads"]:
        found = answer.json()
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
        assert found is not None
