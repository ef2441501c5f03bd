"""Somebody's tensors become parameters, and every one of them is accounted for."""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert_jax.errors import InputError
from bert_jax.interchange import names
from bert_jax.interchange.account import Account, Made
from bert_jax.interchange.architecture import Architecture
from bert_jax.interchange.names import Params, Row
from bert_jax.interchange.stored import Stored, Tensors

FINE_TUNED = ("classifier", "tagger", "span")  # which begin with the whole normal distribution
FLOATS = ("float32", "float16", "bfloat16", "float64")
# Where the original keeps a moment of its optimizer beside every variable, and the like.
OPTIMIZER = re.compile(r"/(adam|lamb)_[mv]$|^(global_step|good_steps|loss_scale|beta[12]_power)$")


@dataclass(frozen=True)
class Allowed:
    """Regexes of what may be missing and what may be unknown; "" = nothing."""

    missing: str
    unknown: str

    def may_miss(self, row: Row) -> bool:
        """By either of its names."""
        return _matches(self.missing, row.theirs) or _matches(self.missing, row.ours)

    def may_leave(self, stored: Stored) -> bool:
        """By its name in the file."""
        return _matches(self.unknown, stored.source)


def take(
    tensors: Tensors, architecture: Architecture, allowed: Allowed, where: Path
) -> tuple[Params, Account]:
    """The parameters of every module of which the file has a part.

    Raises InputError naming the tensor where one does not fit, is missing or unknown and not
    allowed to be; what may be missing is made anew where the rest of its module is there.
    """
    account = Account()
    left = _by_canonical_name(tensors, where)
    _leave_what_is_known_without(left, account)
    params: Params = {}
    missing: list[Row] = []
    for row in _wanted(left, architecture):
        stored = left.get(row.theirs)
        shape = names.size_of(row.their_shape, architecture.model, architecture.classes)
        if stored is None:
            missing.append(row)
        elif stored.shape == shape:
            params[row.ours] = _read(left.pop(row.theirs), row, architecture, account, where)
        elif allowed.may_miss(row):
            missing.append(row)
            account.left_out[left.pop(row.theirs).source] = (
                f"{_show(stored.shape)} where the model has {_show(shape)}"
            )
        else:
            raise InputError(
                f"{where}: {stored.source} is {_show(stored.shape)} and the model of"
                f" {architecture.file} has {_show(shape)}: give the config.json of these weights,"
                f" or make it anew with --allow_missing='{re.escape(row.theirs)}'."
            )
    _make(missing, params, architecture, allowed, account, where)
    _leave_tied(left, params, account, where)
    _leave_unknown(left, allowed, account, where)
    return params, account


def _by_canonical_name(tensors: Tensors, where: Path) -> dict[str, Stored]:
    prefix = names.prefix_of(list(tensors))
    if prefix is None:
        raise InputError(
            f"{where} holds no BERT: none of its {len(tensors)} tensors is called"
            " ...embeddings.word_embeddings.weight; name the weights of one."
        )
    found: dict[str, Stored] = {}
    for name, stored in tensors.items():
        known = names.canonical(name, prefix)
        if known in found:
            raise InputError(
                f"{where} holds both {found[known].source} and {stored.source}, which are the"
                " same tensor: take one out."
            )
        found[known] = stored
    # Some files have the decoder's bias under that name alone.
    if "cls.predictions.decoder.bias" in found and "cls.predictions.bias" not in found:
        found["cls.predictions.bias"] = found.pop("cls.predictions.decoder.bias")
    return found


def _leave_what_is_known_without(left: dict[str, Stored], account: Account) -> None:
    for name in list(left):
        if name in names.BUFFERS:
            account.left_out[left.pop(name).source] = "a buffer, known without"
        elif OPTIMIZER.search(left[name].source):
            account.left_out[left.pop(name).source] = "of the optimizer"


def _wanted(left: dict[str, Stored], architecture: Architecture) -> list[Row]:
    """Every parameter of the modules that the config names or the file has a part of."""
    present = {
        row.module
        for row in names.HEADS
        if row.theirs in left and row.module != architecture.other_classifier
    }
    if "next" in present or "classifier" in present:
        present.add("pooler")
    modules = {"encoder", *architecture.modules, *present}
    return names.rows(architecture.model.layers, tuple(modules))


def _read(
    stored: Stored, row: Row, architecture: Architecture, account: Account, where: Path
) -> np.ndarray:
    array = stored.read()
    kind = array.dtype.name
    if kind not in FLOATS:
        raise InputError(
            f"{where}: {stored.source} holds {kind}, and parameters are floats: give weights"
            " that are not quantized."
        )
    if kind != "float32":
        account.converted[kind] = account.converted.get(kind, 0) + 1
    account.loaded[row.ours] = stored.source
    shape = names.size_of(row.shape, architecture.model, architecture.classes)
    return names.to_ours(np.asarray(array, np.float32), row, shape)


def _make(
    missing: list[Row],
    params: Params,
    architecture: Architecture,
    allowed: Allowed,
    account: Account,
    where: Path,
) -> None:
    forbidden = [row.theirs for row in missing if not allowed.may_miss(row)]
    if forbidden:
        raise InputError(
            f"{where} has no {_named(forbidden)}, which the model of {architecture.file} needs:"
            " give all of its weights, or allow it with --allow_missing=REGEX."
        )
    there = {path.split("/")[0] for path in params}
    for row in missing:
        # A head of which nothing is there stays away: noise would pass for something learnt.
        if row.module in there:
            params[row.ours], how = fresh(row, architecture)
            account.made[row.ours] = Made(how, params[row.ours].size, row.ours)


def fresh(row: Row, architecture: Architecture) -> tuple[np.ndarray, str]:
    """A parameter as the model begins with it, and how it was made."""
    shape = names.size_of(row.shape, architecture.model, architecture.classes)
    if row.ours.endswith("bias"):
        return np.zeros(shape, np.float32), "zeros"
    if row.ours.endswith("scale"):
        return np.ones(shape, np.float32), "ones"
    rng = np.random.default_rng(zlib.crc32(row.ours.encode()))  # the same for the same parameter
    drawn = rng.standard_normal(shape)
    is_cut = row.module not in FINE_TUNED
    while is_cut and (outside := np.abs(drawn) > 2).any():
        drawn[outside] = rng.standard_normal(int(outside.sum()))
    how = "normal, cut at two deviations" if is_cut else "normal"
    return (drawn * architecture.model.init_stddev).astype(np.float32), how


def _leave_tied(left: dict[str, Stored], params: Params, account: Account, where: Path) -> None:
    for name, path in names.TIED.items():
        if name not in left or path not in params:
            continue
        stored = left.pop(name)
        if not np.array_equal(np.asarray(stored.read(), np.float32), params[path]):
            raise InputError(
                f"{where}: {stored.source} differs from {account.loaded[path]}, and here the"
                " decoder of masked tokens is that tensor: weights with both cannot be had."
            )
        account.left_out[stored.source] = f"the same as {account.loaded[path]}"


def _leave_unknown(
    left: dict[str, Stored], allowed: Allowed, account: Account, where: Path
) -> None:
    unknown = [stored.source for stored in left.values() if not allowed.may_leave(stored)]
    if unknown:
        raise InputError(
            f"{where} holds {_named(unknown)}, which BERT has not: leave it out with"
            " --allow_unknown=REGEX."
        )
    for stored in left.values():
        account.left_out[stored.source] = "not of BERT, allowed by --allow_unknown"


def _matches(pattern: str, name: str) -> bool:
    return bool(pattern) and re.search(pattern, name) is not None


def _named(found: list[str]) -> str:
    """The first, and how many more."""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}"


def _show(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
