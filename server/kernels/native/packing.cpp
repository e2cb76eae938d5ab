// From 4-bit weights as bitsandbytes stores them to the layout of the kernels, and back to fp32.
#include "library.h"

using namespace switchyard;

namespace {

struct Source {
    const uint8_t* nibbles;  // weight i is the high half of byte i / 2 where i is even
    const float* scales;     // of each block of block_size weights
    int64_t block_size;

    uint32_t code(int64_t index) const { return index % 2 ? nibbles[index / 2] & 15 : nibbles[index / 2] >> 4; }
};

// One group's kBlockWords words and kGroup scales for one chunk and piece.
void pack_block(const PackedWeights& to, const Source& from, int64_t group, int64_t chunk, int64_t piece, uint32_t zero,
                uint32_t* words, float* scales) {
    for (int lane = 0; lane < kGroup; ++lane) {
        const int64_t output = group * kGroup + lane;
        const int64_t start = output * to.in_features + chunk * kChunk;
        const int64_t left = output < to.out_features ? to.in_features - chunk * kChunk : 0;
        const int64_t columns = left < kChunk ? left : kChunk;
        const int64_t block = columns > 0 ? start / from.block_size + piece : -1;
        const bool used = columns > 0 && block <= (start + columns - 1) / from.block_size;
        scales[lane] = used ? from.scales[block] : 0;
        for (int word = 0; word < kWords; ++word) {
            uint32_t packed = 0;
            for (int column = 0; column < kWordColumns; ++column) {
                const int64_t offset = word * kWordColumns + column;
                const bool ours = used && offset < columns && (start + offset) / from.block_size == block;
                packed |= (ours ? from.code(start + offset) : zero) << (8 * (column % 4) + 4 * (column / 4));
            }
            words[word * kGroup + lane] = packed;
        }
    }
}

}  // namespace

extern "C" void switchyard_pack(const PackedWeights* weights, const uint8_t* nibbles, const float* scales,
                                int64_t block_size, int64_t zero_code, uint32_t* codes_out, float* scales_out,
                                int64_t threads) {
    const Source source{nibbles, scales, block_size};
    const int64_t blocks = weights->blocks(), groups = weights->groups();
#pragma omp parallel for num_threads(static_cast<int>(threads))
    for (int64_t group = 0; group < groups; ++group) {
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t at = group * blocks + block;
            pack_block(*weights, source, group, block / weights->pieces, block % weights->pieces,
                       static_cast<uint32_t>(zero_code), codes_out + at * kBlockWords, scales_out + at * kGroup);
        }
    }
}

extern "C" void switchyard_unpack(const PackedWeights* weights, float* dense, int64_t threads) {
    const int64_t groups = weights->groups(), in = weights->in_features;
#pragma omp parallel for num_threads(static_cast<int>(threads))
    for (int64_t group = 0; group < groups; ++group) {
        for (int lane = 0; lane < kGroup && group * kGroup + lane < weights->out_features; ++lane) {
            float* row = dense + (group * kGroup + lane) * in;
            for (int64_t column = 0; column < in; ++column) {
                const int64_t first = column / kChunk * weights->pieces, offset = column % kChunk;
                const int shift = 8 * (offset % 4) + 4 * (offset % kWordColumns / 4);
                float value = 0;  // of all pieces but one the code means zero
                for (int64_t block = first; block < first + weights->pieces; ++block) {
                    const uint32_t word =
                        weights->group_codes(group)[block * kBlockWords + offset / kWordColumns * kGroup + lane];
                    value += weights->book[word >> shift & 15] * weights->group_scales(group)[block * kGroup + lane];
                }
                row[column] = value;
            }
        }
    }
}
