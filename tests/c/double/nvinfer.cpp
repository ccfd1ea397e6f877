// A double of TensorRT's library: it records what it is asked for and runs no network. It is compiled against the
// vendor's headers where they are given, else against the double beside it, and of either it implements only what
// libedgetalk calls; anything else ends the process.
//
// Its network: frame = appearance + mel[0] + 2 * pose[0] + 4 * blink[0] byte by byte, landmarks = mel[0]. With
// DOUBLE_BATCH=N every tensor's batch is dynamic, N at the least. DOUBLE_FAILS names the call that is to fail as
// TensorRT's calls do, DOUBLE_VERSION is the version that it gives itself.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <new>
#include <string>
#include <vector>

#include <NvInferRuntime.h>

using namespace nvinfer1;

// Its own, for where the tests let memory run out it is libedgetalk's that does.
void *operator new(size_t size) { return std::malloc(size); }
void operator delete(void *made) noexcept { std::free(made); }
void operator delete(void *made, size_t) noexcept { std::free(made); }

namespace {

ILogger *logger;

// The driver's stub keeps the record, so that there is one order of calls.
void note(const char *call) {
    static const auto to =
        reinterpret_cast<void (*)(const char *)>(dlsym(dlopen("libcuda.so.1", RTLD_NOW), "stub_note"));
    if (to) to(call);
}

bool fails(const char *call) {
    note(call);
    const char *asked = std::getenv("DOUBLE_FAILS");
    if (!asked || std::strcmp(asked, call)) return false;
    logger->log(ILogger::Severity::kINFO, "of no importance");
    logger->log(ILogger::Severity::kERROR, (std::string(call) + ":\n  Error Code 7").c_str());
    return true;
}

int64_t batch() {
    const char *asked = std::getenv("DOUBLE_BATCH");
    return asked ? std::atoll(asked) : 0;
}

struct Tensor {
    const char *name;
    bool input;
    DataType type;
    Dims dims;
};

const std::vector<Tensor> tensors = {
    {"appearance", true, DataType::kFLOAT, {4, {1, 2, 2, 12}}},
    {"mel", true, DataType::kFLOAT, {3, {1, 32, 80}}},
    {"pose", true, DataType::kFLOAT, {2, {1, 3}}},
    {"blink", true, DataType::kFLOAT, {2, {1, 2}}},
    {"frame", false, DataType::kUINT8, {4, {1, 4, 4, 3}}},
    {"landmarks", false, DataType::kFLOAT, {3, {1, 106, 2}}},
};

const Tensor &tensor(const char *name) {
    for (const Tensor &one : tensors)
        if (!std::strcmp(one.name, name)) return one;
    std::abort();
}

Dims with_batch(Dims dims, int64_t size) {
    if (size) dims.d[0] = static_cast<decltype(dims.d[0] + 0)>(size);
    return dims;
}

// The inner objects of TensorRT are reached through tables of virtual functions; only the entries that libedgetalk
// uses are filled in, wherever the headers place them.
[[noreturn]] void unexpected() {
    std::fprintf(stderr, "the double of TensorRT was asked for what it does not have\n");
    std::abort();
}

template <class Function>
uintptr_t bits(Function function) {
    uintptr_t value;
    std::memcpy(&value, &function, sizeof value);
    return value;
}

struct Table {
    std::vector<void *> entries = std::vector<void *>(128, reinterpret_cast<void *>(&unexpected));

    template <class Theirs, class Ours, class Result, class... Arguments>
    void put(Result (Theirs::*slot)(Arguments...) noexcept, Result (Ours::*function)(Arguments...) noexcept) {
        entries.at((bits(slot) & ~uintptr_t(1)) / sizeof(void *)) = reinterpret_cast<void *>(bits(function));
    }
    template <class Theirs, class Ours, class Result, class... Arguments>
    void put(Result (Theirs::*slot)(Arguments...) const noexcept,
             Result (Ours::*function)(Arguments...) const noexcept) {
        entries.at((bits(slot) & ~uintptr_t(1)) / sizeof(void *)) = reinterpret_cast<void *>(bits(function));
    }
};

struct Context {
    void **table;
    std::map<std::string, void *> addresses;
    int64_t size = 0;

    Context() {
        static const Table filled = [] {
            using Theirs = apiv::VExecutionContext;
            Table made;
            made.put<Theirs>(&Theirs::setInputShape, &Context::set_input_shape);
            made.put<Theirs>(&Theirs::getTensorShape, &Context::tensor_shape);
            made.put<Theirs>(&Theirs::setTensorAddress, &Context::set_tensor_address);
            made.put<Theirs>(&Theirs::enqueueV3, &Context::enqueue);
            return made;
        }();
        table = const_cast<void **>(filled.entries.data());
    }

    bool set_input_shape(const char *name, const Dims &dims) noexcept {
        size = dims.d[0];
        return tensor(name).input && !fails("setInputShape");
    }
    Dims tensor_shape(const char *name) const noexcept { return with_batch(tensor(name).dims, size); }
    bool set_tensor_address(const char *name, void *data) noexcept {
        addresses[tensor(name).name] = data;
        return !fails("setTensorAddress");
    }
    bool enqueue(cudaStream_t stream) noexcept {
        if (!stream || fails("enqueueV3")) return false;
        const auto at = [this](const char *name) { return static_cast<float *>(addresses.at(name)); };
        const float sum = at("mel")[0] + 2 * at("pose")[0] + 4 * at("blink")[0];
        for (int k = 0; k < 48; ++k)
            static_cast<uint8_t *>(addresses.at("frame"))[k] =
                static_cast<uint8_t>(std::lround(at("appearance")[k] + sum));
        for (int k = 0; k < 212; ++k) at("landmarks")[k] = at("mel")[0];
        return true;
    }
};

struct Engine {
    void **table;

    Engine() {
        static const Table filled = [] {
            using Theirs = apiv::VCudaEngine;
            Table made;
            made.put<Theirs>(&Theirs::createExecutionContext, &Engine::create_context);
            made.put<Theirs>(&Theirs::getNbIOTensors, &Engine::count);
            made.put<Theirs>(&Theirs::getIOTensorName, &Engine::name);
            made.put<Theirs>(&Theirs::getTensorIOMode, &Engine::mode);
            made.put<Theirs>(&Theirs::getTensorDataType, &Engine::type);
            made.put<Theirs>(&Theirs::getTensorShape, &Engine::shape);
            made.put<Theirs>(&Theirs::getProfileShape, &Engine::profile_shape);
            return made;
        }();
        table = const_cast<void **>(filled.entries.data());
    }

    IExecutionContext *create_context(ExecutionContextAllocationStrategy) noexcept;
    int32_t count() const noexcept { return static_cast<int32_t>(tensors.size()); }
    const char *name(int32_t index) const noexcept { return tensors.at(static_cast<size_t>(index)).name; }
    TensorIOMode mode(const char *name) const noexcept {
        return tensor(name).input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType type(const char *name) const noexcept { return tensor(name).type; }
    Dims shape(const char *name) const noexcept { return with_batch(tensor(name).dims, batch() ? -1 : 0); }
    Dims profile_shape(const char *name, int32_t profile, OptProfileSelector select) const noexcept {
        if (profile || select != OptProfileSelector::kMIN) std::abort();
        return with_batch(tensor(name).dims, batch());
    }
};

struct Runtime {
    void **table;

    Runtime() {
        static const Table filled = [] {
            using Theirs = apiv::VRuntime;
            Table made;
            made.put<Theirs>(&Theirs::deserializeCudaEngine, &Runtime::deserialize);
            made.put<Theirs>(&Theirs::setEngineHostCodeAllowed, &Runtime::allow_host_code);
            return made;
        }();
        table = const_cast<void **>(filled.entries.data());
    }

    ICudaEngine *deserialize(const void *blob, size_t size) noexcept;
    void allow_host_code(bool allowed) noexcept { note(allowed ? "setEngineHostCodeAllowed" : "no"); }
};

// What the caller holds: TensorRT's own outer classes around the objects above.
template <class Theirs, class Ours>
struct Outer : Theirs {
    explicit Outer(const char *told) : told_(told) { this->mImpl = reinterpret_cast<decltype(this->mImpl)>(&inner_); }
    ~Outer() override { note(told_); }

  private:
    Ours inner_;
    const char *told_;
};

IExecutionContext *Engine::create_context(ExecutionContextAllocationStrategy) noexcept {
    if (fails("createExecutionContext")) return nullptr;
    return new Outer<IExecutionContext, Context>("~context");
}

ICudaEngine *Runtime::deserialize(const void *blob, size_t size) noexcept {
    if (!blob || size < 64 || fails("deserializeCudaEngine")) return nullptr;
    return new Outer<ICudaEngine, Engine>("~engine");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int32_t getInferLibVersion() noexcept {
    const char *asked = std::getenv("DOUBLE_VERSION");
    return asked ? std::atoi(asked) : NV_TENSORRT_VERSION;
}

extern "C" __attribute__((visibility("default"))) void *createInferRuntime_INTERNAL(void *given,
                                                                                    int32_t version) noexcept {
    logger = static_cast<ILogger *>(given);
    if (version != NV_TENSORRT_VERSION || fails("createInferRuntime")) return nullptr;
    return static_cast<IRuntime *>(new Outer<IRuntime, Runtime>("~runtime"));
}
