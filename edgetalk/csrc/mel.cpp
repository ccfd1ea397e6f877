#include "mel.h"

#include <algorithm>
#include <cmath>

namespace et {

namespace {

constexpr double pi = 3.141592653589793;
constexpr double reference_db = 20.0, floor_db = -100.0, range = 4.0;

double mel_of_hz(double hz) {  // Slaney's scale
    return hz < 1000.0 ? hz * 3.0 / 200.0 : 15.0 + 27.0 * std::log(hz / 1000.0) / std::log(6.4);
}

double hz_of_mel(double mel) {
    return mel < 15.0 ? mel * 200.0 / 3.0 : 1000.0 * std::exp(std::log(6.4) * (mel - 15.0) / 27.0);
}

Fourier::Complex turn(size_t k, size_t n) {
    return std::polar(1.0, -2.0 * pi * static_cast<double>(k) / static_cast<double>(n));
}

// Without the care for infinities that * takes.
Fourier::Complex times(Fourier::Complex a, Fourier::Complex b) {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

}  // namespace

Fourier::Fourier(size_t n) : turns_(n), scratch_(n) {
    for (size_t k = 0; k < n; ++k) turns_[k] = turn(k, n);
    for (size_t p = 4; n > 1; p = p == 4 ? 2 : p == 2 ? 3 : p + 2)
        for (; n % p == 0; n /= p) factors_.push_back(p);
}

void Fourier::transform(const Complex *in, Complex *out) { level(turns_.size(), 1, 0, in, out); }

// n values of `in`, `stride` apart: p transforms of length m = n / p, joined by butterflies of p values.
void Fourier::level(size_t n, size_t stride, size_t factor, const Complex *in, Complex *out) {
    if (n == 1) {
        *out = *in;
        return;
    }
    const size_t p = factors_[factor], m = n / p, all = turns_.size();
    for (size_t r = 0; r < p; ++r) {
        if (m == 1)
            out[r] = in[r * stride];
        else
            level(m, stride * p, factor + 1, in + r * stride, out + r * m);
    }
    for (size_t k = 0; k < m; ++k) {
        for (size_t r = 0; r < p; ++r) scratch_[r] = times(out[r * m + k], turns_[r * k * stride]);
        if (p == 4) {
            const Complex even = scratch_[0] + scratch_[2], odd = scratch_[0] - scratch_[2];
            const Complex sum = scratch_[1] + scratch_[3], difference = scratch_[1] - scratch_[3];
            const Complex turned(difference.imag(), -difference.real());  // by -i
            out[k] = even + sum;
            out[k + m] = odd + turned;
            out[k + 2 * m] = even - sum;
            out[k + 3 * m] = odd - turned;
            continue;
        }
        for (size_t q = 0; q < p; ++q) {
            Complex sum = scratch_[0];
            const size_t step = q * m * stride;
            size_t at = 0;
            for (size_t r = 1; r < p; ++r) {
                if ((at += step) >= all) at -= all;
                sum += times(scratch_[r], turns_[at]);
            }
            out[q * m + k] = sum;
        }
    }
}

MelStream::MelStream(const AudioSpec &spec)
    : spec_(spec),
      fourier_(static_cast<size_t>(spec.n_fft % 2 ? spec.n_fft : spec.n_fft / 2)),
      packed_(static_cast<size_t>(spec.n_fft)),
      spectrum_(static_cast<size_t>(spec.n_fft)),
      magnitudes_(static_cast<size_t>(spec.n_fft / 2 + 1)),
      samples_(static_cast<size_t>(spec.n_fft / 2)) {
    const auto n = static_cast<size_t>(spec.n_fft);
    for (size_t k = 0; k <= n / 2; ++k) turns_.push_back(turn(k, n));
    for (size_t k = 0; k < n; ++k)
        hann_.push_back(0.5 - 0.5 * std::cos(2.0 * pi * static_cast<double>(k) / spec.n_fft));
    const double low = mel_of_hz(spec.fmin), high = mel_of_hz(spec.fmax), step = (high - low) / (spec.n_mels + 1);
    std::vector<double> edges;
    for (int k = 0; k <= spec.n_mels; ++k) edges.push_back(hz_of_mel(low + k * step));
    edges.push_back(hz_of_mel(high));
    for (size_t band = 0; band + 2 < edges.size(); ++band) {
        const double left = edges[band], top = edges[band + 1], right = edges[band + 2];
        Filter filter = {0, {}};
        for (size_t bin = 0; bin <= n / 2; ++bin) {
            const double hz = static_cast<double>(bin) * spec.sample_rate / spec.n_fft;
            const double weight = std::min((hz - left) / (top - left), (right - hz) / (right - top));
            if (!(weight > 0.0)) continue;
            if (filter.weights.empty()) filter.first = bin;
            filter.weights.push_back(weight * 2.0 / (right - left));
        }
        filters_.push_back(std::move(filter));
    }
}

// Makes room for what comes of `count` more samples: after it nothing can fail, and before it nothing has changed.
void MelStream::reserve(size_t count, std::vector<float> &out) {
    const size_t samples = samples_.size() + count, n = static_cast<size_t>(spec_.n_fft);
    const size_t frames = samples < n ? 0 : (samples - n) / static_cast<size_t>(spec_.hop) + 1;
    const size_t needed = out.size() + frames * filters_.size();
    if (needed > out.capacity()) out.reserve(std::max(needed, 2 * out.capacity()));
    samples_.reserve(samples);
}

void MelStream::push(const float *pcm, size_t count, std::vector<float> &out) {
    reserve(count, out);
    for (size_t k = 0; k < count; ++k) {
        samples_.push_back(pcm[k] - spec_.preemphasis * last_);
        last_ = pcm[k];
    }
    count_ += static_cast<int64_t>(count);
    complete(out, INT64_MAX);
}

void MelStream::flush(std::vector<float> &out) {
    const auto zeros = static_cast<size_t>(spec_.n_fft / 2);
    reserve(zeros, out);
    samples_.resize(samples_.size() + zeros);
    complete(out, count_ / spec_.hop + 1);
}

void MelStream::complete(std::vector<float> &out, int64_t limit) {
    const auto n = static_cast<size_t>(spec_.n_fft), hop = static_cast<size_t>(spec_.hop);
    size_t at = 0;
    for (; samples_.size() - at >= n && frames_ < limit; at += hop, ++frames_) analyse(samples_.data() + at, out);
    samples_.erase(samples_.begin(), samples_.begin() + static_cast<std::ptrdiff_t>(at));
}

void MelStream::analyse(const double *samples, std::vector<float> &out) {
    const size_t n = packed_.size(), half = n / 2;
    if (n % 2) {
        for (size_t k = 0; k < n; ++k) packed_[k] = samples[k] * hann_[k];
        fourier_.transform(packed_.data(), spectrum_.data());
    } else {
        // Two real values are one complex one: half the length, and the two spectra taken apart afterwards.
        for (size_t k = 0; k < half; ++k)
            packed_[k] = {samples[2 * k] * hann_[2 * k], samples[2 * k + 1] * hann_[2 * k + 1]};
        fourier_.transform(packed_.data(), spectrum_.data());
        spectrum_[half] = spectrum_[0];
        for (size_t k = 0; k <= half - k; ++k) {
            const Fourier::Complex a = spectrum_[k], b = std::conj(spectrum_[half - k]), even = 0.5 * (a + b);
            const Fourier::Complex difference = 0.5 * (a - b), odd(difference.imag(), -difference.real());
            const Fourier::Complex turned = times(odd, turns_[k]);
            spectrum_[k] = even + turned;
            spectrum_[half - k] = std::conj(even - turned);
        }
    }
    for (size_t k = 0; k < magnitudes_.size(); ++k) magnitudes_[k] = std::abs(spectrum_[k]);
    for (const Filter &filter : filters_) {
        double sum = 0;
        for (size_t k = 0; k < filter.weights.size(); ++k) sum += filter.weights[k] * magnitudes_[filter.first + k];
        const double level = 20.0 * std::log10(std::max(1e-5, sum)) - reference_db;
        const double scaled = 2.0 * range * (level - floor_db) / -floor_db - range;
        out.push_back(static_cast<float>(std::clamp(scaled, -range, range)));
    }
}

WindowStream::WindowStream(const AudioSpec &spec, Rate fps)
    : spec_(spec),
      fps_(fps),
      below_(int64_t(spec.hop) * fps.num),
      shift_(floor_of_product(spec.offset, below_)),
      mels_(spec),
      width_(static_cast<size_t>(spec.n_mels)) {
    first_ = std::min<int64_t>(0, start(0));
    kept_.assign(static_cast<size_t>(-first_) * width_, silence);
}

int64_t WindowStream::start(int64_t frame) const {
    // floor(frame * sample_rate / (hop * fps) + offset)
    return floor_div(Wide(frame) * spec_.sample_rate * fps_.den + shift_, below_);
}

void WindowStream::push(const float *pcm, size_t count) {
    mels_.push(pcm, count, kept_);
    heard_ += static_cast<int64_t>(count);
}

void WindowStream::finish() {
    const int64_t count = frame_count(heard_, fps_), until = start(std::max<int64_t>(0, count - 1)) + spec_.window;
    const int64_t past = std::max(until, heard_ / spec_.hop + 1);  // the frames that are kept then
    kept_.reserve(static_cast<size_t>(past - first_) * width_);    // what may fail comes first
    mels_.flush(kept_);
    const int64_t missing = until - last();
    if (missing > 0) kept_.resize(kept_.size() + static_cast<size_t>(missing) * width_, silence);
    finished_ = true;
}

const float *WindowStream::window() const {
    const int64_t at = start(next_);
    if (next_ >= end() || at + spec_.window > last()) return nullptr;
    return kept_.data() + static_cast<size_t>(at - first_) * width_;
}

void WindowStream::advance() {
    ++next_;
    const int64_t done = std::min(start(next_), last()) - first_;       // windows start ever later
    if (static_cast<size_t>(done) * width_ * 2 < kept_.size()) return;  // move what is left seldom
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(done) * width_));
    first_ += done;
}

}  // namespace et
