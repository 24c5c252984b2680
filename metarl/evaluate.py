"""`python -m metarl.evaluate` is `metarl evaluate`: see metarl/commands/evaluate.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("evaluate")
