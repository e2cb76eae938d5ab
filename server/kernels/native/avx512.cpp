// AVX-512 with VNNI: one vpermw looks 32 weights up, vpdpwssd multiplies and adds. Compiled with -mavx512{f,bw,vl,dq,vnni}.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "adapter_products.h"
#include "instruction_set.h"

namespace switchyard {
namespace {

constexpr float kSmallest = 1e-30f;
constexpr int kLanes = 16;  // 32-bit lanes of a vector: a whole group
constexpr int kMostRows = 16;
constexpr int kPrefetch = 2048;  // bytes ahead in the codes, each of which a step reads once
static_assert(kLanes == kGroup);

struct Lanes {
    using Register = __m512;
    static constexpr int kLanes = 16;
    static constexpr int kRows = 4;

    static Register zero() { return _mm512_setzero_ps(); }
    static Register load(const float* p) { return _mm512_loadu_ps(p); }
    static Register load_first(const float* p, int count) {
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
    }
    static Register broadcast(float value) { return _mm512_set1_ps(value); }
    static Register multiply_add(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
    static void store(float* p, Register value) { _mm512_storeu_ps(p, value); }
    static __m256 halves(Register value) {
        return _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
    }
    static __m128 sum4(Register a, Register b, Register c, Register d) {
        const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(halves(a), halves(b)), _mm256_hadd_ps(halves(c), halves(d)));
        return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    }
    static float sum(Register value) { return _mm512_reduce_add_ps(value); }
};

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && avx2().supported();
}

// The inputs of a word as its nibbles come by: nibble i of both 16-bit halves is one pair.
float round_chunk(const float* x, float limit, int16_t* rounded) {
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));  // inputs 0 2 4 6 1 3 5 7
    __m512 largest = _mm512_setzero_ps(), finite = _mm512_setzero_ps();
    for (int i = 0; i < kChunk; i += kLanes) {
        const __m512 value = _mm512_loadu_ps(x + i);
        largest = _mm512_max_ps(largest, _mm512_abs_ps(value));
        finite = _mm512_fmadd_ps(value, _mm512_setzero_ps(), finite);  // 0, or NaN after anything that is not finite
    }
    const float most = _mm512_reduce_max_ps(largest);
    const __m512 factor = _mm512_set1_ps(most > kSmallest ? limit / most : 0);
    for (int i = 0; i < kChunk; i += kLanes) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor));
        const __m256i values = _mm256_shuffle_epi8(_mm512_cvtsepi32_epi16(whole), order);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(rounded + i), values);
    }
    return most / limit + _mm512_reduce_add_ps(finite);
}

__m512i two_inputs(const int16_t* values) {
    int32_t bits;
    std::memcpy(&bits, values, sizeof bits);
    return _mm512_set1_epi32(bits);
}

// With few rows several sums a row hide the latency of adding to one.
constexpr int chains(int rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

template <int R>
__attribute__((noinline)) void multiply_rows(const PackedWeights& weights, int64_t group, const RoundedRows& x, float* y, int64_t stride) {
    constexpr int kChains = chains(R), kPairs = kWordColumns / 2;
    const __m512i book = _mm512_broadcast_i64x4(  // twice, since vpermw's index has a fifth bit: the next nibble's
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights.rounded_book)));
    const uint32_t* words = weights.group_codes(group);
    const float* scales = weights.group_scales(group);
    __m512 sums[R];
    for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ps();
    for (int64_t chunk = 0; chunk < x.chunks; ++chunk) {
        const int16_t* values = x.values + chunk * kChunk;
        for (int64_t piece = 0; piece < weights.pieces; ++piece, words += kBlockWords, scales += kGroup) {
            __m512i products[R][kChains];
            for (auto& row : products)
                for (auto& product : row) product = _mm512_setzero_si512();
            for (int word = 0; word < kWords; ++word) {
                const __m512i packed = _mm512_loadu_si512(words + word * kGroup);
                _mm_prefetch(reinterpret_cast<const char*>(words + word * kGroup) + kPrefetch, _MM_HINT_T0);
                const __m512i decoded[kPairs] = {
                    _mm512_permutexvar_epi16(packed, book),
                    _mm512_permutexvar_epi16(_mm512_srli_epi16(packed, 4), book),
                    _mm512_permutexvar_epi16(_mm512_srli_epi16(packed, 8), book),
                    _mm512_permutexvar_epi16(_mm512_srli_epi16(packed, 12), book),
                };
                for (int r = 0; r < R; ++r) {
                    const int16_t* at = values + r * x.stride + word * kWordColumns;
                    for (int pair = 0; pair < kPairs; ++pair) {
                        __m512i& product = products[r][pair % kChains];
                        product = _mm512_dpwssd_epi32(product, decoded[pair], two_inputs(at + 2 * pair));
                    }
                }
            }
            const __m512 scale = _mm512_loadu_ps(scales);
            for (int r = 0; r < R; ++r) {
                __m512i product = products[r][0];
                for (int i = 1; i < kChains; ++i) product = _mm512_add_epi32(product, products[r][i]);
                const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[r * x.chunks + chunk]));
                sums[r] = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(product), sums[r]);
            }
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_ps(y + r * stride, sums[r]);
}

// Tiles of kMostRows rows, then one of what is left.
template <int R = kMostRows>
void multiply(const PackedWeights& weights, int64_t group, const RoundedRows& x, int64_t rows, float* y, int64_t stride) {
    if constexpr (R > 0) {
        int64_t row = 0;
        for (; row + R <= rows; row += R) {
            const RoundedRows tile{x.values + row * x.stride, x.scales + row * x.chunks, x.stride, x.chunks};
            multiply_rows<R>(weights, group, tile, y + row * stride, stride);
        }
        const RoundedRows left{x.values + row * x.stride, x.scales + row * x.chunks, x.stride, x.chunks};
        multiply<R - 1>(weights, group, left, rows - row, y + row * stride, stride);
    }
}

}  // namespace

const InstructionSet& avx512() {
    static const InstructionSet set{"avx512-vnni",       supported,         round_chunk, multiply<>,
                                    project_down<Lanes>, project_up<Lanes>, avx2().widen};
    return set;
}

}  // namespace switchyard

#endif
