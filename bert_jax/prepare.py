"""`python -m bert_jax.prepare --config=FILE[:ARG] --workdir=DIR`."""

from bert_jax import cli
from bert_jax.data.prepare import run

if __name__ == "__main__":
    cli.main(run)
