"""What the README tells somebody to try first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from demo.service import ROOT


@pytest.mark.parametrize("deployment", ["standalone", "ssh"])
def test_the_demo_restores_everything(deployment: str) -> None:
    """Files beside the document root, and in it: what a restore leaves there is removed before it is compared."""
    argv = [sys.executable, "-m", "demo", "local", deployment]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Everything came back" in done.stdout
