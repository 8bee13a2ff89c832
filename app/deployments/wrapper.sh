# Runs one command at a site's end for RemoteDeployment. POSIX sh: dash, bash, busybox.
# sh -c THIS sh CWD ENTERED WATCHED DRAINS USER COMMAND...; stdin: a nonce, NAME=value lines, an empty line, then the command's input.
IFS= read -r nonce || exit 125
while IFS= read -r line && [ -n "$line" ]; do export "$line"; done
cwd=$1 entered=$2 watched=$3 drains=$4 user=$5
shift 5
account() {
  while IFS=: read -r name secret uid gid rest; do
    if [ "$uid:$gid" = "$1" ]; then echo "$name" && return; fi
  done </etc/passwd
}
group() { echo "liberu-group $5" >&2; }
IFS= read -r line <"/proc/$$/stat" && group $line
if [ -n "$cwd" ]; then
  # What was entered stays open, whatever its path means by then; its true path shows that no link led here.
  [ "$entered" = 1 ] || cd -- "$cwd" 2>/dev/null && [ "$(pwd -P)" = "$cwd" ] || { echo liberu-no-folder >&2; exit 125; }
fi
if [ -n "$user" ] && [ "$user" != "$(id -u):$(id -g)" ]; then
  if setpriv --reuid=0 --regid=0 --clear-groups true 2>/dev/null; then
    set -- setpriv "--reuid=${user%:*}" "--regid=${user#*:}" --clear-groups -- "$@"
  elif chroot --skip-chdir --userspec=0:0 / true 2>/dev/null; then
    set -- chroot --skip-chdir --groups= "--userspec=$user" / "$@"
  elif name=$(account "$user") && [ -n "$name" ]; then
    set -- su -p -s /bin/sh -c 'exec "$@"' -- "$name" sh "$@"
  else
    echo liberu-no-user >&2
    exit 125
  fi
fi
umask 077
if [ "$watched" = 1 ]; then
  # Nothing more comes on stdin: its end means that the other side is gone, and the command must not go on alone.
  exec 3<&0
  "$@" </dev/null 3<&- &
  child=$!
  { read -r line <&3; kill -9 0; } >/dev/null 2>&1 &
  watcher=$!
  wait "$child"
  status=$?
  kill "$watcher" 2>/dev/null
else
  "$@"
  status=$?
fi
printf 'liberu-end %s %03d\n' "$nonce" "$status"
# A kubelet loses the end of a command that leaves input unread: the other side ends it when it has seen the line above.
if [ "$drains" = 1 ] && [ "$watched" = 0 ]; then cat >/dev/null; fi
exit "$status"
