"""What the entry points share: flags, and errors a user can act on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from bert_jax.config import Values
from bert_jax.errors import InputError

BAD_INPUT = 2  # exit code


def main(run: Callable[[Values, str], Any]) -> None:
    """Runs a stage from `--config=FILE[:ARG] --workdir=DIR [--config.FIELD=VALUE ...]`."""
    config = config_flags.DEFINE_config_file("config", None, "Config file, FILE.py[:ARG].")
    workdir = flags.DEFINE_string("workdir", None, "Where the results go.")
    flags.mark_flags_as_required(["config", "workdir"])

    guard(lambda: run(_load(config), workdir.value))


def _load(config: Any) -> Values:
    path = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    if not Path(path).is_file():
        raise InputError(f"--config={path} is no file: name one, such as those in configs/.")
    try:
        return config.value
    except Exception as error:  # the file is code and may raise anything
        raise InputError(f"--config={path} cannot be loaded: {_sentence(error)}") from error


def guard(action: Callable[[], Any]) -> None:
    """Parses the flags and runs `action`; bad input becomes one sentence and exit code 2."""
    try:
        app.run(lambda _: _returns_nothing(action), flags_parser=_parse)
    except InputError as error:
        stop(str(error))


def _returns_nothing(action: Callable[[], Any]) -> None:
    # What the main function returns would become the exit code.
    action()


def stop(message: str) -> None:
    """Prints the message to stderr and exits with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _parse(argv: list[str]) -> list[str]:
    try:
        left = flags.FLAGS(argv)
    except Exception as error:  # a config file is code and may raise anything
        stop(_sentence(error))
    if left[1:]:
        stop(f"{left[1]!r} is not a flag: write --name=value.")
    logging.set_verbosity(logging.WARNING)
    return left


def _sentence(error: Exception) -> str:
    """The message of an error in the flags, on one line and without its traceback."""
    text = str(error)
    if "Traceback (most recent call last)" in text:
        # ml_collections puts the whole traceback of a config file into its message.
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())
