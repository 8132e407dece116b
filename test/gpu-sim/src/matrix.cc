// Matrix instructions: mma (PTX ISA 9.7.14.5; fragment layouts in 9.7.14.5.6 and .7 for k4 and k8, 9.7.14.5.8 for
// m16n8k16), ldmatrix (9.7.14.5.15), stmatrix (9.7.14.5.16), movmatrix (9.7.14.5.17).
//
// With g = lane / 4 and t = lane % 4, the layouts of m16n8kK are: A register 2s+r holds row g + 8r and the columns of
// slice s that belong to t; B register s holds the same columns as rows, column g; C and D registers hold (g, 2t), (g,
// 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). A slice has 8 columns of 16-bit elements (t owns 2t and 2t + 1) or 4 of tf32
// (t owns t). Products are exact in binary32 and are added in binary32 in the order of k; the manual leaves order and
// precision open.
#include "access.h"
#include "alu.h"
#include "memory_op.h"

namespace gpusim {

namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
constexpr int kParts = kLanes / kWidth;
typedef float Vec __attribute__((vector_size(4 * kWidth)));
typedef float Vec4 __attribute__((vector_size(16)));

// In every group of four lanes, all get the value of the group's lane q.
template <int q>
inline Vec spread(Vec v) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(v, v, q, q, q, q, q + 4, q + 4, q + 4, q + 4, q + 8, q + 8, q + 8, q + 8, q + 12,
                                 q + 12, q + 12, q + 12);
#elif defined(__AVX__)
  return __builtin_shufflevector(v, v, q, q, q, q, q + 4, q + 4, q + 4, q + 4);
#else
  return __builtin_shufflevector(v, v, q, q, q, q);
#endif
}

// The same four values for every group.
inline Vec repeat(const float* p) {
  Vec4 v;
  std::memcpy(&v, p, sizeof(v));
#if defined(__AVX512F__)
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
#elif defined(__AVX__)
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 0, 1, 2, 3);
#else
  return v;
#endif
}

// b, one value per lane (row t, column g), to [row q][column parity][column / 2].
inline void transpose(const float* b, float* out) {
#if defined(__AVX512F__)
  Vec lo, hi;
  std::memcpy(&lo, b, sizeof(lo));
  std::memcpy(&hi, b + kWidth, sizeof(hi));
  const Vec first = __builtin_shufflevector(lo, hi, 0, 8, 16, 24, 4, 12, 20, 28, 1, 9, 17, 25, 5, 13, 21, 29);
  const Vec second = __builtin_shufflevector(lo, hi, 2, 10, 18, 26, 6, 14, 22, 30, 3, 11, 19, 27, 7, 15, 23, 31);
  std::memcpy(out, &first, sizeof(first));
  std::memcpy(out + kWidth, &second, sizeof(second));
#else
  for (int q = 0; q < 4; ++q) {
    for (int j = 0; j < 2; ++j) {
      for (int h = 0; h < 4; ++h) out[q * 8 + j * 4 + h] = b[(2 * h + j) * 4 + q];
    }
  }
#endif
}

template <int q>
inline void multiply_column(const Vec* upper, const Vec* lower, const float* b, Vec (*acc)[kParts]) {
  const Vec even = repeat(b + q * 8), odd = repeat(b + q * 8 + 4);
  for (int v = 0; v < kParts; ++v) {
    const Vec x = spread<q>(upper[v]), y = spread<q>(lower[v]);
    acc[0][v] += x * even;
    acc[1][v] += x * odd;
    acc[2][v] += y * even;
    acc[3][v] += y * odd;
  }
}

enum class Element { kBF16, kF16, kTF32 };

// The half `h` of packed 16-bit elements, or tf32 with its low bits dropped.
template <Element kE>
inline void unpack(const uint32_t* r, int h, float* out) {
  for (int i = 0; i < kLanes; ++i) {
    if constexpr (kE == Element::kBF16) out[i] = bit_cast<float>(h ? r[i] & 0xffff0000u : r[i] << 16);
    if constexpr (kE == Element::kF16) out[i] = f16_to_f32(static_cast<uint16_t>(h ? r[i] >> 16 : r[i]));
    if constexpr (kE == Element::kTF32) out[i] = bit_cast<float>(r[i] & 0xffffe000u);
  }
}

// Operands: D (4, or 2 if packed f16), A (2 per slice), B (1 per slice), C (as D).
template <Element kE, int kSlices, bool kHalfResult>
void mma(Warp& w, const Instr& in, Mask m) {
  require_whole_warp(m);
  constexpr int kResults = kHalfResult ? 2 : 4;
  constexpr int kHalves = kE == Element::kTF32 ? 1 : 2;
  const Ref* a = in.r + kResults;
  const Ref* b = a + 2 * kSlices;
  const Ref* c = b + kSlices;
  alignas(64) float acc_memory[4][kLanes];
  for (int k = 0; k < 4; ++k) {
    if (kHalfResult) {
      const uint32_t* h = src<uint32_t>(w, c[k / 2]);
      for (int i = 0; i < kLanes; ++i) acc_memory[k][i] = f16_to_f32(static_cast<uint16_t>(k & 1 ? h[i] >> 16 : h[i]));
    } else {
      std::memcpy(acc_memory[k], w.at(c[k]), sizeof(acc_memory[k]));
    }
  }
  Vec acc[4][kParts];
  std::memcpy(acc, acc_memory, sizeof(acc));
  for (int s = 0; s < kSlices; ++s) {
    alignas(64) float bt[kHalves][kLanes];
    Vec upper[kHalves][kParts], lower[kHalves][kParts];
    for (int h = 0; h < kHalves; ++h) {
      alignas(64) float x[kLanes];
      unpack<kE>(src<uint32_t>(w, b[s]), h, x);
      transpose(x, bt[h]);
      unpack<kE>(src<uint32_t>(w, a[2 * s]), h, x);
      std::memcpy(upper[h], x, sizeof(x));
      unpack<kE>(src<uint32_t>(w, a[2 * s + 1]), h, x);
      std::memcpy(lower[h], x, sizeof(x));
    }
    for (int h = 0; h < kHalves; ++h) multiply_column<0>(upper[h], lower[h], bt[h], acc);
    for (int h = 0; h < kHalves; ++h) multiply_column<1>(upper[h], lower[h], bt[h], acc);
    for (int h = 0; h < kHalves; ++h) multiply_column<2>(upper[h], lower[h], bt[h], acc);
    for (int h = 0; h < kHalves; ++h) multiply_column<3>(upper[h], lower[h], bt[h], acc);
  }
  std::memcpy(acc_memory, acc, sizeof(acc));
  for (int k = 0; k < kResults; ++k) {
    if (kHalfResult) {
      uint32_t r[kLanes];
      for (int i = 0; i < kLanes; ++i)
        r[i] = static_cast<uint32_t>(f32_to_f16(acc_memory[2 * k + 1][i])) << 16 | f32_to_f16(acc_memory[2 * k][i]);
      put(w, in.r[k], m, r);
    } else {
      put(w, in.r[k], m, acc_memory[k]);
    }
  }
}

void decode_mma(Decoder& d) {
  if (!d.take("sync") || !d.take("aligned")) d.fail("only mma.sync.aligned is supported");
  int shape = d.take_one_of({"m16n8k16", "m16n8k8", "m16n8k4"});
  if (!d.take("row") || !d.take("col")) d.fail("only .row.col is supported");
  Type td = d.take_type(), ta = d.take_type(), tb = d.take_type(), tc = d.take_type();
  d.finish();
  d.expect_operands(4);
  if (shape < 0 || ta != tb || td != tc) d.fail("this shape or combination of types is not supported");
  const int k = shape == 0 ? 16 : shape == 1 ? 8 : 4;
  const int slices = ta == Type::kTF32 ? k / 4 : k / 8;
  const bool half = td == Type::kF16;
  Handler fn = nullptr;
  if (td == Type::kF32) {
    if (ta == Type::kBF16 && k == 16) fn = mma<Element::kBF16, 2, false>;
    if (ta == Type::kBF16 && k == 8) fn = mma<Element::kBF16, 1, false>;
    if (ta == Type::kF16 && k == 16) fn = mma<Element::kF16, 2, false>;
    if (ta == Type::kF16 && k == 8) fn = mma<Element::kF16, 1, false>;
    if (ta == Type::kTF32 && k == 8) fn = mma<Element::kTF32, 2, false>;
    if (ta == Type::kTF32 && k == 4) fn = mma<Element::kTF32, 1, false>;
  } else if (half && ta == Type::kF16) {
    if (k == 16) fn = mma<Element::kF16, 2, true>;
    if (k == 8) fn = mma<Element::kF16, 1, true>;
  }
  if (!fn) d.fail("this shape or combination of types is not supported");
  auto vector = [&](size_t at, int n, bool result) {
    const Operand& o = d.operand(at);
    // A single register may stand without braces.
    if (n == 1 && o.kind != Operand::kVector) return d.use(o, Type::kB32);
    if (o.kind != Operand::kVector || static_cast<int>(o.parts.size()) != n)
      d.fail("operand " + std::to_string(at + 1) + " must have " + std::to_string(n) + " registers");
    for (const Operand& p : o.parts) result ? d.def(p, 4) : d.use(p, Type::kB32);
  };
  vector(0, half ? 2 : 4, true);
  vector(1, 2 * slices, false);
  vector(2, slices, false);
  vector(3, half ? 2 : 4, false);
  d.emit(fn, Kind::kMma);
}

struct MatrixOp {
  MemoryOp memory;
  int matrices = 1;
  bool transposed = false;
};

// Rows are 16 bytes; lane 8i + j gives the address of row j of matrix i. Checked and counted a matrix at a time.
void row_addresses(Warp& w, const Instr& in, const MatrixOp& op, bool is_write, uint64_t* a) {
  lane_addresses(w, in, op.memory, a);
  if (op.memory.space == Space::kGeneric) {
    for (int i = 0; i < kLanes; ++i) a[i] -= kSharedWindow;
  }
  const Mask lanes = op.matrices == 4 ? kFull : (1u << 8 * op.matrices) - 1;
  check_alignment(a, lanes, 16);
  check_shared_bounds(w, a, lanes, 16);
  count_shared(w, in, a, lanes, 16, is_row(a, lanes, 16), is_write);
}

inline void transpose8x8(const uint16_t* in, uint16_t* out) {
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) out[c * 8 + r] = in[r * 8 + c];
  }
}

// Lane l receives elements (l / 4, 2 (l % 4)) and the next: a register is the matrix, row after row.
void ldmatrix(Warp& w, const Instr& in, Mask m) {
  require_whole_warp(m);
  const MatrixOp& op = *static_cast<const MatrixOp*>(in.aux);
  Block& b = *w.block;
  uint64_t a[kLanes];
  row_addresses(w, in, op, false, a);
  const int rows = 8 * op.matrices;
  if (b.shadow.enabled() && !b.shadow.read_pieces(w.clock, w.id, a, rows)) {
    for (int i = 0; i < rows; ++i)
      b.shadow.read(w.clock, w.id, static_cast<uint32_t>(i), static_cast<uint32_t>(a[i]), 16, true);
  }
  for (int k = 0; k < op.matrices; ++k) {
    alignas(64) uint16_t r[64], t[64];
    for (int j = 0; j < 8; ++j) std::memcpy(r + 8 * j, b.shared + a[8 * k + j], 16);
    if (op.transposed) transpose8x8(r, t);
    put(w, in.r[k], m, reinterpret_cast<const uint32_t*>(op.transposed ? t : r));
  }
}

void stmatrix(Warp& w, const Instr& in, Mask m) {
  require_whole_warp(m);
  const MatrixOp& op = *static_cast<const MatrixOp*>(in.aux);
  Block& b = *w.block;
  uint64_t a[kLanes];
  row_addresses(w, in, op, true, a);
  for (int k = 0; k < op.matrices; ++k) {
    alignas(64) uint16_t r[64], t[64];
    std::memcpy(r, w.at(in.r[op.memory.data + k]), sizeof(r));
    if (op.transposed) transpose8x8(r, t);
    const uint16_t* s = op.transposed ? t : r;
    for (int j = 0; j < 8; ++j) {
      const uint32_t lane = static_cast<uint32_t>(8 * k + j), at = static_cast<uint32_t>(a[lane]);
      if (b.shadow.enabled())
        b.shadow.write(w.clock, w.id, lane, at, 16, std::memcmp(b.shared + at, s + 8 * j, 16) == 0);
      std::memcpy(b.shared + at, s + 8 * j, 16);
    }
  }
}

void movmatrix(Warp& w, const Instr& in, Mask m) {
  require_whole_warp(m);
  alignas(64) uint16_t r[64], t[64];
  std::memcpy(r, w.at(in.r[1]), sizeof(r));
  transpose8x8(r, t);
  put(w, in.r[0], m, reinterpret_cast<const uint32_t*>(t));
}

void decode_matrix_access(Decoder& d, bool is_store) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8")) d.fail("only .sync.aligned.m8n8 is supported");
  MatrixOp* op = d.aux<MatrixOp>();
  int n = d.take_one_of({"x1", "x2", "x4"});
  op->matrices = n < 0 ? 0 : 1 << n;
  op->transposed = d.take("trans");
  Space space = take_space(d);
  Type t = d.take_type();
  d.finish();
  d.expect_operands(2);
  if (n < 0 || t != Type::kB16 || (space != Space::kShared && space != Space::kGeneric))
    d.fail("this form is not supported");
  const Operand& o = d.operand(is_store ? 1 : 0);
  auto registers = [&] {
    op->memory.data = static_cast<int>(d.draft().values.size());
    if (o.kind != Operand::kVector || static_cast<int>(o.parts.size()) != op->matrices)
      d.fail("wrong number of registers");
    for (const Operand& p : o.parts) is_store ? d.use(p, Type::kB32) : d.def(p, 4);
  };
  if (!is_store) registers();
  decode_address(d, d.operand(is_store ? 0 : 1), space, &op->memory);
  if (is_store) registers();
  note_shared_access(d, Space::kShared, 16);
  d.emit(is_store ? stmatrix : ldmatrix, is_store ? Kind::kStmatrix : Kind::kLdmatrix);
}

}  // namespace

void add_matrix(DecodeTable& t) {
  t["mma"] = decode_mma;
  t["ldmatrix"] = [](Decoder& d) { decode_matrix_access(d, false); };
  t["stmatrix"] = [](Decoder& d) { decode_matrix_access(d, true); };
  t["movmatrix"] = [](Decoder& d) {
    if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8") || !d.take("trans"))
      d.fail("this form is not supported");
    d.take_type();
    d.finish();
    same_type_operands(d, Type::kB32, 1);
    d.emit(movmatrix, Kind::kShuffle);
  };
}

}  // namespace gpusim
