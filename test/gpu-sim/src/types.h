// PTX types (PTX ISA 5.2) and the number formats that the CPU has no type for.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace gpusim {

enum class Type : uint8_t {
  kNone,
  kPred,
  kB8,
  kU8,
  kS8,
  kB16,
  kU16,
  kS16,
  kF16,
  kBF16,
  kB32,
  kU32,
  kS32,
  kF32,
  kTF32,
  kF16x2,
  kBF16x2,
  kB64,
  kU64,
  kS64,
  kF64,
  kB128
};

/// Bytes of one value of a type; 0 for predicates.
inline int size_of(Type t) {
  switch (t) {
    case Type::kB8:
    case Type::kU8:
    case Type::kS8:
      return 1;
    case Type::kB16:
    case Type::kU16:
    case Type::kS16:
    case Type::kF16:
    case Type::kBF16:
      return 2;
    case Type::kB32:
    case Type::kU32:
    case Type::kS32:
    case Type::kF32:
    case Type::kTF32:
    case Type::kF16x2:
    case Type::kBF16x2:
      return 4;
    case Type::kB64:
    case Type::kU64:
    case Type::kS64:
    case Type::kF64:
      return 8;
    case Type::kB128:
      return 16;
    default:
      return 0;
  }
}

inline bool is_signed(Type t) {
  return t == Type::kS8 || t == Type::kS16 || t == Type::kS32 || t == Type::kS64;
}
inline bool is_float(Type t) {
  return t == Type::kF16 || t == Type::kBF16 || t == Type::kF32 || t == Type::kTF32 || t == Type::kF64;
}
inline bool is_packed(Type t) {
  return t == Type::kF16x2 || t == Type::kBF16x2;
}

/// The type that a name such as "u32" (without the dot) stands for; kNone if it is none.
inline Type type_from_name(const std::string& s) {
  static const struct {
    const char* name;
    Type type;
  } kNames[] = {{"pred", Type::kPred}, {"b8", Type::kB8},     {"u8", Type::kU8},       {"s8", Type::kS8},
                {"b16", Type::kB16},   {"u16", Type::kU16},   {"s16", Type::kS16},     {"f16", Type::kF16},
                {"bf16", Type::kBF16}, {"b32", Type::kB32},   {"u32", Type::kU32},     {"s32", Type::kS32},
                {"f32", Type::kF32},   {"tf32", Type::kTF32}, {"f16x2", Type::kF16x2}, {"bf16x2", Type::kBF16x2},
                {"b64", Type::kB64},   {"u64", Type::kU64},   {"s64", Type::kS64},     {"f64", Type::kF64},
                {"b128", Type::kB128}};
  for (const auto& n : kNames) {
    if (s == n.name) return n.type;
  }
  return Type::kNone;
}

template <class To, class From>
inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "sizes must agree");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline float bf16_to_f32(uint16_t h) {
  return bit_cast<float>(static_cast<uint32_t>(h) << 16);
}

/// IEEE binary16 to binary32, exact (subnormals included).
inline float f16_to_f32(uint16_t h) {
  uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  uint32_t rest = h & 0x7fffu;
  if (rest >= 0x7c00u) return bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // 2^112 moves the exponent bias from 15 to 127; the product also normalises subnormals.
  float f = bit_cast<float>(rest << 13) * bit_cast<float>(0x77800000u);
  return bit_cast<float>(sign | bit_cast<uint32_t>(f));
}

/// Rounding modes of cvt (PTX ISA 9.7.9.21).
enum class Round : uint8_t { kNone, kNearest, kZero, kDown, kUp, kNearestAway };

/// Drops the low `drop` bits of a positive magnitude held in an integer, rounding as asked.
inline uint64_t round_bits(uint64_t magnitude, int drop, bool negative, Round mode) {
  uint64_t kept = magnitude >> drop;
  uint64_t lost = magnitude & ((1ull << drop) - 1);
  uint64_t half = 1ull << (drop - 1);
  bool up = false;
  switch (mode) {
    case Round::kZero:
      break;
    case Round::kDown:
      up = negative && lost;
      break;
    case Round::kUp:
      up = !negative && lost;
      break;
    case Round::kNearestAway:
      up = lost >= half;
      break;
    default:
      up = lost > half || (lost == half && (kept & 1));
      break;
  }
  return kept + up;
}

/// binary32 to bfloat16. NaN becomes the canonical 0x7fff (PTX ISA 9.7.9.21).
inline uint16_t f32_to_bf16(float f, Round mode = Round::kNearest) {
  uint32_t u = bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  bool negative = u >> 31;
  uint32_t magnitude = u & 0x7fffffffu;
  uint16_t kept = static_cast<uint16_t>(round_bits(magnitude, 16, negative, mode));
  // Rounding toward zero (or toward the other infinity) never leaves the finite numbers.
  return static_cast<uint16_t>(kept | (negative ? 0x8000u : 0u));
}

/// binary64 to binary32, rounded to odd: a result that is not exact has its last bit set, so that rounding it once more
/// to fewer bits gives what rounding the original would.
inline float f64_to_f32_odd(double d) {
  float f = static_cast<float>(d);
  uint32_t u = bit_cast<uint32_t>(f);
  if (static_cast<double>(f) == d || d != d || (u & 0x7fffffffu) == 0x7f800000u) return f;
  const double magnitude = f < 0 ? -static_cast<double>(f) : f;
  if (magnitude > (d < 0 ? -d : d)) --u;
  return bit_cast<float>(u | 1);
}

/// binary64 to binary16, one rounding. NaN becomes the canonical 0x7fff.
inline uint16_t f64_to_f16(double d, Round mode = Round::kNearest) {
  uint64_t u = bit_cast<uint64_t>(d);
  bool negative = u >> 63;
  uint16_t sign = negative ? 0x8000u : 0u;
  uint64_t magnitude = u & 0x7fffffffffffffffull;
  if (magnitude > 0x7ff0000000000000ull) return 0x7fff;
  if (magnitude == 0x7ff0000000000000ull) return sign | 0x7c00u;
  if (magnitude == 0) return sign;
  int exponent = static_cast<int>(magnitude >> 52) - 1023;
  bool grows = mode == Round::kNearest || mode == Round::kNearestAway || (mode == Round::kUp && !negative) ||
               (mode == Round::kDown && negative);
  if (exponent > 15) return sign | (grows ? 0x7c00u : 0x7bffu);
  uint64_t mantissa = (magnitude & 0xfffffffffffffull) | (1ull << 52);
  if (exponent >= -14) {
    uint64_t kept = round_bits(mantissa, 42, negative, mode);  // 11 bits with the leading one
    return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + kept));
  }
  int drop = 42 + (-14 - exponent);
  if (drop > 63) drop = 63;
  return static_cast<uint16_t>(sign | round_bits(mantissa, drop, negative, mode));
}

inline uint16_t f32_to_f16(float f, Round mode = Round::kNearest) {
  return f64_to_f16(f, mode);
}

/// binary32 with the 13 low mantissa bits dropped (tf32: 1 + 8 + 10 bits).
inline uint32_t f32_to_tf32(float f, Round mode) {
  uint32_t u = bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;
  uint32_t kept = static_cast<uint32_t>(round_bits(u & 0x7fffffffu, 13, u >> 31, mode)) << 13;
  return kept | (u & 0x80000000u);
}

/// Flush a subnormal to zero of the same sign (.ftz).
inline float ftz(float f) {
  uint32_t u = bit_cast<uint32_t>(f);
  return (u & 0x7f800000u) == 0 ? bit_cast<float>(u & 0x80000000u) : f;
}

}  // namespace gpusim
