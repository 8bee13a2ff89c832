"""The shell scripts of RemoteDeployment and RemoteTree, but those of a swap: POSIX sh with GNU or busybox tools, and
xargs -0.

`$1` and on are arguments; the working folder is what the caller entered.
"""

#: $1: a process group, $2: the wrapper in it, which ends it in good order, $3: when that was started. A container
#: that was restarted has other processes of the same numbers.
KILL = r"""
group=$1 wrapper=$2 started=$3 tries=100
exec 2>/dev/null
IFS= read -r line <"/proc/$wrapper/stat" || exit 0
set -- $line
[ "${22}" = "$started" ] || exit 0
kill "$wrapper"
kill -CONT "$wrapper"
while [ $((tries -= 1)) -gt 0 ]; do
  sleep 0.05 || sleep 1
  line=
  IFS= read -r line <"/proc/$wrapper/stat"
  set -- ${line##*) }
  case $1 in '' | Z) exit 0 ;; esac
done
kill -9 -- "-$group" || kill -9 "-$group"
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

#: Who we are. Earlier versions kept a secret in a file while its command ran; what they left when they were killed is
#: removed, a while after its command must have read it.
ARRIVE = r"""
id -u
for folder in /dev/shm/liberu.?????? /tmp/liberu.??????; do
  (
    cd -- "$folder" && [ "$(pwd -P)" = "$folder" ] && [ "$(stat -c "%u %a" .)" = "$(id -u) 700" ] || exit 0
    find . -name secret -type f -mmin +5 -exec rm -f {} \;
    cd .. && rmdir "$folder"
  ) 2>/dev/null
done
exit 0
"""
