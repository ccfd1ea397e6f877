// OpenVINO through its C interface, found at run time: the same library ran with 2024.6, 2025.0 and 2026.4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "metadata.h"

namespace et {

// One input or output, bound to the memory that the engine reads or writes.
struct Port {
    enum Type { u8, f32, other };

    Type type = other;
    std::vector<int64_t> shape;
    void *data = nullptr;
    size_t bytes = 0;
};

// A network compiled for one device, batch 1; the rules are those of edgetalk/backends/openvino.py.
class Engine {
  public:
    struct Options {
        std::string device = "auto";
        int threads = 0;      // 0: OpenVINO's choice
        std::string library;  // libopenvino_c.so or its folder, "" to search
    };

    // Throws ET_ERROR_MODEL, ET_ERROR_INPUT or ET_ERROR_BACKEND.
    Engine(const std::string &path, const Metadata &metadata, const Options &options);
    ~Engine();

    void run();

    std::map<std::string, Port> inputs, outputs;
    std::string device;  // where it runs, at what precision, why there

  private:
    struct Handles;
    std::unique_ptr<Handles> handles_;
    std::string name_;
};

}  // namespace et
