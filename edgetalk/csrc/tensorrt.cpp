#include "tensorrt.h"

#include <algorithm>
#include <deque>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <NvInferRuntime.h>

#include "cuda.h"
#include "error.h"
#include "file.h"
#include "json.h"

namespace et {

namespace {

#ifdef TRT_MAJOR_RTX
constexpr bool rtx = true;
const std::string product = "TensorRT-RTX", soname = "libtensorrt_rtx.so." + std::to_string(NV_TENSORRT_MAJOR);
constexpr char wheel[] = "tensorrt_rtx_libs";
#else
constexpr bool rtx = false;
const std::string product = "TensorRT", soname = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
constexpr char wheel[] = "tensorrt_libs";
#endif
const std::string headers = product + " " + std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR);

// The last things that TensorRT logged in each thread that called it, for its own calls return null or false and say
// nothing. One for the process: TensorRT tells the first that it was given, TensorRT-RTX 1.7 the last.
class Lines : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char *message) noexcept override {
        if (severity > Severity::kERROR) return;
        try {
            std::string line;
            for (const char *c = message; *c; ++c)
                if (*c > ' ' || (!line.empty() && line.back() != ' ')) line += *c > ' ' ? *c : ' ';
            const std::lock_guard<std::mutex> lock(mutex_);
            auto &mine = lines_[std::this_thread::get_id()];
            mine.push_back(line);
            if (mine.size() > 4) mine.pop_front();
        } catch (...) {  // out of memory: the line is lost
        }
    }

    void clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        lines_.erase(std::this_thread::get_id());
    }

    std::string text() {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::string all;
        for (const std::string &line : lines_[std::this_thread::get_id()]) all += (all.empty() ? "" : "; ") + line;
        return all.empty() ? "it gave no reason" : all;
    }

  private:
    std::mutex mutex_;
    std::map<std::thread::id, std::deque<std::string>> lines_;
};

Lines &lines() {
    static auto *only = new Lines;  // outlives TensorRT
    return *only;
}

struct Library {
    std::string path, version;
    void *(*createInferRuntime_INTERNAL)(void *, int32_t);
};

// Where to look, the user's word first.
std::vector<std::string> candidates(const std::string &asked) {
    const char *named = variable("EDGETALK_TENSORRT");
    const std::string word = !asked.empty() ? asked : named ? named : "";
    if (!word.empty()) return {is_file(word) ? word : word + "/" + soname};
    std::vector<std::string> found = {soname};  // the dynamic linker's places, LD_LIBRARY_PATH among them
    if (const std::string folder = own_folder(); !folder.empty())
        found.push_back(folder + "/../../" + wheel + "/" + soname);
    return found;
}

Library load(const std::string &name, const std::string &asked) {
    void *handle = nullptr;
    Library library = {};
    std::string reason;
    for (const std::string &path : candidates(asked)) {
        handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // for good: it may have started threads
        library.path = path;
        if (handle) break;
        if (const char *why = dlerror(); why && reason.empty()) reason = why;
    }
    if (!handle)
        fail_backend(name + " needs " + product + "'s " + soname + " (" + reason +
                     "); install it and name its folder in EDGETALK_TENSORRT");
    int32_t (*version)() = nullptr;
#define ET_FIND(pointer, symbol)                                                  \
    if (!(pointer = reinterpret_cast<decltype(pointer)>(dlsym(handle, #symbol)))) \
    fail_backend(library.path + " has no " #symbol ", expected " + soname)
    ET_FIND(version, getInferLibVersion);
    ET_FIND(library.createInferRuntime_INTERNAL, createInferRuntime_INTERNAL);
#undef ET_FIND
    const int32_t number = version(), major = number / 10000;
    library.version =
        std::to_string(major) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
    if (major != NV_TENSORRT_MAJOR)  // the next call would jump to another function's address
        fail_backend(library.path + " is version " + library.version +
                     ", this libedgetalk was built with the headers of " + headers +
                     "; build it again with -DEDGETALK_TENSORRT_INCLUDE=FOLDER of the right ones");
    return library;
}

int device_index(const std::string &asked) {
    const std::string word = upper(asked);
    if (word == "AUTO" || word == "CUDA" || word == "CUDA:") return 0;
    const std::string digits = word.substr(0, 5) == "CUDA:" ? word.substr(5) : "";
    if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != digits.npos)
        fail_backend("device \"" + asked +
                     "\" cannot run a plan, NVIDIA GPUs can; use \"auto\", \"cuda\" or \"cuda:0\"");
    return static_cast<int>(*whole_number(digits));
}

// What runs here where there is no NVIDIA GPU.
std::string instead(const std::string &path) {
    for (const char *suffix : {".xml", ".onnx"})
        if (const std::string other = with_suffix(path, suffix); is_file(other))
            return name_of(other) + " beside it runs on this CPU";
    const std::string name = name_of(path), from = with_suffix(name, ".onnx"), to = with_suffix(name, ".xml");
    return "for this CPU: edgetalk build " + word(from) + " -o " + word(to);
}

// Bytes of one number of this type.
size_t item_size(nvinfer1::DataType type, const std::string &name) {
    switch (type) {
        case nvinfer1::DataType::kUINT8:
        case nvinfer1::DataType::kINT8:
        case nvinfer1::DataType::kBOOL:
            return 1;
        case nvinfer1::DataType::kHALF:
            return 2;
        case nvinfer1::DataType::kFLOAT:
        case nvinfer1::DataType::kINT32:
            return 4;
        case nvinfer1::DataType::kINT64:
            return 8;
        default:
            fail_model(name + " is of a type that this libedgetalk does not know; export the model again");
    }
}

class TensorRt : public Engine {
  public:
    TensorRt(const std::string &path, const Plan &plan, const Options &options);
    ~TensorRt() override;

    void run() override;

  private:
    void open(const std::string &path, const Plan &plan, const Library &trt);
    void bind();
    void release();

    std::string name_;
    std::unique_ptr<Gpu> gpu_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;  // each goes before the one above it
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::map<std::string, uint64_t> addresses_;  // on the device
};

TensorRt::TensorRt(const std::string &path, const Plan &plan, const Options &options) : name_(plan.name) {
    if ((plan.product == "TensorRT-RTX") != rtx)
        fail_backend(name_ + " is a plan of " + plan.product + ", this libedgetalk was built with the headers of " +
                     headers + "; build it with -DEDGETALK_TENSORRT_INCLUDE=FOLDER of those of " + plan.product);
    // Everything that is wrong with the file comes first, whether or not the rest is there; then what is missing.
    std::optional<Library> trt;
    std::optional<Error> missing;
    try {
        trt = load(name_, options.library);
    } catch (const Error &error) {
        missing = error;
    }
    try {
        gpu_ = std::make_unique<Gpu>(device_index(options.device));
    } catch (const Error &error) {
        missing = Error(ET_ERROR_BACKEND, name_ + " cannot run: " + error.what() + "; " + instead(path));
    }
    plan.check(trt ? trt->version : "", gpu_ ? gpu_->capability : "", gpu_ ? gpu_->driver : "");
    if (missing) throw *missing;  // without a GPU it would not help to install the library
    device =
        gpu_->name + " (" + gpu_->capability + "), " + product + " " + trt->version + ", " + plan.metadata.precision;

    try {
        open(path, plan, *trt);
    } catch (const Error &error) {
        release();
        if (error.status != ET_ERROR_BACKEND) throw;
        fail_backend(name_ + " cannot be opened: " + error.what());
    } catch (...) {
        release();
        throw;
    }
}

void TensorRt::open(const std::string &path, const Plan &plan, const Library &trt) {
    const Gpu::Current current(*gpu_);
    lines().clear();
    runtime_.reset(static_cast<nvinfer1::IRuntime *>(trt.createInferRuntime_INTERNAL(&lines(), NV_TENSORRT_VERSION)));
    if (!runtime_) fail_backend(product + " does not start (" + lines().text() + "); see `nvidia-smi`");
    if (plan.metadata.version_compatible) runtime_->setEngineHostCodeAllowed(true);  // it brings its own runtime
    {
        const File file(path);
        engine_.reset(runtime_->deserializeCudaEngine(file.bytes().data(), file.bytes().size()));
    }
    if (!engine_)
        fail_model(name_ + " was refused by " + product + " " + trt.version + " (" + lines().text() +
                   "); rebuild it here: " + plan.rebuild());
    context_.reset(engine_->createExecutionContext());
    if (!context_)
        fail_backend("it got no execution context (" + lines().text() + "); close other programs on this GPU");
    bind();
}

TensorRt::~TensorRt() { release(); }

void TensorRt::release() {
    std::optional<Gpu::Current> current;
    try {
        current.emplace(*gpu_);
    } catch (const Error &) {  // the GPU is gone, and what was on it
    }
    context_.reset();  // before the memory that it points to
    engine_.reset();
    runtime_.reset();
}

void TensorRt::bind() {
    using Select = nvinfer1::OptProfileSelector;
    const int32_t count = engine_->getNbIOTensors();
    std::vector<std::string> names;
    for (int32_t k = 0; k < count; ++k) names.push_back(engine_->getIOTensorName(k));
    for (const bool fed : {true, false})  // the shapes of outputs follow from those of inputs
        for (const std::string &key : names) {
            if ((engine_->getTensorIOMode(key.c_str()) == nvinfer1::TensorIOMode::kINPUT) != fed) continue;
            nvinfer1::Dims dims = engine_->getTensorShape(key.c_str());
            if (std::find(dims.d, dims.d + std::max(dims.nbDims, 0), -1) != dims.d + std::max(dims.nbDims, 0)) {
                dims = fed ? engine_->getProfileShape(key.c_str(), 0, Select::kMIN)  // the smallest batch
                           : context_->getTensorShape(key.c_str());
                if (fed && !context_->setInputShape(key.c_str(), dims))
                    fail_model(name_ + " refused the shape of " + key + " (" + lines().text() + "); rebuild the plan");
            }
            const nvinfer1::DataType type = engine_->getTensorDataType(key.c_str());
            Port port;
            port.type = type == nvinfer1::DataType::kUINT8   ? Port::u8
                        : type == nvinfer1::DataType::kFLOAT ? Port::f32
                                                             : Port::other;
            port.bytes = item_size(type, key);
            for (int32_t axis = 0; axis < dims.nbDims; ++axis) {
                const auto size = static_cast<int64_t>(dims.d[axis]);
                if (size < 1)
                    fail_model(key + " of " + name_ +
                               " has a dynamic shape: only the batch may be; export the model again");
                port.shape.push_back(size);
                port.bytes *= static_cast<size_t>(size);
            }
            port.data = gpu_->pinned_memory(port.bytes);
            port.fresh = fed;
            const uint64_t address = addresses_[key] = gpu_->device_memory(port.bytes);
            if (!context_->setTensorAddress(key.c_str(), reinterpret_cast<void *>(address)))
                fail_backend("it refused the buffer of " + key + " (" + lines().text() + "); rebuild the plan");
            (fed ? inputs : outputs).emplace(key, port);
        }
}

void TensorRt::run() try {
    const Gpu::Current current(*gpu_);
    for (auto &[key, port] : inputs) {
        if (port.fresh) gpu_->upload(addresses_[key], port.data, port.bytes);
        port.fresh = false;
    }
    lines().clear();
    if (!context_->enqueueV3(gpu_->stream)) fail_backend(lines().text());
    for (auto &[key, port] : outputs) gpu_->download(port.data, addresses_[key], port.bytes);
    gpu_->wait();
} catch (const Error &error) {
    fail_backend(name_ + " failed while it ran: " + error.what());
}

}  // namespace

std::unique_ptr<Engine> open_tensorrt(const std::string &path, const Plan &plan, const Engine::Options &options) {
    return std::make_unique<TensorRt>(path, plan, options);
}

}  // namespace et
