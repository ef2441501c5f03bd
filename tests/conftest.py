"""Before anything uses jax: eight CPU devices, strict ranks, checked shapes."""

import os

import hypothesis
import jax
import told
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Two threads a device: with fewer, devices that wait for each other may wait for ever.
os.environ["PJRT_NPROC"] = "16"
# Small models compile longer than they run.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the commands that tests start
jax.config.update("jax_numpy_rank_promotion", "raise")

# Every annotation of the package, array shapes included, is checked in every call. An int
# may stand for a float, as everywhere in Python's type system.
install_import_hook(
    "bert_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

# The same examples on every run, and no time limit for one: compilation takes seconds.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter):
    """Here, as no other conftest is known to the process that only hands out the tests."""
    told.write(terminalreporter)
