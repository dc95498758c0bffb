"""The score against the paper's definition written out: a weighted context vector for every query and document."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from polyencoders.scoring.torch_score import attend, present_codes, score_all_pairs, score_pairwise


@st.composite
def problems(draw):
    """Query codes (q, m, d), some of them absent, documents (n, d), and a temperature."""
    q, n, m, d = (draw(st.integers(1, most)) for most in (4, 5, 6, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.01, 1.0, 30.0]))
    codes = scale * torch.randn(q, m, d, generator=generator, dtype=torch.float64)
    documents = torch.randn(n, d, generator=generator, dtype=torch.float64)
    absent = torch.rand(q, m, generator=generator) < draw(st.sampled_from([0.0, 0.0, 0.4, 1.0]))
    codes[absent] = 0
    return codes, documents, draw(st.floats(0.05, 20))


def paper_score(codes, document, temperature):
    """Humeau et al. 2020, equation 2, over the codes that are there: y_ctx is built, and multiplied with y_cand."""
    ys = [y for y in codes if y.any()]
    if not ys:
        return 0.0
    inner = [float(y @ document) / temperature for y in ys]
    exponentials = [math.exp(s - max(inner)) for s in inner]
    weights = [e / sum(exponentials) for e in exponentials]
    y_ctx = sum(w * y for w, y in zip(weights, ys, strict=True))
    return float(y_ctx @ document)


def closeness(codes):
    return {"rtol": 1e-9, "atol": 1e-9 * max(1.0, float(codes.abs().max()))}


@given(problems())
def test_all_pairs_is_the_papers_definition(problem):
    codes, documents, temperature = problem
    expected = [[paper_score(y, c, temperature) for c in documents] for y in codes]
    scores = score_all_pairs(codes, documents, temperature)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), **closeness(codes))


@given(problems())
def test_pairwise_is_the_diagonal_of_all_pairs(problem):
    codes, documents, temperature = problem
    number = min(len(codes), len(documents))
    codes, documents = codes[:number], documents[:number]
    expected = score_all_pairs(codes, documents, temperature).diagonal()
    torch.testing.assert_close(score_pairwise(codes, documents, temperature), expected, **closeness(codes))


@given(problems())
def test_the_score_lies_between_its_bounds(problem):
    """With p = softmax(s / T): log p_i = s_i / T - logsumexp(s / T), so sum_i p_i s_i = T (logsumexp(s / T) - H(p)).

    H(p) <= log m and T logsumexp(s / T) >= max(s) give the lower bound; the score is a mean of s, so max(s) is the
    upper; and it weights larger s more, so it is at least the plain mean.
    """
    codes, documents, temperature = problem
    scores = score_all_pairs(codes, documents, temperature)
    slack = 1e-9 * max(1.0, float(codes.abs().max()))
    for y, row in zip(codes, scores, strict=True):
        real = y[y.any(-1)]
        if not len(real):
            continue
        s = real @ documents.T
        p = (s / temperature).softmax(0)
        entropy = -(p * p.clamp(min=1e-300).log()).sum(0)
        identity = temperature * ((s / temperature).logsumexp(0) - entropy)
        torch.testing.assert_close(row, identity, rtol=1e-7, atol=1e-7 * max(1.0, float(codes.abs().max())))
        assert (row <= s.amax(0) + slack).all()
        assert (row >= s.amax(0) - temperature * math.log(len(real)) - slack).all()
        assert (row >= s.mean(0) - slack).all()


@given(problems(), st.integers(1, 40))
def test_chunks_change_neither_scores_nor_gradients(problem, chunk_elements):
    codes, documents, temperature = problem
    results = []
    for chunk in (chunk_elements, 10**6):
        inputs = codes.clone().requires_grad_(), documents.clone().requires_grad_()
        scores = score_all_pairs(*inputs, temperature, chunk)
        upstream = torch.linspace(-1, 1, scores.numel(), dtype=torch.float64).view_as(scores)
        results.append((scores, *torch.autograd.grad(scores, inputs, upstream)))
    for chunked, whole in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chunk_elements", [6, 1 << 22])
def test_gradients_are_those_of_finite_differences(chunk_elements):
    torch.manual_seed(0)
    codes = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    documents = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, c: score_all_pairs(y, c, 0.7, chunk_elements), (codes, documents))
    assert torch.autograd.gradcheck(lambda y, c: score_pairwise(y, c, 0.7), (codes, documents[:2]))


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("training", [False, True])
def test_no_tensor_outgrows_the_chunk_the_inputs_and_the_result(training):
    codes = torch.randn(4, 64, 8, requires_grad=training)
    documents = torch.randn(1000, 8, requires_grad=training)
    with LargestTensor() as largest:
        scores = score_all_pairs(codes, documents, chunk_elements=4096)
        if training:
            scores.sum().backward()
    # The gradient of the documents is the largest thing asked for; all inner products at once would be 256,000.
    assert largest.elements <= max(4096, documents.numel(), codes.numel(), scores.numel()) == 8000


def test_training_keeps_no_inner_products_for_the_backward_pass():
    codes, documents = torch.randn(4, 64, 8, requires_grad=True), torch.randn(1000, 8)
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.itemsize
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda packed: packed):
        scores = score_all_pairs(codes, documents, chunk_elements=4096)
    assert sum(kept.values()) <= codes.numel() + documents.numel()
    assert scores.requires_grad


def test_a_query_without_codes_scores_0():
    codes = torch.stack([torch.zeros(3, 2), torch.ones(3, 2)])
    documents = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    assert score_all_pairs(codes, documents).tolist() == [[0.0, 0.0], [3.0, -0.5]]
    assert score_pairwise(codes, documents).tolist() == [0.0, -0.5]


def test_absent_codes_do_not_count_as_inner_products_of_0():
    codes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    document = torch.tensor([[-5.0, 0.0]])
    assert score_all_pairs(codes, document).item() == -5.0
    assert present_codes(codes).tolist() == [[True, False]]


@given(problems())
@settings(max_examples=20)
def test_the_order_of_codes_queries_and_documents_does_not_matter(problem):
    codes, documents, temperature = problem
    scores = score_all_pairs(codes, documents, temperature)
    flipped = score_all_pairs(codes.flip(0, 1), documents.flip(0), temperature).flip(0, 1)
    torch.testing.assert_close(flipped, scores, **closeness(codes))


def test_one_code_is_the_inner_product():
    codes, documents = torch.randn(3, 1, 4), torch.randn(5, 4)
    torch.testing.assert_close(score_all_pairs(codes, documents, 0.3), codes[:, 0] @ documents.T)


def test_a_low_temperature_is_the_maximum_and_a_high_one_the_mean():
    s = torch.tensor([[1.0, 2.0, 6.0]])
    present = torch.ones(1, 3, dtype=torch.bool)
    assert attend(s, present, 1e-3).item() == pytest.approx(6.0)
    assert attend(s, present, 1e6).item() == pytest.approx(3.0, abs=1e-4)


def test_large_inner_products_do_not_overflow():
    scores = score_all_pairs(torch.full((1, 2, 1), 1e4), torch.tensor([[1.0], [-1.0]]), 0.01)
    assert scores.tolist() == [[1e4, -1e4]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_in_float32(dtype):
    codes, documents = torch.randn(2, 3, 4).to(dtype), torch.randn(5, 4).to(dtype)
    scores = score_all_pairs(codes, documents)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, score_all_pairs(codes.float(), documents.float()))
    assert score_pairwise(codes, documents[:2]).dtype == torch.float32


def test_no_queries_and_no_documents_give_an_empty_result():
    assert score_all_pairs(torch.empty(0, 3, 4), torch.randn(5, 4)).shape == (0, 5)
    assert score_all_pairs(torch.randn(2, 3, 4), torch.empty(0, 4)).shape == (2, 0)
    assert score_pairwise(torch.empty(0, 3, 4), torch.empty(0, 4)).shape == (0,)


@pytest.mark.parametrize("shapes", [((3, 4), (5, 4)), ((2, 3, 4), (4,)), ((2, 3, 4), (5, 3)), ((2, 3, 4), (5, 4, 1))])
def test_shapes_that_do_not_fit_are_named(shapes):
    codes, documents = (torch.ones(shape) for shape in shapes)
    for score in (score_all_pairs, score_pairwise):
        with pytest.raises(ValueError, match=r"expected query codes \(q, m, d\)") as error:
            score(codes, documents)
        assert str(shapes[0]) in str(error.value)
        assert str(shapes[1]) in str(error.value)


def test_pairwise_needs_a_document_for_each_query():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(5, 4\)"):
        score_pairwise(torch.ones(2, 3, 4), torch.ones(5, 4))


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    for score in (score_all_pairs, score_pairwise):
        with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
            score(torch.ones(1, 2, 3), torch.ones(1, 3), temperature)
