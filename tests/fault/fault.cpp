// A library for LD_PRELOAD that lets chosen file operations of a program fail, and that records them in their order.
// README.md beside this file says what the variables mean. Linux with glibc only.

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <mutex>
#include <string>

namespace {

const char* text(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value && *value ? value : otherwise;
}

long number(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value && *value ? strtol(value, nullptr, 10) : otherwise;
}

// What the environment asks for. It is read once.
struct Plan {
    std::string path = text("FAULT_PATH", "");
    std::string ops = std::string(",") + text("FAULT_OPS", "open,write,sync,rename,link,unlink,mkdir,truncate") + ",";
    long nth = number("FAULT_NTH", 1);
    long times = number("FAULT_TIMES", 1);
    int error = static_cast<int>(number("FAULT_ERRNO", EIO));
    long partial = number("FAULT_SHORT", -1);
    bool kill = number("FAULT_KILL", 0) != 0;
    std::string while_there = text("FAULT_WHILE", "");
    std::string log = text("FAULT_LOG", "");
};

const Plan& plan() {
    static const Plan once;
    return once;
}

// One operation at a time, so that the record has the order in which they took place.
std::recursive_mutex turn;
long count = 0;

// The file whose write was cut short: the next one fails, as a part of the same fault.
std::string& cut_short() {
    static std::string path;
    return path;
}

template <typename Function>
Function* real(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string path_of(int fd) {
    if (fd == AT_FDCWD) {
        char here[PATH_MAX];
        return getcwd(here, sizeof here) ? here : "";
    }
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const long length = syscall(SYS_readlinkat, AT_FDCWD, link, target, sizeof target);
    std::string path(target, length > 0 ? static_cast<size_t>(length) : 0);
    const std::string gone = " (deleted)";
    const bool deleted = path.size() > gone.size() && path.compare(path.size() - gone.size(), gone.size(), gone) == 0;
    return deleted ? path.substr(0, path.size() - gone.size()) : path;
}

std::string path_of(int folder, const char* name) {
    return name[0] == '/' ? name : path_of(folder) + "/" + name;
}

// An operation from its beginning to its end.
class Operation {
  public:
    Operation(const char* op, std::string path, std::string more = "")
        : held(turn), op(op), path(std::move(path)), more(std::move(more)) {
        const Plan& p = plan();
        counts = this->path.find(p.path) != std::string::npos && p.ops.find("," + this->op + ",") != std::string::npos;
        if (!counts) return;
        const bool active = p.while_there.empty() || syscall(SYS_faccessat, AT_FDCWD, p.while_there.c_str(), F_OK) == 0;
        if (!cut_short().empty() && cut_short() == this->path && this->op == "write") {
            cut_short().clear();
            fails = true;
            return;
        }
        cut_short().clear();
        if (!active) return;
        count++;
        fails = p.nth > 0 && count >= p.nth && (p.times < 0 || count < p.nth + p.times);
        if (fails && p.kill) {
            record(0, true);
            syscall(SYS_kill, getpid(), SIGKILL);
        }
        first = fails;
    }

    // Whether the operation is to fail; sets errno then.
    bool failed() {
        if (!fails || shortened() >= 0) return false;
        record(-plan().error, true);
        errno = plan().error;
        return true;
    }

    // How many bytes a write is to write before it fails, or -1 for all.
    long shortened() const { return first && op == "write" ? plan().partial : -1; }

    void add(const std::string& part) { more += "\t" + part; }

    template <typename Result>
    Result done(Result result) {
        const int kept = errno;
        if (counts) {
            const bool cut = shortened() >= 0;
            if (cut && plan().error != 0) cut_short() = path;
            record(result < 0 ? -kept : static_cast<long>(result), cut);
        }
        errno = kept;
        return result;
    }

    bool recorded() const { return counts && !plan().log.empty(); }

  private:
    void record(long result, bool injected) {
        if (!recorded()) return;
        std::string line = std::to_string(count) + "\t" + op + "\t" + std::to_string(result) + "\t" +
                           (injected ? "1" : "0") + "\t" + path + more + "\n";
        const long fd = syscall(SYS_openat, AT_FDCWD, plan().log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (fd < 0) return;
        for (size_t at = 0; at < line.size();) {
            const long n = syscall(SYS_write, fd, line.data() + at, line.size() - at);
            if (n <= 0) break;
            at += static_cast<size_t>(n);
        }
        syscall(SYS_close, fd);
    }

    std::unique_lock<std::recursive_mutex> held;
    std::string op, path, more;
    bool counts = false, fails = false, first = false;
};

std::string hex(const char* bytes, size_t length) {
    static const char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(2 * length);
    for (size_t i = 0; i < length; i++) {
        const unsigned char byte = static_cast<unsigned char>(bytes[i]);
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

int open_at(int folder, const char* name, int flags, mode_t mode) {
    const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    Operation operation(writes ? "open" : "openr", path_of(folder, name));
    if (operation.failed()) return -1;
    const bool there = syscall(SYS_faccessat, folder, name, F_OK) == 0;
    std::string how;
    if (flags & O_CREAT) how += 'c';
    if (flags & O_EXCL) how += 'x';
    if (flags & O_TRUNC) how += 't';
    if (flags & O_APPEND) how += 'a';
    operation.add(how.empty() ? "-" : how);
    operation.add(there ? "old" : "new");
    return operation.done(static_cast<int>(syscall(SYS_openat, folder, name, flags, mode)));
}

template <typename Write>
ssize_t write_to(int fd, const char* bytes, size_t length, off_t at, Write write) {
    Operation operation("write", path_of(fd));
    if (operation.failed()) return -1;
    if (operation.shortened() >= 0 && length > static_cast<size_t>(operation.shortened())) {
        length = static_cast<size_t>(operation.shortened());
    }
    const ssize_t written = length ? write(length) : 0;
    const int kept = errno;
    if (operation.recorded() && written >= 0) {
        const long end = at >= 0 ? at + written : syscall(SYS_lseek, fd, 0, SEEK_CUR);
        operation.add(std::to_string(end - written));
        operation.add(hex(bytes, static_cast<size_t>(written)));
    }
    errno = kept;
    return operation.done(written);
}

}  // namespace

#define OPEN_MODE                                  \
    mode_t mode = 0;                               \
    if (flags & (O_CREAT | O_TMPFILE)) {           \
        va_list rest;                              \
        va_start(rest, flags);                     \
        mode = va_arg(rest, mode_t);               \
        va_end(rest);                              \
    }

extern "C" {

int open(const char* name, int flags, ...) {
    OPEN_MODE
    return open_at(AT_FDCWD, name, flags, mode);
}
int open64(const char* name, int flags, ...) {
    OPEN_MODE
    return open_at(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}
int openat(int folder, const char* name, int flags, ...) {
    OPEN_MODE
    return open_at(folder, name, flags, mode);
}
int openat64(int folder, const char* name, int flags, ...) {
    OPEN_MODE
    return open_at(folder, name, flags | O_LARGEFILE, mode);
}

ssize_t write(int fd, const void* bytes, size_t length) {
    return write_to(fd, static_cast<const char*>(bytes), length, -1,
                    [&](size_t some) { return syscall(SYS_write, fd, bytes, some); });
}
ssize_t pwrite64(int fd, const void* bytes, size_t length, off64_t at) {
    return write_to(fd, static_cast<const char*>(bytes), length, at,
                    [&](size_t some) { return syscall(SYS_pwrite64, fd, bytes, some, at); });
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
    std::string all;
    for (int i = 0; i < count; i++) all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    return write(fd, all.data(), all.size());
}
// Whoever copies by these falls back to reads and writes.
ssize_t copy_file_range(int, off64_t*, int, off64_t*, size_t, unsigned) {
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int, int, off64_t*, size_t) {
    errno = ENOSYS;
    return -1;
}

int fsync(int fd) {
    Operation operation("sync", path_of(fd), "\tall");
    return operation.failed() ? -1 : operation.done(static_cast<int>(syscall(SYS_fsync, fd)));
}
int fdatasync(int fd) {
    Operation operation("sync", path_of(fd), "\tdata");
    return operation.failed() ? -1 : operation.done(static_cast<int>(syscall(SYS_fdatasync, fd)));
}
int ftruncate64(int fd, off64_t length) {
    Operation operation("truncate", path_of(fd), "\t" + std::to_string(length));
    return operation.failed() ? -1 : operation.done(static_cast<int>(syscall(SYS_ftruncate, fd, length)));
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
    Operation operation("rename", path_of(from_folder, from), "\t" + path_of(to_folder, to));
    if (operation.failed()) return -1;
    return operation.done(static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags)));
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}
int rename(const char* from, const char* to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) {
    Operation operation("link", path_of(from_folder, from), "\t" + path_of(to_folder, to));
    if (operation.failed()) return -1;
    return operation.done(static_cast<int>(syscall(SYS_linkat, from_folder, from, to_folder, to, flags)));
}
int link(const char* from, const char* to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char* name, int flags) {
    Operation operation("unlink", path_of(folder, name));
    return operation.failed() ? -1 : operation.done(static_cast<int>(syscall(SYS_unlinkat, folder, name, flags)));
}
int unlink(const char* name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char* name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdir(const char* name, mode_t mode) {
    Operation operation("mkdir", path_of(AT_FDCWD, name));
    return operation.failed() ? -1 : operation.done(static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, name, mode)));
}

int flock(int fd, int how) {
    Operation operation("lock", path_of(fd));
    return operation.failed() ? -1 : operation.done(static_cast<int>(syscall(SYS_flock, fd, how)));
}
int futimens(int fd, const struct timespec times[2]) {
    Operation operation("utime", path_of(fd));
    return operation.failed() ? -1 : operation.done(real<int(int, const struct timespec*)>("futimens")(fd, times));
}

DIR* opendir(const char* name) {
    Operation operation("readdir", path_of(AT_FDCWD, name));
    if (operation.failed()) return nullptr;
    DIR* folder = real<DIR*(const char*)>("opendir")(name);
    operation.done(folder ? 0 : -1);
    return folder;
}
struct dirent64* readdir64(DIR* folder) {
    Operation operation("readdir", path_of(dirfd(folder)));
    if (operation.failed()) return nullptr;
    struct dirent64* entry = real<struct dirent64*(DIR*)>("readdir64")(folder);
    operation.done(0);
    return entry;
}

ssize_t read(int fd, void* bytes, size_t length) {
    // The record and the counting are only for those who ask, as programs read all the time.
    if (plan().ops.find(",read,") == std::string::npos) return syscall(SYS_read, fd, bytes, length);
    Operation operation("read", path_of(fd));
    return operation.failed() ? -1 : operation.done(syscall(SYS_read, fd, bytes, length));
}
}
