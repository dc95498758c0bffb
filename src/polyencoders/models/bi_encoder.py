"""The bi-encoder: one vector a text, and the inner product of two (Humeau et al. 2020, section 4.2)."""

import os
from typing import Any

from sentence_transformers.sentence_transformer.modules import Normalize
from torch import nn

from polyencoders.checks import check_whole_number
from polyencoders.models.backbone import Backbone
from polyencoders.models.base import settings_among
from polyencoders.models.dual import DualEncoder, linear_map
from polyencoders.models.query_codes import QueryCodes
from polyencoders.models.reductions import AverageOfCodes, reduction_module, reduction_name


class BiEncoder(DualEncoder):
    """`score = red(T1(query)) . red(T2(document))`.

    Without settings it scores as its backbone does. A saved model is loaded with the settings it was built with.

    Parameters
    ----------
    model_name_or_path
        A saved `BiEncoder`, or a backbone: any Hugging Face encoder or sentence-transformers model, as a directory or
        by its name on the hub.
    reduction
        How outputs become one vector: `first`, `mean`, `mean-first-n`, `max`, or `attention`: learnt codes attend over
        the query's outputs and are averaged (documents: as `document_reduction`). Default: the backbone's own, else
        `mean`.
    n
        How many outputs `mean-first-n` averages.
    m
        Number of learnt codes of `attention`; default 4.
    maps
        Linear maps after those codes, `each`, `shared` or `none`; default one for each up to 8 codes.
    position_bias
        Whether those codes weigh how far from the query's end an output stands as well; default yes.
    document_reduction
        The reduction of documents, where it differs; default `reduction`, or the backbone's own with `attention`.
    query_map
        A linear map after the query's reduction, which starts as the identity.
    document_map
        The same for documents; `fold_document_map()` moves it to the query side.
    normalize
        Whether vectors are scaled to length 1; default: whether the backbone's own are.
    shared_tower
        One transformer for both sides, the default; otherwise two, the same at the start.
    turn_separator
        Stands between the turns of a conversation; default the tokeniser's separator.
    query_length
        Most tokens of a query; the oldest are cut.
    document_length
        Most tokens of a document; the end is cut.
    **sentence_transformer_arguments
        As for `SentenceTransformer`: `device`, `token`, `revision`, ...

    Raises
    ------
    ModelError
        A directory of another architecture, settings that contradict a saved model, damaged weights.
    """

    summary = "Query and document become one vector each; the score is their inner product."

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        reduction: str | None = None,
        n: int | None = None,
        m: int | None = None,
        maps: str | None = None,
        position_bias: bool | None = None,
        document_reduction: str | None = None,
        query_map: bool | None = None,
        document_map: bool | None = None,
        normalize: bool | None = None,
        shared_tower: bool | None = None,
        turn_separator: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        **sentence_transformer_arguments: Any,
    ) -> None:
        settings = settings_among(locals())
        super().__init__(
            model_name_or_path, settings=settings, similarity_fn_name="dot", **sentence_transformer_arguments
        )

    @property
    def reduction(self) -> str:
        """How a query's outputs become one vector."""
        return next(name for module in reversed(self.route("query")) if (name := reduction_name(module)) is not None)

    @property
    def query_map(self) -> bool:
        """Whether a linear map follows the query's reduction."""
        return bool(self.saved_settings["query_map"])

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        codes = f", average of {self.m} codes, maps: {self.maps}" if self.m else ""
        codes += ", position bias" if self.position_bias else ""
        return {
            "Score": "inner product (`dot`)",
            "Query vector": f"{self.reduction}{codes}",
            **super().card_properties(),
        }

    def _build_sides(self, backbone: Backbone) -> tuple[list[nn.Module], list[nn.Module]]:
        given = self._given
        dimension = backbone.transformer.get_embedding_dimension()
        reduction = given.get("reduction", backbone.reduction)
        attention = reduction == "attention"
        document_reduction = given.get("document_reduction", backbone.reduction if attention else reduction)
        document_side = self._build_document_side(backbone, document_reduction)
        normalize = [Normalize()] if given.get("normalize", backbone.normalize) else []
        self.saved_settings["query_map"] = bool(given.get("query_map", False))
        query_map = [linear_map(dimension)] if self.saved_settings["query_map"] else []
        if attention:
            m = check_whole_number("m, the number of query codes,", given.get("m", 4))
            maps, position_bias = given.get("maps", default_maps(m)), given.get("position_bias", True)
            codes = QueryCodes(dimension, m, "learnt", maps, position_bias)
            return [codes, *normalize, AverageOfCodes(), *query_map], document_side
        return [reduction_module(reduction, dimension, given.get("n")), *query_map, *normalize], document_side


def default_maps(m: int) -> str:
    """Return `each` up to 8 codes, else `shared`: a small training set cannot fill many maps of d x d weights."""
    return "each" if m <= 8 else "shared"
