// What the kernel needs of the standard library: included before a variant turns its processor's instructions on, so
// that no function of the library is compiled for a processor that is not there.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "parallel.h"
#include "variants.h"
#include "vectors.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define POLYENCODERS_X86 1
#include <immintrin.h>
#endif

// Before a short loop over an array of registers: unrolled early, or GCC keeps the array in memory.
#if defined(__clang__)
#define POLYENCODERS_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define POLYENCODERS_UNROLL _Pragma("GCC unroll 8")
#endif

// For the functions that follow, until END: the instructions named.
#define POLYENCODERS_TEXT(x) #x
#if defined(__clang__)
#define POLYENCODERS_BEGIN(instructions) \
    _Pragma(POLYENCODERS_TEXT(clang attribute push(__attribute__((target(instructions))), apply_to = function)))
#define POLYENCODERS_END _Pragma("clang attribute pop")
#else
#define POLYENCODERS_BEGIN(instructions) _Pragma("GCC push_options") _Pragma(POLYENCODERS_TEXT(GCC target(instructions)))
#define POLYENCODERS_END _Pragma("GCC pop_options")
#endif
