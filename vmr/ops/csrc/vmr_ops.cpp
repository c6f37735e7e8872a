// Compiles the kernels once per instruction set, chooses the processor's best set at run time, and divides the work
// into tasks. Nothing is compiled for the building machine alone, so a wheel runs everywhere.

#include "vmr_ops.h"

#include <cmath>
#include <type_traits>

#include "parallel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vmr {

struct BFloat16 {
  uint16_t bits;
};

template <int VALUE>
using Constant = std::integral_constant<int, VALUE>;

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline int64_t chunk_count(const vmr_scan_args& args) { return (args.length + VMR_CHUNK_ROWS - 1) / VMR_CHUNK_ROWS; }

// States decay into denormal numbers, on which some processors are a hundred times slower; zero serves as well.
class FlushDenormals {
#if defined(__x86_64__)
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }  // flush to zero, denormals are zero
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
 public:
  ~FlushDenormals() {}
#endif
};

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
#define INSTRUCTION_SET avx512
#define VMR_AVX512
#define LANES 16
#define STATES_IN_REGISTERS 16
#include "kernels.inc"
#undef INSTRUCTION_SET
#undef VMR_AVX512
#undef LANES
#undef STATES_IN_REGISTERS
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define INSTRUCTION_SET avx2
#define VMR_AVX2
#define LANES 8
#define STATES_IN_REGISTERS 8
#include "kernels.inc"
#undef INSTRUCTION_SET
#undef VMR_AVX2
#undef LANES
#undef STATES_IN_REGISTERS
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // x86-64

#define INSTRUCTION_SET baseline
#define LANES 4
#define STATES_IN_REGISTERS 8
#include "kernels.inc"

int best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return VMR_ISA_AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return VMR_ISA_AVX2;
#endif
  return VMR_ISA_BASELINE;
}

// Calls run(Kernels{}) with the kernels of the requested instruction set, or the best below it that the processor has.
template <class Run>
auto with_kernels(int isa, const Run& run) {
#if defined(__x86_64__)
  static const int best = best_isa();
  const int chosen = isa == VMR_ISA_BEST || isa > best ? best : isa;
  if (chosen == VMR_ISA_AVX512) return run(avx512::Kernels{});
  if (chosen == VMR_ISA_AVX2) return run(avx2::Kernels{});
#endif
  return run(baseline::Kernels{});
}

// Slices per batch item. Every thread gets about two tasks, so that no thread waits long for a slow one at the end.
int64_t slices(int64_t batch, int64_t most, int threads) {
  int64_t wanted = (2 * (int64_t)threads + batch - 1) / batch;
  return wanted < 1 ? 1 : wanted > most ? most : wanted;
}

// Slices of the backward pass: six blocks each, whatever the number of threads. The slices' sums are added later, so
// another division would change the last bits of the result. With fewer blocks, sums over lanes would take too long.
int64_t backward_parts(int64_t blocks) { return blocks < 6 ? 1 : blocks / 6; }

// Runs scans of the same batch, length and channels. A task does its channels of one after the other.
template <int COUNT>
int scan_forward(const vmr_scan_args* const (&scans)[COUNT]) {
  const vmr_scan_args& sizes = *scans[0];
  const bool ok = with_kernels(sizes.isa, [&](auto kernels) {
    const int64_t blocks = round_up(sizes.channels, kernels.lanes) / kernels.lanes;
    const int64_t parts = slices(sizes.batch, blocks, sizes.threads);
    return parallel_for(sizes.threads, sizes.batch * parts, [&](int64_t i) {
      const int64_t part = i % parts;
      bool done = true;
      for (const vmr_scan_args* scan : scans)
        done = done && kernels.scan_forward(*scan, i / parts, blocks * part / parts, blocks * (part + 1) / parts);
      return done;
    });
  });
  return ok ? 0 : 1;
}

}  // namespace vmr

extern "C" {

int vmr_abi_version(void) { return VMR_ABI_VERSION; }

int vmr_best_isa(void) { return vmr::best_isa(); }

int vmr_uses_openmp(void) { return vmr::openmp() != nullptr; }

int64_t vmr_scan_parts(int64_t channels, int isa) {
  return vmr::with_kernels(
      isa, [&](auto kernels) { return vmr::backward_parts(vmr::round_up(channels, kernels.lanes) / kernels.lanes); });
}

int64_t vmr_conv_parts(int64_t length) { return (length + 255) / 256; }

int vmr_scan_forward(const vmr_scan_args* args) { return vmr::scan_forward({args}); }

int vmr_scan_pair(const vmr_scan_pair_args* args) { return vmr::scan_forward({&args->first, &args->second}); }

int vmr_scan_backward(const vmr_scan_backward_args* args) {
  const vmr_scan_args& scan = args->scan;
  const bool ok = vmr::with_kernels(scan.isa, [&](auto kernels) {
    const int64_t blocks = vmr::round_up(scan.channels, kernels.lanes) / kernels.lanes;
    const int64_t parts = vmr::backward_parts(blocks);
    return vmr::parallel_for(scan.threads, scan.batch * parts, [&](int64_t i) {
      const int64_t part = i % parts;
      return kernels.scan_backward(*args, i / parts, part, blocks * part / parts, blocks * (part + 1) / parts);
    });
  });
  return ok ? 0 : 1;
}

int vmr_conv_silu(const vmr_conv_args* args) {
  const bool ok = vmr::with_kernels(args->isa, [&](auto kernels) {
    const int64_t parts = vmr::slices(args->batch, args->length, args->threads);
    return vmr::parallel_for(args->threads, args->batch * parts, [&](int64_t i) {
      const int64_t part = i % parts;
      return kernels.conv(*args, i / parts, args->length * part / parts, args->length * (part + 1) / parts);
    });
  });
  return ok ? 0 : 1;
}

int vmr_conv_silu_backward(const vmr_conv_backward_args* args) {
  const vmr_conv_args& conv = args->conv;
  const int64_t parts = vmr_conv_parts(conv.length);
  const bool ok = vmr::with_kernels(conv.isa, [&](auto kernels) {
    return vmr::parallel_for(conv.threads, conv.batch * parts, [&](int64_t i) {
      const int64_t part = i % parts;
      return kernels.conv_backward(*args, i, i / parts, conv.length * part / parts, conv.length * (part + 1) / parts);
    });
  });
  return ok ? 0 : 1;
}

int vmr_add_rms_norm(const vmr_norm_args* args) {
  const int64_t rows = args->batch * args->length;
  const bool ok = vmr::with_kernels(args->isa, [&](auto kernels) {
    const int64_t parts = vmr::slices(1, rows, args->threads);
    return vmr::parallel_for(args->threads, parts,
                             [&](int64_t i) { return kernels.norm(*args, rows * i / parts, rows * (i + 1) / parts); });
  });
  return ok ? 0 : 1;
}

int vmr_exponentials(const float* x, float* y, int64_t count, int64_t repeats, int threads) {
  vmr::with_kernels(VMR_ISA_BEST, [&](auto kernels) {
    return vmr::parallel_for(threads, threads, [&](int64_t i) {
      for (int64_t r = repeats * i / threads; r < repeats * (i + 1) / threads; r++) {
        kernels.exponentials(x, y + i * count, count);
        __asm__ volatile("" ::: "memory");  // keeps the compiler from dropping all rounds but the last
      }
      return true;
    });
  });
  return 0;
}

}  // extern "C"
