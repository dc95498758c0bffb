"""Documents for the stores that run for real: clusters of vectors, and codes that lie near some of them."""

import numpy as np
import pytest
import torch

from polyencoders.scoring import score_all_pairs

NUMBER, DIMENSION = 2000, 32


class Corpus:
    """Documents as rows to add, query codes `(q, m, d)`, and every score in float64."""

    temperature = 0.3

    def __init__(self):
        generator = np.random.default_rng(0)
        centres = generator.standard_normal((40, DIMENSION))
        clusters = generator.integers(0, len(centres), NUMBER)
        vectors = centres[clusters] + 0.4 * generator.standard_normal((NUMBER, DIMENSION))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.rows = [
            {
                "id": f"d{number:05}",
                "text": f"it's text {number}",
                "vector": self.vectors[number],
                "metadata": {"language": "en" if number % 4 else "fr", "year": 2000 + number % 25},
            }
            for number in range(NUMBER)
        ]
        near = centres[generator.integers(0, len(centres), (6, 1))] + 0.8 * generator.standard_normal((6, 8, DIMENSION))
        self.codes = near / np.linalg.norm(near, axis=2, keepdims=True) * 3
        self.codes[0, 5:] = 0  # a short query
        documents = torch.from_numpy(self.vectors).double()
        self.scores = score_all_pairs(torch.from_numpy(self.codes), documents, self.temperature).numpy()

    def best(self, query, k, keep=lambda row: True):
        """The ids of the k best documents that are kept, from the scores of all."""
        order = sorted(range(NUMBER), key=lambda number: (-self.scores[query, number], number))
        return [self.rows[number]["id"] for number in order if keep(self.rows[number])][:k]

    def check(self, answers, k, keep=lambda row: True):
        """All of them certified, and what brute force finds."""
        assert len(answers) == len(self.codes)
        for query, answer in enumerate(answers):
            assert answer.certified
            assert [hit.id for hit in answer.hits] == self.best(query, k, keep)
            for hit in answer.hits:
                row = self.rows[int(hit.id[1:])]
                assert hit.score == pytest.approx(self.scores[query, int(hit.id[1:])], abs=1e-12)
                assert (hit.text, hit.metadata) == (row["text"], row["metadata"])


@pytest.fixture(scope="package")
def corpus():
    return Corpus()
