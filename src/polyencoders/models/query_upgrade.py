"""Gives a model a query side with more to train, and leaves its document side: stored vectors stay valid."""

import copy

import torch
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize

from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.dual import linear_map
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.query_codes import QueryCodes
from polyencoders.models.reductions import AverageOfCodes

CODES = 4


def with_new_query_side(model: BiEncoder | PolyEncoder, own_tower: bool = False) -> BiEncoder | PolyEncoder:
    """Return a copy of a model with the same document vectors, and with queries that can be trained apart from them.

    A bi-encoder that averages its outputs (`mean` or `attention`) gets four learnt codes that are averaged, with a map
    each and a position bias, which won on a frozen backbone (docs/results.md). Other models keep their query side. Each
    ends in a linear map, the one that documents would have (`y . (B c) = (B'y) . c`). New maps start as the identity,
    and codes start small, so the copy ranks at first as the model does. With `own_tower`, queries get a transformer of
    their own where both sides share one.
    """
    if isinstance(model, BiEncoder) and model.reduction in ("mean", "attention"):
        new: BiEncoder | PolyEncoder = _attending(model)
    else:
        new = copy.deepcopy(model)
        query_side = list(new.route("query"))
        if not isinstance(query_side[-1], Dense):
            query_side.append(linear_map(new.dimension).to(new.device))
        new.set_sides(query_side, list(new.route("document")))
    if own_tower and new.shared_tower:
        query_side, document_side = list(new.route("query")), list(new.route("document"))
        del new[0]
        new.set_sides([copy.deepcopy(query_side[0]), *query_side[1:]], document_side)
    new.card_text = None  # it describes the model that this is a copy of
    return new


def _attending(model: BiEncoder) -> BiEncoder:
    new = copy.deepcopy(model)
    transformer, *rest = new.route("query")
    old, dimension = new.query_codes, new.dimension
    codes = QueryCodes(dimension, old.m if old else CODES, "learnt", old.maps if old else "each", position_bias=True)
    codes, last = codes.to(new.device), linear_map(dimension).to(new.device)
    with torch.no_grad():
        for i, module in enumerate(rest):
            if isinstance(module, QueryCodes):
                # Where the old ones have no position bias, the new ones have one of 0.
                codes.load_state_dict({**codes.state_dict(), **module.state_dict()})
            elif isinstance(module, Dense):
                after = module.linear.weight
                if any(isinstance(later, Normalize) for later in rest[i:]):
                    assert codes.linear_maps is not None
                    codes.linear_maps.copy_(torch.einsum("ed,mdf->mef", after, codes.linear_maps))
                else:
                    last.linear.weight.copy_(after @ last.linear.weight)
    normalize = [module for module in rest if isinstance(module, Normalize)]
    new.set_sides([transformer, codes, *normalize, AverageOfCodes(), last], list(new.route("document")))
    new.saved_settings["query_map"] = False  # it is in the maps of the codes, or in the last
    return new
