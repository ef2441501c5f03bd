"""`python -m bert_jax.evaluate --config=FILE[:ARG] --workdir=DIR [--config.data.test=FILE]`."""

from bert_jax import cli
from bert_jax.tasks.evaluate import run

if __name__ == "__main__":
    cli.main(lambda config, workdir: run(config, workdir, named=cli.overridden()))
