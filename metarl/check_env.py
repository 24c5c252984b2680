"""`python -m metarl.check_env` is `metarl check-env`: see metarl/commands/check_env.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("check-env")
