"""Whole models: the encoder with the heads of one task. Loss is computed elsewhere."""

from typing import ClassVar

from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from bert_jax.arrays import PackedTokens, Tokens
from bert_jax.config import ModelConfig
from bert_jax.model.encoder import Encoder
from bert_jax.model.heads import ClassHead, MlmHead, Pooler, gather_tokens, of_examples


class PretrainModel(nn.Module):
    """Logits of the masked tokens and of next-or-random, for every packed instance."""

    config: ModelConfig
    mesh: Mesh | None  # that the batch lies on, which says how attention and dropout are computed

    @nn.compact
    def __call__(
        self,
        tokens: Tokens,
        mask_positions: Int[Array, "B P"],
        cls_positions: Int[Array, "B S"],
        *,
        deterministic: bool,
    ) -> tuple[Float[Array, "B P V"], Float[Array, "B S 2"]]:
        x, token_table = Encoder(self.config, self.mesh, name="encoder")(
            tokens, deterministic=deterministic
        )
        pooled = Pooler(self.config, name="pooler")(gather_tokens(x, cls_positions))
        mlm_logits = MlmHead(self.config, self.mesh, name="mlm")(
            gather_tokens(x, mask_positions), token_table
        )
        next_logits = ClassHead(
            self.config, classes=2, dropout=0.0, mesh=self.mesh, is_fresh=False, name="next"
        )(pooled, deterministic=deterministic)
        return mlm_logits, next_logits


class MlmModel(nn.Module):
    """Logits of the masked tokens alone, for a model without a next-sentence head too."""

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, tokens: Tokens, mask_positions: Int[Array, "B P"], *, deterministic: bool
    ) -> Float[Array, "B P V"]:
        x, token_table = Encoder(self.config, self.mesh, name="encoder")(
            tokens, deterministic=deterministic
        )
        return MlmHead(self.config, self.mesh, name="mlm")(
            gather_tokens(x, mask_positions), token_table
        )


class ClassifyModel(nn.Module):
    """Logits of the classes, from the pooled [CLS] of an example."""

    reads: ClassVar[int] = 1  # tokens of an example

    config: ModelConfig
    classes: int
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, tokens: Tokens | PackedTokens, *, deterministic: bool
    ) -> Float[Array, "B C"]:
        encoder = Encoder(self.config, self.mesh, name="encoder")
        cls, _ = encoder(
            tokens.rows,
            deterministic=deterministic,
            read=lambda x: of_examples(x, tokens, self.reads),
        )
        pooled = Pooler(self.config, name="pooler")(cls)
        logits = ClassHead(
            self.config,
            self.classes,
            dropout=self.config.dropout,
            mesh=self.mesh,
            is_fresh=True,
            name="classifier",
        )(pooled, deterministic=deterministic)
        return logits[:, 0]


class TagModel(nn.Module):
    """Logits of the tags of every token."""

    config: ModelConfig
    classes: int
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, tokens: Tokens | PackedTokens, *, deterministic: bool
    ) -> Float[Array, "B T C"]:
        encoder = Encoder(self.config, self.mesh, name="encoder")
        x, _ = encoder(tokens.rows, deterministic=deterministic)
        logits = ClassHead(
            self.config,
            self.classes,
            dropout=self.config.dropout,
            mesh=self.mesh,
            is_fresh=True,
            name="tagger",
        )(x, deterministic=deterministic)
        return of_examples(logits, tokens)


class SpanModel(nn.Module):
    """Logits of being the first and of being the last token of the answer."""

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, tokens: Tokens | PackedTokens, *, deterministic: bool
    ) -> Float[Array, "B T 2"]:
        encoder = Encoder(self.config, self.mesh, name="encoder")
        x, _ = encoder(tokens.rows, deterministic=deterministic)
        # Without dropout, as the original and Hugging Face have it.
        head = ClassHead(
            self.config, classes=2, dropout=0.0, mesh=self.mesh, is_fresh=True, name="span"
        )
        return of_examples(head(x, deterministic=deterministic), tokens)
