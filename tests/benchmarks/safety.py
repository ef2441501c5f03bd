"""What safety costs: where the time of two hundred steps goes, as shares of it.

    python -m tests.benchmarks.safety --data=runs/quickstart/data

Pretrains with `--config` (the quickstart's model) in a fresh directory for 200 steps, with a
log point every 50, an evaluation every 100 and a checkpoint every 50, then once more with
nothing but the last of each, and compares the two. Starting and compiling are left out.
"""

import argparse
import importlib
import tempfile
from pathlib import Path

from bert_jax.tasks import pretrain
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.clock import EVALUATING, LOGGING, SAVING, STEPPING, WAITING

STEPS = 200
SHOWN = (STEPPING, WAITING, LOGGING, EVALUATING, SAVING)


def seconds(config_name: str, data: str, **every: int) -> dict[str, float]:
    """By activity, of a whole run."""
    config = importlib.import_module(f"configs.{config_name}").get_config()
    config.data = data
    config.update(steps=STEPS, eval_batches=8, **every)
    with tempfile.TemporaryDirectory() as folder:
        pretrain.run(config, folder)
        with Checkpoints(Path(folder)) as checkpoints:
            return checkpoints.read_record(STEPS).run["clock"]["spent"]


def main() -> None:
    """Prints both runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="workdir of a preparation")
    parser.add_argument("--config", default="pretrain_quickstart", help="name in configs/")
    args = parser.parse_args()
    runs = {
        "safe": seconds(args.config, args.data, log_every=50, eval_every=100, save_every=50),
        "bare": seconds(
            args.config, args.data, log_every=STEPS, eval_every=STEPS, save_every=STEPS
        ),
    }
    print(f"{'share of the time':20}" + "".join(f"{name:>10}" for name in runs))
    for activity in SHOWN:
        print(f"{activity:20}", end="")
        for spent in runs.values():
            total = sum(spent.get(name, 0.0) for name in SHOWN)
            print(f"{spent.get(activity, 0.0) / total:>10.2%}", end="")
        print()
    safe, bare = (spent[STEPPING] + spent[WAITING] for spent in runs.values())
    print(f"a step beside a checkpoint being written, to one without: {safe / bare:.3f}")


if __name__ == "__main__":
    main()
