// What the shared library offers: plain C, all shapes checked by the caller (server/kernels/native_library.py).
#pragma once

#include "instruction_set.h"

#define SWITCHYARD_EXPORT extern "C" __attribute__((visibility("default")))

// Changes with anything below or in layout.h; a library of another number is not used.
constexpr int64_t kInterface = 2;

SWITCHYARD_EXPORT int64_t switchyard_interface();

// Name of an instruction set, the best last, or null past the end.
SWITCHYARD_EXPORT const char* switchyard_instruction_set(int64_t index);
SWITCHYARD_EXPORT int64_t switchyard_supported(int64_t index);

// From bitsandbytes' storage: `nibbles` and one scale for each `block_size` weights. `zero_code` is the code of 0.0.
SWITCHYARD_EXPORT void switchyard_pack(const switchyard::PackedWeights* weights, const uint8_t* nibbles,
                                       const float* scales, int64_t block_size, int64_t zero_code, uint32_t* codes_out,
                                       float* scales_out, int64_t threads);

// The dequantised weight [out, in].
SWITCHYARD_EXPORT void switchyard_unpack(const switchyard::PackedWeights* weights, float* dense, int64_t threads);

// y [rows, out] = the linear and its adapters over x [rows, in]. Rows [bounds[i], bounds[i + 1]) belong to adapters[i],
// which is null for the base; the bounds go from 0 to `rows`. `bias` [out] is the base's or null.
// Returns 0, or how many bytes of workspace (aligned to 64) it needs if `workspace_bytes` are too few; y is then untouched.
SWITCHYARD_EXPORT int64_t switchyard_linear(int64_t instruction_set, const switchyard::PackedWeights* weights,
                                            const float* bias, int64_t segments, const int64_t* bounds,
                                            const switchyard::Adapter* const* adapters, const float* x, float* y,
                                            void* workspace, int64_t workspace_bytes, int64_t threads);

// Halves to floats, see InstructionSet. Returns 0, and does nothing, where the instruction set cannot.
SWITCHYARD_EXPORT int64_t switchyard_widen(int64_t instruction_set, const uint16_t* from, float* to, int64_t count);

namespace switchyard {
const InstructionSet* instruction_set(int64_t index);
}
