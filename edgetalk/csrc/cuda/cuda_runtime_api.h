// The two names of CUDA that TensorRT's headers use, so that they compile where no CUDA is installed. They stand for
// the driver's CUstream and CUevent, as in CUDA's own header.
#pragma once

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
