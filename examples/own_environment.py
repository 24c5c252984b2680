"""An environment of your own becomes a distribution of tasks; agents adapt to held-out ones."""

import gymnasium
import numpy as np

import metarl


class Catapult(gymnasium.Env):
    """One throw in an unknown wind, which the aim has to undo; the reward is minus the miss, m."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, wind=0.0):
        self.wind = wind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        miss = abs(3.0 * float(action[0]) + self.wind)
        return np.zeros(1, np.float32), -miss, True, False, {"hit": miss < 0.3}


tasks = metarl.gym_tasks(Catapult, {"wind": metarl.Uniform(-2, 2)}, horizon=1, success="hit")


def main(iterations=30, held_out=40, **settings):
    where = {"iterations": iterations, "run_dir": "runs/catapult"}
    run = metarl.meta_train("point-goal", tasks, **where, **settings)
    found = metarl.evaluate(run, tasks, num_tasks=held_out, steps=2)
    for row in found.summary:
        print(f"{row['step']} steps: return {row['mean']:.2f}, {row['success']:.0%} hits")


if __name__ == "__main__":
    main()
