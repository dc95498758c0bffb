"""The search finds exactly the documents that scoring all of them in float64 finds, on every path this machine has."""

import logging
import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from polyencoders.scoring import PreparedDocuments, kernel, search, search_path
from polyencoders.scoring import prepared as prepared_module
from polyencoders.scoring.block_search import search_in_blocks
from polyencoders.scoring.rows import Rows
from polyencoders.scoring.torch_score import score_all_pairs

PATHS = [*(kernel.native().variants() if kernel.native() else []), "numpy"]
NATIVE = PATHS[:-1]
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def exhaustive(documents, codes, temperature):
    """Scores `(q, n)` in float64, the paper's equation in numpy; equal documents get equal scores."""
    unique, where = np.unique(np.asarray(documents, dtype=np.float64), axis=0, return_inverse=True)
    scores = np.zeros((len(codes), len(unique)))
    for i, query in enumerate(np.asarray(codes, dtype=np.float64)):
        query = query[(query != 0).any(-1)]
        if len(query):
            s = unique @ query.T
            weights = np.exp((s - s.max(1, keepdims=True)) / temperature)
            scores[i] = (weights * s).sum(1) / weights.sum(1)
    return scores[:, where.reshape(-1)]


def assert_best(found, documents, codes, k, temperature):
    """The k best, best first, ties by index. Scores that differ by rounding alone may stand in either order."""
    scores = exhaustive(documents, codes, temperature)
    k = min(k, scores.shape[1])
    indices, given_scores = np.asarray(found.indices), np.asarray(found.scores)
    assert indices.shape == given_scores.shape == (len(codes), k)
    sizes = np.linalg.norm(np.asarray(documents, dtype=np.float64), axis=1).max(initial=0)
    for i in range(len(codes)):
        expected = np.lexsort((np.arange(scores.shape[1]), -scores[i]))[:k]
        rounding = 1e-11 * max(1e-30, sizes * np.linalg.norm(np.asarray(codes[i], dtype=np.float64), axis=1).max())
        np.testing.assert_allclose(given_scores[i], scores[i][expected], rtol=1e-10, atol=rounding)
        differ = indices[i] != expected
        assert (np.abs(scores[i][indices[i][differ]] - scores[i][expected[differ]]) <= rounding).all()
        assert len(set(indices[i])) == k
        order = np.lexsort((indices[i], -given_scores[i]))
        assert (order == np.arange(k)).all(), "best first, ties by index"


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setenv(kernel.CHOICE, request.param)
    assert search_path() == request.param
    return request.param


def vectors(seed, n, d, q, m, kind, scale):
    """Documents and codes of the kinds that a bound could get wrong."""
    generator = np.random.default_rng(seed)
    documents = generator.standard_normal((n, d))
    codes = generator.standard_normal((q, m, d))
    if kind == "alike":  # codes around one direction, documents around another few: what trained models give
        codes = generator.standard_normal((q, 1, d)) + 0.2 * generator.standard_normal(
            (q, m, 3)
        ) @ generator.standard_normal((3, d))
        documents = documents * 0.3 + generator.standard_normal((5, d))[generator.integers(5, size=n)]
    elif kind == "near":  # documents that differ by less than 8 bits can tell
        documents = documents[:1] + 1e-4 * documents
    elif kind == "equal":
        documents = documents[generator.integers(max(1, n // 4), size=n)]
    elif kind == "outliers":  # one number far above the others: 8 bits keep nothing else
        documents[:, generator.integers(d)] *= 1000
        codes[..., generator.integers(d)] *= 1000
    elif kind == "lengths":
        documents *= 10.0 ** generator.integers(-8, 8, size=(n, 1))
        codes *= 10.0 ** generator.integers(-8, 8, size=(q, m, 1))
    elif kind == "halves":  # all rounded in the direction of the codes, by as much as rounding can
        documents = np.round(documents * 40) + 0.5
        documents[:, 0] = 127
        codes = np.ones((q, m, d)) + 0.01 * codes
    elif kind == "absent":
        codes[generator.random((q, m)) < 0.5] = 0
    elif kind == "zeros":
        documents[generator.random(n) < 0.5] = 0
    return (documents * scale).astype(np.float32), (codes * scale).astype(np.float32)


KINDS = ("random", "alike", "near", "equal", "outliers", "lengths", "halves", "absent", "zeros")
CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "n": st.integers(1, 300),
    "d": st.integers(1, 70),
    "m": st.integers(1, 40),
    "kind": st.sampled_from(KINDS),
    "scale": st.sampled_from([1.0, 0.05, 1e-5, 30.0]),
    "temperature": st.sampled_from([1.0, 0.05, 1e-4, 20.0]),
}


@SETTINGS
@given(q=st.integers(1, 3), k=st.integers(1, 20), **CASES)
def test_the_best_are_the_best(path, q, k, seed, n, d, m, kind, scale, temperature):
    documents, codes = vectors(seed, n, d, q, m, kind, scale)
    found = PreparedDocuments(documents).search(codes, k, temperature)
    assert_best(found, documents, codes, k, temperature)


@pytest.mark.parametrize("variant", NATIVE)
@SETTINGS
@given(**CASES)
@example(seed=0, n=64, d=384, m=360, kind="alike", scale=1.0, temperature=0.05)
@example(seed=0, n=64, d=384, m=360, kind="random", scale=1.0, temperature=1.0)
@example(seed=0, n=64, d=384, m=64, kind="halves", scale=0.05, temperature=0.05)
def test_no_bound_is_below_the_score(variant, seed, n, d, m, kind, scale, temperature):
    documents, codes = vectors(seed, n, d, 1, m, kind, scale)
    prepared = PreparedDocuments(documents)
    wide = np.ascontiguousarray(codes[0], dtype=np.float64)
    bounds = prepared._native.bounds(variant, wide.ctypes.data, m, temperature)
    *above, below = np.array(bounds).reshape(-1, n)
    scores = exhaustive(documents, codes, temperature)[0]
    if not codes.any():
        return
    tiny = 1e-12 * np.abs(scores)  # of the float64 reference
    for stage, bound in enumerate(above):
        assert (bound >= scores - tiny).all(), stage
    assert (below <= scores + tiny).all()


@pytest.mark.parametrize(("m", "kind"), [(1, "random"), (4, "alike"), (16, "random"), (64, "alike"), (360, "alike")])
def test_many_documents(path, m, kind):
    """Enough of them for chunks, openings, changes of the screen and several threads."""
    documents, codes = vectors(7, 9_000, 96, 3, m, kind, 0.1)
    documents[5_000] = documents[8_999] = documents[17]
    prepared = PreparedDocuments(documents)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        try:
            found = prepared.search(codes, 10, 0.05)
        finally:
            torch.set_num_threads(threads)
        assert_best(found, documents, codes, 10, 0.05)


def test_equal_documents_come_in_the_order_of_their_indices(path):
    documents = np.ones((5_000, 24), dtype=np.float32)
    found = PreparedDocuments(documents).search(np.ones((2, 3, 24), dtype=np.float32), 40)
    assert (found.indices == np.arange(40)).all()


def test_real_vectors(path, backbone):
    """A trained model's vectors: the mean of token outputs, and the outputs themselves as codes."""
    from polyencoders.models import PolyEncoder

    model = PolyEncoder(str(backbone), codes="first", m=8)
    texts = [f"{a} {b}" for a in ("how are you", "what a day", "thanks", "I like tea", "see you") for b in range(60)]
    documents, codes = model.encode_document(texts), model.encode_query(texts[:5])
    found = search(documents, codes, 10, model.temperature)
    assert_best(found, documents, codes, 10, model.temperature)
    expected = score_all_pairs(torch.from_numpy(codes), torch.from_numpy(documents), model.temperature).topk(10).values
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_element_types_are_read_as_they_are(path, dtype):
    documents, codes = vectors(3, 500, 33, 2, 5, "random", 1.0)
    documents, codes = torch.from_numpy(documents).to(dtype), torch.from_numpy(codes).to(dtype)
    found = PreparedDocuments(documents).search(codes, 7)
    assert isinstance(found.scores, torch.Tensor)
    assert_best(found, documents.double().numpy(), codes.double().numpy(), 7, 1.0)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    return np.frombuffer(b"?" + x.tobytes(), dtype=np.uint8)[1:].view(x.dtype).reshape(x.shape)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda x: np.asfortranarray(x), id="columns"),
        pytest.param(lambda x: np.repeat(x, 2, axis=-1)[..., ::2], id="every other number"),
        pytest.param(lambda x: np.repeat(x, 3, axis=0)[::3], id="every third row"),
        pytest.param(lambda x: x[::-1].copy()[::-1], id="backwards"),
        pytest.param(lambda x: x[..., ::-1].copy()[..., ::-1], id="rows backwards"),
        pytest.param(read_only, id="read-only"),
        pytest.param(unaligned, id="unaligned"),
        pytest.param(lambda x: x.astype(">f4"), id="big-endian"),
        pytest.param(lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]], id="part of wider rows"),
        pytest.param(lambda x: torch.from_numpy(x), id="tensor"),
        pytest.param(lambda x: torch.from_numpy(x).mT.contiguous().mT, id="transposed tensor"),
        pytest.param(lambda x: torch.from_numpy(x).requires_grad_(), id="tensor with a gradient"),
    ],
)
def test_any_memory(path, form):
    documents, codes = vectors(5, 700, 20, 2, 6, "alike", 1.0)
    assert_best(PreparedDocuments(form(documents)).search(form(codes), 5, 0.1), documents, codes, 5, 0.1)


def test_vectors_are_not_copied():
    documents = np.ones((100, 16), dtype=np.float32)
    assert PreparedDocuments(documents).rows.address == documents.ctypes.data
    wide = torch.ones(100, 64)[:, 16:32]
    assert PreparedDocuments(wide).rows.address == wide.data_ptr()


def test_arrays_in_arrays_out(path):
    documents = PreparedDocuments(torch.eye(4))
    assert isinstance(documents.search(np.eye(4)[None]).scores, np.ndarray)
    scores, indices = documents.search(torch.eye(4)[:2])
    assert (scores.dtype, indices.dtype) == (torch.float64, torch.int64)
    assert indices[:, 0].tolist() == [0, 1]


def test_nothing_to_search(path):
    found = PreparedDocuments(np.empty((0, 8), dtype=np.float32)).search(np.ones((3, 2, 8)), 10)
    assert found.scores.shape == found.indices.shape == (3, 0)
    found = PreparedDocuments(np.ones((4, 8), dtype=np.float32)).search(np.empty((0, 2, 8)), 10)
    assert found.scores.shape == (0, 4)


def test_more_queries_than_are_taken_at_once(path, monkeypatch):
    monkeypatch.setattr(prepared_module, "CODES_AT_ONCE", 100)
    documents, codes = vectors(4, 200, 16, 11, 3, "alike", 1.0)
    assert_best(PreparedDocuments(documents).search(codes, 4), documents, codes, 4, 1.0)
    codes[9, 1, 5] = np.inf
    with pytest.raises(ValueError, match="code 1 of query 9 has inf at dimension 5"):
        PreparedDocuments(documents).search(codes, 4)


def test_more_codes_than_the_kernel_takes():
    documents, codes = vectors(1, 50, 8, 1, kernel.MOST_CODES + 1, "random", 1.0)
    assert_best(PreparedDocuments(documents).search(codes, 3), documents, codes, 3, 1.0)


@pytest.mark.parametrize("k", [1, 49, 50, 51, 1000])
def test_any_k(path, k):
    documents, codes = vectors(2, 50, 8, 2, 3, "equal", 1.0)
    assert_best(PreparedDocuments(documents).search(codes, k), documents, codes, k, 1.0)


@pytest.mark.parametrize(
    ("documents", "error", "says"),
    [
        ([[1.0]], TypeError, "documents: expected a tensor or a numpy array, got list"),
        (np.ones((2, 3), dtype=np.int64), TypeError, "got int64"),
        (torch.ones(2, 3, dtype=torch.complex64), TypeError, "got complex64"),
        (np.ones(3), ValueError, r"expected a matrix \(n, d\) with d at least 1, got the shape \(3,\)"),
        (np.ones((3, 0)), ValueError, r"\(3, 0\)"),
        (np.array([[1.0, 2.0], [1.0, np.nan]]), ValueError, "document 1 has nan at dimension 1: expected finite"),
        (torch.tensor([[1.0], [1.0], [-torch.inf]]), ValueError, "document 2 has -inf at dimension 0"),
        (np.array([[1e100, 0.0]]), ValueError, r"document 0 has the length 1e\+100: expected at most 1e\+15"),
        (np.array([[0.0], [3e16]], dtype=np.float32), ValueError, r"document 1 has the length 3e\+16"),
    ],
)
def test_documents_refused(path, documents, error, says):
    with pytest.raises(error, match=says):
        PreparedDocuments(documents)


@pytest.mark.parametrize(
    ("codes", "options", "error", "says"),
    [
        (np.ones((1, 2, 4)), {}, ValueError, r"expected query codes \(q, m, 3\) or \(q, 3\) .* got \(1, 2, 4\)"),
        (np.ones(3), {}, ValueError, r"got \(3,\)"),
        (np.ones((1, 0, 3)), {}, ValueError, r"got \(1, 0, 3\)"),
        ([[1.0, 1.0, 1.0]], {}, TypeError, "query codes: expected a tensor or a numpy array, got list"),
        (np.ones((1, 2, 3), dtype=np.int32), {}, TypeError, "query codes: .* got int32"),
        (np.full((1, 2, 3), np.nan), {}, ValueError, "code 0 of query 0 has nan at dimension 0"),
        (np.array([[[0, 0, 1]], [[0, 1e99, 0]]]), {}, ValueError, r"code 0 of query 1 has the length 1e\+99"),
        (np.ones((1, 2, 3)), {"k": 0}, ValueError, "k, how many documents to find, must be at least 1, got 0"),
        (np.ones((1, 2, 3)), {"temperature": 0.0}, ValueError, "temperature must be a number above 0, got 0.0"),
        (np.ones((1, 2, 3)), {"temperature": np.nan}, ValueError, "temperature must be a number above 0, got nan"),
        (np.ones((1, 2, 3)), {"temperature": np.inf}, ValueError, "temperature must be a number above 0, got inf"),
    ],
)
def test_queries_refused(path, codes, options, error, says):
    with pytest.raises(error, match=says):
        PreparedDocuments(np.ones((5, 3), dtype=np.float32)).search(codes, **options)


def test_an_unknown_path_is_refused(monkeypatch):
    monkeypatch.setenv(kernel.CHOICE, "abacus")
    with pytest.raises(ValueError, match=r"POLYENCODERS_KERNEL=abacus: this machine has .*numpy"):
        search_path()


def test_without_the_kernel_it_says_so_and_finds_the_same(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "polyencoders.scoring._kernel", None)
    monkeypatch.delattr("polyencoders.scoring._kernel", raising=False)
    kernel.native.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert search_path() == search_path() == "numpy"
        assert len(caplog.records) == 1
        assert "searching with numpy" in caplog.text
        documents, codes = vectors(9, 300, 16, 2, 4, "alike", 1.0)
        assert_best(PreparedDocuments(documents).search(codes), documents, codes, 10, 1.0)
    finally:
        kernel.native.cache_clear()


def test_the_numpy_path_in_small_blocks():
    documents, codes = vectors(11, 400, 12, 3, 5, "equal", 1.0)
    scores, indices = search_in_blocks(
        codes.astype(np.float64), Rows(documents, "documents"), 9, 0.3, block_elements=64
    )
    whole = search(documents, codes, 9, 0.3)
    assert (indices == whole.indices).all()
    np.testing.assert_allclose(scores, whole.scores, rtol=1e-12)


def test_several_python_threads_at_once(path):
    documents, codes = vectors(13, 4_000, 64, 8, 16, "alike", 1.0)
    prepared = PreparedDocuments(documents)
    expected = prepared.search(codes, 5, 0.1).indices
    wrong = []

    def run():
        for _ in range(5):
            if (prepared.search(codes, 5, 0.1).indices != expected).any():
                wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _search_in_child(prepared, codes, connection):
    connection.send(prepared.search(codes, 5).indices.tolist())


@pytest.mark.skipif(not NATIVE, reason="PyTorch's own threads do not survive a fork")
def test_a_process_may_fork_and_die():
    documents, codes = vectors(15, 5_000, 32, 2, 4, "alike", 1.0)
    prepared = PreparedDocuments(documents)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = prepared.search(codes, 5).indices.tolist()
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        child = context.Process(target=_search_in_child, args=(prepared, codes, theirs))
        child.start()
        assert mine.poll(60)
        assert mine.recv() == expected
        child.kill()
        child.join()
        assert prepared.search(codes, 5).indices.tolist() == expected
    finally:
        torch.set_num_threads(threads)


MEMORY = """
import numpy as np, torch
from polyencoders.scoring import PreparedDocuments
torch.set_num_threads(2)
generator = np.random.default_rng(0)
documents = PreparedDocuments(generator.standard_normal(({n}, 64), dtype=np.float32))
codes = generator.standard_normal((400, {m}, 64), dtype=np.float32)
def kilobytes(what):
    return int(open("/proc/self/status").read().split(what)[1].split()[0])
documents.search(codes[:1, :1], 1)
before = kilobytes("VmRSS:")
open("/proc/self/clear_refs", "w").write("5")
documents.search(codes, 10, 0.05)
print((kilobytes("VmHWM:") - before) / 1024)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
@pytest.mark.parametrize(("n", "m"), [(20_000, 64), (200_000, 16)])
def test_memory_does_not_grow_with_the_documents(n, m):
    process = subprocess.run(
        [sys.executable, "-c", MEMORY.format(n=n, m=m)], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(process.stdout) < 64
