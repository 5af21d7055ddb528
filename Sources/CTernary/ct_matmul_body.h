/* How a product is cut into pieces, once for all instruction sets: each instruction set's file includes this under its target
 * attribute after it has defined the pieces themselves.
 *
 * Few tokens: weights are decoded in registers and used at once, block by block of 16 rows. They come from memory, so they are read
 * once, as one linear stream.
 *
 * Many tokens: arithmetic is the limit. A panel of ct_tile_blocks * 16 rows by at most ct_panel_columns columns is unpacked into codes of a
 * byte each, small enough for the first cache, and used for all tokens of a slice, tile by tile; the slice's activations
 * stay in the second cache. So unpacking costs next to nothing, and the inner loop is nothing but products.
 *
 * A panel holds, for each block, steps of 64 bytes: byte 4*r + j of step s is the code of row r, column 4*s + j.
 *
 * What the including file defines:
 *   ct_few                         the largest number of tokens for which decoding in registers pays
 *   ct_tile_tokens, ct_tile_blocks the widest tile
 *   few_functions[small][tokens]   a block of 16 rows times 1...ct_few tokens
 *   tile_functions[blocks][tokens] a tile: 1...ct_tile_blocks blocks of a panel times 1...ct_tile_tokens tokens
 *   unpack_units(small, ...)       units to steps; `ahead` is where to prefetch, in bytes from what is read */
#include "ct_internal.h"

/* A panel's steps: 5 groups of the small layout are 35 each. */
enum { ct_panel_columns = 640, ct_panel_steps = 176, ct_slice_bytes = 1 << 20 };

CT_INLINE size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Tokens of a slice: what ct_slice_bytes hold, in whole tiles. */
CT_INLINE size_t slice_tokens(size_t x_stride) {
  size_t tiles = x_stride == 0 ? 0 : ct_slice_bytes / (x_stride * ct_tile_tokens);
  return (tiles < 4 ? 4 : tiles) * ct_tile_tokens;
}

static void unpack_fast(const uint8_t *weights, size_t units, ptrdiff_t ahead, uint8_t *panel) {
  unpack_units(false, weights, units, ahead, panel);
}

static void unpack_small(const uint8_t *weights, size_t units, ptrdiff_t ahead, uint8_t *panel) {
  unpack_units(true, weights, units, ahead, panel);
}

CT_INLINE void unpack(const bool small, const uint8_t *weights, size_t units, ptrdiff_t ahead, uint8_t *panel) {
  if (small) unpack_small(weights, units, ahead, panel);
  else unpack_fast(weights, units, ahead, panel);
}

CT_INLINE void matmul(const bool small, const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                      const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  const size_t unit_columns = small ? ct_small_unit_columns : ct_unit_columns;
  const size_t units = columns / unit_columns, block_bytes = units * ct_unit_bytes;
  if (tokens == 0) return;
  if (tokens <= ct_few) {
    for (size_t b = 0; b < row_blocks; b++) {
      few_functions[small][tokens](weights + b * block_bytes, units, x, x_stride, x_sums, out + b * ct_unit_rows, out_stride);
    }
    return;
  }
  _Alignas(64) uint8_t panel[ct_tile_blocks][ct_panel_steps][ct_unit_bytes];
  const size_t unit_steps = unit_columns / 4;
  const size_t most = ct_panel_columns / unit_columns, pieces = units == 0 ? 1 : (units + most - 1) / most;
  const size_t slice = slice_tokens(x_stride);
  for (size_t first = 0; first < tokens; first += slice) {
    const size_t count = smaller(tokens - first, slice), tiles = (count + ct_tile_tokens - 1) / ct_tile_tokens;
    for (size_t b = 0; b < row_blocks; b += ct_tile_blocks) {
      const size_t blocks = smaller(row_blocks - b, ct_tile_blocks);
      for (size_t i = 0; i < pieces; i++) {
        const size_t begin = units * i / pieces, end = units * (i + 1) / pieces;
        // The next piece, which is the next panel's first one after the last.
        const size_t ahead = i + 1 < pieces ? end - begin : ct_tile_blocks * units - begin;
        for (size_t j = 0; j < blocks; j++) {
          const uint8_t *w = weights + (b + j) * block_bytes + begin * ct_unit_bytes;
          unpack(small, w, end - begin, (ptrdiff_t)(ahead * ct_unit_bytes), panel[j][0]);
        }
        size_t t = first;
        for (size_t tile = 0; tile < tiles; tile++) {
          const size_t width = (first + count - t) / (tiles - tile);  // even tiles: 15 tokens are 7 and 8, not 14 and 1
          tile_functions[blocks][width](panel[0][0], sizeof panel[0], (end - begin) * unit_steps, x + t * x_stride + begin * unit_columns, x_stride,
                                        i == 0 ? x_sums + t : NULL, out + t * out_stride + b * ct_unit_rows, out_stride);
          t += width;
        }
      }
    }
  }
}

/* out += dots * (scale * x_scale) for a group: blocks of 16 rows by `count` tokens, after the definition in ct_ternary.h. */
CT_INLINE void add_scaled(bool first, size_t blocks, size_t count, const int32_t *dots, size_t dots_stride, const uint16_t *scales,
                          size_t groups, const float *x_scales, float *out, size_t out_stride) {
  for (size_t b = 0; b < blocks; b++) {
    const v16f scale = f_from_half(scales + b * groups * ct_unit_rows);
    for (size_t c = 0; c < count; c++) {
      v16i dot;
      memcpy(&dot, dots + c * dots_stride + b * ct_unit_rows, sizeof dot);
      float *sums = out + c * out_stride + b * ct_unit_rows;
      v16f sum = first ? (v16f)0.0f : f_load(sums);
      f_store(sums, sum + __builtin_convertvector(dot, v16f) * (scale * x_scales[c * groups]));
    }
  }
}

CT_INLINE void grouped(const bool small, const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups, const int8_t *x,
                       size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  enum { group_steps = ct_group_columns / 4, widest = (int)ct_few > (int)ct_tile_tokens ? ct_few : ct_tile_tokens };
  const size_t group_units = small ? 7 : 8, unit_steps = small ? 5 : 4, stored = 4 * unit_steps * group_units;
  const size_t group_bytes = group_units * ct_unit_bytes, block_bytes = groups * group_bytes;
  _Alignas(64) int32_t dots[widest][ct_tile_blocks * ct_unit_rows];
  const size_t dots_stride = ct_tile_blocks * ct_unit_rows;
  int32_t sums[widest];
  if (groups == 0) {
    for (size_t t = 0; t < tokens; t++) memset(out + t * out_stride, 0, row_blocks * ct_unit_rows * sizeof *out);
    return;
  }
  if (tokens == 0) return;
  if (tokens <= ct_few) {
    for (size_t b = 0; b < row_blocks; b++) {
      for (size_t g = 0; g < groups; g++) {
        for (size_t t = 0; t < tokens; t++) sums[t] = x_sums[t * groups + g];
        few_functions[small][tokens](weights, group_units, x + g * stored, x_stride, sums, dots[0], dots_stride);
        add_scaled(g == 0, 1, tokens, dots[0], dots_stride, scales, groups, x_scales + g, out + b * ct_unit_rows, out_stride);
        weights += group_bytes;
        scales += ct_unit_rows;
      }
    }
    return;
  }
  _Alignas(64) uint8_t panel[ct_tile_blocks][ct_panel_steps][ct_unit_bytes];
  const size_t most = ct_panel_columns / ct_group_columns, pieces = (groups + most - 1) / most;
  const size_t slice = slice_tokens(x_stride);
  for (size_t first = 0; first < tokens; first += slice) {
    const size_t count = smaller(tokens - first, slice), tiles = (count + ct_tile_tokens - 1) / ct_tile_tokens;
    for (size_t b = 0; b < row_blocks; b += ct_tile_blocks) {
      const size_t blocks = smaller(row_blocks - b, ct_tile_blocks);
      for (size_t i = 0; i < pieces; i++) {
        const size_t begin = groups * i / pieces, end = groups * (i + 1) / pieces;
        const size_t ahead = i + 1 < pieces ? end - begin : ct_tile_blocks * groups - begin;
        for (size_t j = 0; j < blocks; j++) {
          const uint8_t *w = weights + (b + j) * block_bytes + begin * group_bytes;
          unpack(small, w, (end - begin) * group_units, (ptrdiff_t)(ahead * group_bytes), panel[j][0]);
        }
        size_t t = first;
        for (size_t tile = 0; tile < tiles; tile++) {
          const size_t width = (first + count - t) / (tiles - tile);
          for (size_t g = begin; g < end; g++) {
            for (size_t c = 0; c < width; c++) sums[c] = x_sums[(t + c) * groups + g];
            tile_functions[blocks][width](panel[0][(g - begin) * group_units * unit_steps], sizeof panel[0], group_steps,
                                          x + t * x_stride + g * stored, x_stride, sums, dots[0], dots_stride);
            add_scaled(g == 0, blocks, width, dots[0], dots_stride, scales + (b * groups + g) * ct_unit_rows, groups,
                       x_scales + t * groups + g, out + t * out_stride + b * ct_unit_rows, out_stride);
          }
          t += width;
        }
      }
    }
  }
}

static void fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                        const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  matmul(false, weights, row_blocks, columns, x, x_stride, x_sums, tokens, out, out_stride);
}

static void small_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  matmul(true, weights, row_blocks, columns, x, x_stride, x_sums, tokens, out, out_stride);
}

static void fast_grouped(const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups, const int8_t *x,
                         size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  grouped(false, weights, scales, row_blocks, groups, x, x_stride, x_sums, x_scales, tokens, out, out_stride);
}

static void small_grouped(const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups, const int8_t *x,
                          size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  grouped(true, weights, scales, row_blocks, groups, x, x_stride, x_sums, x_scales, tokens, out, out_stride);
}

#define CT_TERNARY_FUNCTIONS \
  .fast_matmul = fast_matmul, .small_matmul = small_matmul, .fast_grouped = fast_grouped, .small_grouped = small_grouped
