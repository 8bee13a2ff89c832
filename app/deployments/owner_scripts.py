"""The shell scripts that give files and folders to other users: see swap_scripts."""

#: In a tree that others can change meanwhile. $1: UID:GID, $2: whose the entries are. Records: entries that are given
#: away, those of one folder after each other. A file gets another name in a folder of ours: there it is looked at and
#: given away, and nothing can take its place. Prints those that belong to somebody else, and stay theirs.
#: chown clears set-user-id and set-group-id of files; the latter stays.
SET_OWNERS = r"""
exec 8<.
root=$(pwd -P)
cd ..
alone || cd /proc/self/fd/8/.
ours=.liberu-restore-owners-$$
mkdir -- "./$ours"
exec 7<.
cd -P -- "./$ours"
alone && [ -z "$(ls -A .)" ] || { echo "$ours was replaced while it was made" >&2; exit 77; }
exec 9<.
cd /proc/self/fd/8/.
status=0
xargs -0 -r sh -c '
  root=$1 who=$2 from=$3 folder=
  shift 3
  enter() {
    if [ "$1" = . ]; then cd /proc/self/fd/8/.; else cd -P -- "$root/$1" 2>/dev/null && [ "$PWD" = "$root/$1" ]; fi
  }
  refused() { printf "%s\0" "$1"; }
  theirs() { [ "$1" = "$from" ] || [ "$1" = "${who%:*}" ]; }
  give() { # what got a name in our folder
    cd /proc/self/fd/9/. || exit 255
    find . ! -name . ! -user "$from" ! -user "${who%:*}" -exec sh -c "$tell" sh "$folder" {} \;
    find . -type f -perm -2000 -exec chown -h -- "$who" {} \; -exec chmod g+s {} \; || exit 255
    find . ! -name . ! \( -type f -perm -2000 \) -exec chown -h -- "$who" {} + || exit 255
    find . ! -name . -exec rm -f -- {} +
  }
  export tell="printf \"%s/%s\\0\" \"\$1\" \"\${2#./}\"; rm -f -- \"\$2\""
  given=0
  for path do
    path=${path#./}
    case $path in */*) above=${path%/*} ;; *) above=. ;; esac
    if [ "$above" != "$folder" ] || [ $given -ge 500 ]; then
      [ $given -eq 0 ] || give
      given=0 folder=$above
      enter "$above" || { refused "$path"; folder=; continue; }
    fi
    name=./${path##*/}
    if [ -d "$name" ] && [ ! -L "$name" ]; then
      if enter "$path" && theirs "$(stat -c %u .)"; then chown -- "$who" . || exit 255; else refused "$path"; fi
      enter "$above" || folder=
    elif ln -- "$name" /proc/self/fd/9/ 2>/dev/null; then
      given=$((given + 1))
    else
      refused "$path"
    fi
  done
  [ $given -eq 0 ] || give' sh "$root" "$1" "$2" || status=$?
cd /proc/self/fd/7/.
rm -rf -- "./$ours"
exit $status
"""

#: $1: UID:GID of whom the folder is given to, or nothing; then the parts of its path, from the root. Ends with
#: A_LINK where a link stands in the way.
A_LINK = 78
MAKE_FOLDER = r"""
who=$1 here= made=
shift
umask 022
cd /
for part do
  made=
  if [ ! -e "./$part" ] && [ ! -L "./$part" ]; then mkdir -- "./$part" && made=1; fi
  here=$here/$part
  cd -P -- "./$part" && [ "$(pwd -P)" = "$here" ] || { echo "$here is no folder, or a symbolic link" >&2; exit 78; }
  [ -z "$made" ] || { [ "$(stat -c %u .)" = "$(id -u)" ] && [ -z "$(ls -A .)" ]; } ||
    { echo "$here was replaced while it was made" >&2; exit 77; }
done
[ -z "$made" ] || [ -z "$who" ] || chown -- "$who" .
"""
