"""Before anything uses jax: eight CPU devices, strict ranks, checked shapes."""

import os
import tempfile

import hypothesis
import jax
from jaxtyping import install_import_hook

# Most of the time is XLA's: what was compiled once is not compiled again in this session,
# nor in the commands that it runs.
COMPILED = tempfile.TemporaryDirectory(prefix="bert_jax-compiled-")
CACHE = {
    "jax_compilation_cache_dir": COMPILED.name,
    "jax_compilation_cache_max_size": 2**30,  # a limit makes jax lock it, for commands at once
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in CACHE.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Every annotation of the package, array shapes included, is checked in every call. An int
# may stand for a float, as everywhere in Python's type system.
install_import_hook(
    "bert_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

# The same examples on every run, and no time limit for one: compilation takes seconds.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("suite")
