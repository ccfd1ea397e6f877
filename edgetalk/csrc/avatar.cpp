#include "avatar.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "error.h"
#include "file.h"
#include "json.h"

namespace et {

namespace {

constexpr int64_t newest_format = 1;

constexpr struct {
    std::string_view name;
    Tensor::Type type;
    int64_t size;
} types[] = {
    {"U8", Tensor::u8, 1},     {"F16", Tensor::f16, 2},   {"F32", Tensor::f32, 4},   {"BOOL", Tensor::other, 1},
    {"I8", Tensor::other, 1},  {"I16", Tensor::other, 2}, {"U16", Tensor::other, 2}, {"BF16", Tensor::other, 2},
    {"I32", Tensor::other, 4}, {"U32", Tensor::other, 4}, {"I64", Tensor::other, 8}, {"U64", Tensor::other, 8},
    {"F64", Tensor::other, 8},
};

// Arrays that an avatar of a film keeps of it, edgetalk/avatar.py FILM and MORE, and how many axes each has.
constexpr struct {
    const char *name;
    size_t axes;
    bool needed;
} film_arrays[] = {{"target", 4, true},   {"matrices", 3, true}, {"at", 1, true},
                   {"identity", 2, true}, {"jaws", 3, false},    {"pictures", 2, false}};

float from_half(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7FFF;
    uint32_t bits;
    if (rest >= 0x7C00) {
        bits = sign | 0x7F800000 | (rest & 0x3FF) << 13;  // infinity, NaN
    } else if (rest >= 0x0400) {
        bits = sign | ((rest << 13) + (112u << 23));
    } else {
        const float small = static_cast<float>(rest) * 0x1p-24f;  // subnormal: exact
        std::memcpy(&bits, &small, 4);
        bits |= sign;
    }
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// One entry of the header, as a view of `data`; throws with what is wrong about it.
Tensor tensor(const Json &entry, std::string_view data) {
    Tensor made;
    const Json *type = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
    if (!type || !shape || !offsets || shape->kind != Json::array || offsets->items.size() != 2)
        fail_model("a tensor lacks dtype, shape or data_offsets");
    const auto known =
        std::find_if(std::begin(types), std::end(types), [&](auto &one) { return one.name == type->text; });
    if (known == std::end(types)) fail_model("a tensor is of an unknown type");
    made.type = known->type;
    made.item_size = known->size;
    const auto limit = static_cast<int64_t>(data.size());
    int64_t bytes = made.item_size;
    if (shape->items.empty() || shape->items.size() > 8) fail_model("a tensor of no or too many dimensions");
    for (const Json &item : shape->items) {
        const auto size = item.integer(1, limit);
        if (!size || bytes > limit / *size) fail_model("a tensor larger than the file");
        made.shape.push_back(*size);
        bytes *= *size;
    }
    const auto begin = offsets->items[0].integer(0, limit), end = offsets->items[1].integer(0, limit);
    if (!begin || !end || *end - *begin != bytes) fail_model("a tensor's place does not fit its shape");
    made.bytes = data.substr(static_cast<size_t>(*begin), static_cast<size_t>(bytes));
    return made;
}

// The header of a safetensors file; its tensors must fill the rest without gaps and overlaps.
Json layout(std::string_view file, std::map<std::string, Tensor> &tensors) {
    const uint64_t size = file.size() < 8 ? UINT64_MAX : little_endian(file.substr(0, 8));
    if (size > file.size() - std::min<size_t>(8, file.size())) fail_model("its header is not all there");
    const Json header = Json::parse(file.substr(8, size));
    const std::string_view data = file.substr(8 + size);
    if (const Json *about = header.find("__metadata__")) {
        if (about->kind != Json::object) fail_model("its __metadata__ is no object");
        for (const auto &[key, value] : about->members)
            if (value.kind != Json::string) fail_model("a value of its __metadata__ is no string");
    }
    std::vector<std::string_view> places;
    for (const auto &[name, entry] : header.members) {
        if (name == "__metadata__") continue;
        const Tensor made = tensor(entry, data);
        places.push_back(made.bytes);
        tensors.emplace(name, made);
    }
    std::sort(places.begin(), places.end(), [](auto a, auto b) { return a.data() < b.data(); });
    const char *end = data.data();
    for (const std::string_view place : places) {
        if (place.data() != end) fail_model("its tensors overlap or leave gaps");
        end += place.size();
    }
    if (end != data.data() + data.size()) fail_model("its tensors do not fill it");
    return header;
}

// Whether the text is "WIDTHxHEIGHT FPS", the rate a fraction.
bool is_film(std::string_view text) {
    const auto digits = [&text] {
        const size_t count = std::min(text.find_first_not_of("0123456789"), text.size());
        const std::string_view number = text.substr(0, count);
        text.remove_prefix(count);
        return number;
    };
    const auto take = [&text](char c) {
        const bool there = !text.empty() && text[0] == c;
        if (there) text.remove_prefix(1);
        return there;
    };
    const auto positive = [&digits] {
        const std::string_view number = digits();
        return !number.empty() && number[0] != '0';
    };
    return !digits().empty() && take('x') && !digits().empty() && take(' ') && positive() &&
           (text.empty() || (take('/') && positive() && text.empty()));
}

// What of the tensors no avatar has, as edgetalk/avatar.py says it; "" where nothing is wrong.
std::string misfit(const std::map<std::string, Tensor> &tensors, bool film) {
    static constexpr const char *types_in_python[] = {"uint8", "float16", "float32", "other"};
    const auto has_shape = [](const std::string &name, const Tensor &tensor) {
        return "its " + name + " has shape " + shape_text(tensor.shape);
    };
    const Tensor &boxes = tensors.at("boxes"), &source = tensors.at("source");
    if (boxes.shape.size() != 2 || boxes.shape[1] != 4) return "its boxes have shape " + shape_text(boxes.shape);
    if (const auto &shape = source.shape;
        source.type != Tensor::u8 || shape.size() != 3 || shape[0] != shape[1] || shape[2] != 3)
        return std::string("its picture is ") + types_in_python[source.type] + " " + shape_text(shape);
    if (film)
        for (const auto &[name, axes, needed] : film_arrays)
            if (const auto at = tensors.find(name); at != tensors.end() && at->second.shape.size() != axes)
                return has_shape(name, at->second);
    int64_t fewest = boxes.shape[0], most = fewest;
    for (const auto &[name, tensor] : tensors) {
        if (name == "source" || name == "identity") continue;  // one of each
        fewest = std::min(fewest, tensor.shape[0]);
        most = std::max(most, tensor.shape[0]);
    }
    return fewest == most ? "" : "it has " + std::to_string(fewest) + " and " + std::to_string(most) + " frames";
}

}  // namespace

std::string shape_text(const std::vector<int64_t> &shape, size_t from) {
    std::string text;
    for (size_t axis = from; axis < shape.size(); ++axis)
        text += (axis > from ? ", " : "") + std::to_string(shape[axis]);
    return "(" + text + (shape.size() == from + 1 ? ",)" : ")");
}

int64_t Tensor::values() const {
    int64_t count = 1;
    for (size_t axis = 1; axis < shape.size(); ++axis) count *= shape[axis];
    return count;
}

void Tensor::copy(int64_t index, void *out) const {
    const size_t count = static_cast<size_t>(values()), size = count * static_cast<size_t>(item_size);
    const char *from = bytes.data() + static_cast<size_t>(index) * size;
    if (type != f16) {
        std::memcpy(out, from, size);
        return;
    }
    for (size_t k = 0; k < count; ++k) {
        uint16_t half;  // memcpy, for a file may place it at an odd address
        std::memcpy(&half, from + 2 * k, 2);
        static_cast<float *>(out)[k] = from_half(half);
    }
}

Avatar Avatar::parse(std::string_view file, const std::string &name) {
    const std::string kept = word(with_suffix(name, ".avatar"));
    const std::string again = "; prepare it again: edgetalk avatar ENGINE PICTURE -o " + kept;
    Avatar avatar;
    Json header;
    try {
        header = layout(file, avatar.features);
    } catch (const Error &error) {
        for (const std::string_view picture : {"\x89PNG", "\xff\xd8\xff"})
            if (file.substr(0, picture.size()) == picture)
                fail_model(name + " is a picture and no avatar; prepare it: edgetalk avatar ENGINE " + word(name) +
                           " -o " + kept);
        fail_model(name + " is truncated or no avatar (" + error.what() + ")" + again);
    }
    static const Json none;
    const Json *found = header.find("__metadata__"), &about = found ? *found : none;
    if (const Json *format = about.find("format"); format && whole_number(format->text) > newest_format)
        fail_model(name + " is an avatar of format " + format->text + ", this libedgetalk reads up to " +
                   std::to_string(newest_format) + "; install a newer one");
    const auto no_avatar = [&](const std::string &why) { fail_model(name + " is no avatar: " + why + again); };
    for (const auto &[key, entry] : header.members)
        if (const auto at = avatar.features.find(key); at != avatar.features.end() && at->second.type == Tensor::other)
            no_avatar("its " + key + " is " + entry.find("dtype")->text + ", expected U8, F16, F32");
    for (const char *key : {"family", "weights", "licence", "consent", "name"})
        if (!about.find(key)) no_avatar(std::string("it lacks '") + key + "'");
    avatar.family = about.find("family")->text;
    avatar.licence = about.find("licence")->text;
    avatar.weights = about.find("weights")->text;
    avatar.name = about.find("name")->text;
    if (const Json *use = about.find("use")) avatar.use = use->text;
    const Json *film = about.find("film");
    for (const char *key : {"source", "boxes"})
        if (!avatar.features.count(key)) no_avatar(std::string("it lacks '") + key + "'");
    if (film) {
        for (const auto &[key, axes, needed] : film_arrays)
            if (needed && !avatar.features.count(key)) no_avatar(std::string("it lacks '") + key + "'");
        if (!is_film(film->text)) no_avatar("it lacks 'film'");
    }
    if (const std::string why = misfit(avatar.features, film); !why.empty()) no_avatar(why);
    avatar.source = avatar.features.at("source");
    avatar.features.erase("source");
    avatar.features.erase("boxes");
    if (film)
        for (const auto &one : film_arrays) avatar.features.erase(one.name);
    return avatar;
}

}  // namespace et
