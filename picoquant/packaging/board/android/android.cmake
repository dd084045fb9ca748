# Google's NDK, for Android boards: set ANDROID_NDK to its folder, in the environment or by -DANDROID_NDK=….
# -DANDROID_ABI=arm64-v8a for a 64-bit system; that of Amlogic's boards has 32 bits. Paddle Lite's library must be the
# one for Android, clang and c++_shared, of the same ABI.
if(NOT ANDROID_NDK)
  set(ANDROID_NDK "$ENV{ANDROID_NDK}")
endif()
if(NOT EXISTS "${ANDROID_NDK}/build/cmake/android.toolchain.cmake")
  message(FATAL_ERROR "ANDROID_NDK=${ANDROID_NDK} is no NDK: set it to the folder that holds build/cmake/android.toolchain.cmake")
endif()
if(NOT ANDROID_ABI)
  set(ANDROID_ABI armeabi-v7a)
endif()
if(NOT ANDROID_PLATFORM)
  set(ANDROID_PLATFORM android-21)
endif()
set(ANDROID_STL c++_shared)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_NDK ANDROID_ABI ANDROID_PLATFORM ANDROID_STL)
include("${ANDROID_NDK}/build/cmake/android.toolchain.cmake")
