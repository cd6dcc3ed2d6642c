/* Applies, searches and trains by the C interface: the workloads of firmware/workloads, to the same digests.
 *
 * No heap, no library function but what the compiler itself calls. */
#include "workload.h"

#include "query_adapter.h"
#include "square.h"
#include "square_int8.h"

/* --- made-up numbers and a checksum, as in firmware/workloads ------------------------------------------------------ */

static uint32_t next_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static void fill(uint64_t *state, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(next_bits(state) >> 8) / 8388608.0f - 1.0f;
}

static uint32_t crc_bytes(uint32_t crc, uint32_t word)
{
    for (unsigned i = 0; i < 4; i++) {
        crc ^= (word >> (8 * i)) & 255u;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xedb88320u : 0u);
    }
    return crc;
}

static uint32_t crc_values(uint32_t crc, const float *values, size_t count)
{
    union {
        float value;
        uint32_t bits;
    } pun;
    for (size_t i = 0; i < count; i++) {
        pun.value = values[i];
        crc = crc_bytes(crc, pun.bits);
    }
    return crc;
}

static void report(const char *workload, uint32_t crc)
{
    char text[10];
    for (unsigned i = 0; i < 8; i++)
        text[i] = "0123456789abcdef"[(~crc >> (28 - 4 * i)) & 15u];
    text[8] = '\n';
    text[9] = '\0';
    say(workload);
    say(" ");
    say(text);
}

/* Says why, and leaves the function, where a call is refused. */
#define TRY(call)                         \
    do {                                  \
        int32_t code_ = (call);           \
        if (code_ != QAD_OK) {            \
            say(#call ": ");              \
            say(qad_error_text(code_));   \
            say("\n");                    \
            return 1;                     \
        }                                 \
    } while (0)

/* The same for what must be refused. */
#define REFUSED(call, expected)                        \
    do {                                               \
        if ((call) != (expected)) {                    \
            say(#call ": not " #expected "\n");        \
            return 1;                                  \
        }                                              \
    } while (0)

/* --- applying ------------------------------------------------------------------------------------------------------ */

enum { QUERIES = 100 };

static float query[SQUARE_IN_DIM];
static float output[SQUARE_OUT_DIM];

static int apply_file(const char *workload, const unsigned char *file, size_t len, const float *golden_query,
                      const float *golden_output)
{
    qad_adapter adapter;
    TRY(qad_open(file, len, &adapter));
    TRY(qad_verify(&adapter, query, SQUARE_IN_DIM));
    TRY(qad_apply(&adapter, golden_query, SQUARE_IN_DIM, output, SQUARE_OUT_DIM));
    for (size_t i = 0; i < SQUARE_OUT_DIM; i++)
        if (output[i] < golden_output[i] || output[i] > golden_output[i])
            return 1;
    uint64_t state = 2;
    uint32_t crc = ~0u;
    for (unsigned i = 0; i < QUERIES; i++) {
        fill(&state, query, SQUARE_IN_DIM);
        TRY(qad_apply_batch(&adapter, query, SQUARE_IN_DIM, output, SQUARE_OUT_DIM));
        crc = crc_values(crc, output, SQUARE_OUT_DIM);
    }
    report(workload, crc);
    return 0;
}

/* The same adapter in f32 and in int8. */
static int run_apply(void)
{
    if (apply_file("apply-383-bias", square, SQUARE_LEN, square_golden_query, square_golden_output) != 0)
        return 1;
    return apply_file("apply-383-int8", square_int8, SQUARE_INT8_LEN, square_int8_golden_query, square_int8_golden_output);
}

/* --- learning ------------------------------------------------------------------------------------------------------ */

enum { DIM = 128, ROWS = 8, STEPS = 200, BATCHES = 5 };

#define TRAIN_LEN QAD_WEIGHT_LEN(DIM, DIM, true)
#define TRAIN_SCRATCH_LEN QAD_SCRATCH_LEN(ROWS, ROWS, DIM, DIM)

/* Documents in f32, and in fewer bits in turn. */
enum { DOCUMENTS = 500, DOCUMENT_DIM = 64, SEARCHES = 20, BEST = 10, PANEL_ROWS = 16 };

#define DOCUMENTS_LEN (QAD_PANELS(DOCUMENTS) * DOCUMENT_DIM)

/* All memory but the stack. Searching begins when learning is over; a device would have its documents in flash. */
static union {
    struct {
        qad_lanes weight[TRAIN_LEN];
        qad_lanes m[TRAIN_LEN];
        qad_lanes v[TRAIN_LEN];
        qad_lanes scratch[TRAIN_SCRATCH_LEN];
        float queries[ROWS * DIM];
        float documents[ROWS * DIM];
    } training;
    struct {
        qad_lanes wide[DOCUMENTS_LEN];
        qad_lanes scales[QAD_PANELS(DOCUMENTS)];
        union {
            qad_half_lanes half[DOCUMENTS_LEN];
            qad_byte_lanes byte[DOCUMENTS_LEN];
        } narrow;
        uint32_t reversed[DOCUMENTS];
    } search;
} memory;

static int fill_batch(unsigned index)
{
    uint64_t state = 4 + (uint64_t)index;
    fill(&state, memory.training.queries, ROWS * DIM);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t k = 0; k < DIM; k++) {
            float noise;
            fill(&state, &noise, 1);
            memory.training.documents[row * DIM + k] = memory.training.queries[row * DIM + (k + 1) % DIM] + 0.25f * noise;
        }
    TRY(qad_normalize_rows(memory.training.documents, ROWS * DIM, DIM));
    return 0;
}

static int run_training(void)
{
    static qad_trainer trainer;
    uint64_t state = 3;
    if (TRAIN_LEN != qad_weight_len(DIM, DIM, true) || TRAIN_SCRATCH_LEN != qad_scratch_len(ROWS, ROWS, DIM, DIM))
        return 1;
    TRY(qad_set_identity(memory.training.weight, TRAIN_LEN, DIM, DIM, true));
    fill(&state, memory.training.queries, DIM);
    TRY(qad_set_bias(memory.training.weight, TRAIN_LEN, DIM, DIM, memory.training.queries, DIM));
    const qad_training settings = qad_training_defaults(0.01f);
    TRY(qad_trainer_open(&trainer, DIM, DIM, true, memory.training.weight, memory.training.m, memory.training.v, &settings));
    uint32_t targets[ROWS];
    float weights[ROWS];
    for (uint32_t row = 0; row < ROWS; row++) {
        targets[row] = row;
        weights[row] = 1.0f;
    }
    const qad_batch batch = {memory.training.queries, memory.training.documents, targets, weights, ROWS, ROWS};
    uint32_t crc = ~0u;
    for (unsigned step = 0; step < STEPS; step++) {
        qad_report done;
        if (fill_batch(step % BATCHES) != 0)
            return 1;
        TRY(qad_trainer_step(&trainer, &batch, memory.training.scratch, TRAIN_SCRATCH_LEN, &done));
        crc = crc_values(crc, &done.loss, 1);
        crc = crc_values(crc, &done.grad_norm, 1);
    }
    qad_adapter adapter;
    TRY(qad_trainer_adapter(&trainer, &adapter));
    for (size_t i = 0; i < TRAIN_LEN; i++)
        crc = crc_values(crc, adapter.weight[i].rows, 16);
    for (size_t i = 0; i < TRAIN_LEN; i++)
        crc = crc_values(crc, memory.training.m[i].rows, 16);
    for (size_t i = 0; i < TRAIN_LEN; i++)
        crc = crc_values(crc, memory.training.v[i].rows, 16);
    report("train-128-bias", crc);
    REFUSED(qad_trainer_step(&trainer, &batch, memory.training.scratch, 10, NULL), QAD_LENGTH);
    REFUSED(qad_trainer_step(&trainer, &batch, memory.training.weight, TRAIN_LEN, NULL), QAD_OVERLAP);
    return 0;
}

/* --- searching ----------------------------------------------------------------------------------------------------- */

static int lay_out_documents(qad_lanes *wide)
{
    float rows[PANEL_ROWS * DOCUMENT_DIM];
    for (size_t first = 0; first < DOCUMENTS; first += PANEL_ROWS) {
        const size_t rest = DOCUMENTS - first;
        const size_t count = rest < PANEL_ROWS ? rest : (size_t)PANEL_ROWS;
        for (size_t row = 0; row < count; row++) {
            uint64_t index = first + row;
            uint64_t state = 100 + (index % 50 == 7 ? index - 1 : index);
            fill(&state, rows + row * DOCUMENT_DIM, DOCUMENT_DIM);
        }
        TRY(qad_normalize_rows(rows, count * DOCUMENT_DIM, DOCUMENT_DIM));
        TRY(qad_panels_from_rows(rows, count * DOCUMENT_DIM, DOCUMENT_DIM, wide, DOCUMENT_DIM));
        wide += DOCUMENT_DIM;
    }
    return 0;
}

static int search_all(const char *workload, const qad_documents *documents, const uint32_t *order)
{
    uint32_t crc = ~0u;
    for (unsigned i = 0; i < SEARCHES; i++) {
        uint64_t state = i;
        qad_found best[BEST];
        size_t found;
        fill(&state, query, DOCUMENT_DIM);
        TRY(qad_normalize_rows(query, DOCUMENT_DIM, DOCUMENT_DIM));
        TRY(qad_search(documents, query, DOCUMENT_DIM, order, best, BEST, &found));
        for (size_t place = 0; place < found; place++) {
            crc = crc_bytes(crc, best[place].document);
            crc = crc_values(crc, &best[place].score, 1);
        }
    }
    report(workload, crc);
    return 0;
}

static int run_search(void)
{
    qad_lanes *wide = memory.search.wide;
    qad_lanes *scales = memory.search.scales;
    uint32_t *reversed = memory.search.reversed;
    if (lay_out_documents(wide) != 0)
        return 1;
    qad_documents documents = {QAD_F32, wide, NULL, DOCUMENTS, DOCUMENT_DIM};
    if (search_all("search-f32", &documents, NULL) != 0)
        return 1;
    TRY(qad_encode_f16(wide, memory.search.narrow.half, DOCUMENTS_LEN));
    documents.dtype = QAD_F16;
    documents.values = memory.search.narrow.half;
    if (search_all("search-f16", &documents, NULL) != 0)
        return 1;
    TRY(qad_encode_int8(DOCUMENTS, DOCUMENT_DIM, wide, memory.search.narrow.byte, scales));
    documents.dtype = QAD_INT8;
    documents.values = memory.search.narrow.byte;
    documents.scales = scales;
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        reversed[i] = DOCUMENTS - i;
    return search_all("search-int8", &documents, reversed);
}

/* --- what C can get wrong ------------------------------------------------------------------------------------------ */

static int run_refusals(void)
{
    qad_adapter adapter;
    REFUSED(qad_open(NULL, SQUARE_LEN, &adapter), QAD_NULL);
    REFUSED(qad_open(square, SQUARE_LEN, NULL), QAD_NULL);
    REFUSED(qad_open(square + 1, SQUARE_LEN - 1, &adapter), QAD_MAGIC);
    REFUSED(qad_open(square, SQUARE_LEN - 1, &adapter), QAD_IMAGE_LENGTH);
    TRY(qad_open(square, SQUARE_LEN, &adapter));
    REFUSED(qad_apply(&adapter, NULL, SQUARE_IN_DIM, output, SQUARE_OUT_DIM), QAD_NULL);
    REFUSED(qad_apply(&adapter, query, SQUARE_IN_DIM - 1, output, SQUARE_OUT_DIM), QAD_LENGTH);
    REFUSED(qad_apply(&adapter, query, SQUARE_IN_DIM, query, SQUARE_OUT_DIM), QAD_OVERLAP);
    return 0;
}

int run_workloads(void)
{
    if (run_refusals() != 0 || run_apply() != 0 || run_training() != 0)
        return 1;
    return run_search();
}
