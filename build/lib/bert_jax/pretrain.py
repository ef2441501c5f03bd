"""`python -m bert_jax.pretrain --config=FILE[:ARG] --workdir=DIR`."""

from bert_jax import cli
from bert_jax.tasks.pretrain import run

if __name__ == "__main__":
    cli.main(run)
