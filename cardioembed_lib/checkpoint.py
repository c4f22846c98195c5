"""What must lie on disk so that a killed training goes on, and ends as if it had not been killed?"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cardioembed_lib import files


class State:
    """All that a resumed run needs: trained weights, optimiser, position, best weights so far, history.

    Args:
        model: its parameters that require gradients are the trained weights.
        optimiser: over these parameters.
        identity: what makes it this run: plan and data; a checkpoint with another identity is refused.
        folder: the run's; ``checkpoint/last.safetensors`` and ``history.jsonl`` are written there.
        writes: whether this process writes; of several that share a run, one does.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        identity: Mapping[str, Any],
        folder: Path,
        writes: bool = True,
    ) -> None:
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimiser, self.identity, self.writes = optimiser, dict(identity), writes
        self.path, self.history_path = folder / "checkpoint" / "last.safetensors", folder / "history.jsonl"
        self.step, self.stopped, self.history = 0, False, []
        self.best_score, self.best_step, self.best = -math.inf, 0, {}

    def log(self, row: dict) -> None:
        """Append to the history, in memory and on disk."""
        self.history.append(row)
        if self.writes:
            self.history_path.parent.mkdir(parents=True, exist_ok=True)
            with self.history_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def keep_best(self, score: float) -> bool:
        """Keep the weights if this score is the best so far; return whether it is."""
        if score <= self.best_score:
            return False
        self.best_score, self.best_step = score, self.step
        self.best = {n: p.detach().clone() for n, p in self.parameters.items()}
        return True

    def restore_best(self) -> None:
        """Put the best weights back into the model."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.best[name])

    def where(self) -> str:
        """Return where an interrupted run stands, for a message."""
        kept = f"the last checkpoint is kept in {self.path.parent.name}/{self.path.name}"
        return kept if self.path.exists() else "no checkpoint was due yet"

    def save(self) -> None:
        """Write checkpoint and history, whole and flushed to disk: a kill leaves the old or the new one."""
        if not self.writes:
            return
        tensors = {f"adapter/{n}": p.detach() for n, p in self.parameters.items()}
        tensors |= {f"best/{n}": t for n, t in self.best.items()}
        for name, parameter in self.parameters.items():
            tensors |= {f"optimiser/{key}/{name}": value for key, value in self.optimiser.state[parameter].items()}
        names = ("step", "stopped", "best_score", "best_step", "history")
        position = {name: getattr(self, name) for name in names} | {"plan": self.identity}
        tensors = {k: v.contiguous().cpu() for k, v in tensors.items()}
        position["sha256"] = _digest(tensors, position)
        with files.replacing(self.path) as aside:
            save_file(tensors, aside, {"position": json.dumps(position)})
        self._write_history()

    def resume(self) -> None:
        """Go back to the checkpoint, if there is one, else start clean.

        Raises:
            ValueError: if the checkpoint is not what ``save`` wrote, or belongs to another plan, other pairs or another model.
        """
        if not self.path.exists():
            if self.writes:
                self.history_path.unlink(missing_ok=True)
            return
        position, tensors = self._read()
        plan = position.pop("plan")
        if plan != self.identity:
            changed = {k: (plan.get(k), v) for k, v in self.identity.items() if plan.get(k) != v}
            raise ValueError(
                f"{self.path} was made with another plan (kept, wanted): {changed}; choose another run name"
            )
        wanted = {f"adapter/{n}": p.shape for n, p in self.parameters.items()}
        if wanted != {key: tensor.shape for key, tensor in tensors.items() if key.startswith("adapter/")}:
            raise ValueError(f"{self.path} is of a model with other tensors; choose another run name")
        for key, value in position.items():
            setattr(self, key, value)
        self._fill(tensors)
        if self.writes:
            self._write_history()

    def _write_history(self) -> None:
        files.write(self.history_path, "".join(json.dumps(row) + "\n" for row in self.history))

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return position and tensors as ``save`` wrote them."""
        try:
            with safe_open(self.path, "pt") as file:
                position = json.loads((file.metadata() or {}).get("position", "{}"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            problem = "does not hold what was written" if "sha256" in position else "has no sha256 of its content"
        except (SafetensorError, OSError, ValueError) as error:
            position, tensors, problem = {}, {}, f"cannot be read ({type(error).__name__})"
        if position.pop("sha256", None) != _digest(tensors, position):
            raise ValueError(f"{self.path} {problem}; delete the folder {self.path.parent.name}/ to start anew")
        return position, tensors

    def _fill(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"adapter/{name}"])
                keys = [k.split("/")[1] for k in tensors if k.startswith("optimiser/") and k.endswith(f"/{name}")]
                kept = {
                    k: tensors[f"optimiser/{k}/{name}"].to("cpu" if k == "step" else parameter.device) for k in keys
                }
                self.optimiser.state.update({parameter: kept} if kept else {})
        self.best = {n: tensors[f"best/{n}"].to(p.device) for n, p in self.parameters.items() if f"best/{n}" in tensors}


def _digest(tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(position).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
