"""Parameters by path, `encoder/layer_0/attention/query/kernel`."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


def map_paths(function: Callable[[str, Any], Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` that also hands over the slash-separated path of a leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(
            jax.tree_util.keystr(path, simple=True, separator="/"), *leaves
        ),
        tree,
        *rest,
    )
