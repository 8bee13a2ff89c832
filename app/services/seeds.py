"""Destinations from the panel's environment variables, at the first start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.schemas.destinations import DestinationIn

_VARIABLES: dict[str, dict[str, str]] = {
    "sftp": {
        "SFTP_HOST": "host", "SFTP_PORT": "port", "SFTP_USERNAME": "username", "SFTP_PASSWORD": "password",
        "SFTP_ROOT": "root", "SFTP_TIMEOUT": "timeout",
    },
    "ftp": {
        "FTP_HOST": "host", "FTP_PORT": "port", "FTP_USERNAME": "username", "FTP_PASSWORD": "password",
        "FTP_ROOT": "root", "FTP_PASSIVE": "passive", "FTP_SSL": "ssl", "FTP_TIMEOUT": "timeout",
    },
    "s3": {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "region",
        "AWS_BUCKET": "bucket", "AWS_ENDPOINT": "endpoint", "AWS_USE_PATH_STYLE_ENDPOINT": "use_path_style_endpoint",
    },
}  # fmt: skip
#: Without these nothing was meant: a machine may have AWS keys for other reasons.
_NEEDED = {"sftp": "SFTP_HOST", "ftp": "FTP_HOST", "s3": "AWS_BUCKET"}
_UNSET = ("", "null", "(null)")


def seeds(env: Mapping[str, str]) -> tuple[list[DestinationIn], list[str]]:
    """The destinations that are described in `env`, and what keeps the others from being made. No secret is named."""
    adapter: TypeAdapter[DestinationIn] = TypeAdapter(DestinationIn)
    found, problems = [], []
    for kind, variables in _VARIABLES.items():
        given = {field: env[name] for name, field in variables.items() if env.get(name, "") not in _UNSET}
        if env.get(_NEEDED[kind], "") in _UNSET:
            continue
        configuration: dict[str, Any] = dict(given)
        if "ssl" in given:
            secure = given["ssl"].lower() in ("1", "true", "yes", "on")
            configuration["ssl"] = secure
            configuration["allow_plaintext"] = not secure  # it was switched off by name
        try:
            body = {"name": f"{kind.upper()} (from the environment)", "type": kind, "configuration": configuration}
            found.append(adapter.validate_python(body))
        except ValidationError as error:
            fields = sorted({str(item["loc"][-1]) for item in error.errors()})
            problems.append(f"No {kind} destination was made from the environment: check {', '.join(fields)}")
    return found, problems
