"""`python -m metarl.report` is `metarl report`: see metarl/commands/report.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("report")
