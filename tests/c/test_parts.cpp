// The parts of libedgetalk that need no engine: readers of files, the Fourier transform, windows of sound, idle
// motion, the clock. tests/edgetalk/test_c_library.py compares the whole with the Python runtime, number by number.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "avatar.h"
#include "check.h"
#include "clock.h"
#include "error.h"
#include "file.h"
#include "json.h"
#include "mel.h"
#include "metadata.h"
#include "motion.h"

using namespace et;

// Calls of operator new until one fails; below 0 none does.
static int left = -1;

void *operator new(size_t size) {
    if (left == 0) throw std::bad_alloc();
    if (left > 0) --left;
    if (void *memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

// Whether the call ran out of memory with room for so many pieces.
static bool starved(int pieces, const std::function<void()> &call) {
    left = pieces;
    try {
        call();
    } catch (const std::bad_alloc &) {
        left = -1;
        return true;
    }
    left = -1;
    return false;
}

// What the call throws, "" where nothing.
static std::string refusal(const std::function<void()> &call) {
    try {
        call();
    } catch (const Error &error) {
        return error.what();
    }
    return "";
}

static bool has(const std::string &text, const char *part) { return text.find(part) != std::string::npos; }

static void files() {
    CHECK(has(refusal([] { File file("nowhere.xml"); }), "nowhere.xml: No such file"));
    CHECK(has(refusal([] { File file("."); }), ".: Is a directory"));
    unlink("pipe.xml");
    CHECK(mkfifo("pipe.xml", 0600) == 0);
    alarm(20);  // nobody writes to it
    CHECK(has(refusal([] { File file("pipe.xml"); }), "pipe.xml: Invalid argument"));
    alarm(0);
    unlink("pipe.xml");
    CHECK(with_suffix("a.b/c", ".bin") == "a.b/c.bin" && with_suffix("./.xml", ".bin") == "./.xml.bin");
    CHECK(suffix_of("a.b/c.d.XML") == ".xml" && suffix_of("a.b/c").empty() && name_of("a/b.xml") == "b.xml");
    CHECK(word("a-b_2.onnx") == "a-b_2.onnx" && word("my a.onnx") == "'my a.onnx'" && word("").size() == 2);
    CHECK(word("it's $(x)") == "'it'\"'\"'s $(x)'");  // as Python's shlex.quote
    CHECK(has(refusal([] { ir_metadata("junk", "my a.xml"); }), "edgetalk build MODEL.onnx -o 'my a.xml'"));
}

static void json() {
    const Json value =
        Json::parse(" {\"a\": [1, -2.5e3, true, null], \"b\": \"x\\u00e9\\ud83d\\ude00\\n\", \"c\": {}} ");
    CHECK(value.find("a")->items.size() == 4);
    CHECK(value.find("a")->items[0].integer(0, 9) == 1);
    CHECK(!value.find("a")->items[0].integer(2, 9));
    CHECK(!value.find("a")->items[1].integer(-9999, 9999));
    CHECK(value.find("a")->items[1].real() == -2500.0);
    CHECK(value.find("b")->text == "x\xc3\xa9\xf0\x9f\x98\x80\n");
    CHECK(!value.find("d") && !value.find("a")->find("a"));
    CHECK(!Json::parse("1e999").real() && !Json::parse("99999999999999999999").integer(0, INT64_MAX - 1));
    CHECK(whole_number("-12") == -12 && whole_number("99999999999999999999") == INT64_MAX);
    CHECK(whole_number("-99999999999999999999") == INT64_MIN && !whole_number("99999999999999999999.5"));
    CHECK(!whole_number("") && !whole_number("-") && !whole_number("1e2") && !whole_number(" 1"));
    for (const char *bad : {"",
                            " ",
                            "{",
                            "[",
                            "\"",
                            "{\"a\"}",
                            "{\"a\":}",
                            "{\"a\":1,}",
                            "[1,]",
                            "[1 2]",
                            "{1:2}",
                            "nul",
                            "tru",
                            "01",
                            "-",
                            "1.",
                            ".5",
                            "1e",
                            "+1",
                            "NaN",
                            "\"\\x\"",
                            "\"\\u12\"",
                            "\"\\ud800\"",
                            "\"\\udc00\"",
                            "\"\\u+123\"",
                            "\"\n\"",
                            "{\"a\":1,\"a\":2}",
                            "1 1",
                            "{\"a\":1}}",
                            "\xef\xbb\xbf{}"})
        CHECK(has(refusal([&] { Json::parse(bad); }), "JSON with"));
    CHECK(has(refusal([] { Json::parse(std::string(100000, '[')); }), "levels"));
    CHECK(has(refusal([] { Json::parse("[" + std::string(100000, '0') + "]"); }), "JSON"));
    std::string many = "[0";
    for (int k = 0; k < 5000; ++k) many += ",0";
    CHECK(has(refusal([&] { Json::parse(many + "]"); }), "too many values"));
    CHECK(has(refusal([] { Json::parse(std::string(Json::max_bytes + 1, ' ')); }), "megabyte"));
}

static std::string safetensors(const std::string &header, const std::string &data) {
    std::string file;
    for (size_t k = 0, size = header.size(); k < 8; ++k, size >>= 8) file += static_cast<char>(size & 255);
    return file + header + data;
}

static const std::string about =
    R"("__metadata__":{"format":"1","family":"f","weights":"w","licence":"","consent":"","name":""})";
static const std::string tensors = R"("source":{"dtype":"U8","shape":[2,2,3],"data_offsets":[0,12]},)"
                                   R"("boxes":{"dtype":"F32","shape":[2,4],"data_offsets":[12,44]},)"
                                   R"("x":{"dtype":"F16","shape":[2,3],"data_offsets":[44,56]})";

static void avatars() {
    // halves: 0, -2, 65504, the smallest subnormal, infinity, 1 + 2^-10
    const std::string halves("\x00\x00\x00\xc0\xff\x7b\x01\x00\x00\x7c\x01\x3c", 12);
    const std::string data = std::string(44, '\1') + halves,
                      good = safetensors("{" + about + "," + tensors + "}", data);
    const Avatar avatar = Avatar::parse(good, "a.avatar");
    CHECK(avatar.weights == "w" && avatar.source.shape == (std::vector<int64_t>{2, 2, 3}));
    CHECK(avatar.features.size() == 1 && avatar.features.at("x").values() == 3);
    float values[6];
    avatar.features.at("x").copy(0, values);
    avatar.features.at("x").copy(1, values + 3);
    CHECK(values[0] == 0.0f && values[1] == -2.0f && values[2] == 65504.0f);
    CHECK(values[3] == 0x1p-24f && std::isinf(values[4]) && values[5] == 1.0f + 0x1p-10f);

    const auto refused = [&](const std::string &file, const char *part) {
        const std::string text = refusal([&] { Avatar::parse(file, "a.avatar"); });
        if (!has(text, part)) std::fprintf(stderr, "got \"%s\", expected \"%s\"\n", text.c_str(), part);
        return has(text, part) && has(text, "a.avatar");
    };
    for (size_t size = 0; size < good.size(); ++size) CHECK(refused(good.substr(0, size), "truncated or no avatar"));
    CHECK(refused(good + "x", "do not fill"));
    CHECK(refused(std::string(8, '\xff') + good.substr(8), "header is not all there"));
    CHECK(refused(safetensors("[]", ""), "lacks"));
    CHECK(refused(safetensors("{" + about + "}", ""), "lacks 'source'"));
    CHECK(refused(safetensors("{" + tensors + "}", data), "lacks 'family'"));
    const auto changed = [&](const std::string &from, const std::string &to) {
        std::string header = "{" + about + "," + tensors + "}";
        header.replace(header.find(from), from.size(), to);
        return safetensors(header, data);
    };
    CHECK(refused(changed("\"format\":\"1\"", "\"format\":\"2\""), "format 2"));
    CHECK(refused(changed("\"format\":\"1\"", "\"format\":\"99999999999999999999\""), "format 99999999999999999999"));
    CHECK(refused(changed("U8", "I8"), "no avatar: its source is I8, expected U8, F16, F32; prepare it again"));
    CHECK(refused(changed("U8", "X8"), "unknown type"));
    CHECK(avatar.family == "f" && avatar.use == "any" && avatar.name.empty());
    // As edgetalk/avatar.py refuses it, in its words.
    const auto added = [&](const std::string &more, size_t size, const char *film = nullptr) {
        std::string header = "{" + about + "," + tensors + more + "}";
        if (film) header.insert(header.find("\"format\""), "\"film\":\"" + std::string(film) + "\",");
        return safetensors(header, data + std::string(size, 0));
    };
    const auto entry = [&](const char *name, const char *type, const char *shape, size_t from, size_t to) {
        return std::string(",\"") + name + R"(":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":[)" +
               std::to_string(data.size() + from) + "," + std::to_string(data.size() + to) + "]}";
    };
    CHECK(refused(added(entry("later", "I64", "[2]", 0, 16), 16), "its later is I64, expected U8, F16, F32; prepare"));
    CHECK(refused(added(entry("later", "F16", "[3,1]", 0, 6), 6), "no avatar: it has 2 and 3 frames"));
    CHECK(Avatar::parse(added(entry("later", "F16", "[2]", 0, 4), 4), "a.avatar").features.at("later").values() == 1);
    CHECK(refused(changed("\"shape\":[2,4]", "\"shape\":[8]"), "no avatar: its boxes have shape (8,)"));
    CHECK(refused(changed("\"shape\":[2,4]", "\"shape\":[4,2]"), "no avatar: its boxes have shape (4, 2)"));
    CHECK(refused(changed("\"shape\":[2,4]", "\"shape\":[1,2,4]"), "no avatar: its boxes have shape (1, 2, 4)"));
    CHECK(refused(changed("\"licence\":\"\"", "\"licence\":7"), "truncated or no avatar (a value of its __metadata__"));
    CHECK(refused(changed("\"licence\":\"\"", "\"licence\":\"\",\"use\":null"), "a value of its __metadata__"));
    CHECK(refused(safetensors("{\"__metadata__\":[]," + tensors + "}", data), "__metadata__ is no object"));
    const std::string target = entry("target", "U8", "[2,1,1,3]", 0, 6);
    const std::string matrices = entry("matrices", "F32", "[2,2,3]", 6, 54);
    const std::string at = entry("at", "F32", "[2]", 54, 62), identity = entry("identity", "F32", "[1,2]", 62, 70);
    const std::string whole = added(target + matrices + at + identity, 70, "64x48 30000/1001");
    CHECK(Avatar::parse(whole, "a.avatar").features.size() == 1);
    CHECK(refused(added("", 0, "64x48 25"), "no avatar: it lacks 'target'"));
    CHECK(refused(added(target + matrices + at, 62, "64x48 25"), "no avatar: it lacks 'identity'"));
    for (const char *film : {"", "64x48", "x48 25", "64x 25", "64x48 0", "64x48 25/", "64x48 25/0", "64x48 25 "})
        CHECK(refused(added(target + matrices + at + identity, 70, film), "no avatar: it lacks 'film'"));
    const std::string flat = entry("identity", "F32", "[2]", 62, 70), twice = entry("at", "F32", "[1]", 54, 58);
    CHECK(refused(added(target + matrices + at + flat, 70, "64x48 25"), "no avatar: its identity has shape (2,)"));
    CHECK(refused(added(target + matrices + twice + entry("identity", "F32", "[1,3]", 58, 70), 70, "64x48 25"),
                  "no avatar: it has 1 and 2 frames"));
    CHECK(refused(changed("[2,2,3]", "[2,6,1]"), "no avatar: its picture is uint8 (2, 6, 1)"));
    CHECK(refused(changed("[2,2,3]", "[12]"), "no avatar: its picture is uint8 (12,)"));
    CHECK(refused(changed("[2,2,3]", "[]"), "dimensions"));
    CHECK(refused(changed("[2,2,3]", "[2,2,-3]"), "larger than the file"));
    CHECK(refused(changed("[2,2,3]", "[4294967296,4294967296,3]"), "larger than the file"));
    CHECK(refused(changed("[2,2,3]", "[2,2,0]"), "larger than the file"));
    CHECK(refused(changed("[2,2,3]", "[2,2,3.0]"), "larger than the file"));
    CHECK(refused(changed("[0,12]", "[0,13]"), "place does not fit"));
    CHECK(refused(changed("[0,12]", "[-1,11]"), "place does not fit"));
    CHECK(refused(changed("[0,12]", "[12,0]"), "place does not fit"));
    CHECK(refused(changed("[0,12]", "[0]"), "lacks dtype"));
    CHECK(refused(changed("[0,12]", "[4,16]"), "overlap"));
    CHECK(refused(changed("[44,56]", "[0,12]"), "overlap"));
    CHECK(refused(changed("\"x\"", "\"source\""), "twice"));

    std::srand(1);
    for (int round = 0; round < 2000; ++round) {  // damage of any kind: refused or read, never followed outside
        std::string file = good;
        for (int k = 0; k < 3; ++k)
            file[static_cast<size_t>(std::rand()) % file.size()] = static_cast<char>(std::rand());
        refusal([&] {
            const Avatar read = Avatar::parse(file, "a.avatar");
            for (const auto &[name, tensor] : read.features) {
                std::vector<double> room(static_cast<size_t>(tensor.values()));  // no type is larger
                tensor.copy(tensor.shape[0] - 1, room.data());
            }
        });
    }
}

static const std::string text =
    R"({"format":1,"family":"amnet","fps":"30000/1001","audio":{"n_fft":800,"hop":200,"offset":-23.4},"precision":"int8",)"
    R"("source":"abc","units":{"pose":"deg"}})";

static void metadata() {
    const Metadata read = Metadata::parse(text, "m.xml");
    CHECK(read.fps.num == 30000 && read.fps.den == 1001 && read.precision == "int8" && read.source == "abc");
    CHECK(read.audio->n_mels == 80 && read.audio->offset == -23.4);
    CHECK(!read.pose_in_radians && read.blink_is_share && read.use == "any");
    const auto with = [](const char *from, const char *to) {
        std::string changed = text;
        changed.replace(changed.find(from), std::strlen(from), to);
        return refusal([&] { Metadata::parse(changed, "m.xml"); });
    };
    CHECK(with("800", "400").empty() && with("-23.4", "0").empty() && with("-23.4", "1e1").empty());
    CHECK(with("-23.4", "-23.40000000000001").empty() && with("-23.4", "1e-30").empty());
    CHECK(with("\"n_fft\":800", "\"kind\":\"mfcc\",\"n_mfcc\":1").empty());
    CHECK(with("\"precision\"", "\"persons\":[\"ada\"],\"precision\"").empty());
    CHECK(with("\"precision\"", R"("limits":{"pose":[0.1,0.2,0]},"precision")").empty());
    CHECK(floor_of_product(-23.4, 10) == -234 && floor_of_product(-23.400000000000002, 10) == -235);
    CHECK(floor_of_product(-23.4, 3) == -71 && floor_of_product(23.4, 3) == 70 && floor_of_product(1000, 7) == 7000);
    CHECK(floor_of_product(0, 9) == 0 && floor_of_product(1e-300, 9) == 0 && floor_of_product(-5e-324, 9) == -1);
    CHECK(floor_of_product(-4095.9999999999995, int64_t(1) << 42) == -18014398509481982);
    CHECK(has(with("\"format\":1", "\"format\":2"), "format 2"));
    CHECK(has(with("\"format\":1", "\"format\":99999999999999999999"), "format 99999999999999999999"));
    CHECK(has(refusal([] { Metadata::parse("", "m.xml"); }), "no edgetalk metadata"));
    for (const auto &[from, to] : std::vector<std::pair<const char *, const char *>>{{"\"format\":1,", ""},
                                                                                     {"1", "\"1\""},
                                                                                     {"\"amnet\"", "3"},
                                                                                     {"\"family\"", "\"other\""},
                                                                                     {"30000/1001", "0"},
                                                                                     {"30000/1001", "25/0"},
                                                                                     {"30000/1001", "-25"},
                                                                                     {"30000/1001", "nan"},
                                                                                     {"30000/1001", "1e9"},
                                                                                     {"30000/1001", "300000"},
                                                                                     {"30000/1001", "25/1/1"},
                                                                                     {"800", "1"},
                                                                                     {"800", "1e9"},
                                                                                     {"800", "100"},
                                                                                     {"800", "\"800\""},
                                                                                     {"200", "0"},
                                                                                     {"n_fft", "bins"},
                                                                                     {"-23.4", "1e99"},
                                                                                     {"-23.4", "-99999"},
                                                                                     {"-23.4", "null"},
                                                                                     {"\"deg\"", "5"},
                                                                                     {"{\"format\"", "[{\"format\""},
                                                                                     {"}}", "}"}})
        CHECK(has(with(from, to), "damaged"));
    for (const char *front_end : {R"("kind":"foo")", R"("kind":3)", R"("kind":"mfcc")", R"("kind":"mfcc","n_mfcc":0)"})
        CHECK(has(with("\"n_fft\":800", front_end), "damaged"));
    for (const char *field :
         {R"("persons":"a",)", R"("persons":[3],)", R"("role":1,)", R"("limits":[],)", R"("gate":"",)",
          R"("limits":{"pose":"abc"},)", R"("limits":{"pose":[0.1,0.2]},)",
          R"("limits":{"pose":[0.1,0.2,"0.3"]},)", R"("limits":{"pose":[0.1,0.2,-0.3]},)"})
        CHECK(has(with("\"precision\"", (field + std::string("\"precision\"")).c_str()), "damaged"));
    CHECK(frame_rate("29.97")->num == 2997 && frame_rate("29.97")->den == 100 && frame_rate("25.0")->num == 25);
    CHECK(!frame_rate("1.5e-9223372036854775808") && !frame_rate("1.5e9223372036854775807"));  // the exponent's ends
    CHECK(!frame_rate("") && !frame_rate("/") && !frame_rate("0.5") && !frame_rate("241") && frame_rate("2.4e2"));

    const std::string xml =
        "<?xml version=\"1.0\"?><net name=\"a\"><rt_info><framework><edgetalk value=\"{&quot;a&quot;: "
        "&quot;b&apos;s &lt;&amp;&gt;&quot;}\" /></framework></rt_info></net>";
    CHECK(ir_metadata(" \n" + xml + "\n", "m.xml") == "{\"a\": \"b's <&>\"}");
    CHECK(ir_metadata("<net></net>", "m.xml").empty());
    for (size_t size = 0; size < xml.size(); ++size)
        CHECK(!refusal([&] { ir_metadata(xml.substr(0, size), "m.xml"); }).empty());

    // ModelProto: ir_version (1) = 8, graph (7) of two bytes, metadata_props (14) of key (1) and value (2)
    const std::string onnx(
        "\x08\x08\x3a\x02\x08\x01\x72\x0f\x0a\x08"
        "edgetalk"
        "\x12\x03{1}",
        23);
    CHECK(onnx_metadata(onnx, "m.onnx") == "{1}");
    CHECK(onnx_metadata(onnx.substr(0, 6), "m.onnx").empty());
    CHECK(has(refusal([] { onnx_metadata("", "m.onnx"); }), "is empty"));
    CHECK(has(refusal([&] { onnx_metadata(onnx.substr(0, 22), "m.onnx"); }), "truncated at 22"));
    CHECK(has(refusal([&] { onnx_metadata(onnx.substr(0, 3), "m.onnx"); }), "truncated at 3"));
    CHECK(has(refusal([&] { onnx_metadata(onnx.substr(0, 2), "m.onnx"); }), "no ONNX"));
    CHECK(has(refusal([] { onnx_metadata("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "m.onnx"); }), "no ONNX"));
    CHECK(has(refusal([] { onnx_metadata("not a model", "m.onnx"); }), "m.onnx"));
}

static void fourier() {
    for (const size_t n : {1u, 2u, 3u, 8u, 13u, 30u, 97u, 400u, 800u, 1024u}) {
        std::vector<Fourier::Complex> in(n), out(n);
        for (size_t k = 0; k < n; ++k) in[k] = {std::sin(1.0 + 3.7 * double(k * k)), std::cos(2.0 * double(k))};
        Fourier(n).transform(in.data(), out.data());
        double worst = 0;
        for (size_t k = 0; k < n; ++k) {
            Fourier::Complex sum = 0;
            for (size_t j = 0; j < n; ++j) sum += in[j] * std::polar(1.0, -2.0 * M_PI * double(j * k % n) / double(n));
            worst = std::max(worst, std::abs(sum - out[k]));
        }
        CHECK(worst < 1e-12 * double(n));
    }
}

static std::vector<float> noise(size_t count) {
    std::vector<float> pcm(count);
    uint32_t state = 1;
    for (float &sample : pcm) sample = float((state = state * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
    return pcm;
}

static void windows() {
    const AudioSpec spec;
    const std::vector<float> pcm = noise(16000);
    std::vector<float> whole, cut;
    MelStream one(spec), other(spec);
    one.push(pcm.data(), pcm.size(), whole);
    one.flush(whole);
    CHECK(whole.size() == 81 * 80);
    for (size_t at = 0, step = 1; at < pcm.size(); at += step, step = step * 5 % 997 + 1)
        other.push(pcm.data() + at, std::min(step, pcm.size() - at), cut);
    other.flush(cut);
    CHECK(whole == cut);

    // At 25 frames per second a frame has 3.2 mel frames, and the window of 32 starts 23.4 before it. That of frame 0
    // starts at mel frame -24 and ends with number 7, which hears 400 samples beyond sample 7 * 200. That of frame 3
    // starts at floor(9.6 - 23.4) = -14 and ends with number 17, complete after 3800 samples.
    WindowStream stream(spec, Rate{25, 1});
    stream.push(pcm.data(), 1799);
    CHECK(!stream.window());
    stream.push(pcm.data() + 1799, 1);
    CHECK(stream.window() && stream.window()[0] == silence && stream.window()[24 * 80 - 1] == silence);
    CHECK(!std::memcmp(stream.window() + 24 * 80, whole.data(), 8 * 80 * sizeof(float)));
    for (int k = 0; k < 3; ++k) stream.advance();
    CHECK(!stream.window());
    stream.push(pcm.data() + 1800, 1999);
    CHECK(!stream.window());
    stream.push(pcm.data() + 3799, 1);
    CHECK(stream.window() && !std::memcmp(stream.window() + 14 * 80, whole.data(), 18 * 80 * sizeof(float)));
    stream.push(pcm.data() + 3800, 12200);
    stream.finish();
    int frames = 3;
    for (; stream.window(); stream.advance()) ++frames;
    CHECK(frames == 25 && stream.ended());

    WindowStream empty(spec, Rate{25, 1});
    CHECK(!empty.ended());
    empty.finish();
    CHECK(empty.ended() && !empty.window());
    WindowStream tiny(spec, Rate{25, 1});
    tiny.push(pcm.data(), 1);
    tiny.finish();
    CHECK(tiny.window() && tiny.window()[31 * 80] == silence);
    tiny.advance();
    CHECK(tiny.ended());

    // What ran out of memory has changed nothing and can be called again.
    int failed = 0;
    for (const size_t length : {1u, 1000u, 3000u, 16000u}) {
        WindowStream fed(spec, Rate{25, 1}), hungry(spec, Rate{25, 1});
        const std::vector<std::function<void(WindowStream &)>> calls = {
            [&](WindowStream &to) { to.push(pcm.data(), length / 3); },
            [&](WindowStream &to) { to.push(pcm.data() + length / 3, length - length / 3); },
            [&](WindowStream &to) { to.finish(); },
        };
        for (const auto &call : calls) {
            call(fed);
            for (int pieces = 0; starved(pieces, [&] { call(hungry); }); ++pieces) {
                ++failed;
                CHECK(!hungry.finished());
                CHECK(pieces < 9);
            }
        }
        for (; fed.window() && hungry.window(); fed.advance(), hungry.advance())
            CHECK(!std::memcmp(fed.window(), hungry.window(), 32 * 80 * sizeof(float)));
        CHECK(fed.ended() && hungry.ended());
    }
    CHECK(failed > 12);
}

static void motion() {
    static const struct {
        int64_t seed;
        Rate fps;
        int64_t frame;
        float pose[3], lid;
    } golden[] = {
        // what edgetalk.motion.Idle(seed, fps).pose_blink(frame) answers
        {0, {25, 1}, 0, {-0x1.97c5d2p-5f, -0x1.681bdcp-9f, 0x1.2a914ep-6f}, 0},
        {7, {30000, 1001}, 12345, {0x1.883fb6p-5f, -0x1.0687b2p-5f, 0x1.39a242p-6f}, 0},
        {-3, {25, 1}, 100, {0x1.601ba8p-4f, -0x1.00838p-7f, 0x1.b30042p-8f}, 0},
        {(int64_t(1) << 40) + 5, {60, 1}, 10000000, {0x1.f181acp-9f, 0x1.6e38e8p-6f, 0x1.7f3662p-6f}, 0},
    };
    float pose[3], blink[2];
    for (const auto &want : golden) {
        idle(want.seed, want.fps, want.frame, pose, blink);
        CHECK(!std::memcmp(pose, want.pose, sizeof pose));
        CHECK(blink[0] == want.lid && blink[1] == want.lid);
    }
    static const float lids[] = {0, 0x1.c9964ep-3f, 0x1.fd2110p-1f, 1, 0x1.8fb448p-1f, 0x1.d5ec90p-4f, 0};
    for (int64_t k = 0; k < 7; ++k) {
        idle(0, Rate{25, 1}, 57 + k, pose, blink);
        CHECK(blink[0] == lids[k] && blink[1] == lids[k]);
    }
}

static void clocks() {
    const Rate ntsc = {30000, 1001}, film = {25, 1};
    CHECK(frame_at(1601599, ntsc) == 2999 && frame_at(1601600, ntsc) == 3000);
    CHECK(frame_at(1000000000000000, ntsc) == 1873126873126);
    CHECK(frame_at(int64_t(1) << 62, Rate{240, 1}) == 69175290276410818);
    CHECK(frame_count(0, film) == 0 && frame_count(1, film) == 1 && frame_count(640, film) == 1);
    CHECK(frame_count(641, film) == 2 && frame_count(1280, film) == 2);
    CHECK(floor_div(-7, 2) == -4 && floor_div(7, 2) == 3 && floor_div(-8, 2) == -4);
}

int main() {
    files();
    json();
    avatars();
    metadata();
    fourier();
    windows();
    motion();
    clocks();
    return failures != 0;
}
