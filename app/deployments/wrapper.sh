# Runs one command at a site's end for RemoteDeployment. POSIX sh: dash, bash, busybox.
# Arguments: CWD ENTERED WATCHED FRAMED USER LINES BEAT COMMAND...; stdin: a nonce, NAME=value lines, an empty line, so
# many LINES of a secret, then the command's input.
IFS= read -r nonce || exit 125
while IFS= read -r line && [ -n "$line" ]; do export "$line"; done
group=
cwd=$1 entered=$2 watched=$3 framed=$4 user=$5 lines=$6 beat=$7
shift 7
unset private
if [ "$lines" -gt 0 ]; then
  IFS= read -r private || exit 125
  while [ $((lines -= 1)) -gt 0 ]; do
    IFS= read -r line || exit 125
    private="$private
$line"
  done
fi
account() {
  while IFS=: read -r name secret uid gid rest; do
    if [ "$uid:$gid" = "$1" ]; then echo "$name" && return; fi
  done </etc/passwd
}
# Ends all that runs in our group, and waits for it: a PID 1 that reaps nobody keeps what nobody else waited for. All are
# frozen first, so that none takes the end of another for an end of its input, nor starts one that is not seen; a shell
# of ours stays while it has one to wait for.
stop() {
  trap '' TERM
  exec 2>/dev/null 7</dev/null
  IFS= read -r mine <"/proc/$$/cmdline"
  rounds=200 frozen=
  while [ $((rounds -= 1)) -gt 0 ]; do
    found='' parents=' ' ours='' others=''
    for stat in /proc/[0-9]*/stat; do
      line=
      IFS= read -r line <"$stat"
      number=${line%% *}
      set -- ${line##*) }
      [ "$3" = "$group" ] && [ "$number" != $$ ] || continue
      parents="$parents$2 "
      [ "$1" = Z ] || found="$found $number"
    done
    [ -n "$found" ] || break
    if [ "$found" != "$frozen" ]; then
      frozen=$found
      kill -STOP $found
      continue
    fi
    frozen=
    for number in $found; do
      line=
      IFS= read -r line <"/proc/$number/cmdline"
      case "$line:$parents" in
        "$mine:"*" $number "*) ours="$ours $number" ;;
        *) others="$others $number" ;;
      esac
    done
    kill -9 $others
    kill -CONT $ours
    sleep 0.02 || sleep 1
  done
  [ -n "$found" ] || wait
  kill -9 0
}
stops() { [ -e "/proc/$$/fd/7" ]; }
# Stay as we are, and what is open open, until we are killed.
freeze() {
  read -r number line <"/proc/self/stat"
  kill -STOP "$number"
}
# Signs of life on stderr: silence means that we, or the line, hang.
beats() {
  exec 3>&2 2>/dev/null
  trap 'kill -9 "$!"; wait "$!"; exit' TERM
  while sleep "$beat" & wait "$!"; do
    kill -0 "$$" || exit
    echo liberu-alive >&3
  done
}
# Input as lines with a size and that many bytes, to a size of 0: a broken line kills the command before it sees an end.
# What the command leaves unread is read all the same, or a kubelet would lose its status.
unframed() {
  while IFS= read -r size; do
    case $size in
      0) return ;;
      '' | *[!0-9]*) break ;;
      *) dd bs="$size" count=1 iflag=fullblock 2>/dev/null ;;
    esac
    ! stops || freeze
  done
  kill "$$" || kill -9 0
  freeze
}
# The command; its secret is a pipe, which no kill leaves behind: /proc/self/fd/9. bash before 5.1 would make a file in
# /tmp of a here-document, and there may be no /tmp that can be written.
started() {
  if [ -z "${private+set}" ]; then
    "$@"
    return
  fi
  {
    printf '%s\n' "$private" | {
      exec 9<&0 <&8 8<&-
      [ -z "$user" ] || chown "$user" /proc/self/fd/9
      exec "$@"
    }
  } 8<&0
}
# Output, and after it a line that proves its end: status, and the checksum of what was sent; before it, what makes that.
proven() {
  [ "$framed" != 1 ] || echo "$sum"
  if [ "$sum" != - ]; then
    exec 4>&1
    set -- $({ { { started "$@" 4>&- 5>&- 6>&-; echo "$?" >&5; } | tee /proc/self/fd/6 >&4; } 6>&1 | "$sum" >&5; } 5>&1)
    set -- "$1" "$2:$3"
    exec 4>&-
  else
    started "$@"
    set -- "$?" -
  fi
  stops || printf 'liberu-end %s %03d %-66s\n' "$nonce" "$1" "$2"
  return "$1"
}
sum=-
if [ "$framed" = 1 ]; then
  for tool in sha256sum cksum; do ! command -v "$tool" >/dev/null || sum=$tool; done
fi
# Whom to kill, and by what it is told from a later process of the same number.
group() { group=$5 && echo "liberu-group $5 $$ ${22}" >&2; }
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
exec 3<&0 </dev/null
# Before the trap: a shell that is forked with one swallows what comes until it has reset it.
beats >/dev/null 3<&- &
beside=$!
if [ "$watched" = 1 ]; then
  # Nothing more comes on stdin: its end means that the other side is gone, and the command must not go on alone.
  { read -r line <&3; kill "$$" || kill -9 0; } >/dev/null 2>&1 &
  beside="$beside $!"
fi
[ -z "$group" ] || trap stop TERM
if [ "$watched" = 1 ]; then
  proven "$@" 3<&- &
elif [ "$framed" = 1 ]; then
  unframed <&3 3<&- | proven "$@" 3<&- &
else
  proven "$@" <&3 3<&- &
fi
child=$!
exec 3<&-
wait "$child"
status=$?
{ kill $beside; wait; } 2>/dev/null
exit "$status"
