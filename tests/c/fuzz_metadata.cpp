// Any bytes as an .xml file, an .onnx file, a .plan file and the metadata in them: refused, or read; and a front end
// that was read hears a short sound.

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"
#include "mel.h"
#include "metadata.h"
#include "plan.h"

static void hear(const std::string &text) {
    const et::Metadata metadata = et::Metadata::parse(text, "m.xml");
    if (!metadata.audio) return;
    const et::AudioSpec &spec = *metadata.audio;
    if (spec.n_fft * spec.n_fft / spec.hop > 5000) return;  // the same but slow
    et::WindowStream stream(spec, metadata.fps);
    const std::vector<float> pcm(2048, 0.5f);
    stream.push(pcm.data(), pcm.size());
    stream.finish();
    while (const float *window = stream.window()) {
        const int values = spec.window * spec.n_mels;
        for (int k = 0; k < values; ++k)
            if (!(window[k] >= -4.0f && window[k] <= 4.0f)) std::abort();
        stream.advance();
    }
    if (!stream.ended()) std::abort();
}

static std::string plan_metadata(std::string_view file) {
    const et::Plan plan = et::Plan::parse(file, "m.plan");
    plan.check(plan.version, plan.metadata.capabilities[0], plan.metadata.cuda);
    return plan.metadata.text;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string_view file(reinterpret_cast<const char *>(data), size);
    for (int reader = 0; reader < 4; ++reader) {
        try {
            hear(reader == 0   ? std::string(file)
                 : reader == 1 ? et::ir_metadata(file, "m.xml")
                 : reader == 2 ? et::onnx_metadata(file, "m.onnx")
                               : plan_metadata(file));
        } catch (const et::Error &) {
        }
    }
    return 0;
}
