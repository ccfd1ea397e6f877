// OpenVINO through its C interface, found at run time: the same library ran with 2024.6, 2025.0 and 2026.4.
#pragma once

#include <memory>
#include <string>

#include "engine.h"
#include "metadata.h"

namespace et {

// Opens an .xml or .onnx file; the rules are those of edgetalk/backends/openvino.py. Throws ET_ERROR_MODEL,
// ET_ERROR_INPUT or ET_ERROR_BACKEND.
std::unique_ptr<Engine> open_openvino(const std::string &path, const Metadata &metadata,
                                      const Engine::Options &options);

}  // namespace et
