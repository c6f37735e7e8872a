// The C interface of vmr's CPU kernels. No torch types: the library serves any torch version, and Python loads it
// with ctypes (vmr/ops/cpu_kernel.py mirrors the structs below, field by field).
//
// Shapes: B batch, L sequence length, D channels, N states per channel, R rank of delta, K filter taps.
// Every function returns 0, or 1 if there was no memory. Arguments are not checked here but in Python.
#pragma once

#include <stdint.h>

// Raise it whenever a struct, a constant or a meaning in this file changes.
#define VMR_ABI_VERSION 2

// Rows of a sequence between two saved states; the backward pass recomputes one such chunk at a time.
#define VMR_CHUNK_ROWS 64
// Checkpoints are padded to whole vectors of the widest instruction set, so that every instruction set can read them.
#define VMR_CHECKPOINT_LANES 16

#if defined(_WIN32)
#define VMR_EXPORT __declspec(dllexport)
#else
#define VMR_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { VMR_FLOAT32 = 0, VMR_BFLOAT16 = 1 } vmr_dtype;
typedef enum { VMR_ISA_BEST = 0, VMR_ISA_BASELINE = 1, VMR_ISA_AVX2 = 2, VMR_ISA_AVX512 = 3 } vmr_isa;

// A (B, L, channels) tensor: channels are contiguous, the other strides (in elements) are free.
typedef struct {
  void* data;
  int64_t batch_stride, row_stride;
} vmr_rows;

typedef struct {
  int64_t batch, length, channels, states;
  int64_t rank;       // 0: `delta` is (B, L, D); else it is (B, L, R) and projected by `delta_weight`
  int32_t dtype;      // vmr_dtype of u, z, addend, out, and of delta where rank is 0
  int32_t row_dtype;  // vmr_dtype of B, C, and of delta where rank is not 0
  int32_t softplus, reverse, threads, isa;
  vmr_rows u, delta, B, C;
  vmr_rows z, addend;                              // data may be null
  vmr_rows out;                                    // may be the addend itself
  const float *A, *D, *delta_bias, *delta_weight;  // (D, N); the others (D,), (D,), (D, R) may be null
  float* checkpoints;  // (B, ceil(L / VMR_CHUNK_ROWS), N, padded D): the state each chunk begins with; may be null
} vmr_scan_args;

typedef struct {
  vmr_scan_args first, second;  // of the same batch, length and channels; `out` of the first may be read by the second
} vmr_scan_pair_args;

typedef struct {
  vmr_scan_args scan;  // as given to vmr_scan_forward, with rank 0 and float32 throughout; `out` is not read
  vmr_rows grad_out, grad_u, grad_delta;
  vmr_rows grad_z, grad_addend;  // data may be null
  float* grad_BC;                // (vmr_scan_parts, B, L, 2N), to be summed over parts: B's gradient, then C's
  float *grad_A, *grad_D, *grad_delta_bias;  // (B, D, N), (B, D), (B, D), to be summed over the batch
} vmr_scan_backward_args;

typedef struct {
  int64_t batch, length, channels, taps;  // at most 8 taps
  int32_t dtype, threads, isa, unused;
  vmr_rows x;
  vmr_rows out, reverse_out;                                   // either data may be null
  const float *weight, *bias, *reverse_weight, *reverse_bias;  // (D, K) and (D,); biases may be null
} vmr_conv_args;

typedef struct {
  vmr_conv_args conv;  // float32; `weight` and `bias` are those of the one direction, no output is read or written
  int32_t reverse, unused;
  vmr_rows grad_out, grad_x;
  // (B * vmr_conv_parts, D, K + 1), to be summed over the first: gradients of the taps, then of the bias
  float* grad_weight;
} vmr_conv_backward_args;

typedef struct {
  int64_t batch, length, channels;
  int32_t x_dtype, out_dtype, threads, isa;
  vmr_rows x;
  vmr_rows residual;  // float32; data may be null
  vmr_rows stream;    // float32 sum of both, may be the residual itself; data may be null
  vmr_rows out;
  const float* weight;  // (D,)
  float eps;
} vmr_norm_args;

VMR_EXPORT int vmr_abi_version(void);
VMR_EXPORT int vmr_best_isa(void);     // vmr_isa that this processor can run
VMR_EXPORT int vmr_uses_openmp(void);  // 1: threads come from the process's OpenMP, 0: std::thread
VMR_EXPORT int64_t vmr_scan_parts(int64_t channels, int isa);  // slices of D that have their own grad_BC
VMR_EXPORT int64_t vmr_conv_parts(int64_t length);             // slices of L that have their own grad_weight

VMR_EXPORT int vmr_scan_forward(const vmr_scan_args* args);
VMR_EXPORT int vmr_scan_pair(const vmr_scan_pair_args* args);  // both, on the same threads
VMR_EXPORT int vmr_scan_backward(const vmr_scan_backward_args* args);
VMR_EXPORT int vmr_conv_silu(const vmr_conv_args* args);
VMR_EXPORT int vmr_conv_silu_backward(const vmr_conv_backward_args* args);
VMR_EXPORT int vmr_add_rms_norm(const vmr_norm_args* args);

// y = exp(x) over `count` numbers in the cache, `repeats` times, for comparison in benchmarks/scan.py. `y` has room for
// `count` numbers per thread.
VMR_EXPORT int vmr_exponentials(const float* x, float* y, int64_t count, int64_t repeats, int threads);

#ifdef __cplusplus
}
#endif
