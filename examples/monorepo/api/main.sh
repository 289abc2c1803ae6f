#!/bin/sh
. /app/lib.sh
echo "api: $(shout "$1")"
