"""Directories and files appear finished, or not at all."""

import errno
import os
import resource

import pytest

from polyencoders.files import whole_directory, whole_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full_disk():
    return OSError(errno.ENOSPC, "No space left on device")


def fail_halfway(whole, path, error, **arguments):
    """Begin to write a file, or a directory of one, and meet an error."""
    with whole(path, **arguments) as scratch:
        (scratch / "weights" if scratch.is_dir() else scratch).write_text("half")
        raise error


def test_a_directory_appears_with_everything_in_it(tmp_path):
    with whole_directory(tmp_path / "deep" / "model") as scratch:
        (scratch / "part").mkdir()
        (scratch / "part" / "weights").write_text("new")
        assert not (tmp_path / "deep" / "model").exists()
    assert (tmp_path / "deep" / "model" / "part" / "weights").read_text() == "new"
    assert names(tmp_path / "deep") == ["model"]


def test_a_directory_that_fails_halfway_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="No space"):
        fail_halfway(whole_directory, tmp_path / "model", full_disk())
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [full_disk(), KeyboardInterrupt()])
def test_what_was_there_before_stays_when_its_replacement_fails(tmp_path, error):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    with pytest.raises(type(error)):
        fail_halfway(whole_directory, tmp_path / "model", error, replaced=lambda name: True)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


def test_a_swap_that_fails_is_undone(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    rename, calls = type(tmp_path).rename, []

    def second_fails(path, target):
        calls.append(target)
        if len(calls) == 2:
            raise full_disk()
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", second_fails)
    with pytest.raises(OSError, match="No space"), whole_directory(tmp_path / "model") as scratch:
        (scratch / "weights").write_text("new")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


def test_replacing_removes_what_is_stale_and_keeps_what_is_the_users(tmp_path):
    (tmp_path / "model" / "checkpoints").mkdir(parents=True)
    for name in ("weights", "stale", "notes.txt", "checkpoints/1"):
        (tmp_path / "model" / name).write_text("old")
    with whole_directory(tmp_path / "model", lambda name: name == "stale") as scratch:
        (scratch / "weights").write_text("new")
    assert names(tmp_path / "model") == ["checkpoints", "notes.txt", "weights"]
    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert (tmp_path / "model" / "checkpoints" / "1").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_directory_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with whole_directory(tmp_path / "link") as scratch:
        (scratch / "weights").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "weights").read_text() == "new"


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(NotADirectoryError, match="model is a file"), whole_directory(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "a file"


def test_permissions_are_those_of_any_other_file(tmp_path):
    umask = os.umask(0o022)
    try:
        with whole_directory(tmp_path / "model") as scratch:
            (scratch / "weights").write_text("new")
        with whole_file(tmp_path / "table") as scratch:
            scratch.write_text("new")
    finally:
        os.umask(umask)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "table").stat().st_mode & 0o777 == 0o644


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path):
    with whole_file(tmp_path / "deep" / "table") as scratch:
        scratch.write_text("first")
    with pytest.raises(OSError, match="No space"):
        fail_halfway(whole_file, tmp_path / "deep" / "table", full_disk())
    assert (tmp_path / "deep" / "table").read_text() == "first"
    with whole_file(tmp_path / "deep" / "table") as scratch:
        scratch.write_text("second")
    assert (tmp_path / "deep" / "table").read_text() == "second"
    assert names(tmp_path / "deep") == ["table"]


@pytest.mark.parametrize("whole", [whole_file, whole_directory])
def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path, whole):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"), whole(tmp_path / "out") as scratch:
            (scratch / "weights" if whole is whole_directory else scratch).write_bytes(b"0" * 8192)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []
