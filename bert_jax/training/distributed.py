"""Many processes as one program: joining them, agreeing, and leaving without a hang."""

import atexit
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from bert_jax.errors import InputError, first_line

# A process that vanishes ends the others after this long, where jax waits 100 s; it is its
# C++ threads that send the signs of life, so a slow host program does not look dead.
HEARTBEAT_SECONDS = 60
# One that fails says goodbye and waits this long for the others to say it too: those that
# fail alike then all get to print why.
GOODBYE_SECONDS = 10
SENTENCE_BYTES = 2048  # what is exchanged of a sentence
NO_CLUSTER = "coordinator_address should be defined"  # jax's words where it finds none


@contextmanager
def joined(
    coordinator: str | None, processes: int | None, process: int | None, *, timeout_seconds: int
) -> Iterator[None]:
    """`start`, then the body; a process that fails there does not keep the others for ever.

    jax's own goodbye at exit waits for every process for 300 s and aborts those that come
    late, so a failed process would hang and then lose its exit code.
    """
    try:
        start(coordinator, processes, process, timeout_seconds=timeout_seconds)
        yield
    except BaseException as error:
        if jax.distributed.is_initialized():
            # Run before jax's own, which was registered earlier, and after the message.
            atexit.register(_leave, getattr(error, "exit_code", 1))
        raise


def start(
    coordinator: str | None, processes: int | None, process: int | None, *, timeout_seconds: int
) -> None:
    """Joins the processes of this run; must come before anything uses a device.

    With all three given, by them; with none, those of the cluster that jax finds by itself
    (TPU VMs, GKE, Slurm, Open MPI), or this process alone where it finds none or `processes`
    is 1. Raises InputError for flags that cannot be, and when the others do not come.
    """
    if (coordinator, processes, process) == (None, 1, None):
        return
    _check_flags(coordinator, processes, process)
    failed: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                # jax aborts the process when this is up, so it must never be.
                initialization_timeout=timeout_seconds + 600,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except Exception as error:
            failed.append(error)

    # In a thread of its own, because it cannot be interrupted.
    waiting = threading.Thread(target=connect, daemon=True)
    waiting.start()
    waiting.join(timeout_seconds)
    if waiting.is_alive():
        raise InputError(_nobody_came(coordinator, processes, process, timeout_seconds))
    if failed and NO_CLUSTER in str(failed[0]):
        return
    if failed:
        raise InputError(
            f"the processes of this run cannot be joined ({first_line(failed[0])}): give"
            " --coordinator_address=HOST:PORT with a free port of process 0, --num_processes and"
            " --process_id, or --num_processes=1 for this process alone."
        ) from failed[0]
    # Creating the backend waits for all processes, and only two minutes: none may be reading
    # its data meanwhile.
    jax.devices()


def is_main() -> bool:
    """Whether this process writes what is written once: the log, the config, the plots."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextmanager
def agreement() -> Iterator[None]:
    """Checks that every process makes: where one fails in any, all raise its InputError.

    Waits for all of them at its end. The body must not make the processes wait for each other.
    """
    own: InputError | None = None
    try:
        yield
    except InputError as error:
        own = error
    for process, sentence in enumerate(_exchange(str(own) if own else "")):
        if own is None and sentence:
            raise InputError(f"process {process}: {sentence}")
    if own is not None:
        raise own


def of_main(numbers: Sequence[int]) -> list[int]:
    """The numbers of the main process, in all of them."""
    if jax.process_count() == 1:
        return list(numbers)
    count = int(multihost_utils.broadcast_one_to_all(np.array(len(numbers), np.int32)))
    own = np.resize(np.array(numbers, np.int32), count)
    return multihost_utils.broadcast_one_to_all(own).tolist() if count else []


def highest(own: int) -> int:
    """Of the numbers of all processes."""
    if jax.process_count() == 1:
        return own
    return int(multihost_utils.process_allgather(np.array(own)).max())


def _exchange(sentence: str) -> list[str]:
    """The sentence of every process."""
    if jax.process_count() == 1:
        return [sentence]
    own = np.zeros(SENTENCE_BYTES, np.uint8)
    content = sentence.encode()[:SENTENCE_BYTES]
    own[: len(content)] = np.frombuffer(content, np.uint8)
    everyones = np.asarray(multihost_utils.process_allgather(own))
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in everyones]


def _check_flags(coordinator: str | None, processes: int | None, process: int | None) -> None:
    flags = {
        "--coordinator_address": coordinator,
        "--num_processes": processes,
        "--process_id": process,
    }
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) == len(flags):
        return
    if missing:
        raise InputError(
            f"{' and '.join(missing)} is missing: give {', '.join(flags)} together, or none of"
            " them where jax finds the cluster by itself."
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(
            f"--coordinator_address={coordinator} has no port: write HOST:PORT, with a free port"
            " of the host of process 0."
        )
    if processes < 1:
        raise InputError(f"--num_processes={processes} must be at least 1.")
    if not 0 <= process < processes:
        raise InputError(
            f"--process_id={process} is not one of the {processes} processes: give each another"
            f" number from 0 to {processes - 1}."
        )


def _nobody_came(
    coordinator: str | None, processes: int | None, process: int | None, timeout_seconds: int
) -> str:
    if coordinator is None:
        return (
            f"the other processes of the cluster that jax found did not come within"
            f" {timeout_seconds} s: start this command on every host (srun, or --worker=all), or"
            " give --num_processes=1 for this process alone."
        )
    if process == 0:
        return (
            f"not all of the {processes} processes came to --coordinator_address={coordinator}"
            f" within {timeout_seconds} s: start every one, with this address and its own"
            " --process_id."
        )
    return (
        f"--coordinator_address={coordinator} did not let process {process} in within"
        f" {timeout_seconds} s: start all {processes} processes, and see that process 0 runs"
        " there and that the port is open."
    )


def _leave(exit_code: int) -> None:
    goodbye = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    goodbye.start()
    goodbye.join(GOODBYE_SECONDS)
    if goodbye.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
