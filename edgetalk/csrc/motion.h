// Idle life of a head, number by number that of edgetalk/motion.py, where it is explained. The order of the
// operations is part of the result: this must be compiled without contraction to fused multiply-adds.
#pragma once

#include <cstdint>

#include "clock.h"

namespace et {

// pose: float32 (3,), yaw, pitch, roll in radians; blink: float32 (2,), left and right, 0 open to 1 closed.
void idle(int64_t seed, Rate fps, int64_t frame, float pose[3], float blink[2]);

}  // namespace et
