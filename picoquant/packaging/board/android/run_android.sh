#!/bin/sh
# Runs the package's model on an Android board, from the computer that the board hangs on: pushes by adb what is needed,
# runs board/run.sh there, and brings back what it writes.
#
#   ./run_android.sh [options of the program, see README.md]
#
# What --image, --source and --expected name is pushed, too, where it is here; what --draw, --save-input and
# --save-outputs name comes back to its place here. Exit code: the program's; 2 when something is missing.
# ADB: the command (default: adb). ANDROID_SERIAL: which device, where there are several (adb devices).
# PADDLE_LITE_LIBS: folder, here, of Paddle Lite's libraries for Android and the NPU's (default: lib/ beside this script).
# PROGRAM: the program, here (default: build/detect beside this script).
# DEVICE_DIR: the package's place on the board (default: /data/local/tmp/picoquant/NAME_OF_THE_TARGET).
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
package=$(dirname "$here")
# shellcheck source=/dev/null
. "$here/target.sh"

ADB=${ADB:-adb}
PADDLE_LITE_LIBS=${PADDLE_LITE_LIBS:-$here/lib}
PROGRAM=${PROGRAM:-$here/build/detect}
DEVICE_DIR=${DEVICE_DIR:-/data/local/tmp/picoquant/$TARGET_NAME}

say() { echo "run_android.sh: $*" >&2; }
stop() {
  say "$*"
  exit 2
}

# One word of the board's shell.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

# A command on the board; adb would take this script's input. Older boards end lines with a carriage return.
on_board() { "$ADB" shell "$1" </dev/null; }
answer() { on_board "$1" | tr -d '\r'; }
push() { "$ADB" push "$1" "$2/" </dev/null >&2 || stop "adb did not push $1 to $2: is there room on the board?"; }

check_here() {
  command -v "$ADB" >/dev/null 2>&1 || stop "no command $ADB: install it (Debian: apt-get install adb), or set ADB"
  [ -x "$PROGRAM" ] || stop "no program $PROGRAM: build it first, see README.md"
  [ -d "$PADDLE_LITE_LIBS" ] || stop "no library folder $PADDLE_LITE_LIBS: put Paddle Lite's libraries for Android, $TARGET_ABI, there, or set PADDLE_LITE_LIBS"
  for library in $TARGET_LIBRARIES; do
    # The NPU's own may be part of the board's system: run.sh looks for them there.
    case $library in
      libpaddle* | libc++_shared.so | libnnadapter.so)
        [ -e "$PADDLE_LITE_LIBS/$library" ] || stop "$library is missing in $PADDLE_LITE_LIBS: it comes with $TARGET_LIBRARIES_FROM"
        ;;
    esac
  done
}

check_board() {
  state=$("$ADB" get-state 2>&1 </dev/null | tr -d '\r')
  case $state in
    device) ;;
    *more\ than\ one*) stop "several devices hang on this computer: set ANDROID_SERIAL to one of \`$ADB devices\`" ;;
    *unauthorized*) stop "the board does not trust this computer: allow USB debugging on its screen" ;;
    *) stop "adb reaches no board ($state): plug it in with USB debugging on, or connect by \`$ADB connect ADDRESS\`" ;;
  esac
  abis=$(answer "getprop ro.product.cpu.abilist")
  [ -n "$abis" ] || abis=$(answer "getprop ro.product.cpu.abi")
  case ",$abis," in
    *",$TARGET_ABI,"*) ;;
    *) stop "the board runs programs of ${abis:-unknown ABIs}, the package is for $TARGET_NAME ($TARGET_ABI): package for a profile of that ABI" ;;
  esac
}

check_here
check_board

folder=$(quoted "$DEVICE_DIR")
on_board "mkdir -p $folder/board/lib $folder/board/build && rm -rf $folder/given $folder/made && mkdir $folder/given $folder/made" >&2 ||
  stop "$DEVICE_DIR cannot be made on the board: set DEVICE_DIR to a folder that the board's shell may write to"
for file in "$package"/settings.json "$package"/environment.sh "$package"/*.nb "$package"/partition.txt "$package"/paddle "$package"/sample; do
  if [ -e "$file" ]; then push "$file" "$DEVICE_DIR"; fi
done
push "$here/run.sh" "$DEVICE_DIR/board"
push "$here/target.sh" "$DEVICE_DIR/board"
for file in "$PADDLE_LITE_LIBS"/*.so*; do
  if [ -e "$file" ]; then push "$file" "$DEVICE_DIR/board/lib"; fi
done
push "$PROGRAM" "$DEVICE_DIR/board/build"
program=$folder/board/build/$(quoted "$(basename "$PROGRAM")")
on_board "chmod 755 $program" >&2

options= # as words of the board's shell
count=0
made= # a line each: where it is to be here
while [ $# -gt 0 ]; do
  option=$1
  shift
  options="$options $(quoted "$option")"
  case $option in --*) ;; *) continue ;; esac
  [ $# -gt 0 ] || break
  value=$1
  case $option in
    --image | --source | --expected)
      case $value in
        /dev/*) ;; # the board's own
        *)
          if [ -e "$value" ]; then
            count=$((count + 1))
            on_board "mkdir $folder/given/$count" >&2
            push "$value" "$DEVICE_DIR/given/$count"
            value=$DEVICE_DIR/given/$count/$(basename "$value")
          fi
          ;;
      esac
      ;;
    --draw | --save-input | --save-outputs)
      case $value in
        /dev/*) ;;
        *)
          made="$made$value
"
          value=$DEVICE_DIR/made/$(basename "$value")
          ;;
      esac
      ;;
  esac
  shift
  options="$options $(quoted "$value")"
done

# The exit code through a file: adb of Android before 7 does not hand it on.
on_board "cd $folder && PROGRAM=$program PADDLE_LITE_LIBS=$folder/board/lib sh board/run.sh$options; echo \$? > $folder/exit_code"
code=$(answer "cat $folder/exit_code")
printf %s "$made" | while IFS= read -r place; do
  "$ADB" pull "$DEVICE_DIR/made/$(basename "$place")" "$(dirname "$place")/" </dev/null >&2 || say "$place did not come back from the board"
done
case $code in
  '' | *[!0-9]*)
    say "the board did not say how the program ended: the connection was lost"
    exit 1
    ;;
esac
exit "$code"
