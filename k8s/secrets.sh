#!/bin/sh
# Writes the secrets of an overlay, unless they are there: k8s/secrets.sh OVERLAY
#
# A store of our own gets new credentials; for an outside one they are taken from AWS_ACCESS_KEY_ID and
# AWS_SECRET_ACCESS_KEY. Nothing is printed, and git ignores the folder.
set -eu
folder=$(dirname "$0")/overlays/$1/secrets
[ -d "$(dirname "$folder")" ] || { echo "error: no overlay $1: give one of $(ls "$(dirname "$0")/overlays" | xargs)" >&2; exit 1; }
random() { python3 -c "import secrets; print(secrets.token_hex($1))"; }
umask 077
mkdir -p "$folder"
if [ ! -e "$folder/store.env" ]; then
    if [ "$1" = minio ]; then
        access=$(random 10) secret=$(random 20)
    else
        access=${AWS_ACCESS_KEY_ID:?the credentials of the store must stand in the environment}
        secret=${AWS_SECRET_ACCESS_KEY:?the credentials of the store must stand in the environment}
    fi
    printf 'accessKey=%s\nsecretKey=%s\n' "$access" "$secret" >"$folder/store.env"
fi
[ -e "$folder/database.env" ] || echo "password=$(random 20)" >"$folder/database.env"
