// What the parts of the emulator know of each other: main.cpp has the memory and talks to the parent process, emulate.h runs the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulate {

struct Launch {
    // Blocks along x, y and z; threads of a block; bytes of dynamic shared memory; who runs first (0: in order, 1: backwards, 2: mixed,
    // 3: as 2, and asynchronous copies of products land at once).
    unsigned x, y, z, block;
    size_t shared;
    int order;
    // Each in eight bytes of its own.
    const uint64_t* arguments;
    size_t count;
};

// A list of these for each source; the last name is null.
struct Kernel {
    const char* name;
    void (*launch)(const Launch&);
};

extern const Kernel kernels_of_kernels[], kernels_of_product[];

// Whether sums on tensor cores, exponentials, logarithms and reciprocals are as inexact as a GPU's may be.
extern bool inexact;

// Ends the program with a line on stderr that names the kernel that runs.
[[noreturn]] void fail(const char* what);

// From here on, this thread's forbidden accesses to memory end the program with such a line too.
void watch_for_faults();

}  // namespace emulate
