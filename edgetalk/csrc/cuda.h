// The few calls of NVIDIA's driver library that running a plan needs, found at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

struct CUstream_st;

namespace et {

// One GPU, in its primary context, with one stream. Memory that it gives is freed with it.
class Gpu {
  public:
    // Throws ET_ERROR_BACKEND where there is no driver, no GPU, or none of this number.
    explicit Gpu(int index);
    ~Gpu();
    Gpu(const Gpu &) = delete;
    Gpu &operator=(const Gpu &) = delete;

    // Makes the GPU's context that of this thread as long as it lives.
    class Current {
      public:
        explicit Current(const Gpu &gpu);
        ~Current();
        Current(const Current &) = delete;
        Current &operator=(const Current &) = delete;

      private:
        const Gpu &gpu_;
    };

    // What follows is called while a Current lives. Throws ET_ERROR_BACKEND.
    uint64_t device_memory(size_t bytes);  // its address on the device
    void *pinned_memory(size_t bytes);     // zeros
    void upload(uint64_t to, const void *from, size_t bytes);
    void download(void *to, uint64_t from, size_t bytes);
    void wait();  // until everything on the stream is done

    std::string name, capability, driver;  // "Orin", "8.7", "12.6": the newest CUDA that the driver supports
    CUstream_st *stream = nullptr;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace et
