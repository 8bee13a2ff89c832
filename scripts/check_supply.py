"""What can be checked of the supply chain without a network: pins and hashes, what is installed, secrets in the tree.

Known vulnerabilities need a network: `pip-audit -r requirements.lock` (see docs/security.md).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parent.parent
#: Detectors of what has a form of its own; passwords of tests have none.
_PLUGINS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector",
    "NpmDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector", "SlackDetector", "StripeDetector",
)  # fmt: skip
_REQUIREMENT = re.compile(r"^[a-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( ; .+)? \\$", re.IGNORECASE)


def unpinned(text: str) -> list[str]:
    """Requirements of the lock file without an exact version or a hash; addresses."""
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    wrong = [line for line in lines if "://" in line]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith(" ") and not (_REQUIREMENT.match(line) and "--hash=sha256:" in following):
            wrong.append(line)
    return wrong


def secrets(files: list[str]) -> list[str]:
    with transient_settings({"plugins_used": [{"name": name} for name in _PLUGINS]}):
        return [f"{found.filename}:{found.line_number} {found.type}" for name in files for found in scan_file(name)]


def main() -> None:
    git = shutil.which("git") or "git"
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    problems = [f"not pinned: {line}" for line in unpinned((ROOT / "requirements.lock").read_text())]
    problems += [f"a secret: {line}" for line in secrets(files)]
    installed = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if installed.returncode:
        problems.append(installed.stdout)
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
