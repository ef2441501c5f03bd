"""The one exception a user is meant to read, and what it says of others."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the file, line or field and the mend.
    Entry points print it without a traceback and exit with `exit_code` (`bert_jax.cli`).
    """

    exit_code = 2


def first_line(error: Exception) -> str:
    """Of its message, or its name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
