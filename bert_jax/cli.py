"""What the entry points share: flags, and errors a user can act on."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from bert_jax import process
from bert_jax.errors import InputError, Interrupted
from bert_jax.fields import Values, hint

CONFIG = "config"

# The flags defined here are those of the command that runs: its --help prints them.
flags.disclaim_key_flags()


def main(run: Callable[[Values, str], Any]) -> None:
    """Runs a stage from `--config=FILE[:ARG] --workdir=DIR [--config.FIELD=VALUE ...]`."""
    config = define_config()
    workdir = flags.DEFINE_string("workdir", None, "Where the results go.", required=True)
    guard(lambda: run(config.value, workdir.value))


def define_config() -> flags.FlagHolder:
    """The flag `--config`, with those of its fields."""
    config = config_flags.DEFINE_config_file(CONFIG, None, "Config file, FILE.py[:ARG].")
    flags.mark_flag_as_required(CONFIG)
    return config


def overridden() -> set[str]:
    """The fields that the command line sets by `--config.FIELD=VALUE`, elements as their field."""
    names = config_flags.get_override_values(flags.FLAGS[CONFIG])
    return {name.partition("[")[0] for name in names}


def guard(action: Callable[[], Any]) -> None:
    """Parses the flags and runs `action`; bad input becomes one sentence and exit code 2, a
    run that was told to stop exit code 143."""
    process.settle()
    try:
        app.run(lambda _: _returns_nothing(action), flags_parser=_parse)
    except InputError as error:
        stop(str(error))
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def _returns_nothing(action: Callable[[], Any]) -> None:
    # What the main function returns would become the exit code.
    action()


def stop(message: str) -> None:
    """Prints the message to stderr and exits with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(InputError.exit_code)


def _parse(argv: list[str]) -> list[str]:
    try:
        left = flags.FLAGS(argv)
        if CONFIG in flags.FLAGS:
            dict(flags.FLAGS[CONFIG].value)  # a file that could not be read raises only now
    except SystemExit:
        sys.exit(0)  # --help has printed the flags; absl means to exit with 1
    except flags.Error as error:
        stop(_sentence(error))
    except Exception as error:  # a config file is code and may raise anything
        path = _config_path(argv)
        if not Path(path).is_file():
            stop(f"--config={path} is no file: name one, such as those in configs/.")
        stop(f"--config={path}: {_unknown_field(argv) or _sentence(error)}")
    if left[1:]:
        stop(f"{left[1]!r} is not a flag: write --name=value.")
    logging.set_verbosity(logging.WARNING)
    return left


def _config_path(argv: list[str]) -> str:
    """The file that --config names, also where its flag could not be parsed."""
    return _config_as_given(argv).partition(":")[0]


def _config_as_given(argv: list[str]) -> str:
    given = flags.FlagValues()
    flags.DEFINE_string(CONFIG, "", "", flag_values=given)
    given(argv, known_only=True)
    return given[CONFIG].value


def _unknown_field(argv: list[str]) -> str:
    """A sentence on the first `--config.FIELD` that the file does not have; "" if it has all."""
    alone = [argv[0], f"--{CONFIG}={_config_as_given(argv)}"]
    given = flags.FlagValues()
    config = config_flags.DEFINE_config_file(CONFIG, flag_values=given, sys_argv=alone)
    try:
        given(alone)
        holder = config.value
    except Exception:  # the file itself: its own message is the better one
        return ""
    fields = (re.match(rf"--?(?:no)?{CONFIG}\.([^=]+)", argument) for argument in argv)
    return next(filter(None, (_unknown_in(holder, field[1]) for field in fields if field)), "")


def _unknown_in(holder: Any, field: str) -> str:
    path = CONFIG
    try:
        parts = config_path.split(field)
    except ValueError:  # no path at all, which the error itself says
        return ""
    for part in parts:
        if isinstance(part, int):
            if not isinstance(holder, list | tuple) or not -len(holder) <= part < len(holder):
                return f"{path} has no element [{part}]."
            path = f"{path}[{part}]"
        else:
            if not isinstance(holder, ConfigDict):
                return f"{path} has no fields, so {path}.{part} cannot be set."
            if part not in holder:
                return f"{path}.{part} is not a field; {hint(part, holder, f'{path}.')}"
            path = f"{path}.{part}"
        holder = holder[part]
    return ""


def _sentence(error: Exception) -> str:
    """The message of an error in the flags, on one line and without its traceback."""
    # ml_collections puts the whole traceback of a config file into its message.
    flag, has_traceback, trace = str(error).partition("Error whilst parsing config file:")
    message = trace.strip().splitlines()[-1].partition(": ")[2] if has_traceback else ""
    return " ".join((flag + message).split())
