"""What is imported only when it is used: an idle service stays small."""

from __future__ import annotations

import subprocess
import sys

from demo.service import ROOT


def test_no_sdk_is_imported_at_start() -> None:
    sdks = ("asyncssh", "aiobotocore", "aiohttp", "aioftp", "aiodocker", "kubernetes_asyncio")
    program = (
        "import sys, app.main, app.cli; app.main.create_app();"
        f"print([name for name in {sdks} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
