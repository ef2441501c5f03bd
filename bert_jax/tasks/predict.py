"""New text to answers: those of a fine-tuned task, the fillings of [MASK], vectors."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.arrays import Tokens
from bert_jax.data.encoding import SINGLE_SPECIAL, Encoding, bucket, pad_tokens, single
from bert_jax.errors import InputError
from bert_jax.interchange.sentence_vectors import SentenceVectors
from bert_jax.model.bert import MlmModel
from bert_jax.tasks import all_tasks
from bert_jax.tasks.embedding import Embedder
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.tasks.task import Text, too_long
from bert_jax.training.sharding import one_device_mesh

BATCH = 32
FILLINGS = 5


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
            self._predict = self._filler() if found.task == "pretrain" else self._task()

    def __call__(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """One JSON-ready object a text, in order.

        A fine-tuned model gives what `Task.shown` of its task says; a pretrained model
        gives text and `masks`, a list with the FILLINGS most probable pieces for each
        [MASK] in it: which one (`mask`, from 0), `token`, `probability`; with `embed` there
        is text and `embedding`.
        Raises InputError for a text over the model's length (unless `truncate`), for a second
        text where the model takes none or the other way round, and, with a pretrained
        model, for one without [MASK].
        """
        return [
            result
            for start in range(0, len(texts), BATCH)
            for result in self._predict(texts[start : start + BATCH])
        ]

    def _encode(self, texts: Sequence[Text], *, allow_special: bool) -> list[Encoding]:
        room = self._max_length() - SINGLE_SPECIAL
        tokenizer = self._found.tokenizer
        rows = []
        for text in texts:
            self._check_pair(text.pair, text.where, wanted=False)
            _check_choices(text, wanted=False)
            ids = tokenizer.encode(text.text, allow_special=allow_special).ids
            if len(ids) > room:
                said = too_long(len(ids) + SINGLE_SPECIAL, self._max_length())
                self._check_cut(f"{text.where} {said}")
            rows.append(single(ids[:room], tokenizer))
        return rows

    def _check_pair(self, pair: str, where: str, *, wanted: bool) -> None:
        if bool(pair) != wanted:
            what = "has no second text and the model takes pairs: give --pair or --pair_field"
            if pair:
                what = "has a second text and the model takes single ones: leave it away"
            raise InputError(f"{where} {what}.")

    def _check_cut(self, what: str) -> None:
        if not self._truncate:
            raise InputError(f"{what}: shorten it, or give --truncate to use its beginning.")

    def _max_length(self) -> int:
        # Not the number of positions: those past the training length were never trained.
        return self._found.run["length"]

    def _embedder(
        self, pooling: str, normalise: bool
    ) -> Callable[[Sequence[Text]], list[dict[str, Any]]]:
        embedder = Embedder(self._found, pooling, normalise=normalise)
        own, asked = self._found.vectors, SentenceVectors(pooling, normalise)
        if own and own != asked:
            print(
                f"warning: {self._found.directory} was trained for the vectors of {own.flags}, and"
                f" these are those of {asked.flags}",
                file=sys.stderr,
            )

        def predict(texts: Sequence[Text]) -> list[dict[str, Any]]:
            vectors = embedder(
                self._encode(texts, allow_special=False),
                batch_size=1 if len(texts) == 1 else BATCH,
                max_length=self._max_length(),
            )
            return [
                {"text": text.text, **vector} for text, vector in zip(texts, vectors, strict=True)
            ]

        return predict

    def _task(self) -> Callable[[Sequence[Text]], list[dict[str, Any]]]:
        found = self._found
        overlap = 0 if found.is_converted else found.run["config"]["window_overlap"]
        task = all_tasks.named(found.task)(
            found.labels, found.tokenizer, self._max_length(), overlap
        )
        forward = Forward(task, found.model, one_device_mesh())
        params = found.params(forward.param_shapes())

        def predict(texts: Sequence[Text]) -> list[dict[str, Any]]:
            for text in texts:
                _check_choices(text, wanted=task.HAS_CHOICES)
                if not found.is_converted:  # else nobody knows
                    wanted = bool(found.run["config"]["data"]["pair_field"])
                    self._check_pair(text.pair, text.where, wanted=wanted)
            rows = [task.row_of(text) for text in texts]
            examples, cut = task.encode(rows)
            for row, tokens in cut.items():
                self._check_cut(f"{texts[row].where} {task.cut_of(rows[row], tokens)}")
            batch_size = 1 if len(examples) == 1 else BATCH
            answers = forward.answers(params, rows, examples, batch_size=batch_size)
            return [task.shown(*one) for one in zip(rows, answers, strict=True)]

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

        def predict_one(text: str, where: str, row: Encoding) -> dict[str, Any]:
            masks = np.flatnonzero(row.ids == special.mask)
            if not len(masks):
                raise InputError(
                    f"{where} holds no {found.tokenizer.pieces[special.mask]}: put it where the"
                    " pretrained model shall fill in, or name a fine-tuned model."
                )
            length = bucket(len(row.ids), self._max_length())
            tokens = pad_tokens([row], 1, length, special.pad)
            slots = np.zeros((1, bucket(len(masks), self._max_length())), np.int32)
            slots[0, : len(masks)] = masks
            probabilities, ids = map(np.asarray, fill(params, tokens, slots))
            fillings = [
                {"mask": slot, "token": found.tokenizer.pieces[i], "probability": float(p)}
                for slot in range(len(masks))
                for i, p in zip(ids[0, slot], probabilities[0, slot], strict=True)
            ]
            return {"text": text, "masks": fillings}

        def predict(texts: Sequence[Text]) -> list[dict[str, Any]]:
            rows = self._encode(texts, allow_special=True)
            return [
                predict_one(text.text, text.where, row)
                for text, row in zip(texts, rows, strict=True)
            ]

        return predict


def _check_choices(text: Text, *, wanted: bool) -> None:
    if bool(text.choices) != wanted:
        what = "has no choices and the model chooses: give --choice or --choices_field"
        if text.choices:
            what = "has choices and the model does not choose: leave them away"
        raise InputError(f"{text.where} {what}.")
