# Cross build for 64-bit Arm Linux with Debian's compiler: apt install g++-aarch64-linux-gnu qemu-user-static
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

# ctest runs what was built in an emulator, where there is one.
find_program(EDGETALK_QEMU qemu-aarch64-static)
if(EDGETALK_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${EDGETALK_QEMU};-cpu;cortex-a72;-L;/usr/aarch64-linux-gnu)
endif()
