/* What torch runs slowly in bf16 on CPUs, forwards and backwards: GroupNorm with SiLU, softmax, gated GELU.

   Eagerly these take longer than all convolutions and matrix products around them. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;
enum { WIDE = 32, MOST = 1024 }; /* channels worked on at once, and in all */

static inline float widen(bf16 x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

static inline bf16 narrow(float x) { /* to nearest, ties to even */
    union { float value; uint32_t bits; } u = {x};
    return (bf16)((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
}

/* e to the x within 2e-7 of itself, in arithmetic that compilers make vectors of: they call expf once per number. */
static inline float exponential(float x) {
    x = fminf(fmaxf(x, -87.0f), 88.0f);
    float n = rintf(x * 1.44269504f), r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1 + r * (1 + r * (0.5f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f))))));
    union { int32_t bits; float value; } power = {((int32_t)n + 127) << 23};
    return p * power.value;
}

/* Bounded: with fast mathematics the reciprocal of infinity is not a number. */
static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(fminf(-x, 60.0f))); }

/* GroupNorm, alone or with SiLU, of `count` samples (pixels, channels); channels come in multiples of 32. Statistics,
   weights and their gradients are float. */

/* scale and shift (channels,) with which normalised features are x * scale + shift. */
static void affine(const float *weight, const float *bias, const float *mean, const float *rstd, long channels,
                   long groups, float *scale, float *shift) {
    for (long c = 0; c < channels; c++) {
        long g = c * groups / channels;
        scale[c] = rstd[g] * weight[c];
        shift[c] = bias[c] - mean[g] * scale[c];
    }
}

void group_norm_forward(const bf16 *x, const float *weight, const float *bias, bf16 *y, float *mean, float *rstd,
                        long count, long pixels, long channels, long groups, float eps, int silu) {
    for (long n = 0; n < count; n++, x += pixels * channels, y += pixels * channels, mean += groups, rstd += groups) {
        float sum[MOST], square[MOST], scale[MOST], shift[MOST];
        for (long c = 0; c < channels; c += WIDE) {
            float s[WIDE] = {0}, q[WIDE] = {0};
            for (long p = 0; p < pixels; p++) {
                const bf16 *row = x + p * channels + c;
#pragma omp simd
                for (int i = 0; i < WIDE; i++) {
                    float v = widen(row[i]);
                    s[i] += v;
                    q[i] += v * v;
                }
            }
            memcpy(sum + c, s, sizeof s);
            memcpy(square + c, q, sizeof q);
        }
        long per_group = channels / groups;
        for (long g = 0; g < groups; g++) {
            double s = 0, q = 0;
            for (long c = g * per_group; c < (g + 1) * per_group; c++) s += sum[c], q += square[c];
            double m = s / (pixels * per_group), variance = q / (pixels * per_group) - m * m;
            mean[g] = m;
            rstd[g] = 1 / sqrt((variance > 0 ? variance : 0) + eps);
        }
        affine(weight, bias, mean, rstd, channels, groups, scale, shift);
        for (long c = 0; c < channels; c += WIDE) {
            float a[WIDE], b[WIDE];
            memcpy(a, scale + c, sizeof a);
            memcpy(b, shift + c, sizeof b);
            for (long p = 0; p < pixels; p++) {
                const bf16 *row = x + p * channels + c;
                bf16 *out = y + p * channels + c;
                if (silu) {
#pragma omp simd
                    for (int i = 0; i < WIDE; i++) {
                        float z = widen(row[i]) * a[i] + b[i];
                        out[i] = narrow(z * sigmoid(z));
                    }
                } else {
#pragma omp simd
                    for (int i = 0; i < WIDE; i++) out[i] = narrow(widen(row[i]) * a[i] + b[i]);
                }
            }
        }
    }
}

/* Adds to d_weight and d_bias. */
void group_norm_backward(const bf16 *x, const bf16 *dy, const float *weight, const float *bias, const float *mean,
                         const float *rstd, bf16 *dx, float *d_weight, float *d_bias, long count, long pixels,
                         long channels, long groups, int silu) {
    for (long n = 0; n < count; n++, x += pixels * channels, dy += pixels * channels, dx += pixels * channels,
              mean += groups, rstd += groups) {
        float scale[MOST], shift[MOST], by_z[MOST], by_zx[MOST];
        affine(weight, bias, mean, rstd, channels, groups, scale, shift);
        for (long c = 0; c < channels; c += WIDE) { /* sums of dz and dz * x, where z is what SiLU is fed */
            float s[WIDE] = {0}, q[WIDE] = {0}, a[WIDE], b[WIDE];
            memcpy(a, scale + c, sizeof a);
            memcpy(b, shift + c, sizeof b);
            for (long p = 0; p < pixels; p++) {
                const bf16 *row = x + p * channels + c, *above = dy + p * channels + c;
                bf16 *out = dx + p * channels + c; /* keeps dz until the second pass */
#pragma omp simd
                for (int i = 0; i < WIDE; i++) {
                    float v = widen(row[i]), dz = widen(above[i]);
                    if (silu) {
                        float z = v * a[i] + b[i], e = sigmoid(z);
                        dz *= e * (1 + z * (1 - e));
                    }
                    s[i] += dz;
                    q[i] += dz * v;
                    out[i] = narrow(dz);
                }
            }
            memcpy(by_z + c, s, sizeof s);
            memcpy(by_zx + c, q, sizeof q);
        }
        long per_group = channels / groups;
        for (long g = 0; g < groups; g++) {
            double s = 0, q = 0, m = mean[g], r = rstd[g], size = (double)pixels * per_group;
            for (long c = g * per_group; c < (g + 1) * per_group; c++) {
                double by_normalised = r * (by_zx[c] - m * by_z[c]);
                d_weight[c] += by_normalised;
                d_bias[c] += by_z[c];
                s += by_z[c] * weight[c];
                q += by_normalised * weight[c];
            }
            /* dx = dz * scale - (s + (x - m) * r * q) * r / size; reuse by_z and by_zx for the part linear in x */
            for (long c = g * per_group; c < (g + 1) * per_group; c++) {
                by_zx[c] = -r * r * q / size;
                by_z[c] = -r * s / size - m * by_zx[c];
            }
        }
        for (long c = 0; c < channels; c += WIDE) {
            float a[WIDE], b[WIDE], d[WIDE];
            memcpy(a, scale + c, sizeof a);
            memcpy(b, by_zx + c, sizeof b);
            memcpy(d, by_z + c, sizeof d);
            for (long p = 0; p < pixels; p++) {
                const bf16 *row = x + p * channels + c;
                bf16 *out = dx + p * channels + c;
#pragma omp simd
                for (int i = 0; i < WIDE; i++) out[i] = narrow(widen(out[i]) * a[i] + widen(row[i]) * b[i] + d[i]);
            }
        }
    }
}

/* (rows, columns): x becomes softmax(factor * x) over its columns; causal: row r of each square sees columns up to r. */
void softmax_forward(bf16 *x, long rows, long columns, float factor, int causal) {
    for (long r = 0; r < rows; r++, x += columns) {
        float most = -INFINITY, total = 0, values[MOST];
        long seen = causal ? r % columns + 1 : columns;
#pragma omp simd reduction(max : most)
        for (long c = 0; c < seen; c++) {
            values[c] = widen(x[c]) * factor;
            most = fmaxf(most, values[c]);
        }
#pragma omp simd reduction(+ : total)
        for (long c = 0; c < seen; c++) {
            values[c] = exponential(values[c] - most);
            total += values[c];
        }
        total = 1 / total;
#pragma omp simd
        for (long c = 0; c < seen; c++) x[c] = narrow(values[c] * total);
        memset(x + seen, 0, (columns - seen) * sizeof *x);
    }
}

/* y: the softmax; dy becomes the gradient of x. */
void softmax_backward(const bf16 *y, bf16 *dy, long rows, long columns, float factor) {
    for (long r = 0; r < rows; r++, y += columns, dy += columns) {
        float total = 0;
#pragma omp simd reduction(+ : total)
        for (long c = 0; c < columns; c++) total += widen(y[c]) * widen(dy[c]);
#pragma omp simd
        for (long c = 0; c < columns; c++) dy[c] = narrow(factor * widen(y[c]) * (widen(dy[c]) - total));
    }
}

/* The normal distribution's share below x (Abramowitz and Stegun 7.1.26, exact to 1e-7), and its density. */
static inline float normal_share(float x, float *density) {
    float z = fabsf(x) * 0.70710678f, e = exponential(-z * z), t = 1 / (1 + 0.3275911f * z);
    float tail = 0.5f * e * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    *density = 0.39894228f * e;
    return x > 0 ? 1 - tail : tail;
}

/* x: (rows, 2 * columns) values and gates; y: (rows, columns) value * gelu(gate). */
void gated_gelu_forward(const bf16 *x, bf16 *y, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += 2 * columns, y += columns) {
#pragma omp simd
        for (long c = 0; c < columns; c++) {
            float gate = widen(x[columns + c]), density;
            y[c] = narrow(widen(x[c]) * gate * normal_share(gate, &density));
        }
    }
}

void gated_gelu_backward(const bf16 *x, const bf16 *dy, bf16 *dx, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += 2 * columns, dx += 2 * columns, dy += columns) {
#pragma omp simd
        for (long c = 0; c < columns; c++) {
            float gate = widen(x[columns + c]), density, share = normal_share(gate, &density), d = widen(dy[c]);
            dx[c] = narrow(d * gate * share);
            dx[columns + c] = narrow(d * widen(x[c]) * (share + gate * density));
        }
    }
}
