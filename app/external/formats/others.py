"""Backups of panels that cannot be imported: recognised, so that the answer says what they are and what can be done.

Sources: bin/v-backup-user of Hestia; plogical/backupUtilities.py of CyberPanel. Not compared with their programs:
DirectAdmin (backup/user.conf beside domains/), Vesta (taken to be as Hestia), aaPanel (a .user.ini that names
/www/wwwroot) and ISPConfig (the folders of a web). A wrong guess only words a refusal differently.
"""

from __future__ import annotations

from itertools import islice

from app.external.items import Item
from app.external.staged import Staged
from app.external.xml import root_name

_BY_HAND = (
    "not supported. What can be done: unpack it, and pack for each domain an archive with its document root as "
    "public_html, its dumps as mysql/NAME.sql or pgsql/NAME.sql, its maildirs as mail/USER/Maildir and a file "
    "domain.info with the line domain=NAME; that is imported as format virtualmin"
)
#: Beside `web`, in which the site is.
_ISPCONFIG = ("private", "cgi-bin", "webdav", "ssl", "tmp")
_LOOKED_AT = 200


def unsupported(staged: Staged, root: str) -> str | None:
    """What to say of an archive of another panel's; None: it is none that is known."""
    for panel, recognised in _PANELS.items():
        if recognised(staged, root):
            return f"This is a backup of {panel}: {_BY_HAND}"
    return None


def _is_directadmin(staged: Staged, root: str) -> bool:
    return staged.get(f"{root}backup/user.conf") is not None


def _is_hestia(staged: Staged, root: str) -> bool:
    return _is_vesta_kind(staged, root, "hestia")


def _is_vesta(staged: Staged, root: str) -> bool:
    return _is_vesta_kind(staged, root, "vesta")


def _is_vesta_kind(staged: Staged, root: str, name: str) -> bool:
    if staged.get(f"{root}{name}/user.conf") is not None:
        return True
    domains = islice(staged.names(f"{root}web"), _LOOKED_AT)
    return any(staged.get(f"{root}web/{domain}/{name}/web.conf") is not None for domain in domains)


def _is_cyberpanel(staged: Staged, root: str) -> bool:
    item = staged.get(f"{root}meta.xml")
    return item is not None and item.type == "f" and root_name(staged.read(item)) == "metaFile"


def _is_aapanel(staged: Staged, root: str) -> bool:
    if staged.is_folder(f"{root}server/panel/data") or staged.is_folder(f"{root}www/server/panel"):
        return True
    return any("/www/wwwroot/" in _text(staged, f"{root}{folder}.user.ini") for folder in ("", "public/"))


def _is_ispconfig(staged: Staged, root: str) -> bool:
    if staged.get(f"{root}ispconfig_software.tar.gz") is not None:
        return True
    if not staged.is_folder(f"{root}web"):
        return False
    return sum(staged.is_folder(f"{root}{name}") for name in _ISPCONFIG) >= 2


def _text(staged: Staged, path: str) -> str:
    item: Item | None = staged.get(path)
    return staged.text(item) if item is not None and item.type == "f" and item.size < 1 << 16 else ""


_PANELS = {
    "DirectAdmin": _is_directadmin,
    "Hestia": _is_hestia,
    "Vesta": _is_vesta,
    "CyberPanel": _is_cyberpanel,
    "aaPanel": _is_aapanel,
    "ISPConfig": _is_ispconfig,
}
