"""`python -m metarl.train` is `metarl train`: see metarl/commands/train.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("train")
