// Runs CUDA kernels on the CPU: include this, then the kernels' source. For tests at small sizes.
//
// Each CUDA thread is a fiber, and blocks are dealt to some threads of the system. A fiber runs until it has to wait: at a barrier, a
// shuffle or a warp-wide instruction. The last lane to arrive does the instruction for its whole warp, from the registers that the lanes
// gave. What else it checks: lanes of a warp must do the same instruction, and barriers must be reached by all (else the program ends
// with a line on stderr); dynamic shared memory starts full of NaN and ends where a page without rights begins; asynchronous copies land
// only when they are waited for; `order` changes who runs first, so a missing barrier shows as another result.
#pragma once
#define EMULATE

#include "emulator.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

// With RACES defined, races.cpp is told about memory and barriers (see there); else nothing is left of these.
#ifdef RACES
#include "races.h"
#define WATCH(...) __VA_ARGS__
// So that the places that are reported lie in the kernels.
#define INLINE_IF_WATCHED [[gnu::always_inline]]
#else
#define WATCH(...)
#define INLINE_IF_WATCHED
#endif

struct uint3 { unsigned x, y, z; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulate {

constexpr size_t STACK = 64 << 10;
constexpr size_t SHARED = 228 << 10;
constexpr size_t PAGE = 64 << 10;
constexpr unsigned THREADS = 2;

struct Fiber;

// Those who wait, and how many it takes.
struct Barrier {
    unsigned needed = 0;
    std::vector<Fiber*> waiting;
};

struct Given {
    int instruction;
    const void* address;
    unsigned in[8], out[4];
    float sums[4];
    int other;
};

struct Warp {
    Barrier barrier;
    Given given[32];
};

struct Copy {
    void* to;
    const void* from;
    bool valid;
};

struct Fiber {
    uint3 thread;
    Warp* warp;
    int lane;
    jmp_buf registers;
    ucontext_t context;
    void* stack;
    bool started, done;
    std::vector<std::vector<Copy>> copies;
};

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<void*> stacks;
    std::vector<Warp> warps;
    Barrier block;
    std::deque<Fiber*> ready;
    jmp_buf home;
    ucontext_t home_context;
    uint3 block_index, block_size, grid_size;
    // The block's dynamic shared memory, the last bytes of `shared_pages`.
    unsigned char *shared = nullptr, *shared_pages = nullptr;
    size_t shared_bytes = 0;
    void (*entry)(void*) = nullptr;
    void* argument = nullptr;
    unsigned left = 0;
    int order = 0;
    uint64_t random = 1;
};

inline thread_local Machine* machine = nullptr;
inline thread_local Fiber* me = nullptr;

inline void start_of_fiber() {
    machine->entry(machine->argument);
    for (auto& group : me->copies) {
        if (!group.empty()) fail("a thread ended with copies that nobody waited for");
    }
    me->done = true;
    machine->left--;
    _longjmp(machine->home, 1);
}

// Goes on with `next`; comes back when another goes on with this one.
inline void resume(Fiber* next) {
    me = next;
    WATCH(races::runs(next->thread.x, next->stack, STACK));
    if (next->started) _longjmp(next->registers, 1);
    next->started = true;
    getcontext(&next->context);
    next->context.uc_stack.ss_sp = next->stack;
    next->context.uc_stack.ss_size = STACK;
    next->context.uc_link = nullptr;
    makecontext(&next->context, start_of_fiber, 0);
    setcontext(&next->context);
}

inline void schedule(std::vector<Fiber*>& fibers) {
    Machine& m = *machine;
    if (m.order == 1) std::reverse(fibers.begin(), fibers.end());
    if (m.order >= 2) {
        for (size_t i = fibers.size(); i > 1; i--) {
            m.random = m.random * 6364136223846793005u + 1442695040888963407u;
            std::swap(fibers[i - 1], fibers[(m.random >> 33) % i]);
        }
    }
    m.ready.insert(m.ready.end(), fibers.begin(), fibers.end());
    fibers.clear();
}

// `last` is done by whoever comes last, before the others go on.
template <class Last>
void wait(Barrier& barrier, Last last) {
    barrier.waiting.push_back(me);
    if (barrier.waiting.size() == barrier.needed) {
        last();
        schedule(barrier.waiting);
    }
    if (_setjmp(me->registers) == 0) {
        if (machine->ready.empty()) fail("threads wait for others that never come: a barrier in a branch, or after an early end");
        Fiber* next = machine->ready.front();
        machine->ready.pop_front();
        resume(next);
    }
}

enum { SHUFFLE = 1, SYNC, VOTE, MATRICES, TRANSPOSED, MULTIPLY };

template <class All>
Given& together(int instruction, All all) {
    Given* given = me->warp->given;
    given[me->lane].instruction = instruction;
    wait(me->warp->barrier, [=] {
        for (int i = 0; i < 32; i++) {
            if (given[i].instruction != instruction) fail("lanes of a warp do different instructions");
        }
        all(given);
    });
    return me->warp->given[me->lane];
}

inline float bits(unsigned x) {
    float y;
    std::memcpy(&y, &x, 4);
    return y;
}

inline unsigned bits(float x) {
    unsigned y;
    std::memcpy(&y, &x, 4);
    return y;
}

// To the nearest, halves to even.
inline unsigned bf16_of(float x) {
    unsigned u = bits(x);
    if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

inline unsigned shuffle_xor(unsigned value, int mask) {
    Given& mine = me->warp->given[me->lane];
    mine.in[0] = value;
    mine.other = me->lane ^ mask;
    return together(SHUFFLE, [](Given* given) {
        for (int i = 0; i < 32; i++) given[i].out[0] = given[given[i].other].in[0];
    }).out[0];
}

inline int any(int value) {
    me->warp->given[me->lane].in[0] = value != 0;
    return together(VOTE, [](Given* given) {
        unsigned all = 0;
        for (int i = 0; i < 32; i++) all |= given[i].in[0];
        for (int i = 0; i < 32; i++) given[i].out[0] = all;
    }).out[0];
}

inline void matrices(unsigned (&to)[4], const uint16_t* row, bool transposed) {
    if ((uintptr_t)row % 16) fail("a matrix row is not aligned to 16 bytes");
    WATCH(races::access(races::READ, row, 16));
    me->warp->given[me->lane].address = row;
    Given& mine = together(transposed ? TRANSPOSED : MATRICES, [=](Given* given) {
        WATCH(races::Quiet quiet);
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            for (int i = 0; i < 4; i++) {
                auto at = [&](int r, int c) { return (unsigned)((const uint16_t*)given[i * 8 + r].address)[c]; };
                given[lane].out[i] = transposed ? at(2 * t, g) | at(2 * t + 1, g) << 16 : at(g, 2 * t) | at(g, 2 * t + 1) << 16;
            }
        }
    });
    for (int i = 0; i < 4; i++) to[i] = mine.out[i];
}

// Adds products as tensor cores seem to: TERMS of them and the sum so far at once, every term cut off BITS bits below the leading bit of the
// largest, their sum cut off to fp32. NVIDIA documents nothing of this; measured figures differ by generation, 8 or 16 terms and 23 to 25
// bits.
constexpr int TERMS = 16, BITS = 24;
inline float add_products(float sum, const float* left, const float (*right)[8], int column) {
    for (int first = 0; first < 16; first += TERMS) {
        double terms[TERMS + 1] = {sum}, largest = std::fabs(sum), total = 0;
        for (int k = 0; k < TERMS; k++) {
            terms[k + 1] = (double)left[first + k] * right[first + k][column];
            largest = std::max(largest, std::fabs(terms[k + 1]));
            total += terms[k + 1];
        }
        if (std::isfinite(total) && largest > 0) {
            double scale = std::ldexp(1.0, BITS - std::ilogb(largest));
            total = 0;
            for (double term : terms) total += std::trunc(term * scale);
            total /= scale;
        } else {
            total += sum;
        }
        sum = (float)total;
        if (std::isfinite(sum) && std::fabs((double)sum) > std::fabs(total)) sum = std::nextafter(sum, 0.0f);
    }
    return sum;
}

inline void multiply_16x8x16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    Given& mine = me->warp->given[me->lane];
    for (int i = 0; i < 4; i++) mine.in[i] = a[i], mine.sums[i] = c[i];
    mine.in[4] = b0, mine.in[5] = b1;
    together(MULTIPLY, [](Given* given) {
        float left[16][16], right[16][8], sums[16][8];
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            for (int i = 0; i < 4; i++) {
                unsigned pair = given[lane].in[i];
                int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
                left[row][column] = bits(pair << 16), left[row][column + 1] = bits(pair & 0xffff0000u);
                sums[g + i / 2 * 8][2 * t + i % 2] = given[lane].sums[i];
            }
            for (int i = 0; i < 2; i++) {
                unsigned pair = given[lane].in[4 + i];
                right[2 * t + i * 8][g] = bits(pair << 16), right[2 * t + 1 + i * 8][g] = bits(pair & 0xffff0000u);
            }
        }
        for (int row = 0; row < 16; row++) {
            if (inexact) {
                for (int column = 0; column < 8; column++) sums[row][column] = add_products(sums[row][column], left[row], right, column);
                continue;
            }
            for (int k = 0; k < 16; k++) {
                for (int column = 0; column < 8; column++) sums[row][column] += left[row][k] * right[k][column];
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 4; i++) given[lane].sums[i] = sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        }
    });
    for (int i = 0; i < 4; i++) c[i] = mine.sums[i];
}

INLINE_IF_WATCHED inline void copy(void* to, const void* from, bool valid) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("a copy is not aligned to 16 bytes");
    WATCH(races::copy_asked(to, valid ? from : nullptr));
    if (me->copies.empty()) me->copies.emplace_back();
    me->copies.back().push_back({to, from, valid});
}

inline void commit() { me->copies.emplace_back(); }

INLINE_IF_WATCHED inline void wait_for_copies(int pending) {
    auto& copies = me->copies;
    // The last group is the one not committed yet.
    while ((int)copies.size() - 1 > pending) {
        for (Copy& copy : copies.front()) {
            WATCH(races::copy_done(copy.to, copy.valid ? copy.from : nullptr));
            WATCH(races::Quiet quiet);
            if (copy.valid) std::memcpy(copy.to, copy.from, 16);
            else std::memset(copy.to, 0, 16);
        }
        copies.erase(copies.begin());
    }
}

inline void run_block(Machine& m, uint3 index, unsigned size) {
    m.block_index = index;
    std::memset(m.shared, 0xff, m.shared_bytes);
    m.fibers.resize(size);
    m.warps.resize((size + 31) / 32);
    while (m.stacks.size() < size) m.stacks.push_back(mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    m.block.needed = size;
    m.block.waiting.clear();
    for (size_t i = 0; i < m.warps.size(); i++) {
        m.warps[i].barrier.needed = 32;
        m.warps[i].barrier.waiting.clear();
    }
    m.ready.clear();
    m.left = size;
    WATCH(races::block(index.x + m.grid_size.x * (index.y + m.grid_size.y * index.z)));
    std::vector<Fiber*> all;
    for (unsigned i = 0; i < size; i++) {
        Fiber& fiber = m.fibers[i];
        fiber.thread = {i, 0, 0};
        fiber.warp = &m.warps[i / 32];
        fiber.lane = i % 32;
        fiber.stack = m.stacks[i];
        fiber.started = fiber.done = false;
        fiber.copies.clear();
        all.push_back(&fiber);
    }
    schedule(all);
    // A fiber that ends comes back here.
    _setjmp(m.home);
    if (!m.ready.empty()) {
        Fiber* next = m.ready.front();
        m.ready.pop_front();
        resume(next);
    }
    if (m.left > 0) fail("threads wait for others that have ended");
    me = nullptr;
}

// The machines of the threads that blocks are dealt to; their memory serves all launches.
inline Machine machines[THREADS];

inline void prepare(Machine& m, size_t shared) {
    if (!m.shared_pages) {
        m.shared_pages = (unsigned char*)mmap(nullptr, SHARED + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(m.shared_pages, SHARED, PROT_READ | PROT_WRITE);
    }
    // Aligned so that banks are as in a block's memory that starts at 0.
    m.shared_bytes = (shared + 127) / 128 * 128;
    m.shared = m.shared_pages + SHARED - m.shared_bytes;
}

template <class... A>
void launch(void (*kernel)(A...), const Launch& how) {
    auto [x, y, z, block, shared, order, arguments, count] = how;
    if (sizeof...(A) != count) fail("another number of arguments than the kernel takes");
    if (block == 0 || block > 1024 || block % 32 || shared > SHARED - 1024 || x == 0 || y == 0 || z == 0 || y > 65535 || z > 65535) fail("a launch that no device takes");
    struct Call {
        void (*kernel)(A...);
        std::tuple<std::remove_cv_t<A>...> values;
    };
    Call call{kernel, [&]<size_t... i>(std::index_sequence<i...>) { return std::tuple<std::remove_cv_t<A>...>(*(std::remove_cv_t<A>*)&arguments[i]...); }(std::index_sequence_for<A...>())};
    unsigned threads = THREADS;
    WATCH(threads = 1);
    std::atomic<unsigned> next{0};
    unsigned blocks = x * y * z;
    auto work = [&](Machine& mine) {
        watch_for_faults();
        prepare(mine, shared);
        WATCH(races::launch(mine.shared, mine.shared_bytes));
        mine.block_size = {block, 1, 1};
        mine.grid_size = {x, y, z};
        mine.order = order;
        mine.argument = &call;
        mine.entry = [](void* argument) {
            Call& call = *(Call*)argument;
            std::apply(call.kernel, call.values);
        };
        machine = &mine;
        for (unsigned i = next++; i < blocks; i = next++) {
            unsigned which = order == 1 ? blocks - 1 - i : i;
            mine.random = which * 2654435761u + order;
            run_block(mine, {which % x, which / x % y, which / x / y}, block);
        }
        machine = nullptr;
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads && i < blocks; i++) others.emplace_back([&, i] { work(machines[i]); });
    work(machines[0]);
    for (auto& other : others) other.join();
}

}  // namespace emulate

// ------------------------------------------------------------------------------------------------ the language

#define __global__
#define __device__
#define __forceinline__ inline
#ifdef RACES
#define __shared__ static __attribute__((section("shared_arrays")))
#else
#define __shared__ static thread_local
#endif
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define DEVICE [[maybe_unused]] static inline
#define VARIANT static
#define DYNAMIC_SHARED(name) unsigned char* name = emulate::machine->shared
#define ALL_LANES 0xffffffffu

#define threadIdx (emulate::me->thread)
#define blockIdx (emulate::machine->block_index)
#define blockDim (emulate::machine->block_size)
#define gridDim (emulate::machine->grid_size)

static inline void __syncthreads() {
    emulate::wait(emulate::machine->block, [] { WATCH(races::barrier()); });
}
static inline void __syncwarp(unsigned = ALL_LANES) {
    emulate::together(emulate::SYNC, [](emulate::Given*) { WATCH(races::warp_barrier()); });
}
static inline float __uint_as_float(unsigned x) { return emulate::bits(x); }
static inline unsigned __float_as_uint(float x) { return emulate::bits(x); }
static inline unsigned __shfl_xor_sync(unsigned, unsigned x, int mask) { return emulate::shuffle_xor(x, mask); }
static inline int __any_sync(unsigned, int x) { return emulate::any(x); }
static inline float __shfl_xor_sync(unsigned, float x, int mask) { return emulate::bits(emulate::shuffle_xor(emulate::bits(x), mask)); }

// ------------------------------------------------------------------------------------------------ instructions of kernels.cu

DEVICE unsigned narrow2(float low, float high) { return emulate::bf16_of(low) | emulate::bf16_of(high) << 16; }
// If `inexact`, with errors about as large as PTX's manual allows (some 2^-22, 2^-23 for the reciprocal), always the same for the same x.
static inline float error_of(float x, unsigned which) {
    if (!emulate::inexact) return 0.0f;
    unsigned u = emulate::bits(x) * 2654435761u + which;
    u ^= u >> 15, u *= 2246822519u, u ^= u >> 13;
    return ((int)(u & 0xffff) - 32768) / 32768.0f;
}
DEVICE float power_of_two(float x) {
    float y = std::exp2(x) * (1.0f + error_of(x, 1) * 2.4e-7f);
    return y < 1.17549435e-38f ? 0.0f : y;
}
DEVICE float log_two(float x) {
    float y = std::log2(x);
    return y + error_of(x, 2) * 2.4e-7f * std::max(std::fabs(y), 1.0f);
}
DEVICE float reciprocal(float x) { return (1.0f / x) * (1.0f + error_of(x, 3) * 1.2e-7f); }
INLINE_IF_WATCHED DEVICE void copy_async(void* shared, const void* global, bool valid) { emulate::copy(shared, global, valid); }
DEVICE void copies_commit() { emulate::commit(); }
template <int pending>
INLINE_IF_WATCHED DEVICE void copies_wait() { emulate::wait_for_copies(pending); }
DEVICE void load_matrices(unsigned (&to)[4], const unsigned short* row) { emulate::matrices(to, row, false); }
DEVICE void load_matrices_transposed(unsigned (&to)[4], const unsigned short* row) { emulate::matrices(to, row, true); }
DEVICE void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { emulate::multiply_16x8x16(c, a, b0, b1); }
