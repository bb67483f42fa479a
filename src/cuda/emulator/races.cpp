// Finds data races of emulated kernels (see races.h), whatever order their threads run in and whatever values they see.
//
// The kernels are compiled with -fsanitize=thread, so that each load and store calls a function __tsan_*. Linked without that option, they
// call those below instead. These note for every 2 bytes (a granule) who read and wrote it, and compare each access with what was noted.
//
// Two accesses of different threads, one of them a write, need something between them that orders them:
// - threads of a block: __syncthreads;
// - lanes of a warp: that or __syncwarp. Shuffles, votes, ldmatrix and mma make lanes wait for each other, but by CUDA's documents they
//   don't order memory; nor does running in step.
// - different blocks: nothing does within a launch, so in global memory all of it counts.
// Atomic operations may meet each other, but not plain accesses. A row that ldmatrix takes is read by the lane that names its address. An
// asynchronous copy reads and writes when it is asked for and once more when its thread has waited for it; in between nobody, not even that
// thread, may touch what it writes, nor write what it reads.
//
// What it can't see:
// - Code that didn't run: branches that no test takes, threads and blocks that no launch has.
// - Order by other means (flags in memory, fences, "last block done"): such accesses are reported though they may be right.
// - Partial barriers: __syncwarp counts for all 32 lanes, whatever its mask. Other barriers than these two aren't emulated at all.
// - Single bytes: two threads that write neighbouring bytes of one granule are reported.
// - Loads and stores that the compiler left out or joined; calls of memcpy and memset (the options of the build keep loops from becoming
//   such calls); memory that is neither an allocation of main.cpp nor a kernel's shared memory.
// - An access races with more than one other: only one of them is told.
#include "races.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#define HERE __builtin_return_address(0)

// Where the linker put all arrays declared __shared__, if there are any (emulate.h gives them this section).
extern "C" {
extern unsigned char __start_shared_arrays[] __attribute__((weak, visibility("hidden")));
extern unsigned char __stop_shared_arrays[] __attribute__((weak, visibility("hidden")));
}

namespace races {
namespace {

// Rises with every barrier, so that earlier and later than a barrier is a matter of comparing.
uint32_t now = 1;
uint32_t launch_began = 1, block_began = 1, last_barrier = 1, last_warp_barrier[32] = {};

unsigned thread = 0, block_index = 0;
uintptr_t stack_begin = 0, stack_end = 0;
int quiet = 0;

// The accesses of one kind to a granule, as far as a later access may still conflict with them: when and by whom the last was made, and
// whether there were others that no barrier puts before it, by other lanes of its warp, other warps, other blocks.
struct Past {
    uint32_t time = 0;
    uint16_t thread = 0;
    bool lanes = false, warps = false, blocks = false;
};

struct Granule {
    Past past[3];
    // Asynchronous copies on their way.
    uint16_t copies_to = 0, copies_from = 0;
};

struct Region {
    uintptr_t begin = 0, end = 0;
    bool shared = false;
    std::vector<Granule> granules;
    // Nothing before this can conflict: a block finds its shared memory new, a launch the global memory.
    uint32_t start() const { return shared ? block_began : launch_began; }
    bool holds(uintptr_t at) const { return at >= begin && at < end; }
};

Region dynamic_memory, static_memory;
std::map<uintptr_t, Region> buffers;  // by their ends
std::vector<Region*> touched;         // those with notes of this launch

enum Other { NOBODY, LANE, WARP, BLOCK, COPY };

struct Conflict {
    Other other;
    Kind earlier;
    unsigned thread;
};

Other who(const Past& past, uint32_t start) {
    if (past.time < start) return NOBODY;
    if (past.blocks || past.time < block_began) return BLOCK;
    if (past.time < last_barrier) return NOBODY;
    if (past.warps || past.thread / 32 != thread / 32) return WARP;
    if (past.time < last_warp_barrier[thread / 32]) return NOBODY;
    return past.lanes || past.thread != thread ? LANE : NOBODY;
}

Conflict conflict(const Granule& granule, Kind kind, uint32_t start) {
    if (granule.copies_to) return {COPY, WRITE, granule.past[WRITE].thread};
    if (granule.copies_from && kind != READ) return {COPY, READ, granule.past[READ].thread};
    for (Kind earlier : {WRITE, ATOMIC, READ}) {
        if (earlier == kind && kind != WRITE) continue;
        Other other = who(granule.past[earlier], start);
        if (other != NOBODY) return {other, earlier, granule.past[earlier].thread};
    }
    return {NOBODY, READ, 0};
}

void note(Past& past, uint32_t start) {
    if (past.time < block_began) {
        past.blocks = past.time >= start;
        past.lanes = past.warps = false;
    } else if (past.time < last_barrier) {
        past.lanes = past.warps = false;
    } else if (past.thread / 32 != thread / 32) {
        past.warps = true;
    } else if (past.time < last_warp_barrier[thread / 32]) {
        past.lanes = false;
    } else if (past.thread != thread) {
        past.lanes = true;
    }
    past.time = now;
    past.thread = thread;
}

// ---------------------------------------------------------------------------------------- what is told in the end

struct Finding {
    long count = 0;
    size_t place = 0;
    std::string example;
};

struct Kernel {
    long shared = 0, global = 0;
    std::map<std::string, Finding> findings;
};

std::map<std::string, Kernel> kernels;
Kernel* current = &kernels["?"];

void found(const Conflict& conflict, Kind kind, const Region& region, uintptr_t at, const void* code) {
    static const char* const names[] = {"read", "write", "atomic"};
    static const char* const others[] = {"", "lane", "warp", "block"};
    const char* space = region.shared ? "shared" : "global";
    char text[160];
    if (conflict.other == COPY) snprintf(text, sizeof text, "%s, %s of what a copy on its way %ss", space, names[kind], names[conflict.earlier]);
    else snprintf(text, sizeof text, "%s, %s after %s, other %s", space, names[kind], names[conflict.earlier], others[conflict.other]);
    Finding& finding = current->findings[text];
    if (finding.count++ > 0) return;
    Dl_info library;
    finding.place = dladdr(code, &library) ? (uintptr_t)code - (uintptr_t)library.dli_fbase : 0;
    std::string other = conflict.thread == thread ? "others" : "thread " + std::to_string(conflict.thread);
    snprintf(text, sizeof text, "block %u, thread %u after %s, byte %zu", block_index, thread, other.c_str(), (size_t)(at - region.begin));
    finding.example = text;
}

// ---------------------------------------------------------------------------------------- accesses

Region* region_of(uintptr_t at) {
    if (dynamic_memory.holds(at)) return &dynamic_memory;
    if (static_memory.holds(at)) return &static_memory;
    auto next = buffers.upper_bound(at);
    if (next == buffers.end() || !next->second.holds(at)) return nullptr;
    Region& region = next->second;
    if (region.granules.empty()) {
        region.granules.resize((region.end - region.begin) / 2);
        touched.push_back(&region);
    }
    return &region;
}

template <class Do>
void for_granules(Region& region, uintptr_t at, size_t bytes, Do act) {
    size_t first = (at - region.begin) / 2, last = (at + bytes - 1 - region.begin) / 2;
    for (size_t i = first; i <= last && i < region.granules.size(); i++) act(region.granules[i]);
}

// `code` is where the compiled code went on.
void check(Kind kind, const void* address, size_t bytes, const void* code) {
    auto at = (uintptr_t)address;
    if (quiet || bytes == 0 || (at >= stack_begin && at < stack_end)) return;
    Region* region = region_of(at);
    if (!region) return;
    (region->shared ? current->shared : current->global)++;
    uint32_t start = region->start();
    Conflict worst = {NOBODY, READ, 0};
    for_granules(*region, at, bytes, [&](Granule& granule) {
        if (worst.other == NOBODY) worst = conflict(granule, kind, start);
        note(granule.past[kind], start);
    });
    if (worst.other != NOBODY) found(worst, kind, *region, at, code);
}

void count_copy(const void* address, uint16_t Granule::*copies, int by) {
    if (Region* region = address ? region_of((uintptr_t)address) : nullptr) {
        for_granules(*region, (uintptr_t)address, 16, [=](Granule& granule) { granule.*copies += by; });
    }
}

}  // namespace

void report_as(const char* name) { current = &kernels[name]; }

void launch(const void* dynamic, size_t bytes) {
    launch_began = block_began = last_barrier = ++now;
    for (Region* region : touched) std::vector<Granule>().swap(region->granules);
    touched.clear();
    auto lies = [](Region& region, const void* begin, const void* end) {
        region.begin = (uintptr_t)begin, region.end = (uintptr_t)end, region.shared = true;
        region.granules.resize((region.end - region.begin + 1) / 2);
    };
    lies(dynamic_memory, dynamic, (const char*)dynamic + bytes);
    lies(static_memory, __start_shared_arrays, __stop_shared_arrays);
}

void buffer(const void* begin, size_t bytes) {
    uintptr_t first = (uintptr_t)begin, end = first + (bytes + 15) / 16 * 16;
    // Those who had these addresses before are gone.
    auto old = buffers.upper_bound(first);
    while (old != buffers.end() && old->second.begin < end) {
        std::erase(touched, &old->second);
        old = buffers.erase(old);
    }
    buffers[end] = {first, end, false, {}};
}

void block(unsigned index) {
    block_index = index;
    block_began = last_barrier = ++now;
}

void runs(unsigned next, const void* stack, size_t bytes) {
    thread = next;
    stack_begin = (uintptr_t)stack, stack_end = stack_begin + bytes;
}

void barrier() { last_barrier = ++now; }
void warp_barrier() { last_warp_barrier[thread / 32] = ++now; }

void access(Kind kind, const void* at, size_t bytes) { check(kind, at, bytes, HERE); }

void copy_asked(const void* to, const void* from) {
    if (from) check(READ, from, 16, HERE);
    check(WRITE, to, 16, HERE);
    count_copy(from, &Granule::copies_from, 1);
    count_copy(to, &Granule::copies_to, 1);
}

void copy_done(const void* to, const void* from) {
    count_copy(from, &Granule::copies_from, -1);
    count_copy(to, &Granule::copies_to, -1);
    if (from) check(READ, from, 16, HERE);
    check(WRITE, to, 16, HERE);
}

Quiet::Quiet() { quiet++; }
Quiet::~Quiet() { quiet--; }

}  // namespace races

extern "C" const char* races_report() {
    static std::string text;
    text.clear();
    for (auto& [name, kernel] : races::kernels) {
        if (kernel.shared + kernel.global == 0) continue;
        text += "kernel\t" + name + "\t" + std::to_string(kernel.shared) + "\t" + std::to_string(kernel.global) + "\n";
        for (auto& [kind, finding] : kernel.findings) text += "conflict\t" + name + "\t" + kind + "\t" + std::to_string(finding.count) + "\t" + std::to_string(finding.place) + "\t" + finding.example + "\n";
    }
    return text.c_str();
}

// ---------------------------------------------------------------------------------------- what compiled code calls

#define ACCESSES(bytes)                                                                                       \
    void __tsan_read##bytes(void* at) { races::check(races::READ, at, bytes, HERE); }                         \
    void __tsan_write##bytes(void* at) { races::check(races::WRITE, at, bytes, HERE); }                       \
    void __tsan_unaligned_read##bytes(void* at) { races::check(races::READ, at, bytes, HERE); }               \
    void __tsan_unaligned_write##bytes(void* at) { races::check(races::WRITE, at, bytes, HERE); }

#define CHANGE(bits, type, name)                                                                              \
    type __tsan_atomic##bits##_##name(volatile type* at, type value, int) {                                   \
        races::check(races::ATOMIC, (const void*)at, sizeof(type), HERE);                                     \
        return __atomic_##name(at, value, __ATOMIC_SEQ_CST);                                                  \
    }

#define COMPARE(bits, type, name, weak)                                                                       \
    int __tsan_atomic##bits##_##name(volatile type* at, type* expected, type value, int, int) {               \
        races::check(races::ATOMIC, (const void*)at, sizeof(type), HERE);                                     \
        return __atomic_compare_exchange_n(at, expected, value, weak, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);    \
    }

#define ATOMICS(bits, type)                                                                                   \
    type __tsan_atomic##bits##_load(const volatile type* at, int) {                                           \
        races::check(races::ATOMIC, (const void*)at, sizeof(type), HERE);                                     \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                         \
    }                                                                                                         \
    void __tsan_atomic##bits##_store(volatile type* at, type value, int) {                                    \
        races::check(races::ATOMIC, (const void*)at, sizeof(type), HERE);                                     \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                                        \
    }                                                                                                         \
    type __tsan_atomic##bits##_exchange(volatile type* at, type value, int) {                                 \
        races::check(races::ATOMIC, (const void*)at, sizeof(type), HERE);                                     \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                              \
    }                                                                                                         \
    CHANGE(bits, type, fetch_add)                                                                             \
    CHANGE(bits, type, fetch_sub)                                                                             \
    CHANGE(bits, type, fetch_and)                                                                             \
    CHANGE(bits, type, fetch_or)                                                                              \
    CHANGE(bits, type, fetch_xor)                                                                             \
    COMPARE(bits, type, compare_exchange_strong, false)                                                       \
    COMPARE(bits, type, compare_exchange_weak, true)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}
void __tsan_read_range(void* at, size_t bytes) { races::check(races::READ, at, bytes, HERE); }
void __tsan_write_range(void* at, size_t bytes) { races::check(races::WRITE, at, bytes, HERE); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
ATOMICS(8, unsigned char)
ATOMICS(16, unsigned short)
ATOMICS(32, unsigned)
ATOMICS(64, unsigned long)
}
