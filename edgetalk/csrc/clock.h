// Which sample belongs to which video frame, in exact arithmetic; equal to edgetalk/clock.py.
#pragma once

#include <cstdint>

namespace et {

__extension__ typedef __int128 Wide;  // products of a position, a rate and a denominator overflow 64 bits

constexpr int sample_rate = 16000;  // Hz
constexpr int max_fps = 240;
constexpr int32_t largest_rate = 1 << 28;  // of a rate's numerator and denominator

// Frames per second, in lowest terms.
struct Rate {
    int32_t num = 25, den = 1;
};

// The largest integer not above a / b, b > 0.
constexpr int64_t floor_div(Wide a, Wide b) { return static_cast<int64_t>(a / b - (a % b < 0)); }

// The frame that is shown while sample number `sample` sounds.
constexpr int64_t frame_at(int64_t sample, Rate fps) {
    return floor_div(Wide(sample) * fps.num, Wide(fps.den) * sample_rate);
}

// How many frames are shown until `samples` samples have sounded; silence fills the last of them.
constexpr int64_t frame_count(int64_t samples, Rate fps) { return samples > 0 ? frame_at(samples - 1, fps) + 1 : 0; }

}  // namespace et
