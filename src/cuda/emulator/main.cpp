// The emulator as a program, with two numbers: whether it is `inexact` (emulator.h), and which barrier is left out if it watches for
// races. It reads commands from stdin and answers on stdout, all numbers as this machine has them in memory.
//
// A command is one byte and what belongs to it; the answer starts with a byte, 0 if it was done, else 1 and a text: its length in four bytes,
// then its letters. What a kernel does wrong ends the program with a line on stderr instead.
//
//   1 allocate  u64 bytes, u32 alignment                  answers u64 address; the memory is full of NaN
//   2 release   u64 address
//   3 write     u64 address, u64 bytes, the bytes
//   4 read      u64 address, u64 bytes                    answers the bytes
//   5 zero      u64 address, u64 bytes
//   6 launch    u8 letters, name, u32 grid[3], u32 block, u32 shared, u8 order, u8 arguments, u64 each
//   7 product   u32 m, n, k, u32 flags (below), u64 addresses of a, b, c, d, bias
//   8 races     answers u32 bytes, report (races.h)
//   9 rules     answers u32 bytes, report of the rules that races.cpp doesn't keep
//
// Each allocation ends where a page without rights begins, as near as its alignment lets it, and starts after one; the rest of its pages is
// filled with bytes 0xFF, which read as NaN, and which must be there still after each launch.
#include "emulator.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#ifdef RACES
#include "races.h"
int missing = 0;
std::string broken_rules();
#endif

namespace {

// As long as any machine's pages.
constexpr size_t PAGE = 64 << 10;

struct Buffer {
    unsigned char* base;  // of its pages, the first without rights
    size_t body, bytes;
};

std::map<uintptr_t, Buffer> buffers;  // by their addresses
const char* running = "no kernel";

Buffer* buffer_at(uintptr_t at) {
    auto after = buffers.upper_bound(at);
    return after == buffers.begin() ? nullptr : &std::prev(after)->second;
}

[[noreturn]] void end(const char* text) {
    std::fprintf(stderr, "%s: %s\n", running, text);
    std::fflush(stderr);
    std::_Exit(3);
}

void forbidden(int, siginfo_t* info, void*) {
    auto at = (uintptr_t)info->si_addr;
    char text[200] = "touched memory that is nobody's";
    for (auto& [address, buffer] : buffers) {
        auto base = (uintptr_t)buffer.base;
        if (at < base || at >= base + buffer.body + 2 * PAGE) continue;
        if (at < address) std::snprintf(text, sizeof text, "touched memory %zu bytes before a buffer of %zu bytes", (size_t)(address - at), buffer.bytes);
        else std::snprintf(text, sizeof text, "touched memory %zu bytes past the end of a buffer of %zu bytes", (size_t)(at - address - buffer.bytes), buffer.bytes);
    }
    end(text);
}

// ---------------------------------------------------------------------------------------- what commands are made of

void take(void* to, size_t bytes) {
    if (bytes > 0 && std::fread(to, bytes, 1, stdin) != 1) std::_Exit(0);  // the parent has ended
}

template <class Number>
Number take() {
    Number number;
    take(&number, sizeof number);
    return number;
}

void give(const void* from, size_t bytes) { std::fwrite(from, 1, bytes, stdout); }

void done() { give("\0", 1); }

void text(const std::string& letters) {
    uint32_t bytes = letters.size();
    give(&bytes, 4), give(letters.data(), bytes);
}

void refuse(const std::string& why) { give("\1", 1), text(why); }

bool known(uintptr_t at, size_t bytes) {
    Buffer* buffer = buffer_at(at);
    if (!buffer) return false;
    auto end = (uintptr_t)buffer->base + PAGE + buffer->body;
    return at < end && bytes <= end - at;
}

// ---------------------------------------------------------------------------------------- commands

void allocate() {
    auto bytes = take<uint64_t>();
    auto alignment = take<uint32_t>();
    size_t body = (bytes + PAGE - 1) / PAGE * PAGE;
    auto* base = (unsigned char*)mmap(nullptr, body + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED || (body && mprotect(base + PAGE, body, PROT_READ | PROT_WRITE))) return refuse("no memory for " + std::to_string(bytes) + " bytes");
    std::memset(base + PAGE, 0xff, body);
    auto at = (uintptr_t)(base + PAGE) + (body - bytes) / alignment * alignment;
    buffers[at] = {base, body, bytes};
#ifdef RACES
    races::buffer((void*)at, bytes);
#endif
    done(), give(&at, 8);
}

void release() {
    auto found = buffers.find(take<uint64_t>());
    if (found == buffers.end()) return refuse("what is released was never allocated");
    munmap(found->second.base, found->second.body + 2 * PAGE);
    buffers.erase(found);
    done();
}

void write() {
    auto at = take<uint64_t>(), bytes = take<uint64_t>();
    if (known(at, bytes)) return take((void*)at, bytes), done();
    std::vector<char> lost(bytes);
    take(lost.data(), bytes);
    refuse("a write to memory that was never allocated");
}

void read() {
    auto at = take<uint64_t>(), bytes = take<uint64_t>();
    if (!known(at, bytes)) return refuse("a read of memory that was never allocated");
    done(), give((void*)at, bytes);
}

void zero() {
    auto at = take<uint64_t>(), bytes = take<uint64_t>();
    if (!known(at, bytes)) return refuse("zeros for memory that was never allocated");
    std::memset((void*)at, 0, bytes), done();
}

// What lies around the buffers, 256 bytes at most on either side.
void check_surroundings() {
    for (auto& [at, buffer] : buffers) {
        auto *body = buffer.base + PAGE, *begin = (unsigned char*)at, *end = begin + buffer.bytes;
        for (auto* byte = begin - body > 256 ? begin - 256 : body; byte < begin; byte++) {
            if (*byte != 0xff) ::end(("wrote before a buffer of " + std::to_string(buffer.bytes) + " bytes").c_str());
        }
        for (auto* byte = end; byte < body + buffer.body; byte++) {
            if (*byte != 0xff) ::end(("wrote past the end of a buffer of " + std::to_string(buffer.bytes) + " bytes").c_str());
        }
    }
}

void launch() {
    std::string name(take<uint8_t>(), ' ');
    take(name.data(), name.size());
    emulate::Launch how;
    how.x = take<uint32_t>(), how.y = take<uint32_t>(), how.z = take<uint32_t>(), how.block = take<uint32_t>(), how.shared = take<uint32_t>();
    how.order = take<uint8_t>();
    std::vector<uint64_t> arguments(take<uint8_t>());
    take(arguments.data(), arguments.size() * 8);
    how.arguments = arguments.data(), how.count = arguments.size();
    for (auto* list : {emulate::kernels_of_kernels, emulate::kernels_of_product}) {
        for (auto* kernel = list; kernel->name; kernel++) {
            if (name != kernel->name) continue;
            running = kernel->name;
#ifdef RACES
            races::report_as(running);
#endif
            kernel->launch(how);
            check_surroundings();
            running = "no kernel";
            return done();
        }
    }
    refuse("no kernel is called " + name);
}

// ---------------------------------------------------------------------------------------- products

enum { A_TRANSPOSED = 1, B_TRANSPOSED = 2, OPERANDS_BF16 = 4, RESULT_BF16 = 8, BIAS = 16, ADD = 32 };

float number(uint64_t at, size_t i, bool bf16) {
    if (!bf16) return ((const float*)at)[i];
    uint32_t bits = (uint32_t)((const uint16_t*)at)[i] << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

void store(uint64_t at, size_t i, float x, bool bf16) {
    if (!bf16) return (void)(((float*)at)[i] = x);
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    // To the nearest, halves to even.
    ((uint16_t*)at)[i] = std::isnan(x) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Rows one after the other, whether or not they are stored so.
std::vector<float> rows_of(uint64_t at, size_t rows, size_t columns, bool transposed, bool bf16) {
    std::vector<float> all(rows * columns);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) all[i * columns + j] = number(at, transposed ? j * rows + i : i * columns + j, bf16);
    }
    return all;
}

void product() {
    auto m = take<uint32_t>(), n = take<uint32_t>(), k = take<uint32_t>(), flags = take<uint32_t>();
    uint64_t at[5];
    take(at, sizeof at);
    auto [a, b, c, d, bias] = at;
    bool narrow = flags & OPERANDS_BF16, narrow_result = flags & RESULT_BF16;
    size_t operand = narrow ? 2 : 4, result = narrow_result ? 2 : 4, size = (size_t)m * n;
    if (!known(a, m * operand * k) || !known(b, n * operand * k) || !known(d, size * result)) return refuse("a product of memory that was never allocated");
    if ((flags & ADD && !known(c, size * result)) || (flags & BIAS && !known(bias, n * result))) return refuse("a product plus memory that was never allocated");
    auto left = rows_of(a, m, k, flags & A_TRANSPOSED, narrow), right = rows_of(b, k, n, flags & B_TRANSPOSED, narrow);
    auto work = [&](size_t first, size_t last) {
        std::vector<double> sums(n);
        for (size_t i = first; i < last; i++) {
            std::fill(sums.begin(), sums.end(), 0.0);
            for (size_t l = 0; l < k; l++) {
                double x = left[i * k + l];
                const float* row = &right[l * n];
                for (size_t j = 0; j < n; j++) sums[j] += x * row[j];
            }
            for (size_t j = 0; j < n; j++) {
                double sum = sums[j] + (flags & BIAS ? number(bias, j, narrow_result) : 0.0f) + (flags & ADD ? number(c, i * n + j, narrow_result) : 0.0f);
                store(d, i * n + j, (float)sum, narrow_result);
            }
        }
    };
    std::thread other(work, m / 2, m);
    work(0, m / 2);
    other.join();
    done();
}

void report(bool of_rules) {
#ifdef RACES
    done(), text(of_rules ? broken_rules() : races_report());
#else
    (void)of_rules;
    refuse("this emulator doesn't watch for races");
#endif
}

}  // namespace

namespace emulate {

bool inexact = false;

void fail(const char* what) { end(what); }

void watch_for_faults() {
    static thread_local unsigned char stack[64 << 10];
    stack_t own = {};
    own.ss_sp = stack, own.ss_size = sizeof stack;
    sigaltstack(&own, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = forbidden;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
}

}  // namespace emulate

int main(int count, char** words) {
    if (count == 3) emulate::inexact = std::atoi(words[1]);
#ifdef RACES
    if (count == 3) missing = std::atoi(words[2]);
#endif
    emulate::watch_for_faults();
    for (;;) {
        switch (take<uint8_t>()) {
            case 1: allocate(); break;
            case 2: release(); break;
            case 3: write(); break;
            case 4: read(); break;
            case 5: zero(); break;
            case 6: launch(); break;
            case 7: product(); break;
            case 8: report(false); break;
            case 9: report(true); break;
            default: end("an unknown command");
        }
        std::fflush(stdout);
    }
}
