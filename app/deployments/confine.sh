# Runs one command that gets foreign bytes, as whoever calls it: it can start no program, write into no file and gain no
# privilege. POSIX sh: dash, bash, busybox. sh -c THIS sh COMMAND...
located() {
  case $1 in */*) tool=$1 && return ;; esac
  IFS=:
  for folder in $PATH; do
    tool=$folder/$1
    [ -f "$tool" ] && [ -x "$tool" ] && return
  done
  return 1
}
[ "$(id -u)" != 0 ] || { echo "root cannot be confined" >&2; exit 125; }
# The last thing that needs another process.
guard=
if located setpriv && "$tool" --no-new-privs true 2>/dev/null; then guard=$tool; fi
located "$1" || { echo "$1: not found" >&2; exit 127; }
shift
set -- "$tool" "$@"
[ -z "$guard" ] || set -- "$guard" --no-new-privs -- "$@"
cd / || exit 125
# 4 GiB of memory, in KiB; where there is a lower limit, that one stays.
ulimit -v 4194304 2>/dev/null
ulimit -c 0 && ulimit -f 0 && { ulimit -u 0 2>/dev/null || ulimit -p 0; } || exit 125
export PATH=/nonexistent HOME=/nonexistent SHELL=/nonexistent EDITOR=/nonexistent VISUAL=/nonexistent PAGER=/nonexistent
exec "$@"
