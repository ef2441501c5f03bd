"""The one exception a user is meant to read."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the file, line or field and the mend.
    Entry points print it without a traceback and exit with code 2 (`bert_jax.cli`).
    """
