#!/usr/bin/env bash
# Builds the pretended CUDA into a folder: driver/ has libcuda.so, libcublasLt.so and libnccl.so.2, and the folder itself is a toolkit with
# include/ and lib64/libnvrtc.so, for CUDA_PATH. It needs g++ and nothing else.
#
#     scripts/pretended_cuda/build.sh FOLDER
#     LD_LIBRARY_PATH=FOLDER/driver CUDA_PATH=FOLDER PROGRAM
set -euo pipefail
source=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"/{driver,lib64}
folder=$(cd "$1" && pwd)
ln -sfn "$source/include" "$folder/include"
build() { # LIBRARY SOURCE OPTION...
    if [ ! -e "$1" ] || [ -n "$(find "$source" -newer "$1" \( -name '*.cc' -o -name '*.h' \) -print -quit)" ]; then
        "${CXX:-g++}" -std=c++17 -Wall -Wextra -fPIC -shared "${@:3}" -Wl,-soname,"${1##*/}" -o "$1.new" "$source/$2"
        mv "$1.new" "$1"
    fi
}
build "$folder/driver/libcuda.so" driver.cc -O2
build "$folder/driver/libcublasLt.so" cublaslt.cc -O3
build "$folder/driver/libnccl.so.2" nccl.cc -O2
ln -sf ../driver/libcublasLt.so "$folder/lib64/libcublasLt.so"
build "$folder/lib64/libnvrtc.so" nvrtc.cc -O2 "-DPRETENDED_SOURCE=\"$source\""
