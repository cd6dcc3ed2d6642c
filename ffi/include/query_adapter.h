/* Query adapters in C: q' = W q + b, applied, searched with and trained, in memory of the caller's.
 *
 * Written by cbindgen from ffi/src; C99, C11 and C++11. Link with libquery_adapter_ffi.a.
 *
 * - Every function that can fail returns a code: QAD_OK is 0, qad_error_text says what the others mean. A call that fails
 *   has written nothing, unless it says otherwise.
 * - Lengths are counted in elements of the pointed-to type, bytes where that is `uint8_t`. A length has to be right; it is
 *   checked. A pointer may be null where its length is 0.
 * - Memory that is written must not overlap memory that is read in the same call; this is checked as well.
 * - Nothing is allocated, nothing is kept but what a handle points to: that memory must outlive the handle.
 * - There is no global state. Calls on different handles may run at the same time.
 */

#ifndef QUERY_ADAPTER_H
#define QUERY_ADAPTER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#if defined(__cplusplus) && __cplusplus >= 201103L
#define QAD_ALIGNED(n) alignas(n)
#elif defined(__GNUC__)
#define QAD_ALIGNED(n) __attribute__((aligned(n)))
#elif defined(_MSC_VER)
#define QAD_ALIGNED(n) __declspec(align(n))
#else
#error "say here how this compiler aligns a type"
#endif

/* Sixteen rows of a matrix, at a multiple of 64 bytes: how many qad_lanes a weight, and each of its moments, takes.
 * The same numbers as the functions below, for arrays of fixed size. */
#define QAD_PANELS(rows) (((size_t)(rows) + 15u) / 16u)
#define QAD_WEIGHT_LEN(in_dim, out_dim, bias) (QAD_PANELS(out_dim) * ((size_t)(in_dim) + ((bias) ? 1u : 0u)))

/* At least qad_scratch_len: the same number as long as rows * rows <= 8 * in_dim. */
#define QAD_SCRATCH_LEN(rows, candidates, in_dim, out_dim) \
    (QAD_PANELS(rows) * (2u * (size_t)(out_dim) + (size_t)(candidates) + ((candidates) < 128 ? (size_t)(candidates) : 128u) \
                         + (size_t)(in_dim) + 1u + QAD_QUERY_STATE_LEN) \
     + (QAD_PANELS(in_dim) + QAD_PANELS(out_dim)) * (size_t)(rows) \
     + ((size_t)(rows) * (size_t)(rows) <= 8u * (size_t)(in_dim) \
            ? 0u \
            : QAD_PANELS(out_dim) * ((size_t)(in_dim) + 2u)))


/**
 * Elements of documents: `qad_lanes`.
 */
#define QAD_F32 1

/**
 * Elements of documents: `qad_half_lanes`.
 */
#define QAD_F16 2

/**
 * Elements of documents: `qad_byte_lanes`, with a scale for each document.
 */
#define QAD_INT8 3

/**
 * Success.
 */
#define QAD_OK 0

/**
 * A pointer is null whose length is not 0, or a handle has not been opened.
 */
#define QAD_NULL 1

/**
 * A pointer is not at a multiple of what its type needs: 64 bytes for `qad_lanes` and for an adapter file in place.
 */
#define QAD_MISALIGNED 2

/**
 * Memory that is written overlaps other memory of the same call.
 */
#define QAD_OVERLAP 3

/**
 * A buffer has another length than the operation needs.
 */
#define QAD_LENGTH 4

/**
 * A dimension is 0 or too large.
 */
#define QAD_DIMENSION 5

/**
 * A setting is out of its range.
 */
#define QAD_SETTING 6

/**
 * The processor flushes subnormal numbers to zero; results would not be reproducible.
 */
#define QAD_FLUSH_TO_ZERO 7

/**
 * A value that must be finite is not.
 */
#define QAD_NOT_FINITE 8

/**
 * The gradient is too large for the optimiser.
 */
#define QAD_GRADIENT_TOO_LARGE 9

/**
 * A target is not the index of a candidate.
 */
#define QAD_TARGET 10

/**
 * A weight of a batch is negative or not finite, or they do not sum to a positive number.
 */
#define QAD_BATCH_WEIGHT 11

/**
 * The bytes are no adapter file.
 */
#define QAD_MAGIC 12

/**
 * A newer program wrote the adapter file.
 */
#define QAD_VERSION 13

/**
 * The adapter file was cut short, or other bytes follow.
 */
#define QAD_IMAGE_LENGTH 14

/**
 * A checksum of the adapter file does not match.
 */
#define QAD_CHECKSUM 15

/**
 * The adapter file was written wrongly.
 */
#define QAD_IMAGE 16

/**
 * This machine does not compute what the writer's did.
 */
#define QAD_GOLDEN 17

/**
 * The weights cannot be used in place on a big-endian machine; use `qad_open_copy`.
 */
#define QAD_BYTE_ORDER 18

/**
 * Anything else.
 */
#define QAD_OTHER 19

/**
 * The adapter file is in int8, and the call takes files in f32 alone.
 */
#define QAD_STORED_AS 20

/**
 * Plain gradient descent.
 */
#define QAD_SGD 1

/**
 * Adam.
 */
#define QAD_ADAM 2

/**
 * Adam with decoupled weight decay.
 */
#define QAD_ADAMW 3

/**
 * The learning rate stays after the warm-up.
 */
#define QAD_CONSTANT 1

/**
 * The learning rate falls to 0 along a line.
 */
#define QAD_LINEAR 2

/**
 * The learning rate falls to 0 along half a cosine.
 */
#define QAD_COSINE 3

/**
 * What a trainer takes, in 8 bytes each.
 */
#define QAD_TRAINER_WORDS 32

/**
 * How many `qad_lanes` of scratch each row's panel takes for itself.
 */
#define QAD_QUERY_STATE_LEN 8

/**
 * Sixteen rows of a matrix side by side, at a multiple of 64 bytes: what weights, moments and scratch are made of.
 */
typedef struct QAD_ALIGNED(64) qad_lanes {
  /**
   * One column of sixteen rows.
   */
  float rows[16];
} qad_lanes;

/**
 * An adapter that can be applied. The functions that open it fill it in; it is only to be read.
 */
typedef struct qad_adapter {
  /**
   * Its weight, in memory of the caller's: as `dtype` says.
   */
  const struct qad_lanes *weight;
  /**
   * The adapter file it is in; null where there is none.
   */
  const uint8_t *image;
  /**
   * Bytes of the adapter file.
   */
  size_t image_len;
  /**
   * Components of a query.
   */
  size_t in_dim;
  /**
   * Components of a transformed query.
   */
  size_t out_dim;
  /**
   * Whether there is a bias.
   */
  bool bias;
  /**
   * QAD_F32, or QAD_INT8: then the scales are at `weight`, then the bias if there is one, then the values, as in the
   * adapter file.
   */
  int32_t dtype;
} qad_adapter;

/**
 * Sixteen binary16 numbers, by their bits, at a multiple of 32 bytes.
 */
typedef struct QAD_ALIGNED(32) qad_half_lanes {
  /**
   * One component of sixteen documents.
   */
  uint16_t rows[16];
} qad_half_lanes;

/**
 * Sixteen integers, to be multiplied by their documents' scales, at a multiple of 16 bytes.
 */
typedef struct QAD_ALIGNED(16) qad_byte_lanes {
  /**
   * One component of sixteen documents.
   */
  int8_t rows[16];
} qad_byte_lanes;

/**
 * Documents in panels: sixteen documents side by side, component after component; the last panel filled up with zeros.
 */
typedef struct qad_documents {
  /**
   * QAD_F32, QAD_F16 or QAD_INT8.
   */
  int32_t dtype;
  /**
   * The elements: qad_panel_len(count, dim) of them.
   */
  const void *values;
  /**
   * For QAD_INT8 a scale for each document, sixteen to an element; otherwise null.
   */
  const struct qad_lanes *scales;
  /**
   * How many documents there are.
   */
  size_t count;
  /**
   * Components of each.
   */
  size_t dim;
} qad_documents;

/**
 * A document that was found.
 */
typedef struct qad_found {
  /**
   * Its score.
   */
  float score;
  /**
   * Its place among all ids in ascending order: of equal scores the lower comes first.
   */
  uint32_t order;
  /**
   * Its index.
   */
  uint32_t document;
} qad_found;

/**
 * How to learn. Begin with `qad_training_defaults`.
 */
typedef struct qad_training {
  /**
   * QAD_SGD, QAD_ADAM or QAD_ADAMW.
   */
  int32_t optimizer;
  /**
   * Learning rate, at least 0.
   */
  float lr;
  /**
   * Decay of the first moment, in 0 .. 1.
   */
  float beta1;
  /**
   * Decay of the second moment, in 0 .. 1.
   */
  float beta2;
  /**
   * Added to the root of the second moment; positive.
   */
  float eps;
  /**
   * Strength of weight decay, at least 0.
   */
  float weight_decay;
  /**
   * Largest norm of the gradient; infinite for no clipping.
   */
  float max_norm;
  /**
   * Factor of the cosines before the softmax: 1 / temperature.
   */
  float scale;
  /**
   * QAD_CONSTANT, QAD_LINEAR or QAD_COSINE.
   */
  int32_t decay;
  /**
   * Steps of linear warm-up.
   */
  uint32_t warmup;
  /**
   * Steps of the whole run.
   */
  uint32_t total;
} qad_training;

/**
 * An adapter that learns. The memory given to `qad_trainer_open` is the trainer's as long as it is used: read the weight
 * by `qad_trainer_adapter`, after each step anew.
 */
typedef struct QAD_ALIGNED(8) qad_trainer {
  /**
   * Not to be touched.
   */
  uint64_t opaque[QAD_TRAINER_WORDS];
} qad_trainer;

/**
 * A batch: `rows` queries, `candidates` documents, and which of them answers which.
 */
typedef struct qad_batch {
  /**
   * `rows * in_dim` elements, row after row.
   */
  const float *queries;
  /**
   * `candidates * out_dim` elements, row after row, through `qad_normalize_rows`; distinct documents.
   */
  const float *documents;
  /**
   * For each row the index of its answer among the candidates.
   */
  const uint32_t *targets;
  /**
   * For each row its weight in the mean, at least 0.
   */
  const float *weights;
  /**
   * Queries.
   */
  size_t rows;
  /**
   * Documents.
   */
  size_t candidates;
} qad_batch;

/**
 * What a step did.
 */
typedef struct qad_report {
  /**
   * Mean loss before the update.
   */
  float loss;
  /**
   * Norm of the gradient before clipping.
   */
  float grad_norm;
  /**
   * What it was clipped by.
   */
  float clip_coefficient;
  /**
   * The learning rate used.
   */
  float lr;
  /**
   * Rows without effect, whose transformed query is zero.
   */
  uint32_t zero_rows;
} qad_report;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * How many `qad_lanes` the weight of an adapter takes, and each of its moments.
 */
size_t qad_weight_len(size_t in_dim, size_t out_dim, bool bias);

/**
 * Opens an adapter file where it lies, at a multiple of 64 bytes: in flash, or from `host-cli export`. Its header and
 * metadata are checked, its weights, in f32 or in int8, are not read; see `qad_verify`.
 *
 * # Safety
 * `bytes` points to `len` bytes that stay there, unchanged, as long as the adapter is used. `adapter` can be written.
 */
int32_t qad_open(const uint8_t *bytes, size_t len, struct qad_adapter *adapter);

/**
 * Opens an adapter file that lies anywhere, on a machine of either byte order, and copies its weights to `weight`, which
 * has as many elements as qad_weight_len says: to go on learning, or where the file cannot stay. A file in int8 is
 * refused: `qad_open` takes it.
 *
 * # Safety
 * `bytes` points to `len` bytes, and `weight` to `weight_len` elements that stay there as long as the adapter is used; the
 * bytes too, if `qad_verify` is called. `adapter` can be written.
 */
int32_t qad_open_copy(const uint8_t *bytes,
                      size_t len,
                      struct qad_lanes *weight,
                      size_t weight_len,
                      struct qad_adapter *adapter);

/**
 * Checks an opened adapter file once: the checksum of its weights, and that this machine computes what the writer's did,
 * to the bit. `scratch` has `in_dim` elements, which QAD_GOLDEN leaves written.
 *
 * # Safety
 * `adapter` was opened from a file that is still there; `scratch` points to `scratch_len` elements.
 */
int32_t qad_verify(const struct qad_adapter *adapter,
                   float *scratch,
                   size_t scratch_len);

/**
 * Transforms one query: `output = W query + b`, or by an adapter in int8 `output = query + s (D query) + b`.
 *
 * # Safety
 * `adapter` has been opened; `query` and `output` point to as many elements as is said.
 */
int32_t qad_apply(const struct qad_adapter *adapter,
                  const float *query,
                  size_t query_len,
                  float *output,
                  size_t output_len);

/**
 * Transforms a batch, row after row: `queries_len` is a multiple of `in_dim`, `outputs_len` as many times `out_dim`. A row
 * gets the bits that `qad_apply` gives it alone.
 *
 * # Safety
 * As `qad_apply`.
 */
int32_t qad_apply_batch(const struct qad_adapter *adapter,
                        const float *queries,
                        size_t queries_len,
                        float *outputs,
                        size_t outputs_len);

/**
 * Scales each row of `dim` elements to length 1; rows of zeros stay as they are.
 *
 * # Safety
 * `rows` points to `rows_len` elements.
 */
int32_t qad_normalize_rows(float *rows, size_t rows_len, size_t dim);

/**
 * How many elements documents take, or any matrix of `rows` rows of `cols` values: QAD_PANELS(rows) * cols.
 */
size_t qad_panel_len(size_t rows, size_t cols);

/**
 * Lays rows of `dim` elements out in panels of qad_panel_len(rows_len / dim, dim) elements.
 *
 * # Safety
 * The pointers point to as many elements as is said.
 */
int32_t qad_panels_from_rows(const float *rows, size_t rows_len, size_t dim, struct qad_lanes *out, size_t out_len);

/**
 * Rounds panels to binary16: as many elements as there are.
 *
 * # Safety
 * The pointers point to as many elements as is said.
 */
int32_t qad_encode_f16(const struct qad_lanes *panels, struct qad_half_lanes *out, size_t len);

/**
 * Rounds panels of `rows` rows to eight bits with a scale for each row: `values` has qad_panel_len(rows, cols) elements as
 * `matrix` has, `scales` has QAD_PANELS(rows).
 *
 * # Safety
 * The pointers point to as many elements as this takes.
 */
int32_t qad_encode_int8(size_t rows,
                        size_t cols,
                        const struct qad_lanes *matrix,
                        struct qad_byte_lanes *values,
                        struct qad_lanes *scales);

/**
 * Finds the documents whose products with `query`, of `dim` elements, are largest: at most `best_len` of them go to
 * `best`, the best first, and how many to `found`. `order` has the place of each document among all ids in ascending
 * order, or is null where they lie in that order. `best` may have been written to when a score is NaN.
 *
 * # Safety
 * The pointers point to as many elements as is said; `order` to one for each document.
 */
int32_t qad_search(const struct qad_documents *documents,
                   const float *query,
                   size_t query_len,
                   const uint32_t *order,
                   struct qad_found *best,
                   size_t best_len,
                   size_t *found);

/**
 * The text for a code: one line in English, in memory that is always there.
 */
const char *qad_error_text(int32_t code);

/**
 * AdamW as PyTorch has it, clipped at norm 1, scale 20, a constant learning rate.
 */
struct qad_training qad_training_defaults(float lr);

/**
 * How many `qad_lanes` of scratch a step needs, for batches of up to `rows` queries and `candidates` documents.
 */
size_t qad_scratch_len(size_t rows, size_t candidates, size_t in_dim, size_t out_dim);

/**
 * Sets a weight of `weight_len` elements to the identity, its bias to zero.
 *
 * # Safety
 * `weight` points to as many elements as is said.
 */
int32_t qad_set_identity(struct qad_lanes *weight, size_t weight_len, size_t in_dim, size_t out_dim, bool bias);

/**
 * Sets a weight without its bias: `out_dim * in_dim` values, row after row. Padding rows are not touched: begin with
 * zeros, `qad_set_identity` or `qad_open_copy`.
 *
 * # Safety
 * The pointers point to as many elements as is said.
 */
int32_t qad_set_weight(struct qad_lanes *weight,
                       size_t weight_len,
                       size_t in_dim,
                       size_t out_dim,
                       bool bias,
                       const float *values,
                       size_t values_len);

/**
 * Sets the bias of a weight that has one: `out_dim` values.
 *
 * # Safety
 * The pointers point to as many elements as is said.
 */
int32_t qad_set_bias(struct qad_lanes *weight,
                     size_t weight_len,
                     size_t in_dim,
                     size_t out_dim,
                     const float *values,
                     size_t values_len);

/**
 * Begins to learn from the adapter whose weight is in `weight`. `weight`, `m` and `v` have qad_weight_len elements each;
 * `m` and `v` are set to zero, and are null for QAD_SGD.
 *
 * # Safety
 * The pointers point to as many elements as this takes, initialised; nothing else writes there as long as the trainer is
 * used. `trainer` stays where it is as long.
 */
int32_t qad_trainer_open(struct qad_trainer *trainer,
                         size_t in_dim,
                         size_t out_dim,
                         bool bias,
                         struct qad_lanes *weight,
                         struct qad_lanes *m,
                         struct qad_lanes *v,
                         const struct qad_training *training);

/**
 * One step on one batch. `scratch` has at least qad_scratch_len elements; what it held does not matter. A step that is
 * refused has changed nothing but the scratch. `report` may be null.
 *
 * # Safety
 * `trainer` has been opened; all pointers point to as many elements as is said, those of the batch too.
 */
int32_t qad_trainer_step(struct qad_trainer *trainer,
                         const struct qad_batch *batch,
                         struct qad_lanes *scratch,
                         size_t scratch_len,
                         struct qad_report *report);

/**
 * The adapter as it is now, to apply it until the next step.
 *
 * # Safety
 * `trainer` has been opened; `adapter` can be written.
 */
int32_t qad_trainer_adapter(struct qad_trainer *trainer, struct qad_adapter *adapter);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QUERY_ADAPTER_H */
