#include "cuda.h"

#include <cstring>
#include <dlfcn.h>
#include <vector>

#include "error.h"

namespace et {

namespace {

enum { no_device = 100, major_capability = 75, minor_capability = 76, non_blocking = 1 };

// What of the driver's interface is used, as its documentation gives it.
struct Driver {
    int (*cuInit)(unsigned);
    int (*cuDriverGetVersion)(int *);
    int (*cuDeviceGetCount)(int *);
    int (*cuDeviceGet)(int *, int);
    int (*cuDeviceGetName)(char *, int, int);
    int (*cuDeviceGetAttribute)(int *, int, int);
    int (*cuDevicePrimaryCtxRetain)(void **, int);
    int (*cuDevicePrimaryCtxRelease_v2)(int);
    int (*cuCtxPushCurrent_v2)(void *);
    int (*cuCtxPopCurrent_v2)(void **);
    int (*cuMemAlloc_v2)(uint64_t *, size_t);
    int (*cuMemFree_v2)(uint64_t);
    int (*cuMemHostAlloc)(void **, size_t, unsigned);
    int (*cuMemFreeHost)(void *);
    int (*cuMemcpyHtoDAsync_v2)(uint64_t, const void *, size_t, CUstream_st *);
    int (*cuMemcpyDtoHAsync_v2)(void *, uint64_t, size_t, CUstream_st *);
    int (*cuStreamCreate)(CUstream_st **, unsigned);
    int (*cuStreamSynchronize)(CUstream_st *);
    int (*cuStreamDestroy_v2)(CUstream_st *);
    int (*cuGetErrorName)(int, const char **);

    Driver() {
        void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // for good: it cannot be unloaded safely
        if (!library)
            fail_backend(
                "this machine has no NVIDIA driver (libcuda was not found); install the driver, or run an "
                ".xml engine, which needs no GPU");
#define ET_FIND(symbol)                                                          \
    if (!(symbol = reinterpret_cast<decltype(symbol)>(dlsym(library, #symbol)))) \
    fail_backend("the NVIDIA driver has no " #symbol "; install one for CUDA 11 or newer")
        ET_FIND(cuInit);
        ET_FIND(cuDriverGetVersion);
        ET_FIND(cuDeviceGetCount);
        ET_FIND(cuDeviceGet);
        ET_FIND(cuDeviceGetName);
        ET_FIND(cuDeviceGetAttribute);
        ET_FIND(cuDevicePrimaryCtxRetain);
        ET_FIND(cuDevicePrimaryCtxRelease_v2);
        ET_FIND(cuCtxPushCurrent_v2);
        ET_FIND(cuCtxPopCurrent_v2);
        ET_FIND(cuMemAlloc_v2);
        ET_FIND(cuMemFree_v2);
        ET_FIND(cuMemHostAlloc);
        ET_FIND(cuMemFreeHost);
        ET_FIND(cuMemcpyHtoDAsync_v2);
        ET_FIND(cuMemcpyDtoHAsync_v2);
        ET_FIND(cuStreamCreate);
        ET_FIND(cuStreamSynchronize);
        ET_FIND(cuStreamDestroy_v2);
        ET_FIND(cuGetErrorName);
#undef ET_FIND
    }

    void need(int status) const {
        if (!status) return;
        const char *text = nullptr;
        cuGetErrorName(status, &text);
        fail_backend("CUDA failed with " + (text ? std::string(text) : std::to_string(status)) +
                     "; `nvidia-smi` shows whether the GPU is well");
    }
};

const Driver &loaded() {
    static const Driver found;  // a failed attempt is made again by the next call
    return found;
}

}  // namespace

struct Gpu::State {
    const Driver &cuda;
    int device = 0;
    void *context = nullptr;
    std::vector<uint64_t> memory;
    std::vector<void *> pinned;
};

Gpu::Gpu(int index) : state_(new State{loaded(), 0, nullptr, {}, {}}) {
    const Driver &cuda = state_->cuda;
    int count = 0, version = 0, parts[2];
    const int status = cuda.cuInit(0);
    if (status != no_device) {
        cuda.need(status);
        cuda.need(cuda.cuDeviceGetCount(&count));
    }
    if (!count)
        fail_backend("the NVIDIA driver sees no GPU; see `nvidia-smi`, or run an .xml engine, which needs none");
    if (index >= count)
        fail_backend("there is no GPU " + std::to_string(index) + ", the NVIDIA driver sees " + std::to_string(count) +
                     " and counts from 0; name another device");
    cuda.need(cuda.cuDeviceGet(&state_->device, index));
    char text[128] = "";
    cuda.need(cuda.cuDeviceGetName(text, sizeof text, state_->device));
    name.assign(text, strnlen(text, sizeof text));
    cuda.need(cuda.cuDeviceGetAttribute(&parts[0], major_capability, state_->device));
    cuda.need(cuda.cuDeviceGetAttribute(&parts[1], minor_capability, state_->device));
    capability = std::to_string(parts[0]) + "." + std::to_string(parts[1]);
    cuda.need(cuda.cuDriverGetVersion(&version));
    driver = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
    cuda.need(cuda.cuDevicePrimaryCtxRetain(&state_->context, state_->device));
    try {
        const Current current(*this);
        cuda.need(cuda.cuStreamCreate(&stream, non_blocking));
    } catch (...) {
        cuda.cuDevicePrimaryCtxRelease_v2(state_->device);
        throw;
    }
}

Gpu::~Gpu() {
    const Driver &cuda = state_->cuda;
    if (cuda.cuCtxPushCurrent_v2(state_->context) == 0) {
        for (const uint64_t pointer : state_->memory) cuda.cuMemFree_v2(pointer);
        for (void *pointer : state_->pinned) cuda.cuMemFreeHost(pointer);
        cuda.cuStreamDestroy_v2(stream);
        void *popped;
        cuda.cuCtxPopCurrent_v2(&popped);
    }
    cuda.cuDevicePrimaryCtxRelease_v2(state_->device);
}

Gpu::Current::Current(const Gpu &gpu) : gpu_(gpu) {
    gpu.state_->cuda.need(gpu.state_->cuda.cuCtxPushCurrent_v2(gpu.state_->context));
}

Gpu::Current::~Current() {
    void *popped;
    gpu_.state_->cuda.cuCtxPopCurrent_v2(&popped);
}

uint64_t Gpu::device_memory(size_t bytes) {
    uint64_t pointer = 0;
    state_->memory.reserve(state_->memory.size() + 1);  // before there is something to lose
    state_->cuda.need(state_->cuda.cuMemAlloc_v2(&pointer, bytes));
    state_->memory.push_back(pointer);
    return pointer;
}

void *Gpu::pinned_memory(size_t bytes) {
    void *pointer = nullptr;
    state_->pinned.reserve(state_->pinned.size() + 1);
    state_->cuda.need(state_->cuda.cuMemHostAlloc(&pointer, bytes, 0));
    state_->pinned.push_back(pointer);
    return std::memset(pointer, 0, bytes);
}

void Gpu::upload(uint64_t to, const void *from, size_t bytes) {
    state_->cuda.need(state_->cuda.cuMemcpyHtoDAsync_v2(to, from, bytes, stream));
}

void Gpu::download(void *to, uint64_t from, size_t bytes) {
    state_->cuda.need(state_->cuda.cuMemcpyDtoHAsync_v2(to, from, bytes, stream));
}

void Gpu::wait() { state_->cuda.need(state_->cuda.cuStreamSynchronize(stream)); }

}  // namespace et
