"""What a proof says of a database of the zoo."""

from __future__ import annotations

from app.archives.manifest import Warning_
from app.archives.streams import from_bytes
from app.components.base import Component
from app.errors import ProofImpossible
from tests.components.helpers import Context, codes, collect


async def denied(component: Component) -> list[Warning_]:
    """Why its dump does not load; nothing where that cannot be told, or it lacks something already."""
    dump = await component.dump_to_prove()
    assert dump.proof is not None
    context = None
    try:
        content = await collect(dump)
        assert not {"not_in_dump", "not_listed"} & {*codes(dump.report)}
        if dump.report.incomplete:
            return []
        assert dump.report.facts["proved"] == "listed"
        context = Context(facts=dump.report.facts)
        return (await dump.proof.load(from_bytes(content), context.context, len(content))).incomplete
    except ProofImpossible:
        return []
    finally:
        await dump.proof.close()
        if context is not None:
            await component.tidy(context.journal)
