"""Learns to tell new classes of images apart from five images of each."""

import numpy as np

import metarl

CLASSES, COPIES = 40, 20
rng = np.random.default_rng(0)
figures = rng.random((CLASSES, 8, 8)) < 0.4  # a random figure for each class
noise = rng.random((CLASSES, COPIES, 8, 8)) < 0.2  # of which each image has some pixels wrong
images = (255 * (figures[:, None] ^ noise)).astype(np.uint8).reshape(-1, 1, 8, 8)
labels = np.repeat(np.arange(CLASSES), COPIES)
tasks = metarl.episodes_from_arrays(images, labels, ways=5)
network = {"agent.network.kind": "mlp", "agent.network.hidden": [64, 64]}


def main(iterations=5, **settings):
    where = {"iterations": iterations, "run_dir": "runs/figures", "settings": network}
    run = metarl.meta_train("digits-protonet", tasks, **where, **settings)
    new = (rng.random((5, 8, 8)) < 0.4)[:, None] ^ (rng.random((5, 20, 8, 8)) < 0.2)
    new = (255 * new).astype(np.uint8)[:, :, None]  # [class, image, 1, 8, 8]
    names = ["ant", "bee", "cat", "dog", "elk"]
    adapted = metarl.load(run, tasks=tasks).adapt(
        new[:, :5].reshape(-1, 1, 8, 8), np.repeat(names, 5).tolist()
    )
    found = adapted.predict(new[:, 5:].reshape(-1, 1, 8, 8))
    right = np.mean(np.array(found) == np.repeat(names, 15))
    print(f"{right:.0%} of {len(found)} images of new classes are recognised")


if __name__ == "__main__":
    main()
