"""Where the `restore` command looks, by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.archives.compression import Compressor
from app.archives.layout import marker_key
from app.archives.store import BackupStore
from app.errors import DestinationNotPrepared, InvalidRequest
from app.recovery import Keys, place_of
from app.recovery_cli import show
from app.security.signing import Signer
from app.storage.base import Options
from app.storage.local import LocalDriver
from app.storage.registry import build_driver
from demo.ftp_servers import proftpd_server
from tests.archives.test_store import commit
from tests.storage.test_contract import stream


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


async def test_without_a_marker_all_is_listed_and_it_is_said(
    tmp_path: Path, compressor: Compressor, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = Keys([], signer)
    with pytest.raises(DestinationNotPrepared, match="mounted"):
        await show(str(tmp_path / "none"), keys, None, None)
    driver = LocalDriver(tmp_path)
    await commit(BackupStore(driver, compressor, signer), "uid")
    await show(str(tmp_path), keys, None, None)
    printed = capsys.readouterr().out
    assert "1 backups" in printed
    assert "No marker" in printed
    await driver.put(marker_key("inst", "01936b2e-0000-7000-8000-000000000000"), stream(b"{}"))
    await show(str(tmp_path), keys, None, None)
    assert "No marker" not in capsys.readouterr().out
