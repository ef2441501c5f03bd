"""New text to probabilities: the label of a classifier, the fillings of [MASK]."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.arrays import Tokens
from bert_jax.data.labelled import Example, add_special, bucket, make_batch
from bert_jax.errors import InputError
from bert_jax.model.bert import MlmModel
from bert_jax.tasks.classifier import Classifier
from bert_jax.tasks.embedding import Embedder
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.training.sharding import one_device_mesh

BATCH = 32
FILLINGS = 5

# A text and what to call it in an error message: a file and line, say.
Text = tuple[str, str]


class Predictor:
    """A saved model with its compiled forward pass, for as many calls as you like.

    Texts are padded to a few lengths and to a batch of 1 or BATCH, so that hardly any
    call compiles.
    """

    def __init__(
        self,
        found: SavedModel,
        *,
        truncate: bool = False,
        embed: str = "",
        normalise: bool = False,
    ):
        """`embed`: one of `embedding.POOLINGS`, for vectors in place of the model's own task."""
        self._found = found
        self._truncate = truncate
        if embed:
            self._predict = self._embedder(embed, normalise)
        else:
            self._predict = {"classify": self._classifier, "pretrain": self._filler}[found.task]()

    def __call__(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """One JSON-ready object a text, in order.

        A classifier gives text, label and probabilities by label; a pretrained model
        gives text and `masks`, a list with the FILLINGS most probable pieces for each
        [MASK] in it: which one (`mask`, from 0), `token`, `probability`; with `embed` there
        is text and `embedding`.
        Raises InputError for a text over the model's length (unless `truncate`) and,
        with a pretrained model, for one without [MASK].
        """
        return [
            result
            for start in range(0, len(texts), BATCH)
            for result in self._predict(texts[start : start + BATCH])
        ]

    def _encode(self, texts: Sequence[Text], *, allow_special: bool) -> list[np.ndarray]:
        longest = self._max_length()
        tokenizer = self._found.tokenizer
        rows = []
        for text, where in texts:
            ids = tokenizer.encode(text, allow_special=allow_special).ids
            if len(ids) > longest - 2 and not self._truncate:
                raise InputError(
                    f"{where} has {len(ids) + 2} tokens and the model takes {longest}:"
                    " shorten it, or give --truncate to use its beginning."
                )
            rows.append(add_special(ids[: longest - 2], tokenizer))
        return rows

    def _max_length(self) -> int:
        # Not the number of positions: those past the training length were never trained.
        return self._found.run["length"]

    def _embedder(
        self, pooling: str, normalise: bool
    ) -> Callable[[Sequence[Text]], list[dict[str, Any]]]:
        embedder = Embedder(self._found, pooling, normalise=normalise)

        def predict(texts: Sequence[Text]) -> list[dict[str, Any]]:
            vectors = embedder(
                self._encode(texts, allow_special=False),
                batch_size=1 if len(texts) == 1 else BATCH,
                max_length=self._max_length(),
            )
            return [
                {"text": text, **vector} for (text, _), vector in zip(texts, vectors, strict=True)
            ]

        return predict

    def _classifier(self) -> Callable[[Sequence[Text]], list[dict[str, Any]]]:
        found = self._found
        classifier = Classifier(found.model, len(found.labels), one_device_mesh())
        params = found.params(classifier.param_shapes())

        def predict(texts: Sequence[Text]) -> list[dict[str, Any]]:
            rows = self._encode(texts, allow_special=False)
            probabilities = classifier.probabilities(
                params,
                [Example(row, 0) for row in rows],
                batch_size=1 if len(rows) == 1 else BATCH,
                max_length=self._max_length(),
                pad=found.tokenizer.special.pad,
            )
            return [
                {
                    "text": text,
                    "label": found.labels[int(row.argmax())],
                    "probabilities": dict(zip(found.labels, row.tolist(), strict=True)),
                }
                for (text, _), row in zip(texts, probabilities, strict=True)
            ]

        return predict

    def _filler(self) -> Callable[[Sequence[Text]], list[dict[str, Any]]]:
        found = self._found
        model = MlmModel(found.model, one_device_mesh())
        special = found.tokenizer.special
        zeros = jnp.zeros((1, 8), jnp.int32)
        shapes = jax.eval_shape(
            lambda key: model.init(key, Tokens(*[zeros] * 4), zeros, deterministic=True),
            jax.random.key(0),
        )
        params = found.modules(shapes["params"])

        @jax.jit
        def fill(params, tokens, positions):
            logits = model.apply({"params": params}, tokens, positions, deterministic=True)
            # A table may be larger than the vocabulary.
            logits = logits[..., : found.tokenizer.vocab_size]
            return jax.lax.top_k(jax.nn.softmax(logits, axis=-1), FILLINGS)

        def predict_one(text: str, where: str, row: np.ndarray) -> dict[str, Any]:
            masks = np.flatnonzero(row == special.mask)
            if not len(masks):
                raise InputError(
                    f"{where} holds no {found.tokenizer.pieces[special.mask]}: put it where the"
                    " pretrained model shall fill in, or name a fine-tuned model."
                )
            batch = make_batch([Example(row, 0)], 1, self._max_length(), special.pad)
            slots = np.zeros((1, bucket(len(masks), self._max_length())), np.int32)
            slots[0, : len(masks)] = masks
            probabilities, ids = map(np.asarray, fill(params, batch.tokens, slots))
            fillings = [
                {"mask": slot, "token": found.tokenizer.pieces[i], "probability": float(p)}
                for slot in range(len(masks))
                for i, p in zip(ids[0, slot], probabilities[0, slot], strict=True)
            ]
            return {"text": text, "masks": fillings}

        def predict(texts: Sequence[Text]) -> list[dict[str, Any]]:
            rows = self._encode(texts, allow_special=True)
            return [
                predict_one(text, where, row)
                for (text, where), row in zip(texts, rows, strict=True)
            ]

        return predict
