// The C interface: checks what the caller passes, as edgetalk/session.py does, and lets no exception out.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <unistd.h>
#include <vector>

#include "avatar.h"
#include "edgetalk.h"
#include "error.h"
#include "file.h"
#include "mel.h"
#include "metadata.h"
#include "motion.h"
#include "openvino.h"
#include "plan.h"
#ifdef EDGETALK_TENSORRT
#include "tensorrt.h"
#endif

#ifndef EDGETALK_VERSION
#error "CMakeLists.txt defines EDGETALK_VERSION"
#endif

using namespace et;

namespace {

constexpr float MAX_PEAK = 16;  // 24 dB over full scale: floats that are integers, never divided
constexpr size_t MAX_COUNT = size_t(1) << 31;  // samples at once, 37 hours

thread_local char last_error[1024] = "";  // no allocation, so that it can also say: out of memory

// Bytes of the character that `text` begins with in UTF-8; 0 where it is none or one that controls a terminal.
size_t character(const char *text) {
    const auto byte = [text](size_t k) { return static_cast<unsigned char>(text[k]); };
    const unsigned first = byte(0);
    if (first < 0x80) return first >= ' ' && first != 0x7F;
    const size_t size = first < 0xC2 || first > 0xF4 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    for (size_t k = 1; k < size; ++k)
        if (byte(k) >> 6 != 2) return 0;
    const bool out = (first == 0xC2 && byte(1) < 0xA0) || (first == 0xE0 && byte(1) < 0xA0) ||  // a control; too long
                     (first == 0xED && byte(1) > 0x9F) ||                                        // half a character
                     (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F);
    return out ? 0 : size;
}

// Keeps the text as one line of UTF-8, for paths and files of models that it quotes may hold anything.
et_status failed(et_status status, const char *text) {
    size_t at = 0;
    while (*text) {
        const size_t size = character(text), taken = std::max<size_t>(size, 1);
        if (at + taken >= sizeof last_error) break;
        std::memcpy(last_error + at, size ? text : "?", taken);
        at += taken, text += taken;
    }
    last_error[at] = '\0';
    return status;
}

// The text as one line of UTF-8, as above.
std::string one_line(const std::string &text) {
    std::string line;
    for (size_t at = 0; at < text.size();) {
        const size_t size = character(text.c_str() + at), taken = std::max<size_t>(size, 1);
        line += size ? text.substr(at, size) : "?";
        at += taken;
    }
    return line;
}

template <class Body>
et_status guarded(Body body) noexcept {
    try {
        return body();
    } catch (const Error &error) {
        return failed(error.status, error.what());
    } catch (const std::bad_alloc &) {
        return failed(ET_ERROR_MEMORY, "out of memory");
    } catch (const std::exception &error) {
        return failed(ET_ERROR_INTERNAL, error.what());
    } catch (...) {
        return failed(ET_ERROR_INTERNAL, "an unknown exception; please report it");
    }
}

void need(const void *pointer, const char *name) {
    if (!pointer) fail_input(std::string(name) + ": got NULL, expected a pointer to it; see edgetalk.h");
}

std::string number_text(double value) {
    char text[32];  // to_chars, for printf would heed the locale's decimal point
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6).ptr;
    return std::string(text, end);
}

// The caller's options, as far as both sides know them.
et_options known(const et_options *given) {
    et_options options = {};
    if (!given) return options;
    const size_t size = given->struct_size;
    if (size < offsetof(et_options, threads))
        fail_input("options.struct_size: got " + std::to_string(size) + ", expected sizeof(et_options)");
    const char *bytes = reinterpret_cast<const char *>(given);
    for (size_t k = sizeof options; k < size; ++k)
        if (bytes[k])
            fail_input("options: has fields that libedgetalk " EDGETALK_VERSION " does not know; install a newer one");
    std::memcpy(&options, given, std::min(size, sizeof options));
    return options;
}

// 0, 1, ... frames - 1, frames - 2, ... 1, 0, 1, ...
int64_t ping_pong(int64_t step, int64_t frames) {
    if (frames == 1) return 0;
    const int64_t at = step % (2 * frames - 2);
    return std::min(at, 2 * frames - 2 - at);
}

bool is_plan(const std::string &path) { return suffix_of(path) == ".plan"; }

Metadata read_metadata(const std::string &path) {
    const std::string suffix = suffix_of(path), name = name_of(path);
    if (suffix != ".xml" && suffix != ".onnx" && suffix != ".plan")
        fail_model((path.empty() ? "an empty path" : name.empty() ? path : name) +
                   " is no engine that edgetalk knows by its suffix; expected .xml, .onnx or .plan" +
                   (suffix.empty() ? ", and its path: bare names are Python's" : ""));
    const File file(path);
    if (is_plan(path)) return Plan::parse(file.bytes(), name).metadata;
    const std::string text = suffix == ".xml" ? ir_metadata(file.bytes(), name) : onnx_metadata(file.bytes(), name);
    const std::string weights = name_of(with_suffix(path, ".bin"));
    if (suffix == ".xml" && !is_file(with_suffix(path, ".bin")))
        fail_model(name + " has no " + weights + " beside it; copy both files of the model");
    return Metadata::parse(text, name);
}

std::unique_ptr<Engine> open_engine(const std::string &path, const Metadata &metadata, const et_options &options) {
    Engine::Options made;
    if (options.device) made.device = options.device;
    if (options.threads < 0)
        fail_input("options.threads: got " + std::to_string(options.threads) +
                   ", expected at least 1, or 0 for OpenVINO's choice");
    made.threads = options.threads;
    const char *library = is_plan(path) ? options.tensorrt : options.openvino;
    if (library) made.library = library;
    if (!is_plan(path)) return open_openvino(path, metadata, made);
#ifdef EDGETALK_TENSORRT
    return open_tensorrt(path, Plan::parse(File(path).bytes(), name_of(path)), made);
#else
    fail_backend(name_of(path) +
                 " needs TensorRT, for which this libedgetalk was not built; build it with "
                 "-DEDGETALK_TENSORRT_INCLUDE=FOLDER of NvInferRuntime.h, or use the .xml or .onnx of the model");
#endif
}

Rate rate_of(const et_options &options, Rate trained) {
    if (!options.fps_num && !options.fps_den) return trained;
    const int64_t num = options.fps_num, den = options.fps_den;
    if (const auto rate = frame_rate(num, den)) return *rate;
    const bool large = num >= den && den > 0 && num <= max_fps * den;  // else it is out of range
    fail_input("options.fps: got " + std::to_string(num) + "/" + std::to_string(den) +
               (large ? ", expected a fraction of numbers up to " + std::to_string(largest_rate) +
                            "; write it as 30000/1001"
                      : ", expected a rate from 1/1 to 240/1; write it as 25/1 or as 30000/1001"));
}

// The command that prepares an avatar for an engine: AMNet's poses move a picture, others need a film.
std::string avatar_command(const std::string &engine, const Metadata &metadata) {
    return "edgetalk avatar " + word(engine) +
           (metadata.family == "amnet" ? " PICTURE" : " --video FILM --portrait PICTURE");
}

[[noreturn]] void fail_no_step(const std::string &name) {
    fail_model(name + " is no step that makes frame from mel; open the engine whose name has no -source or -identity");
}

// Said of a face that the network has not learnt, in the words of edgetalk/session.py; "" where nothing is.
std::string warning_of(const std::string &name, const std::vector<std::string> &persons, const std::string &person) {
    if (persons.empty() || std::find(persons.begin(), persons.end(), person) != persons.end()) return "";
    std::string list;
    for (const std::string &one : persons) list += (list.empty() ? "" : ", ") + one;
    return one_line(name + " was trained on " + list + " alone: this face is none of them and will not look right");
}

void check_commercial(const std::string &name, const std::string &use, const std::string &licence) {
    if (use != "any")
        fail_model(name + " is for " + use + " use (licence: " + (licence.empty() ? "not stated" : licence) +
                   "), and commercial use was asked for; take one without that limit");
}

bool is_idle(const et_options &options) {
    const std::string motion = options.motion ? options.motion : "idle";
    if (motion != "idle" && motion != "still")
        fail_input("options.motion: got \"" + motion + "\", expected \"idle\" or \"still\"");
    return motion == "idle";
}

bool is_commercial(const et_options &options) {
    const std::string use = options.use ? options.use : "any";
    if (use != "any" && use != "commercial")
        fail_input("options.use: got \"" + use + "\", expected \"any\" or \"commercial\"");
    return use == "commercial";
}

}  // namespace

struct et_session {
    et_session(const std::string &path, const std::string &avatar_path, const et_options &options);

    void step(const float *mel, const float *pose, const float *blink, uint8_t *frame);
    WindowStream &sound();
    WindowStream &sound_for(const void *pcm, size_t count);
    void move(float *pose, float *blink);

    const pid_t owner = getpid();
    std::string name;
    Metadata metadata;
    Rate fps;
    bool moves;  // idle; else still
    int64_t seed;
    File file;
    Avatar avatar;
    std::string warning;
    std::unique_ptr<Engine> engine;
    const Port *frame_out, *landmarks_out = nullptr;
    Port *mel_in, *pose_in = nullptr, *blink_in = nullptr;
    std::vector<std::pair<Port *, const Tensor *>> features;
    int64_t frames = 1;  // of the avatar
    int64_t steps = 0;   // the avatar's frame that the next step shows, counted on
    bool fed = false, stepped = false;
    float landmarks[106 * 2];  // of the last frame; the engine's own may be of a later one that failed
    std::optional<WindowStream> stream;

  private:
    Port *input(const char *key, int64_t values);
    void bind_frame();
    void bind_avatar(const std::string &label);
    void check(const Port *port, const char *key, const float *values, bool ranged, float low, float high) const;
};

et_session::et_session(const std::string &path, const std::string &avatar_path, const et_options &options)
    : name(name_of(path)),
      metadata(read_metadata(path)),
      fps(rate_of(options, metadata.fps)),
      moves(is_idle(options)),
      seed(options.seed),
      file(avatar_path),
      avatar(Avatar::parse(file.bytes(), name_of(avatar_path))),
      warning(warning_of(name, metadata.persons, avatar.name)) {
    const std::string label = name_of(avatar_path);
    if (is_commercial(options)) {
        check_commercial(name, metadata.use, metadata.licence);
        check_commercial(label, avatar.use, avatar.licence);
    }
    engine = open_engine(path, metadata, options);  // which takes a while: what is refused is refused before
    bind_frame();
    bind_avatar(label);
}

Port *et_session::input(const char *key, int64_t values) {
    const auto found = engine->inputs.find(key);
    if (found == engine->inputs.end()) return nullptr;
    Port &port = found->second;
    if (port.type != Port::f32 || port.shape.empty() || port.shape[0] != 1 ||
        (values && port.shape != std::vector<int64_t>{1, values}))
        fail_model(name + " takes " + key + " of shape " + shape_text(port.shape) +
                   ", which this libedgetalk cannot feed; export the model again");
    return &port;
}

void et_session::bind_frame() {
    const auto frame = engine->outputs.find("frame");
    mel_in = input("mel", 0);
    if (!mel_in || frame == engine->outputs.end())
        fail_no_step(name);
    pose_in = input("pose", 3);
    blink_in = input("blink", 2);
    if (!pose_in && !moves)
        fail_input("options.motion: got \"still\", and " + name +
                   " takes no pose, its head moves as in the avatar's film; leave it out");
    frame_out = &frame->second;
    const auto &shape = frame_out->shape;
    if (frame_out->type != Port::u8 || shape.size() != 4 || shape[0] != 1 || shape[3] != 3)
        fail_model(name + " makes frame of shape " + shape_text(shape) +
                   ", expected uint8 (1, H, W, 3); export the model again");
    if (mel_in->shape.size() != 3)
        fail_model(name + " takes mel of shape " + shape_text(mel_in->shape) +
                   ", expected (1, T, F); export the model again");
    if (const auto marks = engine->outputs.find("landmarks"); marks != engine->outputs.end())
        if (marks->second.type == Port::f32 && marks->second.bytes == sizeof landmarks)
            landmarks_out = &marks->second;
}

void et_session::bind_avatar(const std::string &label) {
    const bool whole = engine->inputs.count("source") > 0;  // the graph takes the picture itself
    if (engine->inputs.count("target"))
        fail_model(name +
                   " takes the pictures of a film, of which this libedgetalk feeds prepared ones alone; "
                   "export it without --whole");
    if (avatar.family != metadata.family)
        fail_model(label + " is of " + avatar.family + " and " + name + " is " + metadata.family +
                   "; prepare one for it: " + avatar_command(name, metadata));
    if (!whole && avatar.weights != metadata.source)
        fail_model(label + " was prepared with other weights than those of " + name +
                   "; take the avatar of this model, or prepare this one for it: edgetalk avatar " + word(name) + " " +
                   word(label) + " -o NEW.avatar");
    avatar.source.shape.insert(avatar.source.shape.begin(), 1);
    avatar.features.emplace("source", avatar.source);
    for (auto &[key, port] : engine->inputs) {
        if (&port == mel_in || &port == pose_in || &port == blink_in) continue;
        const auto found = avatar.features.find(key);
        const Tensor *tensor = found == avatar.features.end() ? nullptr : &found->second;
        const bool alike = tensor && !port.shape.empty() && port.shape[0] == 1 &&
                           tensor->shape.size() == port.shape.size() &&
                           std::equal(port.shape.begin() + 1, port.shape.end(), tensor->shape.begin() + 1);
        if (!alike || port.type != (tensor->type == Tensor::u8 ? Port::u8 : Port::f32))
            fail_model(name + " takes " + key + " " + shape_text(port.shape, 1) + " and the avatar has " +
                       (tensor ? key + " " + shape_text(tensor->shape, 1) : "no " + key) +
                       (alike ? " of another type" : "") + "; prepare it again: edgetalk avatar");
        features.emplace_back(&port, tensor);
        frames = std::max(frames, tensor->shape[0]);
    }
    for (const auto &[port, tensor] : features)
        if (tensor->shape[0] != 1 && tensor->shape[0] != frames)
            fail_model(label + " has features of " + std::to_string(tensor->shape[0]) + " and of " +
                       std::to_string(frames) + " frames; prepare it again: edgetalk avatar");
}

void et_session::check(const Port *port, const char *key, const float *values, bool ranged, float low,
                       float high) const {
    if (!port != !values)
        fail_input(std::string(key) + ": got " + (values ? "one, " : "NULL, ") + name + " takes " +
                   (port ? "one" : "none; pass NULL"));
    if (!port) return;
    const size_t count = port->bytes / sizeof(float);
    for (size_t k = 0; k < count; ++k) {
        if (!std::isfinite(values[k]))
            fail_input(std::string(key) + ": got " + number_text(values[k]) + " as value " + std::to_string(k) +
                       ", expected finite numbers; look at what computed it");
        if (ranged && !(low <= values[k] && values[k] <= high))
            fail_input(std::string(key) + ": got " + number_text(values[k]) + " as value " + std::to_string(k) +
                       ", expected " + number_text(low) + " to " + number_text(high));
    }
}

void et_session::step(const float *mel, const float *pose, const float *blink, uint8_t *frame) {
    constexpr float pi = 3.14159274f;  // what float32 makes of it is a little more than pi
    check(mel_in, "mel", mel, false, 0, 0);
    check(pose_in, "pose", pose, metadata.pose_in_radians, -pi, pi);
    check(blink_in, "blink", blink, metadata.blink_is_share, 0, 1);
    for (const auto &[port, values] : {std::pair(mel_in, mel), std::pair(pose_in, pose), std::pair(blink_in, blink)})
        if (port) std::memcpy(port->data, values, port->bytes), port->fresh = true;
    if (frames > 1 || !fed) {
        const int64_t k = ping_pong(steps, frames);
        for (const auto &[port, tensor] : features)
            tensor->copy(std::min(k, tensor->shape[0] - 1), port->data), port->fresh = true;
    }
    engine->run();
    fed = stepped = true;
    ++steps;
    std::memcpy(frame, frame_out->data, frame_out->bytes);
    if (landmarks_out) std::memcpy(landmarks, landmarks_out->data, sizeof landmarks);
}

WindowStream &et_session::sound() {
    if (stream) return *stream;
    if (!metadata.audio) fail_model(name + " does not say how it hears; export it again, or call et_step");
    const AudioSpec &spec = *metadata.audio;
    if (spec.kind != "logmel")
        fail_input("audio front end \"" + spec.kind +
                   "\" needs the whole sound; use the Python package, or call et_step");
    if (spec.sample_rate != et::sample_rate)
        fail_input(name + " hears at " + std::to_string(spec.sample_rate) + " Hz, expected 16000; call et_step");
    if (mel_in->shape[1] != spec.window || mel_in->shape[2] != spec.n_mels)
        fail_model(name + " takes mel " + shape_text(mel_in->shape, 1) + " and its metadata says (" +
                   std::to_string(spec.window) + ", " + std::to_string(spec.n_mels) + "); export it again");
    return stream.emplace(spec, fps);
}

// Where more of it may be pushed.
WindowStream &et_session::sound_for(const void *pcm, size_t count) {
    if (count > MAX_COUNT)
        fail_input("count: got " + std::to_string(count) + ", expected at most " + std::to_string(MAX_COUNT) +
                   " samples; was an error code passed as a count?");
    if (count) need(pcm, "pcm");
    if (sound().finished()) fail_input("pcm: got sound after et_finish; call et_reset to start another");
    return *stream;
}

void et_session::move(float *pose, float *blink) {
    // The avatar's frames follow each other at the network's rate: this is the one at the middle of the frame's time.
    const Rate own = metadata.fps;
    steps = floor_div((2 * Wide(stream->frame()) + 1) * own.num * fps.den, 2 * Wide(own.den) * fps.num);
    std::fill(pose, pose + 3, 0.0f);
    std::fill(blink, blink + 2, 0.0f);
    if (moves) idle(seed, fps, stream->frame(), pose, blink);
}

namespace {
// Of a session that another process opened nothing can be used: its engine's threads are not in this one.
void need_own(const et_session *session) {
    need(session, "session");
    if (session->owner != getpid())
        fail_backend(session->name + " was opened before this process was forked; open it in the process that uses it");
}
}  // namespace

extern "C" {

const char *et_version(void) { return EDGETALK_VERSION; }

const char *et_last_error(void) { return last_error; }

et_status et_open(const char *engine, const char *avatar, const et_options *options, et_session **session) {
    return guarded([&] {
        need(session, "session");
        *session = nullptr;
        need(engine, "engine");
        const std::string path = engine, beside = with_suffix(path, ".avatar");
        if (!avatar && is_file(path) && !is_file(beside)) {
            const Metadata metadata = read_metadata(path);
            if (metadata.role == "source" || metadata.role == "identity") fail_no_step(name_of(path));
            fail_model(name_of(path) + " has no " + name_of(beside) + " beside it; pass avatar, or prepare one: " +
                       avatar_command(name_of(path), metadata) + " -o " + word(name_of(beside)));
        }
        *session = std::make_unique<et_session>(path, avatar ? avatar : beside, known(options)).release();
        return ET_OK;
    });
}

et_status et_get_info(const et_session *session, et_info *info) {
    return guarded([&] {
        need_own(session);
        need(info, "info");
        et_info all = {};
        const size_t size = info->struct_size;
        if (size < sizeof size)
            fail_input("info.struct_size: got " + std::to_string(size) + ", expected sizeof(et_info)");
        const auto small = [](int64_t value) { return static_cast<int32_t>(value); };
        all.struct_size = size;
        all.width = small(session->frame_out->shape[2]);
        all.height = small(session->frame_out->shape[1]);
        all.frame_bytes = session->frame_out->bytes;
        all.mel_frames = small(session->mel_in->shape[1]);
        all.mel_features = small(session->mel_in->shape[2]);
        all.takes_pose = session->pose_in != nullptr;
        all.takes_blink = session->blink_in != nullptr;
        all.gives_landmarks = session->landmarks_out != nullptr;
        all.fps_num = session->fps.num;
        all.fps_den = session->fps.den;
        all.metadata = session->metadata.text.c_str();
        all.device = session->engine->device.c_str();
        all.warning = session->warning.c_str();
        std::memcpy(info, &all, std::min(size, sizeof all));
        return ET_OK;
    });
}

et_status et_step(et_session *session, const float *mel, const float *pose, const float *blink, uint8_t *frame) {
    return guarded([&] {
        need_own(session);
        need(frame, "frame");
        session->step(mel, pose, blink, frame);
        return ET_OK;
    });
}

et_status et_get_landmarks(const et_session *session, float *landmarks) {
    return guarded([&] {
        need_own(session);
        need(landmarks, "landmarks");
        if (!session->landmarks_out) fail_input("landmarks: " + session->name + " makes none");
        if (!session->stepped) fail_input("landmarks: there are none before the first frame; call et_step or et_next");
        std::memcpy(landmarks, session->landmarks, sizeof session->landmarks);
        return ET_OK;
    });
}

et_status et_push(et_session *session, const float *pcm, size_t count) {
    return guarded([&] {
        need_own(session);
        WindowStream &sound = session->sound_for(pcm, count);
        float peak = 0;
        for (size_t k = 0; k < count; ++k) {
            if (!std::isfinite(pcm[k]))
                fail_input("pcm: got NaN or infinite samples, expected -1 to 1; look at what recorded it");
            peak = std::max(peak, std::fabs(pcm[k]));
        }
        if (peak > MAX_PEAK)
            fail_input("pcm: got samples up to " + number_text(peak) + ", expected -1 to 1; divide them by full scale");
        sound.push(pcm, count);
        return ET_OK;
    });
}

et_status et_push_s16(et_session *session, const int16_t *pcm, size_t count) {
    return guarded([&] {
        need_own(session);
        WindowStream &sound = session->sound_for(pcm, count);
        std::vector<float> floats(pcm, pcm + count);
        for (float &sample : floats) sample /= 32768;
        sound.push(floats.data(), count);
        return ET_OK;
    });
}

et_status et_finish(et_session *session) {
    return guarded([&] {
        need_own(session);
        WindowStream &sound = session->sound();
        if (!sound.finished()) sound.finish();
        return ET_OK;
    });
}

et_status et_next(et_session *session, uint8_t *frame) {
    return guarded([&] {
        need_own(session);
        need(frame, "frame");
        WindowStream &sound = session->sound();
        const float *mel = sound.window();
        if (!mel) return sound.ended() ? ET_END : ET_WAIT;
        float pose[3], blink[2];
        session->move(pose, blink);
        session->step(mel, session->pose_in ? pose : nullptr, session->blink_in ? blink : nullptr, frame);
        sound.advance();
        return ET_OK;
    });
}

et_status et_next_inputs(et_session *session, float *mel, float *pose, float *blink) {
    return guarded([&] {
        need_own(session);
        need(mel, "mel");
        WindowStream &sound = session->sound();
        const float *window = sound.window();
        if (!window) return sound.ended() ? ET_END : ET_WAIT;
        std::memcpy(mel, window, session->mel_in->bytes);
        float turned[3], closed[2];
        session->move(turned, closed);
        if (pose) std::copy(turned, turned + 3, pose);
        if (blink) std::copy(closed, closed + 2, blink);
        sound.advance();
        return ET_OK;
    });
}

et_status et_reset(et_session *session) {
    return guarded([&] {
        need_own(session);
        session->stream.reset();
        session->steps = 0;
        return ET_OK;
    });
}

void et_close(et_session *session) {
    if (session && session->owner == getpid()) delete session;  // else it would wait for ever for the engine's threads
}

}  // extern "C"
