#include "motion.h"

#include <algorithm>
#include <cmath>

namespace et {

namespace {

constexpr double radian = 3.141592653589793 / 180.0;
constexpr double amplitudes[3] = {6.0 * radian, 3.0 * radian, 2.0 * radian};  // yaw, pitch, roll
constexpr double slow = 3.1, swift = 1.3;                                     // seconds between two targets
constexpr double slow_share = 0.75;
constexpr double blink_period = 3.5, blink_jitter = 1.5, first_blink = 1.0, double_gap = 0.35;  // seconds
constexpr double double_chance = 0.125;
constexpr double closing = 0.07, closed = 0.04, opening = 0.10;  // seconds

uint64_t splitmix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

double unit(uint64_t seed, uint64_t channel, int64_t k) {
    const uint64_t mixed = splitmix64(splitmix64(splitmix64(seed) + channel) + static_cast<uint64_t>(k));
    return static_cast<double>(mixed >> 11) * 0x1p-53;
}

double smooth(double f) { return f * f * f * (f * (f * 6.0 - 15.0) + 10.0); }

double drift(uint64_t seed, uint64_t channel, double seconds, double period) {
    const double x = seconds / period + unit(seed, channel, -1);
    const double whole = std::floor(x);
    const int64_t k = static_cast<int64_t>(whole);
    const double start = unit(seed, channel, k), end = unit(seed, channel, k + 1);
    return 2.0 * (start + (end - start) * smooth(x - whole)) - 1.0;
}

double lid(double seconds) {
    if (seconds < 0.0) return 0.0;
    if (seconds < closing) return smooth(seconds / closing);
    if (seconds < closing + closed) return 1.0;
    if (seconds < closing + closed + opening) return 1.0 - smooth((seconds - closing - closed) / opening);
    return 0.0;
}

double blinked(uint64_t seed, double seconds) {
    const double period = std::floor((seconds - first_blink) / blink_period);
    const int64_t k = static_cast<int64_t>(period);
    if (k < 0) return 0.0;
    const double since = seconds - (first_blink + period * blink_period + blink_jitter * unit(seed, 6, k));
    const bool again = unit(seed, 7, k) < double_chance;
    return std::max(lid(since), again ? lid(since - double_gap) : 0.0);
}

}  // namespace

void idle(int64_t signed_seed, Rate fps, int64_t frame, float pose[3], float blink[2]) {
    const uint64_t seed = static_cast<uint64_t>(signed_seed);
    const double seconds = static_cast<double>(frame * fps.den) / fps.num;
    for (uint64_t axis = 0; axis < 3; ++axis)
        pose[axis] =
            static_cast<float>(amplitudes[axis] * (slow_share * drift(seed, 2 * axis, seconds, slow) +
                                                   (1.0 - slow_share) * drift(seed, 2 * axis + 1, seconds, swift)));
    blink[0] = blink[1] = static_cast<float>(blinked(seed, seconds));
}

}  // namespace et
