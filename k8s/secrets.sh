#!/bin/sh
# Writes the secrets of an overlay, unless they are there: k8s/secrets.sh OVERLAY
#
# They are those that kubectl's cluster has, so that any checkout may deploy. Else a store of our own gets new ones; for an
# outside one they are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which come first there. Nothing is printed,
# and git ignores the folder.
set -eu
folder=$(dirname "$0")/overlays/$1/secrets
[ -d "$(dirname "$folder")" ] || { echo "error: no overlay $1: give one of $(ls "$(dirname "$0")/overlays" | xargs)" >&2; exit 1; }
random() { python3 -c "import secrets; print(secrets.token_hex($1))"; }
deployed() {  # SECRET KEY
    kubectl get --raw "/api/v1/namespaces/untrigger/secrets/$1" --request-timeout=5s 2>/dev/null |
        python3 -c "import base64, json, sys; print(base64.b64decode(json.load(sys.stdin)['data']['$2']).decode())" 2>/dev/null
}
umask 077
mkdir -p "$folder"
if [ ! -e "$folder/store.env" ]; then
    if [ "$1" = minio ]; then
        access=$(deployed untrigger-store accessKey || random 10)
        secret=$(deployed untrigger-store secretKey || random 20)
    else
        access=${AWS_ACCESS_KEY_ID:-$(deployed untrigger-store accessKey || true)}
        secret=${AWS_SECRET_ACCESS_KEY:-$(deployed untrigger-store secretKey || true)}
        [ "$access" ] && [ "$secret" ] || {
            echo "error: the store's credentials must stand in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" >&2
            exit 1
        }
    fi
    printf 'accessKey=%s\nsecretKey=%s\n' "$access" "$secret" >"$folder/store.env"
fi
if [ ! -e "$folder/database.env" ]; then
    password=$(deployed mlflow-database password || random 20)
    echo "password=$password" >"$folder/database.env"
fi
