// How 4-bit weights lie in memory for the kernels, and what an adapter adds to them.
//
// A weight [out, in] is cut into groups of kGroup outputs and chunks of kChunk inputs; both are padded at the end.
// A word of 32 bits holds kWordColumns neighbouring inputs of one output: its byte b (the lowest first) has input b in its
// low half and input 4 + b in its high half. So one vector of words holds one output per 32-bit lane, whatever its width.
//
//   codes  [groups][chunks][pieces][kWords][kGroup]  words
//   scales [groups][chunks][pieces][kGroup]          what a code book's value is multiplied by
//
// A piece is the part of a chunk that shares one scale per output. There is one piece where quantisation blocks end with
// chunks; otherwise (rows that are no multiple of the block size) a chunk is stored several times, each time with the codes
// of zero in the place of what another scale belongs to. Costlier, but the kernels stay the same for every shape.
#pragma once

#include <cstdint>

namespace switchyard {

constexpr int kGroup = 16;
constexpr int kChunk = 64;
constexpr int kWordColumns = 8;
constexpr int kWords = kChunk / kWordColumns;
constexpr int kCodes = 16;
constexpr int kBlockWords = kWords * kGroup;  // of one group, chunk and piece

// Shared with Python (server/kernels/native_library.py): the order and types of the members are the interface.
struct PackedWeights {
    int64_t out_features;
    int64_t in_features;
    int64_t pieces;
    const uint32_t* codes;
    const float* scales;
    const float* book;           // [kCodes] the values of the codes
    const int16_t* rounded_book; // [kCodes] round(book * book_limit)
    float book_limit;
    float activation_limit;      // kChunk * activation_limit * book_limit must stay below 2^31

    int64_t groups() const { return (out_features + kGroup - 1) / kGroup; }
    int64_t chunks() const { return (in_features + kChunk - 1) / kChunk; }
    int64_t blocks() const { return chunks() * pieces; }
    const uint32_t* group_codes(int64_t group) const { return codes + group * blocks() * kBlockWords; }
    const float* group_scales(int64_t group) const { return scales + group * blocks() * kGroup; }
};

// y = out_scale * (W (in_scale * x) + scale * B A (in_scale * x)) + bias; a null pointer is the identity. Shared with Python.
struct Adapter {
    int64_t rank;            // 0: no factors
    const float* a;          // [rank, in]
    const float* b;          // [out, rank]
    const float* in_scale;   // [in]
    const float* out_scale;  // [out]
    const float* bias;       // [out], in the place of the base's
    float scale;
};

}  // namespace switchyard
