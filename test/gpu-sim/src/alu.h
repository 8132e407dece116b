// Lane-wise handlers from a scalar function.
#pragma once

#include "decoder.h"
#include "lanes.h"

namespace gpusim {

template <class F, class D, class A>
void unary(Warp& w, const Instr& in, Mask m) {
  const A* a = src<A>(w, in.r[1]);
  D r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = F::run(a[i]);
  put(w, in.r[0], m, r);
}

template <class F, class D, class A, class B>
void binary(Warp& w, const Instr& in, Mask m) {
  const A* a = src<A>(w, in.r[1]);
  const B* b = src<B>(w, in.r[2]);
  D r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = F::run(a[i], b[i]);
  put(w, in.r[0], m, r);
}

template <class F, class D, class A, class B, class C>
void ternary(Warp& w, const Instr& in, Mask m) {
  const A* a = src<A>(w, in.r[1]);
  const B* b = src<B>(w, in.r[2]);
  const C* c = src<C>(w, in.r[3]);
  D r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = F::run(a[i], b[i], c[i]);
  put(w, in.r[0], m, r);
}

template <class F, class T>
Handler unary_of() {
  return unary<F, T, T>;
}
template <class F, class T>
Handler binary_of() {
  return binary<F, T, T, T>;
}
template <class F, class T>
Handler ternary_of() {
  return ternary<F, T, T, T, T>;
}

/// The handler of an integer operation for a type; null if the type is none of the six.
template <class F>
Handler binary_int(Type t) {
  switch (t) {
    case Type::kU16:
      return binary_of<F, uint16_t>();
    case Type::kS16:
      return binary_of<F, int16_t>();
    case Type::kU32:
      return binary_of<F, uint32_t>();
    case Type::kS32:
      return binary_of<F, int32_t>();
    case Type::kU64:
      return binary_of<F, uint64_t>();
    case Type::kS64:
      return binary_of<F, int64_t>();
    default:
      return nullptr;
  }
}

/// The handler of an operation that does not care about signs, by size.
template <class F>
Handler binary_bits(int bytes) {
  switch (bytes) {
    case 2:
      return binary_of<F, uint16_t>();
    case 4:
      return binary_of<F, uint32_t>();
    case 8:
      return binary_of<F, uint64_t>();
    default:
      return nullptr;
  }
}

/// d, a, b... all of one type.
inline void same_type_operands(Decoder& d, Type t, size_t sources) {
  d.expect_operands(sources + 1);
  d.def(d.operand(0), size_of(t));
  for (size_t i = 1; i <= sources; ++i) d.use(d.operand(i), t);
}

inline void emit_checked(Decoder& d, Handler fn, Kind kind) {
  if (!fn) d.fail("this type is not supported");
  d.emit(fn, kind);
}

}  // namespace gpusim
