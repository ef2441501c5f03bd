"""`python -m bert_jax.finetune --config=FILE[:ARG] --workdir=DIR`."""

from bert_jax import cli
from bert_jax.tasks.finetune import run

if __name__ == "__main__":
    cli.main(run)
