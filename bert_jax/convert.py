"""`python -m bert_jax.convert --from=PATH --to=DIR [--format=bert_jax|huggingface]`.

Prints what became of every tensor.
"""

from absl import flags

from bert_jax import cli
from bert_jax.tasks import conversion


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string(
        "from", None, "A model directory or file, or a workdir of a run.", required=True
    )
    flags.DEFINE_string("to", None, "The directory to write, a new one.", required=True)
    flags.DEFINE_string("format", "bert_jax", "What to write: bert_jax or huggingface.")
    flags.DEFINE_string("model_config", "", "A config.json, where none lies by the weights.")
    flags.DEFINE_string("tokenizer", "", "A tokenizer, where none lies by the weights.")
    flags.DEFINE_string(
        "allow_missing", "", "Regex of tensors that may be missing or of another shape."
    )
    flags.DEFINE_string("allow_unknown", "", "Regex of tensors that may be left out.")
    flags.DEFINE_string("add_words", "", "A file of words to add to the vocabulary, one a line.")
    flags.DEFINE_integer("positions", 0, "A longer position table, of so many rows.")


def run() -> None:
    """Converts as the flags say."""
    given = flags.FLAGS
    conversion.run(
        conversion.Options(
            source=given["from"].value,
            to=given.to,
            format=given.format,
            model_config=given.model_config,
            tokenizer=given.tokenizer,
            allow_missing=given.allow_missing,
            allow_unknown=given.allow_unknown,
            add_words=given.add_words,
            positions=given.positions,
        )
    )


if __name__ == "__main__":
    define_flags()
    cli.guard(run)
