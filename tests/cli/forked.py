"""Runs commands, each in a fork of this process, which has imported what they need.

    python forked.py < '[["predict", "--text=..."], ...]'

Importing jax and the rest is most of what a refused command takes. Writes a JSON list of
[exit code, stdout, stderr], in order; as many run at a time as there are cores.
"""

import importlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

ENTRY_POINTS = ("prepare", "inspect", "pretrain", "plan", "finetune", "evaluate", "predict")
ENTRY_POINTS += ("convert",)


def fork(module: str, args: list[str], out: int, err: int) -> int:
    """The id of the process that runs `python -m bert_jax.MODULE ARGS`."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        sys.argv = [module, *args]
        runpy.run_module(f"bert_jax.{module}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Reads the commands, writes how each ended."""
    for name in ENTRY_POINTS:
        importlib.import_module(f"bert_jax.{name}")
        del sys.modules[f"bert_jax.{name}"]  # each is to be run as if it were the first
    commands = json.load(sys.stdin)
    ended: dict[int, int] = {}
    running: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        written = [
            [Path(folder, f"{n}.{name}") for name in ("out", "err")] for n in range(len(commands))
        ]
        for number, (module, *args) in enumerate(commands):
            while len(running) >= (os.cpu_count() or 1):
                child, status = os.wait()
                ended[running.pop(child)] = os.waitstatus_to_exitcode(status)
            with written[number][0].open("wb") as out, written[number][1].open("wb") as err:
                running[fork(module, args, out.fileno(), err.fileno())] = number
        while running:
            child, status = os.wait()
            ended[running.pop(child)] = os.waitstatus_to_exitcode(status)
        results = [
            [ended[number], *(path.read_text("utf-8") for path in paths)]
            for number, paths in enumerate(written)
        ]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
