// One linear with the adapters of a mixed batch: rounding and A first, then W, B and the rest for each thread's outputs.
#if defined(_OPENMP)
#include <omp.h>
#endif

#include <cstring>

#include "library.h"

using namespace switchyard;

namespace {

// Rows whose rounded activations stay in the second-level cache while all weights pass by.
constexpr int64_t kRowBlock = 128;
constexpr int64_t kAlignment = 64;

struct Share {
    int64_t begin, end;
};

// The part of `count` units, in multiples of `step`, that falls to one thread.
Share share(int64_t count, int64_t step, int64_t thread, int64_t threads) {
    const int64_t steps = (count + step - 1) / step;
    const int64_t begin = steps * thread / threads * step, end = steps * (thread + 1) / threads * step;
    return {begin < count ? begin : count, end < count ? end : count};
}

// Cuts the workspace up; counts only, where there is none.
class Carver {
   public:
    explicit Carver(void* base) : base_(static_cast<char*>(base)) {}

    template <typename T>
    T* take(int64_t count) {
        const int64_t at = used_;
        used_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
        return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
    }

    int64_t used() const { return used_; }

   private:
    char* base_;
    int64_t used_ = 0;
};

struct Call {
    const InstructionSet& set;
    const PackedWeights& weights;
    const float* bias;
    int64_t segments;
    const int64_t* bounds;
    const Adapter* const* adapters;
    const float* x;
    float* y;

    int64_t rows, low_stride;
    int16_t* rounded;
    float* scales;
    float* low;
    float* scaled;

    // Sizes and places of the intermediate values. Returns the bytes they take.
    int64_t lay_out(void* workspace) {
        int64_t rank = 0;
        bool scales_inputs = false;
        for (int64_t i = 0; i < segments; ++i) {
            if (!adapters[i]) continue;
            rank = adapters[i]->rank > rank ? adapters[i]->rank : rank;
            scales_inputs = scales_inputs || adapters[i]->in_scale;
        }
        rows = bounds[segments];
        low_stride = (rank + kGroup - 1) / kGroup * kGroup;
        Carver carver(workspace);
        rounded = carver.take<int16_t>(rows * weights.chunks() * kChunk);
        scales = carver.take<float>(rows * weights.chunks());
        low = carver.take<float>(rows * low_stride);
        scaled = scales_inputs ? carver.take<float>(rows * weights.in_features) : nullptr;
        return carver.used();
    }

    const float* inputs() const { return scaled ? scaled : x; }

    // The rows of x of this thread, times their adapters' in_scale.
    void scale_inputs(Share mine) const {
        const int64_t in = weights.in_features;
        for (int64_t i = 0; i < segments; ++i) {
            const float* factors = adapters[i] ? adapters[i]->in_scale : nullptr;
            const int64_t begin = bounds[i] > mine.begin ? bounds[i] : mine.begin;
            const int64_t end = bounds[i + 1] < mine.end ? bounds[i + 1] : mine.end;
            for (int64_t row = begin; row < end; ++row) {
                float* to = scaled + row * in;
                const float* from = x + row * in;
                for (int64_t k = 0; k < in; ++k) to[k] = factors ? from[k] * factors[k] : from[k];
            }
        }
    }

    void round_inputs(Share mine) const {
        const int64_t in = weights.in_features, chunks = weights.chunks();
        for (int64_t row = mine.begin; row < mine.end; ++row) {
            for (int64_t chunk = 0; chunk < chunks; ++chunk) {
                const float* values = inputs() + row * in + chunk * kChunk;
                alignas(kAlignment) float padded[kChunk];
                if (in - chunk * kChunk < kChunk) {
                    const int64_t left = in - chunk * kChunk;
                    for (int64_t i = 0; i < kChunk; ++i) padded[i] = i < left ? values[i] : 0;
                    values = padded;
                }
                const int64_t at = row * chunks + chunk;
                scales[at] = set.round_chunk(values, weights.activation_limit, rounded + at * kChunk) / weights.book_limit;
            }
        }
    }

    void project_down(int64_t thread, int64_t threads) const {
        const int64_t in = weights.in_features;
        for (int64_t i = 0; i < segments; ++i) {
            if (!adapters[i] || !adapters[i]->rank || bounds[i] == bounds[i + 1]) continue;
            const Share mine = share(adapters[i]->rank, 4, thread, threads);
            set.project_down(adapters[i]->a, in, mine.begin, mine.end, inputs() + bounds[i] * in, in,
                             bounds[i + 1] - bounds[i], low + bounds[i] * low_stride, low_stride);
            for (int64_t row = bounds[i]; row < bounds[i + 1]; ++row)
                for (int64_t j = mine.begin; j < mine.end; ++j) low[row * low_stride + j] *= adapters[i]->scale;
        }
    }

    void multiply(Share mine) const {
        const int64_t out = weights.out_features, chunks = weights.chunks();
        for (int64_t begin = 0; begin < rows; begin += kRowBlock) {
            const int64_t count = rows - begin < kRowBlock ? rows - begin : kRowBlock;
            const RoundedRows block{rounded + begin * chunks * kChunk, scales + begin * chunks, chunks * kChunk, chunks};
            for (int64_t n = mine.begin; n < mine.end; n += kGroup) {
                float* to = y + begin * out + n;
                if (n + kGroup <= out) {
                    set.multiply(weights, n / kGroup, block, count, to, out);
                } else {
                    alignas(kAlignment) float tile[kRowBlock * kGroup];
                    set.multiply(weights, n / kGroup, block, count, tile, kGroup);
                    for (int64_t row = 0; row < count; ++row)
                        std::memcpy(to + row * out, tile + row * kGroup, sizeof(float) * static_cast<size_t>(out - n));
                }
            }
        }
    }

    void adapt(Share mine) const {
        const int64_t out = weights.out_features;
        for (int64_t i = 0; i < segments; ++i) {
            const Adapter* adapter = adapters[i];
            if (adapter && adapter->rank) {
                set.project_up(adapter->b, adapter->rank, mine.begin, mine.end, low + bounds[i] * low_stride, low_stride,
                               bounds[i + 1] - bounds[i], y + bounds[i] * out, out);
            }
            const float* factors = adapter ? adapter->out_scale : nullptr;
            const float* added = adapter && adapter->bias ? adapter->bias : bias;
            for (int64_t row = bounds[i]; factors && row < bounds[i + 1]; ++row)
                for (int64_t n = mine.begin; n < mine.end; ++n) y[row * out + n] *= factors[n];
            for (int64_t row = bounds[i]; added && row < bounds[i + 1]; ++row)
                for (int64_t n = mine.begin; n < mine.end; ++n) y[row * out + n] += added[n];
        }
    }
};

}  // namespace

int64_t switchyard_linear(int64_t index, const PackedWeights* weights, const float* bias, int64_t segments,
                          const int64_t* bounds, const Adapter* const* adapters, const float* x, float* y, void* workspace,
                          int64_t workspace_bytes, int64_t wanted_threads) {
    Call call{*instruction_set(index), *weights, bias, segments, bounds, adapters, x, y, 0, 0, nullptr, nullptr, nullptr,
              nullptr};
    const int64_t needed = call.lay_out(nullptr);
    if (needed > workspace_bytes) return needed;
    call.lay_out(workspace);
#pragma omp parallel num_threads(static_cast<int>(wanted_threads))
    {
        int64_t thread = 0, threads = 1;
#if defined(_OPENMP)
        thread = omp_get_thread_num();
        threads = omp_get_num_threads();
#endif
        const Share my_rows = share(call.rows, 1, thread, threads);
        if (call.scaled) {
            call.scale_inputs(my_rows);
#pragma omp barrier
        }
        call.round_inputs(my_rows);
        call.project_down(thread, threads);
#pragma omp barrier
        const Share my_outputs = share(weights->out_features, kGroup, thread, threads);
        call.multiply(my_outputs);
        call.adapt(my_outputs);
    }
    return 0;
}
