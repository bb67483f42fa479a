// Small kernels with and without races: does races.cpp keep its rules?
#include "emulate.h"

static inline void use(unsigned x) { asm volatile("" ::"r"(x)); }
static inline unsigned add(unsigned* to) { return __atomic_fetch_add(to, 1u, __ATOMIC_RELAXED); }

struct Rule {
    const char* name;
    // What the kind of every conflict must have in it, and there must be some; null: there must be none.
    const char* expected;
    unsigned blocks;
    void (*kernel)(unsigned* global);
};

// Two warps a block. `a`: the block's shared memory. `i`: this thread. `lane`, `warp`: its counterparts in the same warp and in the other one.
#define KERNEL [](unsigned* global)
#define HAVE                                                                                                  \
    [[maybe_unused]] auto* a = (unsigned*)emulate::machine->shared;                                           \
    [[maybe_unused]] unsigned i = threadIdx.x, lane = i ^ 1, warp = i ^ 32;                                   \
    [[maybe_unused]] unsigned* given = global;

static const Rule rules[] = {
    {"lanes", "other lane", 1, KERNEL { HAVE a[i] = 1, use(a[lane]); }},
    {"lanes, __syncwarp", nullptr, 1, KERNEL { HAVE a[i] = 1, __syncwarp(), use(a[lane]); }},
    {"lanes, shuffle", "read after write, other lane", 1, KERNEL { HAVE a[i] = 1, use(__shfl_xor_sync(ALL_LANES, i, 1)), use(a[lane]); }},
    {"lanes, vote", "read after write, other lane", 1, KERNEL { HAVE a[i] = 1, use(__any_sync(ALL_LANES, 1)), use(a[lane]); }},
    {"lanes, __syncwarp, then back without", "other lane", 1, KERNEL { HAVE a[i] = 1, __syncwarp(), use(a[lane]), a[i] = 2; }},
    {"warps", "other warp", 1, KERNEL { HAVE a[i] = 1, use(a[warp]); }},
    {"warps, __syncwarp", "other warp", 1, KERNEL { HAVE a[i] = 1, __syncwarp(), use(a[warp]); }},
    {"warps, __syncthreads", nullptr, 1, KERNEL { HAVE a[i] = 1, __syncthreads(), use(a[warp]); }},
    {"warps, __syncthreads, then back without", "other warp", 1, KERNEL { HAVE a[i] = 1, __syncthreads(), use(a[warp]), a[i] = 2; }},
    {"all read, then one writes", "write after read, other", 1, KERNEL { HAVE __syncthreads(), use(a[0]), use(__any_sync(ALL_LANES, 1)), i == 0 ? (void)(a[0] = 1) : void(); }},
    {"all read, barrier, then one writes", nullptr, 1, KERNEL { HAVE use(a[0]), __syncthreads(), i == 0 ? (void)(a[0] = 1) : void(); }},
    {"all read, barrier, then one reads and writes", nullptr, 1, KERNEL { HAVE use(a[0]), __syncthreads(); if (i == 0) use(a[0]), a[0] = 1; }},
    {"lanes read, then the last of them writes", "write after read, other lane", 1, KERNEL { HAVE if (i < 32) use(a[0]), use(__any_sync(ALL_LANES, 1)); if (i == 31) a[0] = 1; }},
    {"lanes read, __syncwarp, then one reads and writes", nullptr, 1, KERNEL { HAVE if (i < 32) use(a[0]), __syncwarp(); if (i == 31) use(a[0]), a[0] = 1; }},
    {"warps read, __syncwarp, then the last writes", "write after read, other warp", 1, KERNEL { HAVE use(a[0]), __syncwarp(); if (i == 63) a[0] = 1; }},
    {"two write", "write after write, other warp", 1, KERNEL { HAVE if (i == 3 || i == 40) a[0] = i; }},
    {"halves of a word", nullptr, 1, KERNEL { HAVE ((uint16_t*)a)[i] = 1; }},
    {"an array declared __shared__", "shared, read after write, other warp", 1, KERNEL { HAVE __shared__ unsigned own[64]; own[i] = 1, __syncwarp(), __any_sync(ALL_LANES, 1), use(own[warp]); }},
    {"global memory in a block", "global, ", 1, KERNEL { HAVE given[i] = 1, use(given[lane]); }},
    {"global memory in a block, barrier", nullptr, 1, KERNEL { HAVE given[i] = 1, __syncthreads(), use(given[warp]); }},
    {"blocks read", nullptr, 2, KERNEL { HAVE use(given[i]); }},
    {"blocks read, then one writes", "other block", 2, KERNEL { HAVE use(given[0]), __syncthreads(); if (blockIdx.x == 1 && i == 0) given[0] = 1; }},
    {"blocks write", "global, write after write, other block", 2, KERNEL { HAVE given[i] = 1; }},
    {"blocks write and read", "other block", 2, KERNEL { HAVE given[i + 64 * blockIdx.x] = 1, __syncthreads(), use(given[i + 64 * (blockIdx.x ^ 1)]); }},
    {"blocks have shared memory of their own", nullptr, 2, KERNEL { HAVE a[blockIdx.x ? i : lane] = 1; }},
    {"atomics", nullptr, 2, KERNEL { HAVE add(a), add(given); }},
    {"atomics and a read", "read after atomic, other", 1, KERNEL { HAVE add(a), __any_sync(ALL_LANES, 1), use(a[0]); }},
    {"atomics, barrier and a read", nullptr, 1, KERNEL { HAVE add(a), __syncthreads(), use(a[0]); }},
    {"a write and atomics", "other", 1, KERNEL { HAVE if (i == 0) a[0] = 0; add(a); }},
    {"atomics of two blocks and a read", "other block", 2, KERNEL { HAVE add(given), __syncthreads(), use(given[0]); }},
    {"a copy, own read, not waited", "read of what a copy on its way writes", 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, true), copies_commit(), use(a[4 * i]), copies_wait<0>(); }},
    {"a copy, own read, waited", nullptr, 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, true), copies_commit(), copies_wait<0>(), use(a[4 * i]); }},
    {"a copy, another's read, waited", "read after write, other warp", 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, true), copies_commit(), copies_wait<0>(), __any_sync(ALL_LANES, 1), i >= 32 ? use(a[4 * warp]) : void(); }},
    {"a copy, another's read, waited, barrier", nullptr, 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, true), copies_commit(), copies_wait<0>(), __syncthreads(), use(a[4 * warp]); }},
    {"a copy of the second group, not waited", "read of what a copy on its way writes", 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, true), copies_commit(), copy_async(a + 256 + 4 * i, given, true), copies_commit(), copies_wait<1>(), __syncthreads(), use(a[4 * warp]), use(a[256 + 4 * warp]), __syncthreads(), copies_wait<0>(); }},
    {"a copy over what others read, waited after a barrier", "shared, ", 1, KERNEL { HAVE if (i < 32) use(a[4 * i]); else copy_async(a + 4 * warp, given, true), copies_commit(); __syncthreads(), copies_wait<0>(); }},
    {"a copy, a barrier, waited, another's read", "shared, read ", 1, KERNEL { HAVE if (i < 32) copy_async(a + 4 * i, given, true), copies_commit(); __syncthreads(), copies_wait<0>(), use(__any_sync(ALL_LANES, 1)); if (i >= 32) use(a[4 * warp]); }},
    {"a copy over another on its way", "shared, write ", 1, KERNEL { HAVE copy_async(a + 4 * i, given, true), copies_commit(), __syncthreads(), copy_async(a + 4 * warp, given, true), copies_commit(), __syncthreads(), copies_wait<0>(); }},
    {"a copy of what is written meanwhile", "global, write of what a copy on its way reads", 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, true), copies_commit(), __syncthreads(), given[4 * warp] = 1, __syncthreads(), copies_wait<0>(); }},
    {"a copy of zeros reads nothing", nullptr, 1, KERNEL { HAVE copy_async(a + 4 * i, given + 4 * i, false), copies_commit(), __syncthreads(), given[4 * warp] = 1, __syncthreads(), copies_wait<0>(); }},
    {"matrices of rows that other lanes wrote", "other lane", 1, KERNEL { HAVE unsigned to[4]; a[4 * lane] = 1, load_matrices(to, (unsigned short*)(a + 4 * i)); }},
    {"matrices of rows that other lanes wrote, __syncwarp", nullptr, 1, KERNEL { HAVE unsigned to[4]; a[4 * lane] = 1, __syncwarp(), load_matrices(to, (unsigned short*)(a + 4 * i)); }},
    {"matrices, then own rows written", nullptr, 1, KERNEL { HAVE unsigned to[4]; load_matrices(to, (unsigned short*)(a + 4 * i)), a[4 * i] = to[0]; }},
    {"matrices, then others' rows written", "write after read, other warp", 1, KERNEL { HAVE unsigned to[4]; __syncthreads(), load_matrices_transposed(to, (unsigned short*)(a + 4 * i)), a[4 * warp] = to[0]; }},
};

// Says which rules aren't kept, a line each.
std::string broken_rules() {
    std::string broken;
    static unsigned global[512];
    races::buffer(global, sizeof global);
    for (const Rule& rule : rules) {
        for (int order = 0; order < 4; order++) {
            std::string name = std::string(rule.name) + " (order " + std::to_string(order) + ")", said;
            uint64_t argument = (uint64_t)global;
            races::report_as(name.c_str());
            emulate::launch(rule.kernel, {rule.blocks, 1, 1, 64, 2048, order, &argument, 1});
            std::string report = races_report();
            bool seen = false, right = true;
            for (size_t at = 0, end; at < report.size(); at = end + 1) {
                end = report.find('\n', at);
                std::string line = report.substr(at, end - at);
                if (line.find("conflict\t" + name + "\t") != 0) continue;
                seen = true;
                said += "; seen: " + line;
                if (!rule.expected || line.find(rule.expected) == std::string::npos) right = false;
            }
            if (!right || seen != (rule.expected != nullptr)) broken += name + ": expected " + (rule.expected ? rule.expected : "nothing") + said + "\n";
        }
    }
    return broken;
}
