"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # a submission is judged by the same examples
if os.environ.get("CI"):
    settings.load_profile("ci")
