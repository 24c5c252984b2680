"""Trains two agents with several seeds each, and compares them on the same held-out tasks."""

import metarl

SIZES = {"tasks": 10, "episodes": 10}


def main(seeds=(1, 2, 3), iterations=30, held_out=20, sampling=SIZES, **settings):
    for agent in ("maml-trpo", "joint-ppo"):
        for seed in seeds:
            run = metarl.meta_train(
                "point-goal",
                agent=agent,
                seed=seed,
                sampling=sampling,
                # an iteration of joint training plays half as many episodes
                iterations=iterations * (2 if agent == "joint-ppo" else 1),
                **settings,
                run_dir=f"runs/{agent}/seed{seed}",
            )
            metarl.evaluate(run, tasks=held_out, steps=1, episodes=10)
    found = metarl.compare(["runs/maml-trpo", "runs/joint-ppo"])
    print(found)
    found.figure().savefig("comparison.png")


if __name__ == "__main__":
    main()
