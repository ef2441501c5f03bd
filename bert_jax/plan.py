"""`python -m bert_jax.plan --config=FILE[:ARG] --topology=v5e:4x4[,v6e:4x4] [--fast] [--search]`.

What a slice of TPUs will do with a pretraining, said by the TPU compiler on any machine.
"""

import jax
from absl import flags

from bert_jax import cli
from bert_jax.tasks.planning import run


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_list("topology", None, "Slices as VERSION:SHAPE, with commas.", required=True)
    flags.DEFINE_bool("fast", False, "Compile steps of two and three layers and reckon from these.")
    flags.DEFINE_bool(
        "search", False, "Look for the mesh, microbatches and remat that are fastest."
    )
    flags.DEFINE_bool(
        "json", False, "Print a JSON list, an object a slice that was planned, alone."
    )


if __name__ == "__main__":
    define_flags()
    config = cli.define_config()
    given = flags.FLAGS
    jax.config.update("jax_platforms", "cpu")  # the devices here take no part
    cli.guard(
        lambda: run(
            config.value,
            given.topology,
            fast=given.fast,
            search_for=given.search,
            as_json=given.json,
        )
    )
