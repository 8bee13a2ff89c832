"""Where the `restore` command looks, by URL."""

from __future__ import annotations

import pytest

from app.errors import InvalidRequest
from app.recovery import place_of
from app.storage.base import Options
from app.storage.registry import build_driver
from demo.ftp_servers import proftpd_server


@pytest.mark.parametrize("url", ["ftp://u:secret@h/x", "http://h/x", "sftp://h/x", "relative", "s3:///x"])
def test_what_cannot_be_used_is_refused_and_no_secret_repeated(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        place_of(url, {})
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("tls", ["explicit", "none"])
async def test_ftp_with_and_without_tls(tls: str) -> None:
    with proftpd_server(tls) as server:
        found = server.fresh()
        certificate = server.data.parent / "trusted.pem"
        env = {"FTP_PASSWORD": found["password"]}
        if tls == "explicit":
            certificate.write_text(found["certificate"])
            env["FTP_CERTIFICATE_FILE"] = str(certificate)
        scheme = "ftps" if tls == "explicit" else "ftp"
        where = f"{scheme}://{found['username']}@{found['host']}:{found['port']}{found['root']}"
        driver = build_driver(*place_of(where, env), Options())
        await driver.check()
        await driver.close()
