// Runs the library over many shapes with every buffer exactly as large as it must be, and compares with plain sums.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "library.h"

using namespace switchyard;

namespace {

std::mt19937 generator(1);

int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(generator); }

std::vector<float> numbers(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> all(static_cast<size_t>(count));
    for (float& one : all) one = normal(generator);
    return all;
}

struct Weights {
    int64_t out, in, block_size;
    std::vector<float> book;
    std::vector<int16_t> rounded;
    std::vector<uint8_t> nibbles;
    std::vector<float> scales;
    std::vector<uint32_t> codes;
    std::vector<float> packed_scales;
    PackedWeights packed;

    Weights(int64_t out, int64_t in, int64_t block_size) : out(out), in(in), block_size(block_size) {
        const float limit = 4095;
        for (int i = 0; i < kCodes; ++i) book.push_back(static_cast<float>(i - 8) / 8);
        for (float value : book) rounded.push_back(static_cast<int16_t>(std::lrint(value * limit)));
        nibbles.resize(static_cast<size_t>((out * in + 1) / 2));
        for (auto& byte : nibbles) byte = static_cast<uint8_t>(between(0, 255));
        scales.assign(static_cast<size_t>((out * in + block_size - 1) / block_size), 0.5f);
        int64_t pieces = 1;
        for (int64_t n = 0; n < out; ++n)
            for (int64_t k = 0; k < in; k += kChunk) {
                const int64_t first = n * in + k, last = n * in + (k + kChunk < in ? k + kChunk : in) - 1;
                const int64_t reached = last / block_size - first / block_size + 1;
                pieces = reached > pieces ? reached : pieces;
            }
        packed = {out, in, pieces, nullptr, nullptr, book.data(), rounded.data(), limit, 8191};
        codes.resize(static_cast<size_t>(packed.groups() * packed.blocks() * kBlockWords));
        packed_scales.resize(static_cast<size_t>(packed.groups() * packed.blocks() * kGroup));
        switchyard_pack(&packed, nibbles.data(), scales.data(), block_size, 8, codes.data(), packed_scales.data(), 2);
        packed.codes = codes.data();
        packed.scales = packed_scales.data();
    }

    double value(int64_t n, int64_t k) const {
        const int64_t index = n * in + k;
        const uint8_t byte = nibbles[static_cast<size_t>(index / 2)];
        return book[index % 2 ? byte & 15 : byte >> 4] * scales[static_cast<size_t>(index / block_size)];
    }
};

// Exits where a result is further from plain sums than rounding explains.
void check(const Weights& weights, int64_t rank, int64_t rows, int64_t set) {
    const int64_t in = weights.in, out = weights.out;
    const auto x = numbers(rows * in), a = numbers(rank * in), b = numbers(out * rank), factors = numbers(in),
               bias = numbers(out);
    std::vector<float> y(static_cast<size_t>(rows * out));
    const Adapter adapter{rank, a.data(), b.data(), factors.data(), nullptr, bias.data(), 1.5f};
    const Adapter* const adapters[] = {nullptr, &adapter, &adapter};
    const int64_t bounds[] = {0, rows / 3, rows / 3, rows};
    int64_t bytes = 0, needed;
    std::unique_ptr<void, decltype(&std::free)> workspace(nullptr, std::free);
    while ((needed = switchyard_linear(set, &weights.packed, nullptr, 3, bounds, adapters, x.data(), y.data(),
                                       workspace.get(), bytes, 2)) > 0) {
        workspace.reset(std::aligned_alloc(64, static_cast<size_t>(needed)));
        bytes = needed;
    }
    const int64_t row = rows - 1, n = between(0, out - 1);
    double wanted = bias[static_cast<size_t>(n)], size = 1;
    for (int64_t k = 0; k < in; ++k) {
        const double input = x[static_cast<size_t>(row * in + k)] * factors[static_cast<size_t>(k)];
        double weight = weights.value(n, k);
        for (int64_t j = 0; j < rank; ++j) weight += 1.5 * b[static_cast<size_t>(n * rank + j)] * a[static_cast<size_t>(j * in + k)];
        wanted += weight * input;
        size += std::fabs(weight * input);
    }
    const double got = y[static_cast<size_t>(row * out + n)];
    if (!(std::fabs(got - wanted) < 1e-3 * size)) {
        std::fprintf(stderr, "%s: %g, not %g, at in %lld out %lld rank %lld rows %lld\n", switchyard_instruction_set(set),
                     got, wanted, static_cast<long long>(in), static_cast<long long>(out), static_cast<long long>(rank),
                     static_cast<long long>(rows));
        std::exit(1);
    }
}

// Exactly as many numbers as there are, wherever they begin.
void check_widen(int64_t set) {
    const int64_t count = between(0, 100), from_at = between(0, 7), to_at = between(0, 15);
    std::vector<uint16_t> halves(static_cast<size_t>(from_at + count), 0x3e00);
    std::vector<float> floats(static_cast<size_t>(to_at + count));
    if (!switchyard_widen(set, halves.data() + from_at, floats.data() + to_at, count)) return;
    for (int64_t i = 0; i < to_at + count; ++i)
        if (floats[static_cast<size_t>(i)] != (i < to_at ? 0.0f : 1.5f)) std::exit(1);
}

}  // namespace

int main() {
    for (int round = 0; round < 40; ++round) {
        const int64_t block_size = int64_t{32} << between(0, 2);
        const Weights weights(between(1, 70), round % 2 ? 64 * between(1, 9) : between(1, 300), block_size);
        std::vector<float> dense(static_cast<size_t>(weights.out * weights.in));
        switchyard_unpack(&weights.packed, dense.data(), 2);
        for (int64_t set = 0; switchyard_instruction_set(set); ++set) {
            if (!switchyard_supported(set)) continue;
            check_widen(set);
            for (int64_t rows : {int64_t{1}, between(2, 20), between(100, 140)}) check(weights, between(0, 70), rows, set);
        }
    }
    std::puts("clean");
}
