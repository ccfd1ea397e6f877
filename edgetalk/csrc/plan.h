// What a .plan file says about itself, read from its bytes alone as edgetalk/backends/plan.py does, and whether this
// machine can run it. TensorRT sees nothing that has not passed here.
#pragma once

#include <string>
#include <string_view>

#include "metadata.h"

namespace et {

struct Plan {
    std::string name, product, version;  // "amnet.plan", "TensorRT" or "TensorRT-RTX", "10.3.0.26"
    Metadata metadata;

    // Throws ET_ERROR_MODEL where the file is empty, no plan, truncated, of a layout unknown to us, or without our
    // metadata.
    static Plan parse(std::string_view file, const std::string &name);

    // Compares with what is here: version of the plan's product, compute capability of the device and CUDA of its
    // driver, "" where unknown. Throws ET_ERROR_MODEL.
    void check(const std::string &version, const std::string &capability, const std::string &driver) const;

    // The command that makes this plan anew, for one more device where that is not "".
    std::string rebuild(const std::string &capability = "") const;
};

}  // namespace et
