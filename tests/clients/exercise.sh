# Follows the usual guide for registry:2 unchanged, and then does the same without openssl and htpasswd.
# Runs in its own network and mount namespaces, so that addresses and certificate directories are not those of the machine.
set -eu
cd "$1"
holdfast=$2

ip link set lo up
# Docker does not verify certificates of 127.0.0.0/8, but does for this address.
ip address add 192.0.2.7/32 dev lo
printf '127.0.0.1 localhost\n192.0.2.7 registry.lan pi.lan\n' >hosts
mount --bind hosts /etc/hosts
mkdir -p /etc/docker
mount -t tmpfs tmpfs /etc/docker

started=
trap 'kill $started; wait' EXIT

dockerd --data-root "$1/docker" --exec-root "$1/exec" --pidfile "$1/docker.pid" -H "unix://$1/docker.sock" \
    --bridge=none --iptables=false >dockerd.log 2>&1 &
started="$!"
export DOCKER_HOST="unix://$1/docker.sock" DOCKER_CONFIG="$1/config"

answers() {
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "this never succeeded: $*" >&2
    exit 1
}

answers docker info
mkdir files
echo hello >files/hello
tar -C files -c . | docker import - newimage

echo '--- with openssl and htpasswd'
mkdir certs auth
openssl req -newkey rsa:4096 -nodes -sha256 -keyout certs/domain.key -x509 -days 365 -out certs/domain.crt \
    -subj /CN=registry.lan -addext subjectAltName=DNS:registry.lan
htpasswd -Bbn testuser testpassword >auth/htpasswd
REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$1/data \
    REGISTRY_HTTP_ADDR=0.0.0.0:443 \
    REGISTRY_HTTP_TLS_CERTIFICATE=certs/domain.crt \
    REGISTRY_HTTP_TLS_KEY=certs/domain.key \
    REGISTRY_AUTH=htpasswd \
    REGISTRY_AUTH_HTPASSWD_REALM='Registry Realm' \
    REGISTRY_AUTH_HTPASSWD_PATH=auth/htpasswd \
    "$holdfast" &
started="$started $!"
answers curl -s --cacert certs/domain.crt https://registry.lan/v2/
docker tag newimage registry.lan/newimage
if docker login -u testuser -p testpassword registry.lan; then echo 'trusted without its certificate' >&2; exit 1; fi
mkdir -p /etc/docker/certs.d/registry.lan
cp certs/domain.crt /etc/docker/certs.d/registry.lan/ca.crt
docker login -u testuser -p testpassword registry.lan
docker push registry.lan/newimage
catalog=$(curl -sS --cacert certs/domain.crt -u testuser:testpassword https://registry.lan/v2/_catalog)
[ "$catalog" = '{"repositories":["newimage"]}' ]
docker rmi newimage registry.lan/newimage
docker pull registry.lan/newimage

echo '--- with the tools of Holdfast'
printf "a secret" | "$holdfast" user add alice --password-stdin --data "$1/own"
HOLDFAST_LISTEN=:5000 HOLDFAST_TLS_MODE=auto HOLDFAST_TLS_NAMES=pi.lan HOLDFAST_STORAGE_PATH=$1/own "$holdfast" &
started="$started $!"
answers curl -sf http://pi.lan:5000/ca.crt
docker tag registry.lan/newimage pi.lan:5000/team/hello:1
if docker login -u alice -p "a secret" pi.lan:5000; then echo 'trusted without its authority' >&2; exit 1; fi
mkdir -p /etc/docker/certs.d/pi.lan:5000
curl -so /etc/docker/certs.d/pi.lan:5000/ca.crt http://pi.lan:5000/ca.crt
docker login -u alice -p "a secret" pi.lan:5000
docker push pi.lan:5000/team/hello:1
docker rmi registry.lan/newimage pi.lan:5000/team/hello:1
docker pull pi.lan:5000/team/hello:1
docker logout pi.lan:5000
if docker pull pi.lan:5000/team/hello:1; then echo 'pulled without login' >&2; exit 1; fi
curl -sSf --cacert /etc/docker/certs.d/pi.lan:5000/ca.crt -u "alice:a secret" https://pi.lan:5000/v2/team/hello/tags/list
