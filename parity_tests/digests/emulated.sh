#!/bin/bash
# make digests ON=aarch64: the fixed runs of one process on an emulated aarch64; three quarters of an hour on two cores.
#
# On Debian or Ubuntu, as root, after `apt-get install debootstrap qemu-user-static`. The emulated Python is that
# of an unpacked Debian 12 for arm64, the wheels are those of PyPI for that platform: the versions of .venv,
# but PyTorch 2.9.1, the last that needs no CUDA there. Nothing outside build/digests is changed.
set -euo pipefail
python=.venv/bin/python here=build/digests/$1
if [ "$1" != aarch64 ] || ! command -v debootstrap > /dev/null || ! command -v qemu-aarch64-static > /dev/null; then
    echo "emulated.sh: error: ON=$1: give aarch64, and install debootstrap and qemu-user-static" >&2
    exit 2
fi
if [ ! -e "$here/ready" ]; then
    rm -rf "$here" && mkdir -p "$here"
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,libgomp1 bookworm "$here/root" \
        > "$here/log"
    for deb in "$here"/root/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$here/root"; done
    wheels=(--quiet --only-binary :all: --python-version 311 --target "$here/site")
    for tag in manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28; do
        wheels+=(--platform "${tag}_aarch64")
    done
    packages='^(numpy|scipy|scikit-learn|matplotlib|tqdm|safetensors|keras|tensorflow)=='
    mapfile -t pins < <("$python" -m pip freeze | grep -E "$packages")
    "$python" -m pip install "${wheels[@]}" "${pins[@]}"
    "$python" -m pip install "${wheels[@]}" --no-deps torch==2.9.1 filelock sympy mpmath networkx fsspec jinja2 \
        markupsafe typing-extensions
    touch "$here/ready"
fi
for package in pytorch_impl tf2_impl; do
    env PYTHONHOME=/usr PYTHONPATH="$here/site:." OMP_NUM_THREADS=1 qemu-aarch64-static -L "$here/root" \
        "$here/root/usr/bin/python3.11" -m parity_tests.digests.runs "$package" "build/digests/$package-aarch64" \
        --alone &
done
wait
"$python" -m parity_tests.digests --trained aarch64
