// An .avatar file, edgetalk/avatar.py: safetensors with a source picture and the features made of it. The tensors
// stay in the mapped file; nothing in it is trusted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "file.h"

namespace et {

std::string shape_text(const std::vector<int64_t> &shape, size_t from = 0);  // as Python writes it: (3,) or (2, 4)

struct Tensor {
    enum Type { u8, f16, f32, other };

    Type type = u8;
    int64_t item_size = 1;  // bytes of one number
    std::vector<int64_t> shape;
    std::string_view bytes;

    // Writes entry `index` of the first axis, values() numbers: f16 as float32, others as they are.
    void copy(int64_t index, void *out) const;
    int64_t values() const;  // per entry of the first axis
};

struct Avatar {
    Tensor source;  // uint8 (S, S, 3)
    // By the names of the network's inputs, the first axis counts frames; none is of type `other`.
    std::map<std::string, Tensor> features;
    std::string family, licence, name, use = "any";  // the name is the person's
    std::string weights;  // sha256 of the source ONNX that made the features

    // The tensors are views of `file`. Throws ET_ERROR_MODEL.
    static Avatar parse(std::string_view file, const std::string &name);
};

}  // namespace et
