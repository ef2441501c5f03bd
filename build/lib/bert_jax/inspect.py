"""`python -m bert_jax.inspect --data=DIR [--count=N] [--unit=token|word|span] [--plot=FILE]`."""

from absl import flags

from bert_jax import cli
from bert_jax.tasks.inspection import UNITS, run


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("data", None, "Workdir of a preparation.", required=True)
    flags.DEFINE_integer("count", 3, "Rows to print.", lower_bound=0)
    flags.DEFINE_enum("unit", "token", UNITS, "What is masked whole.")
    flags.DEFINE_integer("seed", 0, "Of which rows are printed, and of the masks.", lower_bound=0)
    flags.DEFINE_string("plot", None, "Where the plot goes instead of DIR/inspect.png.")


if __name__ == "__main__":
    define_flags()
    given = flags.FLAGS
    cli.guard(
        lambda: run(
            given.data, count=given.count, unit=given.unit, seed=given.seed, plot=given.plot
        )
    )
