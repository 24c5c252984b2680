"""Adapts an agent to one environment, saves the policy, and loads it without the run."""

import gymnasium

import metarl

varied = {"gravity": metarl.Uniform(5, 15), "force_mag": metarl.Choice([-10.0, 10.0])}
tasks = metarl.gym_tasks("CartPole-v1", varied, horizon=200)


def cart():
    """The one machine there is: its motor is wired the wrong way round."""
    env = gymnasium.make("CartPole-v1", max_episode_steps=200)
    env.unwrapped.force_mag = -10.0
    return env


def main(iterations=30, episodes=20, path="policies/cart", **settings):
    where = {"iterations": iterations, "run_dir": "runs/cart"}
    run = metarl.meta_train("point-goal", tasks, **where, **settings)
    adapted = metarl.load(run, tasks=tasks).adapt(cart(), episodes=episodes, steps=2)
    adapted.save(path)

    policy, env = metarl.load_policy(path), cart()
    obs, over, steps = env.reset(seed=0)[0], False, 0
    while not over:
        obs, _, terminated, truncated, _ = env.step(policy.act(obs))
        over, steps = terminated or truncated, steps + 1
    print(f"the pole stayed up for {steps} of 200 steps")


if __name__ == "__main__":
    main()
