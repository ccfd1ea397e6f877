#include "json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "error.h"

namespace et {

namespace {

class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json whole() {
        Json value = parse(0);
        skip();
        if (at_ != text_.size()) fail("something after its end");
        return value;
    }

  private:
    [[noreturn]] static void fail(const char *what) { fail_model(std::string("JSON with ") + what); }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void skip() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
            ++at_;
    }

    bool take(char c) {
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }

    bool take(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    Json parse(size_t depth) {
        if (depth > Json::max_depth) fail("too many levels");
        if (++values_ > Json::max_values) fail("too many values");
        skip();
        Json value;
        switch (peek()) {
            case '{':
                object(value, depth);
                break;
            case '[':
                array(value, depth);
                break;
            case '"':
                value.kind = Json::string;
                value.text = string();
                break;
            case 't':
            case 'f':
                value.text = take("true") ? "true" : take("false") ? "false" : "";
                if (value.text.empty()) fail("an unknown word");
                value.kind = Json::boolean;
                break;
            case 'n':
                if (!take("null")) fail("an unknown word");
                break;
            default:
                number(value);
        }
        return value;
    }

    void object(Json &value, size_t depth) {
        value.kind = Json::object;
        take('{');
        skip();
        if (take('}')) return;
        do {
            skip();
            std::string key = string();
            if (value.find(key)) fail("a key that comes twice");
            skip();
            if (!take(':')) fail("a key without a value");
            value.members.emplace_back(std::move(key), parse(depth + 1));
            skip();
        } while (take(','));
        if (!take('}')) fail("an object that does not end");
    }

    void array(Json &value, size_t depth) {
        value.kind = Json::array;
        take('[');
        skip();
        if (take(']')) return;
        do {
            value.items.push_back(parse(depth + 1));
            skip();
        } while (take(','));
        if (!take(']')) fail("an array that does not end");
    }

    void number(Json &value) {
        const size_t start = at_;
        const auto digits = [this] {
            const size_t first = at_;
            while (peek() >= '0' && peek() <= '9') ++at_;
            if (at_ == first) fail("no value where one should be");
        };
        take('-');
        if (!take('0')) digits();
        if (take('.')) digits();
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            digits();
        }
        value.kind = Json::number;
        value.text = text_.substr(start, at_ - start);
    }

    unsigned hex() {
        if (text_.size() - at_ < 4) fail("a broken \\u");
        unsigned code = 0;
        const char *first = text_.data() + at_;
        const auto [end, error] = std::from_chars(first, first + 4, code, 16);
        if (error != std::errc() || end != first + 4) fail("a broken \\u");
        at_ += 4;
        return code;
    }

    std::string string() {
        if (!take('"')) fail("a key that is no string");
        std::string out;
        for (;;) {
            if (at_ >= text_.size()) fail("a string that does not end");
            const char c = text_[at_++];
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
            if (c == '\\')
                escape(out);
            else
                out += c;
        }
    }

    void escape(std::string &out) {
        if (at_ >= text_.size()) fail("a string that does not end");
        static constexpr std::string_view codes = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
        const char c = text_[at_++];
        if (const size_t k = codes.find(c); k != codes.npos) {
            out += meanings[k];
            return;
        }
        if (c != 'u') fail("an unknown escape");
        unsigned code = hex();
        if (code >= 0xD800 && code < 0xDC00) {
            const unsigned low = take("\\u") ? hex() : 0;
            if (low < 0xDC00 || low > 0xDFFF) fail("half a character");
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else if (code >= 0xDC00 && code <= 0xDFFF) {
            fail("half a character");
        }
        const auto tail = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3F)); };
        if (code < 0x80)
            out += static_cast<char>(code);
        else if (code < 0x800)
            out += {static_cast<char>(0xC0 | code >> 6), tail(0)};
        else if (code < 0x10000)
            out += {static_cast<char>(0xE0 | code >> 12), tail(6), tail(0)};
        else
            out += {static_cast<char>(0xF0 | code >> 18), tail(12), tail(6), tail(0)};
    }

    std::string_view text_;
    size_t at_ = 0, values_ = 0;
};

}  // namespace

Json Json::parse(std::string_view text) {
    if (text.size() > max_bytes) fail_model("JSON of more than a megabyte");
    return Parser(text).whole();
}

const Json *Json::find(std::string_view key) const {
    for (const auto &[name, value] : members)
        if (name == key) return &value;
    return nullptr;
}

std::optional<int64_t> Json::integer(int64_t low, int64_t high) const {
    const auto value = kind == number ? whole_number(text) : std::nullopt;
    return value && low <= *value && *value <= high ? value : std::nullopt;
}

std::optional<double> Json::real() const {
    if (kind != number || text.size() > 64) return {};
    double value = 0;  // from_chars for doubles, for strtod would heed the locale's decimal point
    const char *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end || !std::isfinite(value)) return {};
    return value;
}

std::optional<int64_t> whole_number(std::string_view text) {
    int64_t value = 0;
    const char *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (stop != end || error == std::errc::invalid_argument) return {};
    if (error == std::errc::result_out_of_range) return text[0] == '-' ? INT64_MIN : INT64_MAX;
    return value;
}

}  // namespace et
