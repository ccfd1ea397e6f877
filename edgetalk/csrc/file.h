// A file, mapped into memory to be read; names of files, and who may name them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace et {

class File {
  public:
    explicit File(const std::string &path);  // throws ET_ERROR_FILE
    ~File();
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    std::string_view bytes() const { return {static_cast<const char *>(data_), size_}; }

  private:
    void *data_ = nullptr;
    size_t size_ = 0;
};

uint64_t little_endian(std::string_view bytes);  // the number that at most 8 bytes are

bool is_file(const std::string &path);
std::string name_of(const std::string &path);                                 // "a/b.xml" -> "b.xml"
std::string with_suffix(const std::string &path, const std::string &suffix);  // "a/b.xml", ".bin" -> "a/b.bin"
std::string suffix_of(const std::string &path);                               // "a/b.XML" -> ".xml"
std::string word(const std::string &name);  // of a command that a message tells: quoted where a shell needs it

// Whether the program has other rights than who started it (setuid, setgid, file capabilities): he must not choose then
// what it loads, neither by the environment nor by the name under which he calls the program.
bool privileged();
std::string own_folder();  // of this library, site-packages/edgetalk/lib in a wheel; "" where it is not to be used
const char *variable(const char *name);  // of the environment; null where it is not set, or not to be heard

}  // namespace et
