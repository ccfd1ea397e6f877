// A double of the little of TensorRT's interface that libedgetalk uses, so that its calls are compiled and tried where
// the vendor's headers are not. It is not TensorRT's interface: a library built with it runs with the double beside it
// (nvinfer.cpp) and with nothing else.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#define NV_TENSORRT_MAJOR 99
#define NV_TENSORRT_MINOR 1
#define NV_TENSORRT_VERSION 990100

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT, kHALF, kINT8, kINT32, kBOOL, kUINT8, kFP8, kBF16, kINT64 };
enum class TensorIOMode : int32_t { kNONE, kINPUT, kOUTPUT };
enum class ExecutionContextAllocationStrategy : int32_t { kSTATIC };
enum class OptProfileSelector : int32_t { kMIN, kOPT, kMAX };

struct Dims {
    int32_t nbDims;
    int64_t d[8];
};

class ILogger {
  public:
    enum class Severity : int32_t { kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE };
    virtual ~ILogger() = default;
    virtual void log(Severity severity, const char *message) noexcept = 0;
};

class IExecutionContext;
class ICudaEngine;

namespace apiv {
struct VExecutionContext {
    virtual ~VExecutionContext() = default;
    virtual bool setInputShape(const char *name, const Dims &dims) noexcept = 0;
    virtual Dims getTensorShape(const char *name) const noexcept = 0;
    virtual bool setTensorAddress(const char *name, void *data) noexcept = 0;
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
};
struct VCudaEngine {
    virtual ~VCudaEngine() = default;
    virtual IExecutionContext *createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept = 0;
    virtual int32_t getNbIOTensors() const noexcept = 0;
    virtual const char *getIOTensorName(int32_t index) const noexcept = 0;
    virtual TensorIOMode getTensorIOMode(const char *name) const noexcept = 0;
    virtual DataType getTensorDataType(const char *name) const noexcept = 0;
    virtual Dims getTensorShape(const char *name) const noexcept = 0;
    virtual Dims getProfileShape(const char *name, int32_t profile, OptProfileSelector select) const noexcept = 0;
};
struct VRuntime {
    virtual ~VRuntime() = default;
    virtual ICudaEngine *deserializeCudaEngine(const void *blob, size_t size) noexcept = 0;
    virtual void setEngineHostCodeAllowed(bool allowed) noexcept = 0;
};
}  // namespace apiv

class IExecutionContext {
  public:
    virtual ~IExecutionContext() = default;
    bool setInputShape(const char *name, const Dims &dims) noexcept { return mImpl->setInputShape(name, dims); }
    Dims getTensorShape(const char *name) const noexcept { return mImpl->getTensorShape(name); }
    bool setTensorAddress(const char *name, void *data) noexcept { return mImpl->setTensorAddress(name, data); }
    bool enqueueV3(cudaStream_t stream) noexcept { return mImpl->enqueueV3(stream); }

  protected:
    apiv::VExecutionContext *mImpl;
};

class ICudaEngine {
  public:
    virtual ~ICudaEngine() = default;
    IExecutionContext *createExecutionContext() noexcept {
        return mImpl->createExecutionContext(ExecutionContextAllocationStrategy::kSTATIC);
    }
    int32_t getNbIOTensors() const noexcept { return mImpl->getNbIOTensors(); }
    const char *getIOTensorName(int32_t index) const noexcept { return mImpl->getIOTensorName(index); }
    TensorIOMode getTensorIOMode(const char *name) const noexcept { return mImpl->getTensorIOMode(name); }
    DataType getTensorDataType(const char *name) const noexcept { return mImpl->getTensorDataType(name); }
    Dims getTensorShape(const char *name) const noexcept { return mImpl->getTensorShape(name); }
    Dims getProfileShape(const char *name, int32_t profile, OptProfileSelector select) const noexcept {
        return mImpl->getProfileShape(name, profile, select);
    }

  protected:
    apiv::VCudaEngine *mImpl;
};

class IRuntime {
  public:
    virtual ~IRuntime() = default;
    ICudaEngine *deserializeCudaEngine(const void *blob, size_t size) noexcept {
        return mImpl->deserializeCudaEngine(blob, size);
    }
    void setEngineHostCodeAllowed(bool allowed) noexcept { mImpl->setEngineHostCodeAllowed(allowed); }

  protected:
    apiv::VRuntime *mImpl;
};

}  // namespace nvinfer1
