sh -n "${0%/*}/lib.sh"
