// What product.cu needs of emulate.h beside what is there, and a fourth order of threads (3): asynchronous copies land as soon as they are
// asked for, not as late as they may, and now and then a warp comes late to its fragments. So a stage that is overwritten too early shows
// too.
#pragma once
#include "emulate.h"

namespace emulate {

// How often each thread of the block has come by: all lanes of a warp agree on it.
inline thread_local unsigned visits[1024];

inline void come_late() {
    if (machine->order < 3) return;
    unsigned thread = me->thread.x, n = visits[thread]++ * 2654435761u + thread / 32 * 40503u + machine->block_index.x * 97u;
    n ^= n >> 15, n *= 2246822519u, n ^= n >> 13;
    if (n % 7 == 0) {
        for (unsigned i = 0; i < n / 7 % 150; i++) together(SYNC, [](Given*) {});
    }
}

INLINE_IF_WATCHED inline void copy_early_or_late(void* to, const void* from, bool valid) {
    if (machine->order < 3) return copy(to, from, valid);
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("a copy is not aligned to 16 bytes");
    if (valid) std::memcpy(to, from, 16);
    else std::memset(to, 0, 16);
}

}  // namespace emulate

// A name isn't replaced within its own replacement.
#define load_matrices(to, row) (emulate::come_late(), load_matrices(to, row))
#define load_matrices_transposed(to, row) (emulate::come_late(), load_matrices_transposed(to, row))
#define copy_async(to, from, valid) emulate::copy_early_or_late(to, from, valid)

// Reading shows whether the address is any good.
DEVICE void bring_near(const void* global) { (void)*(const volatile unsigned char*)global; }
