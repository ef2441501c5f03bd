"""`python -m bert_jax.predict --model=DIR (--text=TEXT ... | --input=FILE|-) [--output=FILE]`.

Writes one JSON object a line, to stdout or to a file that appears whole or not at all.
"""

import json
from pathlib import Path

from absl import flags

from bert_jax import cli
from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.tasks import saved_model
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.task import Text
from bert_jax.tasks.texts import read_texts


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("model", None, "Workdir of a run or of a converted model.", required=True)
    flags.DEFINE_multi_string("text", [], "A text; may be given several times.")
    flags.DEFINE_multi_string("pair", [], "The second text of each --text, for pairs.")
    flags.DEFINE_multi_string("choice", [], "A choice for every --text, where the model chooses.")
    flags.DEFINE_string(
        "input", "", "A file of texts (lines, .jsonl, .parquet, .csv, .tsv), or -, stdin."
    )
    flags.DEFINE_string("text_field", "text", "Field of a .jsonl, .parquet, .csv or .tsv input.")
    flags.DEFINE_string("pair_field", "", "Field of the second text of such an input, for pairs.")
    flags.DEFINE_list(
        "columns", [], "Fields of a .csv or .tsv input that has no header line, in order."
    )
    flags.DEFINE_list(
        "choices_field", [], "Field with the list of choices of such an input, or one for each."
    )
    flags.DEFINE_string("output", "", "Where the JSON lines go instead of stdout.")
    flags.DEFINE_string("embed", "", "Vectors of the texts in place of answers: cls, mean, last4.")
    flags.DEFINE_bool("normalise", False, "Bring the vectors to length 1.")
    flags.DEFINE_bool("truncate", False, "Use the beginning of texts too long for the model.")


def run() -> None:
    """Predicts for the texts the flags name."""
    given = flags.FLAGS
    if bool(given.text) == bool(given.input):
        raise InputError("give either --text (once or more) or --input=FILE.")
    if given.output:
        _check_output(given.output)
    if given.pair and len(given.pair) != len(given.text):
        raise InputError(
            f"--pair is given {len(given.pair)} times and --text {len(given.text)} times: give one"
            " of each for every pair."
        )
    for flag, values in (("text", given.text), ("pair", given.pair), ("choice", given.choice)):
        _check_is_utf8(flag, values)
    if given.text:
        pairs = given.pair or [""] * len(given.text)
        texts = [
            Text(text, pair, f"--text number {n}", tuple(given.choice))
            for n, (text, pair) in enumerate(zip(given.text, pairs, strict=True), 1)
        ]
    else:
        texts = read_texts(
            given.input,
            text_field=given.text_field,
            pair_field=given.pair_field,
            choices_fields=given.choices_field,
            columns=given.columns,
        )
    if given.normalise and not given.embed:
        raise InputError("--normalise is for vectors: give --embed too, or leave it away.")
    predictor = Predictor(
        saved_model.load(given.model),
        truncate=given.truncate,
        embed=given.embed,
        normalise=given.normalise,
    )
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in predictor(texts))
    if given.output:
        with wd.writing(given.output, "--output"):
            wd.write_text(Path(given.output), lines)
    else:
        print(lines, end="")


def _check_is_utf8(flag: str, values: list[str]) -> None:
    for number, value in enumerate(values, 1):
        try:
            value.encode()  # other bytes come as lone surrogates
        except UnicodeEncodeError as error:
            raise InputError(
                f"--{flag} number {number} is not UTF-8: give it in a file with --input, or set the"
                " terminal to UTF-8."
            ) from error


def _check_output(output: str) -> None:
    path = Path(output).absolute()
    if not path.parent.is_dir():
        raise InputError(f"--output={output} is in a directory that does not exist: make it.")
    if path.exists() and not path.is_file():
        raise InputError(f"--output={output} is there and no file: name a file.")
    with wd.writing(output, "--output"):
        wd.try_writing(path.parent)


if __name__ == "__main__":
    define_flags()
    cli.guard(run)
