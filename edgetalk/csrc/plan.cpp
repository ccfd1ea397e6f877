#include "plan.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "error.h"
#include "file.h"
#include "json.h"

namespace et {

namespace {

constexpr size_t header_size = 64, longest_metadata = 4096;
constexpr uint64_t largest = uint64_t(1) << 40;  // a "size" above that is another field
constexpr std::string_view start = "{\"format\":";

// The first bytes as text that fits in a message.
std::string shown(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) text += c >= ' ' && c <= '~' ? c : '.';
    return text;
}

// The length of the object that begins `text`, 0 where it does not end.
size_t object_length(std::string_view text) {
    size_t depth = 0;
    bool quoted = false;
    for (size_t k = 0; k < text.size(); ++k) {
        const char c = text[k];
        if (quoted) {
            if (c == '\\')
                ++k;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{') {
            ++depth;
        } else if (c == '}' && --depth == 0) {
            return k + 1;
        }
    }
    return 0;
}

// What builds a plan of this name, as far as that tells it.
std::string build_command(const std::string &name) {
    return "edgetalk build " + word(with_suffix(name, ".onnx")) + " -o " + word(name);
}

// Our JSON string out of a plan's bytes, "" where there is none.
std::string find_metadata(std::string_view file) {
    for (size_t at = file.find(start); at != file.npos; at = file.find(start, at + 1)) {
        std::string_view text = file.substr(at, longest_metadata);
        text = text.substr(0, object_length(text));
        try {
            Json::parse(text);
        } catch (const Error &) {
            continue;  // the same characters by chance
        }
        return std::string(text);
    }
    return "";
}

// "10.3.0.26" -> {10, 3, 0, 26}; what is no number ends it.
std::vector<int> numbers(const std::string &version) {
    std::vector<int> parts;
    for (size_t at = 0; at < version.size();) {
        const size_t end = std::min(version.find('.', at), version.size());
        const std::string part = version.substr(at, end - at);
        if (part.empty() || part.size() > 6 || part.find_first_not_of("0123456789") != part.npos) break;
        parts.push_back(static_cast<int>(*whole_number(part)));
        at = end + 1;
    }
    return parts;
}

std::vector<int> first(std::vector<int> parts, size_t count) {
    parts.resize(std::min(parts.size(), count));
    return parts;
}

bool fits_version(const Plan &plan, const std::string &version) {
    const std::vector<int> built = numbers(plan.version), here = numbers(version);
    if (here.empty()) return false;
    if (plan.metadata.version_compatible)  // newer ones of the same major, and of 10's plans also 11
        return (here[0] == built[0] || (built[0] == 10 && here[0] == 11)) && here >= first(built, here.size());
    const size_t length = std::min(built.size(), here.size());
    return first(built, length) == first(here, length);
}

bool fits_capability(const Metadata &metadata, const std::string &capability) {
    if (metadata.hardware == "ampere+") return numbers(capability) >= std::vector<int>{8, 0};
    const auto &built = metadata.capabilities;
    return std::find(built.begin(), built.end(), capability) != built.end();
}

}  // namespace

Plan Plan::parse(std::string_view file, const std::string &name) {
    Plan plan;
    plan.name = name;
    const std::string build = build_command(name), magic(file.substr(0, 4));
    plan.product = magic == "ftrt" ? "TensorRT" : magic == "vtrt" ? "TensorRT-RTX" : "";
    if (plan.product.empty())
        fail_model(name + " is no TensorRT plan, it " +
                   (file.empty() ? "is empty" : "begins with \"" + shown(file.substr(0, 8)) + "\"") +
                   "; build one with: " + build);
    const std::string got = name + " is truncated at " + std::to_string(file.size());
    if (file.size() < header_size) fail_model(got + " bytes; copy it again");
    const uint64_t layout = little_endian(file.substr(4, 4)), whole = little_endian(file.substr(16, 8));
    if (layout != 0)
        fail_model(name + " has a plan header of layout " + std::to_string(layout) +
                   ", expected 0; rebuild it: " + build);
    if (file.size() < whole && whole < largest)
        fail_model(got + " of " + std::to_string(whole) + " bytes; copy it again");
    for (size_t k = 24; k < 28; ++k)
        plan.version += (k > 24 ? "." : "") + std::to_string(static_cast<unsigned char>(file[k]));
    const std::string text = find_metadata(file);
    if (text.empty()) fail_model(name + " has no edgetalk metadata; build it with: " + build);
    plan.metadata = Metadata::parse(text, name);
    if (plan.metadata.capabilities.empty())
        fail_model(name + " does not say for which device it was built; rebuild it: " + build);
    return plan;
}

void Plan::check(const std::string &here, const std::string &capability, const std::string &driver) const {
    const bool old = !here.empty() && !fits_version(*this, here);
    if (old || (!capability.empty() && !fits_capability(metadata, capability))) {
        std::string devices;
        for (const std::string &one : metadata.capabilities) devices += (devices.empty() ? "" : " and ") + one;
        fail_model(name + " was built for " + devices + " with " + product + " " + version + ", " +
                   (capability.empty() ? "this machine is" : "this device is " + capability) +
                   (here.empty() ? "" : " with " + product + " " + here) + "; rebuild it here: " + rebuild(capability));
    }
    const std::vector<int> cuda = numbers(metadata.cuda), newest = numbers(driver);
    if (!cuda.empty() && !newest.empty() && newest[0] < cuda[0])
        fail_model(name + " was built with CUDA " + metadata.cuda + ", this driver supports up to " + driver +
                   "; update the driver, or rebuild it here: " + rebuild());
}

std::string Plan::rebuild(const std::string &capability) const {
    std::string command = build_command(name) + " --precision " + word(metadata.precision);
    if (metadata.precision == "int8") command += " --calibration FILE.npz";
    if (product == "TensorRT-RTX") {  // TensorRT builds for the device that it builds on
        std::vector<std::string> devices = metadata.capabilities;
        if (!capability.empty() && !fits_capability(metadata, capability)) devices.push_back(capability);
        std::string named;
        for (const std::string &one : devices) named += (named.empty() ? "" : ",") + one;
        command += " --compute-capability " + word(named);
    }
    if (!metadata.hardware.empty()) command += " --hardware " + word(metadata.hardware);
    return command + (metadata.version_compatible ? " --version-compatible" : "");
}

}  // namespace et
