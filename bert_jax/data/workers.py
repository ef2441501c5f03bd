"""The processes that a preparation is shared among."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from bert_jax.errors import InputError


class WorkerLost(InputError):
    """Ends a preparation that can go on: what was done stays."""


@contextlib.contextmanager
def map_over(workers: int) -> Iterator[Callable[[Callable, Sequence], Iterable]]:
    """`map`, in order, over that many processes; 0 = one per core.

    Raises WorkerLost where one is killed.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            yield pool.map
        except BrokenProcessPool as error:
            raise WorkerLost(
                "a worker was killed, which the system does when memory runs out: lower"
                " config.workers or config.shard_megabytes. Started again with other workers,"
                " the preparation goes on."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker that outlived a killed preparation would write among the files of the next."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
