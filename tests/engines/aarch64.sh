#!/bin/sh
# Lays out a folder in which tests/engines/test_aarch64.py runs the CPU engine in an emulated aarch64 processor:
#
#     sudo apt install debootstrap qemu-user-static
#     sudo tests/engines/aarch64.sh FOLDER [MIRROR [SUITE]]
#     EDGETALK_AARCH64=FOLDER pytest tests/engines/test_aarch64.py
#
# root/ is a Debian for arm64, unpacked and never set up (nothing is installed into the system, no chroot, no binfmt);
# site/ has the aarch64 wheels of edgetalk's dependencies. About 700 MB. The emulator says nothing about speed.
set -eu

folder=$(mkdir -p "$1" && cd "$1" && pwd)
mirror=${2:-http://deb.debian.org/debian}
suite=${3:-bookworm}
here=$(cd "$(dirname "$0")" && pwd)

if [ ! -d "$folder/root" ]; then
    rm -rf "$folder/part"
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3 "$suite" "$folder/part" "$mirror"
    for package in "$folder"/part/var/cache/apt/archives/*.deb; do
        dpkg -x "$package" "$folder/part"
    done
    mv "$folder/part" "$folder/root"
fi

python=$(qemu-aarch64-static -L "$folder/root" "$folder/root/usr/bin/python3" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 - "$here/../../pyproject.toml" > "$folder/requirements.txt" <<'END'
# The runtime's dependencies without their markers, which pip would answer for this machine and not for aarch64.
import re, sys
text = open(sys.argv[1]).read()
core = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S).group(1)
print("\n".join(line.split(";")[0] for line in re.findall(r'"(.*?)"', core)))
END
platforms=""
for minor in $(seq 17 36); do platforms="$platforms --platform manylinux_2_${minor}_aarch64"; done
# shellcheck disable=SC2086  # the words of $platforms are meant to be several
python3 -m pip install --quiet --upgrade --target "$folder/site" --only-binary=:all: --implementation cp \
    --python-version "$python" --platform manylinux2014_aarch64 $platforms -r "$folder/requirements.txt"
echo "ready: EDGETALK_AARCH64=$folder pytest tests/engines/test_aarch64.py"
