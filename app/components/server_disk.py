"""How much room a database server has, where it runs on the machine that the site runs on."""

from __future__ import annotations

from app.deployments.base import Deployment
from app.errors import DeploymentError

_HERE = {None, "", "localhost", "127.0.0.1", "::1"}


async def free_bytes(deployment: Deployment, host: str | None, folder: str) -> int | None:
    """Free where the server says that its data is; `host`: where its clients find it. None: that cannot be told."""
    if not folder.startswith("/") or not (host in _HERE or str(host).startswith("/")):
        return None
    try:
        result = await deployment.run(["df", "-P", "-k", folder], check=False, timeout=30)
    except DeploymentError:
        return None
    lines = result.stdout.decode("utf-8", "replace").strip().splitlines()
    cells = lines[-1].split() if len(lines) == 2 else []
    numbers = [cell for cell in cells if cell.isdigit()]  # of 1 KiB: all, used, free
    return int(numbers[2]) << 10 if result.status == 0 and len(numbers) >= 3 else None
