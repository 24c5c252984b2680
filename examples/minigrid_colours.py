"""Two coloured tiles in a MiniGrid room; which colour pays is the task, and differs from task to
task. Needs MiniGrid: pip install "metarl[minigrid]"."""

from itertools import permutations

from gymnasium.spaces import Discrete
from minigrid.core.world_object import Floor
from minigrid.envs.empty import EmptyEnv

import metarl


class Colours(EmptyEnv):
    """A room of 3 x 3 cells: one tile pays 1, the other nothing, and either ends the episode."""

    def __init__(self, good="red", bad="blue"):
        super().__init__(size=5, agent_start_pos=(2, 3), agent_start_dir=3, agent_view_size=5)
        self.tiles, self.action_space = (good, bad), Discrete(3)  # left, right, forward

    def _gen_grid(self, width, height):
        super()._gen_grid(width, height)
        self.grid.set(width - 2, height - 2, None)  # the goal of the empty room
        self.places = [self.place_obj(Floor(colour)) for colour in self.tiles]

    def step(self, action):
        obs, _, _, truncated, info = super().step(action)
        good, bad = (tuple(self.agent_pos) == tuple(place) for place in self.places)
        return obs, float(good), good or bad, truncated, info


pairs = permutations(("red", "green", "blue", "purple", "yellow", "grey"), 2)
listed = [{"good": good, "bad": bad} for good, bad in pairs]
held_out = listed[::5]  # each colour is good in one of them


def make(good, bad):
    return metarl.minigrid_cells(Colours(good, bad))


tasks = metarl.gym_tasks(
    make, train=[x for x in listed if x not in held_out], test=held_out, horizon=12
)


def main(iterations=300, **settings):
    run = metarl.meta_train(
        "point-goal", tasks, agent="rl2", iterations=iterations, run_dir="runs/colours", **settings
    )
    found = metarl.evaluate(run, tasks, steps=3)
    for row in found.summary:
        print(f"after {row['step']} episodes: return {row['mean']:.2f}")


if __name__ == "__main__":
    main()
