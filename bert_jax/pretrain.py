"""`python -m bert_jax.pretrain --config=FILE[:ARG] --workdir=DIR`, on one process or many."""

from absl import flags

from bert_jax import cli
from bert_jax.fields import Values
from bert_jax.tasks.pretrain import run
from bert_jax.training import distributed


def _define_flags() -> None:
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of process 0, where no cluster is found by itself."
    )
    flags.DEFINE_integer("num_processes", None, "How many processes run; 1: look for no cluster.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, counted from 0.")
    flags.DEFINE_integer("initialization_timeout", 300, "Seconds to wait for the other processes.")


def _run_on_all(config: Values, workdir: str) -> None:
    given = flags.FLAGS
    with distributed.joined(
        given.coordinator_address,
        given.num_processes,
        given.process_id,
        timeout_seconds=given.initialization_timeout,
    ):
        run(config, workdir)


if __name__ == "__main__":
    _define_flags()
    cli.main(_run_on_all)
