#include "openvino.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <dlfcn.h>
#include <mutex>
#include <signal.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "error.h"
#include "file.h"

namespace et {

namespace {

// What of OpenVINO's C interface is used, as its documentation gives it.
struct Shape {
    int64_t rank;
    int64_t *dims;
};
struct Dimension {
    int64_t min, max;
};
struct PartialShape {
    Dimension rank;
    Dimension *dims;
};
struct Version {
    const char *number, *description;
};
struct Names {
    char **items;
    size_t size;
};
struct Core;
struct Model;
struct Compiled;
struct Request;
struct Value;  // a tensor
struct Plug;   // a port

struct Library {
    void *handle = nullptr;
    std::string path;

    int (*ov_get_openvino_version)(Version *);
    void (*ov_version_free)(Version *);
    void (*ov_free)(const char *);
    int (*ov_core_create)(Core **);
    void (*ov_core_free)(Core *);
    int (*ov_core_read_model)(const Core *, const char *, const char *, Model **);
    int (*ov_core_compile_model)(const Core *, const Model *, const char *, size_t, Compiled **, ...);
    int (*ov_core_get_property)(const Core *, const char *, const char *, char **);
    int (*ov_core_get_available_devices)(const Core *, Names *);
    void (*ov_available_devices_free)(Names *);
    int (*ov_model_inputs_size)(const Model *, size_t *);
    int (*ov_model_const_input_by_index)(const Model *, size_t, Plug **);
    int (*ov_model_reshape)(const Model *, const char **, const PartialShape *, size_t);
    void (*ov_model_free)(Model *);
    int (*ov_compiled_model_inputs_size)(const Compiled *, size_t *);
    int (*ov_compiled_model_outputs_size)(const Compiled *, size_t *);
    int (*ov_compiled_model_input_by_index)(const Compiled *, size_t, Plug **);
    int (*ov_compiled_model_output_by_index)(const Compiled *, size_t, Plug **);
    int (*ov_compiled_model_create_infer_request)(const Compiled *, Request **);
    void (*ov_compiled_model_free)(Compiled *);
    int (*ov_infer_request_get_tensor)(const Request *, const char *, Value **);
    int (*ov_infer_request_infer)(Request *);
    void (*ov_infer_request_free)(Request *);
    int (*ov_port_get_any_name)(const Plug *, char **);
    int (*ov_port_get_partial_shape)(const Plug *, PartialShape *);
    void (*ov_partial_shape_free)(PartialShape *);
    void (*ov_output_const_port_free)(Plug *);
    int (*ov_tensor_create)(int, Shape, Value **);
    int (*ov_tensor_get_element_type)(const Value *, int *);
    int (*ov_tensor_get_byte_size)(const Value *, size_t *);
    int (*ov_tensor_data)(const Value *, void **);
    void (*ov_tensor_free)(Value *);
    const char *(*ov_get_last_err_msg)();

    int f32 = -1, u8 = -1;  // the numbers of element types in this release
    std::string version;
};

template <class T>
using Owned = std::unique_ptr<T, void (*)(T *)>;

// What a function made through its last argument.
template <class T, class Function>
Owned<T> made(void (*release)(T *), Function make) {
    T *raw = nullptr;
    make(&raw);
    return {raw, release};
}

// The library in a folder, "" where this is none. Wheels ship libopenvino_c.so.2641 alone, without the name that a
// linker would look for.
std::string search_folder(const std::string &folder) {
    const std::unique_ptr<DIR, int (*)(DIR *)> listing(opendir(folder.c_str()), closedir);
    if (!listing) return "";
    std::string best = "libopenvino_c.so";
    while (const dirent *entry = readdir(listing.get())) {
        const std::string name = entry->d_name;
        if (name.rfind("libopenvino_c.so", 0) == 0) best = std::max(best, name);
    }
    return folder + "/" + best;
}

// Where to look, the user's word first.
std::vector<std::string> candidates(const std::string &asked) {
    const char *named = variable("EDGETALK_OPENVINO"), *paths = variable("LD_LIBRARY_PATH");
    const std::string first = !asked.empty() ? asked : named ? named : "";
    if (!first.empty()) {
        const std::string inside = search_folder(first);
        return {inside.empty() ? first : inside};
    }
    std::vector<std::string> found = {"libopenvino_c.so"};
    const auto add = [&found](const std::string &folder) {
        if (const std::string file = search_folder(folder); is_file(file)) found.push_back(file);
    };
    for (std::string rest = paths ? paths : ""; !rest.empty();) {
        const size_t colon = rest.find(':');
        add(rest.substr(0, colon));
        rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
    }
    if (const std::string folder = own_folder(); !folder.empty()) {
        add(folder);
        add(folder + "/../../openvino/libs");
    }
#if defined(__aarch64__)
    add("/usr/lib/aarch64-linux-gnu");
    add("/opt/intel/openvino/runtime/lib/aarch64");
#elif defined(__x86_64__)
    add("/usr/lib/x86_64-linux-gnu");
    add("/opt/intel/openvino/runtime/lib/intel64");
#endif
    add("/usr/lib");
    add("/usr/local/lib");
    return found;
}

// The numbers of element types moved between releases, their order did not. Eight values of f32 are the first type
// with 32 bytes; u8 is the first with 8 bytes after f64 and i64, which have 64. 0 is no type, 1 may be none.
void find_types(Library &ov) {
    int64_t eight = 8;
    for (int type = 2, longs = 0; type < 32 && ov.u8 < 0; ++type) {
        Value *raw = nullptr;
        size_t size = 0;
        if (ov.ov_tensor_create(type, Shape{1, &eight}, &raw) || !raw) continue;
        const Owned<Value> value(raw, ov.ov_tensor_free);
        if (ov.ov_tensor_get_byte_size(raw, &size)) continue;
        longs += size == 64;
        if (size == 32 && ov.f32 < 0) ov.f32 = type;
        if (size == 8 && longs == 2) ov.u8 = type;
    }
}

std::unique_ptr<Library> load(const std::string &name, const std::string &asked) {
    auto ov = std::make_unique<Library>();
    std::string reason;
    for (const std::string &path : candidates(asked)) {
        ov->handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // for good: OpenVINO does not like to be unloaded
        ov->path = path;
        if (ov->handle) break;
        if (const char *why = dlerror()) reason = why;
    }
    if (!ov->handle)
        fail_backend(name + " needs OpenVINO's libopenvino_c.so (" + reason + "); " +
                     (asked.empty() ? "install it (pip install openvino, whose libopenvino_c.so lies in its folder libs, "
                                      "or a package of your system) and name its folder in EDGETALK_OPENVINO"
                                    : "name the file or its folder in et_options.openvino"));
#define ET_FIND(symbol)                                                                     \
    if (!(ov->symbol = reinterpret_cast<decltype(ov->symbol)>(dlsym(ov->handle, #symbol)))) \
    fail_backend(ov->path + " has no " #symbol ", expected the C interface of OpenVINO 2024 or newer")
    ET_FIND(ov_get_openvino_version);
    ET_FIND(ov_version_free);
    ET_FIND(ov_free);
    ET_FIND(ov_core_create);
    ET_FIND(ov_core_free);
    ET_FIND(ov_core_read_model);
    ET_FIND(ov_core_compile_model);
    ET_FIND(ov_core_get_property);
    ET_FIND(ov_core_get_available_devices);
    ET_FIND(ov_available_devices_free);
    ET_FIND(ov_model_inputs_size);
    ET_FIND(ov_model_const_input_by_index);
    ET_FIND(ov_model_reshape);
    ET_FIND(ov_model_free);
    ET_FIND(ov_compiled_model_inputs_size);
    ET_FIND(ov_compiled_model_outputs_size);
    ET_FIND(ov_compiled_model_input_by_index);
    ET_FIND(ov_compiled_model_output_by_index);
    ET_FIND(ov_compiled_model_create_infer_request);
    ET_FIND(ov_compiled_model_free);
    ET_FIND(ov_infer_request_get_tensor);
    ET_FIND(ov_infer_request_infer);
    ET_FIND(ov_infer_request_free);
    ET_FIND(ov_port_get_any_name);
    ET_FIND(ov_port_get_partial_shape);
    ET_FIND(ov_partial_shape_free);
    ET_FIND(ov_output_const_port_free);
    ET_FIND(ov_tensor_create);
    ET_FIND(ov_tensor_get_element_type);
    ET_FIND(ov_tensor_get_byte_size);
    ET_FIND(ov_tensor_data);
    ET_FIND(ov_tensor_free);
    ET_FIND(ov_get_last_err_msg);
#undef ET_FIND
    Version version = {};
    const Owned<Version> freed(&version, ov->ov_version_free);
    if (ov->ov_get_openvino_version(&version) == 0 && version.number) ov->version = version.number;
    ov->version = ov->version.substr(0, ov->version.find('-'));
    find_types(*ov);
    if (ov->f32 < 0 || ov->u8 < 0) fail_backend(ov->path + " has element types unknown to this libedgetalk");
    return ov;
}

// One process has one OpenVINO: the first that was found, or one for each that was asked for by name.
const Library &library(const std::string &name, const std::string &asked) {
    static std::mutex mutex;
    static auto *loaded = new std::map<std::string, std::unique_ptr<Library>>;  // outlives whoever still uses it
    const std::lock_guard<std::mutex> lock(mutex);
    std::unique_ptr<Library> &entry = (*loaded)[asked];
    if (!entry) entry = load(name, asked);
    return *entry;
}

// A copy of OpenVINO's text, which is freed.
std::string taken(const Library &ov, const char *text) {
    const Owned<const char> freed(text, ov.ov_free);
    return text ? text : "";
}

// The first line of OpenVINO's last error that is not a place in its source code.
std::string reason(const Library &ov) {
    std::string text = taken(ov, ov.ov_get_last_err_msg()), first;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        std::string line = text.substr(0, end);
        text = end == std::string::npos ? "" : text.substr(end + 1);
        while (!line.empty() && std::isspace(static_cast<unsigned char>(line.front()))) line.erase(0, 1);
        while (!line.empty() && std::string(".! \r\t").find(line.back()) != std::string::npos) line.pop_back();
        if (first.empty()) first = line;
        if (!line.empty() && line.rfind("Exception from", 0) != 0 && line.rfind("Check '", 0) != 0) return line;
    }
    return first.empty() ? "no reason given" : first;
}

std::string property(const Library &ov, const Core *core, const std::string &device, const char *key) {
    char *text = nullptr;
    const int status = ov.ov_core_get_property(core, device.c_str(), key, &text);
    return status ? "" : taken(ov, text);
}

std::string name_of_port(const Library &ov, const Plug *port) {
    char *text = nullptr;
    const int status = ov.ov_port_get_any_name(port, &text);
    return status ? "" : taken(ov, text);
}

struct Partial {
    const Library &ov;
    PartialShape shape = {{0, 0}, nullptr};

    Partial(const Library &library, const Plug *port) : ov(library) {
        if (ov.ov_port_get_partial_shape(port, &shape)) fail_backend("OpenVINO does not tell a shape: " + reason(ov));
    }
    Partial(Partial &&other) noexcept : ov(other.ov), shape(std::exchange(other.shape, {{0, 0}, nullptr})) {}
    ~Partial() {
        if (shape.dims) ov.ov_partial_shape_free(&shape);
    }
    bool dynamic() const {
        if (shape.rank.min != shape.rank.max) return true;
        return std::any_of(shape.dims, shape.dims + shape.rank.max, [](const Dimension &d) { return d.min != d.max; });
    }
};

std::string choose_device(const Library &ov, const Core *core, const std::string &asked, std::string &why) {
    if (asked == "auto") {
        why = "; chosen because engines for OpenVINO are built for the CPU and checked on it";
        return "CPU";
    }
    std::string name = upper(asked);
    if (name == "CPU") return name;
    Names there = {nullptr, 0};
    std::string list;
    bool found = false;
    if (ov.ov_core_get_available_devices(core, &there) == 0) {
        const Owned<Names> freed(&there, ov.ov_available_devices_free);
        for (size_t k = 0; k < there.size; ++k) {
            const std::string have = there.items[k];
            found |= have == name || have.substr(0, have.find('.')) == name;
            list += (k ? ", " : "") + have;
        }
    }
    if (!found)
        fail_backend("device \"" + asked + "\" is missing: OpenVINO sees " + list +
                     "; use \"auto\" or install the driver of that device");
    return name;
}

// The value of INFERENCE_PRECISION_HINT for a precision of the metadata, and a remark where the device lacks it.
std::string arithmetic(const Library &ov, const Core *core, const std::string &device, const std::string &precision,
                       std::string &why) {
    const bool half = precision == "fp16";
    if (!half && precision != "bf16" && precision != "int8") return "f32";
    const std::string wanted = half ? "f16" : "bf16";
    if (property(ov, core, device, "OPTIMIZATION_CAPABILITIES").find(half ? "FP16" : "BF16") != std::string::npos)
        return wanted;
    why = " (this " + device + " has no " + wanted + ")";
    return "f32";
}

void fix_batch(const Library &ov, const Model *model, const std::string &file) {
    size_t count = 0;
    ov.ov_model_inputs_size(model, &count);
    std::vector<std::string> names;
    std::vector<Partial> shapes;
    for (size_t k = 0; k < count; ++k) {
        const auto port = made<Plug>(ov.ov_output_const_port_free,
                                     [&](Plug **out) { ov.ov_model_const_input_by_index(model, k, out); });
        if (!port) fail_backend(file + ": OpenVINO does not give an input: " + reason(ov));
        names.push_back(name_of_port(ov, port.get()));
        shapes.emplace_back(ov, port.get());
    }
    if (std::none_of(shapes.begin(), shapes.end(), [](const Partial &p) { return p.dynamic(); })) return;
    std::vector<const char *> keys;
    std::vector<PartialShape> wanted;
    for (size_t k = 0; k < count; ++k) {
        const Partial &one = shapes[k];
        if (one.shape.rank.min == one.shape.rank.max && one.shape.rank.max > 0) one.shape.dims[0] = {1, 1};
        if (one.dynamic())
            fail_model(names[k] + " of " + file +
                       " has a dynamic shape: only the batch may be; export the model again");
        keys.push_back(names[k].c_str());
        wanted.push_back(one.shape);
    }
    if (ov.ov_model_reshape(model, keys.data(), wanted.data(), count))
        fail_backend(file + " cannot be given a batch of 1: " + reason(ov));
}

// Gives the thread its own stack for signals back. OpenVINO's CPU plugin sets another when it is loaded and frees that
// with the engine, which may be in another thread or out of turn: the next signal would be a segmentation fault.
struct SignalStack {
    stack_t own = {};

    SignalStack() { sigaltstack(nullptr, &own); }
    ~SignalStack() { sigaltstack(&own, nullptr); }
};

class OpenVino : public Engine {
  public:
    OpenVino(const std::string &path, const Metadata &metadata, const Options &options);

    void run() override;

  private:
    struct Handles {
        const Library &ov;
        Owned<Compiled> compiled;
        Owned<Request> request;
        std::vector<Owned<Value>> values;
    };
    std::unique_ptr<Handles> handles_;
    std::string name_;
};

OpenVino::OpenVino(const std::string &path, const Metadata &metadata, const Options &options) : name_(name_of(path)) {
    const Library &ov = library(name_, options.library);
    const SignalStack kept;
    const auto core = made<Core>(ov.ov_core_free, [&](Core **out) { ov.ov_core_create(out); });
    if (!core) fail_backend("OpenVINO does not start: " + reason(ov));
    const auto model = made<Model>(ov.ov_model_free,
                                   [&](Model **out) { ov.ov_core_read_model(core.get(), path.c_str(), nullptr, out); });
    if (!model)
        fail_model(name_ + " cannot be read: " + reason(ov) + "; copy it" +
                   (suffix_of(path) == ".xml" ? " and " + with_suffix(name_, ".bin") : "") + " again");
    std::string chosen, lacks;
    const std::string target = choose_device(ov, core.get(), options.device, chosen);
    const std::string hint = arithmetic(ov, core.get(), target, metadata.precision, lacks);
    device = target + " (" + property(ov, core.get(), target, "FULL_DEVICE_NAME") + "), OpenVINO " + ov.version + ", " +
             (metadata.precision == "int8" ? "int8, the rest in " : "") + hint + lacks + chosen;
    fix_batch(ov, model.get(), name_);

    const std::string threads = std::to_string(options.threads);
    const char *named = variable("EDGETALK_CACHE");
    std::string cache = named && *named ? std::string(named) + "/openvino" : "", unused;
    std::vector<const char *> config = {"PERFORMANCE_HINT", "LATENCY", "INFERENCE_PRECISION_HINT", hint.c_str()};
    if (options.threads) config.insert(config.end(), {"INFERENCE_NUM_THREADS", threads.c_str()});
    if (!cache.empty() && access(cache.c_str(), X_OK) && errno == EACCES) {  // OpenVINO would end the process
        unused = std::strerror(EACCES);
        cache.clear();
    }
    const size_t size = config.size();
    config.insert(config.end(), {"CACHE_DIR", cache.c_str()});
    config.resize(8);  // what is past `size` is passed and not looked at
    const auto compile = [&](size_t used) {
        return made<Compiled>(ov.ov_compiled_model_free, [&](Compiled **out) {
            ov.ov_core_compile_model(core.get(), model.get(), target.c_str(), used, out, config[0], config[1],
                                     config[2], config[3], config[4], config[5], config[6], config[7]);
        });
    };
    auto compiled = compile(cache.empty() ? size : size + 2);
    if (!compiled && !cache.empty()) {  // what is kept there may be another user's
        unused = reason(ov);
        compiled = compile(size);
    }
    if (!unused.empty()) device += "; EDGETALK_CACHE could not be used (" + unused + ")";
    auto request = made<Request>(ov.ov_infer_request_free, [&](Request **out) {
        if (compiled) ov.ov_compiled_model_create_infer_request(compiled.get(), out);
    });
    if (!request) fail_backend(name_ + " does not run on " + target + ": " + reason(ov));
    handles_ = std::make_unique<Handles>(Handles{ov, std::move(compiled), std::move(request), {}});

    const auto bind = [&](auto count_of, auto port_of, std::map<std::string, Port> &ports) {
        const Compiled *network = handles_->compiled.get();
        size_t count = 0;
        count_of(network, &count);
        for (size_t k = 0; k < count; ++k) {
            const auto plug = made<Plug>(ov.ov_output_const_port_free, [&](Plug **out) { port_of(network, k, out); });
            if (!plug) fail_backend(name_ + ": OpenVINO does not give a port: " + reason(ov));
            const std::string name = name_of_port(ov, plug.get());
            const Partial partial(ov, plug.get());
            if (partial.dynamic())
                fail_model(name + " of " + name_ +
                           " has a dynamic shape: only the batch may be; export the model again");
            auto value = made<Value>(ov.ov_tensor_free, [&](Value **out) {
                ov.ov_infer_request_get_tensor(handles_->request.get(), name.c_str(), out);
            });
            Port port;
            int type = -1;
            if (!value || ov.ov_tensor_get_element_type(value.get(), &type) ||
                ov.ov_tensor_get_byte_size(value.get(), &port.bytes) || ov.ov_tensor_data(value.get(), &port.data))
                fail_backend(name_ + " does not give its " + name + ": " + reason(ov));
            port.type = type == ov.u8 ? Port::u8 : type == ov.f32 ? Port::f32 : Port::other;
            for (int64_t axis = 0; axis < partial.shape.rank.max; ++axis)
                port.shape.push_back(partial.shape.dims[axis].max);
            handles_->values.push_back(std::move(value));
            ports.emplace(name, port);
        }
    };
    bind(ov.ov_compiled_model_inputs_size, ov.ov_compiled_model_input_by_index, inputs);
    bind(ov.ov_compiled_model_outputs_size, ov.ov_compiled_model_output_by_index, outputs);
}

void OpenVino::run() {
    if (handles_->ov.ov_infer_request_infer(handles_->request.get()))
        fail_backend(name_ + " failed while it ran: " + reason(handles_->ov));
}

}  // namespace

std::unique_ptr<Engine> open_openvino(const std::string &path, const Metadata &metadata,
                                      const Engine::Options &options) {
    return std::make_unique<OpenVino>(path, metadata, options);
}

}  // namespace et
