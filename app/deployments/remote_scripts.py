"""The shell scripts of RemoteTree: POSIX sh with GNU or busybox tools, and xargs -0.

`$1` and on are arguments; the working folder is what the caller entered.
"""

#: Of all scripts. `staging NAME`: from the target into its staging folder, which must be ours alone; the target stays
#: at hand as /proc/self/fd/8.
COMMON = r"""
set -e
staging() {
  exec 8<.
  here=$(pwd -P)
  cd -- "./$1"
  [ "$(pwd -P)" = "${here%/}/$1" ] && [ "$(stat -c %u .)" = "$(id -u)" ] || { echo "$1 is not ours" >&2; exit 1; }
}
"""

#: $1: a process group, $2: the wrapper in it, $3: when that was started. A container that was restarted has other
#: processes of the same numbers.
KILL = r"""
group=$1 started=$3
IFS= read -r line <"/proc/$2/stat" || exit 0
set -- $line
[ "${22}" = "$started" ] || exit 0
kill -9 -- "-$group" 2>/dev/null || kill -9 "-$group"
"""

#: $1: a group's name. getent knows those of directories too; not every image has it.
GROUP = r"""
found() { while IFS=: read -r name _ number _; do [ "$name" != "$1" ] || { echo "$number"; exit; }; done; }
getent group "$1" 2>/dev/null | found "$1" | grep . || found "$1" </etc/group
"""

STATUS = r"""
echo $(stat -c '%u %g %d' .) $(stat -c %d ..) $(stat -f -c '%a %S' .)
"""

IS_GNU_FIND = r"""
if find --version 2>/dev/null | grep -q GNU; then echo yes; else echo no; fi
"""

PREPARE = r"""
mkdir -m 700 -- "./$1"
staging "$1"
mkdir -m 700 new
[ -z "$2" ] || chown -h -- "$2" new
"""

#: What the swap will do is written down, durably, before the target is touched.
JOURNAL = r"""
staging "$1"
touch -r new times
(cd new && find . ! -name . -prune ! -name '.liberu-restore-*' -print0) >new.list
(cd /proc/self/fd/8 && find . ! -name . -prune ! -name '.liberu-restore-*' -print0) >old.list
: >journal.tmp
sync -f . 2>/dev/null || sync
mv journal.tmp journal
sync -f . 2>/dev/null || sync
"""

#: Each step can be repeated: a restart goes on. mv into a folder renames, and follows no link that waits there.
_MOVE = r"""
move_all() {
  [ -d old ] || mkdir -m 700 old
  xargs -0 sh -c '
    for name do
      if [ -e "old/$name" ] || [ -L "old/$name" ]; then continue; fi
      if [ -e "/proc/self/fd/8/$name" ] || [ -L "/proc/self/fd/8/$name" ]; then
        mv -- "/proc/self/fd/8/$name" old/ || exit 1
      fi
    done' sh <old.list
  xargs -0 sh -c '
    for name do
      if [ -e "new/$name" ] || [ -L "new/$name" ]; then mv -f -- "new/$name" /proc/self/fd/8/ || exit 1; fi
    done' sh <new.list
  [ ! -e new/.liberu-restore-stamp ] || mv -f new/.liberu-restore-stamp old/
  chown -h "$(stat -c %u:%g new)" old 2>/dev/null || :
  chmod "$(stat -c %a new)" /proc/self/fd/8 2>/dev/null || :
  touch -r times /proc/self/fd/8/. 2>/dev/null || :
  sync -f . 2>/dev/null || sync
  : >done
  rm -f journal
}
"""

SWAP = (
    _MOVE
    + r"""
staging "$1"
move_all
"""
)

#: The folder `old` is the first thing that a swap makes.
FINISH = (
    _MOVE
    + r"""
[ -d "./$1" ] || exit 0
staging "$1"
if [ ! -e done ] && [ -e journal ] && [ -d old ]; then move_all; fi
[ ! -e done ] || echo done
"""
)

#: Hard links, in /proc/self/fd/9, of what is in the working folder and not there. $1: `newer`: only what is not
#: older than the stamp. /proc/self/fd/7: where a list may be kept. One ln for each folder; what stands at the other
#: end already is left alone, with all below it. Prints how many.
_LINK_MISSING = r"""
link_missing() {
  list=/proc/self/fd/7/.liberu-restore-list
  find . -name '.liberu-restore-*' -prune -o -type d -print0 >"$list"
  xargs -0 sh -c '
    set -e
    newer=$1 other=/proc/self/fd/9 count=0
    shift
    there() { [ -e "$1" ] || [ -L "$1" ]; }
    for folder do
      if there "$other/$folder"; then
        if [ ! -d "$other/$folder" ] || [ -L "$other/$folder" ]; then continue; fi
      else
        up=${folder%/*}
        if [ ! -d "$other/$up" ] || [ -L "$other/$up" ]; then continue; fi
        mkdir -- "$other/$folder"
        chmod "$(stat -c %a "$folder")" "$other/$folder"
      fi
      set --
      for file in "$folder"/* "$folder"/.[!.]* "$folder"/..?*; do
        case $file in */.liberu-restore-*) continue ;; esac
        if [ ! -L "$file" ] && { [ -d "$file" ] || [ ! -e "$file" ]; }; then continue; fi
        if there "$other/$file"; then continue; fi
        if [ -n "$newer" ] && [ /proc/self/fd/7/.liberu-restore-stamp -nt "$file" ]; then continue; fi
        set -- "$@" "$file"
        count=$((count + 1))
        if [ $# -ge 500 ]; then ln -- "$@" "$other/$folder/"; set --; fi
      done
      [ $# -eq 0 ] || ln -- "$@" "$other/$folder/"
    done
    echo $count' sh "$1" <"$list"
  rm -f "$list"
}
"""

#: In `new`, as the site's owner: what only the live tree has is added. $1: the target.
MERGE = (
    _LINK_MISSING
    + r"""
: >.liberu-restore-stamp
exec 7<. 9<.
cd -- "$1"
[ "$(pwd -P)" = "$1" ]
link_missing ""
"""
)

#: In `old`, as the site's owner: what appeared after the stamp is carried into the target, $1.
CARRY_OVER = (
    _LINK_MISSING
    + r"""
exec 7<.
cd -- "$1"
[ "$(pwd -P)" = "$1" ]
exec 9<.
cd /proc/self/fd/7
link_missing newer
"""
)

#: In `new`, as the owner: files are linked into the target, $1; folders, whose names end with a slash, are made.
ADD = r"""
exec 9<.
cd -- "$1"
[ "$(pwd -P)" = "$1" ]
exec xargs -0 -r sh -c '
  set -e
  for name do
    case $name in
      */) [ -d "$name" ] || { mkdir -p -- "$name" && chmod "$(stat -c %a "/proc/self/fd/9/$name")" "$name"; } ;;
      *) [ -e "$name" ] || ln -- "/proc/self/fd/9/$name" "${name%/*}/" ;;
    esac
  done' sh
"""

#: What is below the folder that stdin names, folders with a slash at their end; nothing when it is not there.
NAMES = r"""
xargs -0 sh -c '
  if [ -d "$1" ] && [ ! -L "$1" ]; then
    find "$1" -type d -exec sh -c "for n do printf \"%s/\\0\" \"\$n\"; done" sh {} + -o -print0
  fi' sh
"""

#: A file that only we can read; in memory where the machine has such a place.
PRIVATE_FILE = r"""
for place in /dev/shm /tmp; do
  if folder=$(mktemp -d "$place/liberu.XXXXXX" 2>/dev/null); then break; fi
done
cat >"$folder/secret" && echo "$folder"
"""

#: In the target, whose own time stays as it was.
DISCARD = r"""
[ -d "./$1" ] || exit 0
times=$(mktemp)
touch -r . "$times"
rm -rf -- "./$1"
touch -r "$times" . || :
rm -f "$times"
"""
