// Reading and writing 32 lanes of a register.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "warp.h"

namespace gpusim {

template <class T>
inline const T* src(const Warp& w, Ref r) {
  return reinterpret_cast<const T*>(w.at(r));
}

/// Stores 32 values under a mask. Lanes that have exited may be overwritten: nobody reads them again.
template <class T>
inline void put(Warp& w, Ref r, Mask m, const T* v) {
  T* d = reinterpret_cast<T*>(w.reg(r));
  if (m == w.alive) {
    std::memcpy(d, v, kLanes * sizeof(T));
  } else {
    for (int i = 0; i < kLanes; ++i) d[i] = (m >> i & 1) ? v[i] : d[i];
  }
}

/// Bit i is set where v[i] is not zero.
inline Mask to_mask(const uint32_t* v) {
#if defined(__AVX512F__) && !defined(__clang__)
  // The compiler's own function instead of <immintrin.h>, which takes longer to compile than most files here.
  typedef int Half __attribute__((vector_size(64)));
  Half lo, hi;
  std::memcpy(&lo, v, 64);
  std::memcpy(&hi, v + 16, 64);
  const Mask first = static_cast<uint16_t>(__builtin_ia32_ptestmd512(lo, lo, -1));
  return first | static_cast<Mask>(static_cast<uint16_t>(__builtin_ia32_ptestmd512(hi, hi, -1))) << 16;
#else
  Mask m = 0;
  for (int i = 0; i < kLanes; ++i) m |= static_cast<Mask>(v[i] != 0) << i;
  return m;
#endif
}

inline void put_pred(Warp& w, PredRef p, Mask m, Mask value) {
  if (p.index) w.pred[p.index] = (w.pred[p.index] & ~m) | (value & m);
}

inline int first_lane(Mask m) {
  return __builtin_ctz(m);
}

}  // namespace gpusim
