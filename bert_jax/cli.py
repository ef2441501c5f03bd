"""What the entry points share: flags, and errors a user can act on."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from bert_jax.errors import InputError

BAD_INPUT = 2  # exit code


def main(run: Callable[[Mapping[str, Any], str], Any]) -> None:
    """Runs a stage from `--config=FILE[:ARG] --workdir=DIR [--config.FIELD=VALUE ...]`."""
    config = config_flags.DEFINE_config_file("config", None, "Config file, FILE.py[:ARG].")
    workdir = flags.DEFINE_string("workdir", None, "Where the results go.")
    flags.mark_flags_as_required(["config", "workdir"])
    guard(lambda: run(config.value, workdir.value))


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
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        stop(str(error).replace("\n", " "))
    if left[1:]:
        stop(f"{left[1]!r} is not a flag: write --name=value.")
    logging.set_verbosity(logging.WARNING)
    return left
