"""Loads saved policies. For those of episodes it needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metarl.deployment import folder, policy_file
from metarl.deployment.arguments import place
from metarl.deployment.policy import Interface, Policy


def load_policy(path: Path | str) -> Any:
    """Returns a saved policy, which acts, or a saved learner, which predicts.

    It needs neither the run nor its tasks, and nothing in the folder is unpickled.

    Raises:
        UserError: where it is none, or damaged.
    """
    path = place(path, "the saved policy")
    saved = folder.read(path)
    if saved.document.get("kind") == folder.LEARNER:
        from metarl.deployment.learner import restored  # imports torch

        return restored(saved, path)
    acting, interface, facts = policy_file.restored(saved, path)
    return Policy(acting, Interface(**interface), facts)
