#!/bin/sh
# Runs the package's model on the board: checks what it needs first, and says in words what is missing.
#
#   ./run.sh [options of the program, see build/detect --help]
#
# Without options, and with --model alone, it runs the sample and compares with the detections expected of that model.
# PADDLE_LITE_LIBS: folder of Paddle Lite's libraries and the NPU's (default: lib/ beside this script).
# COMPILED=1: the program was built with OPENVX_DIR and runs network_binary.nb; Paddle Lite's libraries are not needed.
# PROGRAM: the program (default: build/detect beside this script).
# CACHE: where the NPU's compiled network is kept (default: cache/ beside this script).
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
package=$(dirname "$here")
# shellcheck source=/dev/null
. "$here/target.sh"
# shellcheck source=/dev/null
. "$package/environment.sh"

PADDLE_LITE_LIBS=${PADDLE_LITE_LIBS:-$here/lib}
PROGRAM=${PROGRAM:-$here/build/detect}
CACHE=${CACHE:-$here/cache}

wrong=0
say() { echo "run.sh: $*" >&2; }
bad() { say "$*"; wrong=1; }

check_cpu() {
  machine=$(uname -m)
  case "$TARGET_ABI:$machine" in
    arm64:aarch64 | arm64:arm64 | armhf:armv7* | armhf:armv8l | armhf:aarch64 | any:*) ;;
    arm64-v8a:aarch64 | armeabi-v7a:armv7* | armeabi-v7a:armv8l | armeabi-v7a:aarch64) ;;
    *) bad "this machine is $machine, the package is for $TARGET_NAME ($TARGET_ABI): run it on that board" ;;
  esac
}

# Byte 5 of an ELF file: 1 for 32 bits, 2 for 64.
bits_of() {
  case $(od -An -tu1 -j4 -N1 "$1" 2>/dev/null | tr -d ' ') in
    1) echo 32 ;;
    2) echo 64 ;;
    *) echo unknown ;;
  esac
}

# A library in the folder or, for those that a board's own system may hold, in the usual folders.
find_library() {
  for folder in "$PADDLE_LITE_LIBS" /usr/lib /usr/lib64 /lib /vendor/lib /vendor/lib64 /system/lib /system/lib64 \
    /usr/lib/*-linux-gnu*; do
    if [ -e "$folder/$1" ]; then
      echo "$folder/$1"
      return 0
    fi
  done
  return 1
}

check_libraries() {
  [ -n "$TARGET_LIBRARIES" ] && [ "${COMPILED:-0}" = 0 ] || return 0
  if [ ! -d "$PADDLE_LITE_LIBS" ]; then
    bad "no library folder $PADDLE_LITE_LIBS: put Paddle Lite's libraries for $TARGET_ABI there, or set PADDLE_LITE_LIBS"
    return
  fi
  case "$TARGET_ABI" in armhf | armeabi-v7a) wanted=32 ;; arm64 | arm64-v8a) wanted=64 ;; *) wanted=any ;; esac
  for library in $TARGET_LIBRARIES; do
    if ! found=$(find_library "$library"); then
      bad "$library is missing in $PADDLE_LITE_LIBS: it comes with ${TARGET_LIBRARIES_FROM:-Paddle Lite}"
      continue
    fi
    bits=$(bits_of "$found")
    if [ "$wanted" != any ] && [ "$bits" != "$wanted" ]; then
      bad "$found is of $bits bits, $TARGET_NAME needs $wanted ($TARGET_ABI): take the library of that ABI"
    fi
  done
}

# The version that the NPU's kernel driver says at start-up, else what debugfs says.
driver_version() {
  text=$(dmesg 2>/dev/null | grep -i "$TARGET_DRIVER version" | tail -n 1)
  [ -n "$text" ] || text=$(cat /sys/kernel/debug/gc/version 2>/dev/null)
  echo "$text" | sed -n 's/.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*[.][0-9a-zA-Z.]*\).*/\1/p'
}

check_driver() {
  [ -n "$TARGET_DRIVER" ] || return 0
  found=$(driver_version)
  if [ -n "$found" ]; then
    case "$found" in
      "$TARGET_DRIVER_VERSION"*) ;;
      *) bad "the NPU's driver $TARGET_DRIVER is $found, Paddle Lite needs $TARGET_DRIVER_VERSION: load that galcore.ko, or use NPU libraries made for $found" ;;
    esac
  elif [ -d "/sys/module/$TARGET_DRIVER" ]; then
    say "the NPU's driver $TARGET_DRIVER is loaded, but its version is unknown (dmesg says nothing of it); $TARGET_DRIVER_VERSION is needed"
  else
    bad "the NPU's driver is not loaded (no $TARGET_DRIVER in dmesg and /sys/module): load $TARGET_DRIVER.ko of version $TARGET_DRIVER_VERSION; mainline kernels have none"
  fi
}

check_program() {
  [ -x "$PROGRAM" ] || bad "no program $PROGRAM: build it first, see README.md"
}

check_cpu
check_libraries
check_driver
check_program
if [ "$wrong" = 1 ]; then
  exit 2
fi
export LD_LIBRARY_PATH="$PADDLE_LITE_LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -n "$TARGET_DRIVER" ] && [ ! -d "$CACHE" ] && [ "${COMPILED:-0}" = 0 ]; then
  say "the first run compiles the network for the NPU and may take more than a minute; the result is kept in $CACHE"
fi
expected=$package/sample/expected.json
if [ $# -eq 2 ] && [ "$1" = --model ]; then
  case $2 in
    fp*) [ ! -f "$package/sample/expected_fp32.json" ] || expected=$package/sample/expected_fp32.json ;;
  esac
  set -- "$@" --expected "$expected"
elif [ $# -eq 0 ]; then
  set -- --expected "$expected"
fi
exec "$PROGRAM" --package "$package" --cache "$CACHE" "$@"
