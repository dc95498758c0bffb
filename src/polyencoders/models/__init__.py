"""The architectures in PyTorch, on any Hugging Face encoder: text in, vectors or scores out."""

from polyencoders.models.arc_ii import ArcII
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.cross_encoder import CrossEncoder
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.warm_cross_encoder import WarmCrossEncoder

__all__ = ["ArcII", "BiEncoder", "CrossEncoder", "PolyEncoder", "WarmCrossEncoder"]
