// Log-mel frames of a sound that arrives in chunks, equal to those of edgetalk/mel.py within rounding, and the
// window of each video frame, as of edgetalk.windows.WindowStream. MFCC need the whole sound and are left out.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "clock.h"
#include "metadata.h"

namespace et {

constexpr float silence = -4.0f;  // every value of a mel frame of digital silence

// Discrete Fourier transform of n values, of any n, in double precision: decimation in time over the factors of n.
class Fourier {
  public:
    using Complex = std::complex<double>;

    explicit Fourier(size_t n);

    void transform(const Complex *in, Complex *out);  // not the same memory

  private:
    void level(size_t n, size_t stride, size_t factor, const Complex *in, Complex *out);

    std::vector<Complex> turns_;  // exp(-2 pi i k / n)
    std::vector<size_t> factors_;
    std::vector<Complex> scratch_;  // one butterfly
};

class MelStream {
  public:
    explicit MelStream(const AudioSpec &spec);

    // Both append the (M, n_mels) frames that are complete to `out`. Out of memory they have changed nothing.
    void push(const float *pcm, size_t count, std::vector<float> &out);
    void flush(std::vector<float> &out);  // the sound is zero from here on

  private:
    struct Filter {
        size_t first;                 // bin
        std::vector<double> weights;  // of the bins from there on
    };

    void reserve(size_t count, std::vector<float> &out);
    void complete(std::vector<float> &out, int64_t limit);
    void analyse(const double *samples, std::vector<float> &out);

    AudioSpec spec_;
    std::vector<double> hann_;
    std::vector<Filter> filters_;
    Fourier fourier_;
    std::vector<Fourier::Complex> turns_, packed_, spectrum_;
    std::vector<double> magnitudes_;
    std::vector<double> samples_;     // emphasised, from the start of the next analysis window on
    double last_ = 0;                 // sample, before emphasis
    int64_t count_ = 0, frames_ = 0;  // samples pushed, frames given
};

class WindowStream {
  public:
    WindowStream(const AudioSpec &spec, Rate fps);

    // Both change nothing where memory runs out, and may be called again.
    void push(const float *pcm, size_t count);
    void finish();

    // The window of video frame frame(), (T, F); nullptr where the sound for it is not there yet or at the end.
    const float *window() const;
    bool ended() const { return finished_ && next_ >= end(); }
    bool finished() const { return finished_; }
    int64_t frame() const { return next_; }
    void advance();

  private:
    int64_t start(int64_t frame) const;  // the mel frame that a window begins with, may be negative
    int64_t end() const { return finished_ ? frame_count(heard_, fps_) : frame_at(heard_, fps_); }
    int64_t last() const { return first_ + static_cast<int64_t>(kept_.size() / width_); }  // past the frames kept

    AudioSpec spec_;
    Rate fps_;
    int64_t below_, shift_;  // hop * fps, without its denominator; what the offset adds above that
    MelStream mels_;
    size_t width_;             // F
    std::vector<float> kept_;  // mel frames from number first_ on
    int64_t first_, heard_ = 0, next_ = 0;
    bool finished_ = false;
};

}  // namespace et
