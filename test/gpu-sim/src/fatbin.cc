#include "fatbin.h"

#include <cstdint>
#include <cstring>

#include "error.h"

namespace gpusim {

namespace {

// Layout worked out from files that nvcc 13.0 writes with --no-compress; all numbers little-endian.
constexpr uint32_t kFatbinMagic = 0xba55ed50;
constexpr uint32_t kWrapperMagic = 0x466243b1;
constexpr uint16_t kKindPtx = 1;
constexpr uint64_t kFlagCompressed = 0x2000 | 0x8000;  // lz4 | zstd

struct FatbinHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t header_size;
  uint64_t body_size;  // bytes after the header
};

struct EntryHeader {
  uint16_t kind;  // 1: PTX, 2: machine code
  uint16_t version;
  uint32_t header_size;
  uint64_t body_size;        // bytes after this header, up to the next entry
  uint32_t compressed_size;  // 0 if not compressed
  uint32_t options_offset;
  uint16_t minor;
  uint16_t major;
  uint32_t architecture;  // 80 for sm_80
  uint32_t name_offset;
  uint32_t name_length;
  uint64_t flags;
};

template <class T>
T read(const uint8_t* p) {
  T t;
  std::memcpy(&t, p, sizeof(t));
  return t;
}

}  // namespace

std::vector<PtxImage> ptx_images(const void* image) {
  const uint8_t* p = static_cast<const uint8_t*>(image);
  uint32_t magic = read<uint32_t>(p);
  if (magic == kWrapperMagic) {
    p = read<const uint8_t*>(p + 8);
    magic = read<uint32_t>(p);
  }
  std::vector<PtxImage> out;
  if (magic != kFatbinMagic) {
    unsigned char c = p[0];
    if (c == 0x7f) throw LoadError(0, "the image is machine code (a cubin); the simulator needs PTX");
    if (c != '.' && c != '/' && c != '\n' && c != ' ' && c != '\t' && c != '\r') {
      throw LoadError(0, "the image is neither a fatbin nor PTX text");
    }
    out.push_back({0, std::string(reinterpret_cast<const char*>(p))});
    return out;
  }
  auto header = read<FatbinHeader>(p);
  const uint8_t* at = p + header.header_size;
  const uint8_t* end = at + header.body_size;
  while (at + sizeof(EntryHeader) <= end) {
    auto entry = read<EntryHeader>(at);
    if (entry.header_size < sizeof(EntryHeader) || entry.body_size > static_cast<uint64_t>(end - at)) {
      throw LoadError(0, "damaged fatbin: an entry reaches past its end");
    }
    if (entry.kind == kKindPtx) {
      if (entry.compressed_size || (entry.flags & kFlagCompressed)) {
        throw LoadError(0, "the fatbin's PTX is compressed: build it with nvcc --no-compress");
      }
      const char* text = reinterpret_cast<const char*>(at + entry.header_size);
      out.push_back({static_cast<int>(entry.architecture), std::string(text, strnlen(text, entry.body_size))});
    }
    at += entry.header_size + entry.body_size;
  }
  return out;
}

}  // namespace gpusim
