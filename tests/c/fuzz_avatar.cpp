// Any bytes as an .avatar file: refused, or read inside their bounds.

#include <string_view>
#include <vector>

#include "avatar.h"
#include "error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try {
        const std::string_view file(reinterpret_cast<const char *>(data), size);
        const et::Avatar avatar = et::Avatar::parse(file, "a.avatar");
        for (const auto &[name, tensor] : avatar.features) {
            std::vector<double> room(static_cast<size_t>(tensor.values()));  // no type is larger
            for (int64_t k = 0; k < tensor.shape[0]; ++k) tensor.copy(k, room.data());
        }
    } catch (const et::Error &) {
    }
    return 0;
}
