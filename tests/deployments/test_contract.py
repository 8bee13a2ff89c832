"""The one contract suite of all deployments: how a command is run there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.deployments.base import Outcome, User
from app.errors import CommandFailed, InvalidRequest, TargetMissing, ToolMissing
from tests.deployments.conftest import Place

MIB = 1 << 20


async def gathered(stream: ByteStream) -> bytes:
    async with aclosing(stream):
        return b"".join([chunk async for chunk in stream])


async def test_output_status_and_stderr_are_kept_apart(place: Place) -> None:
    script = 'printf "out\\0put"; echo problem >&2; exit 3'
    result = await place.deployment.run(["sh", "-c", script], check=False)
    assert (result.status, result.stdout, result.stderr.strip()) == (3, b"out\0put", "problem")
    with pytest.raises(CommandFailed, match=r"sh ended with status 3: problem"):
        await place.deployment.run(["sh", "-c", script])
    outcome = Outcome()
    stream = place.deployment.stream(["sh", "-c", script], accept=(3,), outcome=outcome)
    assert await gathered(stream) == b"out\0put"
    assert (outcome.status, outcome.stderr.strip()) == (3, "problem")
    with pytest.raises(CommandFailed):
        await gathered(place.deployment.stream(["sh", "-c", script]))


async def test_a_command_that_was_killed_says_why_that_may_be(place: Place) -> None:
    with pytest.raises(CommandFailed, match="memory ran out: look at the memory limit"):
        await place.deployment.run(["sh", "-c", "kill -9 $$"])


async def test_what_is_not_there_is_told_apart(place: Place) -> None:
    with pytest.raises(ToolMissing):
        await place.deployment.run(["no-such-tool"])
    with pytest.raises(TargetMissing):
        await place.deployment.run(["true"], cwd=f"{place.folder}/nothing")
    await place.deployment.run(["ln", "-s", "/tmp", f"{place.folder}/link"])
    with pytest.raises(TargetMissing, match="link"):
        await place.deployment.run(["true"], cwd=f"{place.folder}/link")


async def test_arguments_arrive_as_they_are(place: Place) -> None:
    odd = ["a b", "'", '"', "$HOME", "`id`", "*", "-n", "\\", "ü", "", "x\ny", ";exit 9"]
    result = await place.deployment.run(["sh", "-c", 'printf "%s|" "$@"', "sh", *odd])
    assert result.stdout.decode() == "".join(f"{word}|" for word in odd)


async def test_the_environment_is_ours(place: Place) -> None:
    secret = "s3cret with 'quotes' and $signs"
    result = await place.deployment.run(["env"], env={"TOKEN": secret})
    found = dict(line.split("=", 1) for line in result.stdout.decode().splitlines())
    assert found["TOKEN"] == secret
    assert set(found) <= {"TOKEN", "PATH", "LC_ALL", "HOME", "PWD", "OLDPWD", "SHLVL", "_"}
    assert found["HOME"] == "/nonexistent"


async def test_a_secret_shows_in_no_process_list(place: Place) -> None:
    script = 'for f in /proc/[0-9]*/cmdline; do tr "\\0" " " <"$f" 2>/dev/null || cat "$f"; echo; done'
    canary = f"canary-{secrets.token_hex(8)}"
    result = await place.deployment.run(["sh", "-c", script], env={"TOKEN": canary})
    assert b"/proc/" in result.stdout
    assert canary.encode() not in result.stdout
    async with place.deployment.secret_file(canary) as path:
        assert (await place.deployment.run(["cat", path])).stdout.decode() == f"{canary}\n"
        mode = await place.sh('stat -L -c %a "$1"', path)
        assert mode.strip() == "600"
    with pytest.raises(CommandFailed):
        await place.deployment.run(["cat", path])


async def test_a_secret_file_is_on_no_disk(place: Place) -> None:
    """Whatever is killed while its command runs, there is nothing to leave behind."""
    content = '\n[client]\npassword="a\\\\b $HOME `id` é"\n\n'
    async with place.deployment.secret_file(content) as path:
        nameless = '[ -p "$1" ] || [ "$(stat -L -c %h "$1")" = 0 ]; echo $?; cat "$1"; cat'
        argv = ["sh", "-c", nameless, "sh", path]
        result = await place.deployment.run(argv, input=b"and the input")
    assert result.stdout.decode() == f"0\n{content}and the input"


async def test_what_earlier_versions_left_there_is_removed(place: Place) -> None:
    if place.kind == "standalone":
        pytest.skip("see test_secret_files.py")
    folders = await place.sh(
        "made() { mktemp -d /tmp/liberu.XXXXXX; }; old=$(made) young=$(made) other=$(made);"
        'for f in "$old" "$young" "$other"; do echo pw >"$f/secret"; done; chmod 755 "$other";'
        'touch -d "2020-01-01 00:00:00" "$old/secret" "$other/secret"; echo "$old $young $other"'
    )
    try:
        place.deployment.__dict__["_root"] = None
        await place.deployment.prepare()
        left = await place.sh(f"for f in {folders.strip()}; do ls $f/secret; done 2>/dev/null; true")
        assert [f"{folder}/secret" for folder in folders.split()[1:]] == left.split()
    finally:
        await place.sh(f"rm -rf {folders.strip()}")


async def test_input_goes_there_and_back(place: Place) -> None:
    content = random.Random(1).randbytes(5 * MIB + 17)

    async def source() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(content), 100_003):
            yield content[start : start + 100_003]

    back = await gathered(place.deployment.stream(["cat"], input=source()))
    assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()
    result = await place.deployment.run(["wc", "-c"], input=b"12345")
    assert result.stdout.strip() == b"5"
    assert (await place.deployment.run(["cat"])).stdout == b"", "no input is an empty one"


async def test_a_command_that_stops_reading_is_judged_by_its_status(place: Place) -> None:
    async def much() -> AsyncGenerator[bytes, None]:
        for _ in range(64):
            yield bytes(MIB)

    result = await place.deployment.run(["head", "-c", "3"], input=much())
    assert result.stdout == bytes(3)
    result = await place.deployment.run(["sh", "-c", "exit 7"], input=much(), check=False)
    assert result.status == 7


async def test_an_error_of_the_input_passes_through_and_ends_the_command(place: Place) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise ValueError("the source broke")

    marker = f"{place.folder}/whole"
    with pytest.raises(ValueError, match="the source broke"):
        await place.deployment.run(["sh", "-c", f'cat >/dev/null && touch "{marker}"'], input=broken())
    with pytest.raises(ValueError, match="the source broke"):
        await gathered(place.deployment.stream(["sh", "-c", f'cat && touch "{marker}"'], input=broken()))
    with pytest.raises(CommandFailed):  # it never saw a clean end
        await place.deployment.run(["test", "-e", marker])


async def still_runs(place: Place, name: str) -> bool:
    script = 'for f in /proc/[0-9]*/cmdline; do if grep -q "$1" "$f" 2>/dev/null; then echo "$f"; fi; done'
    found = await place.sh(script, f"{name[:-1]}[{name[-1]}]")
    return bool(found.strip())


async def ended(place: Place, name: str) -> bool:
    async with asyncio.timeout(20):
        while await still_runs(place, name):
            await asyncio.sleep(0.05)
    return True


@pytest.mark.parametrize("reading", [True, False])
async def test_cancelling_ends_the_command_and_its_children(place: Place, reading: bool) -> None:
    name = _duration()
    script = f"sleep {name} & echo started; wait"

    async def hang() -> None:
        if reading:
            await gathered(place.deployment.stream(["sh", "-c", script]))
        else:
            await place.deployment.run(["sh", "-c", script], input=_endless())

    task = asyncio.create_task(hang())
    async with asyncio.timeout(20):
        while not await still_runs(place, name):
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task}, timeout=20)
    assert task.cancelled()
    assert await ended(place, name)


def _duration() -> str:
    """Of a sleep that is told from all others."""
    return str(10**6 + secrets.randbelow(10**9))


async def _endless() -> ByteStream:
    while True:
        yield bytes(MIB)


async def test_leaving_a_stream_ends_the_command(place: Place) -> None:
    name = _duration()
    stream = place.deployment.stream(["sh", "-c", f"head -c 3000000 /dev/zero; sleep {name}"])
    assert await anext(stream)
    assert await still_runs(place, name)
    await stream.aclose()
    assert await ended(place, name)


async def test_who_looks_on_sees_all_before_it_is_read(place: Place) -> None:
    seen: list[bytes] = []
    read = 0
    async for chunk in place.deployment.stream(["head", "-c", "3000000", "/dev/zero"], see=seen.append):
        read += len(chunk)
        assert sum(map(len, seen)) >= read
    assert read == sum(map(len, seen)) == 3_000_000


async def test_who_looks_on_ends_the_stream_with_an_error(place: Place) -> None:
    name = _duration()

    def refuse(chunk: bytes) -> None:
        raise InvalidRequest("not this")

    with pytest.raises(InvalidRequest, match="not this"):
        async for _ in place.deployment.stream(["sh", "-c", f"head -c 3000000 /dev/zero; sleep {name}"], see=refuse):
            pass
    assert await ended(place, name)


async def test_a_slow_reader_holds_the_command_back(place: Place) -> None:
    """Half of 256 MiB stays at the other end while nobody reads."""
    progress = f"{place.folder}/progress"
    script = f'i=0; while [ $i -lt 256 ]; do head -c 1048576 /dev/zero; i=$((i+1)); echo $i >"{progress}"; done'
    stream = place.deployment.stream(["sh", "-c", script])
    first = await anext(stream)

    async def so_far() -> int:
        return int((await place.sh(f'cat "{progress}" 2>/dev/null || echo 0')).strip() or 0)

    seen = -1
    while (now := await so_far()) != seen:  # until nothing moves any more
        seen = now
        await asyncio.sleep(0.3)
    assert seen < 128
    rest = 0
    async with aclosing(stream):
        async for chunk in stream:
            rest += len(chunk)
    assert len(first) + rest == 256 * MIB


async def test_other_users(place: Place) -> None:
    if not place.deployment.privileged:
        pytest.skip("needs root there")
    user = User(33, 33)
    result = await place.deployment.run(["sh", "-c", "id -u; id -g; id -G"], user=user)
    assert result.stdout.split() == [b"33", b"33", b"33"]
    hidden = f"{place.folder}/hidden/new"
    await place.deployment.run(["mkdir", "-p", hidden])
    await place.deployment.run(["chmod", "700", f"{place.folder}/hidden"])
    await place.deployment.run(["chown", "33:33", hidden])
    made = await place.deployment.run(["sh", "-c", "echo x >file; stat -c %u:%a file"], user=user, cwd=hidden)
    assert made.stdout.strip() == b"33:600", "entered before the user was changed"
    assert await place.deployment.resolve_user("www-data") == user
    async with place.deployment.secret_file("theirs") as path:
        assert (await place.deployment.run(["cat", path], user=user)).stdout == b"theirs\n"


#: By a shell's own means: it may start nothing.
_WHO = """
while IFS=: read -r name value; do
  case $name in Uid | Gid | Groups | NoNewPrivs) echo $name $value ;; esac
done </proc/self/status
while read -r line; do
  case $line in "Max "*) echo "${line#Max }" ;; esac
done </proc/self/limits
echo "$PATH $HOME $SHELL $EDITOR $VISUAL $PAGER $PWD $TOKEN"
"""
#: Each on its own: a shell ends at the first thing that it cannot do. $1 is a file that everybody may write.
_DEEDS = {
    "another program": 'cat "$1" && echo done >&2',
    "a process of its own": "(echo done >&2) && :",
    "a program of another's": "id && echo done >&2",
    "a pipe": "echo done | cat >&2 && :",
    "a byte in a file": 'echo done >>"$1" && echo done >&2',
    "a byte in a file of its own": 'echo done >"/tmp/$2" && echo done >&2',
}


async def test_a_confined_command_has_nothing_to_run(place: Place) -> None:
    result = await place.deployment.run(["sh", "-c", _WHO], env={"TOKEN": "t", "EDITOR": "vi"}, confined=True)
    told = [" ".join(line.split()) for line in result.stdout.decode().splitlines()]
    privileged = place.deployment.privileged
    me = "65534" if privileged else (await place.sh("id -u")).strip()
    assert me != "0"
    assert f"Uid {me} {me} {me} {me}" in told
    if privileged:
        assert "Gid 65534 65534 65534 65534" in told
        assert {"Groups", "Groups 65534"} & {*told}
    assert "NoNewPrivs 1" in told
    limits = {line.partition(" unlimited")[0].rpartition(" ")[0] for line in told}
    assert {"processes 0 0", "file size 0 0", "core file size 0 0", f"address space {4 << 30} {4 << 30}"} <= limits
    assert told[-1] == f"{' '.join(['/nonexistent'] * 6)} / t"

    target, own = f"{place.folder}/theirs", f"liberu-{secrets.token_hex(8)}"
    await place.sh('echo before >"$1"; chmod 666 "$1"', target)
    for deed, script in _DEEDS.items():
        done = await place.deployment.run(["sh", "-c", script, "sh", target, own], check=False, confined=True)
        assert (done.status != 0, done.stdout, "done" in done.stderr.split()) == (True, b"", False), deed
        streamed = place.deployment.stream(["sh", "-c", script, "sh", target, own], confined=True)
        with pytest.raises((CommandFailed, ToolMissing)):
            await gathered(streamed)
    assert await place.sh('cat "$1"', target) == "before\n"
    assert (await place.sh('cat "/tmp/$1" 2>/dev/null; rm -f "/tmp/$1"', own)).strip() == ""


async def test_a_confined_command_does_its_work(place: Place) -> None:
    """Input, output, status, a secret and arguments are as for any other."""
    content = random.Random(2).randbytes(3 * MIB + 5)
    back = await gathered(place.deployment.stream(["cat"], input=from_bytes(content), confined=True))
    assert back == content
    odd = ["a b", "'", "$HOME", "x\ny", "--", ""]
    script = 'printf "%s|" "$@"; exit 3'
    result = await place.deployment.run(["sh", "-c", script, "sh", *odd], check=False, confined=True)
    assert (result.status, result.stdout.decode()) == (3, "".join(f"{word}|" for word in odd))
    async with place.deployment.secret_file("theirs\nalone") as path:
        assert (await place.deployment.run(["cat", path], confined=True)).stdout == b"theirs\nalone\n"
    if place.deployment.privileged:
        script = "while IFS=: read -r name ids; do case $name in [UG]id) echo $ids ;; esac; done </proc/self/status"
        user = User(33, 33)
        assert (await place.deployment.run(["sh", "-c", script], user=user, confined=True)).stdout.split() == [
            b"33"
        ] * 8
    with pytest.raises(ToolMissing):
        await place.deployment.run(["no-such-tool"], confined=True)
    with pytest.raises(ValueError, match="never as root"):
        await place.deployment.run(["cat"], user=User(0, 0), confined=True)


async def test_groups_by_name_and_by_number(place: Place) -> None:
    assert await place.deployment.resolve_group("www-data") == 33
    assert await place.deployment.resolve_group("4711") == 4711
    for unknown in ("no-such-group", "www", "33:", "www-data:x"):
        with pytest.raises(InvalidRequest, match="no group"):
            await place.deployment.resolve_group(unknown)


@pytest.mark.timeout(300)
async def test_a_gigabyte_both_ways(place: Place) -> None:
    block = os.urandom(MIB)
    sent, found = hashlib.sha256(), hashlib.sha256()

    async def source() -> AsyncGenerator[bytes, None]:
        for number in range(1024):
            chunk = block[number:] + block[:number]
            sent.update(chunk)
            yield chunk

    async with aclosing(place.deployment.stream(["cat"], input=source())) as stream:
        async for chunk in stream:
            assert len(chunk) <= 2 * MIB
            found.update(chunk)
    assert found.digest() == sent.digest()


async def test_many_at_once(place: Place) -> None:
    async def one(number: int) -> bytes:
        return (await place.deployment.run(["cat"], input=from_bytes(b"%d" % number))).stdout

    results = await asyncio.gather(*(one(number) for number in range(20)))
    assert results == [b"%d" % number for number in range(20)]
