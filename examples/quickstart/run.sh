#!/usr/bin/env bash
# run.sh CERTSYNC DIR: makes the certificates of certsync.yaml in DIR, which it
# creates, and proves that they work: openssl accepts them, a server and a client
# that use them talk, a client without one is refused, and a second apply changes
# nothing. It fails if any of that does not hold. The certificates stay in DIR.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
certsync=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir "$2"
cp "$here/certsync.yaml" "$2"
cd "$2"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
fail() {
	echo "error: $*" >&2
	exit 1
}

server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server"; } 2>/dev/null || true' EXIT

say '$ certsync plan'
"$certsync" plan

say '$ certsync apply --yes'
"$certsync" apply --yes >apply.out || { cat apply.out; fail "apply failed"; }
tail -n 1 apply.out
rm apply.out

say '$ openssl verify -CAfile pki/rootCA.crt …'
openssl verify -CAfile pki/rootCA.crt -x509_strict -purpose sslserver -verify_ip 127.0.0.1 pki/k8s-apiserver.crt
openssl verify -CAfile pki/rootCA.crt -x509_strict -purpose sslclient pki/jane.crt

say '$ openssl s_server -Verify 1 … and curl'
# Port 0 asks for a free one; s_server says which it got.
openssl s_server -accept 127.0.0.1:0 -www -Verify 1 -verify_return_error \
	-CAfile pki/rootCA.crt -cert pki/k8s-apiserver.crt -key pki/k8s-apiserver.key \
	</dev/null >server.log 2>&1 &
server=$!
port=
for _ in $(seq 100); do
	port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' server.log)
	[ -n "$port" ] && break
	kill -0 "$server" 2>/dev/null || break
	sleep 0.1
done
[ -n "$port" ] || { cat server.log >&2; fail "the server did not start"; }

ask() {
	curl --silent --show-error --noproxy '*' --max-time 20 --cacert pki/rootCA.crt "$@" "https://127.0.0.1:$port/"
}
ask --cert pki/jane.crt --key pki/jane.key >answer.html || { cat server.log >&2; fail "the client with a certificate was refused"; }
grep -q 'jane' answer.html || fail "the server did not see the client's certificate"
echo "client jane, with a certificate: accepted"
if ask >answer.html 2>refusal.txt; then
	fail "the client without a certificate was accepted"
fi
grep -qi 'alert\|handshake\|certificate' refusal.txt || { cat refusal.txt >&2; fail "the client without a certificate was not refused, but failed"; }
echo "client without a certificate:    refused"
ask --cert pki/jane.crt --key pki/jane.key >answer.html || fail "the server is not there any more"
rm answer.html refusal.txt server.log

say '$ certsync status'
"$certsync" status | tee status.txt
for name in root k8s-apiserver jane; do
	grep -q "$name" status.txt || fail "status does not show $name"
done
rm status.txt

say '$ certsync apply --yes          # a second time'
# Names, inodes and times of change, as GNU and as BSD stat give them.
files() { stat -c '%n %i %y %z' pki/* 2>/dev/null || stat -f '%N %i %Fm %Fc' pki/*; }
before=$(files)
"$certsync" apply --yes
[ "$before" = "$(files)" ] || { diff <(echo "$before") <(files) >&2; fail "the second apply touched files"; }
echo "every file has the same inode and the same modification time as before"
