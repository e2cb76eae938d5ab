// The parts of a linear that are written once per instruction set. Another set is another file with such a table.
#pragma once

#include "layout.h"

namespace switchyard {

// Rows of activations, rounded chunk by chunk: `values` [rows][stride] in the set's own order within a chunk, and
// `scales` [rows][chunks], by which a product of rounded numbers is multiplied.
struct RoundedRows {
    const int16_t* values;
    const float* scales;
    int64_t stride;
    int64_t chunks;
};

struct InstructionSet {
    const char* name;
    bool (*supported)();

    // Rounds one chunk [kChunk] to +-limit. Returns max(|x|) / limit, or NaN where x holds anything that is not finite.
    float (*round_chunk)(const float* x, float limit, int16_t* rounded);

    // y[row * stride + output] = W x for the kGroup outputs of `group` and all rows.
    void (*multiply)(const PackedWeights& weights, int64_t group, const RoundedRows& x, int64_t rows, float* y,
                     int64_t stride);

    // low[row * low_stride + j] = a[j] . x[row] for j in [begin, end); a is [rank, in].
    void (*project_down)(const float* a, int64_t in, int64_t begin, int64_t end, const float* x, int64_t x_stride,
                         int64_t rows, float* low, int64_t low_stride);

    // y[row * stride + n] += b[n] . low[row] for n in [begin, end); b is [out, rank].
    void (*project_up)(const float* b, int64_t rank, int64_t begin, int64_t end, const float* low, int64_t low_stride,
                       int64_t rows, float* y, int64_t stride);

    // to[i] = from[i], IEEE halves to floats, past the caches: it leaves them to the running step, and writes memory that
    // nobody reads soon without reading it first. Null where the set has no such instructions.
    void (*widen)(const uint16_t* from, float* to, int64_t count);
};

const InstructionSet& portable();
#if defined(__x86_64__)
const InstructionSet& avx2();
const InstructionSet& avx512();
#endif

}  // namespace switchyard
