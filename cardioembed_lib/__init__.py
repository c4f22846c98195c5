"""The method: pooling, losses, adapters, training, metrics. One question a module; nothing here knows this repository.

To read it: ``models`` (which model is loaded), ``encoder`` with ``pooling`` and ``packing`` (texts to vectors), ``lora`` with
``fused``, ``losses`` with ``hierarchical``, ``training`` (begin at ``train``) with ``checkpoint``, ``export``, ``metrics`` with
``statistics``; ``files``.

Compute threads wait without spinning unless the user chose otherwise (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``): where anything
else runs, spinning threads wait for each other. Training took 3.2 times its quiet time beside one busy process, 1.3 times
without spinning, which costs 18 % on a quiet machine (two cores, one run each; no shorter spin lost neither). OpenMP reads this
once, when it is loaded, so it is set here. So is that bitsandbytes, which peft loads, asks no reader for a package that nothing
here needs. Nothing else happens at import.
"""

import logging
import os
import sys

if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def launched() -> tuple[int, int]:
    """Return the rank and number of the processes that a launcher has started, by its environment variables, else (0, 1)."""
    given = [os.environ.get(name, "") for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE")]
    return (int(given[1]), int(given[2])) if all(map(str.isdigit, given)) and int(given[2]) > 1 else (0, 1)
