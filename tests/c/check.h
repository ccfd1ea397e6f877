// Two lines of a test framework: a failed check says where and what, and main returns how many there were.
#pragma once

#include <cstdio>

inline int failures = 0;

#define CHECK(condition) \
    ((condition) ? (void)0 : (void)(++failures, std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition)))
