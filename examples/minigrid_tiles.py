"""Tiles in a MiniGrid room: which colour pays is hidden. Needs `pip install "metarl[minigrid]"`."""

from gymnasium.spaces import Discrete
from minigrid.core.world_object import Floor
from minigrid.envs.empty import EmptyEnv

import metarl


class Tiles(EmptyEnv):
    """A red and a blue tile lie anywhere: one pays 1, the other 0, and either ends the episode."""

    def __init__(self, pays="red", size=5):
        super().__init__(size, ((size - 1) // 2, size - 2), agent_start_dir=3, agent_view_size=5)
        self.pays, self.action_space = pays, Discrete(3)  # turn left, turn right, go

    def _gen_grid(self, width, height):
        super()._gen_grid(width, height)
        self.grid.set(width - 2, height - 2, None)  # in place of the empty room's goal
        self.places = {tuple(self.place_obj(Floor(c))): c for c in ("red", "blue")}

    def step(self, action):
        obs, _, _, truncated, info = super().step(action)
        colour = self.places.get(tuple(self.agent_pos))
        return obs, float(colour == self.pays), colour is not None, truncated, info


def make(pays, size):
    return metarl.minigrid_cells(Tiles(pays, size))


rooms = {"pays": metarl.Choice(["red", "blue"]), "size": metarl.Choice([4, 5, 6], test=[5])}
tasks = metarl.gym_tasks(make, rooms, horizon=12)


def main(iterations=60, **settings):
    run = metarl.meta_train(
        "point-goal", tasks, agent="maml-ppo", iterations=iterations, **settings
    )
    print([row["mean"] for row in metarl.evaluate(run, tasks, steps=2).summary])


if __name__ == "__main__":
    main()
