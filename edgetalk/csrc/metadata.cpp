#include "metadata.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "error.h"
#include "file.h"
#include "json.h"

namespace et {

namespace {

constexpr int64_t newest_format = 1;
constexpr size_t longest = Json::max_bytes;

// An exact decimal number, num / den with den a power of ten.
struct Decimal {
    int64_t num = 0, den = 1;
};

// At most nine digits after the point: exact in 64 bits, and more than any rate needs.
std::optional<Decimal> decimal(std::string_view text) {
    if (text.empty() || text.size() > 24) return {};
    int64_t exponent = 0;
    if (const size_t e = text.find_first_of("eE"); e != text.npos) {
        const char *first = text.data() + e + 1, *end = text.data() + text.size();
        if (first != end && *first == '+') ++first;
        const auto [stop, error] = std::from_chars(first, end, exponent);
        if (error != std::errc() || stop != end || exponent < -99 || exponent > 99) return {};
        text = text.substr(0, e);
    }
    const bool negative = text.substr(0, 1) == "-";
    if (negative) text.remove_prefix(1);
    std::string digits;
    if (const size_t point = text.find('.'); point != text.npos) {
        digits = std::string(text.substr(0, point)) + std::string(text.substr(point + 1));
        exponent -= static_cast<int64_t>(text.size() - point - 1);
    } else {
        digits = text;
    }
    Decimal value;
    const char *end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value.num);
    if (error != std::errc() || stop != end || value.num < 0 || exponent < -18 || exponent > 9) return {};
    for (; exponent < 0 && value.num % 10 == 0; ++exponent) value.num /= 10;
    if (exponent < -9 || value.num > 1'000'000'000'000) return {};
    for (; exponent > 0; --exponent)
        if ((value.num *= 10) > 1'000'000'000'000) return {};
    for (; exponent < 0; ++exponent) value.den *= 10;
    if (negative) value.num = -value.num;
    return value;
}

[[noreturn]] void damaged(const std::string &where) {
    fail_model(where + " has edgetalk metadata that is damaged; export it again");
}

AudioSpec audio_spec(const Json &json, const std::string &where) {
    AudioSpec spec;
    int coefficients = 0;  // of mfcc
    const auto whole = [&where](const Json &value, int64_t low, int64_t high) {
        const auto number = value.integer(low, high);
        if (!number) damaged(where);
        return static_cast<int>(*number);
    };
    const auto real = [&where](const Json &value, double low, double high) {
        const auto number = value.real();
        if (!number || *number < low || *number > high) damaged(where);
        return *number;
    };
    if (json.kind != Json::object) damaged(where);
    for (const auto &[key, value] : json.members) {
        if (key == "kind" && (value.text == "logmel" || value.text == "mfcc") && value.kind == Json::string)
            spec.kind = value.text;
        else if (key == "sample_rate")
            spec.sample_rate = whole(value, 1, 1'000'000);
        else if (key == "n_fft")
            spec.n_fft = whole(value, 2, 1 << 14);
        else if (key == "hop")
            spec.hop = whole(value, 1, 1 << 14);
        else if (key == "n_mels")
            spec.n_mels = whole(value, 1, 512);
        else if (key == "fmin")
            spec.fmin = real(value, 0, 1e6);
        else if (key == "fmax")
            spec.fmax = real(value, 0, 1e6);
        else if (key == "preemphasis")
            spec.preemphasis = real(value, -1, 1);
        else if (key == "n_mfcc")
            coefficients = whole(value, 0, 512);
        else if (key == "window")
            spec.window = whole(value, 1, 4096);
        else if (key == "offset")
            spec.offset = real(value, -4096, 4096);
        else
            damaged(where);  // a front end that this library could not follow
    }
    if (spec.kind == "mfcc" && !coefficients) damaged(where);
    if (spec.fmax - spec.fmin < 1 || spec.hop > spec.n_fft) damaged(where);
    return spec;
}

}  // namespace

int64_t floor_of_product(double value, int64_t factor) {
    char text[32];  // such as -2.3400000000000002e+01
    const char *end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    Wide digits = 0;
    int places = 0, exponent = 0;  // of digits after the point; of ten
    bool after_point = false;
    const char *at = text + (*text == '-');
    for (; at != end && *at != 'e'; ++at) {
        if (*at == '.') {
            after_point = true;
            continue;
        }
        digits = 10 * digits + (*at - '0');
        places += after_point;
    }
    if (at != end) std::from_chars(at + 1 + (at[1] == '+'), end, exponent);
    places -= exponent;
    Wide product = (*text == '-' ? -digits : digits) * factor, scale = 1;  // below 10^17 * 2^42
    for (; places < 0; ++places) product *= 10;
    for (; places > 0 && scale < (Wide(1) << 120); --places) scale *= 10;  // far beyond the product
    return floor_div(product, scale);
}

std::optional<Rate> frame_rate(int64_t num, int64_t den) {
    if (num < 1 || den < 1 || num < den || num > max_fps * Wide(den)) return {};
    const int64_t divisor = std::gcd(num, den);
    num /= divisor, den /= divisor;
    if (num > largest_rate || den > largest_rate) return {};
    return Rate{static_cast<int32_t>(num), static_cast<int32_t>(den)};
}

std::optional<Rate> frame_rate(std::string_view text) {
    const size_t slash = text.find('/');
    const auto first = decimal(text.substr(0, slash));
    if (!first) return {};
    if (slash == text.npos) return frame_rate(first->num, first->den);
    const auto second = decimal(text.substr(slash + 1));
    if (!second || first->den != 1 || second->den != 1) return {};
    return frame_rate(first->num, second->num);
}

Metadata Metadata::parse(const std::string &text, const std::string &where) {
    if (text.empty()) fail_model(where + " has no edgetalk metadata; export it with: edgetalk export");
    Json json;
    try {
        json = Json::parse(text);
    } catch (const Error &) {
        damaged(where);
    }
    const Json *format = json.find("format");
    if (!format || !format->integer(INT64_MIN, INT64_MAX)) damaged(where);
    if (!format->integer(0, newest_format))
        fail_model(where + " has metadata of format " + format->text + ", this libedgetalk reads up to " +
                   std::to_string(newest_format) + "; install a newer one");
    Metadata metadata;
    metadata.text = text;
    const auto take = [&](const char *key, std::string &field) {
        const Json *value = json.find(key);
        if (value && value->kind != Json::string) damaged(where);
        if (value) field = value->text;
    };
    std::string fps = "25";
    take("family", metadata.family);
    take("role", metadata.role);
    take("fps", fps);
    take("precision", metadata.precision);
    take("source", metadata.source);
    take("licence", metadata.licence);
    take("use", metadata.use);
    std::string unused;
    for (const char *key : {"variant", "checkpoint", "onnx", "identity", "faces"}) take(key, unused);
    for (const char *key : {"units", "limits", "gate", "engine"})
        if (const Json *value = json.find(key); value && value->kind != Json::object) damaged(where);
    if (const Json *persons = json.find("persons")) {
        if (persons->kind != Json::array) damaged(where);
        for (const Json &one : persons->items) {
            if (one.kind != Json::string) damaged(where);
            metadata.persons.push_back(one.text);
        }
    }
    const auto rate = frame_rate(fps);
    if (metadata.family.empty() || !rate) damaged(where);
    metadata.fps = *rate;
    if (const Json *audio = json.find("audio")) metadata.audio = audio_spec(*audio, where);
    if (const Json *limits = json.find("limits"); const Json *pose = limits ? limits->find("pose") : nullptr) {
        const auto is_limit = [](const Json &one) { return one.real().value_or(-1) >= 0; };
        if (pose->items.size() != 3 || !std::all_of(pose->items.begin(), pose->items.end(), is_limit)) damaged(where);
    }
    if (const Json *units = json.find("units")) {
        for (const auto &[key, unit] : units->members)
            if (unit.kind != Json::string) damaged(where);
        const Json *pose = units->find("pose"), *blink = units->find("blink");
        metadata.pose_in_radians = !pose || pose->text.find("rad") != std::string::npos;
        metadata.blink_is_share = !blink || blink->text.find("0 open") != std::string::npos;
    }
    if (const Json *engine = json.find("engine")) {
        if (const Json *built = engine->find("compute_capability"))
            for (const Json &one : built->items) metadata.capabilities.push_back(one.text);
        if (const Json *cuda = engine->find("cuda")) metadata.cuda = cuda->text;
        if (const Json *hardware = engine->find("hardware")) metadata.hardware = hardware->text;
        const Json *compatible = engine->find("version_compatible");
        metadata.version_compatible = compatible && compatible->kind == Json::boolean && compatible->text == "true";
    }
    return metadata;
}

namespace {

// The value of an XML attribute, its entities replaced; "" where one is unknown.
std::string unescaped(std::string_view text) {
    static constexpr struct {
        std::string_view name;
        char meaning;
    } entities[] = {{"&quot;", '"'}, {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&apos;", '\''}};
    std::string out;
    while (!text.empty()) {
        size_t length = 1;
        char c = text[0];
        if (c == '&') {
            length = 0;
            for (const auto &entity : entities)
                if (text.substr(0, entity.name.size()) == entity.name) length = entity.name.size(), c = entity.meaning;
            if (!length) return "";
        }
        out += c;
        text.remove_prefix(length);
    }
    return out;
}

}  // namespace

std::string ir_metadata(std::string_view file, const std::string &name) {
    static constexpr std::string_view space = " \t\r\n\v\f", key = "<edgetalk value=\"";
    const size_t first = file.find_first_not_of(space);
    const size_t size = file.size();
    file = first == file.npos ? std::string_view() : file.substr(first, file.find_last_not_of(space) - first + 1);
    if (file.substr(0, 256).find("<net") == file.npos)
        fail_model(name + (file.empty() ? " is empty" : " is no OpenVINO model") +
                   "; build one with: edgetalk build MODEL.onnx -o " + word(name));
    if (file.size() < 6 || file.substr(file.size() - 6) != "</net>")
        fail_model(name + " is truncated at " + std::to_string(size) + " bytes; copy it and its .bin again");
    const size_t at = file.rfind(key);
    if (at == file.npos) return "";
    const size_t start = at + key.size(), end = file.find('"', start);
    if (end == file.npos || end - start > longest) return "";
    return unescaped(file.substr(start, end - start));
}

namespace {

// The fields of one protobuf message, in order.
class Fields {
  public:
    explicit Fields(std::string_view bytes) : bytes_(bytes) {}

    enum Step { field, end, truncated, unknown };

    // Moves to the next field; `payload` is what a length-delimited one holds.
    Step next() {
        if (bytes_.empty()) return end;
        uint64_t key, value;
        if (const Step step = varint(key); step != field) return step;
        number = key >> 3;
        if ((key & 7) != 0 && (key & 7) != 2) return unknown;  // an ONNX model has no other kinds
        if (const Step step = varint(value); step != field) return step;
        payload = {};
        if ((key & 7) == 2) {
            if (value > bytes_.size()) return truncated;
            payload = bytes_.substr(0, value);
            bytes_.remove_prefix(value);
        }
        return field;
    }

    uint64_t number = 0;
    std::string_view payload;

  private:
    Step varint(uint64_t &value) {
        value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (bytes_.empty()) return truncated;
            const unsigned char byte = static_cast<unsigned char>(bytes_[0]);
            bytes_.remove_prefix(1);
            if (shift < 64) value |= static_cast<uint64_t>(byte & 127) << shift;
            if (byte < 128) return field;
        }
        return unknown;
    }

    std::string_view bytes_;
};

}  // namespace

std::string onnx_metadata(std::string_view file, const std::string &name) {
    if (file.empty()) fail_model(name + " is empty; copy it again");
    bool graph = false;
    std::string found;
    Fields model(file);
    Fields::Step step;
    while ((step = model.next()) == Fields::field) {
        graph |= model.number == 7;
        if (model.number != 14) continue;  // metadata_props: messages of a key (1) and a value (2)
        Fields entry(model.payload);
        std::string_view key, value;
        while (entry.next() == Fields::field) {
            if (entry.number == 1) key = entry.payload;
            if (entry.number == 2) value = entry.payload;
        }
        if (key == "edgetalk" && value.size() <= longest) found = value;
    }
    if (step == Fields::truncated)
        fail_model(name + " is truncated at " + std::to_string(file.size()) + " bytes; copy it again");
    if (step == Fields::unknown || !graph) fail_model(name + " is no ONNX model; export one with: edgetalk export");
    return found;
}

}  // namespace et
