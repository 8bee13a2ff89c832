#!/usr/bin/env bash
# Sets up a machine for this project: system packages (by apt when root), a virtual environment, locked dependencies.
set -euo pipefail
venv=${1:?usage: setup.sh VENV}

declare -A package_of=(
  [tar]=tar [zstd]=zstd [age]=age [setfacl]=acl [setfattr]=attr [lsattr]=e2fsprogs [setpriv]=util-linux
  [mariadb-dump]=mariadb-client [mariadbd]=mariadb-server
  [pg_dump]=postgresql-client [busybox]=busybox-static [sshd]=openssh-server [ssh-keygen]=openssh-client
  [sudo]=sudo [gpg]=gpg [gpgconf]=gpgconf [gpg-agent]=gpg-agent [dockerd]=docker.io [ps]=procps [zip]=zip [xz]=xz-utils [bzip2]=bzip2 [sqlite3]=sqlite3
  [radosgw]=radosgw [ceph-mon]=ceph-mon [ceph-osd]=ceph-osd [openssl]=openssl [proftpd]=proftpd-core
)
missing=()
export PATH="$PATH:/usr/sbin:/sbin"
for tool in "${!package_of[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package_of[$tool]}")
done
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
[ -e /usr/lib/proftpd/mod_tls.so ] || missing+=(proftpd-mod-crypto)
compgen -G '/lib/*/security/pam_pwdfile.so' >/dev/null || missing+=(libpam-pwdfile)
compgen -G '/lib/*/libwrap.so.0' >/dev/null || compgen -G '/usr/lib/*/libwrap.so.0' >/dev/null || missing+=(libwrap0)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})); then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The tests start private servers: keep apt from starting the packages' own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod 755 $policy
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "System packages are missing. Install them, then run this again:" >&2
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

# vsftpd and ProFTPD cannot be installed side by side: the tests run an unpacked one.
if [ "$(id -u)" = 0 ] && ! command -v vsftpd >/dev/null && [ ! -x build/vsftpd/usr/sbin/vsftpd ]; then
  download=$(mktemp -d)
  (cd "$download" && { apt-get download -qq vsftpd || { apt-get update -qq && apt-get download -qq vsftpd; }; }) 2>/dev/null
  mkdir -p build
  dpkg -x "$download"/vsftpd_*.deb build/vsftpd
  rm -rf "$download"
fi

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
echo "Ready: $venv"
