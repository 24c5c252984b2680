"""`python -m metarl.doctor` is `metarl doctor`: see metarl/commands/doctor.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("doctor")
