// TensorRT or TensorRT-RTX, found at run time. It is one C++ interface per major version and product, which the
// headers that this was compiled with fix: CMake's EDGETALK_TENSORRT_INCLUDE. Without them tensorrt.cpp is left out.
#pragma once

#include <memory>
#include <string>

#include "engine.h"
#include "plan.h"

namespace et {

// Runs the plan in the file `path`; the rules are those of edgetalk/backends/tensorrt.py. Left out are CUDA graphs,
// and engines that several sessions share. Throws ET_ERROR_MODEL or ET_ERROR_BACKEND.
std::unique_ptr<Engine> open_tensorrt(const std::string &path, const Plan &plan, const Engine::Options &options);

}  // namespace et
