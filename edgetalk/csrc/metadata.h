// What a model file says about itself: the JSON string of edgetalk/metadata.py, found in the bytes of a file and
// read without trust. OpenVINO's C interface does not give it, so it is looked for here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clock.h"

namespace et {

// The audio front end that a network was trained with; the fields are those of edgetalk.metadata.AudioSpec.
struct AudioSpec {
    std::string kind = "logmel";
    int sample_rate = 16000, n_fft = 800, hop = 200, n_mels = 80;
    double fmin = 55.0, fmax = 7600.0, preemphasis = 0.97;
    int window = 32;
    double offset = -23.4;  // means the shortest decimal number that is nearest to it, see floor_of_product
};

struct Metadata {
    std::string text;  // the JSON itself
    Rate fps;
    std::string family, role = "step", precision = "f32", source, licence, use = "any";
    std::vector<std::string> persons;  // that the network knows; empty where it takes any face
    std::optional<AudioSpec> audio;
    bool pose_in_radians = true, blink_is_share = true;  // published checkpoints may want other units
    std::vector<std::string> capabilities;               // of a plan: devices such as "8.7" that it was built for
    std::string cuda, hardware;                          // of a plan: CUDA's major version; "ampere+", "same" or ""
    bool version_compatible = false;                     // of a plan: newer versions of TensorRT may run it

    // Throws ET_ERROR_MODEL; `where` is the file's name.
    static Metadata parse(const std::string &text, const std::string &where);
};

// floor(value * factor) of the decimal number that a finite `value` prints as, exactly; |value| up to 4096, `factor`
// from 1 to 2^42.
int64_t floor_of_product(double value, int64_t factor);

// "25", "29.97" or "30000/1001" as a fraction from 1 to 240 in lowest terms, else nothing.
std::optional<Rate> frame_rate(std::string_view text);
std::optional<Rate> frame_rate(int64_t num, int64_t den);

// Looks at the bytes of an .xml or .onnx file: the string under the key `edgetalk`, "" where there is none. Throws
// ET_ERROR_MODEL where the file is empty, truncated or something else; for OpenVINO would ask all its readers then,
// and these write to stderr.
std::string ir_metadata(std::string_view file, const std::string &name);
std::string onnx_metadata(std::string_view file, const std::string &name);

}  // namespace et
