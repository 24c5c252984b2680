"""Every class's rules by its name."""

from __future__ import annotations

from metarl.envs.metaworld.rules.base import Rules
from metarl.envs.metaworld.rules.button import BUTTON
from metarl.envs.metaworld.rules.coffee import COFFEE
from metarl.envs.metaworld.rules.containers import CONTAINERS
from metarl.envs.metaworld.rules.door import DOOR
from metarl.envs.metaworld.rules.drawer import DRAWER
from metarl.envs.metaworld.rules.faucet import FAUCET
from metarl.envs.metaworld.rules.handle import HANDLE
from metarl.envs.metaworld.rules.lever import LEVER
from metarl.envs.metaworld.rules.peg import PEG
from metarl.envs.metaworld.rules.pick_place import PICK_PLACE
from metarl.envs.metaworld.rules.plate_slide import PLATE_SLIDE
from metarl.envs.metaworld.rules.push import PUSH
from metarl.envs.metaworld.rules.reach import REACH
from metarl.envs.metaworld.rules.stick import STICK
from metarl.envs.metaworld.rules.sweep import SWEEP
from metarl.envs.metaworld.rules.tools import TOOLS
from metarl.envs.metaworld.rules.window import WINDOW

RULES: dict[str, Rules] = {
    **BUTTON,
    **COFFEE,
    **CONTAINERS,
    **DOOR,
    **DRAWER,
    **FAUCET,
    **HANDLE,
    **LEVER,
    **PEG,
    **PICK_PLACE,
    **PLATE_SLIDE,
    **PUSH,
    **REACH,
    **STICK,
    **SWEEP,
    **TOOLS,
    **WINDOW,
}
