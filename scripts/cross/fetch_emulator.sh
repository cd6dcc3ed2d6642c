#!/usr/bin/env bash
# Where the machine's emulator of a processor computes wrongly, or is missing, fetches that of Debian's backports to the
# place where emulator.sh looks first:
#
#   scripts/cross/fetch_emulator.sh PROCESSOR
#
# Nothing is installed: apt keeps what it knows of the backports in a folder of its own, and the system's sources stay as
# they are.
set -euo pipefail
cd "$(dirname "$0")/../.."

processor=${1:?usage: scripts/cross/fetch_emulator.sh PROCESSOR}
if scripts/cross/emulator.sh "$processor"; then
    exit 0
fi
source /etc/os-release
if [[ $ID != debian ]] || ! command -v apt-get >/dev/null; then
    echo "only Debian's backports are known to hold a newer one"
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The mirror that the machine takes Debian itself from.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" | awk 'NR == 1')
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror $VERSION_CODENAME-backports main" >"$work/sources.list"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"
settings=(-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
cd "$work"
apt-get "${settings[@]}" update -qq
apt-get "${settings[@]}" download -qq qemu-user
dpkg-deb --extract qemu-user_*.deb unpacked
cd - >/dev/null
folder=${CARGO_TARGET_DIR:-target}/cross/emulators
mkdir -p "$folder"
mv "$work/unpacked/usr/bin/qemu-$processor" "$folder/"
scripts/cross/emulator.sh "$processor"
