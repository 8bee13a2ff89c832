"""A document root that is a link is followed where it can do no harm, and refused by name elsewhere."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from app.archives.streams import from_bytes
from app.components.files import FilesComponent
from app.db.models import Domain
from app.deployments.docker import Engine
from app.deployments.docker_site import DockerSite
from app.deployments.linked_folder import real_folder
from app.deployments.registry import DeploymentRegistry
from app.deployments.site import DomainPlace, OneDeployment
from app.deployments.standalone import StandaloneDeployment
from app.errors import TargetMissing
from app.security.keys import CredentialCipher
from app.services.components import DomainSite
from app.settings import SitesSettings
from demo.docker_engine import DockerEngine
from tests.components.helpers import SITE_UID, Context, collect
from tests.deployments.conftest import Place

_MAKE = """
mkdir -p "$1/home/releases/42" "$1/home/releases/43" "$1/other" && cd "$1/home" && echo hello >releases/42/index.html
ln -s releases/42 relative && ln -s "$1/home/releases/42" absolute && ln -s ../home/./releases/42 around
ln -s ../other out && ln -s /etc etc && ln -s . itself && ln -s nothing broken && ln -s "$1/home" home
ln -s relative chain && ln -s releases rel && ln -s rel/42 through && ln -s releases/43/../42 turning
ln -s releases/42/index.html file
"""


async def test_only_links_to_a_folder_below_their_own_are_followed(place: Place) -> None:
    await place.sh(_MAKE, place.folder)
    home, deployment = f"{place.folder}/home", place.deployment
    for name in ("relative", "absolute", "around"):
        assert await real_folder(deployment, f"{home}/{name}") == f"{home}/releases/42"
    for name in ("out", "etc", "itself", "broken", "home", "chain", "through", "turning", "file"):
        with pytest.raises(TargetMissing, match=rf"{home}/{name} is a symbolic link to .* not followed"):
            await real_folder(deployment, f"{home}/{name}")
    for name in ("releases/42", "nothing/here", "nothing", "rel/42"):
        assert await real_folder(deployment, f"{home}/{name}") == f"{home}/{name}", "as any other folder"


async def test_a_link_of_one_user_does_not_lead_to_anothers_folder(place: Place) -> None:
    if not getattr(place.deployment, "privileged", False):
        pytest.skip("only root can give files away")
    home = f"{place.folder}/home"
    await place.sh(_MAKE, place.folder)
    await place.sh('chown 20001:20001 "$1/releases/42" && chown -h 20002:20002 "$1/relative"', home)
    with pytest.raises(TargetMissing, match="belongs to user 20002 and the folder to user 20001"):
        await real_folder(place.deployment, f"{home}/relative")
    assert await real_folder(place.deployment, f"{home}/absolute") == f"{home}/releases/42", "root's link"
    await place.sh('chown -h 20001:20001 "$1/relative"', home)
    assert await real_folder(place.deployment, f"{home}/relative") == f"{home}/releases/42"


@pytest.fixture
async def stopped(engine: DockerEngine, containers: dict[str, str]) -> AsyncGenerator[DockerSite, None]:
    name = "linked.example.com"
    made = engine.container(name, "docker-gnu:1", "sleep", "100000")
    engine.run("exec", made, "sh", "-c", _MAKE, "sh", "/srv")
    engine.run("stop", "-t", "0", made)
    client = Engine(engine.url)
    yield DockerSite(client, name, {"container": name})
    await client.close()
    engine.run("rm", "-f", made)


async def test_links_in_a_stopped_container(stopped: DockerSite) -> None:
    deployment = await stopped.at("files")
    assert await real_folder(deployment, "/srv/home/relative") == "/srv/home/releases/42"
    assert await real_folder(deployment, "/srv/home/releases/42") == "/srv/home/releases/42"
    assert await real_folder(deployment, "/srv/home/nothing") == "/srv/home/nothing"
    for name in ("out", "etc", "chain", "broken"):
        with pytest.raises(TargetMissing, match="not followed"):
            await real_folder(deployment, f"/srv/home/{name}")


async def test_a_linked_document_root_is_backed_up_and_restored(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in ("42", "43"):
        (home / "releases" / number).mkdir(parents=True)
        (home / "releases" / number / "index.html").write_text(number)
    (home / "current").symlink_to("releases/42")
    for path in (home / "current", home / "releases" / "42", home / "releases" / "43"):
        if os.geteuid() == 0:
            os.chown(path, SITE_UID, SITE_UID, follow_symlinks=False)
    domain = Domain(domain_name="shop.example.com", document_root=str(home / "current"), exclusions=[])
    site = DomainSite(
        OneDeployment(StandaloneDeployment()), domain, SitesSettings(), CredentialCipher([Fernet.generate_key()])
    )
    component = await site.build("files", "files")
    assert isinstance(component, FilesComponent)
    dump = await component.dump()
    archive = await collect(dump)
    told = {"link": str(home / "current"), "folder": str(home / "releases" / "42")}
    assert dump.report.facts["document_root"] == told
    (home / "current").unlink()
    (home / "current").symlink_to("releases/43")
    if os.geteuid() == 0:
        os.chown(home / "current", SITE_UID, SITE_UID, follow_symlinks=False)
    restored = await site.build("files", "files")
    await restored.restore(from_bytes(archive), Context().context, len(archive))
    assert (home / "current").is_symlink()
    assert (home / "current" / "index.html").read_text() == "42", "what the link leads to now is restored"
    await site.make_folders()
    registry = DeploymentRegistry(f"unix://{tmp_path}/none")
    found = await registry.detector.probe(DomainPlace("shop.example.com", {}, str(home / "current")))
    assert found.type == "standalone"
    assert [probe.reason for probe in found.probes if probe.found] == [
        f"{home}/current is a symbolic link on this machine"
    ]
