// A file, mapped into memory to be read; and names of files.
#pragma once

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

bool is_file(const std::string &path);
std::string name_of(const std::string &path);                                 // "a/b.xml" -> "b.xml"
std::string with_suffix(const std::string &path, const std::string &suffix);  // "a/b.xml", ".bin" -> "a/b.bin"
std::string suffix_of(const std::string &path);                               // "a/b.xml" -> ".xml"

}  // namespace et
