// A reader of JSON that trusts nothing: its texts come from files of models. Size, depth and number of values are
// limited, a key that comes twice is an error, numbers keep their text. Names and strings may be any UTF-8 but
// control characters; lone surrogates are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace et {

struct Json {
    enum Kind { null, boolean, number, string, array, object };

    static constexpr size_t max_bytes = 1 << 20, max_depth = 16, max_values = 4096;

    Kind kind = null;
    std::string text;                                   // of a string, decoded; of a number or boolean, as written
    std::vector<Json> items;                            // of an array
    std::vector<std::pair<std::string, Json>> members;  // of an object, in the order of the file

    // Throws ET_ERROR_MODEL with a text that says what is wrong, not where.
    static Json parse(std::string_view text);

    const Json *find(std::string_view key) const;  // nullptr where this is no object or has no such key
    std::optional<int64_t> integer(int64_t low, int64_t high) const;  // a whole number in [low, high], else nothing
    std::optional<double> real() const;                               // a finite number, else nothing
};

// The whole number that is written so, or the nearest that has 64 bits; nothing where it is no whole number.
std::optional<int64_t> whole_number(std::string_view text);

}  // namespace et
