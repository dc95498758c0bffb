"""The architectures in PyTorch, on any Hugging Face encoder: text in, vectors or scores out."""

from polyencoders.models.arc_ii import ArcII
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.cross_encoder import CrossEncoder
from polyencoders.models.dual import SIDES, DualEncoder, Side
from polyencoders.models.encoding import encode_documents
from polyencoders.models.joint import JointEncoder
from polyencoders.models.loading import load_model
from polyencoders.models.one_way_cross_encoder import OneWayCrossEncoder
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.precision import autocast_to_bf16, bf16_is_native, in_full_precision
from polyencoders.models.query_codes import QueryCodes
from polyencoders.models.query_upgrade import with_new_query_side
from polyencoders.models.warm_cross_encoder import WarmCrossEncoder

__all__ = [
    "SIDES",
    "ArcII",
    "BiEncoder",
    "CrossEncoder",
    "DualEncoder",
    "JointEncoder",
    "OneWayCrossEncoder",
    "PolyEncoder",
    "QueryCodes",
    "Side",
    "WarmCrossEncoder",
    "autocast_to_bf16",
    "bf16_is_native",
    "encode_documents",
    "in_full_precision",
    "load_model",
    "with_new_query_side",
]
