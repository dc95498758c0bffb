"""ColBERT-style late interaction, one vector a token, by sentence-transformers' `MultiVectorEncoder`.

It has the same backbone as the other methods and is trained in the same way: by cross-entropy over the batch, with the
checkpoint chosen by the same validation lists.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder, MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PrinterCallback

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.data import Example, training_dataset
from polyencoders.encoders.ranking import distinct
from polyencoders.models import autocast_to_bf16, bf16_is_native
from polyencoders.training import TrainingOptions, TrainingResult
from polyencoders.training.evaluators import RankingEvaluator, validation_lists
from polyencoders.training.run import best_of_rates
from polyencoders.training.trainer import take_off_what_accelerate_left

SCALE = 20.0
"""The factor of the score in the loss, as for the cosines of the other architectures."""


class MaxSim:
    """`score = mean_i max_j (q_i . d_j)` over a query's tokens i and a document's tokens j, each of length 1.

    The mean ranks like ColBERT's sum, and gives queries of all lengths scores of one scale.

    Parameters
    ----------
    backbone
        The name or folder of a transformer.
    length
        The tokens of a text at most.
    device
        None: the best available.
    frozen
        Whether only the map of a token's output is trained. The map is then square and starts as the identity, as for
        the other architectures on a frozen backbone.
    """

    dimensions = 128
    """The dimensions of a token's vector if the backbone is tuned, as in the paper and in `MultiVectorEncoder`."""

    def __init__(self, backbone: str, length: int, device: str | None, frozen: bool = False) -> None:
        self.length, self.frozen = length, frozen
        transformer = Transformer(resolve_backbone(backbone), max_seq_length=length)
        width = transformer.get_embedding_dimension()
        project = Dense(
            width,
            width if frozen else self.dimensions,
            bias=False,
            activation_function=nn.Identity(),
            module_input_name="token_embeddings",
        )
        if frozen:
            nn.init.eye_(project.linear.weight)
            transformer.requires_grad_(False)
            transformer.forward = _kept(transformer)
        else:
            # An orthogonal map keeps most of what the backbone knows; a random one does not.
            nn.init.orthogonal_(project.linear.weight)
        modules = [transformer, project, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
        self.model = MultiVectorEncoder(modules=modules, device=device, similarity_fn_name="meanmaxsim")

    def train(
        self, examples: Sequence[Example], validation: Sequence[Example], options: TrainingOptions
    ) -> TrainingResult:
        """Train at each of the rates that `train` would try, and keep the best checkpoint."""
        rows = training_dataset(examples)
        # A column where an example has no negative, and so an empty text, would be of wrong documents for it.
        rows = rows.remove_columns([name for name in rows.column_names[1:] if "" in rows[name][:]])
        table = rows.map(lambda row: {"query": self.text(row["query"])}, features=_as_text(rows.features))
        evaluator = _evaluator(self, validation, options)
        run = partial(self._train, table, evaluator)
        with tempfile.TemporaryDirectory() as folder:
            return best_of_rates(self.model, options.learning_rates(validated=True), Path(folder), options, run)

    def _train(self, table: Any, evaluator: RankingEvaluator, folder: Path, options: TrainingOptions) -> TrainingResult:
        started = time.perf_counter()
        before = float(evaluator(self.model)[evaluator.primary_metric])
        every = options.evaluate_every or max(1, options.steps // 10)
        arguments = MultiVectorEncoderTrainingArguments(
            output_dir=str(folder),
            max_steps=options.steps,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            learning_rate_mapping={} if self.frozen else {r"linear\.weight$": 1e-3},
            warmup_steps=options.steps // 10,
            bf16=bf16_is_native(self.model.device),
            use_cpu=self.model.device.type == "cpu",
            batch_sampler="no_duplicates",
            dataloader_drop_last=True,
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model=f"eval_{evaluator.primary_metric}",
            greater_is_better=True,
            disable_tqdm=True,
            report_to="none",
            seed=options.seed,
        )
        trainer = MultiVectorEncoderTrainer(
            model=self.model,
            args=arguments,
            train_dataset=table,
            loss=_loss(self.model),
            evaluator=evaluator,
            callbacks=[EarlyStoppingCallback(early_stopping_patience=options.patience or options.steps)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        take_off_what_accelerate_left(self.model)
        return TrainingResult(
            pairs=len(table),
            learning_rate=arguments.learning_rate,
            steps=trainer.state.global_step,
            best_step=trainer.state.best_global_step,
            metric=evaluator.primary_metric,
            before=before,
            after=float(trainer.state.best_metric or before),
            seconds=time.perf_counter() - started,
            history=[],
        )

    def text(self, query: Any) -> str:
        """The turns as one text; of a long one the end, as in the project's models."""
        words = (query if isinstance(query, str) else " ".join(query)).split()
        return " ".join(words[-3 * self.length // 4 :])

    def score_lists(
        self, queries: Sequence[Any], documents: Sequence[Sequence[str]], batch_size: int = 32, **ignored: Any
    ) -> list[np.ndarray[Any, Any]]:
        """The scores of each query's documents."""
        queries = [self.text(query) for query in queries]
        texts, places = distinct([text for listed in documents for text in listed])
        options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": False}
        encoded = self.model.encode_query(queries, **options)
        vectors = self.model.encode_document(texts, **options)
        scores, start = [], 0
        for query, listed in zip(encoded, documents, strict=True):
            chosen = [vectors[place] for place in places[start : start + len(listed)]]
            scores.append(self.model.similarity([query], chosen)[0].float().cpu().numpy())
            start += len(listed)
        return scores


def _kept(transformer: Transformer) -> Callable[..., dict[str, Any]]:
    """The `forward` of the transformer, computed once for each text; outputs are kept in half precision."""
    forward = transformer.forward
    kept: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def looked_up(features: dict[str, Any], **keywords: Any) -> dict[str, Any]:
        lengths = features["attention_mask"].sum(dim=1).tolist()
        keys = [ids[:n].tobytes() for ids, n in zip(features["input_ids"].cpu().numpy(), lengths, strict=True)]
        missing = [row for row, key in enumerate(keys) if key not in kept]
        if missing:
            device = features["input_ids"].device
            transformer.eval()  # otherwise dropout is on during training
            texts = {name: features[name][missing] for name in ("input_ids", "attention_mask")}
            with autocast_to_bf16(transformer, device, bf16_is_native(device)):
                outputs = forward(texts, **keywords)["token_embeddings"].half()
            for row, output in zip(missing, outputs, strict=True):
                kept[keys[row]] = output[: lengths[row]].clone()
        rows = [kept[key].float() for key in keys]
        padding = features["input_ids"].shape[1] - max(lengths)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {**features, "token_embeddings": nn.functional.pad(padded, (0, 0, 0, padding))}

    return looked_up


def _as_text(features: Any) -> Any:
    """The types of the columns, with queries as texts."""
    from datasets import Features, Value

    return Features({**features, "query": Value("string")})


def _loss(model: MultiVectorEncoder) -> nn.Module:
    from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_scores

    return MultiVectorMultipleNegativesRankingLoss(model, scale=SCALE, similarity_fct=mean_colbert_scores)


def _evaluator(scorer: MaxSim, validation: Sequence[Example], options: TrainingOptions) -> RankingEvaluator:
    """The validation lists of the other architectures, for the scorer."""
    lists = validation_lists(validation, options)
    assert isinstance(lists, RankingEvaluator)

    class Evaluator(RankingEvaluator):
        def __call__(self, model: Any, *arguments: Any, **keywords: Any) -> dict[str, float]:
            return super().__call__(scorer, *arguments, **keywords)

    return Evaluator(lists.task, write_csv=False)
