#include "library.h"

namespace switchyard {

const InstructionSet* instruction_set(int64_t index) {
    static const InstructionSet* const all[] = {
        &portable(),
#if defined(__x86_64__)
        &avx2(),
        &avx512(),
#endif
    };
    constexpr int64_t count = sizeof(all) / sizeof(all[0]);
    return index >= 0 && index < count ? all[index] : nullptr;
}

}  // namespace switchyard

int64_t switchyard_interface() { return kInterface; }

const char* switchyard_instruction_set(int64_t index) {
    const auto* set = switchyard::instruction_set(index);
    return set ? set->name : nullptr;
}

int64_t switchyard_supported(int64_t index) {
    const auto* set = switchyard::instruction_set(index);
    return set && set->supported();
}

int64_t switchyard_widen(int64_t index, const uint16_t* from, float* to, int64_t count) {
    const auto* set = switchyard::instruction_set(index);
    if (!set->widen) return 0;
    set->widen(from, to, count);
    return 1;
}
