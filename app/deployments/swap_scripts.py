"""The shell scripts of a swap at another end: POSIX sh with GNU or busybox tools, and xargs -0.

They run in the target, which the caller entered without following a link. A tenant can change its live tree at any
moment, and what was extracted as well: whoever looks at tar's working folder in /proc is in it. So root enters a
folder of theirs with `cd -P` and looks at $PWD before it touches what is in it, by its last name alone; moves entries
only out of or into a folder that it holds, with rename(2); has nothing walk through such a tree that follows a link
which appears meanwhile, as `cp -r` and busybox's rm do; and writes below it as the site's owner.

Records on stdin end with a NUL and begin with a letter that says what they are. A script that is told to stop by one
of them ends with 255, so that xargs stops as well.
"""

#: Of all scripts. `staging NAME [INODE]`: from the target into its staging folder, which must be the one that was
#: made and ours alone, or it ends with LOST; the target stays at hand as /proc/self/fd/8. `alone`: whether nobody but
#: us reaches into the folder that we are in, and nothing is mounted on it.
LOST = 77
COMMON = r"""
set -e
umask 077
alone() {
  set -- $(stat -c "%u %d %a" .) "$(stat -c %d /proc/self/fd/8/.)" "$(id -u)"
  [ "$1 $2" = "$5 $4" ] && [ "$3" != "${3%00}" ]
}
staging() {
  exec 8<.
  here=$(pwd -P)
  cd -- "./$1" || exit 77
  [ "$(pwd -P)" = "${here%/}/$1" ] && alone || { echo "$1 is not ours" >&2; exit 77; }
  [ -z "$2" ] || [ "$(stat -c %i .)" = "$2" ] || { echo "$1 is not the folder that was made" >&2; exit 77; }
}
flush() { sync -f . 2>/dev/null || sync; }
"""

#: What busybox's tools walk through is made ours first, from the top down, so that nobody can put a link in it
#: meanwhile; GNU's do without. `freeze FOLDER...`: each in a folder that is ours, or the one that we are in.
FREEZE = r"""
freeze() {
  find "$@" -type d -exec chown -h "$(id -u):$(id -g)" {} \; -exec chmod 700 {} \; 2>/dev/null || :
}
"""

#: $1: staging's name, $2: UID:GID of whom `new` is given to, or nothing. Prints its inode. The target's own time
#: stays.
PREPARE = r"""
was=$(stat -c "%y" .) seconds=$(stat -c %Y .)
mkdir -- "./$1"
staging "$1"
[ -z "$(ls -A .)" ] || { echo "$1 was replaced while it was made" >&2; exit 77; }
mkdir new
touch -d "$was" new 2>/dev/null || touch -d "@$seconds" new
touch -r new /proc/self/fd/8/. 2>/dev/null || :
[ -z "$2" ] || chown -h -- "$2" new
stat -c %i .
"""

#: $1: staging's name. What a prepare that was interrupted has left, and nothing else.
REMOVE_UNMADE = r"""
[ -d "./$1" ] && [ ! -L "./$1" ] || exit 0
staging "$1"
[ ! -d new ] || rmdir new
cd /proc/self/fd/8/.
rmdir -- "./$1"
"""

#: $1, $2: staging, $3: the tree that comes. Prints the target's permissions, what comes, an empty record, what goes.
MEASURE = r"""
staging "$1" "$2"
mkdir -p old arrived half taken join
touch -r /proc/self/fd/8/. times
touch -r "$3" new-times
flush
printf '%s\0' "$(stat -c %a /proc/self/fd/8/.)"
(cd -- "$3" && find . ! -name . -prune ! -name '.liberu-restore-*' -print0)
printf '\0'
(cd /proc/self/fd/8 && find . ! -name . -prune ! -name '.liberu-restore-*' -print0)
"""

#: $1: staging, $2: a folder in it, $3: another one, absolute, and folders below $2. Files of these are linked below
#: $3, in place of what is there.
_JOIN = r"""
  top=$1 from=$2 to=$3
  shift 3
  there() { [ -e "$1" ] || [ -L "$1" ]; }
  enter() { cd -P -- "$1" 2>/dev/null && [ "$PWD" = "$1" ]; }
  for path do
    enter "$to${path#"$from"}" || continue
    exec 6<.
    enter "$top/$path" || continue
    for file in ./* ./.[!.]* ./..?*; do
      there "$file" || continue
      if [ -L "$file" ] || [ ! -d "$file" ]; then
        ln -f -- "$file" /proc/self/fd/6/ 2>/dev/null || :
      elif ! there "/proc/self/fd/6/$file"; then # made where nobody else is, and moved
        mkdir -- "$top/join/$file" || continue
        chown -h -- "$(stat -c %u:%g "$file")" "$top/join/$file" 2>/dev/null || :
        chmod "$(stat -c %a "$file")" "$top/join/$file"
        mv -n -- "$top/join/$file" /proc/self/fd/6/ || :
        [ ! -d "$top/join/$file" ] || rmdir -- "$top/join/$file"
      fi
    done
  done
"""

_MOVES = (
    FREEZE
    + r"""
  joins=$1 busybox=$2
  shift 2
  target=/proc/self/fd/8
  there() { [ -e "$1" ] || [ -L "$1" ]; }
  folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
  stop() { echo "$name: $1" >&2; exit 255; }
  # The folder $1 becomes part of $2, an absolute path: hard links. Others may change both meanwhile.
  join() {
    find "$1" -type d -print0 | xargs -0 -r sh -c "$joins" sh "$(pwd -P)" "$1" "$2"
  }
  drop() { # the folder $target/$name
    if [ -n "$busybox" ]; then
      (
        cd -P -- "$target/$name" && [ "$(pwd -P)" = "$(cd "$target/." && pwd -P)/$name" ] &&
        freeze . && rm -rf -- ./* ./.[!.]* ./..?*
      ) && rmdir -- "$target/$name"
    else
      rm -rf -- "$target/$name"
    fi
  }
  move() { said=$(mv -- "$1/$name" "$2/" 2>&1) || ! there "$1/$name" || stop "$said"; }
  # $1/$name goes in. What has come meanwhile where it goes is kept apart; a folder becomes part of the old one where
  # what is old is carried over.
  arrive() {
    tries=0
    while there "$1/$name"; do
      if there "$target/$name"; then
        kept=$name.$$.$tries
        said=$(mv -- "$target/$name" "arrived/$kept" 2>&1) || ! there "$target/$name" || stop "$said"
      fi
      said=$(mv -n -- "$1/$name" "$target/" 2>&1)
      tries=$((tries + 1))
      [ $tries -lt 50 ] || stop "${said:-something comes in its place again and again}"
    done
    [ -n "$merges" ] || return 0
    if [ "$1" = old ]; then into=$(cd "$target/." && pwd -P); else into=$(pwd -P)/old; fi
    while [ $((tries -= 1)) -ge 0 ]; do
      kept=$name.$$.$tries
      if folder "arrived/$kept" && folder "$into/$name"; then
        join "arrived/$kept" "$into/$name" && mv -- "arrived/$kept" taken/
      fi
    done
  }
  # A folder of an image cannot be renamed: mv copies it and removes what it has copied. What is stopped in between is
  # whole when both are taken together.
  copied() {
    there "half/$name" || return 0
    if there "$target/$name"; then
      cp -a "$target/$name" half/ && drop || stop "the copy of it cannot be completed"
    fi
    mv -- "half/$name" old/ || stop "the copy of it cannot be kept"
  }
  # Going back, the copy is what is completed: nothing is written in a tree that others can change meanwhile.
  back() {
    there "half/$name" || return 0
    if folder "half/$name" && folder "$target/$name"; then
      cp -a "$target/$name" half/ && drop || stop "the copy of it cannot be completed"
    fi
    if there "$target/$name"; then rm -rf -- "half/$name"; else arrive half; fi
  }
  out() {
    if [ "$layered" = overlayfs ] && folder "$target/$name"; then
      said=$(mv -- "$target/$name" half/ && mv -- "half/$name" old/ 2>&1) || stop "$said"
    else
      move "$target" old
    fi
  }
"""
)

#: What the two that follow give to what xargs starts.
_STARTED = f"""
staging "$1" "$2"
joins='{_JOIN}'
busybox=
rm --help 2>&1 | grep -q -e --one-file-system || busybox=1
"""

#: $1, $2: staging, $3: the tree that comes, $4: whether what is old is carried over. Records: b, an entry that comes
#: and goes; n, one that comes; o, one that goes. Each step can be repeated.
FORWARD = (
    _STARTED
    + r"""
xargs -0 -r sh -c '
  tree=$1 merges=$2 layered=$3
  shift 3
"""
    + _MOVES
    + r"""
  for record do
    name=${record#?} comes= goes=
    case $record in [bn]*) ! there "$tree/$name" || comes=1 ;; esac
    case $record in o*) goes=1 ;; b*) goes=$comes ;; esac
    copied
    if [ -n "$goes" ] && there "$target/$name" && ! there "old/$name"; then out; fi
    [ -z "$comes" ] || arrive "$tree"
  done' sh "$3" "$4" "$(stat -f -c %T /proc/self/fd/8/. 2>/dev/null)" "$joins" "$busybox"
chown -h -- "$(stat -c %u:%g "$3")" old 2>/dev/null || :
chmod "$(stat -c %a "$3")" /proc/self/fd/8/. 2>/dev/null || :
touch -r new-times /proc/self/fd/8/. 2>/dev/null || :
: >swapped-at
flush
cd arrived
find . ! -name . -prune -print0
"""
)

#: $1, $2: staging, $3 and $4 as above, $5: the target's permissions. Records as above, the last first.
BACKWARD = (
    _STARTED
    + r"""
xargs -0 -r sh -c '
  tree=$1 merges=$2
  shift 2
"""
    + _MOVES
    + r"""
  for record do
    name=${record#?}
    case $record in [bn]*) if ! there "$tree/$name" && there "$target/$name"; then move "$target" "$tree"; fi ;; esac
    case $record in [bo]*) back; if there "old/$name"; then arrive old; fi ;; esac
  done' sh "$3" "$4" "$joins" "$busybox"
[ -z "$5" ] || chmod "$5" /proc/self/fd/8/. 2>/dev/null || :
touch -r times /proc/self/fd/8/. 2>/dev/null || :
flush
"""
)

_OLD = r"""
old() {
  for folder in old half arrived; do
    [ ! -d "$folder" ] || [ -z "$(ls -A "$folder")" ] || echo "$folder"
  done
}
"""

#: $1, $2: staging. Prints something when what was live is in it.
HOLDS_OLD = (
    _OLD
    + r"""
[ -d "./$1" ] || exit 0
staging "$1" "$2"
old
"""
)

#: $1: how the names of staging folders begin. Prints of those that are ours alone: inode, 1 where what was live is in
#: it, name.
STAGED = (
    _OLD
    + r"""
exec 8<.
for name in "./$1"*; do
  if [ -d "$name" ] && [ ! -L "$name" ]; then
    (cd -- "$name" && alone && printf '%s %s %s\0' "$(stat -c %i .)" "$([ -z "$(old)" ] || echo 1)" "${name#./}") || :
  fi
done
"""
)

#: In staging. No other file system is entered, where rm can be told so.
EMPTY = (
    FREEZE
    + r"""
all="new merged old arrived taken half join folder .liberu-restore-owners-*"
if rm --help 2>&1 | grep -q -e --one-file-system; then
  rm -rf --one-file-system -- $all
else
  freeze $all
  rm -rf -- $all
fi
rm -f -- times new-times keep carried swapped-at
"""
)

#: In a tree: all that is in it goes. No other file system is entered.
CLEAR = (
    FREEZE
    + r"""
if find --version 2>/dev/null | grep -q GNU; then exec find . -xdev -mindepth 1 -delete; fi
was=$(stat -c "%u:%g %a" .)
freeze . -xdev
rm -rf -- ./* ./.[!.]* ./..?*
chown -- "${was% *}" .
chmod "${was#* }" .
"""
)

#: $1, $2: staging. The target's own time stays as it was.
REMOVE = (
    r"""
[ -d "./$1" ] || exit 0
staging "$1" "$2"
touch -r /proc/self/fd/8/. keep
exec 6<keep
"""
    + EMPTY
    + r"""
cd /proc/self/fd/8/.
rmdir -- "./$1"
touch -r /proc/self/fd/6 . 2>/dev/null || :
"""
)
