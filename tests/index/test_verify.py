"""Damage anywhere in an index is found and named; what is whole is said to be; nothing ends in a traceback."""

import shutil
from datetime import timedelta

import numpy as np
import pytest

from polyencoders.errors import IndexingError
from polyencoders.index import Index, verify

COVERED = ("documents.lance", "search")


def files_of(path):
    """Every file that has a checksum, by its name in the index."""
    found = [file for folder in COVERED for file in (path / folder).rglob("*") if file.is_file()]
    return sorted(file.relative_to(path).as_posix() for file in found if file.name != "latest_version_hint.json")


def rows(n, first=0):
    return [{"id": f"d{i}", "text": f"text {i}", "tags": [i], "year": i % 7} for i in range(first, first + n)]


@pytest.fixture(scope="module")
def whole(small_for_all, poly, tmp_path_factory):
    """An index with a layout, several versions, deleted and replaced documents, not to be changed."""
    index = Index.create(tmp_path_factory.mktemp("index") / "x", poly)
    index.add(rows(210))
    index.delete(["d3"])
    index.add([*rows(5, first=300), {"id": "d4", "text": "another", "new": True}])
    assert verify(index.path) == []
    return index.path


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flipped, "the file is damaged"),
        (lambda content: flipped(content[::-1])[::-1], "the file is damaged"),
        (lambda content: content[:-1], "cut short"),
        (lambda content: b"", "cut short"),
        (lambda content: content + b"\0", "too long"),
        (None, "the file is missing"),
    ],
    ids=["flipped", "flipped beside it", "cut short", "emptied", "too long", "missing"],
)
def test_damage_to_any_file_is_found_and_named(copy, damage, said):
    names = files_of(copy)
    assert len(names) > 20
    for name in names:
        file = copy / name
        content = file.read_bytes()
        assert content
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(content))
        found = verify(copy)
        assert any(line.startswith(f"{name}: ") and said in line for line in found), (name, found)
        others = [other for other in names if other != name and any(line.startswith(f"{other}: ") for line in found)]
        assert others == []
        file.write_bytes(content)
    assert verify(copy) == []


def test_damage_to_a_list_of_checksums(copy):
    for file in sorted((copy / "seals").glob("*.json")):
        content = file.read_bytes()
        for damaged in (content[: len(content) // 2], b"\xff" + content, b"[1]"):
            file.write_bytes(damaged)
            assert any(file.name in line and "damaged" in line for line in verify(copy))
        file.write_bytes(content)
    assert verify(copy) == []


def test_every_byte_read_is_told_of(copy):
    told = []
    assert verify(copy, told.append) == []
    assert sum(told) == sum((copy / name).stat().st_size for name in files_of(copy))


def test_it_stays_whole_through_changes(small, poly, tmp_path):
    index = Index.create(tmp_path / "x", poly)
    assert verify(index.path) == []
    index.add(rows(40), chunk=15)
    assert verify(index.path) == []
    index.delete(where="year = 3")
    assert verify(index.path) == []
    index.compact(timedelta(0))
    assert verify(index.path) == []
    index.add(rows(200, first=100))
    assert index.info().laid_out > 0
    assert verify(index.path) == []
    index.add(rows(10, first=100) + rows(10, first=500))
    index.delete(["d100"])
    index.compact(timedelta(0))
    assert verify(index.path) == []
    index.delete(where="true")
    assert verify(index.path) == []
    assert len(index) == 0


def test_verifying_changes_nothing(copy):
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    verify(copy)
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()} == before


def test_there_is_no_index(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(IndexingError, match="there is no index to verify"):
            verify(path)


def newest_manifest(path):
    """The engine counts names down, so that the newest sorts first."""
    return min((path / "documents.lance" / "_versions").glob("*.manifest"), key=lambda file: int(file.stem))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: np.random.default_rng(0).bytes(len(content)),
        lambda content: content[:-16] + np.random.default_rng(1).bytes(16),
    ],
    ids=["emptied", "half", "one byte less", "zeros", "noise", "noise at the end"],
)
def test_an_index_whose_newest_version_is_damaged(copy, damage):
    manifest = newest_manifest(copy)
    manifest.write_bytes(damage(manifest.read_bytes()))
    with pytest.raises(IndexingError) as raised:
        Index.open(copy).search(np.ones((1, 16)))
    assert str(copy) in str(raised.value)
    assert "verify" in str(raised.value)
    assert any(manifest.name in line for line in verify(copy))


def test_a_damaged_layout_is_an_error_that_says_so(copy, poly):
    for name in [name for name in files_of(copy) if name.startswith("search/")]:
        file = copy / name
        content = file.read_bytes()
        for damaged in (content[: len(content) // 2], b"", None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            try:
                (answer,) = Index.open(copy).search(np.ones((1, 16)), k=5)
                assert len(answer) == 5  # it did without
            except IndexingError as error:
                assert "verify" in str(error) or "compact" in str(error)  # noqa: PT017
            file.write_bytes(content)
