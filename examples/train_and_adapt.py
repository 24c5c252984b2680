"""Meta-trains on pendulums of any gravity, adapts to one of them, and plays an episode there."""

import gymnasium

import metarl

tasks = metarl.gym_tasks("Pendulum-v1", {"g": metarl.Uniform(5, 15)}, horizon=200)


def play(env, policy):
    """Returns the return of one episode."""
    obs, over, total = env.reset(seed=0)[0], False, 0.0
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs))
        over, total = terminated or truncated, total + float(reward)
    return total


def main(iterations=30, episodes=20, **settings):
    where = {"iterations": iterations, "run_dir": "runs/pendulum"}
    run = metarl.meta_train("point-goal", tasks, **where, **settings)
    agent = metarl.load(run, tasks=tasks)
    env = gymnasium.make("Pendulum-v1", g=12.0)
    before = agent.adapt(env, steps=0)
    after = agent.adapt(env, episodes=episodes, steps=1)
    print(f"return {play(env, before):.0f} before adaptation, {play(env, after):.0f} after it")


if __name__ == "__main__":
    main()
