// What a session needs of an engine: memory to write inputs to, a run, memory to read outputs from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace et {

// One input or output, bound to the memory that the engine reads or writes.
struct Port {
    enum Type { u8, f32, other };

    Type type = other;
    std::vector<int64_t> shape;
    void *data = nullptr;
    size_t bytes = 0;
    bool fresh = false;  // an input that was written since the last run; a device of its own needs it anew then
};

// A network on one device, batch 1, used by one thread at a time.
class Engine {
  public:
    struct Options {
        std::string device = "auto";
        int threads = 0;      // 0: the engine's choice
        std::string library;  // the engine's library or its folder, "" to search
    };

    Engine() = default;
    virtual ~Engine() = default;
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    // Inputs that are not fresh are those of the run before. Throws ET_ERROR_BACKEND.
    virtual void run() = 0;

    std::map<std::string, Port> inputs, outputs;
    std::string device;  // where it runs, at what precision, why there
};

// Names of devices are ASCII, whatever the locale.
inline std::string upper(std::string text) {
    for (char &c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    return text;
}

}  // namespace et
