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

#: In a tree; $1: how names begin that are left out, or nothing. Records: folders.
FOLDERS = r"""
exec xargs -0 -r sh -c '
  hidden=$1
  shift
  [ -n "$hidden" ] || exec find "$@" -type d -print0
  exec find "$@" -name "$hidden*" -prune -o -type d -print0' sh "$1"
"""

#: In `merged`; $1: the tree whose files are linked, $2: how names begin that are left out. Records: p, a folder that
#: must be there; d, one with all files in it; f, a file; t, a folder that gets its time, and its ACL. What is there
#: already stays, and what vanishes meanwhile is normal. `merged` holds links of its tenant's making: its folders are
#: entered and looked at like all others.
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
  make() { # as the folder that we are in; made: its time is put right once it is full
    set -- "$into/${path##*/}" $(stat -c "%u:%g %a" .)
    mkdir -- "$1" || stop "$path" "cannot be made"
    chown -h -- "$2" "$1" 2>/dev/null || :
    chmod "00$3" "$1" # so that it does not keep what it has from the folder above
    made=1
  }
  for record do
    path=${record#?} made=
    case $record in
      f*) if target "${path%/*}" && enter "$root" "${path%/*}"; then
          there "$into/${path##*/}" || link "./${path##*/}"
        fi
        continue ;;
      t*) target "$path" && enter "$root" "$path" || continue
        case $(ls -ld .) in
          ??????????+*) tar -c -f - --format=posix --no-recursion --xattrs --acls . |
            (cd "$into/." && tar -x -f - -p --numeric-owner --xattrs --acls) 2>/dev/null || : ;;
        esac
        touch -r . -- "$into/." 2>/dev/null || :
        continue ;;
    esac
    if ! target "$path"; then
      target "${path%/*}" && ! there "$into/${path##*/}" && enter "$root" "$path" || continue
      make
      target "$path" || continue
    fi
    enter "$root" "$path" || continue
    case $record in
      d*) set --
        for file in ./* ./.[!.]* ./..?*; do
          case $file in "./$hidden"*) continue ;; esac
          if folder "$file" || ! there "$file" || there "$into/$file"; then continue; fi
          set -- "$@" "$file"
          if [ $# -ge 500 ]; then link "$@"; set --; fi
        done
        [ $# -eq 0 ] || link "$@" ;;
    esac
    [ -z "$made" ] || touch -r . -- "$into/." 2>/dev/null || :
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
