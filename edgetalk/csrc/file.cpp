#include "file.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif

#include "error.h"

namespace et {

namespace {
[[noreturn]] void fail(const std::string &path, int number) { fail_file(path + ": " + std::strerror(number)); }

size_t dot(const std::string &path) {  // where the suffix begins; the name's end where there is none
    const size_t at = path.rfind('.'), slash = path.rfind('/');
    const size_t first = slash == std::string::npos ? 0 : slash + 1;
    return at == std::string::npos || at <= first ? path.size() : at;
}
}  // namespace

File::File(const std::string &path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is refused, not waited for
    if (file < 0) fail(path, errno);
    struct stat status;
    int number = fstat(file, &status) ? errno : S_ISREG(status.st_mode) ? 0 : S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    if (!number && status.st_size > 0) {
        size_ = static_cast<size_t>(status.st_size);
        data_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
        if (data_ == MAP_FAILED) number = errno;
    }
    close(file);
    if (number) fail(path, number);
}

File::~File() {
    if (size_) munmap(data_, size_);
}

uint64_t little_endian(std::string_view bytes) {
    uint64_t value = 0;
    for (size_t k = bytes.size(); k-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[k]);
    return value;
}

bool is_file(const std::string &path) {
    struct stat status;
    return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::string name_of(const std::string &path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string suffix_of(const std::string &path) {
    std::string suffix = path.substr(dot(path));
    for (char &c : suffix) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return suffix;
}

std::string with_suffix(const std::string &path, const std::string &suffix) {
    return path.substr(0, dot(path)) + suffix;
}

std::string word(const std::string &name) {
    static constexpr char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-";
    if (!name.empty() && name.find_first_not_of(plain) == name.npos) return name;
    std::string quoted = "'";
    for (const char letter : name) quoted += letter == '\'' ? "'\"'\"'" : std::string(1, letter);
    return quoted + "'";
}

bool privileged() {
#ifdef __linux__
    return getauxval(AT_SECURE) != 0;  // what secure_getenv asks, which not every C library has
#else
    return geteuid() != getuid() || getegid() != getgid();
#endif
}

std::string own_folder() {
    Dl_info self;
    if (privileged() || !dladdr(reinterpret_cast<const void *>(&et_version), &self) || !self.dli_fname) return "";
    const std::string file = self.dli_fname;
    return file.substr(0, std::max<size_t>(file.rfind('/'), 1));
}

const char *variable(const char *name) { return privileged() ? nullptr : std::getenv(name); }

}  // namespace et
