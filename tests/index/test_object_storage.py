"""An index in a bucket of a real S3 server is what it is in a folder; what is wrong on the way is said in one line."""

import socket
import time
from datetime import timedelta

import numpy as np
import pytest

from polyencoders.encoders.calibration import Calibration
from polyencoders.errors import IndexingError, StorageError
from polyencoders.index import Index, verify
from polyencoders.index.storage.bucket import options_for
from polyencoders.index.tuning import Tuning

obstore = pytest.importorskip("obstore", reason="needs polyencoders[s3]")
pytest.importorskip("lancedb", reason="needs polyencoders[index]")


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path, object_storage):
    """A machine that reaches the bucket, with a cache of its own; gives a way to become another machine."""

    def become(name):
        monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / name))
        return tmp_path / name

    become("first")
    return become


def rows(*names, text="text of {}", **metadata):
    return [{"id": name, "text": text.format(name), **metadata} for name in names]


def numbered(start, stop, **metadata):
    return rows(*(f"d{i}" for i in range(start, stop)), **metadata)


def found(index, **arguments):
    codes = np.random.default_rng(0).normal(size=(3, 2, 16))
    return [
        (answer.certified, [(hit.id, hit.score, hit.text, hit.metadata) for hit in answer])
        for answer in index.search(codes, **arguments)
    ]


def ids(index):
    return sorted(hit.id for hit in index.search(np.ones((1, 16)), 100_000)[0])


def test_everything_is_as_in_a_folder(small, poly, place, tmp_path):
    def life(where):
        index = Index.create(where, poly)
        told = [index.add(numbered(0, 230, lang="en"), bf16=False, chunk=100)]
        told.append(index.delete(["d3", "nobody"]))
        told.append(index.add([*rows("d4", text="another {}", year=1), *numbered(300, 310)], bf16=False))
        told.append(index.delete(where="id LIKE 'd20%'"))
        return index, told

    (here, told_here), (there, told_there) = life(tmp_path / "folder"), life(place)
    assert told_there == told_here
    for index in (there, Index.open(place, poly), Index.open(place)):
        assert (len(index), index.version) == (len(here), here.version)
        assert index.info().laid_out == here.info().laid_out > 200
        filters = ({"where": "lang = 'en' AND id < 'd2'"}, {"where": "year = 1"})
        for arguments in ({}, {"mode": "fast", "share": 0.2}, *filters):
            assert found(index, k=12, **arguments) == found(here, k=12, **arguments)
        assert index.get(["d4", "d3", "d0"]) == here.get(["d4", "d3", "d0"])
    version = here.version
    for index in (here, there):
        index.compact(timedelta(0))
        assert index.info().versions < version
    assert found(there) == found(here)
    assert verify(place) == []
    about = there.info()
    assert (about.path, about.metadata) == (place, here.info().metadata)
    assert about.bytes > 230 * 16 * 4
    assert place in repr(there)


def test_vectors_that_exist(place, tmp_path):
    vectors = np.random.default_rng(1).normal(size=(50, 16)).astype(np.float32)
    here, there = (Index.from_vectors(where, vectors, numbered(0, 50)) for where in (tmp_path / "folder", place))
    assert found(there) == found(here)
    assert verify(place) == []


def test_how_it_is_searched_is_kept(poly, place):
    index = Index.create(place, poly)
    tuning = Tuning(poly.fingerprints.queries, calibration=Calibration(2.0, -1.0, 40, 20))
    assert index.tuning is None
    index.set_tuning(tuning)
    assert Index.open(place, poly).tuning == tuning
    assert verify(place) == []
    index.set_tuning(None)
    assert Index.open(place, poly).tuning is None


def test_an_earlier_version(poly, place):
    index = Index.create(place, poly)
    index.add(numbered(0, 5))
    version = index.version
    index.delete(["d0"])
    earlier = Index.open(place, poly, version=version)
    assert (len(earlier), len(index)) == (5, 4)
    with pytest.raises(IndexingError, match=f"was opened at version {version}, which does not change"):
        earlier.add(["more"])


def test_a_reader_on_another_machine(small, poly, place, machine):
    writer = Index.create(place, poly)
    writer.add(numbered(0, 210))
    other = machine("second")
    reader = Index.open(place, poly)
    assert reader.info().laid_out == 210
    kept = list(other.glob("indexes/*/search/*/vectors.npy"))
    assert len(kept) == 1  # the layout was fetched, not made
    Index.open(place, poly).search(np.ones((1, 16)))
    assert [path.stat().st_mtime for path in kept] == [path.stat().st_mtime for path in other.glob("**/vectors.npy")]
    machine("first")
    writer.add(numbered(210, 600))
    machine("second")
    assert len(reader) == 210
    reader.refresh()
    assert (reader.version, ids(reader)) == (writer.version, ids(writer))
    assert reader.info().laid_out == 600
    assert len(list(other.glob("indexes/*/search/*/vectors.npy"))) == 1  # the one before is gone
    assert found(reader) == found(writer)


def test_a_damaged_copy_is_fetched_again(small, poly, place, machine):
    index = Index.create(place, poly)
    index.add(numbered(0, 210))
    other = machine("second")
    expected = found(Index.open(place, poly))
    (file,) = other.glob("indexes/*/search/*/row_ids.npy")
    file.write_bytes(file.read_bytes()[:50])
    assert found(Index.open(place, poly)) == expected


def objects(storage, place, only=""):
    """Names of all objects of an index."""
    _, _, prefix = place.removeprefix("s3://").partition("/")
    listed = obstore.list(storage.store(), prefix).collect()
    return sorted(one["path"] for one in listed if only in one["path"] and not one["path"].endswith("hint.json"))


def test_a_flipped_byte_of_any_object_is_found_and_named(small, poly, place, object_storage, machine):
    index = Index.create(place, poly)
    index.add(numbered(0, 210))
    index.delete(["d3"])
    index.add(numbered(300, 303))
    assert verify(place) == []
    store = object_storage.store()
    names = [name for name in objects(object_storage, place) if "/seals/" not in name]
    assert len(names) > 20
    for number, name in enumerate(names):
        content = bytes(obstore.get(store, name).bytes())
        middle = len(content) // 2
        obstore.put(store, name, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        machine(f"reader {number}")
        try:
            said = verify(place)
        except IndexingError as error:
            said = [str(error)]
        assert any(name.rpartition("/")[2] in line for line in said), (name, said)
        obstore.put(store, name, content)
    assert verify(place) == []


def test_a_damaged_layout_is_not_searched(small, poly, place, object_storage, machine):
    index = Index.create(place, poly)
    index.add(numbered(0, 210))
    store = object_storage.store()
    (name,) = objects(object_storage, place, "/vectors.npy")
    content = bytes(obstore.get(store, name).bytes())
    obstore.put(store, name, content[:-1] + bytes([content[-1] ^ 1]))
    machine("second")
    with pytest.raises(IndexingError, match=r"vectors\.npy is damaged.*`polyencoders index compact` makes it anew"):
        Index.open(place, poly).search(np.ones((1, 16)))
    index.compact()
    assert len(ids(Index.open(place, poly))) == 210
    assert verify(place) == []


def test_a_missing_object_and_a_missing_list(poly, place, object_storage):
    index = Index.create(place, poly)
    index.add(numbered(0, 5))
    (data, *_) = objects(object_storage, place, "/data/")
    lists = objects(object_storage, place, "/seals/")
    for name in (data, *lists):
        content = bytes(obstore.get(object_storage.store(), name).bytes())
        obstore.delete(object_storage.store(), name)
        assert any("missing" in line and name.rpartition("/")[2] in line for line in verify(place)), name
        obstore.put(object_storage.store(), name, content)
    assert verify(place) == []


# -- what can go wrong on the way --------------------------------------------------------------------------------------


@pytest.fixture
def silent():
    """An address that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("verb", ["create", "open", "verify"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"aws_secret_access_key": "another-secret"}, r"refuses these credentials \(SignatureDoesNotMatch\)"),
        ({"aws_access_key_id": "AKIAANOTHER"}, r"refuses these credentials \(InvalidAccessKeyId\)"),
        ({"aws_endpoint": "http://127.0.0.1:1"}, r"http://127\.0\.0\.1:1 does not answer"),
        ({"aws_endpoint": "silent", "timeout": "300ms"}, r"http://127\.0\.0\.1:\d+ does not answer"),
        ({"bucket": "nobodys"}, r"there is no bucket 'nobodys' at http://127"),
    ],
    ids=["secret", "key", "refused", "silent", "bucket"],
)
def test_one_clear_line_without_secrets(wrong, said, verb, poly, place, silent, object_storage, caplog):
    wrong = {name: silent if value == "silent" else value for name, value in wrong.items()}
    if bucket := wrong.pop("bucket", None):
        place = place.replace(object_storage.BUCKET, bucket)
    options = {**object_storage.options, **wrong}
    started = time.monotonic()
    with pytest.raises(StorageError, match=said) as raised:
        {
            "create": lambda: Index.create(place, poly, storage_options=options),
            "open": lambda: Index.open(place, poly, storage_options=options),
            "verify": lambda: verify(place, storage_options=options),
        }[verb]()
    assert time.monotonic() - started < 30
    chain = [raised.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    everything = " ".join(map(str, chain)) + caplog.text
    assert "\n" not in str(raised.value)
    assert place in str(raised.value)
    assert raised.value.__cause__ is None, "a cause would be printed with it"
    for secret in (options["aws_secret_access_key"], options["aws_access_key_id"]):
        assert secret not in everything


def test_no_index_and_no_such_place(poly, place):
    with pytest.raises(IndexingError, match="no such index; `polyencoders index create` makes one"):
        Index.open(place, poly)
    with pytest.raises(IndexingError, match="there is no index to verify"):
        verify(place)
    for wrong in ("gs://bucket/x", "s3://", "https://bucket/x"):
        with pytest.raises(IndexingError, match="a folder, or in object storage at s3://bucket/name"):
            Index.create(wrong, poly)


def test_secrets_are_kept_nowhere(poly, place, object_storage):
    index = Index.create(place, poly, storage_options=object_storage.options)
    index.add(rows("a"))
    for name in objects(object_storage, place):
        assert object_storage.SECRET.encode() not in bytes(obstore.get(object_storage.store(), name).bytes())
    assert object_storage.SECRET not in repr(index) + repr(vars(index)) + repr(index.info())
    assert object_storage.SECRET not in repr(options_for(place, object_storage.options))


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_come_from_options_then_the_environment_then_files(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\nendpoint_url = https://here\n[default]\n")
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = from-file\naws_secret_access_key = %secret%\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert "access_key_id" not in options_for("s3://b/x", None).settings
    monkeypatch.setenv("AWS_PROFILE", "work")
    settings = options_for("s3://b/x/y", None)
    assert (settings.bucket, settings.prefix, settings.where) == ("b", "x/y", "https://here")
    assert settings.engine()["aws_access_key_id"] == "from-file"
    assert settings.engine()["aws_secret_access_key"] == settings.store()["secret_access_key"] == "%secret%"
    assert settings.settings["allow_http"] == "false"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    assert options_for("s3://b/x", None).store()["access_key_id"] == "from-environment"
    given = options_for("s3://b/x", {"AWS_ACCESS_KEY_ID": "given", "timeout": "2s", "aws_endpoint": "http://there"})
    assert given.store()["access_key_id"] == "given"
    assert given.client() == {"allow_http": True, "timeout": "2s", "connect_timeout": "5s"}
    assert given.settings["region"] == "us-east-1"
