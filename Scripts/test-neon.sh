#!/bin/sh
# Compiles every kernel for aarch64, runs Tests/Portability under qemu and on this machine, and compares the bits that must
# be the same everywhere. Without the emulator or the cross tools it says what is missing and ends well: nothing depends on it.
# Debian, Ubuntu: apt-get install qemu-user gcc-aarch64-linux-gnu (for the C library and its start files; clang compiles).
set -eu
cd "$(dirname "$0")/.."
target=aarch64-linux-gnu
sysroot=/usr/$target
build=.build/portability

skip() {
  echo "skipped: $1"
  exit 0
}
case $(uname -m) in aarch64 | arm64) skip "this is an Arm machine: make test runs the NEON kernels" ;; esac
# The Swift toolchain's own clang, which compiles the kernels in every other build.
clang=$(dirname "$(command -v "${SWIFT:-swift}" || echo /)")/clang
[ -x "$clang" ] || clang=$(command -v clang) || skip "no clang"
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || skip "no qemu-aarch64 (Debian: qemu-user)"
[ -f "$sysroot/include/stdio.h" ] || skip "no C library for $target (Debian: gcc-aarch64-linux-gnu)"
ls /usr/lib/gcc-cross/$target/*/crtbegin.o > /dev/null 2>&1 || skip "no start files for $target (Debian: gcc-aarch64-linux-gnu)"

make_check() {
  make -s -j 2 -f Tests/Portability/Makefile CC="$clang" "$@"
}
echo "compiling for $target"
make_check BUILD=$build/neon TARGET_FLAGS="--target=$target -isystem $sysroot/include" LINK_FLAGS=-fuse-ld=lld
echo "compiling for this machine"
make_check BUILD=$build/native LINK_FLAGS=-fuse-ld=lld

failed=0
# run NAME COMMAND...: a line per family on the screen and in NAME.txt, the bits alone in NAME.bits.
run() {
  name=$1
  shift
  echo "== $name"
  "$@" > $build/"$name".txt 2>&1 || failed=1
  cat $build/"$name".txt
  grep -q ' passed, 0 failed$' $build/"$name".txt || { echo "FAILED: $name"; failed=1; }
  sed -n 's/ *[0-9]* passed .* bits / /p' $build/"$name".txt > $build/"$name".bits
}
run native $build/native/check
for set in baseline avx2; do run $set env APUS_ISA=$set $build/native/check; done
run neon "$emulator" -L $sysroot $build/neon/check
for set in baseline avx2 neon; do
  diff $build/native.bits $build/$set.bits || { echo "FAILED: $set and this machine differ in bits that must be the same"; failed=1; }
done
[ $failed = 0 ] && echo "the bits that must be the same everywhere are"
exit $failed
