"""The same pretraining computed otherwise: in more parts, with layers computed again, on another
mesh. What changes is rounding and time."""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from bert_jax.config import MeshConfig, PretrainConfig
from bert_jax.errors import InputError
from bert_jax.tasks.phases import phase_configs
from bert_jax.tasks.planned_step import TEMPORARIES
from bert_jax.tasks.slice_plan import Slice, SlicePlan, Work, mesh_for, plan_slice

REMATS = ("none", "dots", "full")


def search(work: Work, where: Slice, *, fast: bool) -> tuple[Work, SlicePlan]:
    """The fastest that fits, of a few candidates; each is printed when it is done.

    First what `candidates` has, each with the fewest more microbatches that fit; on the mesh of
    the fastest of them, or where none fits the one that shards most, what computes layers again;
    and of the fastest so far twice the microbatches, or the next number of more that divides the
    batch. Of equally fast ones the first counts, so that what was asked for stays. Raises
    InputError where none fits, with the bytes that the nearest has too few.
    """
    first = candidates(work, where)
    most = len(first) + len(REMATS)
    print(f"{where.topology}: at most {most} candidates", file=sys.stderr)
    tried: set[tuple[Any, ...]] = set()
    too_large: list[tuple[int, str]] = []
    best: tuple[Work, SlicePlan] | None = None

    def take(candidate: Work) -> None:
        nonlocal best
        if _identity(candidate, where) in tried:
            return
        tried.add(_identity(candidate, where))
        count = f"[{len(tried)}/{most}]"
        found = fewest_microbatches(candidate, where, fast=fast)
        said, plan = _said(found[0]), found[1]
        if not plan.fits:
            print(f"{count} {said}: {plan.missing_bytes:,} bytes too few", file=sys.stderr)
            too_large.append((plan.missing_bytes, said))
            return
        milliseconds = plan.numbers()["step_ms"]
        print(f"{count} {said}: {milliseconds:.2f} ms", file=sys.stderr)
        if best is None or milliseconds < best[1].numbers()["step_ms"]:
            best = found

    for each in first:
        take(each)
    most_sharded = max(first, key=lambda each: _shards(mesh_for(each, where).shape.values()))
    mesh = (best[0] if best else most_sharded).config.mesh
    for remat in REMATS[1:]:
        take(_changed(work, mesh=mesh, remat=remat, microbatches=1))
    if best is None:
        missing, said = min(too_large)
        raise InputError(
            f"no plan of {len(tried)} fits {where.topology}, and of the nearest, {said}, a chip has"
            f" {missing:,} bytes too few: take more chips, or chips with more memory."
        )
    if twice := _with_more_microbatches(*best, 2.0):
        take(twice)
    return best


def candidates(work: Work, where: Slice) -> list[Work]:
    """What a search begins with: what was asked for; and its mesh and those of `_meshes`, each
    with all kept and in one part. What would not run there is left out. Raises InputError where
    nothing would."""
    plain = _changed(work, remat=REMATS[0], microbatches=1)
    meshes = [work.config.mesh, *_meshes(work.config, len(where.devices))]
    found: dict[tuple[Any, ...], Work] = {}
    for each in (work, *(_changed(plain, mesh=mesh) for mesh in meshes)):
        with contextlib.suppress(InputError):
            found.setdefault(_identity(each, where), each)
    if not found:
        raise InputError(
            f"config.batch_size={work.config.batch_size} divides over no mesh of the"
            f" {len(where.devices)} chips of {where.topology}: choose another."
        )
    return list(found.values())


def fewest_microbatches(work: Work, where: Slice, *, fast: bool) -> tuple[Work, SlicePlan]:
    """The plan with as many as the work has, or the fewest more with which it fits; where none
    fits, the last that was tried.

    Passed over are those that the memory so far says to be too few.
    """
    plan = plan_slice(work, where, fast=fast)
    while not plan.fits and (more := _with_more_microbatches(work, plan, _times(plan))):
        work, plan = more, plan_slice(more, where, fast=fast)
    return work, plan


def nearest_that_fits(work: Work, plan: SlicePlan, *, fast: bool) -> tuple[Work, SlicePlan] | None:
    """Of a plan that does not fit: with more microbatches, or else by computing layers again, or
    else on a mesh that splits the state over more chips, there too with these two if need be."""
    found = _nearest_on_its_mesh(work, plan, fast=fast)
    for again in [] if found else _sharded_more(work, plan):
        plan = plan_slice(again, plan.slice, fast=fast)
        found = (again, plan) if plan.fits else _nearest_on_its_mesh(again, plan, fast=fast)
        if found:
            break
    return found


def _nearest_on_its_mesh(
    work: Work, plan: SlicePlan, *, fast: bool
) -> tuple[Work, SlicePlan] | None:
    times = _times(plan)
    nearer = [_with_more_microbatches(work, plan, times)]
    if not math.isinf(times) and work.config.model.remat != REMATS[-1]:
        nearer.append(_changed(work, remat=REMATS[-1]))
    for again in filter(None, nearer):
        found = fewest_microbatches(again, plan.slice, fast=fast)
        if found[1].fits:
            return found
    return None


def _sharded_more(work: Work, plan: SlicePlan) -> list[Work]:
    """On those of `_meshes` where the run would run and a chip has less of the state."""
    found = []
    for mesh in _meshes(work.config, len(plan.slice.devices)):
        again = _changed(work, mesh=mesh)
        with contextlib.suppress(InputError):
            if _shards(mesh_for(again, plan.slice).shape.values()) > _shards(plan.mesh):
                found.append(again)
    return found


def _shards(mesh: Iterable[int]) -> int:
    """Over how many chips the state is split."""
    _, fsdp, tensor = mesh
    return fsdp * tensor


def flags(before: PretrainConfig, after: PretrainConfig) -> str:
    """What to pass to get from one to the other."""
    old, new = _fields(before), _fields(after)
    return " ".join(f"--config.{name}={new[name]}" for name in new if new[name] != old[name])


def _times(plan: SlicePlan) -> float:
    """By how much the microbatches must at least grow, if only temporaries shrink with them;
    infinite where the rest alone is too much."""
    wanted = 1.0
    for each in plan.plans:
        temporaries = each.memory[TEMPORARIES]
        room = plan.slice.tpu.hbm_bytes - (each.bytes - temporaries)
        wanted = max(wanted, temporaries / room if room > 0 else math.inf)
    return wanted


def _with_more_microbatches(work: Work, plan: SlicePlan, times: float) -> Work | None:
    """In every phase `times` as many, or the next number of more that divides its rows of a
    chip; None where one has none."""
    data, fsdp, _ = plan.mesh
    config = work.config

    def more(batch_size: int, microbatches: int) -> int | None:
        rows = batch_size // (data * fsdp)
        if microbatches * times > rows:
            return None
        least = max(math.ceil(microbatches * times), microbatches + 1)
        return next((count for count in range(least, rows + 1) if rows % count == 0), None)

    first = more(config.batch_size, config.microbatches)
    then = [more(phase.batch_size, phase.microbatches) for phase in config.then]
    if first is None or None in then:
        return None
    phases = tuple(
        dataclasses.replace(phase, microbatches=count)
        for phase, count in zip(config.then, then, strict=True)
    )
    return work._replace(config=dataclasses.replace(config, microbatches=first, then=phases))


def _meshes(config: PretrainConfig, chips: int) -> Iterator[MeshConfig]:
    """Copies, everything sharded, and between the two the state sharded over the divisor of the
    chips next above their root; all of these also beside heads split over two."""
    for tensor in (1, 2):
        ways = chips // tensor
        if chips % tensor or config.model.heads % tensor:
            continue
        middle = next(size for size in range(1, ways + 1) if ways % size == 0 and size**2 >= ways)
        for fsdp in dict.fromkeys((1, middle, ways)):
            yield MeshConfig(data=-1, fsdp=fsdp, tensor=tensor)


def _identity(work: Work, where: Slice) -> tuple[Any, ...]:
    """Equal for two that are the same there. Raises InputError for what would not run."""
    sizes = tuple(mesh_for(work, where).shape.values())
    parts = [phase.microbatches for phase in phase_configs(work.config)]
    return (sizes, work.config.model.remat, *parts)


def _changed(work: Work, *, microbatches: int = 0, mesh: Any = None, remat: str = "") -> Work:
    config = work.config
    if microbatches:
        then = tuple(dataclasses.replace(p, microbatches=microbatches) for p in config.then)
        config = dataclasses.replace(config, microbatches=microbatches, then=then)
    if mesh:
        config = dataclasses.replace(config, mesh=mesh)
    if remat:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, remat=remat))
    return work._replace(config=config)


def _fields(config: PretrainConfig) -> dict[str, Any]:
    """What a search varies, by the names of the flags."""
    return {
        "mesh.data": config.mesh.data,
        "mesh.fsdp": config.mesh.fsdp,
        "mesh.tensor": config.mesh.tensor,
        "model.remat": config.model.remat,
        "microbatches": config.microbatches,
        **{f"then[{i}].microbatches": phase.microbatches for i, phase in enumerate(config.then)},
    }


def _said(work: Work) -> str:
    return ", ".join(f"{name} {value}" for name, value in _fields(work.config).items())
