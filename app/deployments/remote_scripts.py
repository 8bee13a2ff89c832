"""The shell scripts of RemoteDeployment and RemoteTree, but those of a swap: POSIX sh with GNU or busybox tools, and
xargs -0.

`$1` and on are arguments; the working folder is what the caller entered.
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

STATUS = r"""
echo $(stat -c '%u %g %d' .) $(stat -c %d ..) $(stat -f -c '%a %S' .)
"""

IS_GNU_FIND = r"""
if find --version 2>/dev/null | grep -q GNU; then echo yes; else echo no; fi
"""

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

#: In a tree. $1: UID:GID. Names that are given away. chown clears set-user-id and set-group-id of files; the latter
#: stays.
SET_OWNERS = r"""
exec xargs -0 -r sh -c '
  who=$1 first=1
  for name do
    if [ -n "$first" ]; then set --; first=; continue; fi
    if [ -f "$name" ] && [ ! -L "$name" ] && [ -g "$name" ]; then
      chown -h -- "$who" "$name" && chmod g+s -- "$name" || exit 255
      continue
    fi
    set -- "$@" "$name"
    if [ $# -ge 500 ]; then chown -h -- "$who" "$@" || exit 255; set --; fi
  done
  [ $# -eq 0 ] || chown -h -- "$who" "$@" || exit 255' sh "$1"
"""
