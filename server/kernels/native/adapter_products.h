// An adapter's two small products for any vector unit. `V` wraps one:
//   Register, kLanes, load(p), load_first(p, n) with zeros beyond n, zero(), broadcast(v), multiply_add(a, b, c) = a * b + c,
//   store(p, v), sum(v), sum4(a, b, c, d) -> __m128 of the four sums
// Included only by files that are compiled for one instruction set; everything here is local to them.
#pragma once

#include <immintrin.h>

#include "layout.h"

namespace switchyard {
namespace {

template <int N>
struct Count {
    static constexpr int value = N;
};

constexpr int64_t kTransposedRank = 256;  // ranks beyond are taken in parts
constexpr int64_t kRowsToTranspose = 4;   // fewer do not repay it

// out[row * stride + j] (+)= left[j] . right[row], for J vectors of length n on the left and R on the right.
template <typename V, int J, int R, bool kAdd>
inline void dots(const float* left, int64_t left_stride, const float* right, int64_t right_stride, int64_t n, float* out,
                 int64_t stride) {
    typename V::Register sum[R][J];
    for (auto& row : sum)
        for (auto& s : row) s = V::zero();
    const auto step = [&](int64_t k, auto load) {
        typename V::Register l[J];
        for (int j = 0; j < J; ++j) l[j] = load(left + j * left_stride + k);
        for (int r = 0; r < R; ++r) {
            const auto value = load(right + r * right_stride + k);
            for (int j = 0; j < J; ++j) sum[r][j] = V::multiply_add(l[j], value, sum[r][j]);
        }
    };
    int64_t k = 0;
    for (; k + V::kLanes <= n; k += V::kLanes) step(k, [](const float* p) { return V::load(p); });
    if (k < n) step(k, [n, k](const float* p) { return V::load_first(p, static_cast<int>(n - k)); });
    for (int r = 0; r < R; ++r) {
        float* to = out + r * stride;
        if constexpr (J == 4) {
            __m128 sums = V::sum4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
            if constexpr (kAdd) sums = _mm_add_ps(sums, _mm_loadu_ps(to));
            _mm_storeu_ps(to, sums);
        } else {
            for (int j = 0; j < J; ++j) to[j] = V::sum(sum[r][j]) + (kAdd ? to[j] : 0);
        }
    }
}

template <typename V, int R, bool kAdd>
inline void dots_of_rows(const float* left, int64_t length, int64_t begin, int64_t end, const float* right,
                         int64_t right_stride, float* out, int64_t stride) {
    int64_t j = begin;
    for (; j + 4 <= end; j += 4)
        dots<V, 4, R, kAdd>(left + j * length, length, right, right_stride, length, out + j, stride);
    for (; j < end; ++j) dots<V, 1, R, kAdd>(left + j * length, length, right, right_stride, length, out + j, stride);
}

template <typename V, bool kAdd>
inline void all_dots(const float* left, int64_t length, int64_t begin, int64_t end, const float* right,
                     int64_t right_stride, int64_t rows, float* out, int64_t stride) {
    int64_t row = 0;
    for (; row + V::kRows <= rows; row += V::kRows)
        dots_of_rows<V, V::kRows, kAdd>(left, length, begin, end, right + row * right_stride, right_stride,
                                        out + row * stride, stride);
    for (; row < rows; ++row)
        dots_of_rows<V, 1, kAdd>(left, length, begin, end, right + row * right_stride, right_stride, out + row * stride,
                                 stride);
}

template <typename V>
void project_down(const float* a, int64_t in, int64_t begin, int64_t end, const float* x, int64_t x_stride, int64_t rows,
                  float* low, int64_t low_stride) {
    all_dots<V, false>(a, in, begin, end, x, x_stride, rows, low, low_stride);
}

// kGroup outputs for all rows, over `rank` columns of b from a transposed copy: no sums across lanes.
template <typename V>
inline void add_transposed(const float* b, int64_t b_stride, int64_t rank, const float* low, int64_t low_stride,
                           int64_t rows, float* y, int64_t stride) {
    constexpr int kParts = kGroup / V::kLanes;
    alignas(64) float columns[kTransposedRank * kGroup];
    for (int n = 0; n < kGroup; ++n)
        for (int64_t j = 0; j < rank; ++j) columns[j * kGroup + n] = b[n * b_stride + j];
    const auto add = [&](auto count, int64_t row) {
        constexpr int kCount = decltype(count)::value;
        typename V::Register sum[kCount][kParts];
        for (int r = 0; r < kCount; ++r)
            for (int part = 0; part < kParts; ++part) sum[r][part] = V::load(y + (row + r) * stride + part * V::kLanes);
        for (int64_t j = 0; j < rank; ++j) {
            typename V::Register column[kParts];
            for (int part = 0; part < kParts; ++part) column[part] = V::load(columns + j * kGroup + part * V::kLanes);
            for (int r = 0; r < kCount; ++r) {
                const auto value = V::broadcast(low[(row + r) * low_stride + j]);
                for (int part = 0; part < kParts; ++part) sum[r][part] = V::multiply_add(column[part], value, sum[r][part]);
            }
        }
        for (int r = 0; r < kCount; ++r)
            for (int part = 0; part < kParts; ++part) V::store(y + (row + r) * stride + part * V::kLanes, sum[r][part]);
    };
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) add(Count<4>{}, row);
    for (; row < rows; ++row) add(Count<1>{}, row);
}

template <typename V>
void project_up(const float* b, int64_t rank, int64_t begin, int64_t end, const float* low, int64_t low_stride,
                int64_t rows, float* y, int64_t stride) {
    int64_t n = begin;
    if (rows >= kRowsToTranspose) {
        for (; n + kGroup <= end; n += kGroup) {
            for (int64_t j = 0; j < rank; j += kTransposedRank) {
                const int64_t part = rank - j < kTransposedRank ? rank - j : kTransposedRank;
                add_transposed<V>(b + n * rank + j, rank, part, low + j, low_stride, rows, y + n, stride);
            }
        }
    }
    all_dots<V, true>(b, rank, n, end, low, low_stride, rows, y, stride);
}

}  // namespace
}  // namespace switchyard
