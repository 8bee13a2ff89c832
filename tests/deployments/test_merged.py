"""What is staged and what is live in one tree of links, wherever the site runs."""

from __future__ import annotations

from app.deployments.base import User
from app.deployments.swap import pack
from app.deployments.tree import SwapPlan
from tests.deployments.conftest import Place

#: $1: the live tree, $2: the staged one. `both` is a folder in both; `swapped` is a file and `linked` a link of the
#: backup where a folder is live; `caf/a b` and the name with a line break are only live, with a mode and a time.
FILL = r"""
umask 022
odd="line
break"
cd "$1"
mkdir -p both/live "caf/a b/$odd" swapped/inner linked/inner uploads/2026
for file in both/one both/live/one "caf/a b/$odd/one" swapped/inner/one linked/inner/one uploads/2026/one top; do
  echo live >"$file"
done
chmod 2750 "caf/a b"
chmod 0700 "caf/a b/$odd"
touch -d "2001-02-03 04:05:06" "caf/a b/$odd" both/live
touch -d "2002-02-03 04:05:06" "caf/a b"
cd "$2"
mkdir -p both/new deep/er/est elsewhere
for file in both/one both/new/one deep/er/est/one swapped elsewhere/one; do echo new >"$file"; done
ln -s elsewhere linked
chmod 1775 deep/er
touch -d "2003-02-03 04:05:06" both
touch -d "2004-02-03 04:05:06" deep/er
"""
LOOK = r"""
cd "$1/merged"
odd="line
break"
find . | LC_ALL=C sort | tr "\n" ","
echo
for path in both/one both/live/one top swapped elsewhere/one "caf/a b/$odd/one"; do
  printf "%s " "$(cat "$path" 2>/dev/null)"
done
echo
stat -c "%a %Y" . both both/live "caf/a b" "caf/a b/$odd" deep/er 2>/dev/null || :
"""


async def test_folders_of_both_are_as_they_were(place: Place) -> None:
    tree = place.deployment.tree
    plan = SwapPlan(place.folder, "merged", "entries", clear_existing=False)
    new = await tree.prepare(plan, User(0, 0))
    await place.sh(f'TZ=UTC; export TZ\nset -- "$1" "$2"\n{FILL}', place.folder, new)
    await place.sh('chmod 0751 "$1"; touch -d "2005-02-03 04:05:06" "$1"', new)
    plan.tree, plan.roots = "merged", pack([b"."])
    await tree.merge(plan, [b"."])
    names, contents, *told = (await place.sh(LOOK, plan.staging_path)).splitlines()
    assert "./uploads/2026/one," in names
    assert "./linked,./swapped," in names.replace("./linked/inner", "?"), "what the backup has stands"
    assert "inner" not in names
    assert contents.split() == ["new", "live", "live", "new", "new", "live"]
    modes = [line.split()[0] for line in told]
    assert modes == ["751", "755", "755", "2750", "700", "1775"]
    times = [int(line.split()[1]) for line in told]
    year = 31_556_952
    assert [1970 + time // year for time in times] == [2005, 2003, 2001, 2002, 2001, 2004]


async def test_only_the_roots_stay(place: Place) -> None:
    tree = place.deployment.tree
    plan = SwapPlan(place.folder, "roots", "entries", clear_existing=True)
    new = await tree.prepare(plan, User(0, 0))
    await place.sh(FILL, place.folder, new)
    await tree.merge(plan, [b"uploads/2026", b"top", b"both/live", b"swapped/inner", b"linked/inner/one"])
    [names, *_] = (await place.sh(LOOK, plan.staging_path)).splitlines()
    kept = {name for name in names.split(",") if name.startswith(("./uploads", "./top", "./both/live", "./caf"))}
    assert kept == {"./uploads", "./uploads/2026", "./uploads/2026/one", "./top", "./both/live", "./both/live/one"}
    assert "inner" not in names
