// The part of the CUDA driver API's C interface that the simulator has, declared anew: names, numbers and argument
// lists as in the CUDA Driver API manual.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef struct CUgraph_st* CUgraph;
typedef struct CUgraphExec_st* CUgraphExec;
typedef void (*CUhostFn)(void*);

}  // extern "C"

namespace gpusim {

constexpr int kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kDeinitialized = 4,
              kDeviceUnavailable = 46, kNoDevice = 100, kInvalidDevice = 101, kInvalidImage = 200,
              kInvalidContext = 201, kNoBinaryForGpu = 209, kInvalidPtx = 218, kUnsupportedPtx = 222, kContained = 226,
              kInvalidHandle = 400, kNotFound = 500, kNotReady = 600, kLaunchOutOfResources = 701, kNotPermitted = 800,
              kNotSupported = 801, kSystemNotReady = 802, kDriverMismatch = 803, kCompatNotSupported = 804,
              kMpsClientTerminated = 810, kCaptureUnsupported = 900, kCaptureInvalidated = 901, kCaptureUnmatched = 903,
              kCaptureUnjoined = 904, kCaptureIsolation = 905, kCaptureImplicit = 906, kCapturedEvent = 907,
              kUnknown = 999;

}  // namespace gpusim

#define GPUSIM_API extern "C" __attribute__((visibility("default")))
