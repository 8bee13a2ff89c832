"""The shell scripts that merge a restored tree with the live one, before the swap and after it: see swap_scripts.

Records on stdin end with a NUL. A script that is told to stop by one of them ends with 255, so that xargs stops as
well.
"""

from app.deployments.swap_scripts import FREEZE

#: $1, $2: staging. An empty `merged`, with the owner and the permissions that `new` has.
MERGE = (
    FREEZE
    + r"""
staging "$1" "$2"
[ ! -d merged ] || freeze merged
rm -rf -- merged
mkdir merged
chown -h -- "$(stat -c %u:%g new)" merged 2>/dev/null || :
chmod "00$(stat -c %a new)" merged
"""
)

#: In a tree; $1: how names begin that are left out, or nothing, $2: whether all below is listed. Records: folders.
#: Prints whose each folder is, its permissions and its name.
FOLDERS = r"""
exec xargs -0 -r sh -c '
  hidden=${1:-/} deep=$2
  shift 2
  if find --version 2>/dev/null | grep -q GNU; then
    [ -n "$deep" ] || exec find "$@" -prune -type d -printf "%U:%G %m %p\0"
    exec find "$@" -name "$hidden*" -prune -o -type d -printf "%U:%G %m %p\0"
  fi
  [ -n "$deep" ] || exec find "$@" -prune -type d -exec stat -c "%u:%g %a" {} \; -print0
  exec find "$@" -name "$hidden*" -prune -o -type d -exec stat -c "%u:%g %a" {} \; -print0' sh "$1" "$2"
"""

#: In a tree. Records: folders. Prints something when one of them has more than its permissions.
ACLS = r"""
xargs -0 -r ls -ld -- 2>/dev/null | grep "^d.........+" | head -n 1
"""

#: In `merged`, into which nobody else reaches. Records: names. Prints those that are not there.
MISSING = r"""
exec xargs -0 -r sh -c '
  for name do [ -e "$name" ] || [ -L "$name" ] || printf "%s\0" "$name"; done' sh
"""

#: In `merged`. Records: folders, those above first.
MAKE = r"""
exec xargs -0 -r mkdir --
"""

#: In `merged`. Records: UID:GID, permissions and a folder of ours; the innermost first.
GIVE = r"""
exec xargs -0 -r sh -c '
  last=
  give() { # permissions in full, so that nothing stays that the folder has from the one above
    [ -n "$last" ] || return 0
    chown -h -- "${last% *}" "$@" 2>/dev/null || :
    chmod "00${last#* }" -- "$@" || exit 255
  }
  for record do
    rest=${record#* }
    facts="${record%% *} ${rest%% *}"
    if [ "$facts" != "$last" ]; then
      give "$@"
      set -- # the records are in the loop already
      last=$facts
    fi
    set -- "$@" "${rest#* }"
  done
  give "$@"' sh
"""

#: In `merged`; $1: the tree whose files are linked, $2: how names begin that are left out. Records: d, a folder of
#: ours that gets all files in it; f, a file; t, a folder that gets its time; a, one that gets its ACL as well. What
#: is there already stays, and what vanishes meanwhile is normal. `merged` holds links of its tenant's making: its
#: folders are entered and looked at like all others.
LINK = r"""
exec xargs -0 -r sh -c '
  merged=$1 root=$2 hidden=${3:-/} into=/proc/self/fd/6
  shift 3
  there() { [ -e "$1" ] || [ -L "$1" ]; }
  folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
  enter() { # the folder $2 of the tree $1
    want=${1%/}${2#.}
    cd -P -- "${want:-/}" 2>/dev/null && [ "$PWD" = "${want:-/}" ]
  }
  target() { enter "$merged" "$1" && exec 6<.; }
  stop() { echo "$1: $2" >&2; exit 255; }
  link() { # files of the folder that we are in
    ln -- "$@" "$into/" 2>/dev/null && return
    for file do
      tries=0 # it may go and come
      while there "$file" && ! there "$into/$file"; do
        said=$(ln -- "$file" "$into/" 2>&1) && break
        [ $((tries += 1)) -lt 50 ] || stop "$path/${file#./}" "$said"
      done
    done
  }
  for record do
    path=${record#?}
    case $record in
      f*) if target "${path%/*}" && enter "$root" "${path%/*}"; then
          there "$into/${path##*/}" || link "./${path##*/}"
        fi
        continue ;;
    esac
    target "$path" && enter "$root" "$path" || continue
    case $record in
      a*) tar -c -f - --format=posix --no-recursion --xattrs --acls . |
          (cd "$into/." && tar -x -f - -p --numeric-owner --xattrs --acls) 2>/dev/null || : ;;
    esac
    case $record in
      [at]*) touch -r . -- "$into/." 2>/dev/null || : ;;
      d*) set --
        for file in ./* ./.[!.]* ./..?*; do
          case $file in "./$hidden"*) continue ;; esac
          if folder "$file" || ! there "$file" || there "$into/$file"; then continue; fi
          set -- "$@" "$file"
          if [ $# -ge 500 ]; then link "$@"; set --; fi
        done
        [ $# -eq 0 ] || link "$@" ;;
    esac
  done' sh "$(pwd -P)" "$1" "$2"
"""

#: $1, $2: staging. Records: where to look. Prints the files of the old tree that the live one lacks, or has as it was
#: when they were merged.
CHANGED = r"""
staging "$1" "$2"
exec 7<.
cd old
xargs -0 -r sh -c 'exec find "$@" ! -type d ! -type b ! -type c -print0' sh 2>/dev/null | xargs -0 -r sh -c '
  for file do
    case $file in ./*) ;; *) file=./$file ;; esac
    live=/proc/self/fd/8/$file
    if [ "/proc/self/fd/7/new/$file" -ef "$live" ]; then continue; fi # of most files; the rest looks at more
    if [ -L "$file" ]; then
      [ ! -L "$live" ] || [ "$(readlink -- "$file")" != "$(readlink -- "$live")" ] || continue
    fi
    if [ -L "$live" ] || [ -e "$live" ]; then
      if [ -d "$live" ] && [ ! -L "$live" ]; then continue; fi
      if [ ! -L "$file" ] && [ "$file" -ef "$live" ]; then continue; fi
      if [ -L "/proc/self/fd/7/new/$file" ]; then continue; fi
      if [ "$live" -nt /proc/self/fd/7/swapped-at ]; then continue; fi
    fi
    printf "%s\0" "$file"
  done' sh
"""

#: In `old`, as the site's owner; $1: the target. Records: files that are carried into it. Prints how many, and says
#: of the others that they could not be.
CARRY = r"""
exec 7<.
cd -P -- "$1"
[ "$PWD" = "$1" ]
exec xargs -0 -r sh -c '
  count=0
  path() { # the folders of $1, as they were
    way=. rest=${1#./}
    while case $rest in */*) : ;; *) false ;; esac; do
      way=$way/${rest%%/*} rest=${rest#*/}
      [ -d "$way" ] || { mkdir -- "$way" && chmod "$(stat -c %a "/proc/self/fd/7/$way")" "$way"; } || return 1
    done
  }
  for file do
    if [ ! -e "/proc/self/fd/7/$file" ] && [ ! -L "/proc/self/fd/7/$file" ]; then continue; fi
    to=${file%/*} made=.liberu-restore-carried-$$
    if path "$file" 2>/dev/null && { ln -- "/proc/self/fd/7/$file" "$to/$made" 2>/dev/null ||
      cp -p -P -- "/proc/self/fd/7/$file" "$to/$made" 2>/dev/null; } &&
      { [ ! -L "$file" ] || rm -f -- "$file"; } && mv -f -- "$to/$made" "$file"; then
      count=$((count + 1))
    else
      rm -f -- "$to/$made"
      echo "$file" >&2
    fi
  done
  echo $count' sh
"""
