"""`python -m bert_jax.prepare --config=FILE[:ARG] --workdir=DIR [--beam_options=OPTIONS]`."""

from absl import flags

from bert_jax import cli
from bert_jax.data.prepare import run

if __name__ == "__main__":
    flags.DEFINE_string(
        "beam_options", None, "Prepare on Apache Beam with these, as in --runner=DirectRunner."
    )
    cli.main(lambda config, workdir: run(config, workdir, flags.FLAGS.beam_options))
