// The exception inside the library; session.cpp turns it into a status and a text. It never crosses the C interface.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "edgetalk.h"

namespace et {

struct Error : std::runtime_error {
    et_status status;
    Error(et_status why, const std::string &text) : std::runtime_error(text), status(why) {}
};

[[noreturn]] inline void fail_file(const std::string &text) { throw Error(ET_ERROR_FILE, text); }
[[noreturn]] inline void fail_model(const std::string &text) { throw Error(ET_ERROR_MODEL, text); }
[[noreturn]] inline void fail_input(const std::string &text) { throw Error(ET_ERROR_INPUT, text); }
[[noreturn]] inline void fail_backend(const std::string &text) { throw Error(ET_ERROR_BACKEND, text); }

}  // namespace et
