#!/usr/bin/env bash
# Uploads per second of Inkport beside vsftpd: same machine, same run, same client.
#
# What the ratio says: vsftpd answers when the bytes are in the kernel's cache; Inkport when file,
# folder and job are on disk, and it then looks at every upload (here: to reject it, because it is
# no document), while the next ones come in.
#
# Usage: bench/ftp.sh [ROUNDS]        (3; median of all rounds)
#   BENCH_CLIENT_OPTIONS="--small 300 --each 50"   a smaller run
#   BENCH_SERVER="target/debug/inkport"            another binary
#   BENCH_DIR=/somewhere                           on another disk than /tmp
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
server=${BENCH_SERVER:-target/release/inkport}
read -ra client_options <<<"${BENCH_CLIENT_OPTIONS:-}"

fail() { echo "bench/ftp.sh: $1" >&2; exit 1; }

[ -x "$server" ] || fail "$server is not there; run 'make build' first"
command -v python3 >/dev/null || fail "python3 is needed for the client"
peer=$(command -v vsftpd || true)
[ -n "$peer" ] || { [ -x /usr/sbin/vsftpd ] && peer=/usr/sbin/vsftpd; } || true
if [ -z "$peer" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing vsftpd ..."
    # Debian starts what it installs; ours runs on its own port with its own configuration.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq vsftpd >/dev/null || true
    { command -v systemctl >/dev/null && systemctl disable --now vsftpd; } >/dev/null 2>&1 || true
    [ -x /usr/sbin/vsftpd ] && peer=/usr/sbin/vsftpd
fi
[ -n "$peer" ] || echo "vsftpd is not installed and cannot be: only Inkport is measured" >&2
if [ -n "$peer" ] && [ "$(id -u)" != 0 ]; then
    echo "vsftpd needs root to change to its own user: only Inkport is measured" >&2
    peer=""
fi

room=$(mktemp -d "${BENCH_DIR:-/tmp}/inkport-bench.XXXXXX")
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$room"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# -- Inkport. Passive ports lie outside the kernel's ephemeral range, or binds collide with clients.
mkdir "$room/config" "$room/data"
cat >"$room/config/inkport.toml" <<EOF
version = 1
data-dir = "../data"
[ftp]
listen = "127.0.0.1:0"
passive-ports = "30000-30255"
[http]
listen = "127.0.0.1:0"
[ocr]
models = "$PWD/models"
[limits]
max-upload = "2GB"
EOF
password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
export BENCH_PASSWORD=$password
printf '%s\n' "$password" | "$server" --config "$room/config/inkport.toml" account add bench --password-stdin >"$room/account.log" 2>&1 ||
    { cat "$room/account.log" >&2; fail "the account could not be made"; }
"$server" --config "$room/config/inkport.toml" serve >"$room/serve.out" 2>"$room/serve.err" &
pids+=($!)
for _ in $(seq 300); do
    grep -q '^inkport ready' "$room/serve.out" && break
    kill -0 "${pids[0]}" 2>/dev/null || { tail -n 20 "$room/serve.err" >&2; fail "inkport ended before it was ready"; }
    sleep 0.1
done
port=$(sed -n 's/^inkport ready.* ftp=[^ ]*:\([0-9]*\).*/\1/p' "$room/serve.out")
[ -n "$port" ] || { tail -n 20 "$room/serve.err" >&2; fail "inkport was not ready within 30 seconds"; }

# -- vsftpd, for anonymous uploads into a folder of this run, as a user that the system has anyway
# (one with a home that exists, which vsftpd insists on). No account is made or changed.
if [ -n "$peer" ]; then
    for owner in ftp daemon ""; do
        home=$(getent passwd "$owner" | cut -d: -f6) && [ -d "$home" ] && break
    done
    [ -n "$owner" ] || fail "neither 'ftp' nor 'daemon' is a user with a home, for vsftpd to run as"
    peer_port=$(free_port)
    mkdir -p "$room/peer/up" "$room/empty"
    chmod 711 "$room"
    chmod 555 "$room/peer" "$room/empty"
    chown "$owner" "$room/peer/up"
    cat >"$room/vsftpd.conf" <<EOF
listen=YES
listen_ipv6=NO
listen_address=127.0.0.1
listen_port=$peer_port
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_root=$room/peer
ftp_username=$owner
nopriv_user=nobody
secure_chroot_dir=$room/empty
seccomp_sandbox=NO
pasv_min_port=31000
pasv_max_port=31255
pasv_address=127.0.0.1
xferlog_enable=NO
EOF
    "$peer" "$room/vsftpd.conf" >"$room/vsftpd.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 50); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $peer_port), 1)" 2>/dev/null && break
        kill -0 "${pids[1]}" 2>/dev/null || { cat "$room/vsftpd.log" >&2; fail "vsftpd ended before it listened"; }
        sleep 0.1
    done
fi

for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    python3 bench/ftp_client.py --label inkport --port "$port" --user bench "${client_options[@]}" | tee -a "$room/lines" >&2
    if [ -n "$peer" ]; then
        python3 bench/ftp_client.py --label vsftpd --port "$peer_port" --user anonymous --folder up "${client_options[@]}" | tee -a "$room/lines" >&2
    fi
done
[ -z "$peer" ] || python3 bench/ftp_table.py inkport vsftpd <"$room/lines"
