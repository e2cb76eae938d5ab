// The kernels in plain C++: what runs where there is no other, and what the others are tested against.
#include <cmath>

#include "instruction_set.h"

namespace switchyard {
namespace {

// Below this a chunk counts as zero: its reciprocal would overflow.
constexpr float kSmallest = 1e-30f;

bool always() { return true; }

float round_chunk(const float* x, float limit, int16_t* rounded) {
    float largest = 0;
    bool finite = true;
    for (int i = 0; i < kChunk; ++i) {
        finite = finite && std::isfinite(x[i]);
        largest = std::fmax(largest, std::fabs(x[i]));
    }
    const float factor = finite && largest > kSmallest ? limit / largest : 0;
    for (int i = 0; i < kChunk; ++i) rounded[i] = finite ? static_cast<int16_t>(std::lrint(x[i] * factor)) : 0;
    return finite ? largest / limit : NAN;
}

void multiply(const PackedWeights& weights, int64_t group, const RoundedRows& x, int64_t rows, float* y, int64_t stride) {
    for (int64_t row = 0; row < rows; ++row) {
        for (int output = 0; output < kGroup; ++output) {
            const uint32_t* words = weights.group_codes(group) + output;
            const float* scale = weights.group_scales(group) + output;
            float sum = 0;
            for (int64_t chunk = 0; chunk < x.chunks; ++chunk) {
                const int16_t* values = x.values + row * x.stride + chunk * kChunk;
                for (int64_t piece = 0; piece < weights.pieces; ++piece, scale += kGroup) {
                    int32_t product = 0;
                    for (int word = 0; word < kWords; ++word, words += kGroup) {
                        for (int column = 0; column < kWordColumns; ++column) {
                            const int shift = 8 * (column % 4) + 4 * (column / 4);
                            product += weights.rounded_book[*words >> shift & 15] * values[word * kWordColumns + column];
                        }
                    }
                    sum += *scale * x.scales[row * x.chunks + chunk] * static_cast<float>(product);
                }
            }
            y[row * stride + output] = sum;
        }
    }
}

void project_down(const float* a, int64_t in, int64_t begin, int64_t end, const float* x, int64_t x_stride, int64_t rows,
                  float* low, int64_t low_stride) {
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t j = begin; j < end; ++j) {
            float sum = 0;
            for (int64_t k = 0; k < in; ++k) sum += a[j * in + k] * x[row * x_stride + k];
            low[row * low_stride + j] = sum;
        }
    }
}

void project_up(const float* b, int64_t rank, int64_t begin, int64_t end, const float* low, int64_t low_stride,
                int64_t rows, float* y, int64_t stride) {
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t n = begin; n < end; ++n) {
            float sum = 0;
            for (int64_t j = 0; j < rank; ++j) sum += b[n * rank + j] * low[row * low_stride + j];
            y[row * stride + n] += sum;
        }
    }
}

}  // namespace

const InstructionSet& portable() {
    static const InstructionSet set{"portable", always, round_chunk, multiply, project_down, project_up, nullptr};
    return set;
}

}  // namespace switchyard
