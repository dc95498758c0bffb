"""An installed wheel has the kernel, and the kernel finds what numpy finds: for cibuildwheel, and before a release."""

import numpy as np

from polyencoders.scoring import PreparedDocuments, score_all_pairs, search_path

assert search_path() != "numpy", "this wheel has no kernel"
generator = np.random.default_rng(0)
documents = generator.standard_normal((5_000, 64), dtype=np.float32)
codes = generator.standard_normal((8, 4, 64), dtype=np.float32)
found = PreparedDocuments(documents).search(codes, k=10, temperature=0.5)
scores = score_all_pairs(codes.astype(np.float64), documents.astype(np.float64), 0.5)
expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
np.testing.assert_array_equal(found.indices, expected)
print(f"the kernel ({search_path()}) finds the ten best of {len(documents):,}")
