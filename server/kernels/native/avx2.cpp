// AVX2 with FMA: a look-up of two bytes a weight by pshufb, products by pmaddwd. Compiled with -mavx2 -mfma -mf16c.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "adapter_products.h"
#include "instruction_set.h"

namespace switchyard {
namespace {

constexpr float kSmallest = 1e-30f;
constexpr int kLanes = 8;                  // 32-bit lanes of a vector: outputs worked on at a time
constexpr int kParts = kGroup / kLanes;
constexpr int kPanelBlocks = 8;            // decoded blocks that stay in the first-level cache: 16 KiB
constexpr int kVectorsPerWord = 4;         // 16-bit vectors that one vector of words decodes to
constexpr int64_t kDirectRows = 4;         // up to here decoding anew for each tile of rows costs less than a panel
constexpr int kTileRows = 4;
constexpr int kPrefetch = 2048;            // bytes ahead in what is read once
constexpr int64_t kSumRows = 128;          // rows whose partial sums are kept beside a panel

struct Lanes {
    using Register = __m256;
    static constexpr int kLanes = 8;
    static constexpr int kRows = 2;

    static Register zero() { return _mm256_setzero_ps(); }
    static Register load(const float* p) { return _mm256_loadu_ps(p); }
    static Register load_first(const float* p, int count) {
        const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        return _mm256_maskload_ps(p, mask);
    }
    static Register broadcast(float value) { return _mm256_set1_ps(value); }
    static Register multiply_add(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
    static void store(float* p, Register value) { _mm256_storeu_ps(p, value); }
    static __m128 sum4(Register a, Register b, Register c, Register d) {
        const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    }
    static float sum(Register value) { return _mm_cvtss_f32(sum4(value, zero(), zero(), zero())); }
};

bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

float largest_lane(__m256 value) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

float round_chunk(const float* x, float limit, int16_t* rounded) {
    __m256 largest = _mm256_setzero_ps(), finite = _mm256_setzero_ps();
    for (int i = 0; i < kChunk; i += kLanes) {
        const __m256 value = _mm256_loadu_ps(x + i);
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value));
        finite = _mm256_fmadd_ps(value, _mm256_setzero_ps(), finite);  // 0, or NaN after anything that is not finite
    }
    const float most = largest_lane(largest);
    const __m256 factor = _mm256_set1_ps(most > kSmallest ? limit / most : 0);
    for (int i = 0; i < kChunk; i += 2 * kLanes) {
        const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
        const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + kLanes), factor));
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(rounded + i), both);
    }
    return most / limit + Lanes::sum(finite);
}

// A code book as two byte tables.
struct Book {
    __m256i low, high;

    explicit Book(const int16_t* book) {
        alignas(16) uint8_t bytes[2][kCodes];
        for (int i = 0; i < kCodes; ++i) {
            bytes[0][i] = static_cast<uint8_t>(book[i] & 255);
            bytes[1][i] = static_cast<uint8_t>(book[i] >> 8 & 255);
        }
        low = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes[0])));
        high = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes[1])));
    }

    // A vector of words as 16-bit weights: outputs 0, 1 | 4, 5 with inputs 0-3, outputs 2, 3 | 6, 7 with the same (the
    // unpacking stays within halves of a vector), then both with inputs 4-7.
    void decode(const uint32_t* words, __m256i out[kVectorsPerWord]) const {
        const __m256i mask = _mm256_set1_epi8(15), packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
        const __m256i first = _mm256_and_si256(packed, mask);
        const __m256i second = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
        __m256i l = _mm256_shuffle_epi8(low, first), h = _mm256_shuffle_epi8(high, first);
        out[0] = _mm256_unpacklo_epi8(l, h);
        out[1] = _mm256_unpackhi_epi8(l, h);
        l = _mm256_shuffle_epi8(low, second);
        h = _mm256_shuffle_epi8(high, second);
        out[2] = _mm256_unpacklo_epi8(l, h);
        out[3] = _mm256_unpackhi_epi8(l, h);
    }
};

__m256i four_inputs(const int16_t* values) {
    int64_t bits;
    std::memcpy(&bits, values, sizeof bits);
    return _mm256_set1_epi64x(bits);
}

// sums[row] += a block's product for kLanes outputs and R rows. `weights(word, out)` gives the decoded weights.
template <int R, typename Weights>
inline __attribute__((always_inline)) void add_block(Weights weights, const float* scales, const int16_t* values,
                                                     int64_t stride, const float* row_scales, int64_t scale_stride,
                                                     __m256 sums[R]) {
    __m256i first[R], second[R];
    for (int r = 0; r < R; ++r) first[r] = second[r] = _mm256_setzero_si256();
    for (int word = 0; word < kWords; ++word) {
        __m256i w[kVectorsPerWord];
        weights(word, w);
        for (int r = 0; r < R; ++r) {
            const int16_t* at = values + r * stride + word * kWordColumns;
            const __m256i x0 = four_inputs(at), x1 = four_inputs(at + 4);
            first[r] = _mm256_add_epi32(first[r], _mm256_add_epi32(_mm256_madd_epi16(w[0], x0), _mm256_madd_epi16(w[2], x1)));
            second[r] =
                _mm256_add_epi32(second[r], _mm256_add_epi32(_mm256_madd_epi16(w[1], x0), _mm256_madd_epi16(w[3], x1)));
        }
    }
    const __m256 scale = _mm256_loadu_ps(scales);
    for (int r = 0; r < R; ++r) {
        const __m256 product = _mm256_cvtepi32_ps(_mm256_hadd_epi32(first[r], second[r]));
        sums[r] = _mm256_fmadd_ps(_mm256_mul_ps(scale, _mm256_set1_ps(row_scales[r * scale_stride])), product, sums[r]);
    }
}

template <int R>
void multiply_direct(const PackedWeights& weights, int64_t group, const RoundedRows& x, float* y, int64_t stride) {
    const Book book(weights.rounded_book);
    for (int part = 0; part < kParts; ++part) {
        const uint32_t* words = weights.group_codes(group) + part * kLanes;
        const float* scales = weights.group_scales(group) + part * kLanes;
        __m256 sums[R];
        for (int r = 0; r < R; ++r) sums[r] = _mm256_setzero_ps();
        for (int64_t chunk = 0; chunk < x.chunks; ++chunk) {
            for (int64_t piece = 0; piece < weights.pieces; ++piece, words += kBlockWords, scales += kGroup) {
                const auto decoded = [&](int word, __m256i* out) {
                    _mm_prefetch(reinterpret_cast<const char*>(words + word * kGroup) + kPrefetch, _MM_HINT_T0);
                    book.decode(words + word * kGroup, out);
                };
                add_block<R>(decoded, scales, x.values + chunk * kChunk, x.stride, x.scales + chunk, x.chunks, sums);
            }
        }
        for (int r = 0; r < R; ++r) _mm256_storeu_ps(y + r * stride + part * kLanes, sums[r]);
    }
}

// Decoded blocks of a group, and the sums of the rows so far.
struct Panel {
    alignas(64) int16_t weights[kPanelBlocks][kParts][kWords][kVectorsPerWord][2 * kLanes];
    alignas(64) float sums[kSumRows][kGroup];
};

template <int R>
void multiply_panel(const PackedWeights& weights, Panel& panel, int64_t first, int64_t count, const float* scales,
                    const RoundedRows& x, int64_t row) {
    for (int part = 0; part < kParts; ++part) {
        __m256 sums[R];
        for (int r = 0; r < R; ++r) sums[r] = _mm256_load_ps(panel.sums[row + r] + part * kLanes);
        for (int64_t block = 0; block < count; ++block) {
            const int64_t chunk = (first + block) / weights.pieces;
            const auto decoded = [&](int word, __m256i* out) {
                for (int i = 0; i < kVectorsPerWord; ++i)
                    out[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel.weights[block][part][word][i]));
            };
            add_block<R>(decoded, scales + block * kGroup + part * kLanes, x.values + row * x.stride + chunk * kChunk,
                         x.stride, x.scales + row * x.chunks + chunk, x.chunks, sums);
        }
        for (int r = 0; r < R; ++r) _mm256_store_ps(panel.sums[row + r] + part * kLanes, sums[r]);
    }
}

void multiply_many(const PackedWeights& weights, int64_t group, const RoundedRows& x, int64_t rows, float* y,
                   int64_t stride) {
    const Book book(weights.rounded_book);
    Panel panel;
    std::memset(panel.sums, 0, sizeof(panel.sums[0]) * static_cast<size_t>(rows));
    for (int64_t first = 0; first < weights.blocks(); first += kPanelBlocks) {
        const int64_t left = weights.blocks() - first, count = left < kPanelBlocks ? left : kPanelBlocks;
        const float* scales = weights.group_scales(group) + first * kGroup;
        for (int64_t block = 0; block < count; ++block) {
            const uint32_t* words = weights.group_codes(group) + (first + block) * kBlockWords;
            for (int part = 0; part < kParts; ++part) {
                for (int word = 0; word < kWords; ++word) {
                    __m256i decoded[kVectorsPerWord];
                    book.decode(words + word * kGroup + part * kLanes, decoded);
                    for (int i = 0; i < kVectorsPerWord; ++i)
                        _mm256_store_si256(reinterpret_cast<__m256i*>(panel.weights[block][part][word][i]), decoded[i]);
                }
            }
        }
        int64_t row = 0;
        for (; row + kTileRows <= rows; row += kTileRows)
            multiply_panel<kTileRows>(weights, panel, first, count, scales, x, row);
        for (; row < rows; ++row) multiply_panel<1>(weights, panel, first, count, scales, x, row);
    }
    for (int64_t row = 0; row < rows; ++row) std::memcpy(y + row * stride, panel.sums[row], sizeof panel.sums[row]);
}

void multiply(const PackedWeights& weights, int64_t group, const RoundedRows& x, int64_t rows, float* y, int64_t stride) {
    switch (rows) {
        case 0: return;
        case 1: return multiply_direct<1>(weights, group, x, y, stride);
        case 2: return multiply_direct<2>(weights, group, x, y, stride);
        case 3: return multiply_direct<3>(weights, group, x, y, stride);
        case kDirectRows: return multiply_direct<kDirectRows>(weights, group, x, y, stride);
        default: break;
    }
    for (int64_t row = 0; row < rows; row += kSumRows) {
        const RoundedRows part{x.values + row * x.stride, x.scales + row * x.chunks, x.stride, x.chunks};
        multiply_many(weights, group, part, rows - row < kSumRows ? rows - row : kSumRows, y + row * stride, stride);
    }
}

void widen(const uint16_t* from, float* to, int64_t count) {
    constexpr int kLine = 32;  // halves in a cache line
    int64_t i = 0;
    for (; i < count && reinterpret_cast<uintptr_t>(to + i) % sizeof(__m256); ++i) to[i] = _cvtsh_ss(from[i]);
    for (; i + kLine <= count; i += kLine) {
        _mm_prefetch(reinterpret_cast<const char*>(from + i) + kPrefetch, _MM_HINT_T0);
        for (int64_t j = i; j < i + kLine; j += kLanes)
            _mm256_stream_ps(to + j, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j))));
    }
    for (; i < count; ++i) to[i] = _cvtsh_ss(from[i]);
    _mm_sfence();  // before another thread is told
}

}  // namespace

const InstructionSet& avx2() {
    static const InstructionSet set{"avx2",   supported,           round_chunk,       multiply,
                                    project_down<Lanes>, project_up<Lanes>, widen};
    return set;
}

}  // namespace switchyard

#endif
